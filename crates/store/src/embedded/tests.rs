//! What cannot be seen from outside: memory is bounded by what is active, and an index that turns out to be damaged while
//! running is made anew.

use std::time::Duration;

use jiff::Timestamp;
use quell_incident::event::{EVENT_VERSION, Envelope, Event};
use quell_incident::ids::{Digest, IncidentId, Revision};
use quell_incident::incident::Outcome;
use quell_incident::mapping::Head;
use quell_incident::severity::{Priority, Severity};
use quell_journal::{Error, Record, SimulatedDisk};
use uuid::Uuid;

use super::{EmbeddedStore, Options};
use crate::{Append, IncidentStore, ListQuery, MessageKey};

const PATIENCE: Duration = Duration::from_secs(30);

fn opened(folder: &std::path::Path) -> EmbeddedStore {
    EmbeddedStore::open(folder, Options::new(Uuid::from_u128(7))).unwrap()
}

/// An incident that is opened and closed at once, answering a message.
fn over(number: u128) -> Append {
    let incident_id = IncidentId(Uuid::from_u128(number));
    let head = Head {
        unknown_severity: None,
        title: "Disk full".to_owned(),
        description: String::new(),
        alert_name: "DiskFull".to_owned(),
        severity: Severity::High,
        priority: Priority::P1,
        tags: Vec::new(),
        component: String::new(),
        service: String::new(),
    };
    let opened = Event::Opened {
        head: Box::new(head),
        affected_systems: Vec::new(),
        origin: "person-1".to_owned(),
        linked_to: None,
        started_at: Timestamp::UNIX_EPOCH,
        settle_until: Timestamp::UNIX_EPOCH,
        context: None,
    };
    let outcome = Outcome::ClosedByPerson { by: "person-1".to_owned(), why: String::new() };
    let closed = Event::Closed { outcome, post_mortem: String::new() };
    let envelope = |(revision, event)| Envelope {
        id: Uuid::from_u128(number << 64),
        incident_id,
        revision: Revision(revision),
        tenant: "default".to_owned(),
        at: Timestamp::UNIX_EPOCH,
        actor: "workflow".to_owned(),
        trace: None,
        policy: Digest::of_bytes(b"policy"),
        version: EVENT_VERSION,
        event,
    };
    let envelopes = (1..).zip([opened, closed]).map(envelope).collect();
    let message = MessageKey {
        caller: "caller-1".to_owned(),
        tenant: "default".to_owned(),
        message_id: number.to_string(),
    };
    Append::new(incident_id, Revision(0), envelopes).answering(message, Digest::of_bytes(b"content"))
}

/// Waits until the indexer has forgotten what is over in both states.
async fn forgotten(store: &EmbeddedStore) {
    let begun = tokio::time::Instant::now();
    loop {
        let held = (store.shared.durable().held(), store.shared.decisions().state.held());
        if held == ((0, 0), (0, 0)) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{held:?} are still held");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_over_is_not_held() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    for number in 1..=200 {
        store.append(over(number)).await.unwrap();
    }
    forgotten(&store).await;
    assert!(store.append(over(7)).await.is_err(), "and yet it is known");
    drop(store);
    std::fs::remove_dir_all(folder.path().join("index")).unwrap();
    let store = opened(folder.path());
    assert_eq!(store.report().records_replayed, 200);
    forgotten(&store).await;
    assert_eq!(store.list(&ListQuery::default()).await.unwrap().total, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_found_damaged_while_running_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    for number in 1..=50 {
        store.append(over(number)).await.unwrap();
    }
    let before = store.list(&ListQuery::default()).await.unwrap();
    let index = store.shared.index().unwrap();
    index.lose_a_row();
    drop(index);
    let error = store.list(&ListQuery::default()).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let begun = tokio::time::Instant::now();
    let after = loop {
        match store.list(&ListQuery::default()).await {
            Ok(page) => break page,
            Err(error) => assert!(error.is_retryable() && begun.elapsed() < PATIENCE, "{error}"),
        }
        // Writing goes on as far as it does not need the index.
        if let Err(error) = store
            .receive(crate::Received {
                at: Timestamp::UNIX_EPOCH,
                source: quell_incident::ids::SourceName::declared("alertmanager").unwrap(),
                alerts: Vec::new(),
                group_key: None,
                truncated_alerts: 0,
                trace: None,
            })
            .await
        {
            panic!("{error}");
        }
    };
    assert_eq!(after, before);
    store.append(over(51)).await.unwrap();
    assert_eq!(store.list(&ListQuery::default()).await.unwrap().total, 51);
    assert!(folder.path().join("index.bad-1").exists());
}

/// Otherwise whoever received alerts could have decisions of the new generation given up for a stall of the old one.
#[test]
fn who_reads_the_new_generation_does_not_meet_the_old_stall() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new();
    let mut options = Options::new(Uuid::from_u128(7));
    options.journal.disk = std::sync::Arc::new(disk.clone());
    let store = EmbeddedStore::open(folder.path(), options).unwrap();
    let shared = &store.shared;
    let correlated = || {
        let up_to = crate::ReceivedPosition(0);
        vec![Record::new(super::record::CORRELATED, super::record::encode_correlated(up_to).unwrap())]
    };
    disk.set_space_bytes(Some(10));
    let error = shared.journal.append_blocking(correlated()).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    disk.set_space_bytes(None);
    let mut went_on = None;
    // The settler cannot publish the new generation while this is held.
    shared.settled.send_modify(|settled| {
        shared.give_up(settled.generation);
        let begun = std::time::Instant::now();
        while went_on.is_none() && begun.elapsed() < PATIENCE {
            let taken = shared.journal.submit(correlated()).is_ok();
            went_on = taken.then(|| shared.generation());
            std::thread::yield_now();
        }
    });
    assert_eq!(went_on, Some(0), "the journal goes on before anybody can read the new generation");
}

