//! Launch: a bundle becomes a running process.
//!
//! The same code runs in the supervisor on the host and in the agent of a nano guest. A container is
//! never cloned from the caller: [`Launcher`] execs the small single-threaded `caisson-init`, hands it a
//! [`plan::Plan`], and `init` clones the container's first process as the *caller's* child. Failures come
//! back over the same socket with the whole chain of causes.
//!
//! Owns: namespaces, mounts, devices, privileges, seccomp, cgroups of one container. Never: streams after
//! the start, exits, logs, names.

pub mod cgroup;
mod error;
pub mod init;
mod launcher;
mod mounts;
pub mod plan;
mod privileges;
pub mod ps;
pub mod seccomp;
mod sys;
pub mod user;

pub use error::Error;
pub use launcher::{Launched, Launcher};
