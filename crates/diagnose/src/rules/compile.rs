//! From the text of a rule file to compiled rules, with every mistake at its place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cel::Env;
use regex::{Regex, RegexBuilder};
use serde::de::DeserializeOwned;
use serde_saphyr::{Location, Spanned};

use super::condition::{Condition, NOW, SignalKind};
use super::file::{About, ConditionText, RULES_SCHEMA, RuleFile, RuleText, SignalText};
use super::filter::Filter;
use super::sentence::Sentence;
use super::{
    ItemSignal, LogSignal, MetricSignal, Over, Per, Rule, RuleCondition, RuleMistake, RuleSource, Signal,
    SubjectSources,
};
use crate::series::SeriesKind;

/// One file at the most, in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Rules in one file at the most.
const RULES_MAX: usize = 500;
/// Signals or conditions of one rule at the most.
const PARTS_MAX: usize = 50;
/// A compiled regular expression at the most, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// The highest confidence that a rule may claim.
const CONFIDENCE_MAX: f64 = 0.99;
/// Words of CEL that a signal cannot be called.
const RESERVED: [&str; 21] = [
    NOW,
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
];

/// Adds the rules of a file to `rules`, or its mistakes to `mistakes`.
pub(crate) fn compile(
    env: &Arc<Env>,
    source: &RuleSource,
    rules: &mut BTreeMap<String, Rule>,
    mistakes: &mut Vec<RuleMistake>,
) {
    let mut noted = Notes { file: &source.name, rule: String::new(), mistakes };
    if source.text.len() > FILE_BYTES_MAX {
        return noted.add(None, "the file", format!("is larger than {FILE_BYTES_MAX} bytes"));
    }
    let Some(file) = noted.parse::<RuleFile>(&source.text) else { return };
    if file.schema.value != RULES_SCHEMA {
        noted.add(Some(file.schema.referenced), "schema", format!("must be `{RULES_SCHEMA}`"));
    }
    if file.rules.len() > RULES_MAX {
        return noted.add(None, "rules", format!("are more than {RULES_MAX}"));
    }
    for text in &file.rules {
        noted.rule.clone_from(&text.name.value);
        let before = noted.mistakes.len();
        let rule = compile_rule(env, text, &mut noted);
        if noted.mistakes.len() > before {
            continue;
        }
        if rules.insert(rule.name.clone(), rule).is_some() {
            noted.add(Some(text.name.referenced), "name", "is the name of another rule as well".to_owned());
        }
    }
}

/// Collects the mistakes of one file.
pub(super) struct Notes<'a> {
    pub(super) file: &'a str,
    /// The rule that is looked at; empty for the file as a whole.
    pub(super) rule: String,
    pub(super) mistakes: &'a mut Vec<RuleMistake>,
}

impl Notes<'_> {
    /// The file's document; a mistake when it has another shape.
    pub(super) fn parse<T: DeserializeOwned>(&mut self, text: &str) -> Option<T> {
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let parsed = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let text = error.to_string();
            let why = text.lines().next().unwrap_or("it is not YAML").to_owned();
            self.add(error.location(), "the file", format!("cannot be read: {why}"));
        });
        parsed.ok()
    }

    pub(super) fn add(&mut self, location: Option<Location>, field: &str, why: String) {
        let field = if self.rule.is_empty() { field.to_owned() } else { format!("{}.{field}", self.rule) };
        let (line, column) = location.map_or((0, 0), |at| (at.line(), at.column()));
        self.mistakes.push(RuleMistake { file: self.file.to_owned(), line, column, field, why });
    }

    fn take<T>(&mut self, location: Location, field: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|why| self.add(Some(location), field, why)).ok()
    }
}

