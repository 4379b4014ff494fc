//! What holds after a loss was given up, and what giving up refuses.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use quell_incident::ids::FencingToken;
use quell_incident::workflow::Claim;
use quell_store::audit::{self, DurableMark, IndexState};
use quell_store::transfer::{FolderSource, backends, copy as copy_records};
use quell_store::{
    EmbeddedStore, IncidentStore, LossAcceptance, PostgresStore, Retention, StoreError, accept_loss,
};

use crate::crash::copy;
use crate::embedded::{fill, reopened};
use crate::fixtures::*;
use crate::retention::{later, lived, retained_all};

fn acceptance(ended_at: u64, second: i64) -> LossAcceptance {
    LossAcceptance {
        ended_at,
        by: "person-1".to_owned(),
        why: "no backup".to_owned(),
        at: at(second),
        new_journal_id: uuid::Uuid::from_u128(78),
    }
}

async fn next_token<S: IncidentStore + ?Sized>(store: &S, name: &str) -> FencingToken {
    store.locks(&[target(name)]).await.unwrap()[&target(name)].token.next()
}

/// Locks a target and frees it again, as a runbook's step does; returns the token that the agent is shown.
async fn locked<S: IncidentStore + ?Sized>(store: &S, number: u64, name: &str) -> FencingToken {
    let incident = match store.incident(incident_id(number)).await.unwrap() {
        Some(incident) => incident,
        None => opened(store, number).await,
    };
    let token = next_token(store, name).await;
    let incident = store.append(claim(&incident, vec![Claim::Take(lock(name, token.0))])).await.unwrap();
    store.append(claim(&incident, vec![Claim::Release(lock(name, token.0))])).await.unwrap();
    token
}

fn remove(folder: &Path, names: &[&str]) {
    for name in names {
        fs::remove_dir_all(folder.join(name)).unwrap();
    }
}

/// Everything in a folder, by its path and whether it is a folder.
fn content(folder: &Path) -> BTreeMap<std::path::PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
            found.insert(path, None);
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, Some(bytes));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_go_on_above_what_an_agent_can_have_seen() {
    let folder = tempfile::tempdir().unwrap();
    let store = reopened(folder.path());
    assert_eq!(
        [locked(&store, 1, "db-1").await, locked(&store, 1, "db-1").await].map(|token| token.0),
        [1, 2]
    );
    let mut seen = FencingToken(2);
    drop(store);
    // The second time the record of the first loss is lost as well.
    for second in [5_000, 9_000] {
        remove(folder.path(), &["journal"]);
        accept_loss(folder.path(), &acceptance(0, second)).unwrap();
        let store = reopened(folder.path());
        for name in ["db-1", "never-locked-before"] {
            let token = locked(&store, 1, name).await;
            assert!(token > seen, "{name}: {token} after {seen}");
            assert_eq!(locked(&store, 2, name).await, token.next());
        }
        seen = next_token(&store, "db-1").await;
    }
    let bound = next_token(&reopened(folder.path()), "web-1").await;
    // Neither retention nor an index that is made anew changes it, and a database gets it as well.
    let store = reopened(folder.path());
    lived(&store, 7).await;
    retained_all(&store, later()).await;
    let tokens =
        async |store: &dyn IncidentStore| [next_token(store, "db-1").await, next_token(store, "web-1").await];
    let wanted = tokens(&store).await;
    assert_eq!(wanted[1], bound);
    drop(store);
    assert_eq!(tokens(&reopened(folder.path())).await, wanted);
    remove(folder.path(), &["index"]);
    assert_eq!(tokens(&reopened(folder.path())).await, wanted);
    let Some(cluster) = crate::postgres::cluster() else { return };
    cluster.create_database("given_up").unwrap();
    let address = cluster.url("given_up");
    let backend = backends().into_iter().find(|backend| backend.schemes().contains(&"postgres")).unwrap();
    let mut sink = backend.sink(&address).await.unwrap();
    copy_records(&mut FolderSource::open(folder.path()).unwrap(), sink.as_mut()).await.unwrap();
    let store = PostgresStore::open(&address, crate::postgres::JOURNAL).await.unwrap();
    assert_eq!(tokens(&store).await, wanted);
    assert_eq!([locked(&store, 9, "db-1").await, locked(&store, 9, "web-1").await], wanted);
}

#[tokio::test]
async fn after_a_cut_that_nobody_can_tell_of_tokens_jump_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let store = reopened(folder.path());
    let seen = locked(&store, 1, "db-1").await;
    drop(store);
    remove(folder.path(), &["index"]);
    fs::remove_file(folder.path().join("journal/durable.mark")).unwrap();
    let store = reopened(folder.path());
    assert!(store.report().unwitnessed && locked(&store, 1, "db-1").await > seen.next());
}

