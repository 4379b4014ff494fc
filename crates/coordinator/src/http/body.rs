//! The body of a request, bounded in bytes, alone and together with all others. How long it may take is the listener's to bound. A sender
//! that is told "too large" has to hear it: if the connection were closed on what it still has to say, it would see a broken connection,
//! and send the same again for ever.

use std::convert::Infallible;
use std::io::{self, Read};

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use futures::StreamExt;
use quell_incident::document::Object;
use quell_service::Problem;
use quell_service::listen::{ByteBudget, ByteShare};
use serde::de::DeserializeOwned;

use super::Web;

/// What of a body that is too large is read and thrown away, so that its sender comes to read the answer.
const THROWN_AWAY_BYTES_MAX: usize = 64 << 20;
/// What is made ready for a body before it comes: what its sender declares may never come.
const CAPACITY_BYTES: usize = 8 << 10;
/// When to come back if there is no room.
const RETRY_AFTER_SECONDS: u64 = 2;

/// What all bodies together may take while they arrive and are worked on. Webhooks have a part of their own, so that nothing else keeps
/// them out.
#[derive(Clone)]
pub(crate) struct Bodies {
    webhooks: ByteBudget,
    others: ByteBudget,
}

impl Bodies {
    /// Each part has so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { webhooks: ByteBudget::new(bytes), others: ByteBudget::new(bytes) }
    }

    fn of(&self, path: &str) -> &ByteBudget {
        if path.starts_with("/webhook") { &self.webhooks } else { &self.others }
    }
}

/// The whole body, or why there is none. It never rejects by itself: the handler asks first whether the caller may do it at all. What
/// comes from somebody unknown is read, so that they hear so, and not kept.
pub(super) struct Body(pub(super) Result<Bytes, Problem>);

impl FromRequest<Web> for Body {
    type Rejection = Infallible;

    async fn from_request(request: Request, web: &Web) -> Result<Self, Infallible> {
        let known = web.tokens.authenticate_headers(request.headers());
        let budget = known.is_ok().then(|| web.bodies.of(request.uri().path()).clone());
        let body = read(request, web.body_bytes_max, budget.as_ref()).await;
        Ok(Self(known.map_err(Problem::from).and(body)))
    }
}

/// What a body says, as an object with these fields and nothing else: a list of values is nobody's word.
pub(super) fn object<T: DeserializeOwned>(body: &[u8], expected: &str) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map(|Object(read)| read)
        .map_err(|error| Problem::bad_request(format!("{expected}: {error}")))
}

/// Without a budget nothing is kept.
async fn read(request: Request, bytes_max: usize, budget: Option<&ByteBudget>) -> Result<Bytes, Problem> {
    let declared = declared_bytes(request.headers()).unwrap_or(0);
    let packing = packing(request.headers());
    let too_large = || {
        let why = format!(
            "the body has more than {bytes_max} bytes; send less at once, or raise `coordinator.body_bytes_max`"
        );
        Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why))
    };
    if declared > bytes_max as u64 && request.headers().contains_key(EXPECT) {
        // The sender waits for leave to send.
        return too_large();
    }
    let mut kept = match budget {
        Some(budget) => Some(Kept::new(budget).ok_or_else(no_room)?),
        None => None,
    };
    let (mut is_full, mut bytes) = (false, 0_usize);
    let mut chunks = request.into_body().into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::bad_request("the body could not be read to its end"))?;
        bytes = bytes.saturating_add(chunk.len());
        if bytes > bytes_max.saturating_add(THROWN_AWAY_BYTES_MAX) {
            break;
        } else if bytes > bytes_max {
            kept = None;
        } else if let Some(body) = &mut kept
            && !body.add(&chunk)
        {
            // The rest is thrown away.
            (kept, is_full) = (None, true);
        }
    }
    if bytes > bytes_max {
        too_large()
    } else if is_full {
        Err(no_room())
    } else {
        match (kept, budget) {
            (Some(kept), Some(budget)) => unpacked(kept, packing?, bytes_max, budget).await,
            _ => Ok(Bytes::default()),
        }
    }
}

/// How a body is packed (RFC 9110, 8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Deflate,
}

