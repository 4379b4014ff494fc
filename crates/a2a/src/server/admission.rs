//! The one place where calls are let in: version, credentials, extensions; then, once the request is read,
//! room, tenant, MIME types and capabilities.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::error::{A2aError, ErrorKind};
use crate::types::{AgentCard, GRPC_BINDING, SendRequest};
use crate::{EXTENSIONS_HEADER, PROTOCOL_VERSION, TRACEPARENT_HEADER, VERSION_HEADER};

use super::ServerOptions;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The authenticated name, the same for every call with the same credentials; empty for nobody in
    /// particular.
    pub name: String,
    /// Whose data the caller works on. Empty where an agent knows no tenants.
    pub tenant: String,
    /// What it may do.
    pub scopes: BTreeSet<String>,
    /// The W3C trace context that came with the call; never part of who the caller is.
    pub traceparent: Option<String>,
}

impl Caller {
    /// With this scope a caller sees every task of its tenant.
    pub const SCOPE_ALL_TASKS: &str = "tasks:all";

    /// A caller of that name, without tenant and scopes.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), tenant: String::new(), scopes: BTreeSet::new(), traceparent: None }
    }

    /// Whoever sits at this machine, for a listener on loopback without tokens.
    #[must_use]
    pub fn local() -> Self {
        Self::named("local").with_scope(Self::SCOPE_ALL_TASKS)
    }

    /// A caller that showed no credentials. Two of them share nothing.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::named("")
    }

    /// The same caller in that tenant.
    #[must_use]
    pub fn with_tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// The same caller with a further scope.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.insert(scope.into());
        self
    }

    /// True when no credentials were shown.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.name.is_empty()
    }

    /// True when the caller has that scope.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.contains(scope)
    }
}

/// Finds out who calls.
pub trait Authenticate: Send + Sync {
    /// The caller that these headers show.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`] for missing or wrong credentials, without a hint at which of them was
    /// wrong.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, A2aError>;
}

/// Who may call an agent.
#[derive(Clone)]
pub enum Access {
    /// Whoever this recognises.
    Tokens(Arc<dyn Authenticate>),
    /// Everybody, as this one caller: only for a listener that nobody outside of this machine reaches.
    Loopback(Caller),
}

/// What a call carries once it is let in.
#[derive(Clone)]
pub(super) struct Admitted {
    pub(super) caller: Caller,
    /// How much it reads at once.
    pub(super) read_bytes_max: usize,
}

pub(super) struct Gate {
    access: Access,
    tenants: BTreeSet<String>,
    input_modes: BTreeSet<String>,
    extensions_required: Vec<String>,
    streaming: bool,
    push_notifications: bool,
    extended_card: bool,
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    calls_in_flight_max: usize,
    streams_open_max: usize,
    pub(super) draining: CancellationToken,
}

impl Gate {
    pub(super) fn new(card: &AgentCard, options: &ServerOptions) -> Self {
        let interfaces = card.supported_interfaces.iter();
        let skills_modes = card.skills.iter().flat_map(|skill| &skill.input_modes);
        let extensions = card.capabilities.extensions.iter().filter(|extension| extension.required);
        Self {
            access: options.access.clone(),
            tenants: interfaces
                .filter(|interface| interface.protocol_binding == GRPC_BINDING)
                .map(|interface| interface.tenant.clone())
                .collect(),
            input_modes: card
                .default_input_modes
                .iter()
                .chain(skills_modes)
                .map(|mode| mode.to_ascii_lowercase())
                .collect(),
            extensions_required: extensions.map(|extension| extension.uri.clone()).collect(),
            streaming: card.capabilities.streaming.unwrap_or_default(),
            push_notifications: card.capabilities.push_notifications.unwrap_or_default(),
            extended_card: card.capabilities.extended_agent_card.unwrap_or_default(),
            calls: Arc::new(Semaphore::new(options.calls_in_flight_max.min(Semaphore::MAX_PERMITS))),
            streams: Arc::new(Semaphore::new(options.streams_open_max.min(Semaphore::MAX_PERMITS))),
            calls_in_flight_max: options.calls_in_flight_max,
            streams_open_max: options.streams_open_max,
            draining: options.draining.clone(),
        }
    }