fn compile_rule(env: &Arc<Env>, text: &RuleText, noted: &mut Notes<'_>) -> Rule {
    let name_at = text.name.referenced;
    if !is_name(&text.name.value, b"-_") {
        noted.add(Some(name_at), "name", "must be 1 to 64 of a-z, 0-9, `-` and `_`".to_owned());
    }
    if !is_name(&text.cause.value, b"_") {
        noted.add(Some(text.cause.referenced), "cause", "must be 1 to 64 of a-z, 0-9 and `_`".to_owned());
    }
    let base = text.base_confidence.value;
    if !(base > 0.0 && base <= CONFIDENCE_MAX) {
        let why = format!("must be over 0 and at most {CONFIDENCE_MAX}");
        noted.add(Some(text.base_confidence.referenced), "base_confidence", why);
    }
    if text.signals.len() > PARTS_MAX || text.when.len() > PARTS_MAX || text.when.is_empty() {
        noted.add(Some(name_at), "when", format!("must have 1 to {PARTS_MAX} conditions and signals"));
    }
    let (mut signals, mut kinds, mut units) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (name, signal) in &text.signals {
        let field = format!("signals.{name}");
        if !is_name(name, b"_") || RESERVED.contains(&name.as_str()) {
            let why = "must be called by a word of a-z, 0-9 and `_` that CEL does not use".to_owned();
            noted.add(Some(signal.referenced), &field, why);
        }
        if let Some(compiled) = noted.take(signal.referenced, &field, compile_signal(&signal.value)) {
            let kind = compiled.kind();
            kinds.insert(name.clone(), kind);
            units.insert(
                name.clone(),
                if kind == SignalKind::Metric { signal.value.unit } else { Default::default() },
            );
            signals.insert(name.clone(), compiled);
        }
    }
    // A signal with a mistake of its own would only repeat itself in the conditions.
    let complete = signals.len() == text.signals.len();
    let when = if complete { text.when.as_slice() } else { &[] };
    let conditions: Vec<RuleCondition> = when
        .iter()
        .enumerate()
        .filter_map(|(index, condition)| compile_condition(env, condition, index, &kinds, noted))
        .collect();
    if complete {
        check_shares(text, noted);
        check_use(text, &conditions, noted);
    }
    let mut root_cause = None;
    if complete {
        let sentence = Sentence::compile(&text.root_cause.value, &kinds);
        root_cause = noted.take(text.root_cause.referenced, "root_cause", sentence);
    }
    let mut sources = |field: &str, texts: &[Spanned<String>]| -> Vec<(String, String)> {
        let texts = if complete { texts } else { &[] };
        let parsed = texts.iter().filter_map(|text| {
            let found = subject_source(&text.value, &signals);
            noted.take(text.referenced, &format!("subject.{field}"), found)
        });
        parsed.collect()
    };
    let subject = SubjectSources {
        service: sources("service", &text.subject.service),
        instance: sources("instance", &text.subject.instance),
        part: sources("part", &text.subject.part),
    };
    Rule {
        name: text.name.value.clone(),
        file: noted.file.to_owned(),
        cause: text.cause.value.clone(),
        root_cause: root_cause.unwrap_or_default(),
        base_confidence: base,
        components: text.components.clone(),
        per: text.per.iter().map(|label| per(label)).collect(),
        signals,
        units,
        subject,
        conditions,
        recommended_actions: text.recommended_actions.clone(),
    }
}

/// `service?` counts where it is there.
fn per(text: &str) -> Per {
    match text.strip_suffix('?') {
        Some(label) => Per { label: label.to_owned(), optional: true },
        None => Per { label: text.to_owned(), optional: false },
    }
}

fn compile_signal(text: &SignalText) -> Result<Signal, String> {
    let SignalText { metric, log, event, object, health, change, .. } = text;
    let named = [
        metric.is_some(),
        log.is_some(),
        event.is_some(),
        object.is_some(),
        health.is_some(),
        change.is_some(),
    ];
    if named.into_iter().filter(|named| *named).count() != 1 {
        return Err("needs one of `metric`, `log`, `event`, `object`, `health` and `change`".to_owned());
    }
    if metric.is_none()
        && (!text.labels.is_empty()
            || !text.matching.is_empty()
            || !text.excluding.is_empty()
            || !text.also.is_empty()
            || text.over.is_some()
            || text.least.is_some()
            || text.kind.is_some()
            || text.combine.is_some())
    {
        return Err("reads no metric: `labels`, `matching`, `excluding`, `also`, `over`, `least`, `kind` and `combine` are for metrics"
            .to_owned());
    }
    if log.is_none() && !text.level.is_empty() {
        return Err("reads no logs: `level` is for logs".to_owned());
    }
    if let Some(metric) = metric {
        if text.about.is_some() {
            return Err(
                "reads a metric, whose labels say what it is about: `about` is for the others".to_owned()
            );
        }
        return metric_signal(metric, text).map(Signal::Metric);
    }
    if let Some(pattern) = log {
        if text.about == Some(About::Dependencies) {
            return Err("reads logs, which are about their `subject` or about `any`".to_owned());
        }
        let level = text.level.iter().map(|level| level.to_lowercase()).collect();
        let (regex, about) = (pattern_of(pattern)?, text.about.unwrap_or_default());
        return Ok(Signal::Log(LogSignal { regex, level, about }));
    }
    let filter = Filter::compile(text)?;
    Ok(Signal::Item(ItemSignal { filter, about: text.about.unwrap_or_default() }))
}

fn metric_signal(metric: &str, text: &SignalText) -> Result<MetricSignal, String> {
    let over_names = text
        .over
        .iter()
        .flat_map(|over| [&over.metric].into_iter().chain(over.labels.keys()).chain(&over.on));
    let label_names = text.labels.keys().chain(text.matching.keys()).chain(text.excluding.keys());
    if !is_metric_name(metric)
        || !text.also.iter().chain(label_names).chain(over_names).all(|name| is_metric_name(name))
    {
        return Err("names a metric or label that cannot exist: expected letters, digits, `_`, `:` and `.`"
            .to_owned());
    }
    if text.over.as_ref().is_some_and(|over| over.on.is_empty()) {
        return Err("has `over` without the labels `on` which both are of the same thing".to_owned());
    }
    let patterns = |texts: &BTreeMap<String, String>| -> Result<BTreeMap<String, Regex>, String> {
        let compiled =
            texts.iter().map(|(name, text)| Ok((name.clone(), pattern_of(&format!("^(?:{text})$"))?)));
        compiled.collect()
    };
    let over = text.over.as_ref().map(|over| Over {
        metric: over.metric.clone(),
        labels: over.labels.clone(),
        on: over.on.clone(),
        kind: SeriesKind::of(&over.metric),
    });
    Ok(MetricSignal {
        metric: metric.to_owned(),
        labels: text.labels.clone(),
        matching: patterns(&text.matching)?,
        excluding: patterns(&text.excluding)?,
        also: text.also.clone(),
        kind: text.kind.unwrap_or_else(|| SeriesKind::of(metric)),
        combine: text.combine.unwrap_or_default(),
        over,
        least: text.least,
    })
}

