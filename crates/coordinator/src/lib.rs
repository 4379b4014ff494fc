//! The coordinator: it alone owns the truth.
//!
//! Alerts come in over HTTP and are durable before their sender is answered; correlation makes incidents of them; the runner sees
//! to each incident's duties, asking the agents by A2A; people and other agents see and answer incidents as REST or as tasks.
//!
//! **Guarantees.** A 2xx of a webhook means that its alerts are on disk. An incident changes only by events that the workflow decided
//! and the store accepted at the expected revision. What a worker does is found again by its key after a crash. **Assumptions.** The
//! agents keep the contract of [`quell_incident::contract`]; the resolution agent keeps a ledger. **Absent on purpose.** No timers are
//! stored and no effects are queued: duties follow from the state.

mod agents;
mod alertmanager;
mod check;
mod correlate;
mod diagnosis;
mod draft;
mod follow;
mod history;
mod http;
mod metrics;
mod observe;
mod permits;
mod planning;
mod reconcile;
mod respond;
mod runner;
mod secrets;
mod settings;
#[cfg(test)]
mod simulation;
mod site;
mod storage;
mod tasks;
mod tenure;
mod upkeep;
mod windows;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use quell_a2a::{
    A2aError, AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Authenticate, Caller, Client,
    ClientError, ClientOptions, ErrorKind, ServerOptions,
};
use quell_connect::Access;
use quell_connect::alertmanager::AlertmanagerClient;
use quell_connect::prometheus::PrometheusClient;
use quell_incident::ids::{InvalidName, SourceName};
use quell_service::{
    BindError, Clock, Config, ConfigError, Door, Exit, Failure, FaultPoints, Handle, IdSource, Scope, Secret,
    ServeOptions, TokenTable, bind, in_words,
};
use quell_store::audit::AnchorError;
use quell_store::{EmbeddedStore, IncidentStore, PostgresStore, StoreError};
use quell_web::{Endpoint, Takes, open};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::agents::{AgentClient, Agents};
use crate::http::{AgentEndpoint, Web};
use crate::observe::AlertSource;
pub use crate::permits::print_public_key;
use crate::reconcile::{AlertReader, Ground};
use crate::respond::Responder;
use crate::runner::Runner;
use crate::settings::SettingsError;
use crate::site::Site;
use crate::tenure::Tenure;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a coordinator is started with.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn IdSource>,
    /// Points at which a test lets it die.
    pub faults: FaultPoints,
}

