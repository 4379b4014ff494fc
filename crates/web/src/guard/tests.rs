use axum::body::{Body, to_bytes};
use http::{Method, StatusCode};
use tower::ServiceExt as _;

use super::*;
use crate::{Routes, Takes, open};

const BROWSER: (&str, &str) = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36");
const TOKEN: (&str, &str) = ("authorization", "Bearer known");

fn port(hosts: Hosts) -> Router {
    let routes = Routes::<()>::new()
        .page("/read", open(), async || "secret")
        .with(Method::POST, "/json", open(), Takes::Json, async || "done")
        .with(Method::POST, "/any", open(), Takes::AnyType, async || "done");
    guard(routes.into_router(), hosts)
}

fn without_tokens() -> Router {
    port(Hosts::new("test.allowed_hosts", &["quell.example.com".to_owned()]))
}

fn with_tokens(allowed: &[String]) -> Router {
    let known = |headers: &HeaderMap| headers.get("authorization").is_some_and(|value| value == TOKEN.1);
    port(Hosts::new("test.allowed_hosts", allowed).with_tokens(known))
}

async fn ask(router: &Router, method: Method, target: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert!(response.headers().keys().all(|name| !name.as_str().starts_with("access-control")));
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    let status = response.status().as_u16();
    (status, String::from_utf8(to_bytes(response.into_body(), 1 << 16).await.unwrap().to_vec()).unwrap())
}

async fn read(router: &Router, headers: &[(&str, &str)]) -> u16 {
    let (status, text) = ask(router, Method::GET, "/read", headers).await;
    assert_eq!(status == 200, text == "secret", "{headers:?}: {text}");
    status
}

async fn post(router: &Router, path: &str, headers: &[(&str, &str)]) -> u16 {
    let headers: Vec<_> = [("host", "localhost:5000")].into_iter().chain(headers.iter().copied()).collect();
    ask(router, Method::POST, path, &headers).await.0
}

#[tokio::test]
async fn names_of_loopback_ip_addresses_and_allowed_names_are_answered() {
    for host in [
        "localhost",
        "localhost:5000",
        "LOCALHOST:5000",
        "localhost.:5000",
        "quell.localhost:9",
        "127.0.0.1:5000",
        "127.8.9.1",
        "[::1]:5000",
        "[::1]",
        "10.1.2.3:5000",
        "[2001:db8::7]:5000",
        "quell.example.com",
        "Quell.Example.com:443",
    ] {
        assert_eq!(read(&without_tokens(), &[("host", host), BROWSER]).await, 200, "{host}");
    }
}

#[tokio::test]
async fn other_names_are_not_answered() {
    for host in [
        "rebind.test",
        "rebind.test:5000",
        "127.0.0.1.rebind.test:5000",
        "localhost.rebind.test",
        "xlocalhost",
        "127.1",
        "2130706433",
        "example.com",
        "evil.quell.example.com",
        "coordinator:5000",
    ] {
        assert_eq!(read(&without_tokens(), &[("host", host)]).await, 403, "{host}");
    }
    for host in ["", "localhost@rebind.test", "user@localhost", "a b", "[::1", "::1"] {
        assert_eq!(read(&without_tokens(), &[("host", host)]).await, 400, "{host:?}");
    }
    let two = [("host", "localhost"), ("host", "rebind.test")];
    assert_eq!(read(&without_tokens(), &two).await, 400);
    // What stands in the request's line counts as well.
    for (target, host) in [("http://rebind.test/read", "localhost"), ("http://localhost/read", "rebind.test")]
    {
        assert_eq!(
            ask(&without_tokens(), Method::GET, target, &[("host", host)]).await.0,
            403,
            "{target} {host}"
        );
    }
    let (_, text) = ask(&without_tokens(), Method::GET, "/read", &[("host", "rebind.test")]).await;
    assert!(text.contains("`rebind.test`") && text.contains("`test.allowed_hosts`"), "{text}");
}

