//! Whole lives of a journal, with the power cut at every point of them.

use std::sync::Arc;

use proptest::prelude::*;
use quell_journal::{
    Head, Journal, MissingMark, Options, Record, SimulatedDisk, Survival, Uuid, Witness, verify_on,
};

use crate::support::{FOLDER, id, on, open};

type Request = Vec<Vec<u8>>;

fn options(disk: &SimulatedDisk) -> Options {
    // Small, so that a short history has rotations and requests across sectors.
    Options { segment_bytes_max: 2500, write_bytes_max: 1500, ..on(disk) }
}

fn submit(journal: &Journal, request: &Request) -> Result<quell_journal::Ticket, quell_journal::Error> {
    journal.submit(request.iter().map(|payload| Record::new(1, payload.clone())).collect())
}

fn contents(journal: &Journal) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut request = Vec::new();
    for entry in journal.iter_from(1) {
        let entry = entry.unwrap();
        request.push(entry.payload);
        if entry.last_of_request {
            requests.push(std::mem::take(&mut request));
        }
    }
    assert!(request.is_empty(), "a request without its end was shown");
    requests
}

/// What one machine did until it ended or lost power.
#[derive(Default)]
struct Life {
    submitted: Vec<Request>,
    acknowledged: usize,
    heads: Vec<Head>,
}

fn live(disk: &SimulatedDisk, requests: &[Vec<Request>]) -> Life {
    let mut life = Life::default();
    let Ok((journal, _)) = Journal::open(FOLDER.as_ref(), options(disk)) else { return life };
    for together in requests {
        let mut tickets = Vec::new();
        for request in together {
            if let Ok(ticket) = submit(&journal, request) {
                life.submitted.push(request.clone());
                tickets.push(ticket);
            }
        }
        for ticket in tickets {
            if let Ok(ack) = ticket.wait_blocking() {
                life.acknowledged += 1;
                life.heads.push(ack.head);
            }
        }
    }
    life
}

fn witness(head: &Head) -> Witness {
    let (journal_id, chain_hash) = (Some(id()), Some(head.chain_hash));
    Witness { who: "the index".to_owned(), journal_id, sequence: head.sequence, chain_hash }
}

/// Everything acknowledged is there, in order; of the rest, whole requests in order or nothing.
fn check_survivors(disk: &SimulatedDisk, life: &Life, context: &str) -> Journal {
    let verified = verify_on(disk, FOLDER.as_ref(), &life.heads);
    // No crash makes a witness disagree, or the mark go, where the witness notes what it was told is durable.
    let options = Options { missing_mark: MissingMark::Refuse, ..options(disk) };
    let opened = Journal::open_against(FOLDER.as_ref(), options, || life.heads.iter().map(witness).collect());
    let (journal, report) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
    let found = contents(&journal);
    assert!(found.len() >= life.acknowledged, "{context}: an acknowledged request is lost");
    assert_eq!(found, life.submitted[..found.len()], "{context}");
    if !report.created {
        let verified = verified.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!((verified.first_bad, verified.anchors_agreeing), (None, life.heads.len()), "{context}");
    }
    journal
}

#[test]
fn the_power_may_be_cut_at_every_operation() {
    let request = |sizes: &[usize]| sizes.iter().map(|size| vec![*size as u8; *size]).collect::<Request>();
    let requests = vec![
        vec![request(&[10]), request(&[700, 1]), request(&[0])],
        vec![request(&[300, 300, 300])],
        vec![request(&[1200]), request(&[900, 900]), request(&[5]), request(&[6])],
        vec![request(&[40])],
    ];
    let mut cut_at = 0;
    loop {
        let disk = SimulatedDisk::new();
        disk.cut_power_after(cut_at);
        let life = live(&disk, &requests);
        let survivals = [Survival::None, Survival::All].into_iter().chain((0..12).map(Survival::Random));
        for survival in survivals {
            let context = format!("cut at {cut_at}, {survival:?}");
            let restarted = disk.restart(survival);
            let journal = check_survivors(&restarted, &life, &context);
            // Life goes on, and what was found once is not lost by a second cut.
            let mut found = contents(&journal);
            let after = request(&[77]);
            submit(&journal, &after).unwrap().wait_blocking().unwrap();
            found.push(after);
            restarted.cut_power();
            drop(journal);
            let (journal, _) = open(options(&restarted.restart(Survival::None)));
            assert_eq!(contents(&journal), found, "{context}");
        }
        if !disk.is_cut() {
            break;
        }
        cut_at += 1;
    }
    assert!(cut_at > 30, "the history has {cut_at} operations");
}

#[derive(Debug, Clone)]
enum Action {
    Append(Vec<Request>),
    Reopen,
    /// The power goes after so many operations of the following appends.
    Cut {
        after: u64,
        requests: Vec<Request>,
        survival: Survival,
    },
    FailSync {
        requests: Vec<Request>,
    },
    NoSpace {
        bytes: u64,
        requests: Vec<Request>,
    },
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let payload =
        (any::<u8>(), prop_oneof![0..50_usize, 0..1500_usize]).prop_map(|(byte, size)| vec![byte; size]);
    let request = proptest::collection::vec(payload, 1..4);
    proptest::collection::vec(request, 1..5)
}

