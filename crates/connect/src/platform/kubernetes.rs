//! Kubernetes: lists of pods, deployments, replica sets, nodes and events, page by page. Nothing but `list` is ever sent.

use std::fmt::Debug;
use std::path::PathBuf;

use async_trait::async_trait;
use http_body_util::{LengthLimitError, Limited};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{Api, ListParams};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use quell_incident::surroundings::{PLATFORM_EVENTS_MAX, PLATFORM_OBJECTS_MAX, PlatformQuery, PlatformSet};
use quell_tool::CallContext;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use tower::util::MapResponseLayer;

use super::PlatformSource;
use super::objects::World;
use crate::guard::Guard;
use crate::http::sentence;
use crate::source::SourceError;

/// One page at the most, in bytes.
const PAGE_BYTES_MAX: usize = 32 << 20;
/// Objects of a page.
const PAGE_OBJECTS: u32 = 500;
/// Pages of one kind in one namespace.
const PAGES_MAX: usize = 20;
/// How often a list is begun anew when its place in it was forgotten there.
const BEGINNINGS_MAX: usize = 2;
const NAMESPACES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 253;
const GONE: u16 = 410;

/// How a cluster is reached.
#[derive(Clone, Debug, Default)]
pub struct KubernetesOptions {
    /// The kubeconfig file; without one, the service account of the pod that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The namespaces that are looked at; all of them where none is named, which takes the right to list across namespaces.
    pub namespaces: Vec<String>,
}

/// A cluster, read only.
pub struct KubernetesPlatform {
    client: Client,
    guard: Guard,
    server: String,
    namespaces: Vec<String>,
}

impl KubernetesPlatform {
    /// Reads how the cluster is reached; it is not asked yet.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] when that cannot be used.
    pub async fn open(options: KubernetesOptions, guard: Guard) -> Result<Self, SourceError> {
        let config = match &options.kubeconfig {
            Some(path) => {
                let invalid =
                    |why: String| SourceError::Invalid { why: format!("{}: {why}", path.display()) };
                let file = Kubeconfig::read_from(path).map_err(|error| invalid(causes(&error)))?;
                let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
                config.map_err(|error| invalid(causes(&error)))?
            }
            None => Config::incluster().map_err(|error| SourceError::Invalid {
                why: format!("no kubeconfig is set, and there is no service account: {}", causes(&error)),
            })?,
        };
        Self::of(config, options.namespaces, guard)
    }

    /// The API server at that address, with a bearer token.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] when that is no address.
    pub fn at(
        url: &str,
        token: Option<SecretString>,
        namespaces: Vec<String>,
        guard: Guard,
    ) -> Result<Self, SourceError> {
        let url = url.parse().map_err(|_| SourceError::Invalid { why: "it is not an address".to_owned() })?;
        let mut config = Config::new(url);
        config.auth_info.token = token;
        Self::of(config, namespaces, guard)
    }

    fn of(mut config: Config, namespaces: Vec<String>, guard: Guard) -> Result<Self, SourceError> {
        let invalid = |why: String| SourceError::Invalid { why };
        if namespaces.len() > NAMESPACES_MAX {
            return Err(invalid(format!("more than {NAMESPACES_MAX} namespaces")));
        }
        if let Some(name) = namespaces.iter().find(|name| !is_name(name)) {
            return Err(invalid(format!("`{}` is not the name of a namespace", name.escape_debug())));
        }
        // The guard repeats, and times each attempt.
        config.default_retry = false;
        let server = config.cluster_url.to_string();
        let builder = ClientBuilder::try_from(config).map_err(|error| invalid(causes(&error)))?;
        // The client itself would read an answer of any size.
        let bounded = MapResponseLayer::new(|response: http::Response<_>| {
            response.map(|body| Limited::new(body, PAGE_BYTES_MAX))
        });
        Ok(Self { client: builder.with_layer(&bounded).build(), guard, server, namespaces })
    }

    /// The namespaces of a question: `None` stands for all at once.
    fn asked(&self, query: &PlatformQuery) -> Result<Vec<Option<String>>, SourceError> {
        match &query.namespace {
            Some(name) if !is_name(name) => {
                let why = format!("`{}` is not the name of a namespace", name.escape_debug());
                Err(SourceError::Invalid { why })
            }
            Some(name) if !self.namespaces.is_empty() && !self.namespaces.contains(name) => {
                let why = format!("the namespace `{name}` is not one of those that are looked at");
                Err(SourceError::Invalid { why })
            }
            Some(name) => Ok(vec![Some(name.clone())]),
            None if self.namespaces.is_empty() => Ok(vec![None]),
            None => Ok(self.namespaces.iter().cloned().map(Some).collect()),
        }
    }

