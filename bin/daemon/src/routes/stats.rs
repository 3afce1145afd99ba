//! `/containers/{id}/stats`.

use std::time::Duration;

use bytes::Bytes;
use caisson_engine::wire::ContainerStatsResponse;
use futures_util::stream;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::call::Call;
use crate::reply::{self, Reply, Result};
use caisson_engine::Engine;

/// As often as Docker samples.
const PERIOD: Duration = Duration::from_secs(1);

pub async fn stats(call: Call, name: &str) -> Result<Reply> {
    let engine = call.engine().clone();
    let first = engine.stats(name, None).await?;
    if call.query.flag_or("stream", true) {
        return Ok(follow(engine, name.into(), first));
    }
    // One that does not run has nothing to compare with.
    let runs = first.cpu_stats.as_ref().is_some_and(|cpu| cpu.system_cpu_usage.is_some());
    if call.query.flag("one-shot") || !runs {
        return reply::json(&first);
    }
    tokio::time::sleep(PERIOD).await;
    reply::json(&engine.stats(name, Some(&first)).await?)
}

struct Follow {
    engine: Engine,
    name: String,
    ticks: Interval,
    last: Option<ContainerStatsResponse>,
    first: bool,
}

/// A sample a second, until the container is gone.
fn follow(engine: Engine, name: String, first: ContainerStatsResponse) -> Reply {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let follow = Follow { engine, name, ticks, last: Some(first), first: true };
    let lines = stream::unfold(follow, async |mut follow| {
        follow.ticks.tick().await;
        if !follow.first {
            follow.last = follow.engine.stats(&follow.name, follow.last.as_ref()).await.ok();
        }
        follow.first = false;
        let line = reply::line(follow.last.as_ref()?).ok()?;
        Some((Ok(Bytes::from(line)), follow))
    });
    reply::stream("application/json", lines)
}
