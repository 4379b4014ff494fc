//! A real browser that shows pages of other origins, each of which tries every endpoint in every way that a page has.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{self, Request, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use quell_child::{Manner, Process, find};
use quell_web::Takes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::ports::{Place, Port, body};

const PAGE: &str = include_str!("page.html");
/// Names that the browser takes for this machine's, as an attacker's name server would have it.
const RESOLVER: &str = "--host-resolver-rules=MAP evil.test 127.0.0.1, MAP rebind.test 127.0.0.1";
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // Without it the browser would end at once, having nothing to print.
    "--remote-debugging-port=0",
    "--user-data-dir=profile",
    RESOLVER,
];
/// How long a page may take.
const WITHIN: Duration = Duration::from_secs(240);

/// Where a page comes from.
enum From {
    /// Another name.
    Name,
    /// Another port of loopback.
    Port,
    /// Nowhere: a sandboxed page has no origin.
    Nowhere,
    /// The port itself, by a name that was made to point there.
    Rebound(Port, SocketAddr),
}

/// A page: its address, and what it does.
struct Page {
    url: String,
    from: From,
    html: String,
}

#[derive(Clone)]
struct Evil {
    pages: Arc<Vec<Page>>,
    verdicts: mpsc::Sender<Value>,
}

async fn show(State(evil): State<Evil>, extract::Path(number): extract::Path<usize>) -> Response {
    let Some(page) = evil.pages.get(number) else { return StatusCode::NOT_FOUND.into_response() };
    let html = Html(page.html.clone());
    match page.from {
        From::Nowhere => {
            ([("content-security-policy", "sandbox allow-scripts allow-forms")], html).into_response()
        }
        _ => html.into_response(),
    }
}

async fn verdict(State(evil): State<Evil>, body: Bytes) -> StatusCode {
    evil.verdicts.send(serde_json::from_slice(&body).unwrap()).await.unwrap();
    StatusCode::NO_CONTENT
}

