//! Supervisors that wait for a container.

#[derive(Default)]
pub(crate) struct Standby;
