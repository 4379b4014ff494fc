//! A diagnosis as a document: what was asked, all that was gathered, and how confidence was calibrated. Stored with the incident, it
//! can be diagnosed again at any time, by the same rules, which gives the same report byte for byte, or by edited ones.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use quell_incident::Report;
use quell_incident::contract::DiagnoseRequest;
use quell_incident::evidence::EvidenceSet;
use serde::{Deserialize, Serialize};

use crate::aids::{self, Aids, Reading};
use crate::learned::Resolved;
use crate::localise::Outcome;
use crate::{RuleSet, diagnose_with, pointed};

/// The schema name that the JSON of a [`Case`] carries.
pub const CASE_SCHEMA: &str = "quell/case/v1";
/// The MIME type of a packed case.
pub const CASE_MEDIA_TYPE: &str = "application/gzip";
/// A packed case that is larger is not made: it would not fit a message between the daemons.
pub const PACKED_BYTES_MAX: usize = 8 << 20;
/// What is unpacked at the most.
const UNPACKED_BYTES_MAX: u64 = 256 << 20;

/// Everything that a report follows from, but for the rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// [`CASE_SCHEMA`].
    pub schema: String,
    /// What was asked.
    pub request: DiagnoseRequest,
    /// What was gathered.
    pub evidence: EvidenceSet,
    /// What helped besides the rules.
    #[serde(flatten)]
    pub aids: Aids,
}

/// Why there is no case.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// It is too large to be kept.
    #[error("the packed evidence has {bytes} bytes, and {PACKED_BYTES_MAX} are kept")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It cannot be written or read.
    #[error("not a diagnosis that can be made again: {0}")]
    Malformed(String),
}

impl Case {
    /// A case.
    pub fn new(request: DiagnoseRequest, evidence: EvidenceSet, aids: Aids) -> Self {
        Self { schema: CASE_SCHEMA.to_owned(), request, evidence, aids }
    }

    /// Diagnoses it by these rules. The report does not cite the case.
    pub fn diagnose(&self, rules: &RuleSet) -> Report {
        diagnose_with(&self.request, &self.evidence, rules, &self.aids)
    }

    /// Takes what a reader made of the report of this case, and puts it into the report as [`Self::diagnose`] does from now on.
    pub fn take_readings(&mut self, report: &mut Report, readings: Vec<Reading>) {
        aids::append(report, &readings);
        self.aids.readings = readings;
    }

    /// The same by the rules alone, and whether the engines pointed at what is at fault by this cause, which is known: what a site learns
    /// from.
    pub fn known(&self, rules: &RuleSet, cause: &str) -> (Resolved, Option<Outcome>) {
        let report = diagnose_with(&self.request, &self.evidence, rules, &Aids::default());
        let known = report.root_cause.iter().chain(&report.alternatives).find(|one| one.cause == cause);
        let outcome = known.and_then(|known| pointed(&self.request, &self.evidence, rules, &known.subject));
        (Resolved { report, cause: cause.to_owned() }, outcome)
    }

    /// JSON, packed by gzip: the same case gives the same bytes.
    ///
    /// # Errors
    /// [`CaseError::TooLarge`]
    pub fn pack(&self) -> Result<Vec<u8>, CaseError> {
        let malformed = |error: std::io::Error| CaseError::Malformed(error.to_string());
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        let json = serde_json::to_vec(self).map_err(|error| CaseError::Malformed(error.to_string()))?;
        packed.write_all(&json).map_err(malformed)?;
        let packed = packed.finish().map_err(malformed)?;
        if packed.len() > PACKED_BYTES_MAX {
            return Err(CaseError::TooLarge { bytes: packed.len() });
        }
        Ok(packed)
    }

    /// Reads a packed case.
    ///
    /// # Errors
    /// [`CaseError::Malformed`], also for one that unpacks to more than is read.
    pub fn unpack(packed: &[u8]) -> Result<Self, CaseError> {
        let mut json = Vec::new();
        let read = GzDecoder::new(packed).take(UNPACKED_BYTES_MAX + 1).read_to_end(&mut json);
        read.map_err(|error| CaseError::Malformed(format!("it cannot be unpacked: {error}")))?;
        if json.len() as u64 > UNPACKED_BYTES_MAX {
            return Err(CaseError::Malformed(format!("it unpacks to more than {UNPACKED_BYTES_MAX} bytes")));
        }
        Self::read(&json)
    }

    /// Reads the JSON of a case.
    ///
    /// # Errors
    /// [`CaseError::Malformed`]
    pub fn read(json: &[u8]) -> Result<Self, CaseError> {
        let case: Self =
            serde_json::from_slice(json).map_err(|error| CaseError::Malformed(error.to_string()))?;
        if case.schema != CASE_SCHEMA {
            return Err(CaseError::Malformed(format!(
                "its schema is `{}`, expected `{CASE_SCHEMA}`",
                case.schema
            )));
        }
        Ok(case)
    }
}