fn survival() -> impl Strategy<Value = Survival> {
    prop_oneof![Just(Survival::None), Just(Survival::All), any::<u64>().prop_map(Survival::Random)]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => requests().prop_map(Action::Append),
        1 => Just(Action::Reopen),
        3 => (0..12_u64, requests(), survival())
            .prop_map(|(after, requests, survival)| Action::Cut { after, requests, survival }),
        1 => requests().prop_map(|requests| Action::FailSync { requests }),
        1 => (0..3000_u64, requests()).prop_map(|(bytes, requests)| Action::NoSpace { bytes, requests }),
    ]
}

/// The journal beside its model: the requests that must be there.
struct Run {
    disk: SimulatedDisk,
    journal: Option<Journal>,
    model: Vec<Request>,
}

impl Run {
    fn journal(&self) -> &Journal {
        self.journal.as_ref().unwrap()
    }

    /// Submits all, and splits them into how many were acknowledged and those that are in doubt.
    fn append(&mut self, requests: &[Request]) -> Vec<Request> {
        let mut sent = Vec::new();
        for request in requests {
            if let Ok(ticket) = submit(self.journal(), request) {
                sent.push((request.clone(), ticket));
            }
        }
        let mut doubtful = Vec::new();
        for (request, ticket) in sent {
            match ticket.wait_blocking() {
                Ok(_) => {
                    assert!(doubtful.is_empty(), "acknowledged after a failure");
                    self.model.push(request);
                }
                Err(error) if error.is_in_doubt() => doubtful.push(request),
                Err(_) => {}
            }
        }
        doubtful
    }

    /// Opens again; what was in doubt may be there, in order, and then stays.
    fn reopen(&mut self, disk: SimulatedDisk, doubtful: Vec<Request>) {
        self.journal = None;
        self.disk = disk;
        // Another identity, which an existing journal must not take.
        let options = Options { new_journal_id: Uuid::from_u128(5), ..options(&self.disk) };
        let (journal, report) = open(options);
        let found = contents(&journal);
        assert!(found.len() >= self.model.len(), "lost {} requests", self.model.len() - found.len());
        self.model.extend(doubtful);
        assert_eq!(found, self.model[..found.len()]);
        self.model.truncate(found.len());
        assert!(!report.created && !report.mark_missing);
        self.journal = Some(journal);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Append(requests) => assert!(self.append(&requests).is_empty()),
            Action::Reopen => self.reopen(self.disk.clone(), Vec::new()),
            Action::Cut { after, requests, survival } => {
                self.disk.cut_power_after(after);
                let doubtful = self.append(&requests);
                self.disk.cut_power();
                self.reopen(self.disk.restart(survival), doubtful);
            }
            Action::FailSync { requests } => {
                self.disk.fail_sync_after(0);
                let doubtful = self.append(&requests);
                self.reopen(self.disk.clone(), doubtful);
            }
            Action::NoSpace { bytes, requests } => {
                self.disk.set_space_bytes(Some(bytes));
                assert!(self.append(&requests).is_empty(), "a full disk leaves no doubt");
                self.disk.set_space_bytes(None);
                self.journal().resume().unwrap();
            }
        }
        assert_eq!(contents(self.journal()), self.model);
        let verified = verify_on(&self.disk, FOLDER.as_ref(), &[self.journal().last()]).unwrap();
        assert_eq!((verified.first_bad, verified.anchors_agreeing), (None, 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_acknowledged_is_there_after_any_history(actions in proptest::collection::vec(action(), 1..12)) {
        let disk = SimulatedDisk::new();
        let (journal, _) = open(options(&disk));
        let mut run = Run { disk, journal: Some(journal), model: Vec::new() };
        for action in actions {
            run.act(action);
        }
    }
}

/// The same options on a real disk, with threads that really race.
#[test]
fn racing_threads_on_a_real_disk_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes_max: 20_000, ..Options::new(Uuid::from_u128(3)) };
    let (journal, _) = Journal::open(folder.path(), options.clone()).unwrap();
    let journal = Arc::new(journal);
    let mut acknowledged: Vec<(u64, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let journal = Arc::clone(&journal);
                scope.spawn(move || {
                    let append = |number| {
                        let text = format!("{thread}/{number}");
                        let ack = journal.append_blocking(vec![Record::new(1, text.as_str())]).unwrap();
                        (ack.first_sequence, text)
                    };
                    (0..100).map(append).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    acknowledged.sort_unstable();
    drop(journal);
    let (journal, report) = Journal::open(folder.path(), options).unwrap();
    assert!(report.segments > 3);
    let found: Vec<(u64, String)> = journal
        .iter_from(1)
        .map(Result::unwrap)
        .map(|entry| (entry.sequence, String::from_utf8(entry.payload).unwrap()))
        .collect();
    assert_eq!(found, acknowledged);
}
