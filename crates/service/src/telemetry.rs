//! The log: lines for people where a terminal is, JSON elsewhere, always to standard error.

use std::io::{self, IsTerminal, Write};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::Environment;
use crate::exit::{Exit, Failure};

const FILTER_DEFAULT: &str = "info";

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object per line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// A level, or directives such as `info,quell_store=debug`.
    pub filter: String,
    /// The form.
    pub format: LogFormat,
    /// Colours, in the form for people.
    pub is_coloured: bool,
}

/// Why logging could not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error(
        "`{filter}` is not a log level: {why}; set `--log-level` or QUELL_LOG to error, warn, info, debug or trace"
    )]
    Filter {
        /// The filter as it was given.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// The form is not known.
    #[error("QUELL_LOG_FORMAT is `{format}`; accepted are human and json")]
    Format {
        /// The form as it was given.
        format: String,
    },
    /// Another log was begun in this process before.
    #[error("logging was set up twice in one process")]
    Twice,
}

impl Failure for TelemetryError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl LogOptions {
    /// From flags, then the environment (`QUELL_LOG`, `QUELL_LOG_FORMAT`, `NO_COLOR`), then by whether standard error is a
    /// terminal.
    pub fn resolve(
        level: Option<&str>,
        format: Option<LogFormat>,
        environment: &Environment,
    ) -> Result<Self, TelemetryError> {
        let is_terminal = std::io::stderr().is_terminal();
        let filter = level.or_else(|| environment.get("QUELL_LOG")).unwrap_or(FILTER_DEFAULT).to_owned();
        let format = match (format, environment.get("QUELL_LOG_FORMAT")) {
            (Some(format), _) => format,
            (None, Some(text)) => <LogFormat as clap::ValueEnum>::from_str(text, true)
                .map_err(|_| TelemetryError::Format { format: text.to_owned() })?,
            (None, None) if is_terminal => LogFormat::Human,
            (None, None) => LogFormat::Json,
        };
        Ok(Self { filter, format, is_coloured: is_terminal && environment.get("NO_COLOR").is_none() })
    }

    /// A subscriber that writes to `writer`.
    pub fn subscriber<W>(&self, writer: W) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let filter = EnvFilter::try_new(&self.filter).map_err(|error| TelemetryError::Filter {
            filter: self.filter.clone(),
            why: error.to_string(),
        })?;
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(OneLine { writer, format: self.format });
        Ok(match self.format {
            LogFormat::Human => Box::new(lines.with_ansi(self.is_coloured).finish()),
            LogFormat::Json => Box::new(
                lines.json().flatten_event(true).with_current_span(true).with_span_list(false).finish(),
            ),
        })
    }

    /// Begins logging to standard error, for the whole process; once, from `main`.
    pub fn install(&self) -> Result<(), TelemetryError> {
        let subscriber = self.subscriber(std::io::stderr)?;
        tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Twice)
    }
}

/// Makes writers that keep an event on one line, whatever telemetry wrote into it: a line end in a title would forge a line, and what a
/// terminal obeys or nobody sees would hide one.
struct OneLine<W> {
    writer: W,
    format: LogFormat,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLine<W> {
    type Writer = OneLineWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLineWriter { writer: self.writer.make_writer(), format: self.format }
    }

    fn make_writer_for(&'a self, metadata: &tracing::Metadata<'_>) -> Self::Writer {
        OneLineWriter { writer: self.writer.make_writer_for(metadata), format: self.format }
    }
}

/// Writes events, each of which comes as a whole.
struct OneLineWriter<W> {
    writer: W,
    format: LogFormat,
}

impl<W: Write> Write for OneLineWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.writer.write_all(one_line(event, self.format).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// An event in which whatever cannot be seen is written as an escape, but for the line end behind it and our own colours.
fn one_line(event: &[u8], format: LogFormat) -> String {
    let text = String::from_utf8_lossy(event);
    let (text, end) = match text.strip_suffix('\n') {
        Some(text) => (text, "\n"),
        None => (&*text, ""),
    };
    let mut line = String::with_capacity(text.len() + 1);
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character == '\u{1b}'
            && format == LogFormat::Human
            && let Some(colour) = colour(rest.as_str())
        {
            line.push(character);
            line.push_str(colour);
            rest = rest.as_str().get(colour.len()..).unwrap_or_default().chars();
            continue;
        }
        match (is_seen(character), format) {
            (true, _) => line.push(character),
            (false, LogFormat::Human) => line.extend(character.escape_unicode()),
            // Beyond the first plane JSON has two halves.
            (false, LogFormat::Json) => character
                .encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|half| line.push_str(&format!("\\u{half:04x}"))),
        }
    }
    line.push_str(end);
    line
}

