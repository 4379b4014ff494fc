//! Copies: not one event lost, and never half a store that looks like a whole one.

use std::fs;

use quell_incident::ids::Digest;
use quell_incident::surroundings::ChangeRecord;
use quell_store::audit::{self, SigningKey};
use quell_store::transfer::{
    FolderSink, FolderSource, JsonLinesSink, JsonLinesSource, RecordSink as _, RecordSource as _,
    TransferError, backends, compare, copy,
};
use quell_store::{ChangeQuery, EmbeddedStore, IncidentStore, ListQuery, ReceivedChange};

use crate::embedded::{fill, options, reopened};
use crate::fixtures::*;
use crate::retention::{later, lived, retained_all};
use crate::view;

/// A store with everything, of which retention has dropped something, and an anchor.
async fn source() -> (tempfile::TempDir, view::View, audit::Anchor) {
    let folder = tempfile::tempdir().unwrap();
    let mut small = options();
    small.journal.segment_bytes_max = 8 << 10;
    let store = EmbeddedStore::open(folder.path(), small).unwrap();
    for number in 100..120 {
        lived(&store, number).await;
    }
    retained_all(&store, later()).await;
    fill(&store).await;
    put_beside(&store).await;
    let seen = view::of(&store).await;
    let anchor =
        SigningKey::generate().unwrap().sign(store.chain_head().await.unwrap().unwrap(), at(1)).unwrap();
    (folder, seen, anchor)
}

fn contents() -> [Vec<u8>; 2] {
    [b"{\"evidence\": true}".to_vec(), (0..=255).collect()]
}

/// Two documents of each incident, one of them not text, and two changes.
async fn put_beside(store: &dyn IncidentStore) {
    for row in store.list(&ListQuery::default()).await.unwrap().rows {
        for content in contents() {
            store.put_document(row.id, content).await.unwrap();
        }
    }
    let change = |service: &str| ReceivedChange {
        received_at: at(20),
        record: ChangeRecord {
            at: at(10),
            kind: "deploy".to_owned(),
            service: service.to_owned(),
            version: "1 -> 2".to_owned(),
            by: String::new(),
            summary: String::new(),
            link: String::new(),
        },
    };
    store.put_change_records(vec![change("cart"), change("pay")]).await.unwrap();
}

/// Documents and changes are all there; how many there are of each.
async fn beside(store: &dyn IncidentStore) -> (u64, u64) {
    let mut documents = 0;
    for row in store.list(&ListQuery::default()).await.unwrap().rows {
        for content in contents() {
            let found = store.document(row.id, Digest::of_bytes(&content)).await.unwrap();
            assert_eq!(found.as_ref(), Some(&content), "{}", row.id);
            documents += 1;
        }
    }
    let query = ChangeQuery { from: at(0), to: at(100), received_until: at(100), limit: 10 };
    let changes = store.change_records(&query).await.unwrap();
    assert!(documents > 0);
    (documents, changes.len() as u64)
}

