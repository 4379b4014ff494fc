//! HTTP/1.1 to servers on this machine: one request per connection, small answers. Enough for a tool that must build fast.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long connecting, and each pause in an answer, may take.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// Where the next page is, if there is one.
    pub(crate) next: Option<String>,
    /// How many there are in all, where a list says so.
    pub(crate) total: Option<u64>,
}

/// Asks and returns whatever answer comes.
pub(crate) fn request(server: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
    let what = || format!("{method} http://{server}{path}");
    exchange(server, method, path, body).with_context(what)
}

/// Asks for JSON; any other status than success is an error with the answer's text.
pub(crate) fn json(server: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let answer = request(server, method, path, body)?;
    let what = || format!("{method} http://{server}{path} answered {}: {}", answer.status, answer.body);
    if !(200..300).contains(&answer.status) {
        bail!(what());
    }
    serde_json::from_str(&answer.body).with_context(what)
}

fn exchange(server: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, SILENCE_MAX)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let content_type = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n{content_type}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    parse(&bytes)
}

/// A connection for many requests, one after another; answers have to say their length.
pub(crate) struct Connection {
    server: SocketAddr,
    stream: TcpStream,
}

impl Connection {
    pub(crate) fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, SILENCE_MAX)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_nodelay(true)?;
        Ok(Self { server, stream })
    }

    /// Posts JSON and reads the answer.
    pub(crate) fn post(&mut self, path: &str, body: &str) -> Result<Answer> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.server,
            body.len()
        );
        self.stream.write_all(request.as_bytes())?;
        let (mut bytes, mut buffer) = (Vec::new(), [0; 8192]);
        loop {
            let read = self.stream.read(&mut buffer)?;
            ensure!(read > 0, "{path}: the connection was closed");
            bytes.extend_from_slice(&buffer[..read]);
            // Until it is whole, reading it fails.
            if let Ok(answer) = parse(&bytes) {
                return Ok(answer);
            }
            ensure!(bytes.len() < 1 << 20, "{path}: the answer does not end");
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let end =
        bytes.windows(4).position(|four| four == b"\r\n\r\n").context("the answer has no end of headers")?;
    let head = std::str::from_utf8(&bytes[..end]).context("the headers are not text")?;
    let rest = &bytes[end + 4..];
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("the answer has no status")?;
    let header = |wanted: &str| {
        head.lines().skip(1).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        })
    };
    let body = if header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        unchunk(rest)?
    } else if let Some(length) = header("content-length") {
        let length: usize = length.parse().context("Content-Length")?;
        ensure!(rest.len() >= length, "the answer ended after {} of {length} bytes", rest.len());
        rest[..length].to_vec()
    } else {
        rest.to_vec()
    };
    let next = header("link")
        .filter(|link| link.contains("rel=\"next\""))
        .and_then(|link| Some(link.split_once('<')?.1.split_once('>')?.0.to_owned()));
    let total = header("x-total-count").and_then(|count| count.parse().ok());
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned(), next, total })
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").context("a chunk without its length")?;
        let size = std::str::from_utf8(&rest[..line])?.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).context("the length of a chunk")?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Ok(body);
        }
        ensure!(rest.len() >= size + 2, "the answer ended in a chunk");
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_all_three_framings() {
        for (wire, body) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokjunk", "ok"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
                "abcde",
            ),
            ("HTTP/1.1 200 OK\r\n\r\nto the end", "to the end"),
        ] {
            let answer = parse(wire.as_bytes()).unwrap();
            assert_eq!((answer.status, answer.body.as_str()), (200, body));
        }
    }

    #[test]
    fn broken_answers_are_errors() {
        for wire in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc\r\n",
        ] {
            assert!(parse(wire.as_bytes()).is_err(), "{wire:?}");
        }
    }
}
