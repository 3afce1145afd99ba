//! `caisson-supervisor`: the one small process per container, for both runtime types.
//!
//! Owns the container's streams, its log, the attach connections, the exit record and, for hyperv, the
//! microVM. Outlives the daemon. Never knows names, images or the API. One thread, one poll loop.

use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use caisson_protocol::supervisor::{Config, Sandbox as Kind};
use caisson_sandbox::Sandbox;
use caisson_sandbox::process::ProcessSandbox;

mod connection;
mod forward;
mod log;
mod serve;
mod streams;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod forward_tests;
#[cfg(test)]
mod tests;

/// The descriptor of the listening socket that the daemon passes as stdin.
const LISTENER: i32 = 0;

fn main() -> Result<()> {
    // What leaked in from whoever started this must not reach QEMU, the share's server or a container.
    // SAFETY: nothing has been opened yet but the standard descriptors.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let mut arguments = std::env::args_os().skip(1);
    let path = match (arguments.next(), arguments.next()) {
        (Some(flag), Some(path)) if flag == "--config" => path,
        _ => anyhow::bail!("usage: caisson-supervisor --config FILE (started by caissond)"),
    };
    let path = Path::new(&path);
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let config: Config =
        serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))?;
    // SAFETY: the daemon passes a listening socket as descriptor 0 and nothing else here uses it.
    let listener = unsafe { OwnedFd::from_raw_fd(LISTENER) };
    // A daemon that is killed must not take its containers along; failing means already a leader.
    let _ = rustix::process::setsid();
    // SAFETY: ignoring these signals installs no handler.
    unsafe {
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        // One arena and early trimming: there may be thousands of these processes.
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 10);
    }
    let sandbox = make(&config).map_err(|failure| anyhow::anyhow!(failure.message))?;
    serve::Server::new(config, listener, sandbox).run()
}

fn make(config: &Config) -> Result<Box<dyn Sandbox>, caisson_protocol::task::Failure> {
    match &config.sandbox {
        Kind::Process => Ok(Box::new(ProcessSandbox::new(config.init_program.clone())?)),
        Kind::Microvm(shape) => {
            Ok(Box::new(caisson_sandbox::microvm::MicrovmSandbox::boot(shape, &config.directory)?))
        }
    }
}
