//! `--init`: process 1 that forwards signals and reaps, in front of the program.

use std::os::fd::{AsRawFd, OwnedFd};

use crate::error::{Context, Error};
use crate::sys;

/// Forks: the child returns and goes on to be the program; this process stays as process 1 until the
/// child ends, and ends with its status.
pub fn split(control: &OwnedFd) -> Result<(), Error> {
    let mut all = empty();
    // SAFETY: the set is live; this program has one thread.
    unsafe {
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
    // SAFETY: one thread, so the child's copy of the address space is consistent.
    let pid = sys::check(unsafe { libc::fork() }.into()).context("fork behind the reaper")?;
    if pid == 0 {
        let none = empty();
        // SAFETY: as above. The program gets its own foreground group when there is a terminal.
        unsafe {
            libc::setpgid(0, 0);
            libc::tcsetpgrp(0, libc::getpid());
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        }
        return Ok(());
    }
    // SAFETY: the control socket is not used again in this process; the launcher sees its end when the
    // child has executed its program.
    unsafe { libc::close(control.as_raw_fd()) };
    serve(pid as i32, &all)
}

fn serve(child: i32, all: &libc::sigset_t) -> ! {
    loop {
        let mut signal = 0;
        // SAFETY: both pointers are live.
        unsafe { libc::sigwait(all, &mut signal) };
        if signal != libc::SIGCHLD {
            // SAFETY: numbers only; a child that is gone is collected below.
            unsafe { libc::kill(child, signal) };
            continue;
        }
        loop {
            let mut status = 0;
            // SAFETY: the status is live. As process 1 this collects every orphan.
            let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
            if pid <= 0 {
                break;
            }
            if pid == child {
                let code = if libc::WIFEXITED(status) {
                    libc::WEXITSTATUS(status)
                } else {
                    128 + libc::WTERMSIG(status)
                };
                std::process::exit(code);
            }
        }
    }
}

fn empty() -> libc::sigset_t {
    // SAFETY: sigemptyset initialises what it is given.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        set
    }
}