/// A folder whose durable mark and index are gone, and maybe its last records: nobody can tell.
async fn of_an_unknown_end() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = opened(folder.path());
        for number in 1..4 {
            store.append(over(number)).await.unwrap();
        }
    }
    forget_who_knows(folder.path());
    folder
}

fn forget_who_knows(folder: &std::path::Path) {
    std::fs::remove_file(folder.join("journal/durable.mark")).unwrap();
    std::fs::remove_dir_all(folder.join("index")).unwrap();
}

fn acceptance(ended_at: u64) -> super::LossAcceptance {
    super::LossAcceptance {
        ended_at,
        by: "person-1".to_owned(),
        why: "no anchors".to_owned(),
        at: Timestamp::from_second(5_000).unwrap(),
        new_journal_id: Uuid::from_u128(8),
    }
}

fn losses(folder: &std::path::Path) -> Vec<crate::audit::Loss> {
    crate::audit::verify(folder, &[]).unwrap().losses
}

#[tokio::test]
async fn an_end_that_nobody_knows_is_not_taken_for_the_end_by_who_only_looks() {
    let folder = of_an_unknown_end().await;
    let note = folder.path().join(super::witness::UNKNOWN_END);
    // A copy opens the journal, which makes its mark anew; it cannot note in the journal that the end was not known.
    drop(crate::transfer::FolderSource::open(folder.path()).unwrap());
    assert!(folder.path().join("journal/durable.mark").exists() && note.exists());
    let beside = crate::audit::verify(folder.path(), &[]).unwrap().beside.unwrap();
    assert_eq!(beside.mark, crate::audit::DurableMark::Missing);
    // Nor does one that comes after it know more.
    drop(crate::transfer::FolderSource::open(folder.path()).unwrap());
    let store = opened(folder.path());
    assert!(store.report().unwitnessed && !store.report().journal.mark_missing);
    drop(store);
    assert!(!note.exists());
    assert_eq!(losses(folder.path()).len(), 1);
    assert!(!opened(folder.path()).report().unwitnessed, "once");
    // Killed between the record and the end of the note.
    std::fs::write(&note, "{\"ended_at\":\"3\"}").unwrap();
    assert!(!opened(folder.path()).report().unwitnessed);
    assert!(!note.exists() && losses(folder.path()).len() == 1);
    // One that cannot be read says that something is not known.
    std::fs::write(&note, "").unwrap();
    assert!(opened(folder.path()).report().unwitnessed);
    assert!(!note.exists() && losses(folder.path()).len() == 2);
}

#[tokio::test]
async fn going_on_from_an_end_that_nobody_knows_is_a_decision_that_is_recorded() {
    for looked_before in [false, true] {
        let folder = of_an_unknown_end().await;
        if looked_before {
            drop(crate::transfer::FolderSource::open(folder.path()).unwrap());
        }
        // Asking for another end changes nothing, and does not make the journal look whole.
        for _ in 0..2 {
            let error = super::accept_loss(folder.path(), &acceptance(7)).unwrap_err();
            let said = error.to_string();
            assert!(matches!(error, crate::StoreError::Lost { at: 3, .. }), "{said}");
            assert!(
                said.contains("cannot be told without anchors") && said.contains("--at 3 --why"),
                "{said}"
            );
            assert_eq!(folder.path().join("journal/durable.mark").exists(), looked_before);
        }
        let blank = super::LossAcceptance { why: " ".to_owned(), ..acceptance(3) };
        assert!(super::accept_loss(folder.path(), &blank).is_err());
        let accepted = super::accept_loss(folder.path(), &acceptance(3)).unwrap();
        assert_eq!((accepted.record, accepted.already), (4, false));
        assert!(super::accept_loss(folder.path(), &acceptance(3)).unwrap().already, "once");
        let noted = losses(folder.path());
        assert_eq!((noted.len(), noted[0].ended_at), (1, 3));
        assert!(noted[0].lost.contains("neither `durable.mark` nor an index"), "{noted:?}");
        let accepted = noted[0].accepted.as_deref().unwrap();
        assert!(accepted.contains("person-1") && accepted.contains("no anchors"), "{accepted}");
        let store = opened(folder.path());
        assert!(!store.report().unwitnessed);
        drop(store);
        assert_eq!(losses(folder.path()), noted, "a start has nothing to add");
    }
}

#[tokio::test]
async fn a_missing_mark_alone_is_no_decision() {
    let folder = of_an_unknown_end().await;
    drop(opened(folder.path()));
    std::fs::remove_file(folder.path().join("journal/durable.mark")).unwrap();
    let error = super::accept_loss(folder.path(), &acceptance(9)).unwrap_err();
    assert!(matches!(error, crate::StoreError::NothingLost { .. }), "{error}");
    assert!(!folder.path().join(super::witness::UNKNOWN_END).exists(), "the index knows");
}
