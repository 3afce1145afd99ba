//! A container is stopped, restarted, paused, renamed.

use std::sync::Arc;
use std::time::Duration;

use caisson_protocol::task::Request;

use crate::error::{Error, Kind, Result};
use crate::kill::{SIGKILL, signal, stop_signal};
use crate::record::{Record, Status};
use crate::{Container, Engine};

/// How long a container gets to end by itself when nobody says, seconds.
const GRACE: i64 = 10;
/// How long one may take to go that was killed.
pub(crate) const KILLED: Duration = Duration::from_secs(30);

impl Engine {
    /// Asks a container to end, and kills it after `timeout` seconds (negative: never).
    pub async fn stop(&self, name: &str, timeout: Option<i64>, signal: Option<&str>) -> Result<()> {
        let signal = signal.map(self::signal).transpose()?;
        let container = self.0.containers.get(name)?;
        let _busy = container.busy.lock().await;
        match container.look(|record| record.state.status) {
            Status::Running => {
                container.settle(|record| record.state.stopped_by_user = true)?;
                self.stop_now(&container, timeout, signal).await?;
            }
            Status::Restarting => container.settle(|record| {
                record.state.stopped_by_user = true;
                record.state.status = Status::Exited;
            })?,
            _ => {
                return Err(Error::new(
                    Kind::NotModified,
                    format!("container {name} is already stopped"),
                ));
            }
        }
        self.tell_container(&container.record(), "stop", &[]);
        Ok(())
    }

    /// Ends a running container; the caller holds [`Container::busy`].
    pub(crate) async fn stop_now(
        &self,
        container: &Arc<Container>,
        timeout: Option<i64>,
        signal: Option<i32>,
    ) -> Result<()> {
        let record = container.record();
        let started = record.state.started;
        let signal = signal.unwrap_or_else(|| stop_signal(&record));
        self.signal(&record.id, signal).await?;
        self.tell_container(&record, "kill", &[("signal", &signal.to_string())]);
        if record.state.paused {
            self.thaw(container).await?;
        }
        let timeout = timeout.or(record.config.stop_timeout).unwrap_or(GRACE);
        let ended = over(container, started);
        match u64::try_from(timeout) {
            Err(_) => {
                ended.await;
                return Ok(());
            }
            Ok(seconds) => {
                if tokio::time::timeout(Duration::from_secs(seconds), ended).await.is_ok() {
                    return Ok(());
                }
            }
        }
        self.signal(&record.id, SIGKILL).await?;
        self.tell_container(&record, "kill", &[("signal", "9")]);
        self.await_end(container, started, KILLED).await
    }

    /// Waits until the run that began at `started` is over and cleaned up.
    pub(crate) async fn await_end(
        &self,
        container: &Arc<Container>,
        started: i64,
        limit: Duration,
    ) -> Result<()> {
        tokio::time::timeout(limit, over(container, started)).await.map_err(|_| {
            Error::internal(format!("container {} did not end in {limit:?}", container.id))
        })
    }

    /// Lets a paused container go on.
    pub(crate) async fn thaw(&self, container: &Arc<Container>) -> Result<()> {
        match self.task(container, Request::Resume).await {
            // A signal that was waiting ended it.
            Err(_) if !container.look(|record| record.running()) => return Ok(()),
            other => other?,
        };
        container.note(|record| record.state.paused = false);
        Ok(())
    }

    /// Stops a container, if it runs, and starts it.
    pub async fn restart(
        &self,
        name: &str,
        timeout: Option<i64>,
        signal: Option<&str>,
    ) -> Result<()> {
        let signal = signal.map(self::signal).transpose()?;
        let container = self.0.containers.get(name)?;
        let _busy = container.busy.lock().await;
        refuse_doomed(&container)?;
        self.stop_for_start(&container, timeout, signal).await?;
        self.start_now(&container).await?;
        self.tell_container(&container.record(), "restart", &[]);
        Ok(())
    }

    /// Stops a container that is to be started again: neither its restart policy nor `--rm` has a say.
    pub(crate) async fn stop_for_start(
        &self,
        container: &Arc<Container>,
        timeout: Option<i64>,
        signal: Option<i32>,
    ) -> Result<()> {
        container.run().changing = true;
        let stopped = if container.look(|record| record.running()) {
            self.stop_now(container, timeout, signal).await
        } else {
            Ok(())
        };
        container.run().changing = false;
        stopped
    }

    /// Freezes a container's processes.
    pub async fn pause(&self, name: &str) -> Result<()> {
        let container = self.0.containers.get(name)?;
        let _busy = container.busy.lock().await;
        container.must_run()?;
        if container.look(|record| record.state.paused) {
            return Err(Error::conflict(format!("container {} is already paused", container.id)));
        }
        self.task(&container, Request::Pause).await?;
        container.settle(|record| record.state.paused = true)?;
        self.tell_container(&container.record(), "pause", &[]);
        Ok(())
    }

    /// Lets them go on.
    pub async fn unpause(&self, name: &str) -> Result<()> {
        let container = self.0.containers.get(name)?;
        let _busy = container.busy.lock().await;
        if !container.look(|record| record.running() && record.state.paused) {
            return Err(Error::conflict(format!("container {} is not paused", container.id)));
        }
        self.task(&container, Request::Resume).await?;
        container.settle(|record| record.state.paused = false)?;
        self.tell_container(&container.record(), "unpause", &[]);
        Ok(())
    }

    /// Gives a container another name.
    pub async fn rename(&self, name: &str, new: &str) -> Result<()> {
        let container = self.0.containers.get(name)?;
        let _busy = container.busy.lock().await;
        refuse_doomed(&container)?;
        let new = new.strip_prefix('/').unwrap_or(new);
        crate::create::check_name(new)?;
        let old = container.look(|record| record.name.clone());
        if old == new {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        self.0.containers.reserve_name(new, &container.id)?;
        if let Err(error) = container.change(|record| record.name = new.to_string()) {
            self.0.containers.release_name(new);
            return Err(error);
        }
        self.0.containers.release_name(&old);
        let old = format!("/{old}");
        self.tell_container(&container.record(), "rename", &[("oldName", &old)]);
        Ok(())
    }
}

/// Ends when the run that began at `started` is over.
async fn over(container: &Container, started: i64) {
    let over = |record: &Record| {
        let state = &record.state;
        state.started != started || (!record.running() && state.told_exits == state.exits)
    };
    container.until(over).await;
}

/// Refuses what needs a container that stays.
pub(crate) fn refuse_doomed(container: &Container) -> Result<()> {
    match container.look(|record| record.state.status) {
        Status::Removing | Status::Removed | Status::Dead => {
            Err(Error::conflict(format!("container {} is marked for removal", container.id)))
        }
        _ => Ok(()),
    }
}
