//! One reader of Alertmanager for everyone in this process: the gates before each step and the reconciler. Answers are shared while they
//! are fresh, so that a hundred held incidents are one question.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use quell_connect::SourceError;
use quell_connect::alertmanager::{
    AlertState, AlertmanagerClient, Grouped, HeldAlert, INTERVAL, Silence, Status,
};
use quell_incident::Untrusted;
use quell_tool::CallContext;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::compare::receivers_of;
use super::intervals::{Says, Told};

/// How old an answer may be when it is asked for.
const FRESH: Duration = Duration::from_secs(1);
/// After one of several Alertmanagers has answered, how long the others are waited for.
const OTHERS_WITHIN: Duration = Duration::from_secs(2);
/// How long what an Alertmanager says of itself is taken for what it is where only its routes are wanted.
const STATUSES_FRESH: Duration = Duration::from_secs(30);
/// How long the words of silences are taken for the words that they have.
const SILENCES_FRESH: Duration = Duration::from_secs(60);
/// Silences whose words are kept at the most.
const SILENCES_MAX: usize = 10_000;
/// Alerts from which on it is cheaper to ask for a few by their names.
const MANY: usize = 500;
/// Different questions whose answers are kept at the most.
const QUESTIONS_MAX: usize = 256;
/// What is shown of a silence's author and of its comment, in characters.
const AUTHOR_CHARS_MAX: usize = 60;
const COMMENT_CHARS_MAX: usize = 200;

/// An alert that is held, and what suppresses it in words.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    /// The alert.
    pub alert: HeldAlert,
    /// What silences, inhibits or mutes it, for people; bounded.
    pub by: Option<String>,
    /// Whether we are told of it at all.
    pub told: Told,
}

/// What the Alertmanagers of the source hold together.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// By fingerprint.
    pub alerts: BTreeMap<String, Held>,
    /// Which of them did not answer, and why. Then what is not listed may still be held by one of these.
    pub failed: Vec<(String, String)>,
    /// The receivers whose alerts are ours; empty where that is not known.
    pub receivers: Vec<String>,
}

impl Reading {
    /// The alerts of which we are not told on purpose: silenced, inhibited, kept back by time intervals, or somebody else's.
    pub(crate) fn kept_back(&self) -> impl Iterator<Item = &str> {
        let others = |held: &Held| {
            !self.receivers.is_empty()
                && !held.alert.receivers.iter().any(|receiver| self.receivers.contains(receiver))
        };
        let kept_back = move |held: &Held| {
            held.alert.state != AlertState::Firing || held.told == Told::Unsaid || others(held)
        };
        self.alerts
            .iter()
            .filter(move |(_, held)| kept_back(held))
            .map(|(fingerprint, _)| fingerprint.as_str())
    }
}

/// Why nothing is known: what each of them said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoAnswer(pub String);

/// What a question came to.
pub(crate) type Answer = Result<Arc<Reading>, NoAnswer>;
/// The last answer to a question with the instant of asking; locked while the question is under way.
type Kept = Arc<AsyncMutex<Option<(Instant, Answer)>>>;

/// What each Alertmanager says of itself, in their order; `None` for each that did not answer.
type Statuses = Vec<Option<Arc<Status>>>;

#[derive(Default)]
struct Silences {
    words: BTreeMap<String, String>,
    read_at: Option<Instant>,
    tried_at: Option<Instant>,
}

/// Reads the Alertmanagers of one source.
pub(crate) struct AlertReader {
    instances: Vec<AlertmanagerClient>,
    answers: Mutex<HashMap<String, Kept>>,
    silences: AsyncMutex<Silences>,
    statuses: AsyncMutex<Option<(Instant, Statuses)>>,
    named_receivers: Mutex<Vec<String>>,
    held_last: AtomicUsize,
}

impl AlertReader {
    /// A reader of these, which are one source.
    pub(crate) fn new(instances: Vec<AlertmanagerClient>) -> Self {
        Self {
            instances,
            answers: Mutex::default(),
            silences: AsyncMutex::default(),
            statuses: AsyncMutex::default(),
            named_receivers: Mutex::default(),
            held_last: AtomicUsize::new(0),
        }
    }

    /// Host and port of each.
    pub(crate) fn places(&self) -> Vec<String> {
        self.instances.iter().map(AlertmanagerClient::place).collect()
    }

    /// The receivers whose alerts are ours, as the settings in force name them; without any they follow from the webhooks' addresses.
    pub(crate) fn set_receivers(&self, named: &[String]) {
        let mut receivers = self.named_receivers.lock().unwrap_or_else(PoisonError::into_inner);
        if *receivers != named {
            *receivers = named.to_vec();
        }
    }

    /// Everything that they hold.
    ///
    /// # Errors
    /// [`NoAnswer`] when none of them answered.
    pub(crate) async fn all(&self, within: Duration) -> Answer {
        self.read(&[], within).await
    }

