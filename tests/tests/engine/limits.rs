//! Limits, capabilities, and their change while the container runs.

use anyhow::{Result, ensure};
use caisson_tests::Type;
use caisson_tests::engine::{Exec, Finished, at, refused};
use serde_json::json;

use crate::cases;
use crate::context::Ctx;

cases! {
    both: [
        memory_over_the_limit_is_an_oom_kill,
        a_memory_limit_is_changed_while_it_runs,
        resource_limits_are_set,
    ],
    bollard: [
        an_oom_is_an_event,
        too_many_processes_are_refused,
        processor_time_is_limited,
        a_tmpfs_is_as_large_as_asked,
        capabilities_are_dropped_and_added,
        limits_out_of_range_are_refused,
        updates_out_of_range_are_refused_and_change_nothing,
    ],
    caisson: [
        a_guest_larger_than_the_host_is_refused,
    ],
}

const MIB: i64 = 1 << 20;
/// Needs 200 MB at once.
const GREEDY: [&str; 5] = ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"];

fn memory_over_the_limit_is_an_oom_kill(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.named("greedy", &GREEDY);
    spec.memory = Some(32 * MIB);
    let finished = ctx.run(&spec, &[])?;
    ensure!(finished.code == 137, "{finished:?}");
    let inspect = ctx.inspect(&spec.name)?;
    ensure!(at(&inspect, "State.OOMKilled") == true, "{}", at(&inspect, "State"));
    ensure!(at(&inspect, "State.ExitCode") == 137, "{}", at(&inspect, "State"));
    ensure!(at(&inspect, "HostConfig.Memory") == 32 * MIB);
    Ok(())
}

fn an_oom_is_an_event(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.spec(&GREEDY);
    spec.memory = Some(32 * MIB);
    let id = ctx.create(&spec)?;
    let mut events = ctx.bollard.events(1, &[&format!("container={id}"), "event=oom"]);
    ctx.start(&id)?;
    events.until("oom")?;
    ctx.wait(&id)?;
    Ok(())
}

fn a_memory_limit_is_changed_while_it_runs(ctx: &Ctx) -> Result<()> {
    let id = ctx.idle_with(|spec| spec.memory = Some(400 * MIB))?;
    let good = ctx.exec(&id, &Exec::new(&GREEDY))?;
    ensure!(good.code == 0, "{good:?}");
    ctx.update_memory(&id, 64 * MIB)?;
    ensure!(at(&ctx.inspect(&id)?, "HostConfig.Memory") == 64 * MIB);
    let killed = ctx.exec(&id, &Exec::new(&GREEDY))?;
    ensure!(killed.code == 137, "{killed:?}");
    // The first process was not what took too much.
    ensure!(ctx.status(&id)? == "running");
    // What was changed holds for the next start too.
    ctx.restart(&id, Some(60))?;
    let killed = ctx.exec(&id, &Exec::new(&GREEDY))?;
    ensure!(killed.code == 137, "{killed:?}");
    Ok(())
}

fn resource_limits_are_set(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.script("ulimit -Sn; ulimit -Hn; ulimit -Sc");
    spec.ulimits = vec![("nofile".into(), 100, 200), ("core".into(), 0, 0)];
    let output = ctx.output(&spec)?;
    ensure!(output == "100\n200\n0\n", "{output}");
    Ok(())
}

fn too_many_processes_are_refused(ctx: &Ctx) -> Result<()> {
    let numbers = (0..40).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
    let mut spec = ctx.script(&format!("for i in {numbers}; do sleep 600 & done; echo all"));
    spec.pids = Some(16);
    let finished: Finished = ctx.run(&spec, &[])?;
    ensure!(finished.code != 0 && finished.stdout.is_empty(), "{finished:?}");
    ensure!(finished.stderr.contains("can't fork"), "{finished:?}");
    Ok(())
}

fn processor_time_is_limited(ctx: &Ctx) -> Result<()> {
    let script = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us \
        /sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us 2> /dev/null | head -n 1";
    let mut spec = ctx.named("slow", &["sh", "-c", script]);
    spec.nano_cpus = Some(500_000_000);
    let output = ctx.output(&spec)?;
    ensure!(output.split_whitespace().next() == Some("50000"), "{output:?}");
    ensure!(at(&ctx.inspect(&spec.name)?, "HostConfig.NanoCpus") == 500_000_000);
    Ok(())
}

