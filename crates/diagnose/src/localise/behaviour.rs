//! What a service does differently: log lines and steps that belong to its requests and are missing now, and errors that are new.
//!
//! How often a line is to be expected follows from the requests, not from the clock: where there are traces, from how often it came with
//! the same kind of request when nothing was wrong. Twice the load is then no change, and neither is a kind of request that nobody has
//! sent before. Where there are no traces, the service's other lines say how much it has to do.

use std::collections::{BTreeMap, HashMap};

use super::paired::{Done, behind};
use super::{Finding, Phase, Rule, Source, Span, System};
use crate::stats::median;
use crate::template::{head, template};

/// Of one message so many bytes make its template: what tells lines apart stands at their beginning.
const KEY_BYTES: usize = 160;
/// Timestamps and levels stand before it.
const HEAD_MIN: usize = 48;
/// Errors are few, and what failed stands at their end.
const ERROR_KEY_BYTES: usize = 400;
/// Requests of a kind that have to be known from when nothing was wrong.
const REQUESTS_MIN: f64 = 3.0;
/// Lines that are missing have to have been expected so many times, and to be under this part of it.
const EXPECTED_MIN: f64 = 4.0;
const LEFT_MAX: f64 = 0.5;
/// Errors have to be so many, and so many times as many as expected.
const ERRORS_MIN: f64 = 3.0;
const ERRORS_GROWN: f64 = 2.0;
/// Left of new errors that name another service.
const BLAMING_LEFT: f64 = 0.3;
/// Of an error so many bytes are searched for another service's name.
const BLAME_BYTES: usize = 1_000;
/// Fewer than this are expected at the least: a line that was never seen may be rare.
const EXPECTED_FLOOR: f64 = 0.5;
/// A template in a sentence at the most, in characters.
const TOLD_MAX: usize = 120;
/// What one finding cites at the most.
const CITED_MAX: usize = 3;

pub(crate) fn find(system: &System<'_>, findings: &mut Vec<Finding>) {
    let Told { tallies, broken_off } = told(system);
    let mut best: BTreeMap<(usize, Rule), Finding> = BTreeMap::new();
    let of_tallies = tallies.iter().flat_map(|((service, item), tally)| {
        missing(system, *service, item, tally)
            .or_else(|| new_errors(system, *service, item, tally))
            .unwrap_or_default()
    });
    for finding in of_tallies.chain(broken_off) {
        let key = (finding.service, finding.rule);
        let known = best.get(&key);
        if known.is_none_or(|known| is_better(&finding, known)) {
            best.insert(key, finding);
        }
    }
    findings.extend(best.into_values());
}

fn is_better(finding: &Finding, known: &Finding) -> bool {
    let order = finding.strength.total_cmp(&known.strength).then(finding.amount.total_cmp(&known.amount));
    order.then_with(|| known.statement.cmp(&finding.statement)).is_gt()
}

/// Something that a service does in its requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Item {
    /// A log line of this template; whether it is an error.
    Line(String, bool),
    /// A step of its own, or a call, by its name.
    Step(String),
}

#[derive(Clone, Debug, Default)]
struct Tally {
    observed: f64,
    expected: f64,
    sources: Vec<Source>,
}

/// A trace's visit of a service.
type Visit = (Phase, u64, usize);

/// What lines and spans tell.
struct Told {
    tallies: BTreeMap<(usize, Item), Tally>,
    broken_off: Vec<Finding>,
}