    /// At least what they hold of alerts with these names. Where they hold much only that is asked for.
    ///
    /// # Errors
    /// [`NoAnswer`] when none of them answered.
    pub(crate) async fn named(&self, names: &[&str], within: Duration) -> Answer {
        let few = names.len() <= 20 && names.iter().all(|name| quell_connect::alertmanager::is_plain(name));
        let many = self.held_last.load(Ordering::Relaxed) >= MANY;
        if many && few && !names.is_empty() { self.read(names, within).await } else { self.all(within).await }
    }

    async fn read(&self, names: &[&str], within: Duration) -> Answer {
        let asked_at = Instant::now();
        let kept = self.kept(&names.join("|"));
        let Ok(mut kept) = tokio::time::timeout(within, kept.lock()).await else {
            return Err(NoAnswer("no answer within the time allowed".to_owned()));
        };
        // Whoever waited takes the answer to the question that was under way, also when that took long.
        if let Some((began, answer)) = kept.as_ref()
            && *began + FRESH >= asked_at
        {
            return answer.clone();
        }
        let began = Instant::now();
        let answer = self.ask(names, within.saturating_sub(asked_at.elapsed())).await.map(Arc::new);
        *kept = Some((began, answer.clone()));
        answer
    }

    fn kept(&self, question: &str) -> Kept {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= QUESTIONS_MAX && !answers.contains_key(question) {
            answers.clear();
        }
        Arc::clone(answers.entry(question.to_owned()).or_default())
    }

    async fn ask(&self, names: &[&str], within: Duration) -> Result<Reading, NoAnswer> {
        let statuses = self.recent_statuses(within.min(OTHERS_WITHIN)).await;
        let mut asked: FuturesUnordered<_> = self
            .instances
            .iter()
            .enumerate()
            .zip(&statuses)
            .map(|((index, client), status)| async move {
                let context = CallContext::within(within);
                let answer = client.alerts_named(names, &context).await;
                // After the alerts, so that what is listed has been dispatched if anything has.
                let groups = match &answer {
                    Ok(held) if !held.is_empty() && Says::needs_groups(status.as_deref()) => {
                        client.groups_named(names, &context).await.ok().map(by_fingerprint)
                    }
                    _ => None,
                };
                (index, answer, Says { status: status.clone(), groups })
            })
            .collect();
        let mut missing: BTreeMap<usize, String> =
            (0..self.instances.len()).map(|index| (index, "no answer in time".to_owned())).collect();
        let mut alerts: BTreeMap<String, (HeldAlert, Told)> = BTreeMap::new();
        let receivers = self.receivers(&statuses);
        let mut deadline = Instant::now() + within;
        while let Ok(Some((index, answer, says))) = tokio::time::timeout_at(deadline, asked.next()).await {
            match answer {
                Ok(held) => {
                    missing.remove(&index);
                    deadline = deadline.min(Instant::now() + OTHERS_WITHIN);
                    for alert in held {
                        let told = says.told(&alert, &receivers);
                        merge(&mut alerts, alert, told);
                    }
                }
                Err(error) => {
                    missing.insert(index, error.to_string());
                }
            }
        }
        let failed: Vec<_> = missing
            .into_iter()
            .filter_map(|(index, why)| Some((self.instances.get(index)?.place(), why)))
            .collect();
        if failed.len() == self.instances.len() {
            let said: Vec<_> = failed.iter().map(|(place, why)| format!("{place}: {why}")).collect();
            return Err(NoAnswer(Untrusted::new(&said.join("; ")).for_people()));
        }
        if names.is_empty() {
            self.held_last.store(alerts.len(), Ordering::Relaxed);
        }
        alerts.values_mut().for_each(keep_back);
        let by = self.in_words(&alerts, within).await;
        let with_words = |(fingerprint, (alert, told)): (String, (HeldAlert, Told))| {
            let by = by.get(&fingerprint).cloned();
            (fingerprint, Held { alert, by, told })
        };
        Ok(Reading { alerts: alerts.into_iter().map(with_words).collect(), failed, receivers })
    }

