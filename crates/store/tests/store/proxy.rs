//! Stands between a store and its database, and cuts the connection just before or just after a commit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PASS: u8 = 0;
const CUT_BEFORE: u8 = 1;
const CUT_AFTER: u8 = 2;
/// What is received with this in it is committed with the statement that has it.
pub(crate) const MARKER: &str = "cut here";
/// A simple query of that text, as it stands on the wire.
const COMMIT: &[u8] = b"COMMIT\0";

#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    next: Arc<AtomicU8>,
    /// Commits that still go through.
    spared: Arc<AtomicUsize>,
    cuts: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            next: Arc::new(AtomicU8::new(PASS)),
            spared: Arc::new(AtomicUsize::new(0)),
            cuts: Arc::new(AtomicUsize::new(0)),
        };
        let accepting = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
                tokio::spawn(accepting.clone().pass(client, server));
            }
        });
        proxy
    }

    /// The next commit does not reach the server.
    pub(crate) fn cut_before_commit(&self) {
        self.next.store(CUT_BEFORE, Ordering::SeqCst);
    }

    /// The answer to the next commit does not reach the client.
    pub(crate) fn cut_after_commit(&self) {
        self.next.store(CUT_AFTER, Ordering::SeqCst);
    }

    /// The commit after so many others is the one: it does not reach the server, or its answer does not reach the client.
    pub(crate) fn cut_commit(&self, after_commits: usize, answered: bool) {
        self.spared.store(after_commits, Ordering::SeqCst);
        self.next.store(if answered { CUT_AFTER } else { CUT_BEFORE }, Ordering::SeqCst);
    }

    fn next(&self) -> u8 {
        let spare = |left: usize| left.checked_sub(1);
        match self.spared.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spare) {
            Ok(_) => PASS,
            Err(_) => self.next.swap(PASS, Ordering::SeqCst),
        }
    }

    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }

    async fn pass(self, mut client: TcpStream, mut server: TcpStream) {
        let (mut from_client, mut from_server) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        loop {
            tokio::select! {
                read = client.read(&mut from_client) => {
                    let Ok(bytes @ 1..) = read else { return };
                    let sent = &from_client[..bytes];
                    if sent.ends_with(COMMIT) || contains(sent, MARKER) {
                        match self.next() {
                            CUT_BEFORE => {
                                self.cuts.fetch_add(1, Ordering::SeqCst);
                                return;
                            }
                            CUT_AFTER => {
                                server.write_all(sent).await.unwrap();
                                assert!(server.read(&mut from_server).await.unwrap() > 0, "it has answered");
                                self.cuts.fetch_add(1, Ordering::SeqCst);
                                return;
                            }
                            _ => {}
                        }
                    }
                    if server.write_all(sent).await.is_err() {
                        return;
                    }
                }
                read = server.read(&mut from_server) => {
                    let Ok(bytes @ 1..) = read else { return };
                    if client.write_all(&from_server[..bytes]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn contains(sent: &[u8], marker: &str) -> bool {
    sent.windows(marker.len()).any(|part| part == marker.as_bytes())
}
