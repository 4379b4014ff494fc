//! Whether the checks of a plan hold, from samples alone. No data never passes.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use quell_incident::contract::{CheckResult, Verdict, VerificationReport, VerifyRequest};
use quell_incident::evidence::{MetricQuery, Point, Series, SeriesSet};
use quell_incident::plan::{Check, Comparison, Reduce};
use quell_tool::{CallContext, ReadRegistry};

/// The schema of a verification report.
pub const VERIFICATION_SCHEMA: &str = "quell/verification/v1";
/// The read tool that gives samples.
pub const QUERY_METRICS: &str = "query-metrics";
/// Older samples say nothing of the present: a dead exporter is not a healthy service.
pub const SAMPLE_AGE_MAX: SignedDuration = SignedDuration::from_secs(120);
/// How far before now series are looked for that have vanished since.
const LOOK_BACK_MAX: SignedDuration = SignedDuration::from_mins(10);
/// Clocks may differ by this much, and a sample may be taken because it was asked for.
const SAMPLE_AHEAD_MAX: SignedDuration = SignedDuration::from_secs(5);
/// How long one query may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// Checks read per request at the most.
const CHECKS_MAX: usize = 100;

/// The first instant whose samples count.
fn window_start(since: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let newest = now.checked_sub(SAMPLE_AGE_MAX).unwrap_or(Timestamp::MIN);
    since.map_or(newest, |since| since.max(newest))
}

/// The first instant that is asked for: earlier than that whose samples count, so that a series that has vanished is missed.
fn query_start(since: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let earlier = |at: Timestamp, by| at.checked_sub(by).unwrap_or(Timestamp::MIN);
    let first = earlier(since.unwrap_or_else(|| window_start(None, now)).min(now), SAMPLE_AGE_MAX);
    // Never later than a window before the one that counts, never so early that the answer would be cut.
    first.max(earlier(now, LOOK_BACK_MAX))
}

/// The last instant whose samples count.
fn window_end(now: Timestamp) -> Timestamp {
    now.checked_add(SAMPLE_AHEAD_MAX).unwrap_or(Timestamp::MAX)
}

/// Reads the checks at `now`.
pub async fn verify(request: &VerifyRequest, tools: &ReadRegistry, now: Timestamp) -> VerificationReport {
    let mut checks = Vec::new();
    for check in request.checks.iter().take(CHECKS_MAX) {
        checks.push(read_check(check, request, tools, now).await);
    }
    let is_whole = !checks.is_empty() && checks.len() == request.checks.len();
    let verdict = if checks.iter().any(|check| check.verdict == Verdict::Failed) {
        Verdict::Failed
    } else if is_whole && checks.iter().all(|check| check.verdict == Verdict::Passed) {
        Verdict::Passed
    } else {
        Verdict::Inconclusive
    };
    VerificationReport { schema: VERIFICATION_SCHEMA.to_owned(), verdict, checks, read_at: now }
}

async fn read_check(
    check: &Check,
    request: &VerifyRequest,
    tools: &ReadRegistry,
    now: Timestamp,
) -> CheckResult {
    let from = query_start(request.since, now);
    let incident = request.incident_id.to_string();
    let read = async |metric: &str| -> Result<SeriesSet, String> {
        let labels = check.labels.clone();
        let query = MetricQuery { metric: metric.to_owned(), labels, from, to: window_end(now) };
        let input = serde_json::to_value(query).map_err(|error| error.to_string())?;
        let context = CallContext::within(QUERY_TIMEOUT).for_incident(incident.clone());
        let answer = tools.call(QUERY_METRICS, input, &context).await.map_err(|error| error.to_string())?;
        let set: SeriesSet = serde_json::from_value(answer).map_err(|error| error.to_string())?;
        if set.truncated {
            return Err(format!("the answer for `{metric}` was cut; name more labels"));
        }
        Ok(set)
    };
    let main = match read(&check.metric).await {
        Ok(set) => set,
        Err(why) => return inconclusive(check, why, check.metric.clone()),
    };
    let divisor = match &check.divide_by {
        Some(metric) => match read(metric).await {
            Ok(set) => Some(set),
            Err(why) => return inconclusive(check, why, main.query),
        },
        None => None,
    };
    let series = divisor.as_ref().map(|set| set.series.as_slice());
    let mut result = evaluate(check, &main.series, series, request.since, now);
    result.query = match &divisor {
        Some(divisor) => format!("{} / {}", main.query, divisor.query),
        None => main.query,
    };
    result
}

