//! Free ports of the loopback address.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::ChildError;

/// Ports below those that the system hands out by itself: one of those could be given to somebody else while the process that it was
/// chosen for is down.
const PORT_FIRST: u16 = 20_000;
const PORTS: u32 = 12_000;

/// Different free ports of the loopback address. Held together while they are chosen, and free again when this returns.
///
/// # Errors
/// [`ChildError::NoPorts`] when fewer are free.
pub fn free_addresses<const N: usize>() -> Result<[SocketAddr; N], ChildError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes are numbered one after another; each begins well behind the one before.
    let begin = std::process::id().wrapping_mul(97);
    let mut listeners = Vec::with_capacity(N);
    for _ in 0..PORTS {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let port = PORT_FIRST + u16::try_from(offset).unwrap_or_default();
        listeners.extend(TcpListener::bind(("127.0.0.1", port)));
        if listeners.len() == N {
            break;
        }
    }
    let addresses: Vec<_> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    addresses.try_into().map_err(|_| ChildError::NoPorts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_are_free_and_are_not_those_that_the_system_hands_out() {
        let first: [SocketAddr; 8] = free_addresses().unwrap();
        let second: [SocketAddr; 8] = free_addresses().unwrap();
        let mut all: Vec<_> = first.iter().chain(&second).map(SocketAddr::port).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 16, "{first:?} {second:?}");
        assert!(all.iter().all(|port| (20_000..32_000).contains(port)), "{all:?}");
        let _held: Vec<_> = first.iter().map(|address| TcpListener::bind(address).unwrap()).collect();
    }
}
