//! Addresses to listen on, and serving there. All daemons serve this way and none has an accept loop of its own: what a connection may
//! cost is the same question at every port. It stands here and not in `a2a`, which makes routes and does not know where they are
//! served; a program that serves agents by other means does not need it.
//!
//! **Guarantees.** A newcomer gets in as long as any connection has no request at work; `/live`, `/health`, `/ready` and webhooks are
//! heard beyond that. A connection without a request ends, and so does a body that drips and an answer that nobody reads. **Caveats.**
//! Requests that are at work are not cut: who may cause them, and for how long, is for the handlers to bound.

mod answer;
mod budget;
mod connection;
mod io;
mod options;
mod pace;
mod request;
mod seats;
mod serve;
mod standing;

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use crate::exit::{Exit, Failure};

pub use budget::{ByteBudget, ByteShare};
pub use options::{ServeOptions, raise_open_files};
pub use serve::{ServeReport, serve, serve_with};

/// Connections that the system has made and that were not accepted yet. When there are more, it leaves out the answer to a newcomer,
/// who asks again only after a second.
const BACKLOG: u32 = 4096;

/// Why an address cannot be listened on; names the setting that chooses it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Something listens there already.
    #[error(
        "cannot listen on {address}: the port is in use; stop what uses it, or set `{setting}` to another one"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
        /// The setting that chooses it.
        setting: String,
    },
    /// This machine has no such address.
    #[error(
        "cannot listen on {address}: this machine has no such address; set `{setting}` to one that it has"
    )]
    NotHere {
        /// The address.
        address: SocketAddr,
        /// The setting that chooses it.
        setting: String,
    },
    /// Ports below 1024 need a right that the process does not have.
    #[error("cannot listen on {address}: not permitted; set `{setting}` to a port from 1024 on")]
    NotPermitted {
        /// The address.
        address: SocketAddr,
        /// The setting that chooses it.
        setting: String,
    },
    /// Anything else.
    #[error("cannot listen on {address}, which `{setting}` says: {why}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// The setting that chooses it.
        setting: String,
        /// What the system says.
        why: String,
    },
}

impl Failure for BindError {
    fn exit(&self) -> Exit {
        Exit::Address
    }
}

/// A bound address.
#[derive(Debug)]
pub struct Listening(TcpListener);

impl Listening {
    /// Where it listens; with the port that the system chose for port 0.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl From<TcpListener> for Listening {
    fn from(listener: TcpListener) -> Self {
        Self(listener)
    }
}

/// Listens on `address`; `setting` is the path of the setting that chose it, for the message.
///
/// # Errors
/// [`BindError`], which names the setting.
pub async fn bind(address: SocketAddr, setting: &str) -> Result<Listening, BindError> {
    open(address).map(Listening).map_err(|error| {
        let setting = setting.to_owned();
        match error.kind() {
            std::io::ErrorKind::AddrInUse => BindError::InUse { address, setting },
            std::io::ErrorKind::AddrNotAvailable => BindError::NotHere { address, setting },
            std::io::ErrorKind::PermissionDenied => BindError::NotPermitted { address, setting },
            _ => BindError::Other { address, setting, why: error.to_string() },
        }
    })
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A port is free again as soon as its listener is gone, whatever its connections still do.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_names_the_setting() {
        let first = bind("127.0.0.1:0".parse().unwrap(), "coordinator.listen").await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address, "coordinator.listen").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on {address}: the port is in use; stop what uses it, or set `coordinator.listen` to another one"
            )
        );
        assert_eq!(error.exit(), Exit::Address);
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_said_to_be_one() {
        // 192.0.2.0/24 is set aside for documents; no machine has such an address.
        let error = bind("192.0.2.1:0".parse().unwrap(), "diagnostic.listen").await.unwrap_err();
        assert!(matches!(error, BindError::NotHere { .. }), "{error}");
    }
}
