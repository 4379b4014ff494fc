//! The coordinator's key, and what is signed with it: what the resolution agent may do.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use quell_incident::contract::{Introduced, Introduction, StepRequest};
use quell_incident::{Incident, Permit, SignedPermit};
use quell_service::{Config, Daemon, Environment, Failure as _, IdSource, Loading};
use quell_sign::{KeyError, PERMITS, SigningKey};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info};

use crate::StartError;
use crate::agents::AgentClient;

/// How long one introduction may take.
const INTRODUCED_WITHIN: Duration = Duration::from_secs(10);
/// Between two of them, the first pause and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Why a request could not be permitted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PermitError {
    /// It has no JSON form.
    #[error("the permit has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    /// It could not be signed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The key of this configuration; it is made where there is none.
///
/// # Errors
/// [`StartError`] naming the setting or the file.
pub(crate) fn key(config: &Config) -> Result<SigningKey, StartError> {
    let file = config.permit_key_file()?;
    let (key, is_new) = SigningKey::read_or_make(&file, &PERMITS).map_err(StartError::PermitKey)?;
    let public_key = key.public();
    info!(%public_key, file = %file.display(), is_new, "permits for the resolution agent are signed with this key");
    Ok(key)
}

/// Prints the public key of this configuration, for `agents.resolution.coordinator_public_keys`; the key is made where there is none, so
/// that it can be handed out before the first start.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "this is what `--print-public-key` is for")]
pub fn print_public_key(
    file: Option<PathBuf>,
    environment: Environment,
    flags: impl FnOnce(&mut Config),
) -> ExitCode {
    let loading = Loading { daemon: Some(Daemon::Coordinator), file, environment };
    let key = loading.load(flags).map_err(StartError::from).and_then(|config| key(&config));
    match key {
        Ok(key) => {
            println!("{}", key.public());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", Daemon::Coordinator.name());
            error.exit().into()
        }
    }
}

/// The request with the permit for it, which is the same however often it is signed.
pub(crate) fn permitted(
    key: &SigningKey,
    incident: &Incident,
    request: &StepRequest,
) -> Result<StepRequest, PermitError> {
    let signed = match Permit::for_step(incident, request)? {
        Some(permit) => {
            let signature = key.sign(&permit.signed_bytes()?)?;
            Some(SignedPermit { permit, public_key: key.public().to_string(), signature })
        }
        // The step is over: the agent says no to what is sent late.
        None => None,
    };
    Ok(StepRequest { permit: signed, ..request.clone() })
}

/// Tells the resolution agent by which key permits are signed, until it answers: an agent that knows none yet then takes no other, and
/// that it takes another one is heard of before an incident needs it.
pub(crate) fn introduce(
    key: &SigningKey,
    resolution: AgentClient,
    ids: Arc<dyn IdSource>,
    stop: CancellationToken,
    tasks: &TaskTracker,
) {
    let public_key = key.public().to_string();
    let introduction = Introduction { schema: "quell/introduction/v1".to_owned(), public_key };
    tasks.spawn(async move {
        let introducing = async {
            let mut pause = PAUSE_MIN;
            loop {
                match resolution.introduce(ids.new_id(), &introduction, INTRODUCED_WITHIN).await {
                    Ok(Introduced::Accepted) => return debug!("the resolution agent knows this coordinator's key"),
                    Ok(Introduced::Refused { why }) => {
                        return error!(why, "the resolution agent will refuse every step of this coordinator");
                    }
                    Err(error) => debug!(%error, "the resolution agent was not told of this coordinator's key, trying again"),
                }
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        };
        stop.run_until_cancelled(introducing).await;
    });
}
