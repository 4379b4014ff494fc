//! What a site is made of.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use quell_service::{Daemon, FaultPoints};

/// A part of the site that can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The coordinator.
    Coordinator,
    /// The diagnostic agent.
    Diagnostic,
    /// The resolution agent.
    Resolution,
}

impl Part {
    /// All of them, in the order in which they are started.
    pub const ALL: [Self; 3] = [Self::Diagnostic, Self::Resolution, Self::Coordinator];

    pub(crate) fn daemon(self) -> Daemon {
        match self {
            Self::Coordinator => Daemon::Coordinator,
            Self::Diagnostic => Daemon::Diagnostic,
            Self::Resolution => Daemon::Resolution,
        }
    }
}

/// What a site is started with.
#[derive(Clone)]
pub struct Options {
    /// Whether actions are switched on and need no approval. Otherwise the shipped defaults hold.
    pub automatic: bool,
    /// The simulator's tick.
    pub tick: Duration,
    /// How long a threshold must hold before the simulator's alerts fire.
    pub alerts_hold: Duration,
    /// Texts of the generated configuration to be replaced by others, in order.
    pub replacements: Vec<(String, String)>,
    /// Points at which parts die.
    pub faults: HashMap<Part, FaultPoints>,
    /// The parts that are started; the others are places where nobody listens.
    pub parts: Vec<Part>,
    /// Where the coordinator looks for agents instead of in this site: `http://host:port`.
    pub agent_urls: HashMap<Part, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            automatic: true,
            tick: Duration::from_millis(100),
            alerts_hold: Duration::from_secs(1),
            replacements: Vec::new(),
            faults: HashMap::new(),
            parts: Part::ALL.to_vec(),
            agent_urls: HashMap::new(),
        }
    }
}

impl Options {
    /// The same with a text of the generated configuration replaced.
    #[must_use]
    pub fn replacing(mut self, text: &str, by: &str) -> Self {
        self.replacements.push((text.to_owned(), by.to_owned()));
        self
    }

    /// The same, with every plan waiting for a person's approval.
    #[must_use]
    pub fn asking(self) -> Self {
        self.replacing("require_approval: false", "require_approval: true")
    }

    /// The same with the coordinator alone: its agents are places where nobody listens, unless [`Options::agent_at`] names them.
    #[must_use]
    pub fn coordinator_alone(mut self) -> Self {
        self.parts = vec![Part::Coordinator];
        self
    }

    /// The same with another agent in the place of one of this site.
    #[must_use]
    pub fn agent_at(mut self, part: Part, address: SocketAddr) -> Self {
        self.agent_urls.insert(part, format!("http://{address}"));
        self
    }
}
