//! One fault, from its trigger to the closed incident.

use std::io::BufRead as _;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::scenario::Scenario;
use super::show::Show;
use super::site::Site;
use crate::http;
use crate::interrupt::Interrupt;

/// How long a loop may take after the trigger, without the time in which a person decides.
const WITHIN: Duration = Duration::from_secs(60);
const WITHIN_REAL: Duration = Duration::from_secs(120);
/// How often the incident is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How following ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The incident is closed.
    Closed,
    /// The incident was handed to a person.
    Escalated,
    /// The person at the terminal said no.
    Denied,
    /// It took too long.
    Late,
}

/// What became of a scenario.
pub(crate) struct Followed {
    pub(crate) scenario: Scenario,
    pub(crate) ending: Ending,
    /// The incident as the API shows it; null if none was opened.
    pub(crate) incident: Value,
    /// Seconds from the trigger to the closed incident.
    pub(crate) seconds: f64,
    /// Why it does not count as verified and closed by a runbook's action; empty if it does.
    pub(crate) problems: Vec<String>,
}

impl Followed {
    /// Verified, and closed by a runbook's action.
    pub(crate) fn verified(&self) -> bool {
        self.problems.is_empty()
    }

    /// The actions that were carried out: `restart_service on order_service`.
    pub(crate) fn actions(&self) -> Vec<String> {
        let actions = self.incident["remediation_actions"].as_array().cloned().unwrap_or_default();
        let sentence = |action: &Value| format!("{} on {}", text(&action["action"]), text(&action["target"]));
        actions.iter().map(sentence).collect()
    }

    /// The line for scripts.
    pub(crate) fn json(&self) -> Value {
        json!({
            "scenario": self.scenario.name,
            "incident_id": self.incident["id"],
            "root_cause": self.incident["diagnostics"]["root_cause"],
            "confidence": self.incident["diagnostics"]["confidence"],
            "runbook": self.incident["resolution"]["runbook"],
            "actions": self.incident["remediation_actions"],
            "verified": self.verified(),
            "status": self.incident["status"],
            "seconds": (self.seconds * 1000.0).round() / 1000.0,
            "problems": self.problems,
        })
    }
}

/// Triggers the fault and follows its incident to the end.
pub(crate) fn run(
    scenario: Scenario,
    yes: bool,
    real: bool,
    site: &mut Site,
    show: &Show,
    interrupt: &Interrupt,
) -> Result<Followed> {
    let status = http::json(site.simulator, "POST", &format!("/trigger/{}", scenario.name), None)?;
    let triggered_at: Timestamp =
        status["triggered_at"].as_str().context("the simulator says not when it triggered")?.parse()?;
    show.triggered(scenario, text(&status["title"]));
    let mut following =
        Following { scenario, triggered_at, shown: 0, answered: None, deciding: Duration::ZERO };
    let started = Instant::now();
    let within = if real { WITHIN_REAL } else { WITHIN };
    let (ending, incident) = loop {
        site.check()?;
        interrupt.check()?;
        let incident = following.look(site)?;
        following.show_news(&incident, show);
        if incident["status"] == "closed" {
            break (Ending::Closed, incident);
        }
        if incident["phase"] == "escalated" {
            let ending =
                if following.answered == Some(Answer::No) { Ending::Denied } else { Ending::Escalated };
            break (ending, incident);
        }
        if incident["question"]["kind"] == "approval" && following.answered.is_none() {
            following.answer(&incident, yes, site, show, interrupt)?;
            continue;
        }
        if started.elapsed() > within + following.deciding {
            break (Ending::Late, incident);
        }
        interrupt.pause(LOOK_EVERY)?;
    };
    let mut problems = following.problems(ending, &incident, within, site)?;
    if ending == Ending::Closed {
        problems.extend(following.companions(&incident, site, within, interrupt)?);
    }
    let end = incident["closed_at"].as_str().and_then(|at| at.parse().ok());
    let seconds = end.map_or(started.elapsed().as_secs_f64(), |end: Timestamp| following.since_trigger(end));
    Ok(Followed { scenario, ending, incident, seconds, problems })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
}