async fn is_the_same(folder: &std::path::Path, seen: &view::View, anchor: &audit::Anchor) {
    let report = audit::verify(folder, std::slice::from_ref(anchor)).unwrap();
    assert_eq!((report.finding, report.anchors_agreeing), (None, 1));
    assert!(report.dropped > 0);
    let store = reopened(folder);
    assert_eq!(view::of(&store).await, *seen);
    assert_eq!(beside(&store).await.1, 2);
    opened(&store, 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_folder_to_folder() {
    let (from, seen, anchor) = source().await;
    let to = tempfile::tempdir().unwrap();
    let mut source = FolderSource::open(from.path()).unwrap();
    let copied = copy(&mut source, &mut FolderSink::new(to.path())).await.unwrap();
    assert!(copied.dropped > 0 && copied.records > 100, "{copied:?}");
    compare(&copied, &mut FolderSource::open(to.path()).unwrap()).await.unwrap();
    is_the_same(to.path(), &seen, &anchor).await;
    let again = copy(&mut source, &mut FolderSink::new(to.path())).await.unwrap_err();
    assert!(matches!(again, TransferError::NotEmpty { .. }), "{again}");
    let more = compare(&copied, &mut FolderSource::open(to.path()).unwrap()).await.unwrap_err();
    assert!(more.to_string().contains("the target ends at record"), "{more}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_postgresql_and_back() {
    let Some(cluster) = crate::postgres::cluster() else { return };
    cluster.create_database("moved").unwrap();
    let address = cluster.url("moved");
    let backend = backends().into_iter().find(|backend| backend.schemes().contains(&"postgres")).unwrap();
    let from = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(from.path(), options()).unwrap();
    fill(&store).await;
    put_beside(&store).await;
    let (seen, were_beside) = (view::of(&store).await, beside(&store).await);
    drop(store);

    let mut folder = FolderSource::open(from.path()).unwrap();
    let copied = copy(&mut folder, backend.sink(&address).await.unwrap().as_mut()).await.unwrap();
    let mut database = backend.source(&address).await.unwrap();
    compare(&copied, database.as_mut()).await.unwrap();
    let store = quell_store::PostgresStore::open(&address, crate::postgres::JOURNAL).await.unwrap();
    assert_eq!(view::of(&store).await, seen);
    assert_eq!(beside(&store).await, were_beside);
    assert_eq!((copied.documents, copied.changes), were_beside);
    let again = copy(&mut folder, backend.sink(&address).await.unwrap().as_mut()).await.unwrap_err();
    assert!(matches!(again, TransferError::NotEmpty { .. }), "{again}");

    let back = tempfile::tempdir().unwrap();
    let returned = copy(database.as_mut(), &mut FolderSink::new(back.path())).await.unwrap();
    assert_eq!(returned, copied);
    let report = audit::verify(back.path(), &[]).unwrap();
    assert_eq!((report.finding, report.head), (None, Some(copied.head)));
    assert_eq!(view::of(&reopened(back.path())).await, seen);

    // What retention dropped comes without its payloads, in both directions, and what still counts of it comes along.
    let (dropped, seen, anchor) = source().await;
    cluster.create_database("dropped").unwrap();
    let address = cluster.url("dropped");
    let mut sink = backend.sink(&address).await.unwrap();
    let copied = copy(&mut FolderSource::open(dropped.path()).unwrap(), sink.as_mut()).await.unwrap();
    assert!(copied.dropped > 0, "{copied:?}");
    let store = quell_store::PostgresStore::open(&address, crate::postgres::JOURNAL).await.unwrap();
    assert_eq!(view::of(&store).await, seen);
    // It goes on with what was given up and is still there.
    retained_all(&store, at(0)).await;
    assert_eq!(view::of(&store).await, seen);
    let back = tempfile::tempdir().unwrap();
    let mut database = backend.source(&address).await.unwrap();
    let returned = copy(database.as_mut(), &mut FolderSink::new(back.path())).await.unwrap();
    assert!(returned.dropped >= copied.dropped && returned.head == copied.head, "{returned:?}");
    is_the_same(back.path(), &seen, &anchor).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_file_of_lines_and_back() {
    let (from, seen, anchor) = source().await;
    let mut source = FolderSource::open(from.path()).unwrap();
    let head = source.head().await.unwrap();
    let mut text = Vec::new();
    copy(&mut source, &mut JsonLinesSink::new(&mut text, head)).await.unwrap();
    let to = tempfile::tempdir().unwrap();
    let mut lines = JsonLinesSource::open(&text[..]).unwrap();
    copy(&mut lines, &mut FolderSink::new(to.path())).await.unwrap();
    is_the_same(to.path(), &seen, &anchor).await;

    // Cut, changed, or something else.
    let whole = String::from_utf8(text).unwrap();
    let last = whole.rfind("{\"sequence").unwrap();
    let end = whole.rfind("{\"end").unwrap();
    let document = whole.find("{\"document").unwrap();
    let garbled = "the file was cut or changed";
    for (text, told) in [
        (whole[..last].to_owned(), "is missing"),
        (whole[..last + 30].to_owned(), "is no record"),
        // Evidence is left behind unnoticed as little as events are.
        (whole[..end].to_owned(), garbled),
        (whole[..document + 90].to_owned(), garbled),
        (format!("{}{}", &whole[..document], &whole[end..]), garbled),
        (whole.replacen("content_hex\":\"7b", "content_hex\":\"7c", 1), garbled),
        (whole.replacen("looked at", "looked it", 1), "does not follow"),
    ] {
        let to = tempfile::tempdir().unwrap();
        let mut lines = JsonLinesSource::open(text.as_bytes()).unwrap();
        let error = copy(&mut lines, &mut FolderSink::new(to.path())).await.unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
        let error = EmbeddedStore::open(to.path(), options()).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("was never finished; copy again"), "{cause}");
        // Going on: the same copy again.
        let mut lines = JsonLinesSource::open(whole.as_bytes()).unwrap();
        copy(&mut lines, &mut FolderSink::new(to.path())).await.unwrap();
        is_the_same(to.path(), &seen, &anchor).await;
    }
    assert!(JsonLinesSource::open(&b"{}\n"[..]).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_copied_is_named() {
    let (from, ..) = source().await;
    let store = reopened(from.path());
    let error = FolderSource::open(from.path()).err().unwrap();
    assert!(error.to_string().contains("is in use by process"), "{error}");
    drop(store);
    let to = tempfile::tempdir().unwrap();
    let target = to.path().join("new");
    let mut sink = FolderSink::new(&target);
    sink.begin(uuid::Uuid::from_u128(1)).await.unwrap();
    assert!(EmbeddedStore::open(&target, options()).is_err());
    drop(sink);
    fs::remove_dir_all(&target).unwrap();
    assert!(FolderSource::open(&target).is_err());
}
