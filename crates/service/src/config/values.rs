//! The kinds of values that settings have: lengths of time, secrets, addresses.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserializer, Error as _, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use subtle::ConstantTimeEq;

/// What is shown in the place of a secret.
pub const HIDDEN: &str = "<hidden>";
/// The same inside an address, which stays an address with it.
const PART_HIDDEN: &str = "***";

/// A length of time in the configuration: `5s`, `10m`, `1h 30m`, or a plain number of seconds. At most 365 days.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

impl Period {
    /// The longest that is accepted.
    pub const MAX: Self = Self(Duration::from_secs(365 * 24 * 60 * 60));

    /// A period of whole seconds, cut at [`Period::MAX`].
    pub const fn seconds(seconds: u64) -> Self {
        if seconds > Self::MAX.0.as_secs() { Self::MAX } else { Self(Duration::from_secs(seconds)) }
    }

    /// A period of milliseconds, cut at [`Period::MAX`].
    pub const fn milliseconds(milliseconds: u64) -> Self {
        if milliseconds / 1000 >= Self::MAX.0.as_secs() {
            Self::MAX
        } else {
            Self(Duration::from_millis(milliseconds))
        }
    }

    /// As the standard library's duration.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// As a duration that can be added to a [`jiff::Timestamp`].
    pub fn signed(self) -> jiff::SignedDuration {
        // Cannot fail: the limit of 365 days is far below that of the type.
        jiff::SignedDuration::try_from(self.0).unwrap_or(jiff::SignedDuration::MAX)
    }

    fn from_seconds(seconds: f64) -> Result<Self, String> {
        let duration = Duration::try_from_secs_f64(seconds)
            .map_err(|_| format!("`{seconds}` is not a number of seconds from 0 to 365 days"))?;
        Self::checked(duration)
    }

    fn checked(duration: Duration) -> Result<Self, String> {
        if duration > Self::MAX.0 { Err("longer than 365 days".to_owned()) } else { Ok(Self(duration)) }
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(seconds) = text.parse::<f64>() {
            return Self::from_seconds(seconds);
        }
        let refused = || format!("`{text}` is not a length of time; write it like `5s`, `10m` or `1h 30m`");
        let span = text.parse::<jiff::Span>().map_err(|_| refused())?;
        // Months and years have no fixed length and are refused here.
        let signed = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| refused())?;
        Self::checked(Duration::try_from(signed).map_err(|_| refused())?)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#}", self.signed())
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PeriodVisitor;

        impl Visitor<'_> for PeriodVisitor {
            type Value = Period;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a length of time such as `5s`, `10m` or a number of seconds")
            }

            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Period, E> {
                Period::checked(Duration::from_secs(seconds)).map_err(E::custom)
            }

            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Period, E> {
                let seconds = u64::try_from(seconds)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(seconds), &self))?;
                self.visit_u64(seconds)
            }

            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<Period, E> {
                Period::from_seconds(seconds).map_err(E::custom)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Period, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(PeriodVisitor)
    }
}

/// A secret of the configuration; nothing shows it but [`Secret::expose`].
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(SecretString::from(secret.into()))
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl FromStr for Secret {
    type Err = String;

    /// Refuses [`HIDDEN`]: taken over from a shown configuration, it would be a secret that everyone knows.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == HIDDEN {
            return Err(format!("`{HIDDEN}` stands where a secret was hidden; put in the secret itself"));
        }
        Ok(Self::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HIDDEN)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
    }
}

impl Eq for Secret {}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The base address of a service: `http` or `https`, with a host, without a slash at its end.
///
/// Who calls and what the query has are hidden wherever the address is shown: either may be a secret, and neither is needed to know which
/// address is meant.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// The whole address, also secrets in it; for the client that calls it, and never for a log, an error or an answer.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An address on this machine, for defaults.
    pub(super) fn local(port: u16, path: &str) -> Self {
        Self(format!("http://127.0.0.1:{port}{path}"))
    }

    /// The same address on another port.
    pub fn with_port(&self, port: u16) -> Result<Self, String> {
        let (scheme, rest) = self.0.split_once("://").ok_or("an address without a scheme")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host_end = match (authority.rfind(':'), authority.rfind([']', '@'])) {
            (Some(colon), bracket) if bracket.is_none_or(|bracket| colon > bracket) => colon,
            _ => authority.len(),
        };
        format!("{scheme}://{}:{port}{path}", &authority[..host_end]).parse()
    }
}

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_end_matches('/');
        let refused = || format!("`{}` is not an address like `http://host:9090`", shown_address(text));
        let hidden = [
            format!("{PART_HIDDEN}@"),
            format!("={PART_HIDDEN}"),
            format!("?{PART_HIDDEN}"),
            format!("&{PART_HIDDEN}"),
        ];
        if hidden.iter().any(|hidden| text.contains(hidden)) {
            return Err(format!(
                "`{PART_HIDDEN}` stands where a secret was hidden; put in the secret itself"
            ));
        }
        let uri: http::Uri = text.parse().map_err(|_| refused())?;
        let known_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        if known_scheme && has_host && uri.authority().is_some_and(has_sound_port) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refused())
        }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&shown_address(&self.0))
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for BaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A port that there can be, or none; the reader of addresses takes any text for one.
fn has_sound_port(authority: &http::uri::Authority) -> bool {
    let place = authority.as_str().rsplit('@').next().unwrap_or_default();
    place.len() == authority.host().len() || authority.port_u16().is_some()
}

