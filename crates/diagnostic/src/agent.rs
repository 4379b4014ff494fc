//! Putting the agent together, and taking it apart.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use quell_a2a::{A2aError, Access, Authenticate, Caller, ErrorKind, ServerOptions, TaskManager, TaskOptions};
use quell_incident::surroundings::{EDGES_MAX, Edge, Topology};
use quell_service::{
    AuthError, Clock, Config, Door, IdSource, Scope, ServeOptions, ServeReport, SystemClock, TokenTable, bind,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::call::CallTool;
use crate::card::card;
use crate::error::StartError;
use crate::gather::Gathering;
use crate::knowledge;
use crate::metrics::Metrics;
use crate::pages::{self, Pages};
use crate::reader::Reader;
use crate::skill::{Current, Diagnose, Means};
use crate::sources::{SourceSettings, Sources};

/// What of the drain time diagnoses under way may take; the rest is for connections.
const DRAIN_SHARE: f64 = 0.8;

/// What an agent is started with.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ids of tasks.
    pub ids: Arc<dyn IdSource>,
}

/// A running agent.
pub struct Handle {
    address: SocketAddr,
    clock: Arc<dyn Clock>,
    config: Box<Config>,
    settings: SourceSettings,
    sources: Sources,
    current: Arc<Current>,
    manager: TaskManager,
    draining: CancellationToken,
    stopping: CancellationToken,
    serving: JoinHandle<ServeReport>,
}

/// Whether the agent could start with this configuration, as far as that can be told without asking others.
///
/// # Errors
/// What [`start`] would say.
pub fn check(config: &Config) -> Result<(), StartError> {
    knowledge::load(config)?;
    SourceSettings::of(config)?;
    knowledge::learned(config)?;
    // Nothing is asked of it here, so that any clock will do.
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Reader::open(&config.diagnostic.language_model, &clock, None)?;
    Ok(())
}

/// Starts the agent: loads the rules, opens the sources, binds, then serves. Sources need not be reachable.
///
/// # Errors
/// [`StartError`], which names the setting or the file. Nothing is left running then.
pub async fn start(setup: Setup) -> Result<Handle, StartError> {
    let Setup { config, clock, ids } = setup;
    let rules = Arc::new(knowledge::load(&config)?);
    let settings = SourceSettings::of(&config)?;
    let listener = bind(config.diagnostic.listen, "diagnostic.listen").await?;
    let assembly = |why: String| StartError::Assembly { why };
    let address = listener.local_addr().map_err(|error| assembly(error.to_string()))?;
    let sources = settings.open(&clock).await?;
    let tools = sources.tools(&rules, &clock)?;
    tracing::info!(rules = rules.names().len(), digest = rules.digest().short(), "rules loaded");

    let metrics = Arc::new(Metrics::new());
    let current = Arc::new(Current::new(Means {
        rules,
        tools,
        gathering: gathering(&config),
        aids: knowledge::learned(&config)?,
        reader: Reader::open(&config.diagnostic.language_model, &clock, None)?,
    }));
    let call = CallTool { current: Arc::clone(&current) };
    let skill = Diagnose { current: Arc::clone(&current), metrics: Arc::clone(&metrics) };
    let task_clock = Arc::clone(&clock);
    let options = TaskOptions::new(move || ids.new_id().to_string(), move || task_clock.now());
    let wrong = |error: A2aError| assembly(error.to_string());
    let manager = TaskManager::new(vec![Arc::new(skill), Arc::new(call)], options).map_err(wrong)?;

    let tokens = TokenTable::new(&config.diagnostic.tokens);
    let hosts = &config.diagnostic.allowed_hosts;
    let door = Door::new("diagnostic.allowed_hosts", hosts, &tokens, Arc::clone(&clock));
    metrics.register(&door);
    let card = card(address, tokens.is_required());
    let access = match tokens.is_required() {
        true => Access::Tokens(Arc::new(Callers(tokens))),
        false => Access::Loopback(Caller::local()),
    };
    let server = ServerOptions::new(access, clock.now());
    let draining = server.draining.clone();
    let router = quell_a2a::router(Arc::new(manager.clone()), card, server).map_err(wrong)?;
    let pages = Pages { current: Arc::clone(&current), metrics, draining: draining.clone() };
    let router = router.merge(pages::router(pages));
    let router = door.before(router);
    let stopping = CancellationToken::new();
    let stopped = stopping.clone().cancelled_owned();
    let limits = ServeOptions::of(&config.listeners);
    let serving = tokio::spawn(quell_service::serve_with(listener, router, limits, stopped));
    Ok(Handle {
        address,
        clock,
        config: Box::new(config),
        settings,
        sources,
        current,
        manager,
        draining,
        stopping,
        serving,
    })
}

fn gathering(config: &Config) -> Gathering {
    Gathering {
        window_before: config.diagnostic.window_before.signed(),
        within: config.diagnostic.gather_timeout.get(),
        topology: topology(&config.diagnostic.depends_on),
    }
}

fn topology(depends_on: &BTreeMap<String, Vec<String>>) -> Topology {
    let edge = |caller: &String, callee: &String| Edge { caller: caller.clone(), callee: callee.clone() };
    let edges = depends_on
        .iter()
        .flat_map(|(caller, callees)| callees.iter().map(move |callee| edge(caller, callee)));
    Topology { edges: edges.take(EDGES_MAX).collect() }
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

    async fn reload(&mut self, config: Config) -> Result<(), String> {
        let words = |error: StartError| error.to_string();
        let rules = Arc::new(knowledge::load(&config).map_err(words)?);
        let settings = SourceSettings::of(&config).map_err(words)?;
        let (new, old) = (&config.diagnostic, &self.config.diagnostic);
        if new.listen != old.listen
            || new.allowed_hosts != old.allowed_hosts
            || new.tokens != old.tokens
            || config.listeners != self.config.listeners
        {
            let settings = "diagnostic.listen, allowed_hosts and tokens, and listeners,";
            return Err(format!("{settings} take effect only at a start"));
        }
        let opened = match settings == self.settings {
            true => None,
            false => Some(settings.open(&self.clock).await.map_err(words)?),
        };
        let sources = opened.as_ref().unwrap_or(&self.sources);
        let tools = sources.tools(&rules, &self.clock).map_err(words)?;
        tracing::info!(rules = rules.names().len(), digest = rules.digest().short(), "rules loaded");
        let aids = knowledge::learned(&config).map_err(words)?;
        let before = self.current.get();
        let reader = Reader::open(&new.language_model, &self.clock, before.reader.as_ref()).map_err(words)?;
        self.current.replace(Means { rules, tools, gathering: gathering(&config), aids, reader });
        if let Some(opened) = opened {
            self.sources = opened;
        }
        (self.settings, self.config) = (settings, Box::new(config));
        Ok(())
    }

    async fn stop(self, drain: Duration) {
        // New calls are refused and callers go elsewhere; diagnoses under way may end.
        self.draining.cancel();
        let left = self.manager.shutdown(drain.mul_f64(DRAIN_SHARE)).await;
        if left > 0 {
            tracing::warn!(left, "diagnoses did not end in time and are dropped");
        }
        self.stopping.cancel();
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