/// What a name that was made to point at a port leads to, once it does: every request as it is.
async fn rebound(
    State((client, target)): State<(reqwest::Client, SocketAddr)>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let sent =
        client.request(parts.method, format!("http://{target}{path}")).headers(parts.headers).body(body);
    // What never ends is cut: a page that reads it has its beginning.
    let answer = sent.send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = tokio::time::timeout(Duration::from_secs(2), answer.bytes()).await;
    let mut response = (status, body.map(Result::unwrap).unwrap_or_default()).into_response();
    for (name, value) in headers.iter().filter(|(name, _)| *name != "transfer-encoding") {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}

fn plan(place: &Place, from: &From) -> Vec<Value> {
    let ports: Vec<_> = match from {
        From::Rebound(port, through) => {
            vec![(port.clone(), format!("http://rebind.test:{}", through.port()))]
        }
        _ => place.ports.iter().map(|port| (port.clone(), format!("http://{}", port.address))).collect(),
    };
    let mut requests = Vec::new();
    for (port, base) in ports {
        for endpoint in &port.endpoints {
            requests.push(json!({
                "method": endpoint.method.as_str(),
                "url": format!("{base}{}", place.path(endpoint)),
                "body": String::from_utf8(body(endpoint)).unwrap(),
                "grpc": endpoint.takes == Takes::Grpc,
            }));
        }
    }
    requests
}

/// Lays out the pages, each of which leads to the next one, and serves them.
async fn lay_out(place: &Place) -> (Arc<Vec<Page>>, mpsc::Receiver<Value>) {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (evil, mut throughs) = (bind().await, Vec::new());
    let own = evil.local_addr().unwrap();
    for port in &place.ports {
        throughs.push((port.clone(), bind().await));
    }
    let mut froms = vec![
        (format!("http://evil.test:{}", own.port()), From::Name),
        (format!("http://{own}"), From::Port),
        (format!("http://evil.test:{}", own.port()), From::Nowhere),
    ];
    for (port, through) in &throughs {
        let address = through.local_addr().unwrap();
        let base = format!("http://rebind.test:{}", address.port());
        froms.push((base, From::Rebound(port.clone(), address)));
    }
    let urls: Vec<_> =
        froms.iter().enumerate().map(|(number, (base, _))| format!("{base}/__page/{number}")).collect();
    let mut pages = Vec::new();
    for (number, (_, from)) in froms.into_iter().enumerate() {
        let plan = json!({
            "page": number,
            "requests": plan(place, &from),
            "verdict": format!("http://{own}/verdict"),
            "next": urls.get(number + 1),
        });
        let html = PAGE.replace("PLAN", &plan.to_string());
        pages.push(Page { url: urls[number].clone(), from, html });
    }
    let (verdicts, told) = mpsc::channel(16);
    let evil_state = Evil { pages: Arc::new(pages), verdicts };
    let pages = Router::new().route("/__page/{number}", get(show));
    let router = pages.clone().route("/verdict", post(verdict)).with_state(evil_state.clone());
    tokio::spawn(async move { axum::serve(evil, router).await });
    for (port, through) in throughs {
        let target = (place.sandbox.client().clone(), port.address);
        let router = pages.clone().with_state(evil_state.clone());
        let router = router.merge(Router::new().fallback(rebound).with_state(target));
        tokio::spawn(async move { axum::serve(through, router).await });
    }
    (evil_state.pages, told)
}

fn open(chromium: &Path, folder: &Path, url: &str) -> Process {
    let arguments: Vec<_> = FLAGS.iter().copied().chain([url]).map(str::to_owned).collect();
    let environment = vec![("HOME".into(), folder.as_os_str().to_owned())];
    let manner = Manner { environment, own_group: true, ..Manner::default() };
    Process::start("chromium", chromium, &arguments, folder, manner).unwrap()
}

/// How often a port refused requests for this reason.
async fn refused(place: &Place, port: &Port, reason: &str) -> u64 {
    let url = format!("http://{}/metrics", port.address);
    let text = place.sandbox.client().get(url).send().await.unwrap().text().await.unwrap();
    let name = format!("quell_requests_refused_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}

async fn a_browser_gets_nowhere(has_tokens: bool) {
    let Some(chromium) = find("chromium") else {
        println!("skipped: pages in Chromium: no `chromium` in the PATH");
        return;
    };
    let place = Place::start(has_tokens).await;
    place.settled().await;
    let before = place.state().await;
    let (pages, mut verdicts) = lay_out(&place).await;
    let folder = tempfile::tempdir().unwrap();
    let browser = open(&chromium, folder.path(), &pages[0].url);
    for (number, page) in pages.iter().enumerate() {
        let verdict = tokio::time::timeout(WITHIN, verdicts.recv()).await;
        let verdict = verdict.unwrap_or_else(|_| panic!("{}: {}", page.url, browser.last_words())).unwrap();
        assert_eq!(verdict["page"], number);
        assert_eq!(verdict["read"], json!([]), "{}: {verdict:#}", page.url);
        let requests = plan(&place, &page.from).len() as u64;
        let sent = &verdict["sent"];
        let tried = |kind: &str| sent[kind].as_u64().unwrap();
        // The browser itself keeps from a page what says that it is for its own origin; it was sent all the same.
        let fetches = tried("answered") + tried("blocked");
        assert!(fetches >= requests && tried("frames") > 0, "{}: {verdict:#}", page.url);
        if matches!(page.from, From::Nowhere) {
            assert_eq!(verdict["origin"], "null");
        }
    }
    drop(browser);
    // They did come: it is here that they were refused.
    for port in &place.ports {
        if port.endpoints.iter().any(|endpoint| endpoint.path == "/metrics")
            && !port.name.contains("simulator")
        {
            let requests = port.endpoints.len() as u64;
            for reason in ["foreign_origin", "foreign_host"] {
                let count = refused(&place, port, reason).await;
                assert!(count >= requests, "{}: {reason} {count} times", port.name);
            }
        }
    }
    place.settled().await;
    assert_eq!(place.state().await, before, "something was changed");
    place.still_takes_alerts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_in_a_real_browser_acts_or_reads_without_tokens() {
    a_browser_gets_nowhere(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_in_a_real_browser_acts_or_reads_with_tokens() {
    a_browser_gets_nowhere(true).await;
}
