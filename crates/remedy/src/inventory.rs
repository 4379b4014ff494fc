//! What may be acted on, by declared name. It is the only place that hosts come from: telemetry is compared with what is declared
//! here and selects an entry, it never becomes one.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::PathBuf;

use quell_incident::plan::DeclaredTarget;
use quell_incident::report::Subject;
use quell_incident::workflow::Autonomy;
use quell_incident::{Labels, TargetName, Untrusted};
use secrecy::SecretString;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::yaml::{self, Faults, Mistakes};

/// Targets in one inventory at the most.
pub const TARGETS_MAX: usize = 10_000;
const TOKEN_BYTES_MAX: u64 = 16 << 10;
/// The inventory of the simulated infrastructure, without its endpoint.
const SHIPPED: &str = include_str!("../inventory/simulator.yaml");

/// Targets by name.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    targets: BTreeMap<TargetName, Target>,
}

/// One thing that can be acted on.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its declared name.
    pub name: TargetName,
    /// Its kind in the site's words, such as `service` or `database`.
    pub kind: String,
    /// The service that it belongs to: what `coordinator.autonomy_overrides` are compared with.
    pub service: Option<String>,
    /// No plan that touches it goes further than this level.
    pub level: Option<Autonomy>,
    /// The URL of the API that operates it.
    pub endpoint: String,
    /// What telemetry may call it.
    pub matches: Match,
    /// Notes for people and policies.
    pub labels: Labels,
    credential: Credential,
}

/// The declared words by which telemetry selects a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Values of the label `service`.
    #[serde(default)]
    pub service: Vec<String>,
    /// Values of the label `instance`, with the port where the label has it.
    #[serde(default)]
    pub instance: Vec<String>,
    /// Parts: a mount point, a database, a consumer group.
    #[serde(default)]
    pub part: Vec<String>,
}

#[derive(Clone, Debug)]
enum Credential {
    None,
    Token(SecretString),
    File(PathBuf),
}

