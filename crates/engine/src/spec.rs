//! A container's record as an OCI runtime spec.

use std::path::Path;

use caisson_bundle::oci;

use crate::{Container, Engine, Record, Result, RuntimeType, pending, wire};

impl Engine {
    /// What is started; `namespace` is the network namespace of a process container.
    pub(crate) fn spec(
        &self,
        container: &Container,
        record: &Record,
        namespace: Option<&Path>,
    ) -> Result<oci::Spec> {
        let _ = (container, record, namespace);
        pending()
    }

    /// One more process.
    pub(crate) fn exec_process(
        &self,
        record: &Record,
        config: &wire::ExecConfig,
    ) -> Result<oci::Process> {
        let _ = (record, config);
        pending()
    }

    /// Makes what the mounts need: volumes, with the image's files when they are empty, and the host's
    /// directories. `rootfs` is mounted.
    pub(crate) fn mounts_prepare(&self, record: &Record, rootfs: &Path) -> Result<()> {
        let _ = (record, rootfs);
        pending()
    }

    /// Why a container cannot be of this type, if so.
    pub(crate) fn can_become(&self, record: &Record, to: RuntimeType) -> Result<()> {
        let _ = (record, to);
        Ok(())
    }
}
