//! `quell store`: moving a store record by record.

use std::path::Path;

use quell_service::config::shown_address;
use quell_service::in_words;
use quell_store::transfer::{
    Copied, FolderSink, FolderSource, JsonLinesSink, JsonLinesSource, RecordSink, RecordSource,
    TransferError, backends, compare, copy,
};
use quell_store::{LossAcceptance, StoreError, accept_loss};
use serde_json::json;
use uuid::Uuid;

use crate::args::{Places, StoreCommand};
use crate::audit::folder;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Page, Stream};

pub(crate) async fn run(context: &mut Context<'_>, command: StoreCommand) -> Result<()> {
    match command {
        StoreCommand::Export { data_dir } => {
            let mut source = FolderSource::open(&folder(&data_dir)?).map_err(failure)?;
            let head = source.head().await.map_err(failure)?;
            let output = std::io::BufWriter::new(std::io::stdout());
            let copied = copy(&mut source, &mut JsonLinesSink::new(output, head)).await.map_err(failure)?;
            // Standard output is the copy.
            Ok(context.output.page(Stream::Error, &page(&copied, "standard output"))?)
        }
        StoreCommand::Import { data_dir } => {
            let folder = folder(&data_dir)?;
            let input = std::io::BufReader::new(std::io::stdin());
            let mut source = JsonLinesSource::open(input).map_err(failure)?;
            let copied = copy(&mut source, &mut FolderSink::new(&folder)).await.map_err(failure)?;
            told(context, &copied, &folder.display().to_string())
        }
        StoreCommand::AcceptLoss { data_dir, at, why, by } => {
            let now = context.now();
            let acceptance =
                LossAcceptance { ended_at: at, by, why, at: now, new_journal_id: Uuid::now_v7() };
            give_up(context, &folder(&data_dir)?, &acceptance)
        }
        StoreCommand::Copy(places) => {
            let copied = copied(&places).await?;
            told(context, &copied, &shown(&places.to))
        }
        StoreCommand::Migrate(places) => {
            let copied = copied(&places).await?;
            let mut target = source(&places.to).await?;
            compare(&copied, target.as_mut()).await.map_err(failure)?;
            told(context, &copied, &shown(&places.to))?;
            if !context.output.is_json() {
                context
                    .output
                    .line(Stream::Out, &"both end at the same record with the same chain hash".into())?;
            }
            Ok(())
        }
    }
}

fn give_up(context: &mut Context<'_>, folder: &Path, acceptance: &LossAcceptance) -> Result<()> {
    if !folder.is_dir() {
        return Err(Failure::usage(format!("there is no data folder {}", folder.display())));
    }
    let accepted = tokio::task::block_in_place(|| accept_loss(folder, acceptance));
    let accepted = accepted.map_err(|error| match error {
        StoreError::Lost { .. }
        | StoreError::NoJournal { .. }
        | StoreError::NothingLost { .. }
        | StoreError::Locked { .. } => Failure::not_possible(in_words(&error)),
        error => Failure::failed(in_words(&error)),
    })?;
    if context.output.is_json() {
        let document = json!({
            "ended_at": acceptance.ended_at.to_string(),
            "noted_in_record": accepted.record.to_string(),
            "records": accepted.head.sequence.to_string(),
            "chain_hash": accepted.head.chain_hash.to_string(),
            "put_aside": accepted.aside.display().to_string(),
            "already": accepted.already,
            "by": accepted.by,
            "why": accepted.why,
            "at": accepted.at.to_string(),
        });
        return Ok(context.output.json(&document)?);
    }
    let mut page = Page::default();
    let before = if accepted.already { "was given up before" } else { "is given up" };
    page.line(format!("what was lost after record {} {before}", acceptance.ended_at));
    page.field(2, "noted", format!("in record {}, for `quell audit verify`", accepted.record));
    page.field(2, "put aside", accepted.aside.display().to_string());
    if (&accepted.by, &accepted.why) != (&acceptance.by, &acceptance.why) {
        let stands = format!("given up by {} at {}: {}", accepted.by, accepted.at, accepted.why);
        page.field(2, "stands", stands);
        page.line("what was said now is not noted: a loss is given up once");
    }
    Ok(context.output.page(Stream::Out, &page)?)
}

async fn copied(places: &Places) -> Result<Copied> {
    if places.from == places.to {
        return Err(Failure::usage("--from and --to name the same store"));
    }
    let mut from = source(&places.from).await?;
    let mut to = sink(&places.to).await?;
    copy(from.as_mut(), to.as_mut()).await.map_err(failure)
}

/// The scheme of an address; a folder has none.
fn scheme(place: &str) -> Option<&str> {
    place.split_once("://").map(|(scheme, _)| scheme)
}

/// A place as it is shown: without what may be a secret in an address.
pub(crate) fn shown(place: &str) -> String {
    if scheme(place).is_none() { place.to_owned() } else { shown_address(place) }
}

fn not_supported(scheme: &str) -> Failure {
    Failure::usage(format!("{scheme}:// is not supported by this build")).next("name a data folder")
}

async fn source(place: &str) -> Result<Box<dyn RecordSource>> {
    let Some(scheme) = scheme(place) else {
        let opened = tokio::task::block_in_place(|| FolderSource::open(Path::new(place)));
        return Ok(Box::new(opened.map_err(failure)?));
    };
    let backend = backends().into_iter().find(|backend| backend.schemes().contains(&scheme));
    let backend = backend.ok_or_else(|| not_supported(scheme))?;
    backend.source(place).await.map_err(failure)
}

async fn sink(place: &str) -> Result<Box<dyn RecordSink>> {
    let Some(scheme) = scheme(place) else { return Ok(Box::new(FolderSink::new(Path::new(place)))) };
    let backend = backends().into_iter().find(|backend| backend.schemes().contains(&scheme));
    let backend = backend.ok_or_else(|| not_supported(scheme))?;
    backend.sink(place).await.map_err(failure)
}

fn failure(error: TransferError) -> Failure {
    let words = error.to_string();
    match error {
        TransferError::NotEmpty { .. } => Failure::not_possible(words),
        TransferError::NotTheChain { .. } => Failure::failed(words)
            .next("a target that was begun is refused until the copy was repeated")
            .and_next("`quell audit verify` says what is wrong with a source"),
        TransferError::Source(_) | TransferError::Target(_) => Failure::failed(words),
    }
}

fn told(context: &mut Context<'_>, copied: &Copied, to: &str) -> Result<()> {
    if context.output.is_json() {
        let document = json!({
            "journal_id": copied.journal_id,
            "records": copied.records.to_string(),
            "payloads_dropped": copied.dropped.to_string(),
            "documents": copied.documents.to_string(),
            "changes": copied.changes.to_string(),
            "chain_hash": copied.head.chain_hash.to_string(),
            "to": to,
        });
        return Ok(context.output.json(&document)?);
    }
    Ok(context.output.page(Stream::Out, &page(copied, to))?)
}

fn page(copied: &Copied, to: &str) -> Page {
    let mut page = Page::default();
    page.line(format!(
        "{} records copied to {to}, with {} documents and {} changes",
        copied.records, copied.documents, copied.changes
    ));
    if copied.dropped > 0 {
        page.line(format!(
            "{} of them without a payload, which retention had dropped before",
            copied.dropped
        ));
    }
    page.line(format!("chain hash {}", copied.head.chain_hash));
    page
}