/// Why a coordinator did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not there.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The policy or the mapping cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Opening the data folder ended in a defect, which is in the log.
    #[error("opening the data folder did not end")]
    StoreThread,
    /// `coordinator.source_name` is not a name.
    #[error("coordinator.source_name: {0}")]
    SourceName(#[from] InvalidName),
    /// An agent's address or token cannot be used.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// The Alertmanager's address cannot be used.
    #[error("infrastructure.monitoring.prometheus.alert_manager_url: {0}")]
    Alertmanager(quell_connect::SourceError),
    /// Prometheus' address cannot be used.
    #[error("infrastructure.monitoring.prometheus.url: {0}")]
    Prometheus(quell_connect::SourceError),
    /// An HTTP client cannot be made.
    #[error("no HTTP client: {0}")]
    HttpClient(reqwest::Error),
    /// The anchors' file or key cannot be used.
    #[error("coordinator.audit.{}: {}", audit_setting(.0), in_words(.0))]
    Audit(AnchorError),
    /// The key that signs permits cannot be used.
    #[error("coordinator.signing_key_file: {}", in_words(.0))]
    PermitKey(quell_sign::KeyError),
    /// The data folder cannot be made, or nothing can be written into it.
    #[error("coordinator.data_dir: {} cannot be used: {why}", .folder.display())]
    DataFolder {
        /// Which one.
        folder: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// The agent card is not complete.
    #[error(transparent)]
    Card(#[from] A2aError),
}

/// Which of the two settings an error of the anchors is about.
fn audit_setting(error: &AnchorError) -> &'static str {
    match error {
        AnchorError::Key(_) => "signing_key_file",
        AnchorError::Io { .. } | AnchorError::Line { .. } | AnchorError::Json(_) => "anchor_file",
    }
}

impl Failure for StartError {
    fn exit(&self) -> Exit {
        match self {
            Self::Bind(error) => error.exit(),
            Self::Store(StoreError::Locked { .. }) => Exit::DataLocked,
            Self::Store(StoreError::Unavailable(_)) => Exit::Dependency,
            Self::Store(StoreError::Lost { .. }) => Exit::DataLost,
            Self::Store(_) | Self::DataFolder { .. } => Exit::Data,
            Self::Config(_)
            | Self::Settings(_)
            | Self::SourceName(_)
            | Self::Agent(_)
            | Self::Audit(_)
            | Self::PermitKey(_)
            | Self::Alertmanager(_)
            | Self::Prometheus(_) => Exit::Usage,
            Self::HttpClient(_) | Self::Card(_) | Self::StoreThread => Exit::Failure,
        }
    }
}

/// A coordinator that runs.
pub struct Coordinator {
    started: Config,
    http: SocketAddr,
    grpc: SocketAddr,
    site: Arc<Site>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Whether a coordinator could start with this configuration, as far as that can be told without opening its data or asking others.
///
/// # Errors
/// What [`start`] would say.
pub fn check(config: &Config) -> Result<(), StartError> {
    settings::of(config)?;
    SourceName::declared(&config.coordinator.source_name)?;
    check::database_address(config)?;
    check::places(config)?;
    let client = http_client()?;
    alert_reader(config, &client)?;
    prometheus(config, &client)?;
    Ok(())
}

/// Starts a coordinator: everything is bound and opened before any work begins.
///
/// # Errors
/// [`StartError`]; then nothing runs and nothing is locked.
pub async fn start(setup: Setup) -> Result<Coordinator, StartError> {
    let Setup { config: started, clock, ids, faults } = setup;
    let config = &started;
    let settings = settings::of(config)?;
    let source = SourceName::declared(&config.coordinator.source_name)?;
    check::database_address(config)?;
    check::audit(config)?;
    let http_client = http_client()?;
    let endpoints: Arc<[AgentEndpoint]> = [
        AgentEndpoint { role: "diagnostic", url: config.coordinator.diagnostic_url.clone() },
        AgentEndpoint { role: "resolution", url: config.coordinator.resolution_url.clone() },
    ]
    .into();
    let agents = Arc::new(Agents {
        diagnostic: agent_client(&endpoints[0], config.agents.diagnostic.token.as_ref())?,
        resolution: agent_client(&endpoints[1], config.agents.resolution.token.as_ref())?,
    });
    let reader = alert_reader(config, &http_client)?;
    let prometheus = prometheus(config, &http_client)?;
    let alertmanager =
        reader.clone().map(|reader| AlertSource { name: config.coordinator.source_name.clone(), reader });
    let http = bind(config.coordinator.listen, "coordinator.listen").await?;
    let grpc = bind(config.coordinator.grpc_listen, "coordinator.grpc_listen").await?;
    let http_address = http.local_addr().unwrap_or(config.coordinator.listen);
    let grpc_address = grpc.local_addr().unwrap_or(config.coordinator.grpc_listen);
    let store = open_store(config, ids.new_id()).await?;
    let permit_key = permits::key(config)?;
    let tokens = Arc::new(TokenTable::new(&config.coordinator.tokens));
    let hosts = &config.coordinator.allowed_hosts;
    let door = Door::new("coordinator.allowed_hosts", hosts, &tokens, Arc::clone(&clock));
    let site = Arc::new(Site::new(store, clock, ids, faults, config.tenant.clone(), settings, permit_key));

    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let lease = config.coordinator.lease.get();
    let tenure =
        Tenure::start(Arc::clone(&site.store), Arc::clone(&site.ids), lease, stop.clone(), &tasks).await?;
    let received = Arc::new(Notify::new());
    let correlated =
        correlate::start(Arc::clone(&site), Arc::clone(&received), tenure.clone(), stop.clone(), &tasks)
            .await?;
    let (ids, resolution) = (Arc::clone(&site.ids), agents.resolution.clone());
    permits::introduce(&site.permit_key, resolution, ids, stop.clone(), &tasks);
    let runner =
        Runner::new(Arc::clone(&site), agents, alertmanager, tenure.clone(), stop.clone(), tasks.clone());
    let mut registry = Registry::default();
    quell_service::http::register_build_info(&mut registry, "coordinator", VERSION);
    site.metrics.register(&mut registry);
    door.register(&mut registry);
    let ground = Ground {
        site: Arc::clone(&site),
        source: source.clone(),
        received: Arc::clone(&received),
        correlated: correlated.clone(),
        metrics: Arc::default(),
    };
    ground.metrics.register(&mut registry);
    reconcile::start(ground, reader, prometheus, &stop, &tasks);
    let card = card(grpc_address);
    let mut options = ServerOptions::new(access(&tokens), site.now());
    options.draining = stop.clone();
    let responder = Arc::new(Responder::new(Arc::clone(&site)));
    let a2a = quell_a2a::router(responder, card.clone(), options)?;
    let web = Web {
        site: Arc::clone(&site),
        tokens,
        source,
        received,
        correlated,
        registry: Arc::new(registry),
        agents: endpoints,
        client: http_client,
        body_bytes_max: config.coordinator.body_bytes_max,
        bodies: http::Bodies::new(config.listeners.body_bytes_max),
        large_answers: Arc::new(Semaphore::new(http::LARGE_ANSWERS_MAX)),
    };
    let card_routes = quell_a2a::card_router(&card, 300, site.now())?;
    let routes = http::router(web, card_routes, config.coordinator.enable_webhooks);
    let a2a = a2a.route("/live", axum::routing::get(quell_service::http::live));
    let limits = ServeOptions::of(&config.listeners);
    // The handlers count the bodies that they keep.
    let http_limits = ServeOptions { request_bytes_max: None, ..limits.clone() };
    for (listener, router, limits) in [(http, routes, http_limits), (grpc, a2a, limits)] {
        let router = door.before(router);
        let stopped = stop.clone().cancelled_owned();
        tasks.spawn(async move {
            quell_service::serve_with(listener, router, limits, stopped).await;
        });
    }
    upkeep::start(&site, config, &tenure, &stop, &tasks)?;
    runner.start();
    info!(http = %http_address, grpc = %grpc_address, "the coordinator listens");
    Ok(Coordinator { started, http: http_address, grpc: grpc_address, site, stop, tasks })
}

/// What both ports answer to, and the rights that it takes: HTTP's, then gRPC's.
///
/// # Errors
/// [`A2aError`] when the descriptors of A2A cannot be read.
pub fn endpoints() -> Result<[Vec<Endpoint>; 2], A2aError> {
    let card = Endpoint {
        method: ::http::Method::GET,
        path: quell_a2a::AGENT_CARD_PATH.to_owned(),
        needs: open(),
        takes: Takes::Nothing,
    };
    let call = |path: String| {
        let needs = if path.starts_with(quell_a2a::CALLS) { "read, operate or approve" } else { open() };
        Endpoint { method: ::http::Method::POST, path, needs, takes: Takes::Grpc }
    };
    let live = Endpoint {
        method: ::http::Method::GET,
        path: "/live".to_owned(),
        needs: open(),
        takes: Takes::Nothing,
    };
    let mut http = http::endpoints();
    http.push(card.clone());
    Ok([http, [live, card].into_iter().chain(quell_a2a::calls()?.into_iter().map(call)).collect()])
}

impl Coordinator {
    /// Where webhooks and the API are.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where A2A is.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// The store, for tests that look behind the API.
    pub fn store(&self) -> Arc<dyn IncidentStore> {
        Arc::clone(&self.site.store)
    }
}

impl Handle for Coordinator {
    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        vec![("http", self.http), ("grpc", self.grpc)]
    }

    async fn failed(&mut self) -> (Exit, String) {
        storage::failed(self.site.store.as_ref()).await
    }

    async fn reload(&mut self, config: Config) -> Result<(), String> {
        let settings = settings::of(&config).map_err(|error| error.to_string())?;
        self.site.replace_settings(settings);
        for setting in settings::for_a_start_alone(&self.started, &config) {
            warn!(setting, "it has changed, and takes effect only at a start");
        }
        Ok(())
    }

    async fn stop(self, drain: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(drain, self.tasks.wait()).await.is_err() {
            info!("not everything ended in time; what was begun is found again at the next start");
        }
    }
}

async fn open_store(config: &Config, journal_id: uuid::Uuid) -> Result<Arc<dyn IncidentStore>, StartError> {
    let Some(url) = &config.coordinator.database_url else {
        return open_embedded(config.coordinator_data_dir()?.to_owned(), journal_id).await;
    };
    let store = PostgresStore::open(url.expose(), journal_id).await?;
    info!(journal = %store.journal_id(), "the database is open");
    Ok(Arc::new(store))
}

/// Opening replays what the index does not have, which takes its time: on a thread of its own.
async fn open_embedded(
    folder: PathBuf,
    journal_id: uuid::Uuid,
) -> Result<Arc<dyn IncidentStore>, StartError> {
    let opening = move || {
        let store = EmbeddedStore::open(&folder, quell_store::Options::new(journal_id))?;
        let report = store.report();
        info!(
            folder = %folder.display(),
            journal_id = %report.journal.journal_id,
            created = report.journal.created,
            segments = report.journal.segments,
            bytes_cut_off = report.journal.torn_tail.as_ref().map_or(0, |tail| tail.bytes),
            records_replayed = report.records_replayed,
            index_rebuilt_because = report.index_rebuilt_because.as_deref().unwrap_or_default(),
            incidents_left_alone = report.left_alone.len(),
            "the store is open"
        );
        Ok::<_, StoreError>(store)
    };
    Ok(Arc::new(tokio::task::spawn_blocking(opening).await.map_err(|_| StartError::StoreThread)??))
}

fn http_client() -> Result<reqwest::Client, StartError> {
    // The process has one TLS provider; a second installation is refused, and the first one stands.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(StartError::HttpClient)
}

/// Each agent is shown its own token and no other's.
fn agent_client(endpoint: &AgentEndpoint, token: Option<&Secret>) -> Result<AgentClient, ClientError> {
    let options = ClientOptions::default().with_bearer(token.map(Secret::expose));
    Ok(AgentClient::new(endpoint.role, Client::connect_lazy(endpoint.url.as_str(), options)?))
}

fn alert_reader(config: &Config, client: &reqwest::Client) -> Result<Option<Arc<AlertReader>>, StartError> {
    let prometheus = &config.infrastructure.monitoring.prometheus;
    let urls = prometheus.alert_managers();
    let instance = |url: &quell_service::config::BaseUrl| {
        let access = Access::new(client.clone(), url.as_str());
        let access = access.and_then(|access| access.with_tenant(prometheus.tenant.as_deref()));
        Ok::<_, StartError>(AlertmanagerClient::new(access.map_err(StartError::Alertmanager)?))
    };
    let instances = urls.into_iter().map(instance).collect::<Result<Vec<_>, _>>()?;
    Ok((!instances.is_empty()).then(|| Arc::new(AlertReader::new(instances))))
}

fn prometheus(config: &Config, client: &reqwest::Client) -> Result<Option<PrometheusClient>, StartError> {
    let prometheus = &config.infrastructure.monitoring.prometheus;
    let Some(url) = &prometheus.url else { return Ok(None) };
    let access = Access::new(client.clone(), url.as_str());
    let access = access.and_then(|access| access.with_tenant(prometheus.tenant.as_deref()));
    Ok(Some(PrometheusClient::new(access.map_err(StartError::Prometheus)?)))
}

/// Callers by their tokens; their scopes are carried by name.
struct Callers(Arc<TokenTable>);

impl Authenticate for Callers {
    fn caller(&self, headers: &::http::HeaderMap) -> Result<Caller, A2aError> {
        let principal = self
            .0
            .authenticate_headers(headers)
            .map_err(|error| A2aError::new(ErrorKind::Unauthenticated, error.to_string()))?;
        Ok(with_scopes(Caller::named(principal.name), &principal.scopes))
    }
}

fn with_scopes(caller: Caller, scopes: &BTreeSet<Scope>) -> Caller {
    scopes.iter().fold(caller, |caller, scope| caller.with_scope(scope.as_str()))
}

fn access(tokens: &Arc<TokenTable>) -> quell_a2a::Access {
    if tokens.is_required() {
        quell_a2a::Access::Tokens(Arc::new(Callers(Arc::clone(tokens))))
    } else {
        quell_a2a::Access::Loopback(with_scopes(Caller::local(), &Scope::ALL.into_iter().collect()))
    }
}

fn card(grpc: SocketAddr) -> AgentCard {
    let json = || vec!["application/json".to_owned()];
    AgentCard {
        name: "quell-coordinator".to_owned(),
        description: "Takes alerts and incidents, and sees them through to a verified end".to_owned(),
        supported_interfaces: vec![AgentInterface::grpc(grpc.to_string())],
        version: VERSION.to_owned(),
        capabilities: AgentCapabilities { streaming: Some(true), ..AgentCapabilities::default() },
        default_input_modes: json(),
        // Post-mortems and sentences are text.
        default_output_modes: json().into_iter().chain(["text/plain".to_owned()]).collect(),
        skills: vec![AgentSkill {
            id: respond::SKILL.to_owned(),
            name: "Respond to an incident".to_owned(),
            description: "Opens an incident from an alert or a draft; the task lives as long as the incident and asks for \
                          approval when it must"
                .to_owned(),
            tags: vec!["incident".to_owned(), "alert".to_owned(), "remediation".to_owned()],
            ..AgentSkill::default()
        }],
        ..AgentCard::default()
    }
}
