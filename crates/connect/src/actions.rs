//! Actions over a deployment system's HTTP interface: the tool `deployment-system`.
//!
//! The interface is that of Quell's simulator, and a plausible one for a site's own: `GET {endpoint}/targets/{name}` reads a target's
//! state, `PATCH .../config`, `PUT .../replicas`, `POST .../restart`, `.../clean`, `.../renew`, `.../end-idle-sessions` and
//! `.../stop-job` change it and answer `{"from": ..., "to": ...}`. Every change carries the step's key as `Idempotency-Key`.
//!
//! An effect is sent once and never repeated from here. What was sent and not answered is in doubt; what could not be sent did not
//! happen.

mod action;
mod api;
mod state;
#[cfg(test)]
mod tests;
mod tool;

pub use action::ACTIONS;
pub use api::{ClientError, DeploymentTarget};
pub use tool::DeploymentSystem;
