//! Who calls: bearer tokens and the rights that go with them.

use std::collections::BTreeSet;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{Scope, TokenEntry};

/// The name of a caller where no tokens are configured.
const LOCAL: &str = "local";

/// An authenticated caller. Records name it; a message never does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The name that the configuration gives it.
    pub name: String,
    /// Its rights.
    pub scopes: BTreeSet<Scope>,
}

impl Principal {
    /// True if it has this right.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// An error that names the right, if it does not have it.
    pub fn require(&self, scope: Scope) -> Result<(), AuthError> {
        if self.may(scope) {
            Ok(())
        } else {
            Err(AuthError::Forbidden { name: self.name.clone(), scope: scope.as_str() })
        }
    }
}

/// Why a caller is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No bearer token was shown.
    #[error("a bearer token is needed: send `Authorization: Bearer <token>`")]
    Missing,
    /// The token is not one of the configured.
    #[error("the bearer token is not known here")]
    Unknown,
    /// The caller is known and may not do this.
    #[error("the caller `{name}` does not have the scope `{scope}`")]
    Forbidden {
        /// The caller.
        name: String,
        /// The right that it would need.
        scope: &'static str,
    },
}

/// The callers of a daemon.
///
/// Tokens are kept as digests only. Without any, every caller is `local` with all rights; the configuration refuses that
/// on addresses that other machines can reach.
#[derive(Clone)]
pub struct TokenTable {
    entries: Vec<([u8; 32], Principal)>,
}

impl TokenTable {
    /// The table of these entries, whose tokens were read and checked when the configuration was loaded; an entry without
    /// a token lets nobody in.
    pub fn new(entries: &[TokenEntry]) -> Self {
        let entries = entries
            .iter()
            .map(|entry| {
                let principal =
                    Principal { name: entry.name.clone(), scopes: entry.scopes.iter().copied().collect() };
                // The digest of nothing: an empty token is refused before it is looked up.
                (digest(entry.token.as_ref().map_or("", |token| token.expose())), principal)
            })
            .collect();
        Self { entries }
    }

    /// True if callers have to show a token.
    pub fn is_required(&self) -> bool {
        !self.entries.is_empty()
    }

    /// The caller who shows this token. The time that it takes says nothing about which tokens exist.
    pub fn authenticate(&self, bearer: Option<&str>) -> Result<Principal, AuthError> {
        if !self.is_required() {
            return Ok(Principal { name: LOCAL.to_owned(), scopes: Scope::ALL.into_iter().collect() });
        }
        let bearer = bearer.filter(|bearer| !bearer.is_empty()).ok_or(AuthError::Missing)?;
        let shown = digest(bearer);
        let mut found = None;
        for (known, principal) in &self.entries {
            if bool::from(known.ct_eq(&shown)) {
                found = Some(principal);
            }
        }
        found.cloned().ok_or(AuthError::Unknown)
    }

    /// The caller who sent these headers; gRPC metadata has the same one.
    pub fn authenticate_headers(&self, headers: &HeaderMap) -> Result<Principal, AuthError> {
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        self.authenticate(value.and_then(bearer_of))
    }
}

impl std::fmt::Debug for TokenTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.entries.iter().map(|(_, principal)| principal)).finish()
    }
}

/// The token of an `Authorization` value of the scheme `Bearer`.
pub fn bearer_of(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn entry(name: &str, token: Option<&str>, scopes: &[Scope]) -> TokenEntry {
        TokenEntry {
            name: name.to_owned(),
            token: token.map(Secret::new),
            token_file: None,
            scopes: scopes.to_vec(),
        }
    }

    fn table() -> TokenTable {
        TokenTable::new(&[
            entry("alertmanager", Some("token-of-alertmanager"), &[Scope::Webhook]),
            entry("on-call", Some("token-of-on-call"), &[Scope::Read, Scope::Approve]),
            entry("nobody", None, &[Scope::Approve]),
        ])
    }

    #[test]
    fn a_token_names_its_caller_and_rights() {
        let principal = table().authenticate(Some("token-of-on-call")).unwrap();
        assert_eq!(principal.name, "on-call");
        assert!(principal.may(Scope::Approve) && !principal.may(Scope::Webhook));
        assert_eq!(principal.require(Scope::Read), Ok(()));
        assert_eq!(
            principal.require(Scope::Operate).unwrap_err().to_string(),
            "the caller `on-call` does not have the scope `operate`"
        );
    }

    #[test]
    fn others_are_turned_away() {
        assert_eq!(table().authenticate(None), Err(AuthError::Missing));
        assert_eq!(table().authenticate(Some("")), Err(AuthError::Missing));
        assert_eq!(table().authenticate(Some("token-of-on-cal")), Err(AuthError::Unknown));
        assert_eq!(table().authenticate(Some(" ")), Err(AuthError::Unknown));
    }

    #[test]
    fn without_tokens_everyone_is_local() {
        let table = TokenTable::new(&[]);
        assert!(!table.is_required());
        let principal = table.authenticate(None).unwrap();
        assert_eq!(principal.name, "local");
        assert!(Scope::ALL.into_iter().all(|scope| principal.may(scope)));
    }

    #[test]
    fn headers_are_read_as_http_says() {
        for (value, expected) in [
            ("Bearer token-of-alertmanager", Ok("alertmanager")),
            ("bearer  token-of-alertmanager ", Ok("alertmanager")),
            ("Basic token-of-alertmanager", Err(AuthError::Missing)),
            ("token-of-alertmanager", Err(AuthError::Missing)),
            ("Bearer nonsense", Err(AuthError::Unknown)),
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
            let caller = table().authenticate_headers(&headers).map(|principal| principal.name);
            assert_eq!(caller, expected.map(str::to_owned), "{value}");
        }
    }

    #[test]
    fn the_table_shows_no_token() {
        assert!(!format!("{:?}", table()).contains("token-of"));
    }
}
