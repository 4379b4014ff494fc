//! One suite for every backend, and what the embedded one promises beyond it.
#![cfg(test)]

mod audit;
mod conformance;
mod crash;
mod damage;
mod embedded;
mod faults;
mod fixtures;
mod given_up;
mod history;
mod lost;
mod postgres;
mod postgres_audit;
mod postgres_faults;
mod postgres_retention;
mod postgres_schema;
mod power_cuts;
mod private;
mod proxy;
mod real_disk;
mod retention;
mod transfer;
mod view;

use std::sync::Arc;

use quell_store::{EmbeddedStore, IncidentStore, MemoryStore};

use crate::conformance::{Fresh, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_store_conforms() {
    run(async || Fresh { store: Arc::new(MemoryStore::new()), _keep: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_conforms() {
    run(async || {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path(), embedded::options()).unwrap();
        Fresh { store: Arc::new(store), _keep: Some(folder) }
    })
    .await;
}

/// Every unfinished incident rests as soon as the index has it, and is read from the journal again for whatever happens next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_store_that_holds_nothing_conforms() {
    run(async || {
        let folder = tempfile::tempdir().unwrap();
        let mut options = embedded::options();
        (options.held_bytes_max, options.rests_after) = (0, std::time::Duration::ZERO);
        let store = EmbeddedStore::open(folder.path(), options).unwrap();
        Fresh { store: Arc::new(store), _keep: Some(folder) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_behind_a_pointer_conforms() {
    run(async || {
        let store: Arc<dyn IncidentStore> = Arc::new(MemoryStore::new());
        Fresh { store, _keep: None }
    })
    .await;
    run(async || {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn IncidentStore> =
            Arc::new(EmbeddedStore::open(folder.path(), embedded::options()).unwrap());
        Fresh { store, _keep: Some(folder) }
    })
    .await;
}