struct Following {
    scenario: Scenario,
    triggered_at: Timestamp,
    /// The revision up to which the timeline was shown.
    shown: u64,
    answered: Option<Answer>,
    /// How long a person took to decide.
    deciding: Duration,
}

impl Following {
    fn since_trigger(&self, at: Timestamp) -> f64 {
        at.duration_since(self.triggered_at).as_secs_f64()
    }

    /// The incidents that were opened since the trigger, newest first.
    fn opened(&self, site: &Site) -> Result<Vec<Value>> {
        let path = format!("/api/incidents?since={}&limit=1000", self.triggered_at);
        let list = http::json(site.coordinator, "GET", &path, None)?;
        let mut incidents = list.as_array().cloned().context("the list of incidents is no array")?;
        incidents.retain(|incident| {
            let opened: Option<Timestamp> = incident["created_at"].as_str().and_then(|at| at.parse().ok());
            opened.is_some_and(|at| at >= self.triggered_at)
        });
        Ok(incidents)
    }

    /// The scenario's incident with its timeline, null as long as there is none.
    fn look(&self, site: &Site) -> Result<Value> {
        let opened = self.opened(site)?;
        // Two alerts of one fault join one incident, which has the name of the first.
        let of_alert = |alert: &str| opened.iter().find(|incident| incident["alert_name"] == alert);
        let own = of_alert(self.scenario.alert).or_else(|| of_alert(self.scenario.companion?));
        let Some(own) = own else { return Ok(Value::Null) };
        http::json(site.coordinator, "GET", &format!("/api/incidents/{}", text(&own["id"])), None)
    }

    fn show_news(&mut self, incident: &Value, show: &Show) {
        for entry in incident["timeline"].as_array().into_iter().flatten() {
            // 64-bit numbers are strings in this API.
            let revision = text(&entry["revision"]).parse().unwrap_or_default();
            if revision <= self.shown {
                continue;
            }
            self.shown = revision;
            let at = entry["at"].as_str().and_then(|at| at.parse().ok());
            let seconds = at.map_or(0.0, |at| self.since_trigger(at));
            show.step(seconds, text(&entry["actor"]), text(&entry["type"]), text(&entry["text"]));
        }
    }

    /// Shows the plan, takes the answer, and gives it to the coordinator for exactly this plan.
    fn answer(
        &mut self,
        incident: &Value,
        yes: bool,
        site: &mut Site,
        show: &Show,
        interrupt: &Interrupt,
    ) -> Result<()> {
        show.plan(&incident["plan"]);
        let asked = Instant::now();
        let answer = if yes { Answer::Yes } else { ask(site, show, interrupt)? };
        self.deciding += asked.elapsed();
        self.answered = Some(answer);
        let word = if answer == Answer::Yes { "approve" } else { "deny" };
        let path = format!("/api/incidents/{}/{word}", text(&incident["id"]));
        let body = json!({"plan_digest": incident["question"]["plan_digest"]});
        let answer = http::request(site.coordinator, "POST", &path, Some(&body))?;
        // A conflict means that meanwhile the question was withdrawn or the plan is another one: the next look tells.
        match answer.status {
            200..300 => Ok(()),
            409 => {
                self.answered = None;
                show.note(&format!("the answer came too late: {}", answer.body));
                Ok(())
            }
            status => bail!("POST {path} answered {status}: {}", answer.body),
        }
    }

