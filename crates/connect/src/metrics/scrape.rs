//! Exporters read directly, without a Prometheus: a background poller keeps a bounded history of every series.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use quell_incident::evidence::{MetricQuery, POINTS_MAX, Point, Series, SeriesSet};
use quell_tool::CallContext;
use reqwest::{Client, Url};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::exposition::{Sample, parse};
use super::{MetricSource, SERIES_MAX, check, selector};
use crate::http::{answered, fetch, shown};
use crate::source::{Now, SourceError};

/// Two queries within this time share one scrape.
const SHARED_WITHIN: Duration = Duration::from_millis(200);
/// Scrapes in one interval that the history has room for, that of the poller and those of questions.
const SCRAPES_PER_INTERVAL: u128 = 4;
/// A series is missing from its page when it was not on it for this many intervals.
const MISSED_INTERVALS: u32 = 3;

/// How exporters are scraped.
#[derive(Clone, Debug)]
pub struct ScrapeOptions {
    /// The metrics pages.
    pub urls: Vec<String>,
    /// Time between two scrapes.
    pub interval: Duration,
    /// How much is kept; never more than [`POINTS_MAX`] points of a series.
    pub history: Duration,
    /// A page at the most, in bytes.
    pub body_bytes_max: usize,
    /// Series kept at the most, of all pages together.
    pub series_max: usize,
    /// How long one page may take.
    pub page_timeout: Duration,
}

impl ScrapeOptions {
    /// The defaults: every 5 s, 15 min, 8 MiB, 10,000 series, 5 s.
    pub fn new(urls: Vec<String>) -> Self {
        Self {
            urls,
            interval: Duration::from_secs(5),
            history: Duration::from_secs(15 * 60),
            body_bytes_max: 8 << 20,
            series_max: 10_000,
            page_timeout: Duration::from_secs(5),
        }
    }
}

/// Exporters that are scraped in the background, and once more whenever they are asked for. Dropping it ends the poller.
pub struct ScrapeSource {
    pages: Arc<Pages>,
    poller: JoinHandle<()>,
}

struct Pages {
    client: Client,
    urls: Vec<Url>,
    options: ScrapeOptions,
    now: Now,
    points_max: usize,
    /// Held during a scrape, so that two of them do not overlap; when the last one ended.
    scraped: tokio::sync::Mutex<Option<Instant>>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    series: BTreeMap<(String, Vec<(String, String)>), Ring>,
    /// By page: why the last scrape failed.
    faults: Vec<Option<String>>,
    truncated: bool,
}

struct Ring {
    page: usize,
    points: VecDeque<Point>,
}

impl Drop for ScrapeSource {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

impl ScrapeSource {
    /// Begins to scrape; has to be called in a runtime.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] when an address is none, or an interval is zero.
    pub fn start(client: Client, now: Now, options: ScrapeOptions) -> Result<Self, SourceError> {
        let invalid = |why: String| SourceError::Invalid { why };
        if options.interval.is_zero() || options.history < options.interval {
            return Err(invalid("the scrape interval must be over zero and within the history".to_owned()));
        }
        let urls = options
            .urls
            .iter()
            .map(|url| match Url::parse(url) {
                Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => Ok(parsed),
                Ok(parsed) => Err(invalid(format!("`{}` is not an http or https address", shown(&parsed)))),
                Err(error) => Err(invalid(format!("one of them is not an address: {error}"))),
            })
            .collect::<Result<Vec<Url>, SourceError>>()?;
        let intervals = options.history.as_millis() / options.interval.as_millis().max(1) + 2;
        // Questions scrape as well, and must not push the history out.
        let points = intervals.saturating_mul(SCRAPES_PER_INTERVAL);
        let points_max = usize::try_from(points).unwrap_or(POINTS_MAX).min(POINTS_MAX);
        let kept = Kept { faults: vec![None; urls.len()], ..Kept::default() };
        let pages = Arc::new(Pages {
            client,
            urls,
            options,
            now,
            points_max,
            scraped: tokio::sync::Mutex::new(None),
            kept: Mutex::new(kept),
        });
        let poller = tokio::spawn(poll(Arc::clone(&pages)));
        Ok(Self { pages, poller })
    }
}

async fn poll(pages: Arc<Pages>) {
    let mut interval = tokio::time::interval(pages.options.interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        pages.scrape(Duration::ZERO).await;
    }
}

impl Pages {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing is left half done where a panic could happen.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Scrapes every page, unless that was done within `shared_within`.
    async fn scrape(&self, shared_within: Duration) {
        let mut scraped = self.scraped.lock().await;
        if scraped.is_some_and(|at| at.elapsed() < shared_within) {
            return;
        }
        let pages = join_all(self.urls.iter().map(|url| self.page(url))).await;
        let at = (self.now)();
        {
            let mut kept = self.kept();
            // What was too much once need not be so for ever.
            kept.truncated = false;
            for (page, result) in pages.into_iter().enumerate() {
                let fault = match result {
                    Ok((samples, truncated)) => {
                        kept.truncated |= truncated;
                        self.keep(&mut kept, page, samples, at);
                        None
                    }
                    Err(error) => Some(error.to_string()),
                };
                if let Some(known) = kept.faults.get_mut(page) {
                    if known.is_none()
                        && let Some(why) = &fault
                    {
                        tracing::warn!(page, why, "cannot scrape metrics");
                    }
                    *known = fault;
                }
            }
            let oldest = self.oldest(at);
            kept.series.retain(|_, ring| {
                while ring.points.front().is_some_and(|point| point.at < oldest) {
                    ring.points.pop_front();
                }
                !ring.points.is_empty()
            });
        }
        *scraped = Some(Instant::now());
    }

