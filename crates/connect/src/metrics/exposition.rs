//! The Prometheus text exposition format, version 0.0.4, and of OpenMetrics what it shares with it.
//!
//! A small reader of our own; whether a well-kept crate would do was not looked into.

use jiff::Timestamp;

/// A line at the most, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Labels of one sample at the most.
const LABELS_MAX: usize = 64;

/// One sample of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name, with a suffix such as `_bucket`.
    pub metric: String,
    /// Its labels in the order of the page.
    pub labels: Vec<(String, String)>,
    /// Its value; may be NaN or infinite.
    pub value: f64,
    /// When it was taken, where the page says so.
    pub at: Option<Timestamp>,
}

/// A page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposition {
    /// Its samples.
    pub samples: Vec<Sample>,
    /// Whether there were more than were asked for.
    pub truncated: bool,
}

/// Why a page cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the metrics page: {why}")]
pub struct ExpositionError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Reads a page, at most `samples_max` samples.
///
/// # Errors
/// [`ExpositionError`] for the first line that is no sample and no comment. Then none of the page is used: a page that is
/// broken in one place cannot be trusted in another.
pub fn parse(text: &str, samples_max: usize) -> Result<Exposition, ExpositionError> {
    let mut page = Exposition::default();
    for (index, line) in text.lines().enumerate() {
        let fault = |why| ExpositionError { line: index + 1, why };
        if line.len() > LINE_BYTES_MAX {
            return Err(fault("is too long"));
        }
        let line = line.trim();
        // Comments: HELP, TYPE, UNIT, EOF and anything else after a hash.
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let sample = sample(line).map_err(fault)?;
        if page.samples.len() >= samples_max {
            page.truncated = true;
            break;
        }
        page.samples.push(sample);
    }
    Ok(page)
}

fn sample(line: &str) -> Result<Sample, &'static str> {
    let name_end =
        line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).ok_or("has no value")?;
    let (metric, rest) = line.split_at(name_end);
    if metric.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("does not begin with a metric's name");
    }
    let rest = rest.trim_start();
    let (quoted, labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (None, Vec::new(), rest),
    };
    // Since Prometheus 3 a name of other signs stands in quotes between the braces.
    let metric = match (metric, quoted) {
        ("", Some(name)) => name,
        ("", None) => return Err("does not begin with a metric's name"),
        (_, Some(_)) => return Err("has two names"),
        (name, None) => name.to_owned(),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().ok_or("has no value")?;
    let value: f64 = match value {
        "Nan" => f64::NAN,
        _ => value.parse().map_err(|_| "has a value that is not a number")?,
    };
    // What follows a hash is an exemplar.
    let at = match words.next().filter(|word| *word != "#") {
        Some(word) => Some(instant(word).ok_or("has a timestamp that is none")?),
        None => None,
    };
    Ok(Sample { metric, labels, value, at })
}

/// Milliseconds in the classic format; OpenMetrics has seconds, with a point.
fn instant(word: &str) -> Option<Timestamp> {
    if word.contains('.') {
        let seconds: f64 = word.parse().ok()?;
        return Timestamp::from_millisecond((seconds * 1000.0).round() as i64).ok();
    }
    Timestamp::from_millisecond(word.parse().ok()?).ok()
}

/// The metric's name where it stands among the labels, the labels, and what follows them.
type LabelsAndRest<'a> = (Option<String>, Vec<(String, String)>, &'a str);

fn labels(mut rest: &str) -> Result<LabelsAndRest<'_>, &'static str> {
    let (mut metric, mut labels) = (None, Vec::new());
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((metric, labels, after));
        }
        let (name, after, is_quoted) = name(rest)?;
        let after = after.trim_start();
        rest = match after.strip_prefix('=') {
            Some(after) => {
                if labels.len() >= LABELS_MAX {
                    return Err("has too many labels");
                }
                let inside =
                    after.trim_start().strip_prefix('"').ok_or("has a label value without quotes")?;
                let (value, after) = unquoted(inside).ok_or("has a label value without an end")?;
                labels.push((name, value));
                after.trim_start()
            }
            None if is_quoted && metric.is_none() && labels.is_empty() => {
                metric = Some(name);
                after
            }
            None => return Err("has a label without a value"),
        };
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
        } else if !rest.starts_with('}') {
            return Err("has something between its labels");
        }
    }
}

/// A name between the braces, what follows it, and whether it stands in quotes, as one of other signs has to.
fn name(text: &str) -> Result<(String, &str, bool), &'static str> {
    if let Some(inside) = text.strip_prefix('"') {
        let (name, after) = unquoted(inside).ok_or("has a name without an end")?;
        return if name.is_empty() { Err("has an empty name") } else { Ok((name, after, true)) };
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("has a label that is none");
    }
    Ok((name.to_owned(), after, false))
}

