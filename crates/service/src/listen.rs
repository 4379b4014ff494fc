//! Addresses to listen on.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

use crate::exit::{Exit, Failure};

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

/// A bound address. Its connections send at once what they are given (`TCP_NODELAY`): an answer of several HTTP/2 frames would
/// otherwise wait 40 ms for the other side's delayed acknowledgement.
#[derive(Debug)]
pub struct Listening(TcpListener);

impl Listening {
    /// Where it listens; with the port that the system chose for port 0.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl axum::serve::Listener for Listening {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let (stream, peer) = axum::serve::Listener::accept(&mut self.0).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY is not to be had");
        }
        (stream, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Listens on `address`; `setting` is the path of the setting that chose it, for the message.
///
/// # Errors
/// [`BindError`], which names the setting.
pub async fn bind(address: SocketAddr, setting: &str) -> Result<Listening, BindError> {
    let bound = TcpListener::bind(address).await.map(Listening);
    bound.map_err(|error| {
        let setting = setting.to_owned();
        match error.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address, setting },
            io::ErrorKind::AddrNotAvailable => BindError::NotHere { address, setting },
            io::ErrorKind::PermissionDenied => BindError::NotPermitted { address, setting },
            _ => BindError::Other { address, setting, why: error.to_string() },
        }
    })
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