fn told(system: &System<'_>) -> Told {
    let observed = system.observed;
    let names = Names::of(system);
    let visits = visits(&observed.spans, &names);
    // What happened in each kind of request, when nothing was wrong and now.
    let mut counts: BTreeMap<(usize, &[usize], usize), [f64; 2]> = BTreeMap::new();
    let mut done: HashMap<Visit, HashMap<usize, u32>> = HashMap::new();
    let mut requests: BTreeMap<(usize, &[usize]), [f64; 2]> = BTreeMap::new();
    let mut loose: BTreeMap<(usize, usize), [f64; 2]> = BTreeMap::new();
    let mut sources: BTreeMap<(usize, usize), Vec<Source>> = BTreeMap::new();
    for ((phase, _, service), visit) in &visits {
        requests.entry((*service, visit)).or_default()[slot(*phase)] += 1.0;
    }
    let mut add = |phase: Phase, trace: Option<u64>, service: usize, item: usize, source: Source| {
        let visit = trace.and_then(|trace| visits.get(&(phase, trace, service)));
        match visit {
            // Once for each trace: what one request does twenty times is not seen twenty times.
            Some(visit) => {
                let done = done.entry((phase, trace.unwrap_or_default(), service)).or_default();
                let times = done.entry(item).or_default();
                *times += 1;
                if *times > 1 {
                    return;
                }
                counts.entry((service, visit, item)).or_default()[slot(phase)] += 1.0;
            }
            None if visits.is_empty() => loose.entry((service, item)).or_default()[slot(phase)] += 1.0,
            None => return,
        }
        if phase == Phase::Fault {
            let cited = sources.entry((service, item)).or_default();
            if cited.len() < CITED_MAX {
                cited.push(source);
            }
        }
    };
    for (index, span) in observed.spans.iter().enumerate() {
        for (service, item) in names.steps.get(index).into_iter().flatten() {
            add(span.phase, Some(span.trace), *service, *item, Source::Span(index));
        }
    }
    for (index, record) in observed.records.iter().enumerate() {
        if let Some(item) = names.lines.get(index) {
            add(record.phase, record.trace, record.service, *item, Source::Record(index));
        }
    }
    let mut tallies: BTreeMap<(usize, usize), Tally> = BTreeMap::new();
    for ((service, kind, item), [before, now]) in counts {
        let [known, asked] = requests.get(&(service, kind)).copied().unwrap_or_default();
        if known >= REQUESTS_MIN && asked > 0.0 {
            let tally = tallies.entry((service, item)).or_default();
            tally.observed += now;
            tally.expected += before / known * asked;
        }
    }
    for (service, load) in loads(&loose) {
        for ((_, item), [before, now]) in loose.range((service, 0)..(service + 1, 0)) {
            let tally = tallies.entry((service, *item)).or_default();
            tally.observed += now;
            tally.expected += before * load;
        }
    }
    let broken_off = broken_off(system, &names, &visits, done, &sources);
    let tallies = tallies.into_iter().filter_map(|((service, item), mut tally)| {
        tally.sources = sources.remove(&(service, item)).unwrap_or_default();
        Some(((service, names.items.get(item)?.clone()), tally))
    });
    Told { tallies: tallies.collect(), broken_off }
}

/// Requests of a service that do one thing less often than what goes with it.
fn broken_off(
    system: &System<'_>,
    names: &Names,
    visits: &BTreeMap<Visit, Vec<usize>>,
    mut done: HashMap<Visit, HashMap<usize, u32>>,
    sources: &BTreeMap<(usize, usize), Vec<Source>>,
) -> Vec<Finding> {
    // By name, since numbers follow from the order of the lines.
    let mut by_name: Vec<usize> = (0..names.items.len()).collect();
    by_name.sort_by_key(|item| names.items.get(*item));
    let mut place = vec![0; by_name.len()];
    by_name.iter().enumerate().for_each(|(rank, item)| place[*item] = rank);
    let mut kinds: BTreeMap<(usize, &[usize]), Vec<Done>> = BTreeMap::new();
    for (visit, kind) in visits {
        let counts = done.remove(visit).unwrap_or_default().into_iter();
        let counts = counts.filter_map(|(item, times)| Some((*place.get(item)?, times))).collect();
        kinds.entry((visit.2, kind)).or_default().push(Done { is_fault: visit.0 == Phase::Fault, counts });
    }
    let mut findings = Vec::new();
    for ((service, _), requests) in kinds {
        for behind in behind(&requests) {
            let named =
                |rank: usize| by_name.get(rank).and_then(|number| Some((*number, names.items.get(*number)?)));
            let (Some((_, item)), Some((number, ahead))) = (named(behind.item), named(behind.ahead)) else {
                continue;
            };
            let strength = system.thresholds.surprise(surprise(behind.broken, behind.expected));
            if item.is_error() || behind.broken < ERRORS_MIN || strength <= 0.0 {
                continue;
            }
            findings.push(Finding {
                service,
                rule: Rule::StepsMissing,
                strength,
                amount: behind.broken,
                statement: format!(
                    "{:.0} of {:.0} requests break off between what always goes together: {}; {}",
                    behind.broken,
                    behind.requests,
                    ahead.told(),
                    item.told()
                ),
                sources: sources.get(&(service, number)).cloned().unwrap_or_default(),
                onset: None,
                discounts: Vec::new(),
            });
        }
    }
    findings
}