    /// Looks at the headers alone, before any of the request's body is read.
    pub(super) fn admit(&self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, A2aError> {
        let headers: &HeaderMap = request.metadata().as_ref();
        check_version(headers)?;
        let mut caller = match &self.access {
            Access::Tokens(authenticate) => authenticate.caller(headers)?,
            Access::Loopback(caller) => caller.clone(),
        };
        self.check_extensions(headers)?;
        if self.draining.is_cancelled() {
            return Err(A2aError::unavailable("the agent is shutting down"));
        }
        caller.traceparent = traceparent(headers);
        let read_bytes_max = super::fit::read_bytes_max(headers);
        request.extensions_mut().insert(Admitted { caller, read_bytes_max });
        Ok(request)
    }

    /// Room for a call whose request has been read: one that is still on its way, and perhaps never comes, takes none.
    pub(super) fn begin_call(&self) -> Result<OwnedSemaphorePermit, A2aError> {
        Arc::clone(&self.calls).try_acquire_owned().map_err(|_| {
            A2aError::unavailable(format!(
                "the agent is busy with {} calls; try again",
                self.calls_in_flight_max
            ))
        })
    }

    fn check_extensions(&self, headers: &HeaderMap) -> Result<(), A2aError> {
        let named: Vec<&str> = headers
            .get_all(EXTENSIONS_HEADER)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split(','))
            .map(str::trim)
            .collect();
        match self.extensions_required.iter().find(|uri| !named.contains(&uri.as_str())) {
            None => Ok(()),
            Some(uri) => {
                let message =
                    format!("this agent requires the extension {uri:?}; name it in {EXTENSIONS_HEADER}");
                Err(A2aError::new(ErrorKind::ExtensionSupportRequired, message)
                    .with_metadata("extension", uri))
            }
        }
    }

    /// The request's tenant has to be one of the card's, and the caller's own where it has one.
    pub(super) fn enter_tenant(&self, mut caller: Caller, tenant: &str) -> Result<Caller, A2aError> {
        if !self.tenants.contains(tenant) {
            let message = "is not the tenant of an interface in this agent's card";
            return Err(A2aError::invalid("tenant", message));
        }
        if caller.tenant.is_empty() {
            tenant.clone_into(&mut caller.tenant);
        } else if !tenant.is_empty() && tenant != caller.tenant {
            return Err(A2aError::new(ErrorKind::Forbidden, "these credentials are not for that tenant"));
        }
        Ok(caller)
    }

    pub(super) fn check_send(&self, request: &SendRequest) -> Result<(), A2aError> {
        if request.configuration.wants_push_notifications {
            self.check_push_notifications()?;
        }
        for part in &request.message.parts {
            let Some(media_type) = part.effective_media_type() else { continue };
            if !self.reads(media_type) {
                let known: Vec<&str> = self.input_modes.iter().map(String::as_str).collect();
                let message =
                    format!("{media_type:?} is not read by this agent; it reads {}", known.join(", "));
                let error = A2aError::new(ErrorKind::ContentTypeNotSupported, message);
                return Err(error.with_metadata("mediaType", media_type));
            }
        }
        Ok(())
    }

    /// Parameters such as the character set do not matter; `*/*` and `text/*` are wild.
    fn reads(&self, media_type: &str) -> bool {
        let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let family = essence.split('/').next().unwrap_or_default();
        [essence.as_str(), "*/*", &format!("{family}/*")].iter().any(|mode| self.input_modes.contains(*mode))
    }

    /// A stream lives long and has room of its own.
    pub(super) fn open_stream(&self) -> Result<OwnedSemaphorePermit, A2aError> {
        if !self.streaming {
            return Err(A2aError::unsupported("this agent does not stream, as its card says"));
        }
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            A2aError::unavailable(format!("the agent has {} streams open; try again", self.streams_open_max))
        })
    }

    pub(super) fn check_push_notifications(&self) -> Result<(), A2aError> {
        let message = match self.push_notifications {
            false => "this agent posts no notifications, as its card says; subscribe to the task",
            true => "notifications are announced by this agent's card and not built; subscribe to the task",
        };
        Err(A2aError::new(ErrorKind::PushNotificationNotSupported, message))
    }

    pub(super) fn extended_card_error(&self) -> A2aError {
        if self.extended_card {
            return A2aError::new(
                ErrorKind::ExtendedAgentCardNotConfigured,
                "no extended card is configured",
            );
        }
        A2aError::unsupported("this agent has no extended card, as its public card says")
    }
}

