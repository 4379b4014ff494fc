//! Signed notes of how far a chain went, to be kept outside of the data folder.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use quell_journal::Head;
use quell_sign::{AUDIT_ANCHORS, KeyError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::retention::ChainHead;

const SCHEMA: &str = "quell/anchor/v1";
const ANCHORS_BYTES_MAX: u64 = 256 << 20;

/// What is wrong with a key or with an anchor file.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// A file cannot be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A key cannot be read, written or used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A line of an anchor file is not what a coordinator has written.
    #[error("line {line} of {} {why}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// An anchor has no JSON form.
    #[error("an anchor has no JSON form")]
    Json(#[from] serde_json::Error),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AnchorError {
    move |source| AnchorError::Io { action, path: path.to_owned(), source }
}

/// Signs anchors.
#[derive(Debug)]
pub struct SigningKey(quell_sign::SigningKey);

/// Checks anchors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(quell_sign::PublicKey);

impl std::fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl SigningKey {
    /// A new key.
    pub fn generate() -> Result<Self, AnchorError> {
        Ok(Self(quell_sign::SigningKey::generate()?))
    }

    /// The key in a file, which only its owner may be able to read.
    pub fn read(path: &Path) -> Result<Self, AnchorError> {
        Ok(Self(quell_sign::SigningKey::read(path, &AUDIT_ANCHORS)?))
    }

    /// Writes it into a new file that only its owner can read.
    pub fn write_new(&self, path: &Path) -> Result<(), AnchorError> {
        Ok(self.0.write_new(path, &AUDIT_ANCHORS)?)
    }

    /// What checks what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public())
    }

    /// Signs how far a chain went.
    pub fn sign(&self, chain: ChainHead, at: Timestamp) -> Result<Anchor, AnchorError> {
        let ChainHead { journal_id, head } = chain;
        let signature = self.0.sign(&signed_text(journal_id, head, at))?;
        Ok(Anchor { journal_id, head, at, public_key: self.public(), signature })
    }
}

impl PublicKey {
    /// The key in a file.
    pub fn read(path: &Path) -> Result<Self, AnchorError> {
        Ok(Self(quell_sign::PublicKey::read(path, &AUDIT_ANCHORS)?))
    }

    /// Writes it into a new file.
    pub fn write_new(&self, path: &Path) -> Result<(), AnchorError> {
        Ok(self.0.write_new(path, &AUDIT_ANCHORS)?)
    }
}

fn signed_text(journal_id: Uuid, head: Head, at: Timestamp) -> Vec<u8> {
    let Head { sequence, chain_hash } = head;
    format!("quell anchor v1\n{journal_id}\n{sequence}\n{chain_hash}\n{at}\n").into_bytes()
}

/// How far a chain went at a time, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The identity of the journal.
    pub journal_id: Uuid,
    /// Its last durable record then.
    pub head: Head,
    /// When.
    pub at: Timestamp,
    /// The key that it says it was signed with.
    pub public_key: PublicKey,
    signature: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    schema: String,
    journal_id: Uuid,
    sequence: String,
    chain_hash: String,
    at: Timestamp,
    public_key: String,
    signature: String,
}

impl Anchor {
    fn to_line(&self) -> Result<Vec<u8>, AnchorError> {
        let line = Line {
            schema: SCHEMA.to_owned(),
            journal_id: self.journal_id,
            sequence: self.head.sequence.to_string(),
            chain_hash: self.head.chain_hash.to_string(),
            at: self.at,
            public_key: self.public_key.to_string(),
            signature: self.signature.clone(),
        };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn from_line(text: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(text).map_err(|error| format!("is no anchor: {error}"))?;
        if line.schema != SCHEMA {
            return Err(format!("has schema `{}`, known is `{SCHEMA}`", line.schema));
        }
        let key = line.public_key.parse().map_err(|_| "has no public key".to_owned())?;
        let anchor = Self {
            journal_id: line.journal_id,
            head: Head {
                sequence: line.sequence.parse().map_err(|_| "has no sequence".to_owned())?,
                chain_hash: line.chain_hash.parse().map_err(|_| "has no chain hash".to_owned())?,
            },
            at: line.at,
            public_key: PublicKey(key),
            signature: line.signature,
        };
        if anchor.is_signed_by(&anchor.public_key) {
            Ok(anchor)
        } else {
            Err("has a wrong signature".to_owned())
        }
    }

    /// Whether that key has signed it.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.0.has_signed(&signed_text(self.journal_id, self.head, self.at), &self.signature)
    }
}

/// The anchors in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchors {
    /// In the order of the file.
    pub anchors: Vec<Anchor>,
    /// Whether a last line was begun and not finished.
    pub torn: bool,
}

impl Anchors {
    /// Reads a file; each line must be signed, by `key` if one is given.
    ///
    /// # Errors
    /// [`AnchorError::Line`] for a line that was changed or signed by somebody else.
    pub fn read(path: &Path, key: Option<&PublicKey>) -> Result<Self, AnchorError> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(ANCHORS_BYTES_MAX).read_to_string(&mut text));
        read.map_err(failed("read", path))?;
        // The process may have been killed while it wrote the last line.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut anchors = Vec::new();
        for (number, line) in text[..whole].lines().enumerate() {
            let wrong = |why| AnchorError::Line { path: path.to_owned(), line: number + 1, why };
            let anchor = Anchor::from_line(line).map_err(wrong)?;
            if key.is_some_and(|key| !anchor.is_signed_by(key)) {
                return Err(wrong(format!("is signed with another key, {}", anchor.public_key)));
            }
            anchors.push(anchor);
        }
        Ok(Self { anchors, torn: whole < text.len() })
    }
}

