//! Tests of rules: what a rule has to find, and what it must not take for its cause. See `file.rs` for how they are written.

mod file;
mod series;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use quell_incident::Report;
use quell_incident::report::{Hypothesis, Subject};
use serde::Serialize;

use super::compile::Notes;
use super::{RuleMistake, RuleMistakes, RuleSet, RuleSource, shipped};
use crate::rank::CONFIDENCE_MIN;
use file::{CaseText, FiresText, TestFile};

/// The schema that a file of rule tests names.
pub const RULE_TESTS_SCHEMA: &str = "quell/rule-tests/v1";
/// One file at the most, in bytes.
const FILE_BYTES_MAX: usize = 4 << 20;
/// Cases in one file at the most.
const CASES_MAX: usize = 5_000;

/// Cases that were read and have no mistake.
#[derive(Debug, Default)]
pub struct RuleTests {
    cases: Vec<(String, u64, CaseText)>,
}

/// How one case ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleTestResult {
    /// The file that it is in.
    pub file: String,
    /// Its line, from 1.
    pub line: u64,
    /// The rule that was tried.
    pub rule: String,
    /// What was tried.
    pub name: String,
    /// Whether the rule had to find its cause, or had to be silent.
    pub fires: bool,
    /// The confidence of the rule's first hypothesis, 0 without one.
    pub confidence: f64,
    /// What is not as the case says; nothing when it passed.
    pub failures: Vec<String>,
}

impl RuleTestResult {
    /// Whether all is as the case says.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

impl RuleTests {
    /// The tests that come with Quell.
    ///
    /// # Errors
    /// Never with the files as they are shipped.
    pub fn shipped() -> Result<Self, RuleMistakes> {
        Self::load(&RuleSource::shipped(shipped::TESTS))
    }

    /// Reads files of tests.
    ///
    /// # Errors
    /// Every mistake of every file, each with its place and with what was expected.
    pub fn load(sources: &[RuleSource]) -> Result<Self, RuleMistakes> {
        let (mut tests, mut mistakes) = (Self::default(), Vec::new());
        for source in sources {
            let mut notes = Notes { file: &source.name, rule: String::new(), mistakes: &mut mistakes };
            for case in read(source, &mut notes) {
                let line = case.rule.referenced.line();
                tests.cases.push((source.name.clone(), line, case));
            }
        }
        if mistakes.is_empty() { Ok(tests) } else { Err(RuleMistakes(mistakes)) }
    }

    /// How many cases there are.
    pub fn count(&self) -> usize {
        self.cases.len()
    }

    /// Runs the cases of one rule, or all of them.
    pub fn run(&self, rules: &RuleSet, only: Option<&str>) -> Vec<RuleTestResult> {
        let chosen = self.cases.iter().filter(|(_, _, case)| only.is_none_or(|only| case.rule.value == only));
        chosen.map(|(file, line, case)| run(file, *line, case, rules)).collect()
    }

    /// Rules without a case that fires them, or without one that must not, each with what is missing.
    pub fn untested(&self, rules: &RuleSet) -> BTreeMap<String, &'static str> {
        let with = |fires: bool| -> BTreeSet<&str> {
            let cases = self.cases.iter().filter(|(_, _, case)| case.fires.is_some() == fires);
            cases.map(|(_, _, case)| case.rule.value.as_str()).collect()
        };
        let (firing, silent) = (with(true), with(false));
        let missing = |name: &str| match (firing.contains(name), silent.contains(name)) {
            (true, true) => None,
            (true, false) => Some("no case in which it must be silent"),
            (false, true) => Some("no case that fires it"),
            (false, false) => Some("no case"),
        };
        rules.names().into_iter().filter_map(|name| Some((name.to_owned(), missing(name)?))).collect()
    }
}

fn read(source: &RuleSource, notes: &mut Notes<'_>) -> Vec<CaseText> {
    if source.text.len() > FILE_BYTES_MAX {
        notes.add(None, "the file", format!("is larger than {FILE_BYTES_MAX} bytes"));
        return Vec::new();
    }
    let Some(file) = notes.parse::<TestFile>(&source.text) else { return Vec::new() };
    if file.schema.value != RULE_TESTS_SCHEMA {
        notes.add(Some(file.schema.referenced), "schema", format!("must be `{RULE_TESTS_SCHEMA}`"));
    }
    if file.cases.len() > CASES_MAX {
        notes.add(None, "cases", format!("are more than {CASES_MAX}"));
    }
    for case in &file.cases {
        let place = Some(case.rule.referenced);
        notes.rule = format!("{} ({})", case.rule.value, case.name);
        if case.fires.is_some() == case.silent.is_some() {
            notes.add(place, "fires", "or `silent` is expected, one of the two".to_owned());
        }
        let bounds = [
            case.fires.as_ref().map(|fires| fires.confidence_min),
            case.silent.as_ref().and_then(|silent| silent.confidence_max),
        ];
        if bounds.into_iter().flatten().any(|bound| !(0.0..=1.0).contains(&bound)) {
            notes.add(place, "confidence", "must be between 0 and 1".to_owned());
        }
        for (location, field, why) in world::mistakes(case) {
            notes.add(location.or(place), &field, why);
        }
    }
    file.cases
}

