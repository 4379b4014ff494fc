//! A system that answers as a test wants it to, on a free port of this machine.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use quell_connect::Access;
use quell_tool::CallContext;
use tokio::task::JoinHandle;

pub(crate) struct Fake {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Answer = dyn Fn(&str) -> Response + Send + Sync;

impl Fake {
    /// Answers every request by its path and query.
    pub(crate) async fn answering(answer: impl Fn(&str) -> Response + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, answer): (_, Arc<Answer>) = (Arc::clone(&asked), Arc::new(answer));
        let router = Router::new().fallback(move |request: Request| {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            async move {
                let uri = request.uri().to_string();
                let authorization = request.headers().get("authorization");
                let shown =
                    authorization.map_or_else(String::new, |value| format!(" {}", value.to_str().unwrap()));
                let tenant = request.headers().get("x-scope-orgid");
                let tenant =
                    tenant.map_or_else(String::new, |name| format!(" of {}", name.to_str().unwrap()));
                seen.lock().unwrap().push(format!("{uri}{shown}{tenant}"));
                answer(&uri)
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, asked, task }
    }

    /// Always gives this.
    pub(crate) async fn saying(status: u16, body: impl Into<String>) -> Self {
        let body = body.into();
        Self::answering(move |_| (StatusCode::from_u16(status).unwrap(), body.clone()).into_response()).await
    }

    /// Takes connections and never answers.
    pub(crate) async fn silent() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((socket, _)) = listener.accept().await {
                open.push(socket);
            }
        });
        Self { address, asked: Arc::default(), task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn access(&self) -> Access {
        Access::new(client(), &self.url()).unwrap()
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

pub(crate) fn client() -> reqwest::Client {
    // Every test may be the first one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::new()
}

pub(crate) fn context() -> CallContext {
    CallContext::within(Duration::from_secs(20))
}

/// An address at which nothing listens.
pub(crate) async fn nowhere() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let within = tokio::time::timeout(Duration::from_secs(20), async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    });
    assert!(within.await.is_ok(), "not within 20 s: {what}");
}
