//! The one definition of what the parts that start containers say to each other.
//!
//! Two hops carry the same task requests:
//!
//! ```text
//! caissond --unix socket--> supervisor --virtio-serial port--> agent (nano guest, hyperv only)
//! ```
//!
//! [`task`] is what both hops share; [`supervisor`] and [`agent`] add what is particular to one hop;
//! [`frame`] is the encoding on the wire. A frame from a guest is hostile: sizes are bounded before
//! anything is allocated, unknown channels and kinds are errors, and no reply makes the host act on a
//! path or an address that the guest chose.

pub mod agent;
pub mod frame;
pub mod supervisor;
pub mod task;