fn run(file: &str, line: u64, case: &CaseText, rules: &RuleSet) -> RuleTestResult {
    let mut result = RuleTestResult {
        file: file.to_owned(),
        line,
        rule: case.rule.value.clone(),
        name: case.name.clone(),
        fires: case.fires.is_some(),
        confidence: 0.0,
        failures: Vec::new(),
    };
    let Some(rule) = rules.rules.iter().find(|rule| rule.name == case.rule.value) else {
        result.failures.push(format!("there is no rule {}", case.rule.value));
        return result;
    };
    let (Some(request), Ok(evidence)) = (world::request(case), world::evidence(case, rules)) else {
        result.failures.push("the case cannot be made into evidence".to_owned());
        return result;
    };
    let report = crate::diagnose(&request, &evidence, rules);
    let own = |one: &&Hypothesis| one.claims.iter().any(|claim| claim.by == rule.name);
    let first = report.root_cause.iter().chain(&report.alternatives).find(own);
    result.confidence = first.map_or(0.0, |one| one.confidence);
    match (&case.fires, &case.silent) {
        (Some(fires), _) => expect_cause(fires, &rule.cause, &report, &mut result),
        (None, silent) => {
            let bound = silent.as_ref().and_then(|silent| silent.confidence_max).unwrap_or(CONFIDENCE_MIN);
            if result.confidence >= bound {
                result.failures.push(format!(
                    "{} has a confidence of {:.2}, where less than {bound:.2} is expected: {}",
                    rule.cause,
                    result.confidence,
                    first.map(claims).unwrap_or_default()
                ));
            }
        }
    }
    result
}

fn expect_cause(fires: &FiresText, cause: &str, report: &Report, result: &mut RuleTestResult) {
    let Some(root) = &report.root_cause else {
        let why = report.abstained.as_deref().unwrap_or_default();
        result.failures.push(format!("{cause} is expected as the root cause, and there is none: {why}"));
        return;
    };
    if root.cause != cause {
        result.failures.push(format!(
            "{cause} is expected as the root cause, and it is {} with {:.2}: {}",
            root.cause,
            root.confidence,
            claims(root)
        ));
        return;
    }
    result.confidence = root.confidence;
    if root.confidence < fires.confidence_min {
        result.failures.push(format!(
            "a confidence of at least {:.2} is expected, and it is {:.2}: {}",
            fires.confidence_min,
            root.confidence,
            claims(root)
        ));
    }
    let Subject { service, instance, part } = &root.subject;
    let expected = [("service", &fires.service, service), ("instance", &fires.instance, instance)];
    for (what, expected, found) in expected.into_iter().chain([("part", &fires.part, part)]) {
        if let Some(expected) = expected.as_ref().filter(|expected| *expected != found) {
            result.failures.push(format!("the {what} `{expected}` is expected, and it is `{found}`"));
        }
    }
}

fn claims(one: &Hypothesis) -> String {
    one.claims.iter().map(|claim| claim.statement.as_str()).collect::<Vec<_>>().join("; ")
}

/// Checks files of rules and of tests, told apart by their schema: every mistake of all of them.
pub fn check_files(sources: &[RuleSource]) -> Vec<RuleMistake> {
    let (tests, rules): (Vec<_>, Vec<_>) = sources.iter().cloned().partition(is_of_tests);
    let mut mistakes = RuleSet::load(&rules).err().map(|found| found.0).unwrap_or_default();
    mistakes.extend(RuleTests::load(&tests).err().map(|found| found.0).unwrap_or_default());
    mistakes
}

/// Whether a file is one of tests, by the schema that it names.
pub fn is_of_tests(source: &RuleSource) -> bool {
    let mut schemas = source.text.lines().filter_map(|line| line.strip_prefix("schema:"));
    schemas
        .next()
        .is_some_and(|schema| schema.trim().trim_matches(['"', '\'']).starts_with("quell/rule-tests/"))
}
