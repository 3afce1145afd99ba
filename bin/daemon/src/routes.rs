//! What answers each route, by what it is about.

pub mod archive;
pub mod attach;
pub mod build;
pub mod commit;
pub mod containers;
pub mod events;
pub mod exec;
pub mod images;
pub mod lifecycle;
pub mod networks;
pub mod registry;
pub mod stats;
pub mod swarm;
pub mod system;
pub mod transfers;
pub mod volumes;
