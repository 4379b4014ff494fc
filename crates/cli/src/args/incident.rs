//! What can be typed after `quell incident`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{Since, duration, since, words};

/// An incident by its id, or by a start or an end of it that no other has.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The incident's id, or a start or an end of it that no other has
    pub(crate) id: String,
}

/// A person's reason.
#[derive(Debug, Args)]
pub(crate) struct Reason {
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
}

/// Whether a step took effect: one of the two has to be said.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Verdict {
    /// The step took effect
    #[arg(long)]
    pub(crate) happened: bool,
    /// The step did not take effect
    #[arg(long)]
    pub(crate) not_happened: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IncidentCommand {
    /// Incidents, the newest first
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  quell incident list --status active
  quell incident list --priority P0 --since 24h
  quell incident list -o json | jq length"
    )]
    List(ListArgs),
    /// All that is known of one incident
    #[command(after_help = "\
Examples:
  quell incident show 3f2a9c
  quell incident show 3f2a9c -o json | jq .diagnostics.root_cause")]
    Show {
        #[command(flatten)]
        target: Target,
    },
    /// What the latest diagnosis rests on: what was asked, what was found, what was missing
    #[command(after_help = "\
Examples:
  quell incident evidence 3f2a9c
  quell incident evidence 3f2a9c --out evidence/3f2a9c.json.gz
      For `quell backtest --cases evidence/`, packed if the name ends in .gz.
  quell incident evidence 3f2a9c -o json | jq '.evidence.metrics[].query'")]
    Evidence {
        #[command(flatten)]
        target: Target,
        /// Write it to this file rather than show it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Closed incidents that looked like it: what was wrong, and what helped
    #[command(after_help = "\
Alerts, services, metrics and log messages are compared; what many incidents have counts little. A cause is told where a runbook's
repair was verified.

Examples:
  quell incident similar 3f2a9c
  quell incident similar 3f2a9c -o json | jq -r '.[].cause'")]
    Similar {
        #[command(flatten)]
        target: Target,
        /// So many at the most, of the ten most alike
        #[arg(long, value_name = "N", default_value_t = 5)]
        count: usize,
    },
    /// Follow an incident until it is closed
    #[command(after_help = "\
Examples:
  quell incident watch 3f2a9c
  quell incident watch 3f2a9c --until resolved --timeout 5m && echo repaired")]
    Watch(WatchArgs),
    /// Open an incident
    #[command(after_help = "\
Examples:
  quell incident create --template database
      A ready draft to try things with.
  quell incident create --title \"Checkout is slow\" --severity high --service checkout --system app-server-01
  quell incident create --title \"Nightly backup failed\" --message-id backup-2026-05-01
      Sent again with the same message id, it opens no second incident.")]
    Create(CreateArgs),
    /// Say that you have seen it
    #[command(
        visible_alias = "acknowledge",
        after_help = "\
Examples:
  quell incident ack 3f2a9c"
    )]
    Ack {
        #[command(flatten)]
        target: Target,
    },
    /// See the plan that waits, and approve exactly that plan
    #[command(after_help = "\
Examples:
  quell incident approve 3f2a9c
      Shows the plan and asks.
  quell incident approve 3f2a9c --yes --digest 4be1c09d77aa
      Asks nothing, and is refused when the plan is not the one that this digest begins.")]
    Approve {
        #[command(flatten)]
        target: Target,
        /// Approve without asking
        #[arg(short, long)]
        yes: bool,
        /// Approve only the plan with this digest (its first 12 characters are enough)
        #[arg(long, value_parser = digest)]
        digest: Option<String>,
    },
    /// Say no to the plan that waits
    #[command(after_help = "\
Examples:
  quell incident deny 3f2a9c --why \"the database is being moved\"")]
    Deny {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        reason: Reason,
        /// Deny only the plan with this digest (its first 12 characters are enough)
        #[arg(long, value_parser = digest)]
        digest: Option<String>,
    },
    /// Say that it is repaired; its alerts stay watched
    #[command(after_help = "\
Examples:
  quell incident resolve 3f2a9c")]
    Resolve {
        #[command(flatten)]
        target: Target,
    },
    /// End it, whatever its alerts say
    #[command(after_help = "\
Examples:
  quell incident close 3f2a9c --why \"a planned test\"")]
    Close {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        reason: Reason,
    },
    /// Take it up again; a closed one is continued by a new incident linked to it
    #[command(after_help = "\
Examples:
  quell incident reopen 3f2a9c --why \"customers still see errors\"")]
    Reopen {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        reason: Reason,
    },
    /// Act yourself: nothing is carried out for it until it is handed back
    #[command(after_help = "\