/// The rest of a sequence that sets a colour and nothing else.
fn colour(rest: &str) -> Option<&str> {
    let end = rest.find('m')?;
    let inside = rest.get(..end)?.strip_prefix('[')?;
    inside.bytes().all(|byte| byte.is_ascii_digit() || byte == b';').then(|| rest.get(..=end)).flatten()
}

/// By what the standard library escapes behind a letter, where a combining mark is seen; selectors of variants and tags are not.
fn is_seen(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    let is_hidden = matches!(character, '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}');
    !is_hidden && ['a', character].iter().collect::<String>().escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(options: &LogOptions, log: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        tracing::subscriber::with_default(options.subscriber(move || writer.clone()).unwrap(), log);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn options(format: LogFormat) -> LogOptions {
        LogOptions { filter: "info".to_owned(), format, is_coloured: false }
    }

    #[test]
    fn json_lines_carry_the_fields() {
        let text = logged(&options(LogFormat::Json), || tracing::info!(incident = "i-1", "opened"));
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["incident"]),
            (&"INFO".into(), &"opened".into(), &"i-1".into())
        );
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')));
    }

    #[test]
    fn lines_for_people_are_filtered_by_level() {
        let text = logged(&options(LogFormat::Human), || {
            tracing::debug!("hidden");
            tracing::warn!(port = 5000, "shown");
        });
        assert!(text.contains("WARN") && text.contains("shown port=5000"), "{text}");
        assert!(!text.contains("hidden") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn an_event_is_one_line_whatever_telemetry_wrote() {
        let hostile = "disk\r\n2026-01-01T00:00:00Z INFO forged\u{2028}x\u{202e}y\u{ad}z\u{e0041}\u{9b}31m\u{1b}]0;owned\u{7}\u{85}";
        for format in [LogFormat::Human, LogFormat::Json] {
            for is_coloured in [false, true] {
                let options = LogOptions { is_coloured, ..options(format) };
                let text = logged(&options, || tracing::warn!(title = %hostile, "opened {hostile}"));
                assert_eq!(text.lines().count(), 1, "{text:?}");
                let line = text.strip_suffix('\n').unwrap();
                let only_ours = |text: &str| text.replace("\u{1b}[", "").chars().all(is_seen);
                assert!(only_ours(line), "{line:?}");
                if format == LogFormat::Json {
                    let line: serde_json::Value = serde_json::from_str(line).unwrap();
                    assert_eq!(line["title"], hostile, "the text itself is kept");
                }
            }
        }
        let text = logged(&options(LogFormat::Human), || tracing::warn!("größer 日本 e\u{301} \"quoted\""));
        assert!(text.contains("größer 日本 e\u{301} \"quoted\""), "{text}");
    }

    #[test]
    fn flags_come_before_the_environment() {
        let environment = Environment::of([("QUELL_LOG", "debug"), ("QUELL_LOG_FORMAT", "JSON")]);
        let by_environment = LogOptions::resolve(None, None, &environment).unwrap();
        assert_eq!((by_environment.filter.as_str(), by_environment.format), ("debug", LogFormat::Json));
        let by_flags = LogOptions::resolve(Some("warn"), Some(LogFormat::Human), &environment).unwrap();
        assert_eq!((by_flags.filter.as_str(), by_flags.format), ("warn", LogFormat::Human));
        assert_eq!(LogOptions::resolve(None, None, &Environment::default()).unwrap().filter, "info");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let environment = Environment::of([("QUELL_LOG_FORMAT", "xml")]);
        let error = LogOptions::resolve(None, None, &environment).unwrap_err();
        assert_eq!(error.to_string(), "QUELL_LOG_FORMAT is `xml`; accepted are human and json");
        let options = LogOptions { filter: "quell=loud".to_owned(), ..options(LogFormat::Json) };
        let error = options.subscriber(std::io::sink).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("`quell=loud` is not a log level: "), "{error}");
    }
}