/// What the sender says of it.
///
/// # Errors
/// 415 for what is not read, with what is. More than one packing is not read either: each could make a small body very large.
fn packing(headers: &HeaderMap) -> Result<Packing, Problem> {
    let values = headers.get_all(CONTENT_ENCODING).iter();
    let named = values.map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase());
    let all = named.collect::<Vec<_>>().join(",");
    let mut codings = all.split(',').map(str::trim).filter(|coding| !matches!(*coding, "" | "identity"));
    match (codings.next(), codings.next()) {
        (None, _) => Ok(Packing::None),
        (Some("gzip" | "x-gzip"), None) => Ok(Packing::Gzip),
        (Some("deflate"), None) => Ok(Packing::Deflate),
        _ => {
            let shown: String = all.chars().filter(|c| !c.is_control()).take(80).collect();
            let why = format!(
                "the body comes with `Content-Encoding: {shown}`, and `gzip`, `deflate` and `identity` are read, one at a time; \
                 let the sender use one of these, or none"
            );
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why))
        }
    }
}

/// The body as it was before it was packed. It counts as what it becomes, so that a small one cannot become more than a large one may be.
async fn unpacked(
    kept: Kept,
    packing: Packing,
    bytes_max: usize,
    budget: &ByteBudget,
) -> Result<Bytes, Problem> {
    let is_gzip = kept.bytes.starts_with(&GZIP_BEGINS);
    let packing = match packing {
        // Some senders pack and do not say so; JSON never begins like that.
        Packing::None if is_gzip => Packing::Gzip,
        Packing::None => return Ok(kept.finish()),
        _ if kept.bytes.is_empty() => return Ok(kept.finish()),
        other => other,
    };
    let mut plain = Kept::new(budget).ok_or_else(no_room)?;
    let unpacking = tokio::task::spawn_blocking(move || {
        let packed = kept.bytes.as_slice();
        match packing {
            Packing::Gzip => plain.unpack(MultiGzDecoder::new(packed), bytes_max),
            // What HTTP calls so has a frame of zlib; many leave that out.
            _ if has_frame_of_zlib(packed) => plain.unpack(ZlibDecoder::new(packed), bytes_max),
            _ => plain.unpack(DeflateDecoder::new(packed), bytes_max),
        }
        .map(|()| plain)
    });
    let name = if packing == Packing::Gzip { "gzip" } else { "deflate" };
    match unpacking.await {
        Ok(Ok(plain)) => Ok(plain.finish()),
        Ok(Err(Unpacking::TooLarge)) => {
            let why = format!(
                "the body has more than {bytes_max} bytes once it is unpacked; send less at once, or raise \
                 `coordinator.body_bytes_max`"
            );
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why))
        }
        Ok(Err(Unpacking::NoRoom)) => Err(no_room()),
        Ok(Err(Unpacking::Broken(error))) => Err(Problem::bad_request(format!(
            "the body cannot be unpacked as `{name}`: {error}; send it whole, or without `Content-Encoding`"
        ))),
        Err(_) => Err(Problem::internal()),
    }
}

/// How gzip begins (RFC 1952, 2.3.1).
const GZIP_BEGINS: [u8; 3] = [0x1f, 0x8b, 8];

/// RFC 1950, 2.2.
fn has_frame_of_zlib(packed: &[u8]) -> bool {
    matches!(packed, [method, flags, ..]
        if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31))
}

/// Why a body could not be unpacked.
enum Unpacking {
    TooLarge,
    NoRoom,
    Broken(io::Error),
}

fn no_room() -> Problem {
    let why = "too many bodies are being worked on (`listeners.body_bytes_max`); send it again";
    Problem::unavailable(why, RETRY_AFTER_SECONDS)
}

/// What has come of a body, with its share of what all may take.
struct Kept {
    bytes: Vec<u8>,
    share: ByteShare,
}

impl Kept {
    fn new(budget: &ByteBudget) -> Option<Self> {
        Some(Self { bytes: Vec::new(), share: budget.take(0)? })
    }