/// A file that anchors are added to.
#[derive(Debug)]
pub struct AnchorFile {
    path: PathBuf,
    file: File,
}

impl AnchorFile {
    /// Opens it, or creates it in a folder that is there. A last line that was never finished is taken away.
    pub fn open(path: &Path) -> Result<Self, AnchorError> {
        // Each line at the end as it is then: several coordinators of one machine may share a file.
        let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o644).open(path);
        let mut file = opened.map_err(failed("open", path))?;
        let finished = (|| {
            let length = file.metadata()?.len();
            if length == 0 {
                // It is made to be taken elsewhere by others, whatever the umask.
                file.set_permissions(Permissions::from_mode(0o644))?;
            }
            // A line is far shorter than this.
            let tail = length.min(4 << 10);
            file.seek(SeekFrom::Start(length - tail))?;
            let mut end = Vec::new();
            file.read_to_end(&mut end)?;
            let torn = end.iter().rev().take_while(|byte| **byte != b'\n').count() as u64;
            if torn > 0 {
                file.set_len(length - torn)?;
            }
            file.seek(SeekFrom::End(0))
        })();
        finished.map_err(failed("finish the last line of", path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Adds an anchor, durably. Blocks.
    pub fn append(&mut self, anchor: &Anchor) -> Result<(), AnchorError> {
        let line = anchor.to_line()?;
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_all());
        written.map_err(failed("write to", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{AuditReport, verify};
    use crate::embedded::{EmbeddedStore, JOURNAL_FOLDER, Options};
    use crate::{IncidentStore as _, Received};

    /// Receives so many, and signs how far the chain goes then.
    async fn grown(folder: &Path, key: &SigningKey, received: u64, second: i64) -> Anchor {
        let store = EmbeddedStore::open(folder, Options::new(Uuid::from_u128(7))).unwrap();
        for number in 0..received {
            let received = Received {
                at: Timestamp::from_second(second).unwrap(),
                source: quell_incident::ids::SourceName::declared("alertmanager").unwrap(),
                alerts: Vec::new(),
                group_key: None,
                truncated_alerts: number,
                trace: None,
            };
            store.receive(received).await.unwrap();
        }
        key.sign(store.chain_head().await.unwrap().unwrap(), Timestamp::from_second(second).unwrap()).unwrap()
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    fn told(report: &AuditReport) -> (usize, Option<u64>, String) {
        let finding = report.finding.as_ref().map(|finding| finding.sequence);
        (report.anchors_agreeing, finding, report.finding_by_anchor.clone().unwrap_or_default())
    }

    #[tokio::test]
    async fn an_anchor_is_compared_whether_the_journal_went_on_or_was_cut_back_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let (data, kept) = (folder.path().join("data"), folder.path().join("kept"));
        let key = SigningKey::generate().unwrap();
        let older = grown(&data, &key, 3, 1).await;
        copy(&data.join(JOURNAL_FOLDER), &kept);
        let newer = grown(&data, &key, 2, 2).await;
        let anchors = [older.clone(), newer.clone()];
        // Older than the end, at the end, and both.
        for agreeing in [&anchors[..1], &anchors[1..], &anchors[..]] {
            let report = verify(&data, agreeing).unwrap();
            assert_eq!(told(&report), (agreeing.len(), None, String::new()));
        }
        // A sound older copy is put back as a whole, its mark as well, and nobody else in the folder knows better.
        std::fs::remove_dir_all(&data).unwrap();
        copy(&kept, &data.join(JOURNAL_FOLDER));
        assert_eq!(told(&verify(&data, &anchors[..1]).unwrap()), (1, None, String::new()));
        for asked in [&anchors[1..], &anchors[..]] {
            let (_, finding, by) = told(&verify(&data, asked).unwrap());
            assert_eq!(finding, Some(4));
            let wanted =
                "the anchor of 1970-01-01T00:00:02Z goes up to record 5, and the journal ends at record 3";
            assert_eq!(by, wanted);
        }
        // It goes on past the anchor, which tells of it all the same.
        grown(&data, &key, 6, 3).await;
        let (agreeing, finding, by) = told(&verify(&data, &anchors).unwrap());
        assert_eq!((agreeing, finding), (1, Some(5)));
        let noted = format!("the anchor of 1970-01-01T00:00:02Z has chain hash {}", newer.head.chain_hash);
        assert!(by.starts_with(&noted) && by.contains("for record 5, and the journal has "), "{by}");
    }

    #[tokio::test]
    async fn what_no_anchor_tells_is_not_said_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::generate().unwrap();
        let anchor = grown(folder.path(), &key, 3, 1).await;
        let older = tempfile::tempdir().unwrap();
        copy(&folder.path().join(JOURNAL_FOLDER), older.path());
        grown(folder.path(), &key, 2, 2).await;
        // The mark alone knows of more.
        let journal = folder.path().join(JOURNAL_FOLDER);
        let segment = "00000000000000000001.journal";
        std::fs::copy(older.path().join(segment), journal.join(segment)).unwrap();
        let report = verify(folder.path(), std::slice::from_ref(&anchor)).unwrap();
        assert_eq!(told(&report), (1, Some(4), String::new()));
        // Another journal is no matter of its records.
        let other = tempfile::tempdir().unwrap();
        drop(EmbeddedStore::open(other.path(), Options::new(Uuid::from_u128(8))).unwrap());
        let report = verify(other.path(), &[anchor]).unwrap();
        assert!(report.finding.unwrap().what.starts_with("the whole journal was replaced"));
        assert_eq!(report.finding_by_anchor, None);
    }
}
