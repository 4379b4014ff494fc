//! How much room alerts and incidents take, and what many of them cost.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::load::{self, Load};
use super::measure::{disk_bytes, median};
use super::postgres::Cluster;
use super::{Bench, Server, WEBHOOK};
use crate::bench::now;
use crate::child::stop_all;
use crate::http;

/// How long nothing may move until it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Memory that was taken for a load is to be given back within this.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(60);
/// How often a list is asked for; the median counts.
const PAGES: usize = 21;

/// A fresh store for each number of alerts: time, bytes and memory should grow with the number, and no faster.
pub(super) fn growth(bench: &Bench<'_>, cluster: Option<&Cluster>) -> Result<Value> {
    println!(
        "\n{:>10} {:>10} {:>12} {:>14} {:>12} {:>14} {:>10} {:>16}",
        "alerts",
        "incidents",
        "answered, s",
        "correlated, s",
        "us/alert",
        "bytes/alert",
        "MB memory",
        "MB a minute later"
    );
    let mut rows = Vec::new();
    let mut alerts = 1_000;
    while alerts <= bench.args.growth {
        let mut server = bench.start(&format!("growth-{alerts}"), cluster)?;
        let before = bytes(&server, cluster);
        let load = Load { alerts_max: alerts, within: Duration::from_secs(600), ..bench.load(20, 16, None) };
        let loaded = load::run(server.http, WEBHOOK, load, &bench.interrupt)?;
        let started = Instant::now();
        wait(bench, &mut server, "alerts are correlated", alerts, Server::correlated)?;
        let correlated = loaded.took + started.elapsed();
        let bytes_per_alert = (bytes(&server, cluster) - before) as f64 / alerts as f64;
        let (found, resident) = (server.incidents("")?, server.process.resident_bytes().unwrap_or(0));
        // A minute for each number of alerts would be long, and the largest one tells.
        let is_largest = alerts * 10 > bench.args.growth;
        let later = if is_largest { resident_later(bench, &server)? } else { None };
        let each = correlated.as_secs_f64() * 1e6 / alerts as f64;
        println!(
            "{alerts:>10} {found:>10} {:>12.2} {:>14.2} {each:>12.1} {bytes_per_alert:>14.0} {:>10.1} {:>16}",
            loaded.took.as_secs_f64(),
            correlated.as_secs_f64(),
            resident as f64 / 1e6,
            later.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e6))
        );
        rows.push(json!({
            "alerts": alerts, "incidents": found, "answered_seconds": loaded.took.as_secs_f64(),
            "correlated_seconds": correlated.as_secs_f64(), "bytes_per_alert": bytes_per_alert, "resident_bytes": resident,
            "resident_bytes_a_minute_later": later,
        }));
        server.stop()?;
        alerts *= 10;
    }
    Ok(json!(rows))
}

/// Resident bytes once there was time to give memory back.
fn resident_later(bench: &Bench<'_>, server: &Server) -> Result<Option<u64>> {
    bench.interrupt.pause(GIVEN_BACK_WITHIN)?;
    Ok(server.process.resident_bytes())
}

/// Many incidents that came and went by themselves: memory, start-up, lists.
pub(super) fn incidents(bench: &Bench<'_>, cluster: Option<&Cluster>) -> Result<Value> {
    let incidents = bench.args.incidents;
    let mut server = bench.start("stored", cluster)?;
    let load = Load {
        alerts_max: incidents,
        within: Duration::from_secs(1_800),
        group: 1,
        resolved: true,
        ..Load { at: now(), ..bench.load(1, 16, None) }
    };
    load::run(server.http, WEBHOOK, load, &bench.interrupt)?;
    wait(bench, &mut server, "incidents are closed", incidents, |server| server.incidents("&status=closed"))?;
    let after_work = server.process.resident_bytes().unwrap_or(0);
    let later = resident_later(bench, &server)?.unwrap_or(0);
    let Server { process, http, folder } = server;
    stop_all(&mut vec![process]);
    let started = Instant::now();
    let process = bench.start_again(&folder)?;
    let start_up = started.elapsed();
    let server = Server { process, http, folder };
    let page = page_milliseconds(&server, "/api/incidents?limit=1000")?;
    let filtered = page_milliseconds(&server, "/api/incidents?limit=1000&status=closed&priority=P3")?;
    let resident = server.process.resident_bytes().unwrap_or(0);
    println!(
        "\n{incidents} incidents stored: {:.1} MB resident after the work, {:.1} MB a minute later, {:.1} MB after a restart, which took {:.0} ms; a page of \
         1000 incidents takes {page:.1} ms, of a filtered list {filtered:.1} ms",
        after_work as f64 / 1e6,
        later as f64 / 1e6,
        resident as f64 / 1e6,
        start_up.as_secs_f64() * 1000.0
    );
    server.stop()?;
    Ok(json!({
        "incidents": incidents, "resident_bytes_after_work": after_work,
        "resident_bytes_a_minute_later": later, "resident_bytes_after_restart": resident,
        "start_up_milliseconds": start_up.as_secs_f64() * 1000.0, "page_milliseconds": page,
        "filtered_page_milliseconds": filtered,
    }))
}

/// How long one page of a list takes.
fn page_milliseconds(server: &Server, path: &str) -> Result<f64> {
    let mut pages = Vec::new();
    for _ in 0..PAGES {
        let clock = Instant::now();
        let page = http::request(server.http, "GET", path, None)?;
        pages.push(clock.elapsed().as_secs_f64() * 1000.0);
        ensure!(page.status == 200, "GET {path} answered {}: {}", page.status, page.body);
    }
    Ok(median(pages))
}

fn bytes(server: &Server, cluster: Option<&Cluster>) -> u64 {
    match cluster {
        Some(cluster) => disk_bytes(&cluster.folder()),
        None => disk_bytes(&server.folder),
    }
}

/// Waits until so many of something are there.
pub(super) fn wait(
    bench: &Bench<'_>,
    server: &mut Server,
    what: &str,
    wanted: u64,
    count: impl Fn(&Server) -> Result<u64>,
) -> Result<()> {
    let (mut progress, mut most) = (Instant::now(), 0);
    loop {
        server.process.check()?;
        let found = count(server)?;
        if found >= wanted {
            return Ok(());
        }
        if found > most {
            (progress, most) = (Instant::now(), found);
        }
        ensure!(progress.elapsed() < PATIENCE, "{found} of {wanted} {what}, and no further one comes");
        bench.interrupt.pause(Duration::from_millis(20))?;
    }
}