/// One check against samples, at `now`. Samples from before `since`, or older than two minutes, prove nothing. Of several series the
/// one that is furthest from holding decides; with one that was there before and has no sample now, none passes.
pub fn evaluate(
    check: &Check,
    series: &[Series],
    divide_by: Option<&[Series]>,
    since: Option<Timestamp>,
    now: Timestamp,
) -> CheckResult {
    let from = window_start(since, now);
    let (read, vanished) = present(series, from, now);
    if read.is_empty() {
        let why = match since {
            Some(since) => format!("no sample of `{}` since {since} in the last two minutes", check.metric),
            None => format!("no sample of `{}` in the last two minutes", check.metric),
        };
        return inconclusive(check, why, String::new());
    }
    let (divisors, vanished_divisors) = present(divide_by.unwrap_or_default(), from, now);
    let vanished = vanished + vanished_divisors;
    let mut numbers = match check.reduce {
        Reduce::Last => Numbers::of(read.iter().map(|read| read.newest())),
        Reduce::Rate => Numbers::of(read.iter().map(|read| read.rate())),
        Reduce::SecondsUntil => {
            let now = seconds(now);
            Numbers::of(read.iter().map(|read| read.newest().map(|then| then - now)))
        }
        Reduce::RatioTo => Numbers::of(read.iter().map(|read| read.ratio(&divisors))),
        Reduce::Sum => Numbers::of([sum(&read)].into_iter()),
        Reduce::SumRatioTo => {
            let ratio = match (sum(&read), sum(&divisors)) {
                (Some(above), Some(below)) if below != 0.0 && !divisors.is_empty() => Some(above / below),
                _ => None,
            };
            Numbers::of([ratio].into_iter())
        }
    };
    numbers.missing += vanished;
    let mut result = judge(check, &numbers);
    // A sum without one of its parts is another number, and says neither.
    if vanished > 0 && matches!(check.reduce, Reduce::Sum | Reduce::SumRatioTo) {
        result.verdict = Verdict::Inconclusive;
    }
    if vanished > 0 {
        result.statement.push_str(&format!("; {vanished} series that were there have no sample any more"));
    }
    result
}

/// The series that have samples that count, and how many have only others.
fn present(series: &[Series], from: Timestamp, now: Timestamp) -> (Vec<Read<'_>>, usize) {
    let known = series.iter().filter(|series| !series.points.is_empty());
    let (present, vanished): (Vec<_>, Vec<_>) = known
        .map(|series| Read { labels: series, points: fresh(series, from, now) })
        .partition(|read| !read.points.is_empty());
    (present, vanished.len())
}

