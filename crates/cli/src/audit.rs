//! `quell audit`: whether a data folder or a database is what was written.

use std::path::{Path, PathBuf};

use quell_service::{Daemon, Environment, Loading, in_words};
use quell_store::audit::{
    self, Anchor, AnchorError, Anchors, AuditReport, DurableMark, ExportError, IndexState, PublicKey,
    SigningKey,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use crate::args::{AuditCommand, AuditedStore, DataDir, Since};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Line, Look, Page, Stream};
use crate::store::shown;

pub(crate) async fn run(context: &mut Context<'_>, command: AuditCommand) -> Result<()> {
    match command {
        AuditCommand::Verify { store, anchor, public_key } => {
            verify(context, &audited(&store)?, &anchor, public_key.as_deref()).await
        }
        AuditCommand::Export { store, since } => export(context, &audited(&store)?, since).await,
        AuditCommand::Key { file } => key(context, &file),
    }
}

/// What is audited.
enum Audited {
    Folder(PathBuf),
    Database(SecretString),
}

impl Audited {
    fn what(&self) -> &'static str {
        match self {
            Self::Folder(_) => "folder",
            Self::Database(_) => "database",
        }
    }

    /// As it is shown: without what may be a secret in an address.
    fn shown(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Database(address) => shown(address.expose_secret()),
        }
    }
}

/// The store that is meant: a folder or a database that is named, else what the configuration names, else the folder that a
/// coordinator without a setting has.
fn audited(store: &AuditedStore) -> Result<Audited> {
    if store.data_dir.is_named() {
        return folder(&store.data_dir).map(Audited::Folder);
    }
    if let Some(address) = store.database_url.clone().filter(|address| !address.expose_secret().is_empty()) {
        return Ok(Audited::Database(address));
    }
    let Some(file) = &store.config else { return folder(&store.data_dir).map(Audited::Folder) };
    let loading = Loading {
        daemon: Some(Daemon::Coordinator),
        file: Some(file.clone()),
        environment: Environment::of_process(),
    };
    let config = loading.load(|_| {}).map_err(|error| Failure::usage(in_words(&error)))?;
    match &config.coordinator.database_url {
        Some(address) => Ok(Audited::Database(address.expose().into())),
        None => {
            let folder = config.coordinator_data_dir().map_err(|error| Failure::usage(in_words(&error)))?;
            Ok(Audited::Folder(folder.to_owned()))
        }
    }
}

/// The data folder that is meant.
pub(crate) fn folder(data_dir: &DataDir) -> Result<PathBuf> {
    let none =
        || Failure::usage("which data folder is not known").next("name it with --data-dir or QUELL_DATA_DIR");
    data_dir.folder().ok_or_else(none)
}

fn anchor_failure(error: AnchorError) -> Failure {
    let words = in_words(&error);
    match error {
        AnchorError::Line { .. } => Failure::tampered(format!("the anchors were tampered with: {words}")),
        _ => Failure::failed(words),
    }
}

async fn verify(
    context: &mut Context<'_>,
    audited: &Audited,
    files: &[PathBuf],
    key: Option<&Path>,
) -> Result<()> {
    let key = key.map(PublicKey::read).transpose().map_err(anchor_failure)?;
    let mut anchors: Vec<Anchor> = Vec::new();
    for file in files {
        let read = Anchors::read(file, key.as_ref()).map_err(anchor_failure)?;
        if read.torn {
            let note = format!("the last line of {} was never finished and is left out", file.display());
            context.output.note(note)?;
        }
        if read.anchors.is_empty() {
            return Err(Failure::failed(format!("{} has no anchor", file.display())));
        }
        anchors.extend(read.anchors);
    }
    if !files.is_empty() && key.is_none() {
        context.output.note("without --public-key anybody may have signed the anchors")?;
    }
    let report = match audited {
        // Nothing else is under way.
        Audited::Folder(folder) => tokio::task::block_in_place(|| audit::verify(folder, &anchors)),
        Audited::Database(address) => audit::verify_database(address.expose_secret(), &anchors).await,
    };
    let report = report.map_err(|error| Failure::failed(in_words(&error)))?;
    if context.output.is_json() {
        context.output.json(&document(&report, anchored_up_to(&report, &anchors)))?;
    } else {
        context.output.page(Stream::Out, &page(audited, &report, &anchors))?;
    }
    match report.finding {
        None => Ok(()),
        Some(finding) => Err(Failure::tampered(finding.what).next(format!(
            "keep the {} as it is, and compare it with a backup and its anchors",
            audited.what()
        ))),
    }
}

