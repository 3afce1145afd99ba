//! Finding the program and becoming it.

use std::convert::Infallible;
use std::ffi::{CString, c_char};
use std::io;

use caisson_bundle::oci;
use caisson_protocol::task::FailureKind;

use super::c_string;
use crate::error::Error;
use crate::user::Identity;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with its arguments and environment, ready to be executed.
pub struct Target {
    name: String,
    candidates: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Target {
    pub fn new(process: &oci::Process, identity: &Identity) -> Result<Self, Error> {
        let args = process.args().as_deref().unwrap_or(&[]);
        let name = match args.first() {
            Some(name) if !name.is_empty() => name.clone(),
            _ => return Err(Error::new(FailureKind::Invalid, "no command specified")),
        };
        let mut env = process.env().clone().unwrap_or_default();
        if !env.iter().any(|entry| entry.starts_with("HOME=")) {
            env.push(format!("HOME={}", identity.home));
        }
        let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
        let candidates: Result<Vec<_>, Error> = if name.contains('/') {
            Ok(vec![c_string(&name)?])
        } else {
            path.split(':')
                .filter(|d| !d.is_empty())
                .map(|d| c_string(&format!("{d}/{name}")))
                .collect()
        };
        Ok(Target {
            candidates: candidates?,
            args: args.iter().map(|arg| c_string(arg)).collect::<Result<_, _>>()?,
            env: env.iter().map(|entry| c_string(entry)).collect::<Result<_, _>>()?,
            name,
        })
    }

    /// Tries every candidate; returns only when none could be executed.
    pub fn exec(&mut self) -> Result<Infallible, Error> {
        let pointers = |list: &[CString]| -> Vec<*const c_char> {
            list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (args, env) = (pointers(&self.args), pointers(&self.env));
        let mut denied = None;
        for candidate in &self.candidates {
            // SAFETY: all three are live, zero-terminated C data.
            unsafe { libc::execve(candidate.as_ptr(), args.as_ptr(), env.as_ptr()) };
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) if !self.exists(candidate) => {}
                _ => {
                    denied = Some((candidate, error));
                    if self.name.contains('/') {
                        break;
                    }
                }
            }
        }
        Err(self.failure(denied))
    }

    /// A file that exists and yet is "not found" names an interpreter that does not exist.
    fn exists(&self, path: &CString) -> bool {
        rustix::fs::access(path.as_c_str(), rustix::fs::Access::EXISTS).is_ok()
    }

    fn failure(&self, denied: Option<(&CString, io::Error)>) -> Error {
        let name = &self.name;
        match denied {
            None if name.contains('/') => {
                let text = format!("exec: {name:?}: stat {name}: no such file or directory");
                Error::new(FailureKind::NotFound, text)
            }
            None => {
                let text = format!("exec: {name:?}: executable file not found in $PATH");
                Error::new(FailureKind::NotFound, text)
            }
            Some((path, error)) => {
                let reason = crate::error::reason(&error);
                let kind = match error.raw_os_error() {
                    Some(libc::ENOENT | libc::ENOTDIR) => FailureKind::NotFound,
                    _ => FailureKind::NotExecutable,
                };
                Error::new(kind, format!("exec: {:?}: {reason}", path.to_string_lossy()))
            }
        }
    }
}
