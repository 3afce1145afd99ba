//! The containers' networks on this host: bridges, virtual Ethernet pairs, taps, network namespaces,
//! the daemon's one nftables table, IPv4 addresses and published ports.
//!
//! Owns interfaces and a table that it is told the names of, and nothing else: it never changes a
//! rule, an interface or a route that another program made. Keeps no record on disk; what exists is
//! the engine's to know. Everything acts in the network namespace of the calling thread.
//!
//! Links, addresses and routes go through a small synchronous netlink client ([`netlink`]) so that
//! several changes travel in one message and the same code serves a thread that has entered a
//! container's namespace, where no async runtime is wanted.

mod address;
mod bridge;
mod conntrack;
mod endpoint;
mod error;
mod firewall;
mod namespace;
mod netlink;
mod pool;
mod port;
mod resolver;

pub use address::{Addresses, choose_subnet, mac_of, overlaps};
pub use bridge::{Bridge, ensure_bridge, interface_exists, remove_bridge, set_alias};
pub use endpoint::{Endpoint, connect_namespace, connect_tap, disconnect, set_default_route};
pub use error::{Error, Result};
pub use firewall::Firewall;
pub use namespace::{create_namespace, delete_namespace};
pub use pool::Pool;
pub use port::{Port, Protocol, bound_port, reserve};
pub use resolver::resolv_conf;

/// Runs what may wait (for the kernel's network lock, a mount, a thread) off the async workers.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => panic!("the runtime ended while a network change was under way"),
    }
}
