//! What strangers can do to a listener, and who is answered meanwhile.
#![allow(clippy::unwrap_used, reason = "a test ends by it; the exemption does not reach its helpers")]

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use quell_service::http::live;
use quell_service::{ServeOptions, serve_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const WITHIN: Duration = Duration::from_secs(30);
const LARGE_BYTES: usize = 16 << 20;

fn options() -> ServeOptions {
    ServeOptions {
        connections_max: 16,
        connections_per_peer_max: 16,
        connections_reserved: 2,
        // Nothing ends by itself where a test is not about that.
        head_within: WITHIN,
        idle_within: WITHIN,
        body_within: WITHIN,
        behind_max: WITHIN,
        ..ServeOptions::default()
    }
}

/// Counts handlers at work, until they are dropped.
#[derive(Clone, Default)]
struct Work(Arc<AtomicUsize>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Work {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

async fn served(options: ServeOptions) -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let (reading, working) = (Arc::clone(&count), Arc::clone(&count));
    let router = Router::new()
        .route("/live", get(live))
        .route("/large", get(async || vec![b'x'; LARGE_BYTES]))
        .route(
            "/read",
            post(async move |request: axum::extract::Request| {
                let _work = Work::begin(&reading);
                let read = axum::body::to_bytes(request.into_body(), 1 << 20).await;
                read.map_or_else(|_| "broken".to_owned(), |bytes: Bytes| bytes.len().to_string())
            }),
        )
        .route(
            "/work",
            get(async move || {
                let _work = Work::begin(&working);
                pending::<()>().await;
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_with(listener, router, options, pending()));
    (address, count)
}

async fn connect(address: SocketAddr, say: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(say.as_bytes()).await.unwrap();
    stream
}

fn request(method: &str, path: &str, further: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{further}\r\n")
}

/// Reads until the answer to one request is there; its text.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let whole = async {
        loop {
            let mut buffer = [0; 1024];
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => text.extend_from_slice(&buffer[..read]),
            }
            if let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n")
                && text.len() > end + 4
            {
                return;
            }
        }
    };
    timeout(WITHIN, whole).await.unwrap();
    String::from_utf8(text).unwrap()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    timeout(WITHIN, stream.read_to_end(&mut rest)).await.is_ok()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn connections_that_do_not_say_what_they_want_are_closed() {
    let (address, _) = served(ServeOptions { head_within: Duration::from_millis(50), ..options() }).await;
    // Nothing; half of an HTTP/2 preface; a whole one without a request; half of an HTTP/1.1 head.
    for said in ["", "PRI * HTTP", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\nhost"] {
        assert!(is_closed(&mut connect(address, said).await).await, "{said:?} was kept open");
    }
    // A head of which one byte comes now and then.
    let mut stream = connect(address, "GET / HTTP/1.1\r\nx: ").await;
    until("a dripped head is taken for ever", async || {
        tokio::time::sleep(Duration::from_millis(10)).await;
        stream.write_all(b"x").await.is_err()
    })
    .await;
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let (address, _) = served(options()).await;
    let mut kept = connect(address, &request("GET", "/live", "")).await;
    assert!(answer(&mut kept).await.starts_with("HTTP/1.1 200"));
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(connect(address, "").await);
        let mut stream = connect(address, &request("GET", "/live", "")).await;
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
        drop(stream);
    }
    // One that had a request before is spared until none is left that had none.
    kept.write_all(request("GET", "/live", "").as_bytes()).await.unwrap();
    assert!(answer(&mut kept).await.starts_with("HTTP/1.1 200"));
    assert!(is_closed(&mut silent[0]).await);
}

#[tokio::test]
async fn idle_connections_make_room_the_longest_idle_first() {
    let (address, _) = served(options()).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut stream = connect(address, &request("GET", "/live", "")).await;
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
        idle.push(stream);
    }
    for stream in &mut idle[..4] {
        assert!(is_closed(stream).await);
    }
    let last = idle.last_mut().unwrap();
    last.write_all(request("GET", "/live", "").as_bytes()).await.unwrap();
    assert!(answer(last).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_without_a_request_end() {
    let (address, _) = served(ServeOptions { idle_within: Duration::from_millis(50), ..options() }).await;
    let mut stream = connect(address, &request("GET", "/live", "")).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert!(is_closed(&mut stream).await);
}

#[tokio::test]
async fn while_all_are_at_work_those_who_ask_how_it_is_are_answered() {
    let (address, count) = served(options()).await;
    let mut working = Vec::new();
    for _ in 0..16 {
        working.push(connect(address, &request("GET", "/work", "")).await);
    }
    until("16 are at work", async || count.load(Ordering::SeqCst) == 16).await;
    for _ in 0..10 {
        let answered = answer(&mut connect(address, &request("GET", "/live", "")).await).await;
        assert!(answered.starts_with("HTTP/1.1 200") && answered.contains("connection: close"), "{answered}");
        let refused = answer(&mut connect(address, &request("GET", "/large", "")).await).await;
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after"), "{refused}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 16);
}

#[tokio::test]
async fn a_body_that_drips_ends_and_a_steady_one_arrives() {
    let limits = ServeOptions { behind_max: Duration::from_millis(200), rate_min: 1 << 10, ..options() };
    let (address, count) = served(limits).await;
    let head = request("POST", "/read", "content-length: 100000\r\n");
    let mut dripping = connect(address, &head).await;
    until("it is read", async || count.load(Ordering::SeqCst) == 1).await;
    until("it still drips", async || {
        let _ = dripping.write_all(b"x").await;
        count.load(Ordering::SeqCst) == 0
    })
    .await;
    let refused = answer(&mut dripping).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("send it again"), "{refused}");

    // As slow, and yet faster than the least.
    let mut steady = connect(address, &head).await;
    for _ in 0..100 {
        steady.write_all(&[b'x'; 1000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(answer(&mut steady).await.ends_with("100000"));
}

#[tokio::test]
async fn a_body_has_its_time_in_all() {
    let limits = ServeOptions { body_within: Duration::from_millis(300), ..options() };
    let (address, count) = served(limits).await;
    let mut stream = connect(address, &request("POST", "/read", "content-length: 900000\r\n")).await;
    until("it is read", async || count.load(Ordering::SeqCst) == 1).await;
    until("it goes on", async || {
        let _ = stream.write_all(&[b'x'; 100]).await;
        count.load(Ordering::SeqCst) == 0
    })
    .await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn answers_that_nobody_reads_have_a_budget_and_an_end() {
    let limits = ServeOptions {
        behind_max: Duration::from_millis(500),
        answer_bytes_max: LARGE_BYTES + (1 << 20),
        ..options()
    };
    let (address, _) = served(limits).await;
    let mut unread = connect(address, &request("GET", "/large", "")).await;
    let first = answer(&mut unread).await;
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    let refused = answer(&mut connect(address, &request("GET", "/large", "")).await).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 2"), "{refused}");
    // Small answers need no room.
    assert!(
        answer(&mut connect(address, &request("GET", "/live", "")).await).await.starts_with("HTTP/1.1 200")
    );
    until("the room comes back", async || {
        let mut stream = connect(address, &request("GET", "/large", "")).await;
        answer(&mut stream).await.starts_with("HTTP/1.1 200")
    })
    .await;
    let mut rest = Vec::new();
    let read = timeout(WITHIN, unread.read_to_end(&mut rest)).await.unwrap();
    assert!(read.is_err() || rest.len() < LARGE_BYTES, "it was not cut off");
}

#[tokio::test]
async fn one_stream_that_is_not_read_ends_alone() {
    let limits = ServeOptions {
        behind_max: Duration::from_millis(400),
        answer_bytes_max: LARGE_BYTES + (1 << 20),
        ..options()
    };
    let (address, count) = served(limits).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) =
        h2::client::Builder::new().initial_window_size(1024).handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let mut send = |path: &str| {
        let request = http::Request::get(format!("http://localhost{path}")).body(()).unwrap();
        client.send_request(request, true).unwrap().0
    };
    let worked = send("/work");
    let mut unread = send("/large").await.unwrap().into_body();
    assert_eq!(send("/large").await.unwrap().status(), 503);
    // It never asks for more than the first kilobyte.
    let cut = async {
        loop {
            match unread.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.reason(),
                None => return None,
            }
        }
    };
    assert!(timeout(WITHIN, cut).await.unwrap().is_some());
    assert_eq!(send("/live").await.unwrap().status(), 200);
    assert_eq!(send("/large").await.unwrap().status(), 200);
    assert_eq!(count.load(Ordering::SeqCst), 1, "the other one goes on");
    drop(worked);
}

#[tokio::test]
async fn a_flood_of_streams_that_are_reset_ends_the_connection() {
    let (address, _) = served(options()).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let ended = tokio::spawn(connection);
    let flood = async {
        for _ in 0..20_000 {
            let request = http::Request::get("http://localhost/work").body(()).unwrap();
            let Ok(ready) = client.clone().ready().await else { return };
            client = ready;
            let Ok((answer, mut stream)) = client.send_request(request, true) else { return };
            stream.send_reset(h2::Reason::CANCEL);
            drop(answer);
            tokio::task::yield_now().await;
        }
    };
    timeout(WITHIN, flood).await.unwrap();
    drop(client);
    assert!(timeout(WITHIN, ended).await.unwrap().unwrap().is_err(), "the flood was taken to its end");
    assert!(
        answer(&mut connect(address, &request("GET", "/live", "")).await).await.starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn heads_have_a_size() {
    let (address, _) = served(options()).await;
    let head = request("GET", "/live", &format!("x: {}\r\n", "x".repeat(100_000)));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(head.as_bytes()).await;
    let mut first = [0; 12];
    // What it still sends may break the connection before the answer is read.
    if timeout(WITHIN, stream.read_exact(&mut first)).await.unwrap().is_ok() {
        assert_eq!(&first, b"HTTP/1.1 431");
    }
}