/// Why telemetry's subject selects no single target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSelected {
    /// Nothing in the inventory matches.
    #[error(
        "no target of the inventory matches {subject}; declare one with these words in its `match` lists"
    )]
    None {
        /// The subject, for people.
        subject: String,
    },
    /// Several match equally well, and none is guessed.
    #[error("{subject} matches several targets of the inventory equally well: {}", .targets.join(", "))]
    Several {
        /// The subject, for people.
        subject: String,
        /// The targets.
        targets: Vec<String>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInventory {
    #[serde(default)]
    endpoint: Option<Spanned<String>>,
    targets: BTreeMap<TargetName, RawTarget>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTarget {
    kind: Spanned<String>,
    #[serde(default)]
    service: Option<Spanned<String>>,
    #[serde(default)]
    level: Option<Autonomy>,
    #[serde(default)]
    endpoint: Option<Spanned<String>>,
    #[serde(default, rename = "match")]
    matches: Match,
    #[serde(default)]
    token: Option<Spanned<String>>,
    #[serde(default)]
    token_file: Option<PathBuf>,
    #[serde(default)]
    labels: Labels,
}

impl Inventory {
    /// The targets of the simulated infrastructure, operated at `endpoint`.
    ///
    /// # Errors
    /// When `endpoint` is not an HTTP URL.
    pub fn shipped(endpoint: &str) -> Result<Self, Mistakes> {
        Self::from_yaml("simulator.yaml", SHIPPED, Some(endpoint))
    }

    /// Reads an inventory. Targets without an `endpoint` get the file's, else `endpoint`.
    ///
    /// # Errors
    /// All [`Mistakes`] that were found.
    pub fn from_yaml(file: &str, text: &str, endpoint: Option<&str>) -> Result<Self, Mistakes> {
        let raw: RawInventory = yaml::read(file, text)?;
        let mut faults = Faults::new(file);
        let whole = serde_saphyr::Location::UNKNOWN;
        if raw.targets.len() > TARGETS_MAX {
            faults.add(whole, "targets", format!("there are more than {TARGETS_MAX} targets"));
        }
        let common = raw
            .endpoint
            .as_ref()
            .map(|given| (given.value.as_str(), given.referenced))
            .or(endpoint.map(|e| (e, whole)));
        let mut targets = BTreeMap::new();
        for (name, raw) in raw.targets {
            let own = raw.endpoint.as_ref().map(|given| (given.value.as_str(), given.referenced));
            let at = raw.kind.referenced;
            let endpoint = match own.or(common) {
                Some((url, at)) => match http_url(url) {
                    Ok(url) => url,
                    Err(why) => {
                        faults.add(at, format!("targets.{name}.endpoint"), why);
                        continue;
                    }
                },
                None => {
                    faults.add(at, format!("targets.{name}.endpoint"), "is missing; it has no default");
                    continue;
                }
            };
            let credential = match (raw.token, raw.token_file) {
                (Some(token), Some(_)) => {
                    let why = "`token` and `token_file` are both given; keep one";
                    faults.add(token.referenced, format!("targets.{name}.token"), why);
                    continue;
                }
                (Some(token), None) => Credential::Token(SecretString::from(token.value)),
                (None, Some(file)) => Credential::File(file),
                (None, None) => Credential::None,
            };
            if let Some(service) = raw.service.as_ref().filter(|given| given.value.trim().is_empty()) {
                let why = "is empty; leave it out, or name the service";
                faults.add(service.referenced, format!("targets.{name}.service"), why);
                continue;
            }
            let target = Target {
                name: name.clone(),
                kind: raw.kind.value,
                service: raw.service.map(|given| given.value),
                level: raw.level,
                endpoint,
                matches: raw.matches,
                labels: raw.labels,
                credential,
            };
            targets.insert(name, target);
        }
        faults.or(Self { targets })
    }

    /// The target of this name.
    pub fn get(&self, name: &TargetName) -> Option<&Target> {
        self.targets.get(name)
    }

    /// All targets in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Target> {
        self.targets.values()
    }

    /// The names of all targets.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.targets.keys().map(TargetName::as_str)
    }

    /// The one target that telemetry's subject selects: the one of which most declared words match, none of whose declared lists
    /// contradicts.
    ///
    /// # Errors
    /// [`NotSelected`] when nothing matches, or several do equally well: nothing is guessed.
    pub fn find(&self, subject: &Subject) -> Result<&Target, NotSelected> {
        let scored: Vec<_> =
            self.targets.values().filter_map(|target| Some((target.score(subject)?, target))).collect();
        let best = scored.iter().map(|(score, _)| *score).max();
        let mut best: Vec<_> =
            scored.into_iter().filter(|(score, _)| Some(*score) == best).map(|(_, target)| target).collect();
        match (best.pop(), best.len()) {
            (Some(target), 0) => Ok(target),
            (None, _) => Err(NotSelected::None { subject: words(subject) }),
            (Some(last), _) => {
                let mut targets: Vec<_> = best.iter().map(|target| target.name.to_string()).collect();
                targets.push(last.name.to_string());
                Err(NotSelected::Several { subject: words(subject), targets })
            }
        }
    }
}

impl Target {
    /// What is declared of it that decides how far a plan may go.
    pub fn declared(&self) -> DeclaredTarget {
        DeclaredTarget {
            service: self.service.clone(),
            level: self.level,
            known_as: self.matches.service.clone(),
        }
    }

    /// The bearer token for its endpoint, if it has one.
    ///
    /// # Errors
    /// When the token's file cannot be read.
    pub fn read_token(&self) -> io::Result<Option<SecretString>> {
        match &self.credential {
            Credential::None => Ok(None),
            Credential::Token(token) => Ok(Some(token.clone())),
            Credential::File(path) => {
                let mut text = String::new();
                std::fs::File::open(path)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
                let token = text.trim();
                if token.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the token file is empty"));
                }
                Ok(Some(SecretString::from(token.to_owned())))
            }
        }
    }

    /// How many of the subject's words are declared here; `None` when none is, or a list speaks against it.
    fn score(&self, subject: &Subject) -> Option<u32> {
        let fields = [
            (&subject.service, &self.matches.service),
            (&subject.instance, &self.matches.instance),
            (&subject.part, &self.matches.part),
        ];
        let mut score = 0;
        for (said, declared) in fields {
            if said.is_empty() {
                continue;
            }
            let said = Untrusted::new(said);
            if said.is(self.name.as_str()) || declared.iter().any(|word| said.is(word)) {
                score += 1;
            } else if !declared.is_empty() {
                return None;
            }
        }
        (score > 0).then_some(score)
    }
}

fn words(subject: &Subject) -> String {
    let fields = [("service", &subject.service), ("instance", &subject.instance), ("part", &subject.part)];
    let said: Vec<_> = fields
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| format!("{name} {:?}", Untrusted::new(text).for_people()))
        .collect();
    if said.is_empty() { "a subject without words".to_owned() } else { said.join(", ") }
}

