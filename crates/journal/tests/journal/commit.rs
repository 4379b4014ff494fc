//! Group commit, limits, and failing disks.

use std::sync::{Arc, Mutex};
use std::thread;

use quell_journal::{Error, Journal, Options, Record, SimulatedDisk, Survival};

use crate::support::{on, open, records, texts};

#[test]
fn requests_that_wait_for_a_sync_share_the_next_one_in_the_order_of_submit() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(on(&disk));
    let opening_syncs = disk.syncs();
    disk.hold_syncs(true);
    let first = journal.submit(records(&["first"])).unwrap();
    assert!(disk.wait_for_held_sync());

    // As a store does it: decide and submit under a mutex of one's own.
    let decided = Mutex::new(vec!["first".to_owned()]);
    let tickets = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for thread in 0..8 {
            let (journal, decided, tickets) = (&journal, &decided, &tickets);
            scope.spawn(move || {
                for number in 0..100 {
                    let text = format!("{thread}/{number}");
                    let mut decided = decided.lock().unwrap();
                    let ticket = journal.submit(records(&[&text])).unwrap();
                    decided.push(text);
                    assert_eq!(ticket.first_sequence(), decided.len() as u64);
                    tickets.lock().unwrap().push(ticket);
                }
            });
        }
    });
    assert_eq!(journal.last().sequence, 0, "nothing is durable before its sync");
    assert_eq!((texts(&journal).len(), journal.stats().queue_requests), (0, 800));
    disk.hold_syncs(false);
    first.wait_blocking().unwrap();
    for ticket in tickets.into_inner().unwrap() {
        let sequence = ticket.first_sequence();
        let ack = ticket.wait_blocking().unwrap();
        assert_eq!((ack.first_sequence, ack.head.sequence), (sequence, sequence));
    }
    assert_eq!(disk.syncs() - opening_syncs, 2, "801 requests in two syncs");
    let stats = journal.stats();
    assert_eq!((stats.requests, stats.records, stats.writes, stats.queue_bytes), (801, 801, 2, 0));
    assert_eq!(texts(&journal), decided.into_inner().unwrap());
}

#[test]
fn one_write_takes_no_more_than_its_limit() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(Options { write_bytes_max: 250, ..on(&disk) });
    disk.hold_syncs(true);
    let first = journal.submit(records(&["first"])).unwrap();
    assert!(disk.wait_for_held_sync());
    // Requests of 101, 101 | 1100 alone | 101 bytes.
    let long = "x".repeat(1000);
    let tickets = ["a", "b", &long, "c"].map(|text| journal.submit(records(&[text])).unwrap());
    disk.hold_syncs(false);
    first.wait_blocking().unwrap();
    for ticket in tickets {
        ticket.wait_blocking().unwrap();
    }
    assert_eq!(journal.stats().writes, 4);
}

#[test]
fn a_full_queue_refuses_and_takes_again_later() {
    let by_count = |options: Options| Options { queue_requests_max: 3, ..options };
    let by_bytes = |options: Options| Options { queue_bytes_max: 350, ..options };
    for (limit, bytes) in [(&by_count as &dyn Fn(Options) -> Options, 303), (&by_bytes, 303)] {
        let disk = SimulatedDisk::new();
        let (journal, _) = open(limit(on(&disk)));
        disk.hold_syncs(true);
        let first = journal.submit(records(&["1"])).unwrap();
        assert!(disk.wait_for_held_sync());
        let tickets = ["2", "3", "4"].map(|text| journal.submit(records(&[text])).unwrap());
        let error = journal.submit(records(&["5"])).unwrap_err();
        assert!(error.is_retryable());
        let Error::Overloaded { requests: 3, bytes: waiting } = error else { panic!("{error}") };
        assert_eq!(waiting, bytes);
        disk.hold_syncs(false);
        first.wait_blocking().unwrap();
        for ticket in tickets {
            ticket.wait_blocking().unwrap();
        }
        assert_eq!(journal.append_blocking(records(&["5"])).unwrap().first_sequence, 5);
        assert_eq!(texts(&journal), ["1", "2", "3", "4", "5"]);
    }
}

#[test]
fn a_full_disk_refuses_all_that_builds_on_it_until_the_caller_resumes() {
    for segment_bytes_max in [1 << 20, 200] {
        let disk = SimulatedDisk::new();
        let options = Options { segment_bytes_max, ..on(&disk) };
        let (journal, _) = open(options.clone());
        journal.append_blocking(records(&["kept"])).unwrap();
        disk.set_space_bytes(Some(150));
        disk.hold_syncs(true);
        // With small segments it is the new segment that fits, and then the records do not.
        let fits = journal.submit(records(&[""])).unwrap();
        assert!(disk.wait_for_held_sync());
        let full = journal.submit(records(&["does not fit", "at all"])).unwrap();
        let behind = journal.submit(records(&["x"])).unwrap();
        disk.hold_syncs(false);
        let fitted = fits.wait_blocking().is_ok();
        for ticket in [full, behind] {
            let error = ticket.wait_blocking().unwrap_err();
            assert!(matches!(error, Error::Full { .. }) && error.is_retryable(), "{error}");
        }
        assert!(matches!(journal.submit(records(&["y"])), Err(Error::Full { .. })));
        assert!(journal.failure().is_none());

        disk.set_space_bytes(None);
        let head = journal.resume().unwrap();
        assert_eq!(head, journal.last());
        assert_eq!(journal.resume().unwrap(), head, "resuming twice does nothing");
        let ticket = journal.submit(records(&["after"])).unwrap();
        assert_eq!(ticket.first_sequence(), head.sequence + 1);
        assert_eq!(ticket.wait_blocking().unwrap().first_sequence, head.sequence + 1);
        let expected: &[&str] = if fitted { &["kept", "", "after"] } else { &["kept", "after"] };
        assert_eq!(texts(&journal), expected);
        journal.close().unwrap();
        for survival in [Survival::None, Survival::All, Survival::Random(1)] {
            let (journal, report) =
                open(Options { disk: Arc::new(disk.restart(survival)), ..options.clone() });
            assert_eq!(
                (texts(&journal), report.torn_tail),
                (expected.iter().map(|text| text.to_string()).collect(), None)
            );
        }
    }
}