    /// All of a list, as far as the limits go, and whether there is more.
    async fn list<T>(&self, api: &Api<T>, context: &CallContext) -> Result<(Vec<T>, bool), SourceError>
    where
        T: Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let mut begun = 1;
        'anew: loop {
            let mut all = Vec::new();
            let mut page = ListParams::default().limit(PAGE_OBJECTS);
            for _ in 0..PAGES_MAX {
                let asked = self
                    .guard
                    .run(context, || async { api.list(&page).await.map_err(|error| self.error(&error)) });
                let list = match asked.await {
                    Ok(list) => list,
                    // The server has forgotten what it was like when the list began.
                    Err(SourceError::Answered { status: GONE, .. }) if begun < BEGINNINGS_MAX => {
                        begun += 1;
                        continue 'anew;
                    }
                    Err(error) => return Err(error),
                };
                all.extend(list.items);
                match list.metadata.continue_.filter(|next| !next.is_empty()) {
                    Some(next) => page.continue_token = Some(next),
                    None => return Ok((all, false)),
                }
            }
            return Ok((all, true));
        }
    }

    async fn namespaced<T>(
        &self,
        namespace: Option<&str>,
        context: &CallContext,
    ) -> Result<(Vec<T>, bool), SourceError>
    where
        T: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let api: Api<T> = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        self.list(&api, context).await
    }

    fn error(&self, error: &kube::Error) -> SourceError {
        match error {
            kube::Error::Api(status) => {
                let words = if status.message.is_empty() { &status.reason } else { &status.message };
                SourceError::Answered { status: status.code, body: sentence(words) }
            }
            kube::Error::SerdeError(error) => SourceError::Malformed { why: error.to_string() },
            kube::Error::FromUtf8(_) => SourceError::Malformed { why: "it is not UTF-8".to_owned() },
            other => {
                let mut cause: Option<&dyn std::error::Error> = Some(other);
                let mut innermost = other.to_string();
                while let Some(inner) = cause {
                    if inner.is::<LengthLimitError>() {
                        return SourceError::TooLarge { bytes_max: PAGE_BYTES_MAX };
                    }
                    innermost = inner.to_string();
                    cause = inner.source();
                }
                SourceError::Unreachable { what: self.server.clone(), why: sentence(&innermost) }
            }
        }
    }
}

#[async_trait]
impl PlatformSource for KubernetesPlatform {
    fn name(&self) -> &str {
        "kubernetes"
    }

    fn words(&self, query: &PlatformQuery) -> String {
        let namespaces = match (&query.namespace, self.namespaces.as_slice()) {
            (Some(namespace), _) => format!("--namespace {namespace}"),
            (None, []) => "--all-namespaces".to_owned(),
            (None, several) => format!("--namespace {}", several.join(",")),
        };
        let service = query.service.as_ref().map(|service| format!(" of {}", service.escape_debug()));
        format!(
            "list pods,deployments,replicasets,nodes,events {namespaces}{} from {} to {}",
            service.unwrap_or_default(),
            query.from,
            query.to
        )
    }

    async fn state(&self, query: &PlatformQuery, context: &CallContext) -> Result<PlatformSet, SourceError> {
        if query.to < query.from {
            return Err(SourceError::Invalid { why: "the time range must end after it begins".to_owned() });
        }
        let namespaces = self.asked(query)?;
        let mut parts = Parts::default();
        let nodes: Api<Node> = Api::all(self.client.clone());
        let nodes = self.list(&nodes, context);
        let kinds = futures::future::join_all(namespaces.iter().map(|namespace| {
            let namespace = namespace.as_deref();
            async move {
                tokio::join!(
                    self.namespaced::<Pod>(namespace, context),
                    self.namespaced::<Deployment>(namespace, context),
                    self.namespaced::<ReplicaSet>(namespace, context),
                    self.namespaced::<Event>(namespace, context),
                )
            }
        }));
        // All at once: what is read together belongs together.
        let (nodes, kinds) = tokio::join!(nodes, kinds);
        let mut world = World::default();
        for (pods, deployments, replica_sets, events) in kinds {
            world.pods.extend(parts.take("pods", pods));
            world.deployments.extend(parts.take("deployments", deployments));
            world.replica_sets.extend(parts.take("replica sets", replica_sets));
            world.events.extend(parts.take("events", events));
        }
        world.nodes = parts.take("nodes", nodes);
        if let (false, Some((_, error))) = (parts.any, parts.missing.first()) {
            return Err(error.clone());
        }
        let mut words = self.words(query);
        for (what, error) in &parts.missing {
            words.push_str(&format!(" (cannot read {what}: {error})"));
        }
        let (mut objects, mut events) = world.told(query);
        let truncated = parts.truncated
            || !parts.missing.is_empty()
            || objects.len() > PLATFORM_OBJECTS_MAX
            || events.len() > PLATFORM_EVENTS_MAX;
        if objects.len() > PLATFORM_OBJECTS_MAX {
            // What is not well is looked for.
            objects.sort_by_key(|object| object.ready);
            objects.truncate(PLATFORM_OBJECTS_MAX);
        }
        let surplus = events.len().saturating_sub(PLATFORM_EVENTS_MAX);
        events.drain(..surplus);
        Ok(PlatformSet { source: self.name().to_owned(), query: words, objects, events, truncated })
    }
}

/// What of the lists could be had.
#[derive(Default)]
struct Parts {
    any: bool,
    truncated: bool,
    missing: Vec<(&'static str, SourceError)>,
}

impl Parts {
    fn take<T>(&mut self, what: &'static str, list: Result<(Vec<T>, bool), SourceError>) -> Vec<T> {
        match list {
            Ok((items, more)) => {
                self.any = true;
                self.truncated |= more;
                items
            }
            Err(error) => {
                // The same for every namespace would be said once for each.
                if !self.missing.iter().any(|(known, _)| *known == what) {
                    self.missing.push((what, error));
                }
                Vec::new()
            }
        }
    }
}

/// Whether it can stand in a path as the name of an object.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(fits)
}

/// An error with its causes, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !words.contains(&more) {
            words.push_str(&format!(": {more}"));
        }
        cause = inner.source();
    }
    sentence(&words)
}
