//! The floor of `cargo xtask bench loop`: what an HTTP server costs that only makes the bytes of a request durable.
//!
//! `quell-floor FILE`: listens on a free port of 127.0.0.1, prints its address, appends each body to the file and syncs it before it
//! answers.

#![allow(clippy::print_stdout, reason = "its address is its only output")]

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args_os().nth(1).ok_or("usage: quell-floor FILE")?;
    let file = Arc::new(Mutex::new(OpenOptions::new().create(true).append(true).open(file)?));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/", post(append)).with_state(file)).await?;
    Ok(())
}

async fn append(State(file): State<Arc<Mutex<File>>>, body: Bytes) -> StatusCode {
    let written = tokio::task::spawn_blocking(move || {
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&body).and_then(|()| file.sync_data())
    });
    match written.await {
        Ok(Ok(())) => StatusCode::OK,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
