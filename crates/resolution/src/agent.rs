//! Putting the agent together, and taking it apart.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use quell_a2a::{A2aError, Access, Authenticate, Caller, ErrorKind, ServerOptions, TaskManager, TaskOptions};
use quell_remedy::{Agent, FaultHook, Knowledge, Ledger, LedgerSettings, PlanSettings};
use quell_service::{
    AuthError, Clock, Config, Door, Exit, FaultPoints, IdSource, Scope, ServeOptions, ServeReport,
    TokenTable, bind,
};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use crate::card::LEDGER_EXTENSION;
use crate::card::card;
use crate::error::StartError;
use crate::knowledge;
use crate::metrics::Metrics;
use crate::pages::{self, Pages};
use crate::skills::{Shared, skills};
use crate::sources::SourceSettings;

/// The agent's name in plans; its ledger tells two of that name apart.
const INSTANCE: &str = "quell-resolution";
/// How often the ledger's journal is asked whether it still takes records.
const LEDGER_LOOK: Duration = Duration::from_secs(1);

/// How often what is old is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// What an agent is started with.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ids of tasks, and of a new ledger.
    pub ids: Arc<dyn IdSource>,
    /// Points at which a test lets it die.
    pub faults: FaultPoints,
}

/// A running agent. Dropping it stops serving without waiting; steps under way still end and are recorded.
pub struct Handle {
    address: SocketAddr,
    ledger_folder: PathBuf,
    shared: Arc<Shared>,
    manager: TaskManager,
    source: SourceSettings,
    config: Config,
    draining: CancellationToken,
    stopping: DropGuard,
    serving: JoinHandle<ServeReport>,
}

/// Whether the agent could start with this configuration, as far as that can be told without opening anything.
///
/// # Errors
/// What [`start`] would say.
pub fn check(config: &Config) -> Result<(), StartError> {
    knowledge::load(config)?;
    SourceSettings::of(config)?;
    Ok(())
}

/// What should be said about a configuration that can be used: whom the agent believes, where steps take effect and no setting says it.
///
/// # Errors
/// What [`start`] would say.
pub fn notices(config: &Config) -> Result<Vec<String>, StartError> {
    let knowledge = knowledge::load(config)?;
    let notice = knowledge::whom_it_believes(&knowledge).filter(|_| knowledge::executes(&knowledge.guard));
    Ok(notice.into_iter().collect())
}

/// Says whom the agent believes: loudly while that is open, and as a fact afterwards.
fn tell_whom_it_believes(knowledge: &Knowledge) {
    let Some(notice) = knowledge::whom_it_believes(knowledge) else { return };
    if knowledge.coordinator.trusts_the_first() {
        tracing::warn!("{notice}");
    } else {
        tracing::info!("{notice}");
    }
}

/// Starts the agent: loads everything, opens the ledger, binds, then serves.
///
/// # Errors
/// [`StartError`], which names the setting or the file. Nothing is left running then.
pub async fn start(setup: Setup) -> Result<Handle, StartError> {
    let Setup { config, clock, ids, faults } = setup;
    let knowledge = knowledge::load(&config)?;
    let source = SourceSettings::of(&config)?;
    let folder = config.resolution_data_dir()?.join("ledger");
    let listener = bind(config.resolution.listen, "resolution.listen").await?;
    let address = listener
        .local_addr()
        .map_err(|error| StartError::Assembly { why: format!("the bound address is not known: {error}") })?;
    let opened = Ledger::open(&folder, INSTANCE, ids.new_id(), LedgerSettings::default(), clock.now());
    let (ledger, report) =
        opened.map_err(|source| StartError::Ledger { folder: folder.display().to_string(), source })?;
    tracing::info!(
        ledger = ledger.identity().ledger, folder = %folder.display(), created = report.created,
        torn_tail = report.torn_tail.is_some(), "ledger open"
    );
    if knowledge::executes(&knowledge.guard) {
        tracing::warn!("execution is switched on: approved steps take effect");
    } else {
        tracing::info!("execution is switched off: plans are shown, every step is refused");
    }
    tell_whom_it_believes(&knowledge);

    let now = Arc::clone(&clock);
    let agent = Agent::new(
        Arc::new(ledger),
        knowledge,
        PlanSettings::default(),
        Arc::new(move || now.now()),
        Arc::new(Faults(faults)),
    );
    let metrics = Arc::new(Metrics::new());
    let reads = source.open(&clock)?;
    let shared = Arc::new(Shared::new(Arc::clone(&agent), Arc::clone(&clock), Arc::clone(&metrics), reads));
    let (task_ids, task_clock) = (Arc::clone(&ids), Arc::clone(&clock));
    let options = TaskOptions::new(move || task_ids.new_id().to_string(), move || task_clock.now());
    let assembly = |error: A2aError| StartError::Assembly { why: error.to_string() };
    let manager = TaskManager::new(skills(&shared), options).map_err(assembly)?;

    let tokens = TokenTable::new(&config.resolution.tokens);
    let hosts = &config.resolution.allowed_hosts;
    let door = Door::new("resolution.allowed_hosts", hosts, &tokens, Arc::clone(&clock));
    metrics.register(&door);
    let card = card(address, agent.ledger().identity(), tokens.is_required());
    let access = match tokens.is_required() {
        true => Access::Tokens(Arc::new(Callers(tokens))),
        false => Access::Loopback(Caller::local()),
    };
    let server = ServerOptions::new(access, clock.now());
    let draining = server.draining.clone();
    let router = quell_a2a::router(Arc::new(manager.clone()), card, server).map_err(assembly)?;
    let router = router.merge(pages::router(Pages { agent, metrics, draining: draining.clone() }));
    let router = door.before(router);
    let stopping = CancellationToken::new();
    let stopped = stopping.clone().cancelled_owned();
    let limits = ServeOptions::of(&config.listeners);
    let serving = tokio::spawn(quell_service::serve_with(listener, router, limits, stopped));
    tokio::spawn(forget_now_and_then(Arc::clone(&shared), stopping.clone()));
    let stopping = stopping.drop_guard();
    Ok(Handle {
        address,
        ledger_folder: folder,
        shared,
        manager,
        source,
        config,
        draining,
        stopping,
        serving,
    })
}

