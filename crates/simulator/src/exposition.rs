//! The Prometheus text format, version 0.0.4.
//!
//! Written here because a client library counts for itself, while these counters belong to the world.

use std::fmt::Write as _;

use crate::world::{Family, FamilyKind};

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn render(families: &[Family]) -> String {
    let mut text = String::with_capacity(4096);
    for family in families {
        let kind = match family.kind {
            FamilyKind::Counter => "counter",
            FamilyKind::Gauge => "gauge",
            FamilyKind::Summary => "summary",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {0} {1}\n# TYPE {0} {2}", family.name, family.help, kind);
        for sample in &family.samples {
            text.push_str(family.name);
            text.push_str(sample.suffix);
            for (position, (name, value)) in sample.labels.iter().enumerate() {
                let opening = if position == 0 { '{' } else { ',' };
                let _ = write!(text, "{opening}{name}=\"{}\"", escaped(value));
            }
            if !sample.labels.is_empty() {
                text.push('}');
            }
            let _ = writeln!(text, " {}", sample.value);
        }
    }
    text
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Sample;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let sample = |suffix, labels: &[(&'static str, &'static str)], value| Sample {
            suffix,
            labels: labels.to_vec(),
            value,
        };
        let families = [
            Family {
                name: "requests_total",
                help: "Requests.",
                kind: FamilyKind::Counter,
                samples: vec![sample("", &[("path", "a\"b\\c\nd"), ("status", "200")], 5e12)],
            },
            Family {
                name: "seconds",
                help: "Durations.",
                kind: FamilyKind::Summary,
                samples: vec![sample("", &[("quantile", "0.5")], 0.25), sample("_count", &[], 3.0)],
            },
        ];
        let expected = "# HELP requests_total Requests.\n# TYPE requests_total counter\n\
            requests_total{path=\"a\\\"b\\\\c\\nd\",status=\"200\"} 5000000000000\n\
            # HELP seconds Durations.\n# TYPE seconds summary\n\
            seconds{quantile=\"0.5\"} 0.25\nseconds_count 3\n";
        assert_eq!(render(&families), expected);
    }
}
