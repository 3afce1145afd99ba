//! Docker wire types.
pub use bollard_stubs::models as wire;
pub mod client;