Examples:
  quell incident take-over 3f2a9c")]
    TakeOver {
        #[command(flatten)]
        target: Target,
    },
    /// Give it back to Quell
    #[command(after_help = "\
Examples:
  quell incident hand-back 3f2a9c")]
    HandBack {
        #[command(flatten)]
        target: Target,
    },
    /// Say what became of a step of which no probe could tell; its target stays locked until then
    #[command(after_help = "\
Look at the target first. Until it is settled the incident is not handed back, resolved, closed or diagnosed again, and no runbook
runs for it. Afterwards the target is free, and the incident goes on as you decide.

Examples:
  quell incident settle 3f2a9c --happened --why \"max_connections is 200 on the server\"
  quell incident settle 3f2a9c --not-happened --why \"the pod was not restarted: its age is 4 d\"")]
    Settle {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        verdict: Verdict,
        #[command(flatten)]
        reason: Reason,
        /// Only this step, by its key
        #[arg(long, value_name = "KEY")]
        step: Option<String>,
    },
    /// Have the cause looked for again
    #[command(after_help = "\
Examples:
  quell incident diagnose 3f2a9c")]
    Diagnose {
        #[command(flatten)]
        target: Target,
    },
    /// Have a plan made from this runbook; its gates still hold
    #[command(after_help = "\
Examples:
  quell incident run 3f2a9c restart-service")]
    Run {
        #[command(flatten)]
        target: Target,
        /// The runbook's name
        runbook: String,
    },
    /// Write something into the timeline
    #[command(after_help = "\
Examples:
  quell incident note 3f2a9c \"the supplier knows and works on it\"")]
    Note {
        #[command(flatten)]
        target: Target,
        /// The words
        #[arg(required = true)]
        text: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only these; active is open or investigating
    #[arg(long, value_parser = words(&["active", "open", "investigating", "resolved", "closed"]), ignore_case = true)]
    pub(crate) status: Option<String>,
    /// Only of this priority
    #[arg(long, value_parser = words(&["P0", "P1", "P2", "P3"]), ignore_case = true)]
    pub(crate) priority: Option<String>,
    /// Only those since then: how long ago, such as 2h, or a time such as 2026-05-01T12:00:00Z
    #[arg(long, value_parser = since, value_name = "TIME")]
    pub(crate) since: Option<Since>,
    /// How many at most
    #[arg(long, default_value = "1000", value_name = "N")]
    pub(crate) limit: NonZeroU32,
    /// Whole ids and texts
    #[arg(short, long)]
    pub(crate) wide: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Stop at this point
    #[arg(long, value_enum, default_value_t = Until::Closed)]
    pub(crate) until: Until,
    /// Give up after this time, such as 5m, and fail
    #[arg(long, value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

/// Where watching ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Until {
    /// A person is asked, or it is over
    Question,
    /// It is resolved or closed
    Resolved,
    /// It is closed
    Closed,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// A ready draft; what else is given replaces its parts
    #[arg(long, value_enum, required_unless_present = "title")]
    pub(crate) template: Option<Template>,
    /// What is wrong, in one line
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
    /// What is known of it
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// The alert that it stands for; its class
    #[arg(long, value_name = "NAME")]
    pub(crate) alert_name: Option<String>,
    /// How urgent; follows from the severity unless it is given
    #[arg(long, value_parser = words(&["P0", "P1", "P2", "P3"]), ignore_case = true)]
    pub(crate) priority: Option<String>,
    /// How bad; medium unless it is given
    #[arg(long, value_parser = words(&["critical", "high", "medium", "warning", "info"]), ignore_case = true)]
    pub(crate) severity: Option<String>,
    /// The service
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// The component
    #[arg(long, value_name = "NAME")]
    pub(crate) component: Option<String>,
    /// A tag; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// An affected system; may be given several times
    #[arg(long = "system", value_name = "NAME")]
    pub(crate) systems: Vec<String>,
    /// Makes a repeat recognisable: the same id with the same content opens nothing a second time
    #[arg(long, value_name = "ID")]
    pub(crate) message_id: Option<String>,
}

/// The ready drafts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Template {
    /// Connection timeouts of the database
    Database,
    /// The API gateway answers 503
    Api,
    /// A service uses too much memory
    Memory,
    /// A disk is nearly full
    Disk,
    /// A certificate is about to expire
    Ssl,
}

/// The start of a digest: as long as people are shown it, or longer.
fn digest(text: &str) -> Result<String, String> {
    let text = text.trim().to_ascii_lowercase();
    let fits = (12..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fits {
        Ok(text)
    } else {
        Err("expected 12 to 64 hexadecimal characters, as the plan shows them".to_owned())
    }
}
