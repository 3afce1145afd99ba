//! A bundle: a root file system and an OCI runtime spec, ready to be launched.
//!
//! Owns loading and validating the pair. Pure: it opens nothing but what it is told to read, and never
//! touches namespaces, cgroups or mounts (that is `launch`).

pub mod defaults;

use std::path::PathBuf;

pub use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};

/// What `launch` starts a container from, on the host and in the nano guest alike.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bundle {
    /// The container's id (64 hexadecimal digits).
    pub id: String,
    /// Absolute path of the mounted root file system, as seen where `launch` runs.
    pub rootfs: PathBuf,
    /// OCI runtime specification 1.2. `root.path` is ignored in favour of [`Bundle::rootfs`].
    pub spec: oci::Spec,
}
