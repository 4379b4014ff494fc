//! The systems themselves, in this process and on a free port of this machine, for tests of whoever asks them. Each keeps state, and
//! refuses what the real one refuses; each can have bad days ([`Mood`]).
//!
//! They are here, and not beside the site of the sandbox, since they name vendors, and since the tests of this crate should not need
//! every daemon to be built.

mod elasticsearch;
mod grafana;
mod kubernetes;
mod language_model;
mod loki;
mod server;
mod splunk;

pub use elasticsearch::FakeElasticsearch;
pub use grafana::FakeGrafana;
pub use kubernetes::FakeKubernetes;
pub use language_model::FakeLanguageModel;
pub use loki::FakeLoki;
pub use server::Mood;
pub use splunk::FakeSplunk;
