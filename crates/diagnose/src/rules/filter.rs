//! Which events, objects, health checks and changes a signal reads.

use jiff::SignedDuration;
use regex::Regex;

use super::compile::pattern_of;
use super::condition::SignalKind;
use super::file::SignalText;
use crate::surroundings::{Data, Item};

/// How long before the fault a change counts, when a rule does not say.
const WITHIN_MINUTES: i64 = 60;
/// The longest that a rule may say.
const WITHIN_HOURS_MAX: i64 = 7 * 24;
/// Labels that objects of every kind may have.
const OBJECT_NAMES: [&str; 8] =
    ["service", "namespace", "name", "kind", "node", "state", "last_exit", "revision"];
/// Labels that events of every kind may have.
const EVENT_NAMES: [&str; 5] = ["service", "namespace", "name", "kind", "reason"];

/// A filter whose patterns are compiled. Words are compared without regard to capitals.
pub(crate) enum Filter {
    Event { kind: Words, reason: Words, message: Option<Regex>, warning: Option<bool> },
    Object { kind: Words, state: Words, last_exit: Words, ready: Option<bool>, restarts: u32 },
    Health { name: Option<Regex>, message: Option<Regex> },
    Change { kind: Words, within: SignedDuration },
}

/// Words of which one has to fit; any when there are none.
pub(crate) struct Words(Vec<String>);

impl Words {
    fn new(words: &[String]) -> Result<Self, String> {
        if words.iter().any(|word| word.trim().is_empty()) {
            return Err("has an empty word, where one such as `Pod` or `OOMKilled` is expected".to_owned());
        }
        Ok(Self(words.iter().map(|word| word.trim().to_owned()).collect()))
    }

    /// With `lead` before them; nothing without any word.
    pub(super) fn in_words(&self, lead: &str) -> Option<String> {
        (!self.0.is_empty()).then(|| format!("{lead} {}", self.0.join(" or ")))
    }

    fn fit(&self, text: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|word| word.eq_ignore_ascii_case(text))
    }
}

impl Filter {
    pub(super) fn compile(text: &SignalText) -> Result<Self, String> {
        let pattern = |text: &Option<String>| text.as_deref().map(pattern_of).transpose();
        if let Some(event) = &text.event {
            return Ok(Self::Event {
                kind: Words::new(&event.kind)?,
                reason: Words::new(&event.reason)?,
                message: pattern(&event.message)?,
                warning: event.warning,
            });
        }
        if let Some(object) = &text.object {
            return Ok(Self::Object {
                kind: Words::new(&object.kind)?,
                state: Words::new(&object.state)?,
                last_exit: Words::new(&object.last_exit)?,
                ready: object.ready,
                restarts: object.restarts,
            });
        }
        if let Some(health) = &text.health {
            return Ok(Self::Health { name: pattern(&health.name)?, message: pattern(&health.message)? });
        }
        let change = text.change.as_ref().ok_or("reads nothing")?;
        let within = match &change.within {
            None => SignedDuration::from_mins(WITHIN_MINUTES),
            Some(text) => text
                .parse::<SignedDuration>()
                .ok()
                .filter(|within| within.is_positive() && *within <= SignedDuration::from_hours(WITHIN_HOURS_MAX))
                .ok_or_else(|| {
                    format!("has `within: {text}`, where a time such as `30m` is expected, of {WITHIN_HOURS_MAX}h at the most")
                })?,
        };
        Ok(Self::Change { kind: Words::new(&change.kind)?, within })
    }

    pub(crate) fn kind(&self) -> SignalKind {
        match self {
            Self::Event { .. } => SignalKind::Event,
            Self::Object { .. } => SignalKind::Object,
            Self::Health { .. } => SignalKind::Health,
            Self::Change { .. } => SignalKind::Change,
        }
    }

    /// Whether an item is of the kind that is read at all, whatever its state.
    pub(crate) fn is_for(&self, item: &Item) -> bool {
        match (self, &item.data) {
            (Self::Event { kind, .. }, Data::Event(one)) => kind.fit(&one.kind),
            (Self::Object { kind, .. }, Data::Object(one)) => kind.fit(&one.kind),
            (Self::Health { name, .. }, Data::Health(one)) => {
                name.as_ref().is_none_or(|name| name.is_match(&one.name))
            }
            (Self::Change { kind, .. }, Data::Change(one)) => kind.fit(&one.kind),
            _ => false,
        }
    }

    /// Whether it is what is looked for. A message is asked of a check that failed alone.
    pub(crate) fn fits(&self, item: &Item) -> bool {
        self.is_for(item)
            && match (self, &item.data) {
                (Self::Event { reason, message, warning, .. }, Data::Event(one)) => {
                    reason.fit(&one.reason)
                        && message.as_ref().is_none_or(|message| message.is_match(&one.message))
                        && warning.is_none_or(|warning| warning == one.warning)
                }
                (Self::Object { state, last_exit, ready, restarts, .. }, Data::Object(one)) => {
                    state.fit(&one.state)
                        && last_exit.fit(&one.last_exit)
                        && ready.is_none_or(|ready| ready == one.ready)
                        && one.restarts >= *restarts
                }
                (Self::Health { message, .. }, Data::Health(one)) => {
                    !one.healthy && message.as_ref().is_none_or(|message| message.is_match(&one.message))
                }
                _ => true,
            }
    }

    /// What the message's pattern captures under a name.
    pub(crate) fn captured<'a>(&self, name: &str, item: &'a Item) -> Option<&'a str> {
        let (pattern, text) = match (self, &item.data) {
            (Self::Event { message, .. }, Data::Event(one)) => (message.as_ref()?, &one.message),
            (Self::Health { name: called, message }, Data::Health(one)) => {
                let of = |pattern: Option<&'_ Regex>, text: &'a str| {
                    Some(pattern?.captures(text)?.name(name)?.as_str())
                };
                return of(called.as_ref(), &one.name).or_else(|| of(message.as_ref(), &one.message));
            }
            _ => return None,
        };
        Some(pattern.captures(text)?.name(name)?.as_str())
    }

    /// Whether a subject can be read from that label or group.
    pub(super) fn names(&self, name: &str) -> bool {
        self.all_names().iter().any(|known| known == name)
    }

    pub(super) fn all_names(&self) -> Vec<String> {
        let (fixed, kinds, patterns): (&[&str], &[String], [Option<&Regex>; 2]) = match self {
            Self::Event { kind, message, .. } => (&EVENT_NAMES, &kind.0, [message.as_ref(), None]),
            Self::Object { kind, .. } => (&OBJECT_NAMES, &kind.0, [None, None]),
            Self::Health { name, message } => (&["service", "name"], &[], [name.as_ref(), message.as_ref()]),
            Self::Change { .. } => (&["service", "kind", "version", "by"], &[], [None, None]),
        };
        let groups = patterns.into_iter().flatten().flat_map(|pattern| pattern.capture_names().flatten());
        let names = fixed.iter().copied().chain(groups).map(str::to_owned);
        names.chain(kinds.iter().map(|kind| kind.to_lowercase())).collect()
    }
}