fn index_in_words(index: &IndexState) -> String {
    match index {
        IndexState::Missing => "missing, and made anew at the next start".to_owned(),
        IndexState::Agrees { sequence } => format!("compared up to record {sequence}"),
        IndexState::InUse => {
            "not compared: a process has it in use, which compared it when it started".to_owned()
        }
        IndexState::NothingNoted => "not compared: it has noted nothing of the journal".to_owned(),
        IndexState::Unreadable { why } => format!("not compared: it cannot be read: {why}"),
    }
}

fn mark_in_words(mark: DurableMark) -> String {
    match mark {
        DurableMark::UpTo(head) => format!("durable up to record {}", head.sequence),
        DurableMark::Missing => {
            "`durable.mark` is missing: the index and anchors alone would show a cut end".to_owned()
        }
        DurableMark::Unreadable => {
            "`durable.mark` cannot be read: the index and anchors alone would show a cut end".to_owned()
        }
    }
}

/// The record that the mark goes up to, or why there is none.
fn mark_document(mark: DurableMark) -> Option<String> {
    match mark {
        DurableMark::UpTo(head) => Some(head.sequence.to_string()),
        DurableMark::Missing => None,
        DurableMark::Unreadable => Some("unreadable".to_owned()),
    }
}

/// The record up to which anchors vouch for the journal; none unless all of them agree.
fn anchored_up_to(report: &AuditReport, anchors: &[Anchor]) -> Option<u64> {
    let all_agree = report.anchors_agreeing == anchors.len();
    anchors.iter().map(|anchor| anchor.head.sequence).max().filter(|_| all_agree)
}

/// How many anchors agree, and how far they reach: of what came after the last one they say nothing.
fn anchors_in_words(report: &AuditReport, anchors: &[Anchor]) -> String {
    if anchors.is_empty() {
        return "none given: what was rewritten as a whole would not be seen".to_owned();
    }
    let agreeing = format!("{} of {} agree", report.anchors_agreeing, anchors.len());
    match (anchored_up_to(report, anchors), report.head) {
        (Some(last), Some(head)) if last < head.sequence => {
            format!("{agreeing}, up to record {last}: no anchor tells of the records after it")
        }
        (Some(last), _) => format!("{agreeing}, up to record {last}"),
        (None, _) => agreeing,
    }
}

fn document(report: &AuditReport, anchored_up_to: Option<u64>) -> serde_json::Value {
    let finding = report.finding.as_ref().map(|finding| {
        json!({
            "sequence": finding.sequence.to_string(),
            "segment": finding.segment.as_ref().map(|path| path.display().to_string()),
            "offset": finding.offset.to_string(),
            "what": finding.what,
        })
    });
    json!({
        "sound": report.finding.is_none(),
        "journal_id": report.journal_id,
        "records": report.head.map(|head| head.sequence.to_string()),
        "chain_hash": report.head.map(|head| head.chain_hash.to_string()),
        "segments": report.segments,
        "payloads_dropped": report.dropped,
        "retention_records": report.retention_records,
        "losses": report.losses.iter().map(|loss| json!({
            "record": loss.record.to_string(),
            "ended_at": loss.ended_at.to_string(),
            "lost": loss.lost,
            "accepted": loss.accepted,
        })).collect::<Vec<_>>(),
        "durable_mark": report.beside.as_ref().map(|beside| mark_document(beside.mark)),
        "index": report.beside.as_ref().map(|beside| index_in_words(&beside.index)),
        "evidence": report.beside.as_ref().map(|beside| beside.evidence),
        "anchors_agreeing": report.anchors_agreeing,
        "anchored_up_to": anchored_up_to.map(|sequence| sequence.to_string()),
        "torn_tail_bytes": report.torn_tail_bytes,
        "finding": finding,
        "finding_by_anchor": report.finding_by_anchor,
    })
}

