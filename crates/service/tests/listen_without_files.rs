//! A process that may open no more files. A program of its own, since the limit holds for all of its tests.
#![allow(clippy::unwrap_used, reason = "a test ends by it; the exemption does not reach its helpers")]

use std::future::pending;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use quell_service::http::live;
use quell_service::{ServeOptions, serve_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

#[tokio::test]
async fn without_free_files_idle_connections_make_room() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/live", get(live));
    tokio::spawn(serve_with(listener, router, ServeOptions::default(), pending()));
    // Both ends are files of this process: those of the clients are all there before there are no more.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let sockets: Vec<_> = (0..5).map(|_| TcpSocket::new_v4().unwrap()).collect();
    let last = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|file| file.unwrap().file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    let (last, maximum) = (last.max().unwrap(), getrlimit(Resource::Nofile).maximum);
    setrlimit(Resource::Nofile, Rlimit { current: Some(last + 1), maximum }).unwrap();
    let mut answered = Vec::new();
    for socket in sockets {
        let asked = async {
            let mut stream = socket.connect(address).await.unwrap();
            stream.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            assert_eq!(&status, b"HTTP/1.1 200");
            stream
        };
        answered.push(tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap());
    }
}