/// An address, or what should have been one, without what may be a secret in it. Better too little is shown: what stands before an `@`
/// is a user, even where a slash in a password makes it look like a path.
pub fn shown_address(url: &str) -> String {
    let (url, fragment) = url.split_once('#').map_or((url, ""), |(url, _)| (url, "#***"));
    let (place, query) = url.split_once('?').map_or((url, None), |(place, query)| (place, Some(query)));
    let (scheme, rest) = place.split_once("://").map_or(("", place), |(scheme, rest)| (scheme, rest));
    let separator = if scheme.is_empty() { "" } else { "://" };
    let rest = match rest.rsplit_once('@') {
        Some((_, host)) => format!("{PART_HIDDEN}@{host}"),
        None => rest.to_owned(),
    };
    let hidden = |pair: &str| match pair.split_once('=') {
        Some((name, _)) => format!("{name}={PART_HIDDEN}"),
        None => PART_HIDDEN.to_owned(),
    };
    let query = query.map(|query| query.split('&').map(hidden).collect::<Vec<_>>().join("&"));
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    format!("{scheme}{separator}{rest}{query}{fragment}")
}

/// An address to listen on: `127.0.0.1:5000`, `[::1]:5000`, `localhost:5000`.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric
        .parse()
        .map_err(|_| format!("`{text}` is not an address to listen on; write it like `127.0.0.1:5000`"))
}

/// Reads a listen address in the configuration; for `#[serde(deserialize_with)]`.
pub(super) fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse_listen(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Reads names of hosts; for `#[serde(deserialize_with)]`.
pub(super) fn hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| quell_web::host_name(name)).collect::<Result<_, _>>().map_err(D::Error::custom)
}

/// Reads an optional value where an empty text means that it is not set, as `${NAME:-}` gives; for
/// `#[serde(deserialize_with)]`.
pub(super) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    match Option::<String>::deserialize(deserializer)? {
        Some(text) if !text.trim().is_empty() => text.parse().map(Some).map_err(D::Error::custom),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_in_every_usual_form() {
        for (text, seconds) in [
            ("5s", 5.0),
            ("10m", 600.0),
            ("1h 30m", 5400.0),
            ("300", 300.0),
            ("0.5", 0.5),
            ("250ms", 0.25),
            ("1d", 86400.0),
        ] {
            assert_eq!(
                text.parse::<Period>().map(|period| period.get().as_secs_f64()),
                Ok(seconds),
                "{text}"
            );
        }
        for text in ["", "soon", "-5s", "-5", "1 month", "366d", "NaN", "5 bananas"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
        assert_eq!(Period::seconds(90).to_string(), "1m 30s");
    }

    #[test]
    fn a_shown_period_reads_back() {
        for milliseconds in [0, 1, 999, 1_000, 61_500, 86_400_000] {
            let period = Period::milliseconds(milliseconds);
            assert_eq!(period.to_string().parse(), Ok(period));
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), HIDDEN);
        assert_eq!(serde_json::to_string(&secret).unwrap(), r#""<hidden>""#);
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(secret, Secret::new("hunter2"));
        assert_ne!(secret, Secret::new("hunter3"));
    }

    #[test]
    fn base_urls_are_checked_and_hide_passwords() {
        let url: BaseUrl = "https://me:hunter2@prometheus:9090/base/".parse().unwrap();
        assert_eq!(url.as_str(), "https://me:hunter2@prometheus:9090/base");
        assert_eq!(url.to_string(), "https://***@prometheus:9090/base");
        for text in [
            "",
            "prometheus:9090",
            "ftp://host",
            "http://",
            "http:// host",
            "/path",
            "http://host:99999",
            "http://host:",
        ] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text}");
        }
        assert!(url.to_string().parse::<BaseUrl>().unwrap_err().contains("put in the secret itself"));
    }

    #[test]
    fn no_part_of_an_address_that_may_be_a_secret_is_shown() {
        for (text, expected) in [
            ("http://hunter2@host:1/a", "http://***@host:1/a"),
            ("http://me:hunter2@host:1?token=hunter2&page=hunter2", "http://***@host:1?token=***&page=***"),
            ("https://host/a?hunter2", "https://host/a?***"),
            ("http://[::1]:9090/a", "http://[::1]:9090/a"),
        ] {
            let url: BaseUrl = text.parse().unwrap();
            let json = serde_json::to_string(&url).unwrap();
            assert_eq!(
                (url.to_string(), format!("{url:?}"), json),
                (expected.into(), expected.into(), format!("{expected:?}"))
            );
            assert_eq!(url.as_str(), text);
            assert_eq!(url.to_string().parse::<BaseUrl>().is_err(), expected.contains("***"));
        }
        for text in [
            "http://a:hunter2@ x",
            "me:hunter2@host",
            "ftp://me:hunter2@host/?key=hunter2",
            "http://me:hun/ter2@host:x",
            "//me:hunter2@host",
            "http://host:99999/?sig=hunter2",
        ] {
            let error = text.parse::<BaseUrl>().unwrap_err();
            assert!(!error.contains("hunter2") && !error.contains("ter2"), "{error}");
        }
    }

    #[test]
    fn a_port_can_be_exchanged() {
        for (before, after) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:9000"),
            ("http://host/metrics", "http://host:9000/metrics"),
            ("http://[::1]/m", "http://[::1]:9000/m"),
            ("http://a:b@host/m", "http://a:b@host:9000/m"),
        ] {
            assert_eq!(before.parse::<BaseUrl>().unwrap().with_port(9000).unwrap().as_str(), after);
        }
    }

    #[test]
    fn listen_addresses_take_localhost() {
        assert_eq!(parse_listen("localhost:5000").unwrap().to_string(), "127.0.0.1:5000");
        assert_eq!(parse_listen("[::1]:5000").unwrap().to_string(), "[::1]:5000");
        assert!(parse_listen("5000").is_err());
    }
}
