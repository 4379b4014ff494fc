//! HTTP/2 by hand, as no client would speak it: streams without an end, windows of zero, resets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const INITIAL_WINDOW_SIZE: u16 = 4;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: u32 = 8;
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A connection that does what it is told and no more.
pub(super) struct Connection {
    stream: TcpStream,
    authority: String,
    next: u32,
}

/// What came on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Headers, with the end of the stream or without.
    Headers,
    Data,
    Reset,
    GoAway,
    Other,
}

impl Connection {
    /// Opens it; `window` is how much of each answer it takes without being asked again.
    pub(super) fn open(server: SocketAddr, window: u32) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, SILENCE_MAX)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream, authority: server.to_string(), next: 1 };
        connection.stream.write_all(PREFACE)?;
        let mut settings = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        settings.extend(window.to_be_bytes());
        connection.frame(SETTINGS, 0, 0, &settings)?;
        connection.frame(SETTINGS, ACK, 0, &[])?;
        Ok(connection)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len())?.to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame)?;
        Ok(())
    }

    /// Begins a request and returns its stream; `further` headers come after the usual four.
    pub(super) fn begin(
        &mut self,
        method: &str,
        path: &str,
        further: &[(&str, &str)],
        end: bool,
    ) -> Result<u32> {
        let stream = self.next;
        self.next += 2;
        let authority = self.authority.clone();
        let usual = [(":method", method), (":scheme", "http"), (":path", path), (":authority", &authority)];
        let block = headers(usual.into_iter().chain(further.iter().copied()));
        self.frame(HEADERS, END_HEADERS | if end { END_STREAM } else { 0 }, stream, &block)?;
        Ok(stream)
    }

    /// A gRPC call of which only the head comes.
    pub(super) fn begin_call(&mut self, path: &str) -> Result<u32> {
        let further = [("content-type", "application/grpc"), ("te", "trailers"), ("a2a-version", "1.0")];
        self.begin("POST", path, &further, false)
    }

    /// The message of a call, and its end.
    pub(super) fn end_call(&mut self, stream: u32, message: &[u8]) -> Result<()> {
        let mut payload = vec![0];
        payload.extend(u32::try_from(message.len())?.to_be_bytes());
        payload.extend(message);
        self.frame(DATA, END_STREAM, stream, &payload)
    }

    pub(super) fn reset(&mut self, stream: u32) -> Result<()> {
        self.frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
    }

    /// The next frame: on which stream, and what.
    pub(super) fn read(&mut self) -> Result<(u32, Came)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        ensure!(length <= 1 << 14, "a frame of {length} bytes");
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let came = match head[3] {
            HEADERS => Came::Headers,
            DATA => Came::Data,
            RST_STREAM => Came::Reset,
            GOAWAY => Came::GoAway,
            _ => Came::Other,
        };
        Ok((stream, came))
    }

    /// Waits until the stream has an answer.
    pub(super) fn answered(&mut self, stream: u32) -> Result<()> {
        loop {
            match self.read().context("no answer")? {
                (of, Came::Headers) if of == stream => return Ok(()),
                (of, Came::Reset) if of == stream => bail!("the stream was reset"),
                (_, Came::GoAway) => bail!("the connection was ended"),
                _ => {}
            }
        }
    }

    /// Reads until this many streams were reset or the connection was closed; says whether that came within the time.
    pub(super) fn cut_off(mut self, streams: usize, within: Duration) -> bool {
        let began = Instant::now();
        let mut reset = 0;
        while began.elapsed() < within {
            match self.read() {
                Ok((_, Came::Reset)) => reset += 1,
                Ok((_, Came::GoAway)) => return true,
                Ok(_) => {}
                Err(error) => {
                    let timed_out = error.downcast_ref::<std::io::Error>().is_some_and(|error| {
                        matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
                    });
                    if !timed_out {
                        return true;
                    }
                }
            }
            if reset >= streams {
                return true;
            }
        }
        false
    }
}

/// A block of headers, each written out: literal, not indexed, not compressed.
fn headers<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            number(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A length in seven bits, and more where that is not enough.
fn number(block: &mut Vec<u8>, number: usize) {
    let Some(mut rest) = number.checked_sub(127) else {
        block.push(u8::try_from(number).unwrap_or(0));
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap_or(0) | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_written_as_the_standard_says() {
        let long = "x".repeat(300);
        let block = headers([("a", "bc"), ("n", long.as_str())].into_iter());
        assert_eq!(block[..6], [0, 1, b'a', 2, b'b', b'c']);
        // 300 is 127 and 173: 45 with the mark that more comes, then 1.
        assert_eq!(block[6..12], [0, 1, b'n', 127, 173, 1]);
        assert_eq!(block.len(), 12 + 300);
    }
}