    /// Why this is not an incident that a runbook's action ended.
    fn problems(
        &self,
        ending: Ending,
        incident: &Value,
        within: Duration,
        site: &Site,
    ) -> Result<Vec<String>> {
        if incident.is_null() {
            let why = format!("no incident of {} was opened in {} s", self.scenario.alert, within.as_secs());
            return Ok(vec![why]);
        }
        let (phase, summary) = (text(&incident["phase"]), text(&incident["summary"]));
        match ending {
            Ending::Closed => {}
            Ending::Denied => return Ok(vec!["the plan was denied".to_owned()]),
            Ending::Escalated => return Ok(vec![format!("handed to a person: {summary}")]),
            Ending::Late => {
                return Ok(vec![format!("stuck in phase {phase} after {} s: {summary}", within.as_secs())]);
            }
        }
        let mut problems = Vec::new();
        let mut unless = |holds: bool, why: String| {
            if !holds {
                problems.push(why);
            }
        };
        let by = text(&incident["resolution"]["by"]);
        unless(by == "runbook", format!("it was not resolved by a runbook ({by})"));
        let actions: Vec<_> = incident["remediation_actions"].as_array().cloned().unwrap_or_default();
        unless(
            actions.iter().any(|action| action["success"] == true),
            "no action of it succeeded".to_owned(),
        );

        // The simulator has its own view of what healed it, and does not know of incidents.
        let world = http::json(site.simulator, "GET", "/scenarios", None)?;
        let own = world.as_array().into_iter().flatten().find(|one| one["name"] == self.scenario.name);
        let own = own.cloned().unwrap_or(Value::Null);
        unless(
            own["ended"] == "healed",
            format!("the simulator says that the fault ended: {}", own["ended"]),
        );
        let done = http::json(site.simulator, "GET", "/actions", None)?;
        let healing = done.as_array().into_iter().flatten().find(|action| action["id"] == own["healed_by"]);
        let key = healing.map_or("", |action| text(&action["key"]));
        unless(
            actions.iter().any(|action| !key.is_empty() && key.starts_with(text(&action["key"]))),
            format!("the action that healed it ({key}) is not one of the incident"),
        );
        let resets = http::json(site.simulator, "GET", "/health", None)?["resets"].clone();
        unless(resets == 0, format!("the simulator was reset {resets} times"));
        Ok(problems)
    }

    /// Other incidents that the fault opened. Those that are expected end by themselves once it is healed; any other is a problem.
    fn companions(
        &self,
        own: &Value,
        site: &mut Site,
        within: Duration,
        interrupt: &Interrupt,
    ) -> Result<Vec<String>> {
        let started = Instant::now();
        loop {
            let mut others = self.opened(site)?;
            others.retain(|incident| incident["id"] != own["id"]);
            let strange: Vec<_> = others
                .iter()
                .filter(|incident| {
                    self.scenario.companion.is_none_or(|alert| incident["alert_name"] != alert)
                })
                .map(|incident| format!("it also opened an incident of {}", text(&incident["alert_name"])))
                .collect();
            let open: Vec<_> = others
                .iter()
                .filter(|incident| incident["status"] != "closed")
                .map(|incident| format!("{} is {}", text(&incident["title"]), text(&incident["summary"])))
                .collect();
            if open.is_empty() || started.elapsed() > within {
                return Ok(strange.into_iter().chain(open).collect());
            }
            site.check()?;
            interrupt.pause(LOOK_EVERY)?;
        }
    }
}

/// Asks on the terminal. Reading it blocks, so a thread of its own does it, and a signal still ends the wait.
fn ask(site: &mut Site, show: &Show, interrupt: &Interrupt) -> Result<Answer> {
    loop {
        show.ask("Carry out this plan? [y/n] ");
        let line = read_line();
        let typed = loop {
            interrupt.check()?;
            site.check()?;
            match line.recv_timeout(Duration::from_millis(50)) {
                Ok(typed) => break typed,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => bail!("the terminal was closed"),
            }
        };
        match typed.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => return Ok(Answer::Yes),
            "n" | "no" => return Ok(Answer::No),
            _ => {}
        }
    }
}

fn read_line() -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        if matches!(std::io::stdin().lock().read_line(&mut line), Ok(bytes) if bytes > 0) {
            let _ = sender.send(line);
        }
    });
    receiver
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