fn judge(check: &Check, numbers: &Numbers) -> CheckResult {
    let Some(worst) = numbers.worst(check.holds_if) else {
        let why = match check.reduce {
            Reduce::Rate => format!("a rate of `{}` needs two samples, there is one so far", check.metric),
            Reduce::RatioTo | Reduce::SumRatioTo => {
                let divisor = check.divide_by.as_deref().unwrap_or("the metric to divide by");
                format!("`{divisor}` has no sample to divide by, or is zero")
            }
            _ => format!("`{}` has no number", check.metric),
        };
        return inconclusive(check, why, String::new());
    };
    let (bound, metric) = (check.value, &check.metric);
    let sign = match check.holds_if {
        Comparison::Less => "<",
        Comparison::AtMost => "<=",
        Comparison::Greater => ">",
        Comparison::AtLeast => ">=",
    };
    let what = match check.reduce {
        Reduce::Last => format!("the newest `{metric}`"),
        Reduce::Rate => format!("the rate of `{metric}` per second"),
        Reduce::SecondsUntil => format!("the seconds until `{metric}`"),
        Reduce::Sum => format!("the sum of `{metric}`"),
        Reduce::RatioTo | Reduce::SumRatioTo => {
            format!("`{metric}` by `{}`", check.divide_by.as_deref().unwrap_or("?"))
        }
    };
    let holds = check.holds_if.holds(worst, bound);
    let verdict = match (holds, numbers.missing) {
        (false, _) => Verdict::Failed,
        (true, 0) => Verdict::Passed,
        (true, _) => Verdict::Inconclusive,
    };
    let mut statement = format!("{what} is {worst:.6}, wanted {sign} {bound}");
    if verdict == Verdict::Inconclusive {
        statement.push_str(&format!("; {} of its series have too few samples", numbers.missing));
    }
    CheckResult { name: check.name.clone(), verdict, value: Some(worst), statement, query: String::new() }
}

fn inconclusive(check: &Check, statement: String, query: String) -> CheckResult {
    CheckResult { name: check.name.clone(), verdict: Verdict::Inconclusive, value: None, statement, query }
}

/// One series with the samples that count.
struct Read<'a> {
    labels: &'a Series,
    points: Vec<Point>,
}

impl Read<'_> {
    fn newest(&self) -> Option<f64> {
        self.points.last().map(|point| point.value)
    }

    /// A counter's increase per second; where it falls it began anew from zero.
    fn rate(&self) -> Option<f64> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        let elapsed = last.at.duration_since(first.at).as_secs_f64();
        if elapsed <= 0.0 {
            return None;
        }
        let steps = self.points.windows(2).map(|pair| match pair {
            [before, after] if after.value >= before.value => after.value - before.value,
            [_, after] => after.value,
            _ => 0.0,
        });
        Some(steps.sum::<f64>() / elapsed)
    }

    /// The newest sample by that of the divisor with the same labels, or of the only divisor there is.
    fn ratio(&self, divisors: &[Read<'_>]) -> Option<f64> {
        let same = divisors.iter().find(|divisor| divisor.labels.labels == self.labels.labels);
        let only = if divisors.len() == 1 { divisors.first() } else { None };
        let below = same.or(only)?.newest().filter(|below| *below != 0.0)?;
        Some(self.newest()? / below)
    }
}

/// The numbers that could be had, and how many could not.
struct Numbers {
    found: Vec<f64>,
    missing: usize,
}

impl Numbers {
    fn of(numbers: impl Iterator<Item = Option<f64>>) -> Self {
        let mut all = Self { found: Vec::new(), missing: 0 };
        for number in numbers {
            match number.filter(|number| number.is_finite()) {
                Some(number) => all.found.push(number),
                None => all.missing += 1,
            }
        }
        all
    }

    /// The number that is furthest from holding.
    fn worst(&self, comparison: Comparison) -> Option<f64> {
        let numbers = self.found.iter().copied();
        match comparison {
            Comparison::Less | Comparison::AtMost => numbers.max_by(f64::total_cmp),
            Comparison::Greater | Comparison::AtLeast => numbers.min_by(f64::total_cmp),
        }
    }
}

fn sum(read: &[Read<'_>]) -> Option<f64> {
    if read.is_empty() { None } else { read.iter().map(Read::newest).sum() }
}

/// The samples from `from` until just after `now` in the order of time, each instant once.
fn fresh(series: &Series, from: Timestamp, now: Timestamp) -> Vec<Point> {
    let counted = series.points.iter().filter(|point| point.at >= from && point.at <= window_end(now));
    let by_time: BTreeMap<Timestamp, Point> =
        counted.filter(|point| point.value.is_finite()).map(|point| (point.at, *point)).collect();
    by_time.into_values().collect()
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