fn slot(phase: Phase) -> usize {
    match phase {
        Phase::Normal => 0,
        Phase::Fault => 1,
    }
}

/// By service: how much more it has to do than when nothing was wrong, as its lines say that came then.
fn loads(loose: &BTreeMap<(usize, usize), [f64; 2]>) -> BTreeMap<usize, f64> {
    let mut ratios: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for ((service, _), [before, now]) in loose {
        if *before >= EXPECTED_MIN {
            ratios.entry(*service).or_default().push(now / before);
        }
    }
    ratios.into_iter().filter_map(|(service, ratios)| Some((service, median(&ratios)?))).collect()
}

/// Items by number: comparing numbers is cheap.
struct Names {
    items: Vec<Item>,
    /// By record: its item.
    lines: Vec<usize>,
    /// By span: of which services it is which step.
    steps: Vec<Vec<(usize, usize)>>,
    /// By span: whether a request enters a service by it, and the number of its operation.
    entries: Vec<Option<usize>>,
}

impl Names {
    fn of(system: &System<'_>) -> Self {
        let observed = system.observed;
        let mut numbers: HashMap<Item, usize> = HashMap::new();
        let mut items: Vec<Item> = Vec::new();
        let mut number = |item: Item| {
            *numbers.entry(item).or_insert_with_key(|item| {
                items.push(item.clone());
                items.len() - 1
            })
        };
        // The same head of a message is masked once.
        let mut heads: HashMap<(&str, bool), usize> = HashMap::new();
        let mut lines = Vec::with_capacity(observed.records.len());
        for record in &observed.records {
            let bytes = if record.is_error { ERROR_KEY_BYTES } else { KEY_BYTES };
            let text = head(&record.message, bytes);
            let key = (if record.is_error { text } else { before_values(text) }, record.is_error);
            let line = *heads.entry(key).or_insert_with(|| number(Item::Line(template(key.0), key.1)));
            lines.push(line);
        }
        let by_id: HashMap<(Phase, u64), usize> =
            observed.spans.iter().enumerate().map(|(index, span)| ((span.phase, span.id), index)).collect();
        let (mut steps, mut entries) = (Vec::new(), Vec::new());
        for span in &observed.spans {
            let parent = span.parent.and_then(|id| observed.spans.get(*by_id.get(&(span.phase, id))?));
            let caller = parent.map(|parent| parent.service).filter(|caller| *caller != span.service);
            let is_entry = parent.is_none_or(|parent| parent.service != span.service);
            let own = number(Item::Step(span.operation.clone()));
            entries.push(is_entry.then_some(own));
            steps.push(match caller {
                Some(caller) => {
                    let call = format!("{} {}", system.name(span.service), span.operation);
                    vec![(caller, number(Item::Step(call)))]
                }
                None if is_entry => Vec::new(),
                None => vec![(span.service, own)],
            });
        }
        Self { items, lines, steps, entries }
    }
}