/// A compiled regular expression.
pub(super) fn pattern_of(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build().map_err(|error| {
        let last = error.to_string().lines().last().unwrap_or_default().to_owned();
        format!("is not a regular expression: {last}")
    })
}

fn compile_condition(
    env: &Arc<Env>,
    text: &ConditionText,
    index: usize,
    kinds: &BTreeMap<String, SignalKind>,
    noted: &mut Notes<'_>,
) -> Option<RuleCondition> {
    let field = |name: &str| format!("when[{index}].{name}");
    if !is_name(&text.group.value, b"-_") {
        let why = "must be 1 to 64 of a-z, 0-9, `-` and `_`".to_owned();
        noted.add(Some(text.group.referenced), &field("group"), why);
    }
    if !(text.share.value > 0.0 && text.share.value <= 1.0) {
        noted.add(Some(text.share.referenced), &field("share"), "must be over 0 and at most 1".to_owned());
    }
    let condition = Condition::compile(env, &text.holds_if.value, kinds);
    let condition = noted.take(text.holds_if.referenced, &field("if"), condition);
    let says = Sentence::compile(&text.says.value, kinds);
    let says = noted.take(text.says.referenced, &field("says"), says);
    Some(RuleCondition {
        group: text.group.value.clone(),
        share: text.share.value,
        condition: condition?,
        says: says?,
    })
}

/// The groups together carry at most the whole: more would make the rule surer than its base confidence.
fn check_shares(text: &RuleText, noted: &mut Notes<'_>) {
    let mut largest: BTreeMap<&str, f64> = BTreeMap::new();
    for condition in &text.when {
        let most = largest.entry(&condition.group.value).or_default();
        *most = most.max(condition.share.value);
    }
    let whole: f64 = largest.values().sum();
    if whole > 1.0 + 1e-9 {
        let why = format!("has groups whose largest shares add up to {whole:.2}, which is more than 1");
        noted.add(Some(text.name.referenced), "when", why);
    }
}

/// A signal that nothing uses is a mistyped name somewhere else.
fn check_use(text: &RuleText, conditions: &[RuleCondition], noted: &mut Notes<'_>) {
    let mut used: BTreeSet<&str> =
        conditions.iter().flat_map(|one| one.condition.signals()).map(String::as_str).collect();
    let subject = &text.subject;
    let sources = [&subject.service, &subject.instance, &subject.part];
    used.extend(sources.into_iter().flatten().filter_map(|source| Some(source.value.split_once('.')?.0)));
    if conditions.len() < text.when.len() {
        return;
    }
    for (name, signal) in &text.signals {
        if !used.contains(name.as_str()) {
            let why = "is not used by any condition or by the subject".to_owned();
            noted.add(Some(signal.referenced), &format!("signals.{name}"), why);
        }
    }
}

fn subject_source(text: &str, signals: &BTreeMap<String, Signal>) -> Result<(String, String), String> {
    let (signal, name) = text.split_once('.').ok_or_else(|| {
        "must be a signal and one of its labels or groups, such as `memory.service`".to_owned()
    })?;
    match signals.get(signal) {
        None => Err(format!("speaks of `{signal}`, which is not one of the rule's signals")),
        Some(Signal::Metric(_)) if is_metric_name(name) => Ok((signal.to_owned(), name.to_owned())),
        Some(Signal::Metric(_)) => Err(format!("names the label `{name}`, which cannot exist")),
        Some(Signal::Item(item)) if item.filter.names(name) => Ok((signal.to_owned(), name.to_owned())),
        Some(Signal::Item(item)) => Err(format!(
            "names `{name}`, which `{signal}` does not have: expected {}",
            item.filter.all_names().join(", ")
        )),
        Some(Signal::Log(log)) => {
            let known = matches!(name, "service" | "instance")
                || log.regex.capture_names().flatten().any(|group| group == name);
            if known {
                Ok((signal.to_owned(), name.to_owned()))
            } else {
                Err(format!(
                    "names `{name}`, which is neither `service` nor `instance` nor a group of its pattern"
                ))
            }
        }
    }
}

fn is_name(text: &str, also: &[u8]) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || also.contains(&byte);
    (1..=64).contains(&text.len())
        && text.bytes().all(fits)
        && text.starts_with(|first: char| first.is_ascii_lowercase())
}

fn is_metric_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'.');
    (1..=200).contains(&text.len())
        && text.bytes().all(fits)
        && !text.starts_with(|first: char| first.is_ascii_digit())
}