    /// False if there is no room for that.
    fn add(&mut self, chunk: &[u8]) -> bool {
        let (length, capacity) = (self.bytes.len() + chunk.len(), self.bytes.capacity());
        if length > capacity {
            let wanted = length.max(capacity * 2).max(CAPACITY_BYTES);
            if !self.share.grow_to(wanted) {
                return false;
            }
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(chunk);
        true
    }

    /// Adds what is unpacked, up to so many bytes.
    fn unpack(&mut self, mut from: impl Read, bytes_max: usize) -> Result<(), Unpacking> {
        let mut chunk = vec![0; CAPACITY_BYTES];
        loop {
            let read = match from.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Unpacking::Broken(error)),
            };
            if self.bytes.len() + read > bytes_max {
                return Err(Unpacking::TooLarge);
            } else if !self.add(chunk.get(..read).unwrap_or_default()) {
                return Err(Unpacking::NoRoom);
            }
        }
    }

    fn finish(self) -> Bytes {
        self.share.hold(self.bytes)
    }
}

fn declared_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const TEXT: &[u8] = br#"{"alerts": []}"#;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    async fn sent(encoding: &str, body: Vec<u8>, bytes_max: usize) -> Result<Bytes, Problem> {
        let mut request = Request::new(axum::body::Body::from(body));
        if !encoding.is_empty() {
            request.headers_mut().insert(CONTENT_ENCODING, encoding.parse().unwrap());
        }
        read(request, bytes_max, Some(&ByteBudget::new(64 << 20))).await
    }

    #[tokio::test]
    async fn packed_bodies_are_unpacked() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(TEXT).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(TEXT).unwrap();
        let two: Vec<u8> = [gzip(&TEXT[..5]), gzip(&TEXT[5..])].concat();
        for (encoding, body) in [
            ("", TEXT.to_vec()),
            ("identity", TEXT.to_vec()),
            ("gzip", gzip(TEXT)),
            ("X-GZIP", gzip(TEXT)),
            ("identity, gzip", gzip(TEXT)),
            ("", gzip(TEXT)),
            ("gzip", two),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", raw.finish().unwrap()),
        ] {
            assert_eq!(sent(encoding, body, 1_000).await.unwrap(), TEXT, "{encoding}");
        }
        assert!(sent("gzip", Vec::new(), 1_000).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_unpacked_is_told_why() {
        let whole = gzip(TEXT);
        for (encoding, body, status, words) in [
            ("zstd", vec![0x28, 0xb5, 0x2f, 0xfd], 415, "`Content-Encoding: zstd`"),
            ("br", TEXT.to_vec(), 415, "`gzip`, `deflate` and `identity`"),
            ("gzip, gzip", gzip(&whole), 415, "one at a time"),
            ("gzip", TEXT.to_vec(), 400, "cannot be unpacked as `gzip`"),
            ("gzip", whole[..whole.len() - 9].to_vec(), 400, "cannot be unpacked as `gzip`"),
            ("deflate", b"\xff\xff\xff".to_vec(), 400, "cannot be unpacked as `deflate`"),
            ("gzip", gzip(&vec![b' '; 1 << 20]), 413, "`coordinator.body_bytes_max`"),
        ] {
            let problem = sent(encoding, body, 100_000).await.unwrap_err();
            let detail = problem.detail.unwrap();
            assert!(
                problem.status == status && detail.contains(words),
                "{encoding}: {} {detail}",
                problem.status
            );
        }
    }

    #[tokio::test]
    async fn what_is_unpacked_counts_in_what_all_may_take() {
        let mut request = Request::new(axum::body::Body::from(gzip(&vec![b' '; 1 << 20])));
        request.headers_mut().insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        let budget = ByteBudget::new(256 << 10);
        let _others = budget.take(8 << 10).unwrap();
        let problem = read(request, 4 << 20, Some(&budget)).await.unwrap_err();
        assert_eq!((problem.status, problem.retry_after_seconds), (503, Some(RETRY_AFTER_SECONDS)));
    }

    /// Of a caller who is not known nothing is unpacked.
    #[tokio::test]
    async fn nothing_is_kept_of_what_somebody_unknown_sends() {
        let mut request = Request::new(axum::body::Body::from(gzip(TEXT)));
        request.headers_mut().insert(CONTENT_ENCODING, "zstd".parse().unwrap());
        assert!(read(request, 1_000, None).await.unwrap().is_empty());
    }
}
