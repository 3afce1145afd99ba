//! What an engine is told when it is opened.

use std::path::PathBuf;

use crate::record::RuntimeType;

/// One engine's places and defaults. Two engines must not share a root.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What must survive a reboot: images, containers, volumes, networks.
    pub data_root: PathBuf,
    /// What need not: supervisors' directories, network namespaces.
    pub exec_root: PathBuf,
    /// Where `caisson-supervisor`, `caisson-init` and `caisson-fsd` are.
    pub programs: PathBuf,
    /// Where the nano guest is.
    pub guest_dir: PathBuf,
    /// The runtime type of containers that do not say.
    pub default_type: RuntimeType,
    /// The cgroup that containers are below when they do not say.
    pub cgroup_parent: String,
    /// How many booted guests are kept waiting for a start.
    pub standby: usize,
}