#[tokio::test]
async fn a_lock_that_was_held_across_a_loss_is_freed_and_then_goes_on_above() {
    let folder = tempfile::tempdir().unwrap();
    let store = reopened(folder.path());
    let incident = opened(&store, 1).await;
    let incident = store.append(claim(&incident, vec![Claim::Take(lock("db-1", 1))])).await.unwrap();
    let ended_at = store.chain_head().await.unwrap().unwrap().head.sequence;
    drop(store);
    let kept = tempfile::tempdir().unwrap();
    copy(folder.path(), kept.path());
    let store = reopened(folder.path());
    store.append(note(&incident, "lost")).await.unwrap();
    drop(store);
    remove(folder.path(), &["journal"]);
    copy(&kept.path().join("journal"), &folder.path().join("journal"));
    accept_loss(folder.path(), &acceptance(ended_at, 5_000)).unwrap();
    let store = reopened(folder.path());
    let incident = store.incident(incident.id).await.unwrap().unwrap();
    let claims = vec![Claim::Hold(lock("db-1", 1)), Claim::Release(lock("db-1", 1))];
    store.append(claim(&incident, claims)).await.unwrap();
    assert!(next_token(&store, "db-1").await > FencingToken(1_000_000));
}

#[tokio::test]
async fn evidence_of_lost_incidents_is_put_aside_and_what_is_left_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let (data, kept) = (folder.path().join("data"), folder.path().join("kept"));
    let store = reopened(&data);
    let digest = {
        let known = opened(&store, 1).await;
        store.put_document(known.id, b"kept".to_vec()).await.unwrap()
    };
    let ended_at = store.chain_head().await.unwrap().unwrap().head.sequence;
    drop(store);
    copy(&data, &kept);
    let store = reopened(&data);
    let lost = opened(&store, 2).await;
    store.put_document(lost.id, b"lost".to_vec()).await.unwrap();
    drop(store);
    // An older copy is put back, and nothing but the evidence is of the newer one.
    remove(&data, &["journal", "index"]);
    copy(&kept.join("journal"), &data.join("journal"));
    let finding = audit::verify(&data, &[]).unwrap().finding.unwrap();
    assert!(finding.what.contains(&lost.id.to_string()), "{}", finding.what);
    let error = EmbeddedStore::open(&data, crate::embedded::options()).unwrap_err();
    assert!(matches!(error, StoreError::Lost { at, .. } if at == ended_at), "{error}");
    let accepted = accept_loss(&data, &acceptance(ended_at, 5_000)).unwrap();
    assert!(accepted.aside.join("documents").join(lost.id.to_string()).is_dir());
    assert_eq!(audit::verify(&data, &[]).unwrap().finding, None);
    let store = reopened(&data);
    assert!(store.document(incident_id(1), digest).await.unwrap().is_some());
}

/// A process may die after retention has dropped an incident and before its evidence went.
#[tokio::test]
async fn evidence_that_retention_has_not_taken_yet_is_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    let store = reopened(folder.path());
    lived(&store, 1).await;
    store.put_document(incident_id(1), b"evidence".to_vec()).await.unwrap();
    let of_incident = folder.path().join("documents").join(incident_id(1).to_string());
    let aside = tempfile::tempdir().unwrap();
    copy(&of_incident, aside.path());
    assert_eq!(retained_all(&store, later()).await.incidents, 1);
    drop(store);
    assert!(!of_incident.exists());
    fs::create_dir(&of_incident).unwrap();
    copy(aside.path(), &of_incident);
    for without in [&[][..], &["index"]] {
        remove(folder.path(), without);
        assert_eq!(audit::verify(folder.path(), &[]).unwrap().finding, None, "{without:?}");
        drop(reopened(folder.path()));
    }
    // The next time that an incident goes, its evidence goes too.
    let store = reopened(folder.path());
    lived(&store, 2).await;
    let retention = Retention { received: None, ..crate::retention::tiny() };
    store.list(&quell_store::ListQuery::default()).await.unwrap();
    store.retain(&retention, later(), &quell_store::RetentionBudget::default()).await.unwrap();
    assert!(!of_incident.exists());
}