#[tokio::test]
async fn a_request_of_http_1_1_names_its_host_and_one_of_http_1_0_need_not() {
    assert_eq!(read(&without_tokens(), &[]).await, 400);
    let request = Request::builder().uri("/read").version(Version::HTTP_10).body(Body::empty()).unwrap();
    assert_eq!(without_tokens().oneshot(request).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn with_tokens_a_foreign_name_is_for_those_who_show_one_and_for_what_is_no_browser() {
    let host = ("host", "coordinator:5000");
    let router = with_tokens(&[]);
    assert_eq!(read(&router, &[host]).await, 200, "a scraper in a cluster");
    assert_eq!(read(&router, &[host, TOKEN, BROWSER]).await, 200);
    for mark in [
        BROWSER,
        ("origin", "http://coordinator:5000"),
        ("referer", "http://coordinator:5000/"),
        ("accept-language", "en"),
        ("accept-language", "*"),
        ("cookie", "a=b"),
        ("sec-fetch-site", "same-origin"),
    ] {
        assert_eq!(read(&router, &[host, mark]).await, 403, "{mark:?}");
        assert_eq!(read(&router, &[host, mark, ("authorization", "Bearer x")]).await, 403, "{mark:?}");
    }
    // Names that are set are the only ones.
    let router = with_tokens(&["quell.example.com".to_owned()]);
    assert_eq!(read(&router, &[host, TOKEN]).await, 403);
    assert_eq!(read(&router, &[("host", "quell.example.com"), BROWSER]).await, 200);
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let host = ("host", "127.0.0.1:5000");
    for router in [without_tokens(), with_tokens(&[])] {
        for origin in [
            "null",
            "http://evil.test",
            "http://127.0.0.1:8080",
            "http://127.0.0.1",
            "http://localhost:5000",
            "https://127.0.0.1",
            "file://",
            "chrome-extension://127.0.0.1:5000",
            "http://x@127.0.0.1:5000",
            "",
            "127.0.0.1:5000",
        ] {
            for more in [("x-nothing", "1"), TOKEN] {
                let headers = [host, ("origin", origin), more, ("content-type", "application/json")];
                assert_eq!(read(&router, &headers).await, 403, "{origin}");
                assert_eq!(ask(&router, Method::POST, "/any", &headers).await.0, 403, "{origin}");
                assert_eq!(ask(&router, Method::OPTIONS, "/any", &headers).await.0, 403, "{origin}");
                assert_eq!(ask(&router, Method::GET, "/nowhere", &headers).await.0, 403, "{origin}");
            }
        }
        for site in ["cross-site", "same-site", "anything"] {
            assert_eq!(read(&router, &[host, ("sec-fetch-site", site)]).await, 403, "{site}");
        }
        for own in [
            ("origin", "http://127.0.0.1:5000"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
            ("sec-fetch-mode", "cors"),
        ] {
            assert_eq!(read(&router, &[host, own]).await, 200, "{own:?}");
        }
        let both = [host, ("origin", "http://127.0.0.1:5000"), ("origin", "http://evil.test")];
        assert_eq!(read(&router, &both).await, 403);
    }
}

#[tokio::test]
async fn an_origin_behind_tls_is_the_same_one() {
    let headers = [("host", "quell.example.com"), ("origin", "https://quell.example.com")];
    assert_eq!(read(&without_tokens(), &headers).await, 200);
}

#[tokio::test]
async fn a_browser_has_to_say_json_and_so_has_everybody_where_json_alone_is_meant() {
    const SIMPLE: [&str; 5] = [
        "text/plain",
        "text/plain; charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
    ];
    let router = without_tokens();
    for kind in SIMPLE {
        assert_eq!(post(&router, "/any", &[("content-type", kind), BROWSER]).await, 415, "{kind}");
        assert_eq!(post(&router, "/json", &[("content-type", kind)]).await, 415, "{kind}");
        assert_eq!(post(&router, "/any", &[("content-type", kind)]).await, 200, "{kind}");
        // Node.js.
        let node = [("content-type", kind), ("accept-language", "*"), ("sec-fetch-mode", "cors")];
        assert_eq!(post(&router, "/any", &node).await, 200, "{kind}");
    }
    for path in ["/any", "/json"] {
        for kind in ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json"] {
            assert_eq!(post(&router, path, &[("content-type", kind), BROWSER]).await, 200, "{path} {kind}");
        }
        assert_eq!(post(&router, path, &[BROWSER]).await, 415, "a blob without a type");
        assert_eq!(post(&router, path, &[]).await, 200, "{path}: nothing is said");
        let two = [("content-type", "application/json"), ("content-type", "text/plain"), BROWSER];
        assert_eq!(post(&router, path, &two).await, 415);
    }
    let (_, text) =
        ask(&router, Method::POST, "/json", &[("host", "localhost"), ("content-type", "text/plain")]).await;
    assert!(text.contains("`Content-Type: application/json`"), "{text}");
}

#[tokio::test]
async fn a_call_by_grpc_is_refused_in_its_own_form() {
    let headers = [("host", "rebind.test"), ("content-type", "application/grpc+proto")];
    let mut request = Request::builder().method(Method::POST).uri("/json");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = without_tokens().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["grpc-status"], "7");
    let message = response.headers()["grpc-message"].to_str().unwrap();
    assert!(message.contains("test.allowed_hosts"), "{message}");
}

#[test]
fn names_that_may_be_allowed_are_names() {
    assert_eq!(host_name(" Quell.Example.com. "), Ok("quell.example.com".to_owned()));
    assert_eq!(host_name("coordinator"), Ok("coordinator".to_owned()));
    for text in ["", ".", "a..b", "http://a", "a:5000", "a/b", "*.a", "a b", "é.test"] {
        assert!(host_name(text).is_err(), "{text:?}");
    }
}
