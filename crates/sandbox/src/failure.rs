//! Failures of both sandboxes, and the clock that stamps their exits.

use caisson_protocol::task::{Failure, FailureKind};

pub fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into() }
}

/// A system call that failed where the call itself says enough.
pub fn internal(error: impl Into<std::io::Error>) -> Failure {
    failure(FailureKind::Internal, error.into().to_string())
}

/// The host's real time, nanoseconds since 1970-01-01 UTC.
pub fn now() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
