//! Attackers that need no more than sockets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const DRIP_EVERY: Duration = Duration::from_millis(500);
/// How long a sender of a large body waits, among a hundred others.
const LARGE_WITHIN: Duration = Duration::from_secs(30);
/// Between two connections that come and go: each keeps a port of this machine for a while, and they are not to run out.
pub(super) const BETWEEN: Duration = Duration::from_micros(500);

/// Sockets that say this once, and nothing more.
pub(super) fn open(server: SocketAddr, count: usize, say: &[u8]) -> Result<Vec<TcpStream>> {
    (0..count)
        .map(|number| {
            let mut stream = TcpStream::connect_timeout(&server, CONNECT_WITHIN)
                .with_context(|| format!("socket {number} of {count} to {server}"))?;
            // It may have had to go for a later one already.
            let _ = stream.write_all(say);
            Ok(stream)
        })
        .collect()
}

/// Something that goes on until it is told to end.
pub(super) struct Ongoing {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// What the attacker counts.
    count: Arc<AtomicUsize>,
}

impl Ongoing {
    pub(super) fn start(work: impl FnOnce(&AtomicBool, &AtomicUsize) + Send + 'static) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = Some(std::thread::spawn(move || work(&stopped, &counted)));
        Self { stop, thread, count }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it met is in its count.
            let _ = thread.join();
        }
    }
}

/// Each socket gets one more byte now and then; counted is how many still take it.
pub(super) fn drip(mut sockets: Vec<TcpStream>, byte: u8) -> Ongoing {
    Ongoing::start(move |stop, open| {
        open.store(sockets.len(), Ordering::Relaxed);
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(DRIP_EVERY);
            sockets.retain_mut(|socket| socket.write_all(&[byte]).is_ok());
            open.store(sockets.len(), Ordering::Relaxed);
        }
    })
}

/// Connects and hangs up again and again; counted is how often.
pub(super) fn come_and_go(server: SocketAddr) -> Ongoing {
    Ongoing::start(move |stop, count| {
        while !stop.load(Ordering::Relaxed) {
            if TcpStream::connect_timeout(&server, CONNECT_WITHIN).is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(BETWEEN);
        }
    })
}

/// Sends large bodies, so many at the same time, and counts the answers.
pub(super) fn bodies(server: SocketAddr, at_once: usize, bytes: usize) -> Vec<Ongoing> {
    (0..at_once)
        .map(|_| {
            Ongoing::start(move |_, answers| {
                if send_body(server, bytes).is_ok() {
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect()
}

fn send_body(server: SocketAddr, bytes: usize) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, CONNECT_WITHIN)?;
    stream.set_read_timeout(Some(LARGE_WITHIN))?;
    stream.set_write_timeout(Some(LARGE_WITHIN))?;
    write!(
        stream,
        "POST /webhooks/alertmanager HTTP/1.1\r\nhost: {server}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {bytes}\r\n\r\n"
    )?;
    let piece = [b' '; 1 << 16];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(piece.len());
        stream.write_all(&piece[..now])?;
        left -= now;
    }
    let mut first = [0; 12];
    stream.read_exact(&mut first)?;
    Ok(())
}

/// The status of the answer to this, as it is; none if the connection just ends.
pub(super) fn say(server: SocketAddr, said: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&server, CONNECT_WITHIN).ok()?;
    stream.set_read_timeout(Some(CONNECT_WITHIN)).ok()?;
    // The other side may have heard enough before the end.
    let _ = stream.write_all(said);
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head).ok()?.split(' ').nth(1)?.parse().ok()
}
