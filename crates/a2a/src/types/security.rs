//! Security schemes as an agent card names them. They say how credentials are shown, and hold none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A list, for use as a map's value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StringList {
    /// The entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<String>,
}

/// Schemes by name, with the scopes wanted of each; all of them have to be met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityRequirement {
    /// Scopes by scheme.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schemes: BTreeMap<String, StringList>,
}

impl SecurityRequirement {
    /// That scheme, without scopes.
    pub fn scheme(name: impl Into<String>) -> Self {
        Self { schemes: BTreeMap::from([(name.into(), StringList::default())]) }
    }
}

/// One way to show who one is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityScheme {
    /// A fixed key.
    #[serde(rename = "apiKeySecurityScheme")]
    ApiKey(ApiKeySecurityScheme),
    /// The `Authorization` header.
    #[serde(rename = "httpAuthSecurityScheme")]
    HttpAuth(HttpAuthSecurityScheme),
    /// OAuth 2.0.
    #[serde(rename = "oauth2SecurityScheme")]
    OAuth2(OAuth2SecurityScheme),
    /// OpenID Connect.
    #[serde(rename = "openIdConnectSecurityScheme")]
    OpenIdConnect(OpenIdConnectSecurityScheme),
    /// Mutual TLS.
    #[serde(rename = "mtlsSecurityScheme")]
    MutualTls(MutualTlsSecurityScheme),
}

impl SecurityScheme {
    /// A bearer token in the `Authorization` header.
    pub fn bearer(description: impl Into<String>) -> Self {
        Self::HttpAuth(HttpAuthSecurityScheme {
            description: description.into(),
            scheme: "Bearer".to_owned(),
            bearer_format: String::new(),
        })
    }
}

/// A fixed key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeySecurityScheme {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// `query`, `header` or `cookie`.
    #[serde(default)]
    pub location: String,
    /// Of the parameter, header or cookie.
    #[serde(default)]
    pub name: String,
}

/// The `Authorization` header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpAuthSecurityScheme {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Such as `Bearer`.
    #[serde(default)]
    pub scheme: String,
    /// Such as `JWT`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bearer_format: String,
}

/// OAuth 2.0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2SecurityScheme {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The flow to take.
    pub flows: OAuthFlows,
    /// Where the authorisation server describes itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub oauth2_metadata_url: String,
}

/// OpenID Connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenIdConnectSecurityScheme {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where the provider describes itself.
    #[serde(default)]
    pub open_id_connect_url: String,
}

/// Mutual TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MutualTlsSecurityScheme {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// The OAuth flow to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OAuthFlows {
    /// A person allows it in a browser.
    AuthorizationCode(AuthorizationCodeOAuthFlow),
    /// A program shows its own credentials.
    ClientCredentials(ClientCredentialsOAuthFlow),
    /// Outdated; here for cards that still name it.
    Implicit(LegacyOAuthFlow),
    /// Outdated; here for cards that still name it.
    Password(LegacyOAuthFlow),
    /// A person allows it on another device.
    DeviceCode(DeviceCodeOAuthFlow),
}

/// A person allows it in a browser.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationCodeOAuthFlow {
    /// Where the person is sent.
    #[serde(default)]
    pub authorization_url: String,
    /// Where the token is fetched.
    #[serde(default)]
    pub token_url: String,
    /// Where it is renewed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refresh_url: String,
    /// Scopes with their descriptions.
    #[serde(default)]
    pub scopes: BTreeMap<String, String>,
    /// PKCE has to be used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pkce_required: bool,
}

/// A program shows its own credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientCredentialsOAuthFlow {
    /// Where the token is fetched.
    #[serde(default)]
    pub token_url: String,
    /// Where it is renewed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refresh_url: String,
    /// Scopes with their descriptions.
    #[serde(default)]
    pub scopes: BTreeMap<String, String>,
}

/// The implicit flow has the first address, the password flow the second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyOAuthFlow {
    /// Where the person is sent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub authorization_url: String,
    /// Where the token is fetched.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token_url: String,
    /// Where it is renewed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refresh_url: String,
    /// Scopes with their descriptions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scopes: BTreeMap<String, String>,
}

/// A person allows it on another device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceCodeOAuthFlow {
    /// Where the person is sent.
    #[serde(default)]
    pub device_authorization_url: String,
    /// Where the token is fetched.
    #[serde(default)]
    pub token_url: String,
    /// Where it is renewed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refresh_url: String,
    /// Scopes with their descriptions.
    #[serde(default)]
    pub scopes: BTreeMap<String, String>,
}
