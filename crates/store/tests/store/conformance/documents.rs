//! Documents of incidents.

use std::sync::Arc;

use quell_incident::ids::Digest;
use quell_store::{DOCUMENT_BYTES_MAX, IncidentStore, StoreError};

use crate::fixtures::*;
use crate::retention::{later, lived, retained_all};

pub(crate) async fn a_document_is_kept_as_it_was<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let open = opened(&*store, 1).await;
    let other = opened(&*store, 2).await;
    // Larger than any event may be.
    let document: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    let digest = store.put_document(open.id, document.clone()).await.unwrap();
    assert_eq!(digest, Digest::of_bytes(&document));
    assert_eq!(store.put_document(open.id, document.clone()).await.unwrap(), digest, "again");
    assert_eq!(store.document(open.id, digest).await.unwrap(), Some(document));
    assert_eq!(store.document(other.id, digest).await.unwrap(), None, "it is of one incident");
    assert_eq!(store.document(open.id, Digest::of_bytes(b"other")).await.unwrap(), None);
    let empty = store.put_document(other.id, Vec::new()).await.unwrap();
    assert_eq!(store.document(other.id, empty).await.unwrap(), Some(Vec::new()));
}

pub(crate) async fn what_cannot_be_a_document_is_refused<S: IncidentStore + ?Sized>(store: Arc<S>) {
    let open = opened(&*store, 1).await;
    let large = store.put_document(open.id, vec![0; DOCUMENT_BYTES_MAX + 1]).await;
    assert!(matches!(large, Err(StoreError::TooLarge { .. })), "{large:?}");
    let nobodys = store.put_document(incident_id(9), b"x".to_vec()).await;
    assert!(matches!(nobodys, Err(StoreError::Unsound { .. })), "{nobodys:?}");
}

pub(crate) async fn documents_go_with_their_incident<S: IncidentStore + ?Sized>(store: Arc<S>) {
    lived(&*store, 1).await;
    let open = opened(&*store, 2).await;
    let over = store.put_document(incident_id(1), b"of one that is over".to_vec()).await.unwrap();
    let kept = store.put_document(open.id, b"of one that is not".to_vec()).await.unwrap();
    assert_eq!(retained_all(&*store, later()).await.incidents, 1);
    assert_eq!(store.document(incident_id(1), over).await.unwrap(), None);
    assert!(store.document(open.id, kept).await.unwrap().is_some());
}
