//! Every endpoint against every way in which a page's request differs from a program's.

use quell_web::{Endpoint, Takes};
use reqwest::{Method, Response};

use crate::ports::{Place, Port, body, tables};

const BROWSER: (&str, &str) = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:60.0) Gecko/20100101");

/// What a page's request has, and whether a token that is shown with it lets it in: a page has none.
struct Attack {
    what: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    also_with_token: bool,
    /// Only of what changes something: its type alone gives it away.
    by_type: bool,
}

fn attacks() -> Vec<Attack> {
    let attack = |what, headers: &[(&'static str, &'static str)]| Attack {
        what,
        headers: headers.to_vec(),
        also_with_token: true,
        by_type: false,
    };
    let mut attacks = vec![
        attack("another origin", &[("origin", "http://evil.test")]),
        attack("another port of loopback", &[("origin", "http://127.0.0.1:1")]),
        attack("no origin that it would tell", &[("origin", "null")]),
        attack("a file", &[("origin", "file://")]),
        attack("from another site", &[("sec-fetch-site", "cross-site")]),
        attack("from another port", &[("sec-fetch-site", "same-site")]),
        Attack {
            also_with_token: false,
            ..attack("a rebound name", &[("host", "rebind.test:5000"), BROWSER])
        },
        Attack {
            also_with_token: false,
            ..attack(
                "a rebound name that is its own origin",
                &[("host", "rebind.test"), ("origin", "http://rebind.test")],
            )
        },
    ];
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let headers = [("content-type", kind), BROWSER];
        attacks.push(Attack { by_type: true, ..attack("a form of an old browser", &headers) });
    }
    attacks
}

async fn ask(
    place: &Place,
    port: &Port,
    endpoint: &Endpoint,
    method: Method,
    headers: &[(&str, &str)],
) -> Response {
    let url = format!("http://{}{}", port.address, place.path(endpoint));
    let mut request = place.sandbox.client().request(method, url).body(body(endpoint));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap_or_else(|error| panic!("{}: {error:?}", endpoint.path))
}

fn own_type(endpoint: &Endpoint) -> &'static str {
    if endpoint.takes == Takes::Grpc { "application/grpc" } else { "application/json" }
}

fn assert_refused(what: &str, response: &Response) {
    let grpc = response.headers().get("grpc-status").is_some_and(|status| status == "7");
    let status = response.status().as_u16();
    assert!(grpc || matches!(status, 403 | 415), "{what}: {response:?}");
    let cors = response.headers().keys().find(|name| name.as_str().starts_with("access-control"));
    assert_eq!(cors, None, "{what}");
}

#[test]
fn the_table_of_all_endpoints_is_this_one() {
    let text: Vec<_> = tables().iter().map(|(port, endpoints)| quell_web::table(port, endpoints)).collect();
    insta::assert_snapshot!("endpoints", text.join("\n"));
}

async fn every_endpoint_refuses_every_page(has_tokens: bool) {
    let place = Place::start(has_tokens).await;
    place.settled().await;
    let before = place.state().await;
    for port in &place.ports {
        for endpoint in &port.endpoints {
            for attack in attacks() {
                if attack.by_type && endpoint.method.is_safe() {
                    continue;
                }
                let bearer = format!("Bearer {}", port.token);
                for shows_token in [false, true] {
                    if shows_token && !(has_tokens && attack.also_with_token) {
                        continue;
                    }
                    let what = format!(
                        "{}: {} {} by {} {:?}, with a token: {shows_token}",
                        port.name, endpoint.method, endpoint.path, attack.what, attack.headers
                    );
                    let mut headers = attack.headers.clone();
                    if !attack.by_type {
                        headers.push(("content-type", own_type(endpoint)));
                    }
                    if shows_token {
                        headers.push(("authorization", &bearer));
                    }
                    let response = ask(&place, port, endpoint, endpoint.method.clone(), &headers).await;
                    assert_refused(&what, &response);
                }
            }
            // What a browser asks before it sends what is not simple.
            let preflight = [
                ("origin", "http://evil.test"),
                ("access-control-request-method", endpoint.method.as_str()),
                ("access-control-request-headers", "content-type"),
            ];
            let response = ask(&place, port, endpoint, Method::OPTIONS, &preflight).await;
            assert_refused(&format!("a preflight of {}", endpoint.path), &response);
        }
    }
    place.settled().await;
    assert_eq!(place.state().await, before, "something was changed");
    every_endpoint_is_there_for_programs(&place).await;
    place.still_takes_alerts().await;
}

/// The same requests without what makes them a page's get through, so it is that which they were refused for.
async fn every_endpoint_is_there_for_programs(place: &Place) {
    for port in &place.ports {
        for endpoint in &port.endpoints {
            let what = format!("{}: {} {}", port.name, endpoint.method, endpoint.path);
            let bearer = format!("Bearer {}", port.token);
            let headers =
                [("content-type", own_type(endpoint)), ("authorization", &bearer), ("a2a-version", "1.0")];
            let response = ask(place, port, endpoint, endpoint.method.clone(), &headers).await;
            let status = response.status().as_u16();
            assert!(!matches!(status, 400 | 401 | 403 | 405 | 415 | 500..), "{what}: {response:?}");
            let grpc =
                response.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
            assert!(!matches!(grpc.as_deref(), Some("7" | "12" | "16")), "{what}: {response:?}");
            if status == 404 {
                let text = response.text().await.unwrap();
                assert!(!text.contains("nothing is"), "{what} is not there: {text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_refuses_every_page_without_tokens() {
    every_endpoint_refuses_every_page(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_refuses_every_page_with_tokens() {
    every_endpoint_refuses_every_page(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_say_the_wrong_type_are_told_so_where_json_alone_is_meant() {
    let place = Place::start(false).await;
    for port in &place.ports {
        for endpoint in port.endpoints.iter().filter(|endpoint| endpoint.takes != Takes::Nothing) {
            let what = format!("{}: {} {}", port.name, endpoint.method, endpoint.path);
            let headers = [("content-type", "text/plain")];
            let response = ask(&place, port, endpoint, endpoint.method.clone(), &headers).await;
            let refused = response.status() == 415;
            assert_eq!(refused, endpoint.takes != Takes::AnyType, "{what}: {response:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_scrapers_and_forwarded_ports_call_by_what_they_like() {
    for has_tokens in [false, true] {
        let place = Place::start(has_tokens).await;
        for port in &place.ports {
            for endpoint in port.endpoints.iter().filter(|endpoint| endpoint.needs == quell_web::open()) {
                for host in ["10.42.0.7:5000", "[fd00::7]:5000", "localhost:15000", "127.0.0.1"] {
                    let headers = [("host", host), ("content-type", own_type(endpoint))];
                    let response = ask(&place, port, endpoint, endpoint.method.clone(), &headers).await;
                    assert!(response.status().is_success(), "{host} {}: {response:?}", endpoint.path);
                }
                // A name of the cluster, which no page can come by where tokens are needed.
                let headers = [("host", "coordinator.quell.svc:5000"), ("content-type", own_type(endpoint))];
                let response = ask(&place, port, endpoint, endpoint.method.clone(), &headers).await;
                let refused = response.status() == 403
                    || response.headers().get("grpc-status").is_some_and(|status| status == "7");
                assert_eq!(refused, !has_tokens, "{}: {response:?}", endpoint.path);
            }
        }
    }
}