/// The URL without a slash at its end.
fn http_url(url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let authority = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    if authority.is_empty() {
        return Err("is not an HTTP URL; expected one such as http://127.0.0.1:8000".to_owned());
    }
    if authority.contains('@') {
        return Err("has credentials in it; use `token` or `token_file`".to_owned());
    }
    if url.contains(['?', '#']) || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("may not have a query, a fragment or blanks".to_owned());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(service: &str, instance: &str, part: &str) -> Subject {
        Subject { service: service.into(), instance: instance.into(), part: part.into() }
    }

    fn inventory(text: &str) -> Result<Inventory, Mistakes> {
        Inventory::from_yaml("targets.yaml", text, Some("http://127.0.0.1:1"))
    }

    #[test]
    fn the_shipped_inventory_is_selected_by_the_words_of_the_simulator() {
        let inventory = Inventory::shipped("http://127.0.0.1:8000/").unwrap();
        for (said, expected) in [
            (subject("", "db-server-01:9090", "customer_db"), "db-server-01"),
            (subject("order_service", "app-server-01:9090", ""), "order_service"),
            (subject("", "api-gateway-01:9090", ""), "api-gateway-01"),
            (subject("", "storage-node-01:9090", "/data"), "storage-node-01"),
            (subject("", "", "email-service"), "email-service"),
            (subject("email-service", "", "email-service"), "email-service"),
        ] {
            let found = inventory.find(&said).unwrap();
            assert_eq!(found.name.as_str(), expected, "{said:?}");
            assert_eq!(found.endpoint, "http://127.0.0.1:8000");
        }
    }

    #[test]
    fn a_word_that_is_not_declared_selects_nothing() {
        let inventory = Inventory::shipped("http://127.0.0.1:8000").unwrap();
        for said in [
            subject("", "evil.example:9090", ""),
            subject("", "", ""),
            subject("order_service; rm -rf /", "", ""),
            subject("order_service", "db-server-02:9090", ""),
        ] {
            assert!(matches!(inventory.find(&said), Err(NotSelected::None { .. })), "{said:?}");
        }
    }

    #[test]
    fn equally_good_targets_are_not_guessed_between() {
        let text = "targets:\n  a: {kind: x, match: {service: [s]}}\n  b: {kind: x, match: {service: [s], part: [p]}}\n";
        let inventory = inventory(text).unwrap();
        assert_eq!(inventory.find(&subject("s", "", "p")).unwrap().name.as_str(), "b");
        let error = inventory.find(&subject("s", "", "")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "service \"s\" matches several targets of the inventory equally well: a, b"
        );
    }

    #[test]
    fn mistakes_name_line_column_and_field() {
        for (text, expected) in [
            (
                "targets:\n  a:\n    kind: x\n    endpiont: http://h\n",
                "targets.yaml:4:5: `endpiont`: unknown key `endpiont`; did you mean `endpoint`?",
            ),
            (
                "targets:\n  a: {kind: x, endpoint: 'file:///etc'}\n",
                "targets.yaml:2:26: `targets.a.endpoint`: is not an HTTP URL; expected one such as http://127.0.0.1:8000",
            ),
            (
                "targets:\n  a: {kind: x, endpoint: 'http://u:p@h'}\n",
                "targets.yaml:2:26: `targets.a.endpoint`: has credentials in it; use `token` or `token_file`",
            ),
            (
                "targets:\n  a: {kind: x, service: ' '}\n",
                "targets.yaml:2:25: `targets.a.service`: is empty; leave it out, or name the service",
            ),
            (
                "targets:\n  a: {kind: x, token: t, token_file: /f}\n",
                "targets.yaml:2:23: `targets.a.token`: `token` and `token_file` are both given; keep one",
            ),
        ] {
            assert_eq!(inventory(text).unwrap_err().to_string(), expected);
        }
        let twice = inventory("targets:\n  a: {kind: x}\n  a: {kind: y}\n").unwrap_err().to_string();
        assert!(twice.contains("3:3") && twice.contains("twice"), "{twice}");
    }

    #[test]
    fn a_token_never_shows() {
        let inventory = inventory("targets:\n  a: {kind: x, token: hunter2}\n").unwrap();
        assert!(!format!("{inventory:?}").contains("hunter2"));
        let target = inventory.get(&TargetName::declared("a").unwrap()).unwrap();
        assert!(target.read_token().unwrap().is_some());
    }
}
