//! The processes of a container, as `ps` would list them.
//!
//! No `ps` is run: the container may have none and the host's sees nothing of a microVM. What the supervisor
//! tells of each process is enough for the usual columns. Process ids are the host's for process containers,
//! the guest's for hyperv.

mod columns;
mod ps;

use caisson_protocol::task::{Reply, Request};

use crate::error::{Error, Result};
use crate::{Engine, blocking, wire};

/// What Docker takes when no arguments are given.
const DEFAULT: &str = "-ef";

impl Engine {
    /// Lists the processes of a running container; the arguments are those of `ps`.
    pub async fn top(
        &self,
        name: &str,
        ps_args: Option<&str>,
    ) -> Result<wire::ContainerTopResponse> {
        let container = self.0.containers.get(name)?;
        let args = ps_args.filter(|args| !args.trim().is_empty()).unwrap_or(DEFAULT);
        container.must_run()?;
        let table = ps::parse(args)?;
        let Reply::Processes(processes) = self.task(&container, Request::Processes).await? else {
            return Err(Error::internal("the supervisor did not answer with processes"));
        };
        blocking(move || {
            let host = columns::Host::read();
            let row = |process| table.iter().map(|(column, _)| column.of(process, &host)).collect();
            Ok(wire::ContainerTopResponse {
                processes: Some(processes.iter().map(row).collect()),
                titles: Some(table.iter().map(|(_, title)| title.clone()).collect()),
            })
        })
        .await
    }
}