#[test]
fn a_folder_that_has_no_journal_is_not_given_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter.txt"), b"not ours").unwrap();
    fs::create_dir(folder.path().join("journal")).unwrap();
    fs::write(folder.path().join("journal/LOCK"), b"").unwrap();
    let before = content(folder.path());
    let error = accept_loss(folder.path(), &acceptance(0, 1)).unwrap_err();
    assert!(matches!(error, StoreError::NoJournal { .. }), "{error}");
    assert_eq!(content(folder.path()), before);
}

#[tokio::test]
async fn what_was_given_up_once_stands_and_a_reason_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()).await);
    remove(folder.path(), &["journal"]);
    let blank = LossAcceptance { why: " \t".to_owned(), ..acceptance(0, 1) };
    let error = accept_loss(folder.path(), &blank).unwrap_err();
    assert!(matches!(error, StoreError::Unsound { .. }), "{error}");
    assert!(!folder.path().join("journal").exists());
    // A folder with other things in it is not closed by what is written into it.
    fs::write(folder.path().join("letter.txt"), b"not ours").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    accept_loss(folder.path(), &acceptance(0, 1)).unwrap();
    assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o755);
    let other = LossAcceptance { by: "person-2".to_owned(), why: "other".to_owned(), ..acceptance(0, 2) };
    let stands = accept_loss(folder.path(), &other).unwrap();
    assert!(stands.already);
    assert_eq!((&*stands.by, &*stands.why, stands.at), ("person-1", "no backup", at(1)));
}

async fn filled(folder: &Path) -> EmbeddedStore {
    let store = reopened(folder);
    fill(&store).await;
    store
}

#[tokio::test]
async fn witnesses_that_cannot_be_read_are_told_from_missing_ones() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()).await);
    let site = |mark: Option<&[u8]>, index: Option<&[u8]>| {
        let data = tempfile::tempdir().unwrap();
        copy(folder.path(), data.path());
        let path = data.path().join("journal/durable.mark");
        match mark {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        match index {
            Some(content) => {
                let path = data.path().join("index/db");
                let mut bytes = fs::read(&path).unwrap();
                let length = content.len().min(bytes.len());
                bytes[..length].copy_from_slice(&content[..length]);
                fs::write(path, if content.len() < 100 { content.to_vec() } else { bytes }).unwrap();
            }
            None => remove(data.path(), &["index"]),
        }
        data
    };
    let rubbish = vec![b'x'; 4_000];
    type Content<'a> = Option<&'a [u8]>;
    let cases: [(&str, Content<'_>, Content<'_>, DurableMark); 4] = [
        ("both damaged", Some(b"garbage"), Some(&rubbish), DurableMark::Unreadable),
        ("no mark, a damaged index", None, Some(&rubbish), DurableMark::Missing),
        ("no mark, an index of one byte", None, Some(b"x"), DurableMark::Missing),
        ("a damaged mark, no index", Some(b"garbage"), None, DurableMark::Unreadable),
    ];
    for (case, mark, index, found) in cases {
        let data = site(mark, index);
        let report = audit::verify(data.path(), &[]).unwrap();
        let beside = report.beside.unwrap();
        assert_eq!(beside.mark, found, "{case}");
        assert_eq!(beside.index == IndexState::Missing, index.is_none(), "{case}: {:?}", beside.index);
        let what = report.finding.unwrap_or_else(|| panic!("{case}: {:?}", beside.index)).what;
        assert!(what.contains("cannot be told"), "{case}: {what}");
        assert!(!what.contains("Inline") && !what.contains("backtrace"), "{case}: {what}");
        let store = reopened(data.path());
        let why = store.report().index_rebuilt_because.clone().unwrap_or_default();
        assert!(store.report().unwitnessed && !why.contains("Inline"), "{case}: {why}");
    }
}

#[tokio::test]
async fn folders_behind_links_stay_usable() {
    let folder = tempfile::tempdir().unwrap();
    let (data, big) = (folder.path().join("data"), folder.path().join("bigdisk"));
    drop(filled(&data).await);
    for name in ["documents", "changes"] {
        let there = big.join(name);
        fs::create_dir_all(&there).unwrap();
        fs::set_permissions(&there, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(&there, data.join(name)).unwrap();
    }
    // A link that leads nowhere keeps nobody from starting.
    std::os::unix::fs::symlink(folder.path().join("gone"), data.join("index.bad-1")).unwrap();
    let store = reopened(&data);
    for name in ["documents", "changes"] {
        let mode = fs::metadata(big.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{name}");
    }
    let digest = store.put_document(incident_id(4), b"evidence".to_vec()).await.unwrap();
    assert!(store.document(incident_id(4), digest).await.unwrap().is_some());
}
