//! The floor of `cargo xtask bench`: what an HTTP server costs that parses the same bytes, hashes them, appends them to a file and syncs
//! it before it answers, everything that waits at the same time in one write. No incidents, no index, no events.
//!
//! `quell-floor FILE`: listens on a free port of 127.0.0.1 and prints its address.

#![allow(clippy::print_stdout, reason = "its address is its only output")]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Write as _;
use std::sync::mpsc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

/// Requests that share one write at the most.
const BATCH_MAX: usize = 4_096;

/// What any receiver has to look at.
#[derive(Deserialize)]
struct Payload {
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    status: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    fingerprint: String,
}

struct Waiting {
    bytes: Vec<u8>,
    answer: oneshot::Sender<bool>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args_os().nth(1).ok_or("usage: quell-floor FILE")?;
    let file = OpenOptions::new().create(true).append(true).open(file)?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || commit(file, &receiver));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/", post(append)).with_state(sender)).await?;
    Ok(())
}

async fn append(State(sender): State<mpsc::Sender<Waiting>>, body: Bytes) -> StatusCode {
    let Ok(payload) = serde_json::from_slice::<Payload>(&body) else { return StatusCode::BAD_REQUEST };
    for alert in &payload.alerts {
        let Alert { status, labels, annotations, starts_at, ends_at, fingerprint } = alert;
        black_box((status, labels, annotations, starts_at, ends_at, fingerprint));
    }
    let mut bytes = Sha256::digest(&body).to_vec();
    bytes.extend_from_slice(&body);
    let (answer, answered) = oneshot::channel();
    if sender.send(Waiting { bytes, answer }).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    match answered.await {
        Ok(true) => StatusCode::OK,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// One write and one sync for all that waits.
fn commit(mut file: File, receiver: &mpsc::Receiver<Waiting>) {
    let mut buffer = Vec::new();
    while let Ok(first) = receiver.recv() {
        let batch: Vec<Waiting> = std::iter::once(first).chain(receiver.try_iter().take(BATCH_MAX)).collect();
        buffer.clear();
        for waiting in &batch {
            buffer.extend_from_slice(&waiting.bytes);
        }
        let durable = file.write_all(&buffer).and_then(|()| file.sync_data()).is_ok();
        for waiting in batch {
            // The sender may have hung up.
            let _ = waiting.answer.send(durable);
        }
    }
}
