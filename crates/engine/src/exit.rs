//! A container has ended: what it had is taken back, its end is recorded and told, and its restart policy
//! or `--rm` has its say.

use std::sync::Arc;
use std::time::Duration;

use caisson_api::wire::RestartPolicyNameEnum as Policy;
use caisson_launch::cgroup::Cgroup;
use caisson_protocol::task::{Event, Exit, ProcessId};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::error::{Error, Result};
use crate::record::{Record, Status};
use crate::supervisor::{Events, forget, monitor_cgroup};
use crate::{Container, Engine, blocking};

/// How long a restart policy waits at first, and at most; each time twice as long.
const DELAY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];
/// A container that ran for so long starts over with the first delay.
const SETTLED: i64 = 10_000_000_000;
/// How long a process that was killed may take to go.
const GOING: Duration = Duration::from_secs(10);

impl Engine {
    /// Follows a running container in the background.
    pub(crate) fn watch(&self, container: &Arc<Container>, events: Events, supervisor: String) {
        let (engine, container) = (self.clone(), container.clone());
        tokio::spawn(async move { engine.follow(container, events, supervisor).await });
    }

    async fn follow(&self, container: Arc<Container>, mut events: Events, supervisor: String) {
        let exit = loop {
            match events.next().await {
                Some(Event::Exited { process: ProcessId::Init, exit }) => break exit,
                Some(Event::Exited { process: ProcessId::Exec(id), exit }) => {
                    self.exec_ended(&id, exit.code);
                }
                Some(Event::OutOfMemory) => self.tell_container(&container.record(), "oom", &[]),
                None => {
                    tracing::warn!("the supervisor {supervisor} of {} is gone", container.id);
                    break self.abandoned(&container, &supervisor).await;
                }
            }
        };
        self.exited(&container, exit).await;
    }

    /// The exit of a container whose supervisor is gone: the recorded one, or that of a kill.
    pub(crate) async fn abandoned(&self, container: &Arc<Container>, supervisor: &str) -> Exit {
        let (engine, container, supervisor) =
            (self.clone(), container.clone(), supervisor.to_string());
        blocking(move || {
            if let Some(exit) = recorded(&container) {
                return exit;
            }
            let record = container.record();
            let directory = engine.supervisor_directory(&supervisor);
            let mut cgroups = vec![engine.cgroup_of(&record)];
            cgroups.extend(monitor_cgroup(&directory));
            for cgroup in cgroups {
                if let Err(error) = sweep(&cgroup) {
                    tracing::warn!("container {}: {error}", record.id);
                }
            }
            Exit { code: 137, oom_killed: false, at: crate::now() }
        })
        .await
    }

    /// The cgroup of a process container.
    pub(crate) fn cgroup_of(&self, record: &Record) -> String {
        let own = record.host_config.cgroup_parent.as_deref().filter(|parent| !parent.is_empty());
        let parent = own.unwrap_or(&self.0.settings.cgroup_parent);
        format!("{}/{}", parent.trim_end_matches('/'), record.id)
    }

    /// Takes back what a run had, or a start that failed.
    pub(crate) async fn release(&self, container: &Arc<Container>) {
        let record = container.record();
        let rootfs = {
            let mut run = container.run();
            run.supervisor = None;
            run.rootfs.take()
        };
        let warn = |result: Result<()>| {
            if let Err(error) = result {
                tracing::warn!("container {}: {error}", record.id);
            }
        };
        if !record.state.ports.is_empty() {
            warn(self.ports_unpublish(&record).await);
        }
        let supervisor = record.state.supervisor.as_deref();
        let directory = supervisor.map(|id| self.supervisor_directory(id));
        let files = blocking(move || {
            drop(rootfs);
            if let Some(directory) = directory {
                forget(&directory);
            }
        });
        let (down, ()) = tokio::join!(self.network_down(&record), files);
        warn(down);
    }

