//! A container changes its runtime type and keeps all else: id, name, files, volumes, addresses, ports,
//! limits, logs.
//!
//! What the new type cannot be is refused before anything happens. A running container is stopped, changed
//! and started; if it does not start, it runs again as what it was.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::record::{Record, RuntimeType, Status};
use crate::stop::refuse_doomed;
use crate::{Container, Engine};

impl Engine {
    /// Changes the type; without `restart` only of a container that does not run.
    pub async fn set_type(&self, name: &str, to: RuntimeType, restart: bool) -> Result<()> {
        let container = self.0.containers.get(name)?;
        let _busy = container.busy.lock().await;
        refuse_doomed(&container)?;
        let before = container.record();
        let from = before.runtime_type;
        if from == to {
            return Ok(());
        }
        let refuse = |error: Error| {
            error.doing(format!("cannot set the runtime type of {} to {to}", before.name))
        };
        self.can_become(&before, to).map_err(refuse)?;
        if to == RuntimeType::Hyperv {
            self.hyperv_ready().await.map_err(refuse)?;
        }
        let runs = matches!(before.state.status, Status::Running | Status::Restarting);
        if runs && !restart {
            return Err(refuse(Error::conflict(
                "it is running: stop it first, or leave out --no-restart",
            )));
        }
        if runs {
            self.stop_for_start(&container, None, None).await.map_err(refuse)?;
        }
        let change = |record: &mut Record| {
            become_type(record, to);
            record.state.kept_ports = before.state.ports.clone();
        };
        container.change(change).map_err(refuse)?;
        if runs && let Err(error) = self.start_now(&container).await {
            return Err(self.go_back(&container, &before, error).await);
        }
        let attributes = [("runtimeType", to.name()), ("from", from.name())];
        self.tell_container(&container.record(), "update", &attributes);
        tracing::info!("container {} is of type {to} now", container.id);
        Ok(())
    }

    /// Makes it run as before; the error for the user.
    async fn go_back(&self, container: &Arc<Container>, before: &Record, error: Error) -> Error {
        let (from, to) = (before.runtime_type, container.look(|record| record.runtime_type));
        let text = format!("container {} did not start as {to}: {error}", before.name);
        let isolation = before.host_config.isolation;
        let back = container.change(|record| {
            record.runtime_type = from;
            record.host_config.isolation = isolation;
        });
        let back = match back {
            Ok(()) => self.start_now(container).await,
            Err(error) => Err(error),
        };
        let (kind, text) = match back {
            Ok(()) => (error.kind, format!("{text}; it runs as {from} again")),
            Err(again) => (
                crate::Kind::Internal,
                format!("{text}; and it did not start as {from} again: {again}"),
            ),
        };
        Error::new(kind, text)
    }
}

fn become_type(record: &mut Record, to: RuntimeType) {
    record.runtime_type = to;
    record.host_config.isolation = Some(to.isolation());
}
