//! What a supervisor says to the agent in its nano guest, over a virtio-serial port.
//!
//! The host drives: it sends [`ToAgent`], the agent answers with [`FromAgent::Reply`] carrying the same
//! sequence number, and reports [`FromAgent::Event`]s. The agent never asks for anything. Stdio travels
//! on channels that the host numbers.

use std::net::IpAddr;

use caisson_bundle::Bundle;
use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};

use crate::task::{self, Stdio};

/// Version of this protocol; host and guest must agree exactly.
pub const VERSION: u32 = 1;
/// Name of the virtio-serial port.
pub const PORT: &str = "caisson.agent";
/// Tag of the shared file system.
pub const SHARE_TAG: &str = "caisson";
/// Where the guest mounts it.
pub const SHARE: &str = "/run/caisson/share";

/// A numbered request to the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToAgent {
    /// Repeated in the reply.
    pub sequence: u64,
    /// What to do.
    pub request: Request,
}

/// A request to the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Makes the guest this container's own. Must come first and once. Reply: `Done`.
    Prepare(Prepare),
    /// Starts the container; paths are the guest's. Reply: `Started`.
    Start {
        /// What to start.
        bundle: Box<Bundle>,
        /// The first process's streams.
        stdio: Stdio,
        /// Channels of stdin, stdout, stderr.
        channels: [u32; 3],
    },
    /// Adds a process. Reply: `Started`.
    Exec {
        /// The exec's id.
        id: String,
        /// What to run.
        process: Box<oci::Process>,
        /// Its streams.
        stdio: Stdio,
        /// Channels of stdin, stdout, stderr.
        channels: [u32; 3],
    },
    /// Anything about running processes.
    Task(task::Request),
}

/// What must be fresh in every guest before the container's first instruction.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prepare {
    /// Random bytes for the kernel's pool, 64 of them, as hexadecimal digits.
    pub entropy: String,
    /// The host's real time, nanoseconds since 1970-01-01 UTC.
    pub time: i64,
    /// Interfaces to configure, in the order of the guest's devices.
    pub interfaces: Vec<Interface>,
    /// Mount the shared file system now.
    pub mount_share: bool,
}

/// One network interface of a guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Interface {
    /// Its name in the container, such as `eth0`.
    pub name: String,
    /// Hardware address, six bytes.
    pub mac: [u8; 6],
    /// Addresses with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Default gateways.
    pub gateways: Vec<IpAddr>,
    /// Maximum transmission unit, bytes.
    pub mtu: u32,
}

/// What the agent sends.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromAgent {
    /// Sent once, unasked, when the agent is ready for [`Request::Prepare`].
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The guest's kernel release, shown by `info`; at most 64 bytes are kept.
        kernel: String,
    },
    /// The answer to a request.
    Reply {
        /// The request's number.
        sequence: u64,
        /// What came of it.
        reply: task::Reply,
    },
    /// Something happened to a process.
    Event(task::Event),
}
