//! Whether the store still takes changes: a coordinator whose store has failed for good ends, as databases do.

use std::time::Duration;

use quell_service::{Exit, in_words};
use quell_store::IncidentStore;

/// How often the store is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Returns when the store takes no more changes, with how the process is to end and why. After a sync that failed nobody knows what of
/// the last writes is on the disk: that is found out by opening the store anew, and going on would be pretending to know.
pub(crate) async fn failed(store: &dyn IncidentStore) -> (Exit, String) {
    loop {
        if let Some(error) = store.failure() {
            return (Exit::Storage, in_words(&error));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quell_incident::gate::{KillSwitch, Throw};
    use quell_incident::ids::GateEpoch;
    use quell_journal::SimulatedDisk;
    use quell_store::{EmbeddedStore, Options};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_failing_sync_ends_the_coordinator_and_a_full_disk_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let disk = SimulatedDisk::new();
        let mut options = Options::new(uuid::Uuid::from_u128(7));
        options.journal.disk = Arc::new(disk.clone());
        let store = EmbeddedStore::open(folder.path(), options).unwrap();
        let switch = || KillSwitch {
            by: "person-1".to_owned(),
            why: "a drill".to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let soon = Duration::from_millis(50);

        disk.set_space_bytes(Some(10));
        store.set_kill_switch(GateEpoch(0), Throw::Engage(switch())).await.unwrap_err();
        assert!(tokio::time::timeout(soon, failed(&store)).await.is_err(), "it heals by itself");
        disk.set_space_bytes(None);
        store.set_kill_switch(GateEpoch(0), Throw::Engage(switch())).await.unwrap();

        disk.fail_sync_after(0);
        store.set_kill_switch(GateEpoch(1), Throw::Release(switch())).await.unwrap_err();
        let (exit, why) = failed(&store).await;
        assert_eq!(exit, Exit::Storage);
        assert!(why.contains("restart the process once the disk is sound"), "{why}");
        assert!(why.contains("sync records"), "what failed: {why}");
    }
}
