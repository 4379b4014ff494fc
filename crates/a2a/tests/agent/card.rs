//! The card over HTTP/1.1, next to routes of a daemon's own.

use axum::routing::get;
use http::StatusCode;
use quell_a2a::{AGENT_CARD_PATH, AgentCard, ClientError, OAuthFlows, SecurityScheme, fetch_card};
use serde_json::{Value, json};

use crate::bench::{Bench, card};

fn http() -> reqwest::Client {
    // A second installation is refused and changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[tokio::test]
async fn card_is_public_and_cached() {
    let bench = Bench::new("card");
    let server = bench.serve().await;
    let base = format!("http://{}", server.address);
    let fetched = fetch_card(&http(), &base).await.unwrap();
    assert_eq!(fetched, card("card", server.address));
    assert!(fetched.has_skill("echo") && !fetched.has_skill("fly"));
    assert_eq!(fetched.grpc_interface().unwrap().url, server.address.to_string());

    let url = format!("{base}{AGENT_CARD_PATH}");
    let answer = http().get(&url).send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "public, max-age=300");
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["last-modified"], "Sun, 06 Nov 1994 08:49:37 GMT");
    let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
    for known in [etag.clone(), format!("\"old\", W/{etag}"), "*".to_owned()] {
        let answer = http().get(&url).header("if-none-match", known).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answer.headers()["etag"].to_str().unwrap(), etag);
        assert!(answer.bytes().await.unwrap().is_empty());
    }
    let answer = http().get(&url).header("if-none-match", "\"old\"").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let answer = http().post(&url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn bad_cards_are_refused() {
    let router = axum::Router::new()
        .route(&format!("/empty{AGENT_CARD_PATH}"), get(async || "{}"))
        .route(&format!("/text{AGENT_CARD_PATH}"), get(async || "hello"))
        .route(&format!("/long{AGENT_CARD_PATH}"), get(async || "x".repeat(2 << 20)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(quell_service::serve(listener, router, std::future::pending()));
    for (path, expected) in [
        ("empty", "supportedInterfaces"),
        ("text", "expected value"),
        ("long", "longer than"),
        ("none", "404"),
    ] {
        let error = fetch_card(&http(), &format!("http://{address}/{path}/")).await.unwrap_err();
        let ClientError::Card { url, reason } = error else { panic!("{error}") };
        assert!(reason.contains(expected), "{url}: {reason}");
    }
}

#[test]
fn card_json_is_the_protocols_own() {
    let full = json!({
        "name": "a", "description": "", "version": "1",
        "supportedInterfaces": [
            { "url": "h:1", "protocolBinding": "GRPC", "protocolVersion": "1.0", "tenant": "t" }
        ],
        "provider": { "url": "https://example.com", "organization": "Example" },
        "documentationUrl": "https://example.com/d", "iconUrl": "https://example.com/i",
        "capabilities": {
            "streaming": true, "pushNotifications": false, "extendedAgentCard": false,
            "extensions": [{ "uri": "urn:e", "description": "d", "required": true, "params": { "k": 1 } }]
        },
        "securitySchemes": {
            "key": { "apiKeySecurityScheme": { "location": "header", "name": "x" } },
            "bearer": { "httpAuthSecurityScheme": { "scheme": "Bearer", "bearerFormat": "JWT" } },
            "oauth": { "oauth2SecurityScheme": { "flows": { "clientCredentials": {
                "tokenUrl": "https://example.com/t", "scopes": { "s": "d" } } }, "oauth2MetadataUrl": "https://m" } },
            "oidc": { "openIdConnectSecurityScheme": { "openIdConnectUrl": "https://example.com/o" } },
            "mtls": { "mtlsSecurityScheme": { "description": "certificates" } }
        },
        "securityRequirements": [{ "schemes": { "bearer": {}, "oauth": { "list": ["s"] } } }],
        "defaultInputModes": [], "defaultOutputModes": ["text/plain"],
        "skills": [{ "id": "s", "name": "s", "description": "s", "tags": [], "examples": ["e"],
            "inputModes": ["a/b"], "outputModes": ["c/d"], "securityRequirements": [{}] }],
        "signatures": [{ "protected": "p", "signature": "s", "header": { "kid": "k" } }]
    });
    let card: AgentCard = serde_json::from_value(full.clone()).unwrap();
    assert_eq!(serde_json::to_value(&card).unwrap(), full);
    assert!(matches!(&card.security_schemes["oauth"],
        SecurityScheme::OAuth2(scheme) if matches!(scheme.flows, OAuthFlows::ClientCredentials(_))));

    // Required fields are there even when they are empty; the others are not.
    let empty: Value = serde_json::to_value(AgentCard::default()).unwrap();
    let keys: Vec<&str> = empty.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "capabilities",
            "defaultInputModes",
            "defaultOutputModes",
            "description",
            "name",
            "skills",
            "supportedInterfaces",
            "version"
        ]
    );
    // Fields of a later version do no harm.
    let mut newer = full;
    newer["tomorrow"] = json!(1);
    assert_eq!(serde_json::from_value::<AgentCard>(newer).unwrap(), card);
}