/// The text up to the closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped @ ('"' | '\\') => value.push(escaped),
                // Left as it stands, as Prometheus does.
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_is_read() {
        let text = concat!(
            "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\n",
            "http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n",
            "http_requests_total{method=\"post\",code=\"400\",} 3\r\n",
            "\n",
            "msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"Cannot find file:\\n\\\"FILE.TXT\\\"\"} 1.458255915e9\n",
            "metric_without_timestamp_and_labels 12.47\n",
            "something_weird{problem=\"division by zero\"} +Inf -3982045\n",
            "not_a_number NaN\n",
            "with_braces{text=\"a}b,c=\\\"d\"} 1\n",
            "open_metrics_total 5 1395066363.25 # {trace_id=\"x\"} 0.5\n",
            "# EOF\n",
        );
        let page = parse(text, 100).unwrap();
        assert_eq!(page.samples.len(), 8);
        let first = &page.samples[0];
        assert_eq!(
            first.labels,
            [("method".to_owned(), "post".to_owned()), ("code".to_owned(), "200".to_owned())]
        );
        assert_eq!(first.at.unwrap().as_second(), 1_395_066_363);
        assert_eq!(page.samples[2].labels[1].1, "Cannot find file:\n\"FILE.TXT\"");
        assert_eq!(page.samples[2].labels[0].1, "C:\\DIR\\FILE.TXT");
        assert_eq!(page.samples[4].value, f64::INFINITY);
        assert!(page.samples[5].value.is_nan());
        assert_eq!(page.samples[6].labels[0].1, "a}b,c=\"d");
        assert_eq!(page.samples[7].at.unwrap().as_millisecond(), 1_395_066_363_250);
    }

    #[test]
    fn names_of_any_signs_stand_in_quotes() {
        let page = parse(include_str!("../../tests/fixtures/field-utf8-names.prom"), 100).unwrap();
        let read: Vec<(&str, Vec<(&str, &str)>)> = page
            .samples
            .iter()
            .map(|one| {
                let labels = one.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                (one.metric.as_str(), labels.collect())
            })
            .collect();
        let checkout = ("service.name", "checkout");
        assert_eq!(
            read,
            [
                ("http.server.request.duration", vec![checkout, ("instance", "a")]),
                ("http.server.active_requests", vec![checkout]),
                ("plain_total", vec![checkout]),
                ("s", Vec::new()),
            ]
        );
        assert!(page.samples[1].value.is_nan() && page.samples[3].value.is_nan());
        let page = parse("{\"a \\\"b\\\" {c}, d\",\"e=f\"=\"g\",} 1", 10).unwrap();
        assert_eq!(page.samples[0].metric, "a \"b\" {c}, d");
        assert_eq!(page.samples[0].labels, [("e=f".to_owned(), "g".to_owned())]);
    }

    #[test]
    fn a_broken_page_is_refused_at_its_line() {
        for (text, line) in [
            ("up 1\nup", 2),
            ("up one", 1),
            ("<html>", 1),
            ("{} 1", 1),
            ("1up 1", 1),
            ("up{a=\"b} 1", 1),
            ("up{a=b} 1", 1),
            ("up{a=\"b\" c=\"d\"} 1", 1),
            ("up{a-b=\"c\"} 1", 1),
            ("up{\"a\"} 1", 1),
            ("{\"a\",\"b\"} 1", 1),
            ("{a=\"b\",\"c\"} 1", 1),
            ("{\"\"} 1", 1),
            ("{\"a} 1", 1),
            ("up{} 1 soon", 1),
        ] {
            assert_eq!(parse(text, 10).unwrap_err().line, line, "{text}");
        }
        assert!(parse(&format!("up{{a=\"{}\"}} 1", "x".repeat(LINE_BYTES_MAX)), 10).is_err());
    }

    #[test]
    fn a_page_with_too_many_samples_is_cut() {
        let page = parse("a 1\nb 2\nc 3\n", 2).unwrap();
        assert_eq!((page.samples.len(), page.truncated), (2, true));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_read_or_refused(text in "[a-z{}=\",\\\\ 0-9\n#]{0,80}|.{0,80}") {
            let _ = parse(&text, 10);
        }

        #[test]
        fn any_label_value_comes_back(value in ".{0,40}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            // Carriage returns end a line of the page in some readers and are not escaped by the format.
            prop_assume!(!value.contains('\r'));
            let page = parse(&format!("up{{a=\"{escaped}\"}} 1"), 10).unwrap();
            prop_assert_eq!(&page.samples[0].labels[0].1, &value);
        }
    }
}
