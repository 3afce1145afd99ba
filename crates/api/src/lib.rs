//! The Docker Engine API's types, the notations that its clients and servers share (filters, times,
//! durations and sizes, in Docker's words), and a client. Nothing here knows an engine.

pub mod client;
pub mod filters;
pub mod time;
pub mod words;

pub use bollard_stubs::models as wire;
