//! The log: lines for people where a terminal is, JSON elsewhere, always to standard error.

use std::io::IsTerminal;

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
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
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

#[cfg(test)]
mod tests {
    use std::io::Write;
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