fn page(audited: &Audited, report: &AuditReport, anchors: &[Anchor]) -> Page {
    let mut page = Page::default();
    let line = match &report.finding {
        None => Line::new().with(Look::Good, "sound"),
        Some(_) => Line::new().bad("tampered with or damaged"),
    };
    page.line(line.plain(format!(": {}", audited.shown())));
    if let Some(head) = report.head {
        let records = match audited {
            Audited::Folder(_) => format!("{} in {} files", head.sequence, report.segments),
            Audited::Database(_) => head.sequence.to_string(),
        };
        page.field(2, "records", records);
        page.field(2, "chain", head.chain_hash.to_string());
    }
    if report.dropped > 0 {
        let by = format!("{} payloads, by {} retention records", report.dropped, report.retention_records);
        page.field(2, "dropped", by);
    }
    // Beyond what is wrong nothing was compared.
    if let Some(beside) = report.beside.as_ref().filter(|_| report.finding.is_none()) {
        page.field(2, "mark", mark_in_words(beside.mark));
        page.field(2, "index", index_in_words(&beside.index));
        if beside.evidence > 0 {
            page.field(2, "evidence", format!("{} documents are as the events cite them", beside.evidence));
        }
    }
    for loss in &report.losses {
        let by = loss.accepted.as_deref().unwrap_or("nobody was asked");
        page.field(
            2,
            "lost",
            format!("after record {}, noted in record {}: {by}", loss.ended_at, loss.record),
        );
        page.field(2, "", &loss.lost);
    }
    page.field(2, "anchors", anchors_in_words(report, anchors));
    if report.torn_tail_bytes > 0 {
        let bytes = format!("{} bytes at the end that nobody was told are durable", report.torn_tail_bytes);
        page.field(2, "tail", bytes);
    }
    if let Some(finding) = &report.finding {
        page.field(2, "first bad", format!("record {}", finding.sequence));
        if let Some(segment) = &finding.segment {
            page.field(2, "where", format!("{} at byte {}", segment.display(), finding.offset));
        }
        page.field(2, "what", &finding.what);
        page.field(2, "told by", report.finding_by_anchor.as_deref().unwrap_or_default());
    }
    page
}

async fn export(context: &mut Context<'_>, audited: &Audited, since: Option<Since>) -> Result<()> {
    let since = match since {
        None => None,
        Some(Since::At(at)) => Some(at),
        Some(Since::Ago(ago)) => {
            Some(context.now().checked_sub(ago).map_err(|_| Failure::usage("--since is too long ago"))?)
        }
    };
    let output = &mut *context.output;
    let mut write = |line| output.json_line(&line);
    let exported = match audited {
        Audited::Folder(folder) => tokio::task::block_in_place(|| audit::export(folder, since, &mut write)),
        Audited::Database(address) => {
            audit::export_database(address.expose_secret(), since, &mut write).await
        }
    };
    match exported {
        Ok(exported) => match exported.report.finding {
            None => Ok(()),
            Some(finding) => Err(Failure::tampered(format!("the export ends early: {}", finding.what))
                .next("quell audit verify says where")),
        },
        Err(ExportError::Output(error)) => Err(error.into()),
        Err(error) => Err(Failure::failed(in_words(&error))),
    }
}

fn key(context: &mut Context<'_>, file: &Path) -> Result<()> {
    let mut public = file.as_os_str().to_owned();
    public.push(".pub");
    let public = PathBuf::from(public);
    for path in [file, &public] {
        if path.exists() {
            return Err(Failure::not_possible(format!(
                "{} is there already and is not overwritten",
                path.display()
            )));
        }
    }
    let failed = |error: AnchorError| Failure::failed(in_words(&error));
    let key = SigningKey::generate().map_err(failed)?;
    key.write_new(file).map_err(failed)?;
    key.public().write_new(&public).map_err(failed)?;
    let document = json!({
        "signing_key_file": file.display().to_string(),
        "public_key_file": public.display().to_string(),
        "public_key": key.public().to_string(),
    });
    if context.output.is_json() {
        return Ok(context.output.json(&document)?);
    }
    let mut page = Page::default();
    page.line(format!("{}: the signing key; set coordinator.audit.signing_key_file to it", file.display()));
    page.line(format!("{}: the public key; keep a copy away from this machine", public.display()));
    Ok(context.output.page(Stream::Out, &page)?)
}
