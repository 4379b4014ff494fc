//! What is done for the store beside the work: dropping what is over, and noting elsewhere how far the log went.

use std::sync::Arc;
use std::time::Duration;

use quell_service::Config;
use quell_store::audit::{AnchorFile, SigningKey};
use quell_store::{Retention, RetentionBudget, Work};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::StartError;
use crate::site::Site;
use crate::tenure::Tenure;

/// How often is looked whether an anchor is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An anchor is due after so many records at the latest.
const ANCHOR_RECORDS_MAX: u64 = 10_000;
/// Between two goes at what is over: a tenth of the shortest period, within these.
const RETENTION_PAUSE_MIN: Duration = Duration::from_secs(1);
const RETENTION_PAUSE_MAX: Duration = Duration::from_secs(60 * 60);
/// Between two parts of one go, so that the disk is there for others too.
const PART_PAUSE: Duration = Duration::from_millis(200);

/// Starts both: anchors where they are configured, and dropping, which is done as the settings in force say.
///
/// # Errors
/// [`StartError::Audit`] when the key or the file of anchors cannot be used.
pub(crate) fn start(
    site: &Arc<Site>,
    config: &Config,
    tenure: &Tenure,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<(), StartError> {
    let audit = &config.coordinator.audit;
    if let (Some(file), Some(key)) = (&audit.anchor_file, &audit.signing_key_file) {
        let anchors = Anchors {
            site: Arc::clone(site),
            key: SigningKey::read(key).map_err(StartError::Audit)?,
            file: AnchorFile::open(file).map_err(StartError::Audit)?,
            interval: audit.anchor_interval.get(),
            last: 0,
        };
        tasks.spawn(anchors.run(stop.clone()));
    }
    let (site, tenure, stop) = (Arc::clone(site), tenure.clone(), stop.clone());
    tasks.spawn(async move {
        while let Some(due) = stop.run_until_cancelled(due(&site)).await {
            let Some(term) = tenure.begun().await else { return };
            match site.store.claim(term.coordinator, &[Work::Retention]).await {
                // Another coordinator sees to it, until it stops or dies.
                Ok(leases) if leases.is_empty() => {}
                Ok(_) => retain(&site, &due, &term.over).await,
                Err(error) => warn!(%error, "whether retention is for this coordinator is not known"),
            }
        }
    });
    Ok(())
}

/// Waits until it is time to look for what is over, by the settings in force then.
async fn due(site: &Site) -> Retention {
    loop {
        let reloaded = site.reloaded();
        let retention = site.settings().retention;
        let Some(shortest) = retention.closed_incidents.into_iter().chain(retention.received).min() else {
            reloaded.await;
            continue;
        };
        let pause = (shortest / 10).clamp(RETENTION_PAUSE_MIN, RETENTION_PAUSE_MAX);
        tokio::select! {
            biased;
            () = reloaded => {}
            () = sleep(pause) => return retention,
        }
    }
}

/// Drops all that is over, in parts. The lease only spares others the same work: what the store drops it drops once.
async fn retain(site: &Site, retention: &Retention, stop: &CancellationToken) {
    loop {
        match site.store.retain(retention, site.now(), &RetentionBudget::default()).await {
            Ok(retained) => {
                if retained.record.is_some() || retained.segments > 0 {
                    info!(
                        incidents = retained.incidents,
                        payloads_given_up = retained.payloads_given_up,
                        segments = retained.segments,
                        bytes_freed = retained.bytes_freed,
                        "what is over was dropped"
                    );
                }
                if !retained.more || stop.run_until_cancelled(sleep(PART_PAUSE)).await.is_none() {
                    return;
                }
            }
            Err(error) => {
                warn!(%error, "what is over could not be dropped; it is tried again");
                return;
            }
        }
    }
}

struct Anchors {
    site: Arc<Site>,
    key: SigningKey,
    file: AnchorFile,
    interval: Duration,
    /// The sequence of the last one.
    last: u64,
}

impl Anchors {
    async fn run(mut self, stop: CancellationToken) {
        let mut written = Instant::now();
        let look = LOOK_EVERY.min(self.interval);
        loop {
            let goes_on = stop.run_until_cancelled(sleep(look)).await.is_some();
            let is_due = written.elapsed() >= self.interval;
            match self.write(is_due || !goes_on).await {
                Ok(true) => written = Instant::now(),
                Ok(false) => {}
                Err(error) => error!(%error, "no anchor could be written; it is tried again"),
            }
            if !goes_on {
                return;
            }
        }
    }

    /// Writes one if one is due and anything has happened; whether it did.
    async fn write(&mut self, is_due: bool) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        let Some(chain) = self.site.store.chain_head().await? else { return Ok(false) };
        let sequence = chain.head.sequence;
        let much = sequence.saturating_sub(self.last) >= ANCHOR_RECORDS_MAX;
        if sequence == self.last || !(is_due || much) {
            return Ok(false);
        }
        let anchor = self.key.sign(chain, self.site.now())?;
        // One line and a sync once in a while: not worth a thread of its own.
        self.file.append(&anchor)?;
        self.last = sequence;
        Ok(true)
    }
}