/// What was told to be not stored does not come back, though the disk took a part of it.
#[test]
fn a_request_refused_for_space_stays_away_after_a_power_cut() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(on(&disk));
    disk.hold_syncs(true);
    let kept = journal.submit(records(&["kept"])).unwrap();
    assert!(disk.wait_for_held_sync());
    let refused = ["fits", "does not"].map(|text| journal.submit(records(&[text])).unwrap());
    disk.set_space_bytes(Some(150));
    disk.hold_syncs(false);
    kept.wait_blocking().unwrap();
    for ticket in refused {
        assert!(matches!(ticket.wait_blocking(), Err(Error::Full { .. })));
    }
    for survival in [Survival::None, Survival::All].into_iter().chain((0..20).map(Survival::Random)) {
        let (journal, report) = open(on(&disk.restart(survival)));
        assert_eq!((texts(&journal), report.torn_tail), (vec!["kept".to_owned()], None), "{survival:?}");
    }
}

#[test]
fn a_failed_sync_is_final_until_the_journal_is_opened_again() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(on(&disk));
    journal.append_blocking(records(&["acknowledged"])).unwrap();
    disk.fail_sync_after(0);
    disk.hold_syncs(true);
    let in_flight = journal.submit(records(&["in doubt"])).unwrap();
    assert!(disk.wait_for_held_sync());
    let waiting = journal.submit(records(&["never written"])).unwrap();
    disk.hold_syncs(false);
    for ticket in [in_flight, waiting] {
        let error = ticket.wait_blocking().unwrap_err();
        assert!(matches!(error, Error::Failed { .. }) && error.is_in_doubt(), "{error}");
    }
    assert!(matches!(journal.submit(records(&["later"])), Err(Error::Failed { .. })));
    assert!(matches!(journal.resume(), Err(Error::Failed { .. })));
    assert!(matches!(journal.failure(), Some(Error::Failed { .. })));
    assert_eq!(texts(&journal), ["acknowledged"], "readers see durable records only");
    assert!(matches!(journal.close(), Err(Error::Failed { .. })));

    // The bytes still stand in the page cache, whose pages count as clean. What opening believes must be on the disk.
    let (journal, report) = open(on(&disk));
    assert_eq!(texts(&journal), ["acknowledged", "in doubt"]);
    assert_eq!(report.torn_tail, None);
    let after_power_cut = disk.restart(Survival::None);
    drop(journal);
    assert_eq!(texts(&open(on(&after_power_cut)).0), ["acknowledged", "in doubt"]);
}

#[test]
fn closing_commits_what_waits_and_a_dropped_ticket_withdraws_nothing() {
    let disk = SimulatedDisk::new();
    let (journal, _) = open(on(&disk));
    disk.hold_syncs(true);
    let first = journal.submit(records(&["a"])).unwrap();
    assert!(disk.wait_for_held_sync());
    let second = journal.submit(records(&["b"])).unwrap();
    drop(journal.submit(records(&["c"])).unwrap());
    let closer = thread::spawn(move || journal.close());
    disk.hold_syncs(false);
    assert_eq!(closer.join().unwrap().unwrap().sequence, 3);
    assert_eq!(first.wait_blocking().unwrap().first_sequence, 1);
    assert_eq!(second.wait_blocking().unwrap().first_sequence, 2);
    assert_eq!(texts(&open(on(&disk.restart(Survival::None))).0), ["a", "b", "c"]);
}

#[tokio::test]
async fn async_callers_are_woken() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path(), Options::new(crate::support::id())).unwrap();
    let journal = Arc::new(journal);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200_u16 {
        let journal = Arc::clone(&journal);
        tasks.spawn(
            async move { journal.append(vec![Record::new(number, "x")]).await.map(|ack| (number, ack)) },
        );
    }
    let mut sequences = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (number, ack) = done.unwrap().unwrap();
        assert_eq!(journal.read(ack.positions[0]).unwrap().kind, number);
        sequences.push(ack.first_sequence);
    }
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=200).collect::<Vec<u64>>());
    let ticket = journal.submit(records(&["last"])).unwrap();
    assert_eq!(ticket.wait().await.unwrap().first_sequence, 201);
}
