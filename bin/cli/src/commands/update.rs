//! `caisson update`.

use caisson_api::client::Client;
use caisson_api::wire::{ContainerUpdateBody, RestartPolicy};
use clap::Args;
use serde_json::Value;

use crate::create::limits::{cpus, restart, size, size_or_unlimited};
use crate::each::each;
use crate::failure::{Failure, Outcome};
use crate::output;

/// Update configuration of one or more containers
///
/// Limits of a running container change at once. `caisson set` changes the runtime type.
#[derive(Debug, Args)]
#[command(after_help = "Example: caisson update --memory 512m --memory-swap 512m --cpus 2 web")]
pub struct Update {
    /// Block IO (relative weight), between 10 and 1000
    #[arg(long, value_name = "NUMBER")]
    blkio_weight: Option<u16>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "NUMBER")]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL", value_parser = cpus)]
    cpus: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "CPUS")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "NODES")]
    cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short, long, value_name = "BYTES", value_parser = size)]
    memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "BYTES", value_parser = size)]
    memory_reservation: Option<i64>,
    /// Memory and swap together: -1 to enable unlimited swap
    #[arg(long, value_name = "BYTES", value_parser = size_or_unlimited)]
    memory_swap: Option<i64>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "NUMBER")]
    pids_limit: Option<i64>,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "POLICY", value_parser = restart)]
    restart: Option<RestartPolicy>,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Update {
    pub fn run(&self, client: &Client) -> Outcome {
        let body = self.body();
        if body == ContainerUpdateBody::default() {
            return Err(Failure::words(
                "you must provide one or more flags when using this command",
            ));
        }
        each(&self.containers, |name| {
            let request = client.post(&["containers", name, "update"]).json(&body);
            output::warnings(&request.send()?.json::<Value>()?);
            Ok(())
        })
    }

    fn body(&self) -> ContainerUpdateBody {
        ContainerUpdateBody {
            blkio_weight: self.blkio_weight,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_shares: self.cpu_shares,
            nano_cpus: self.cpus,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            memory: self.memory,
            memory_reservation: self.memory_reservation,
            memory_swap: self.memory_swap,
            pids_limit: self.pids_limit,
            restart_policy: self.restart.clone(),
            ..ContainerUpdateBody::default()
        }
    }
}
