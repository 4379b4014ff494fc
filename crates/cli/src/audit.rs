//! `quell audit`: whether a data folder is what was written.

use std::error::Error;
use std::path::{Path, PathBuf};

use quell_store::audit::{
    self, Anchor, AnchorError, Anchors, AuditReport, ExportError, PublicKey, SigningKey,
};
use serde_json::json;

use crate::args::{AuditCommand, DataDir, Since};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{Line, Look, Page, Stream};

pub(crate) fn run(context: &mut Context<'_>, command: AuditCommand) -> Result<()> {
    // Nothing else is under way, and all of it reads files.
    tokio::task::block_in_place(|| match command {
        AuditCommand::Verify { data_dir, anchor, public_key } => {
            verify(context, &folder(&data_dir)?, &anchor, public_key.as_deref())
        }
        AuditCommand::Export { data_dir, since } => export(context, &folder(&data_dir)?, since),
        AuditCommand::Key { file } => key(context, &file),
    })
}

/// The data folder that is meant.
pub(crate) fn folder(data_dir: &DataDir) -> Result<PathBuf> {
    let none =
        || Failure::usage("which data folder is not known").next("name it with --data-dir or QUELL_DATA_DIR");
    data_dir.folder().ok_or_else(none)
}

/// An error with its causes.
pub(crate) fn in_words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

fn anchor_failure(error: AnchorError) -> Failure {
    let words = in_words(&error);
    match error {
        AnchorError::Line { .. } => Failure::tampered(format!("the anchors were tampered with: {words}")),
        _ => Failure::failed(words),
    }
}

fn verify(context: &mut Context<'_>, folder: &Path, files: &[PathBuf], key: Option<&Path>) -> Result<()> {
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
    let report = audit::verify(folder, &anchors).map_err(|error| Failure::failed(in_words(&error)))?;
    if context.output.is_json() {
        context.output.json(&document(&report))?;
    } else {
        context.output.page(Stream::Out, &page(folder, &report, anchors.len()))?;
    }
    match report.finding {
        None => Ok(()),
        Some(finding) => Err(Failure::tampered(finding.what)
            .next("keep the folder as it is, and compare it with a backup and its anchors")),
    }
}

fn document(report: &AuditReport) -> serde_json::Value {
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
        "anchors_agreeing": report.anchors_agreeing,
        "torn_tail_bytes": report.torn_tail_bytes,
        "finding": finding,
    })
}

fn page(folder: &Path, report: &AuditReport, anchors: usize) -> Page {
    let mut page = Page::default();
    let line = match &report.finding {
        None => Line::new().with(Look::Good, "sound").plain(format!(": {}", folder.display())),
        Some(_) => Line::new().bad("tampered with or damaged").plain(format!(": {}", folder.display())),
    };
    page.line(line);
    if let Some(head) = report.head {
        page.field(2, "records", format!("{} in {} files", head.sequence, report.segments));
        page.field(2, "chain", head.chain_hash.to_string());
    }
    if report.dropped > 0 {
        let by = format!("{} payloads, by {} retention records", report.dropped, report.retention_records);
        page.field(2, "dropped", by);
    }
    let agreeing = format!("{} of {anchors} agree", report.anchors_agreeing);
    page.field(
        2,
        "anchors",
        if anchors == 0 { "none given: a cut end would not be seen".to_owned() } else { agreeing },
    );
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
    }
    page
}

fn export(context: &mut Context<'_>, folder: &Path, since: Option<Since>) -> Result<()> {
    let since = match since {
        None => None,
        Some(Since::At(at)) => Some(at),
        Some(Since::Ago(ago)) => {
            Some(context.now().checked_sub(ago).map_err(|_| Failure::usage("--since is too long ago"))?)
        }
    };
    let output = &mut *context.output;
    let exported = audit::export(folder, since, &mut |line| output.json_line(&line));
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
