//! Exporters scraped directly.
#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use fake::{Fake, client, context, nowhere, until};
use jiff::Timestamp;
use quell_connect::SourceError;
use quell_connect::metrics::{MetricSource, Now, ScrapeOptions, ScrapeSource};
use quell_incident::evidence::{MetricQuery, SeriesSet};

/// A clock that goes on by a second whenever it is asked.
fn clock() -> Now {
    let second = AtomicU64::new(0);
    Arc::new(move || {
        Timestamp::from_second(1_800_000_000 + second.fetch_add(1, Ordering::Relaxed) as i64).unwrap()
    })
}

fn query(metric: &str) -> MetricQuery {
    MetricQuery {
        metric: metric.to_owned(),
        labels: Default::default(),
        from: Timestamp::from_second(1_799_900_000).unwrap(),
        to: Timestamp::from_second(1_800_400_000).unwrap(),
    }
}

fn options(urls: &[String]) -> ScrapeOptions {
    ScrapeOptions {
        interval: Duration::from_millis(5),
        history: Duration::from_secs(3600),
        ..ScrapeOptions::new(urls.to_vec())
    }
}

async fn ask(source: &ScrapeSource, metric: &str) -> Result<SeriesSet, SourceError> {
    source.series(&query(metric), &context()).await
}

#[tokio::test]
async fn a_history_grows_in_the_background() {
    let count = AtomicU64::new(0);
    let page = Fake::answering(move |_| {
        let count = count.fetch_add(1, Ordering::Relaxed);
        format!("requests_total{{service=\"a\"}} {count}\nrequests_total{{service=\"b\"}} 1\nother NaN\n")
            .into_response()
    })
    .await;
    let source = ScrapeSource::start(client(), clock(), options(&[page.url()])).unwrap();
    until("five samples", async || ask(&source, "requests_total").await.unwrap().series[0].points.len() >= 5)
        .await;
    let mut one = query("requests_total");
    one.labels.insert("service", "a");
    let set = source.series(&one, &context()).await.unwrap();
    assert_eq!((set.series.len(), set.query.as_str()), (1, "requests_total{service=\"a\"}"));
    let points = &set.series[0].points;
    assert!(points.windows(2).all(|pair| pair[0].at < pair[1].at && pair[0].value < pair[1].value));
    assert!(ask(&source, "other").await.unwrap().series.is_empty());
    one.to = points[1].at;
    assert_eq!(source.series(&one, &context()).await.unwrap().series[0].points.len(), 2);
}

#[tokio::test]
async fn the_first_question_does_not_wait_for_the_interval() {
    let page = Fake::saying(200, "up 1\n").await;
    let slow = ScrapeOptions {
        interval: Duration::from_secs(600),
        history: Duration::from_secs(6000),
        ..options(&[page.url()])
    };
    let source = ScrapeSource::start(client(), clock(), slow).unwrap();
    assert_eq!(ask(&source, "up").await.unwrap().series.len(), 1);
}

#[tokio::test]
async fn old_points_are_let_go() {
    let page = Fake::saying(200, "up 1\n").await;
    // Each scrape is a second later by the clock, so ten of them are kept.
    let short = ScrapeOptions {
        history: Duration::from_secs(10),
        interval: Duration::from_secs(1),
        ..options(&[page.url()])
    };
    let source = ScrapeSource::start(client(), clock(), short).unwrap();
    for _ in 0..30 {
        ask(&source, "up").await.unwrap();
    }
    assert!(ask(&source, "up").await.unwrap().series[0].points.len() <= 12);
}

#[tokio::test]
async fn a_page_that_fails_is_unavailable_and_not_healthy() {
    let broken = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&broken);
    let one = Fake::answering(move |_| {
        if switch.load(Ordering::Relaxed) {
            (StatusCode::SERVICE_UNAVAILABLE, "down").into_response()
        } else {
            "one 1\n".into_response()
        }
    })
    .await;
    let other = Fake::saying(200, "other 1\n").await;
    let source = ScrapeSource::start(client(), clock(), options(&[one.url(), other.url()])).unwrap();
    assert_eq!(ask(&source, "one").await.unwrap().series.len(), 1);
    assert!(ask(&source, "missing").await.unwrap().series.is_empty());
    broken.store(true, Ordering::Relaxed);
    until("the page is missed", async || ask(&source, "one").await.is_err()).await;
    assert_eq!(ask(&source, "other").await.unwrap().series.len(), 1);
    // It may be on the page that cannot be read.
    let error = ask(&source, "missing").await.unwrap_err();
    assert!(matches!(&error, SourceError::Unreachable { why, .. } if why.contains("503")), "{error}");
    broken.store(false, Ordering::Relaxed);
    until("the page is back", async || ask(&source, "one").await.is_ok()).await;
}

#[tokio::test]
async fn pages_that_are_none_are_refused_whole() {
    for body in
        ["<html></html>".to_owned(), "up 1\nbroken\n".to_owned(), format!("up 1\n{}", "x".repeat(9 << 20))]
    {
        let page = Fake::saying(200, body).await;
        let source = ScrapeSource::start(client(), clock(), options(&[page.url()])).unwrap();
        assert!(matches!(ask(&source, "up").await, Err(SourceError::Unreachable { .. })));
    }
    let gone = ScrapeSource::start(client(), clock(), options(&[nowhere().await])).unwrap();
    assert!(matches!(ask(&gone, "up").await, Err(SourceError::Unreachable { .. })));
    let silent = Fake::silent().await;
    let impatient = ScrapeOptions { page_timeout: Duration::from_millis(30), ..options(&[silent.url()]) };
    let source = ScrapeSource::start(client(), clock(), impatient).unwrap();
    assert!(matches!(ask(&source, "up").await, Err(SourceError::Unreachable { .. })));
    assert!(ScrapeSource::start(client(), clock(), options(&["file:///etc/passwd".to_owned()])).is_err());
}

#[tokio::test]
async fn more_series_than_allowed_are_not_kept() {
    let many: String = (0..50).map(|i| format!("up{{i=\"{i}\"}} 1\n")).collect();
    let page = Fake::saying(200, many).await;
    let few = ScrapeOptions { series_max: 10, ..options(&[page.url()]) };
    let source = ScrapeSource::start(client(), clock(), few).unwrap();
    let set = ask(&source, "up").await.unwrap();
    assert_eq!((set.series.len(), set.truncated), (10, true));
}

#[tokio::test]
async fn what_was_too_much_once_is_whole_again_later() {
    let lines = |count: usize| (0..count).map(|i| format!("up{{i=\"{i}\"}} 1\n")).collect::<String>();
    let less = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&less);
    let page =
        Fake::answering(move |_| lines(if switch.load(Ordering::Relaxed) { 5 } else { 11 }).into_response())
            .await;
    let few = ScrapeOptions { series_max: 10, ..options(&[page.url()]) };
    let source = ScrapeSource::start(client(), clock(), few).unwrap();
    assert!(ask(&source, "up").await.unwrap().truncated);
    less.store(true, Ordering::Relaxed);
    until("the answer is whole", async || !ask(&source, "up").await.unwrap().truncated).await;
}
