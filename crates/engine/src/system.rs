//! What the engine says of itself and its host.

pub(crate) mod facts;
mod host;
mod info;
mod usage;
mod version;

pub(crate) use host::Host;