    /// Records an end and does what follows from it.
    pub(crate) async fn exited(&self, container: &Arc<Container>, exit: Exit) {
        self.release(container).await;
        self.execs_ended(&container.id);
        let (delay, changing) = {
            let mut run = container.run();
            let ran = exit.at - container.look(|record| record.state.started);
            let long = ran >= SETTLED || run.delay.is_zero();
            run.delay = if long { DELAY[0] } else { (run.delay * 2).min(DELAY[1]) };
            let wanted = container.look(|record| wants_restart(record, exit.code));
            ((!run.changing && wanted).then_some(run.delay), run.changing)
        };
        let settled = container.settle(|record| {
            let state = &mut record.state;
            state.status = if delay.is_some() { Status::Restarting } else { Status::Exited };
            state.restart_count += i64::from(delay.is_some());
            state.exit_code = exit.code;
            state.last_exit = exit.code;
            state.exits += 1;
            state.oom_killed = exit.oom_killed;
            state.finished = exit.at;
            state.paused = false;
            state.pid = 0;
            state.supervisor = None;
            state.ports.clear();
        });
        if let Err(error) = settled {
            tracing::error!("container {}: its end is not recorded: {error}", container.id);
        }
        let record = container.record();
        let seconds = (exit.at - record.state.started).max(0) / 1_000_000_000;
        self.tell_container(
            &record,
            "die",
            &[("exitCode", &exit.code.to_string()), ("execDuration", &seconds.to_string())],
        );
        container.note(|record| record.state.told_exits = record.state.exits);
        match delay {
            Some(delay) => self.restart_later(container, delay),
            None if record.host_config.auto_remove == Some(true) && !changing => {
                self.remove_later(container);
            }
            None => {}
        }
    }

    /// Starts it again after a delay, unless something else happens to it meanwhile.
    pub(crate) fn restart_later(&self, container: &Arc<Container>, delay: Duration) {
        let (engine, container) = (self.clone(), container.clone());
        tokio::spawn(async move {
            let other = container.until(|record| record.state.status != Status::Restarting);
            if tokio::time::timeout(delay, other).await.is_ok() {
                return;
            }
            let _busy = container.busy.lock().await;
            if container.look(|record| record.state.status) != Status::Restarting {
                return;
            }
            // The failure is in its state and in the log.
            let _ = engine.start_now(&container).await;
        });
    }
}

/// The recorded exit of the run under way.
pub(crate) fn recorded(container: &Container) -> Option<Exit> {
    let exit: Exit = serde_json::from_slice(&std::fs::read(container.places.exit()).ok()?).ok()?;
    (exit.at >= container.look(|record| record.state.started)).then_some(exit)
}

/// Whether a restart policy starts a container again that ended with this code.
pub(crate) fn wants_restart(record: &Record, code: i32) -> bool {
    let policy = record.host_config.restart_policy.as_ref();
    let most = policy.and_then(|policy| policy.maximum_retry_count).unwrap_or_default();
    if record.state.stopped_by_user {
        return false;
    }
    match policy.and_then(|policy| policy.name) {
        Some(Policy::ALWAYS | Policy::UNLESS_STOPPED) => true,
        Some(Policy::ON_FAILURE) => code != 0 && (most == 0 || record.state.restart_count < most),
        _ => false,
    }
}

/// Kills what is left in a cgroup and removes it.
fn sweep(path: &str) -> Result<()> {
    let fail = |error: caisson_launch::Error| Error::from(error.into_failure());
    let cgroup = Cgroup::create(path).map_err(fail)?;
    // A frozen process takes no signal.
    let _ = cgroup.freeze(false);
    let deadline = std::time::Instant::now() + GOING;
    loop {
        let pids = cgroup.pids();
        let Some(pid) = pids.first().copied() else { break };
        if std::time::Instant::now() >= deadline {
            return Err(Error::internal(format!("process {pid} of {path} does not end")));
        }
        for pid in pids.iter().copied().filter_map(Pid::from_raw) {
            end(pid);
        }
    }
    cgroup.remove().map_err(fail)
}

/// Kills a process and waits until it is gone.
fn end(pid: Pid) {
    use rustix::event::{PollFd, PollFlags, poll};
    let Ok(fd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    let _ = rustix::process::pidfd_send_signal(&fd, Signal::KILL);
    let limit = rustix::time::Timespec { tv_sec: 1, tv_nsec: 0 };
    let _ = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::tests::record;
    use crate::wire::RestartPolicy;

    #[test]
    fn restart_policies_are_dockers() {
        let mut one = record('a', "web", 100);
        let mut with = |name, most| {
            one.host_config.restart_policy =
                Some(RestartPolicy { name: Some(name), maximum_retry_count: Some(most) });
            one.clone()
        };
        assert!(!wants_restart(&with(Policy::NO, 0), 1));
        assert!(wants_restart(&with(Policy::ALWAYS, 0), 0));
        let failing = with(Policy::ON_FAILURE, 2);
        assert!(!wants_restart(&failing, 0));
        assert!(wants_restart(&failing, 1));
        let mut tried = failing;
        tried.state.restart_count = 2;
        assert!(!wants_restart(&tried, 1));
        let mut stopped = with(Policy::UNLESS_STOPPED, 0);
        assert!(wants_restart(&stopped, 0));
        stopped.state.stopped_by_user = true;
        assert!(!wants_restart(&stopped, 0));
    }
}