/// A caller that names no version speaks 0.3.
fn check_version(headers: &HeaderMap) -> Result<(), A2aError> {
    let named = headers.get(VERSION_HEADER).map(|value| value.to_str().unwrap_or_default().trim());
    let named = named.filter(|version| !version.is_empty()).unwrap_or("0.3");
    let mut numbers = named.split('.');
    let same = numbers.next() == Some("1")
        && numbers.next() == Some("0")
        && numbers
            .next()
            .is_none_or(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
        && numbers.next().is_none();
    if same {
        return Ok(());
    }
    let message = format!("version {named:?} is not supported; send {VERSION_HEADER}: {PROTOCOL_VERSION}");
    Err(A2aError::new(ErrorKind::VersionNotSupported, message)
        .with_metadata("supportedVersions", PROTOCOL_VERSION))
}

/// Anything that is not of the header's fixed form is dropped: it goes into logs and onward.
fn traceparent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(TRACEPARENT_HEADER)?.to_str().ok()?;
    crate::is_traceparent(value).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::types::{AgentCapabilities, AgentExtension, AgentInterface, Message, Part};

    fn card() -> AgentCard {
        AgentCard {
            supported_interfaces: vec![AgentInterface::grpc("127.0.0.1:1")],
            default_input_modes: vec!["application/json".into(), "text/*".into()],
            ..AgentCard::default()
        }
    }

    fn gate(card: &AgentCard) -> Gate {
        Gate::new(card, &ServerOptions::new(Access::Loopback(Caller::local()), Timestamp::UNIX_EPOCH))
    }

    fn version(value: Option<&str>) -> Result<(), A2aError> {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(VERSION_HEADER, value.parse().unwrap());
        }
        check_version(&headers)
    }

    #[test]
    fn only_version_1_0_is_let_in() {
        for good in ["1.0", " 1.0 ", "1.0.1"] {
            assert!(version(Some(good)).is_ok(), "{good}");
        }
        for bad in [
            None,
            Some(""),
            Some("0.3"),
            Some("1"),
            Some("1.1"),
            Some("10.0"),
            Some("1.0.x"),
            Some("1.0.1.2"),
        ] {
            assert_eq!(version(bad).unwrap_err().kind(), ErrorKind::VersionNotSupported, "{bad:?}");
        }
    }

    #[test]
    fn required_extensions_have_to_be_named() {
        let extension =
            |uri: &str, required| AgentExtension { uri: uri.into(), required, ..Default::default() };
        let mut card = card();
        let extensions = vec![extension("urn:a", true), extension("urn:b", false)];
        card.capabilities = AgentCapabilities { extensions, ..Default::default() };
        let gate = gate(&card);
        let mut headers = HeaderMap::new();
        assert_eq!(gate.check_extensions(&headers).unwrap_err().kind(), ErrorKind::ExtensionSupportRequired);
        headers.insert(EXTENSIONS_HEADER, "urn:other, urn:a".parse().unwrap());
        assert!(gate.check_extensions(&headers).is_ok());
    }

    #[test]
    fn tenants_are_those_of_the_card_and_of_the_caller() {
        let mut card = card();
        card.supported_interfaces
            .push(AgentInterface { tenant: "blue".into(), ..AgentInterface::grpc("h:1") });
        let gate = gate(&card);
        assert_eq!(gate.enter_tenant(Caller::local(), "").unwrap().tenant, "");
        assert_eq!(gate.enter_tenant(Caller::local(), "blue").unwrap().tenant, "blue");
        assert_eq!(gate.enter_tenant(Caller::local().with_tenant("blue"), "").unwrap().tenant, "blue");
        let red = gate.enter_tenant(Caller::local().with_tenant("red"), "blue");
        assert_eq!(red.unwrap_err().kind(), ErrorKind::Forbidden);
        assert_eq!(gate.enter_tenant(Caller::local(), "red").unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn mime_types_follow_the_card() {
        let gate = gate(&card());
        let check = |part: Part| gate.check_send(&SendRequest::new(Message::user("m", vec![part])));
        assert!(check(Part::data(serde_json::json!({}))).is_ok());
        assert!(check(Part::text("x")).is_ok());
        assert!(check(Part::raw(vec![1], "Application/JSON; charset=utf-8")).is_ok());
        let error = check(Part::raw(vec![1], "image/png")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ContentTypeNotSupported);
        assert_eq!(error.metadata()["mediaType"], "image/png");
    }
}