    fn oldest(&self, now: Timestamp) -> Timestamp {
        let history = SignedDuration::try_from(self.options.history).unwrap_or(SignedDuration::MAX);
        now.checked_sub(history).unwrap_or(Timestamp::MIN)
    }

    async fn page(&self, url: &Url) -> Result<(Vec<Sample>, bool), SourceError> {
        let request = self.client.get(url.clone());
        let (status, body) = fetch(request, self.options.body_bytes_max, self.options.page_timeout).await?;
        if !status.is_success() {
            return Err(answered(status, &body));
        }
        let malformed = |why: String| SourceError::Malformed { why };
        let text = String::from_utf8(body).map_err(|_| malformed("the page is not UTF-8".to_owned()))?;
        let page = parse(&text, self.options.series_max).map_err(|error| malformed(error.to_string()))?;
        Ok((page.samples, page.truncated))
    }

    fn keep(&self, kept: &mut Kept, page: usize, samples: Vec<Sample>, at: Timestamp) {
        for sample in samples {
            if !sample.value.is_finite() {
                continue;
            }
            let mut labels = sample.labels;
            labels.sort();
            let key = (sample.metric, labels);
            if kept.series.len() >= self.options.series_max && !kept.series.contains_key(&key) {
                kept.truncated = true;
                continue;
            }
            let ring = kept.series.entry(key).or_insert_with(|| Ring { page, points: VecDeque::new() });
            ring.page = page;
            let point = Point { at: sample.at.unwrap_or(at), value: sample.value };
            // A clock that was set back, or a page that repeats an old timestamp, adds nothing.
            if ring.points.back().is_some_and(|last| last.at >= point.at) {
                continue;
            }
            ring.points.push_back(point);
            if ring.points.len() > self.points_max {
                ring.points.pop_front();
            }
        }
    }

    fn answer(&self, query: &MetricQuery, words: String) -> Result<SeriesSet, SourceError> {
        let kept = self.kept();
        let missed = self.options.interval.saturating_mul(MISSED_INTERVALS) + self.options.page_timeout;
        let missed = SignedDuration::try_from(missed).unwrap_or(SignedDuration::MAX);
        let fresh_from = (self.now)().checked_sub(missed).unwrap_or(Timestamp::MIN);
        let mut set = SeriesSet {
            source: "scrape".to_owned(),
            query: words,
            series: Vec::new(),
            truncated: kept.truncated,
        };
        let mut stale_page = None;
        for ((metric, labels), ring) in kept.series.range((query.metric.clone(), Vec::new())..) {
            if *metric != query.metric {
                break;
            }
            let has = |name: &str, value: quell_incident::Untrusted<'_>| {
                labels.iter().any(|(known, text)| known == name && value.is(text))
            };
            if !query.labels.iter().all(|(name, value)| has(name, value)) {
                continue;
            }
            if set.series.len() >= SERIES_MAX {
                set.truncated = true;
                break;
            }
            if ring.points.back().is_some_and(|last| last.at < fresh_from) {
                stale_page = stale_page.or(Some(ring.page));
            }
            let within = |point: &&Point| point.at >= query.from && point.at <= query.to;
            let points = ring.points.iter().filter(within).copied().collect();
            let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            set.series.push(Series { metric: metric.clone(), labels, points });
        }
        // What is not there may be on the page that cannot be read; then "no series" would be a guess.
        let faulty = |page: usize| kept.faults.get(page).and_then(Option::as_ref).map(|why| (page, why));
        let fault = match stale_page {
            Some(page) => faulty(page),
            None if set.series.is_empty() => (0..kept.faults.len()).find_map(faulty),
            None => None,
        };
        match fault {
            Some((page, why)) => {
                Err(SourceError::Unreachable { what: self.page_name(page), why: why.clone() })
            }
            None => Ok(set),
        }
    }

    fn page_name(&self, page: usize) -> String {
        let host = self.urls.get(page).and_then(|url| Some((url.host_str()?, url.port_or_known_default()?)));
        host.map_or_else(
            || "the metrics page".to_owned(),
            |(host, port)| format!("the metrics page of {host}:{port}"),
        )
    }
}

#[async_trait]
impl MetricSource for ScrapeSource {
    fn name(&self) -> &str {
        "scrape"
    }

    fn words(&self, query: &MetricQuery) -> String {
        selector(query)
    }

    async fn series(&self, query: &MetricQuery, context: &CallContext) -> Result<SeriesSet, SourceError> {
        check(query)?;
        tokio::time::timeout(context.remaining(), self.pages.scrape(SHARED_WITHIN))
            .await
            .map_err(|_elapsed| SourceError::TimedOut)?;
        self.pages.answer(query, self.words(query))
    }

    async fn names(&self, context: &CallContext) -> Result<Option<Arc<BTreeSet<String>>>, SourceError> {
        tokio::time::timeout(context.remaining(), self.pages.scrape(SHARED_WITHIN))
            .await
            .map_err(|_elapsed| SourceError::TimedOut)?;
        let kept = self.pages.kept();
        // A page that cannot be read may have others.
        let fault = kept.faults.iter().enumerate().find_map(|(page, fault)| Some((page, fault.clone()?)));
        match fault {
            Some((page, why)) => Err(SourceError::Unreachable { what: self.pages.page_name(page), why }),
            None => Ok(Some(Arc::new(kept.series.keys().map(|(metric, _)| metric.clone()).collect()))),
        }
    }
}
