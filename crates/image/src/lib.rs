//! Images: loaded from archives, kept by content, mounted as root file systems, written back.
//!
//! Owns the store below the daemon's data root. Layers are unpacked once, in overlay form, and shared by
//! all containers. Never talks to a registry and never knows containers. Synchronous.

mod error;
mod load;
pub mod overlay;
mod reference;
mod remove;
mod store;
pub mod stream;
pub mod unpack;

pub use error::{Error, Kind, Result};
pub use load::{Loaded, decompressed};
pub use reference::parse_reference;
pub use remove::{Removed, User};
pub use store::{Image, Store};