fn a_tmpfs_is_as_large_as_asked(ctx: &Ctx) -> Result<()> {
    let script = "grep ' /small ' /proc/mounts; dd if=/dev/zero of=/small/x bs=100k count=2; wc -c < /small/x";
    let mut spec = ctx.script(script);
    spec.tmpfs = vec!["/small:size=64k,mode=1770".into()];
    let finished = ctx.run(&spec, &[])?;
    ensure!(finished.stderr.contains("No space left"), "{finished:?}");
    ensure!(finished.stdout.ends_with("\n65536\n"), "{finished:?}");
    for wanted in ["size=64k", "mode=1770", "nosuid", "nodev", "noexec"] {
        ensure!(finished.stdout.contains(wanted), "{wanted} is missing: {finished:?}");
    }
    Ok(())
}

fn capabilities_are_dropped_and_added(ctx: &Ctx) -> Result<()> {
    let script = "grep CapEff /proc/self/status; ip link set lo down && echo may; true";
    let mut spec = ctx.script(script);
    let plain = ctx.output(&spec)?;
    ensure!(plain.contains("00000000a80425fb") && !plain.contains("may"), "{plain}");
    spec.cap_drop = vec!["ALL".into()];
    let none = ctx.output(&spec)?;
    ensure!(none.contains("CapEff:\t0000000000000000"), "{none}");
    spec.cap_add = vec!["NET_ADMIN".into()];
    let one = ctx.output(&spec)?;
    ensure!(one.contains("CapEff:\t0000000000001000") && one.contains("may"), "{one}");
    spec.cap_add = vec!["CAP_NO_SUCH".into()];
    let no = refused(ctx.run(&spec, &[]))?;
    ensure!(no.message.to_lowercase().contains("invalid cap"), "{no}");
    Ok(())
}

fn limits_out_of_range_are_refused(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.spec(&["true"]);
    spec.memory = Some(MIB);
    let no = refused(ctx.create(&spec))?;
    ensure!(no.status == Some(400) && no.message.contains("inimum memory limit"), "{no}");
    spec.memory = None;
    spec.nano_cpus = Some(9_999_000_000_000);
    let no = refused(ctx.create(&spec))?;
    ensure!(no.status == Some(400) && no.message.contains("ange of CPUs is from 0.01"), "{no}");
    spec.nano_cpus = None;
    let create = |host_config| {
        let body = json!({"Image": spec.image, "Labels": spec.labels, "HostConfig": host_config});
        ctx.api("POST", "/containers/create", Some(body))
    };
    let answer = create(json!({"Memory": 64 * MIB, "MemorySwap": 32 * MIB}))?;
    ensure!(answer.status == 400, "{answer:?}");
    ensure!(answer.message().contains("should be larger than memory limit"), "{answer:?}");
    let answer = create(json!({"NanoCpus": 500_000_000, "CpuQuota": 50_000}))?;
    ensure!(answer.status == 400, "{}", answer.message());
    let answer = create(json!({"CpusetCpus": "0-x"}))?;
    ensure!(answer.status == 400, "{}", answer.message());
    ensure!(ctx.own()?.is_empty(), "{:?} is left", ctx.own()?);
    Ok(())
}

fn updates_out_of_range_are_refused_and_change_nothing(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.spec(&["true"]);
    spec.memory = Some(64 * MIB);
    let id = ctx.create(&spec)?;
    let path = format!("/containers/{id}/update");
    let answer = ctx.api("POST", &path, Some(json!({"Memory": MIB})))?;
    ensure!(answer.status >= 400, "{answer:?}");
    ensure!(answer.message().contains("inimum memory limit"), "{}", answer.message());
    ensure!(at(&ctx.inspect(&id)?, "HostConfig.Memory") == 64 * MIB);
    let answer = ctx.api("POST", "/containers/no-such-one/update", Some(json!({})))?;
    ensure!(answer.status == 404, "{answer:?}");
    let policy = json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 4}});
    let answer = ctx.api("POST", &path, Some(policy))?;
    ensure!(answer.status == 200, "{}", answer.message());
    let inspect = ctx.inspect(&id)?;
    ensure!(at(&inspect, "HostConfig.RestartPolicy.Name") == "on-failure", "{inspect}");
    ensure!(at(&inspect, "HostConfig.RestartPolicy.MaximumRetryCount") == 4, "{inspect}");
    ensure!(at(&inspect, "HostConfig.Memory") == 64 * MIB);
    Ok(())
}

fn a_guest_larger_than_the_host_is_refused(ctx: &Ctx) -> Result<()> {
    let mut spec = ctx.spec(&["true"]);
    spec.memory = Some(1 << 50);
    let started = ctx.create(&spec).and_then(|id| ctx.start(&id));
    if ctx.kind == Type::Process {
        // There it is only a limit, as large as it may be.
        return started;
    }
    let no = refused(started)?;
    ensure!(no.message.contains("memory"), "{no}");
    for name in ctx.own()? {
        ensure!(ctx.status(&name)? == "created", "{}", ctx.status(&name)?);
    }
    Ok(())
}