/// A message up to where it begins to tell values: what comes after a colon or an equals sign differs from request to request, and with
/// it a template that takes it for fixed.
fn before_values(text: &str) -> &str {
    let end = text.match_indices([':', '=']).map(|(at, _)| at).find(|at| {
        let before = text.get(..*at).and_then(|text| text.chars().next_back());
        let after = text.get(at + 1..).and_then(|text| text.chars().next());
        *at >= HEAD_MIN
            && before.is_some_and(char::is_alphabetic)
            && !after.is_some_and(|next| next.is_ascii_digit())
    });
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

/// What kind of request each visit is: the operations by which the trace enters the service.
fn visits(spans: &[Span], names: &Names) -> BTreeMap<Visit, Vec<usize>> {
    let mut visits: BTreeMap<Visit, Vec<usize>> = BTreeMap::new();
    for (span, entry) in spans.iter().zip(&names.entries) {
        let Some(operation) = entry else { continue };
        let kind = visits.entry((span.phase, span.trace, span.service)).or_default();
        if !kind.contains(operation) {
            kind.push(*operation);
        }
    }
    visits.values_mut().for_each(|kind| kind.sort_unstable());
    visits
}

fn surprise(observed: f64, expected: f64) -> f64 {
    let expected = expected.max(EXPECTED_FLOOR);
    let logs = if observed > 0.0 { observed * (observed / expected).ln() } else { 0.0 };
    2.0 * (logs - (observed - expected))
}

impl Item {
    fn is_error(&self) -> bool {
        match self {
            Self::Line(_, is_error) => *is_error,
            Self::Step(name) => name.to_ascii_lowercase().contains("error"),
        }
    }

    fn told(&self) -> String {
        let (Self::Line(text, _) | Self::Step(text)) = self;
        crate::template::cleaned(text, TOLD_MAX)
    }
}

/// An error that is missing is no fault.
fn missing(system: &System<'_>, service: usize, item: &Item, tally: &Tally) -> Option<Vec<Finding>> {
    let left = tally.observed / tally.expected;
    let surprise = surprise(tally.observed, tally.expected);
    let strength = system.thresholds.surprise(surprise) * (1.0 - left).clamp(0.0, 1.0);
    let missing = !item.is_error() && tally.expected >= EXPECTED_MIN && left <= LEFT_MAX && strength > 0.0;
    missing.then(|| {
        let what = match item {
            Item::Line(..) => "a line",
            Item::Step(_) => "a step",
        };
        vec![Finding {
            service,
            rule: Rule::StepsMissing,
            strength,
            amount: tally.expected - tally.observed,
            statement: format!(
                "{what} of its requests came {:.0} times instead of {:.0}: {}",
                tally.observed,
                tally.expected,
                item.told()
            ),
            sources: tally.sources.clone(),
            onset: None,
            discounts: Vec::new(),
        }]
    })
}

/// New errors; where they name a service that is called, they are about that one.
fn new_errors(system: &System<'_>, service: usize, item: &Item, tally: &Tally) -> Option<Vec<Finding>> {
    let surprise = surprise(tally.observed, tally.expected);
    let strength = system.thresholds.surprise(surprise);
    let grown = tally.observed >= ERRORS_MIN && tally.observed >= ERRORS_GROWN * tally.expected;
    let is_line = matches!(item, Item::Line(..));
    (is_line && item.is_error() && grown && strength > 0.0).then(|| {
        let finding = |service: usize, strength: f64| Finding {
            service,
            rule: Rule::NewErrors,
            strength,
            amount: tally.observed - tally.expected,
            statement: format!(
                "an error was logged {:.0} times, where {:.0} were to be expected: {}",
                tally.observed,
                tally.expected,
                item.told()
            ),
            sources: tally.sources.clone(),
            onset: None,
            discounts: Vec::new(),
        };
        match blamed(system, service, tally) {
            Some(other) => vec![
                Finding { rule: Rule::NamedInErrors, ..finding(other, strength) },
                finding(service, BLAMING_LEFT * strength),
            ],
            None => vec![finding(service, strength)],
        }
    })
}

/// The other service that an error message names, by its name or by the path of the request that failed.
fn blamed(system: &System<'_>, service: usize, tally: &Tally) -> Option<usize> {
    const NAME_MIN: usize = 6;
    let squeezed = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let mut others: Vec<usize> = system
        .services()
        .filter(|other| *other != service && system.name(*other).len() >= NAME_MIN)
        .collect();
    // The longest name first: one may be the beginning of another.
    others.sort_by_key(|other| (usize::MAX - system.name(*other).len(), system.name(*other)));
    let messages = tally.sources.iter().filter_map(|source| match source {
        Source::Record(index) => system.observed.records.get(*index),
        _ => None,
    });
    for message in messages.map(|record| head(&record.message, BLAME_BYTES)) {
        let named = others.iter().find(|other| message.contains(system.name(**other)));
        if named.is_some() {
            return named.copied();
        }
        for (at, _) in message.match_indices("/api/") {
            let rest = message.get(at + 5..).unwrap_or_default();
            let segments = rest.split(['/', '"', ' ', '?']).take(2).map(squeezed);
            for segment in segments.filter(|segment| segment.len() > NAME_MIN) {
                let named = others.iter().find(|other| squeezed(system.name(**other)).ends_with(&segment));
                if named.is_some() {
                    return named.copied();
                }
            }
        }
    }
    None
}