/// Plans that never began go soon after their time, also when no other is asked for.
async fn forget_now_and_then(shared: Arc<Shared>, stopping: CancellationToken) {
    while stopping.run_until_cancelled(tokio::time::sleep(FORGET_EVERY)).await.is_some() {
        if let Err(error) = shared.agent.ledger().forget(shared.clock.now()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "old plans could not be forgotten");
        }
    }
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl quell_service::Handle for Handle {
    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        vec![("grpc", self.address)]
    }

    async fn failed(&mut self) -> (Exit, String) {
        loop {
            if let Some(error) = self.shared.agent.ledger().failure() {
                // Whether the last records are on disk can only be found out by opening the ledger anew.
                let why = format!(
                    "the ledger takes no more records: {error}; see to the disk under {} and start again, which opens the ledger \
                     anew and finds out what of the last records is on it",
                    self.ledger_folder.display()
                );
                return (Exit::Storage, why);
            }
            tokio::time::sleep(LEDGER_LOOK).await;
        }
    }

    async fn reload(&mut self, config: Config) -> Result<(), String> {
        let words = |error: StartError| error.to_string();
        let knowledge = knowledge::load(&config).map_err(words)?;
        let source = SourceSettings::of(&config).map_err(words)?;
        if config.resolution.listen != self.config.resolution.listen
            || config.resolution.allowed_hosts != self.config.resolution.allowed_hosts
            || config.resolution.data_dir != self.config.resolution.data_dir
            || config.resolution.tokens != self.config.resolution.tokens
            || config.listeners != self.config.listeners
        {
            let settings = "resolution.listen, allowed_hosts, data_dir and tokens, and listeners,";
            return Err(format!("{settings} take effect only at a start"));
        }
        if source != self.source {
            self.shared.replace_reads(source.open(&self.shared.clock).map_err(words)?);
            self.source = source;
        }
        // A reload may be what switches execution on.
        tell_whom_it_believes(&knowledge);
        self.shared.agent.replace_knowledge(knowledge);
        self.config = config;
        Ok(())
    }

    async fn stop(self, drain: Duration) {
        let began = tokio::time::Instant::now();
        // New calls are refused and callers go elsewhere; steps under way go on to their end.
        self.draining.cancel();
        let left = self.manager.shutdown(drain.mul_f64(0.8)).await;
        let remaining = drain.saturating_sub(began.elapsed());
        if tokio::time::timeout(remaining, self.shared.agent.drained()).await.is_err() {
            let running = self.shared.agent.running();
            tracing::warn!(
                left,
                running,
                "steps are still under way; after a restart they are unknown until probed"
            );
        }
        self.stopping.disarm().cancel();
        if self.serving.await.is_err() {
            tracing::error!("the server ended by a panic");
        }
    }
}

/// Callers by bearer token; only those with the scope `agent` may give this agent tasks.
struct Callers(TokenTable);

impl Authenticate for Callers {
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, A2aError> {
        let refuse = |error: AuthError| {
            let kind = match error {
                AuthError::Missing | AuthError::Unknown => ErrorKind::Unauthenticated,
                AuthError::Forbidden { .. } => ErrorKind::Forbidden,
            };
            A2aError::new(kind, error.to_string())
        };
        let principal = self.0.authenticate_headers(headers).map_err(refuse)?;
        principal.require(Scope::Agent).map_err(refuse)?;
        Ok(Caller::named(principal.name))
    }
}

/// The service's fault points as remediation wants them.
struct Faults(FaultPoints);

#[async_trait]
impl FaultHook for Faults {
    async fn reached(&self, point: &'static str) {
        self.0.reach(point).await;
    }
}