    /// What suppresses each suppressed alert, in words. Silences that cannot be read are named by their ids alone.
    async fn in_words(
        &self,
        alerts: &BTreeMap<String, (HeldAlert, Told)>,
        within: Duration,
    ) -> BTreeMap<String, String> {
        let suppressed: Vec<_> = alerts
            .iter()
            .filter_map(|(fingerprint, (alert, _))| match &alert.state {
                AlertState::Suppressed { by } => Some((fingerprint, by)),
                AlertState::Firing | AlertState::Cleared => None,
            })
            .collect();
        if suppressed.is_empty() {
            return BTreeMap::new();
        }
        let mut silences = self.silences.lock().await;
        let unknown = suppressed
            .iter()
            .flat_map(|(_, by)| by.iter())
            .filter_map(|by| by.strip_prefix("silence "))
            .any(|id| !silences.words.contains_key(id));
        let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| at.elapsed());
        let due = unknown || since(silences.read_at) >= SILENCES_FRESH;
        if due && since(silences.tried_at) >= FRESH {
            silences.tried_at = Some(Instant::now());
            let context = CallContext::within(within.min(OTHERS_WITHIN));
            let read = join_all(self.instances.iter().map(|client| client.silences(&context))).await;
            if read.iter().any(Result::is_ok) {
                silences.read_at = Some(Instant::now());
                let read = read.into_iter().flatten().flatten().take(SILENCES_MAX);
                silences.words = read.map(|silence| (silence.id.clone(), words(&silence))).collect();
            }
        }
        let said = |by: &String| {
            let words = by.strip_prefix("silence ").and_then(|id| silences.words.get(id)).cloned();
            words.unwrap_or_else(|| Untrusted::new(by).for_people())
        };
        let all = |by: &Vec<String>| match by.as_slice() {
            [] => "something that Alertmanager does not name".to_owned(),
            by => by.iter().map(said).collect::<Vec<_>>().join(", "),
        };
        suppressed
            .into_iter()
            .map(|(fingerprint, by)| (fingerprint.clone(), bounded(&all(by), 1_000)))
            .collect()
    }

    /// What each says of itself, in the order of [`AlertReader::places`].
    pub(crate) async fn statuses(&self, within: Duration) -> Vec<Result<Arc<Status>, SourceError>> {
        let context = CallContext::within(within);
        let statuses: Vec<_> = join_all(self.instances.iter().map(|client| client.status(&context)))
            .await
            .into_iter()
            .map(|status| status.map(Arc::new))
            .collect();
        let known = statuses.iter().map(|status| status.as_ref().ok().cloned()).collect();
        *self.statuses.lock().await = Some((Instant::now(), known));
        statuses
    }

    /// The same, of a moment ago; `None` for each that did not answer.
    async fn recent_statuses(&self, within: Duration) -> Statuses {
        let kept = self.statuses.lock().await.clone();
        match kept {
            Some((read_at, known)) if read_at.elapsed() < STATUSES_FRESH => known,
            _ => self.statuses(within).await.into_iter().map(Result::ok).collect(),
        }
    }

    fn receivers(&self, statuses: &[Option<Arc<Status>>]) -> Vec<String> {
        let named = self.named_receivers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        receivers_of(&named, &statuses.iter().flatten().map(AsRef::as_ref).collect::<Vec<_>>())
    }
}

fn by_fingerprint(grouped: Vec<Grouped>) -> BTreeMap<String, Vec<Grouped>> {
    let mut groups: BTreeMap<String, Vec<Grouped>> = BTreeMap::new();
    for alert in grouped {
        groups.entry(alert.fingerprint.clone()).or_default().push(alert);
    }
    groups
}

/// What time intervals keep back is suppressed like what a silence does.
fn keep_back((alert, told): &mut (HeldAlert, Told)) {
    let Told::Muted { by } = told else { return };
    let named = by.iter().map(|name| format!("{INTERVAL}{name}"));
    match &mut alert.state {
        AlertState::Suppressed { by } => by.extend(named),
        state => *state = AlertState::Suppressed { by: named.collect() },
    }
}

/// Two Alertmanagers of a cluster hold the same alerts, and learn of silences from each other a little later: what one says is silenced
/// is silenced.
fn merge(alerts: &mut BTreeMap<String, (HeldAlert, Told)>, alert: HeldAlert, told: Told) {
    let Some((known, known_told)) = alerts.get_mut(&alert.fingerprint) else {
        alerts.insert(alert.fingerprint.clone(), (alert, told));
        return;
    };
    *known_told = std::mem::replace(known_told, Told::Unsaid).and(told);
    known.starts_at = known.starts_at.min(alert.starts_at);
    known.ends_at = known.ends_at.max(alert.ends_at);
    known.processed |= alert.processed;
    for receiver in alert.receivers {
        if !known.receivers.contains(&receiver) {
            known.receivers.push(receiver);
        }
    }
    if let AlertState::Suppressed { by } = alert.state {
        let mut all = match std::mem::replace(&mut known.state, AlertState::Firing) {
            AlertState::Suppressed { by } => by,
            AlertState::Firing | AlertState::Cleared => Vec::new(),
        };
        all.extend(by);
        all.sort();
        all.dedup();
        known.state = AlertState::Suppressed { by: all };
    }
}

fn words(silence: &Silence) -> String {
    let shown = |text: &str, max| bounded(Untrusted::new(text.trim()).for_people().trim(), max);
    let mut words = format!("silence {}", shown(&silence.id, 64));
    let mut add = |joint: &str, what: &dyn Display, is_there: bool| {
        if is_there {
            words.push_str(&format!("{joint}{what}"));
        }
    };
    let (author, comment) =
        (shown(&silence.created_by, AUTHOR_CHARS_MAX), shown(&silence.comment, COMMENT_CHARS_MAX));
    add(" of ", &author, !author.is_empty());
    add(" until ", &silence.ends_at, true);
    add(": ", &comment, !comment.is_empty());
    words
}

fn bounded(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}
