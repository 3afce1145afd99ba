//! A container's record as an OCI runtime spec. The same record gives the same spec for both types: what
//! differs is done behind the sandbox.

mod devices;
mod mounts;
mod obstacle;
mod privileges;
mod resources;
mod seccomp;
mod security;

use std::path::{Path, PathBuf};

use caisson_bundle::{defaults, oci};
use caisson_launch::plan::{REAPER, USER};

use crate::error::{Doing, Error, Result};
use crate::{Container, Engine, Record, RuntimeType, wire};
pub(crate) use devices::devices_checked;
pub(crate) use privileges::{capability, rlimits};
pub(crate) use resources::resources;
pub(crate) use security::Security;

impl Engine {
    /// What is started; `namespace` is the network namespace of a process container, or none for the host's.
    /// The root file system is mounted.
    pub(crate) fn spec(
        &self,
        container: &Container,
        record: &Record,
        namespace: Option<&Path>,
    ) -> Result<oci::Spec> {
        let host = &record.host_config;
        let args: Vec<&str> = record.args.iter().map(String::as_str).collect();
        let mut spec = defaults::spec(&args);
        let security = Security::parse(host.security_opt.as_deref().unwrap_or_default())?;
        let mut process = self.process(record, &security)?;
        process.set_terminal(Some(record.tty()));
        let user = record.config.user.clone().unwrap_or_default();
        let reaper = host.init == Some(true);
        spec.set_annotations(Some(
            [(USER.to_string(), user), (REAPER.to_string(), reaper.to_string())].into(),
        ));
        let mut root = oci::Root::default();
        root.set_readonly(Some(host.readonly_rootfs == Some(true)));
        spec.set_root(Some(root));
        if host.uts_mode.as_deref() != Some("host") {
            spec.set_hostname(record.config.hostname.clone());
            spec.set_domainname(record.config.domainname.clone().filter(|name| !name.is_empty()));
        }
        let privileged = host.privileged == Some(true);
        let base = spec.mounts().clone().unwrap_or_default();
        spec.set_mounts(Some(self.spec_mounts(container, record, base)?));
        let mut linux = spec.linux().clone().unwrap_or_default();
        linux.set_namespaces(Some(namespaces(
            record,
            &linux,
            namespace,
            self.pid_namespace(host)?.as_deref(),
        )));
        linux.set_cgroups_path(Some(PathBuf::from(self.cgroup_of(record))));
        let mut limits = resources(host);
        let base = linux.resources().as_ref().and_then(|base| base.devices().clone());
        let all = record.runtime_type == RuntimeType::Process;
        let (mut devices, rules) = devices::devices(host, base.unwrap_or_default(), all)?;
        if record.mounts.iter().any(|mount| mount.destination == Path::new("/dev")) {
            // No node is made in a directory that is not the container's own.
            devices.clear();
        }
        limits.set_devices(Some(rules));
        linux.set_resources(Some(limits)).set_devices(Some(devices));
        let sysctl = host.sysctls.clone().filter(|map| !map.is_empty());
        linux.set_sysctl(sysctl);
        let paths = |given: &Option<Vec<String>>, own: &Option<Vec<String>>| match given {
            _ if privileged => Some(Vec::new()),
            Some(given) => Some(given.clone()),
            None => own.clone(),
        };
        linux.set_masked_paths(paths(&host.masked_paths, linux.masked_paths()));
        linux.set_readonly_paths(paths(&host.readonly_paths, linux.readonly_paths()));
        linux.set_seccomp(security.seccomp(privileged, privileges::bounding(&process))?);
        spec.set_process(Some(process)).set_linux(Some(linux));
        Ok(spec)
    }

    /// The first process, and what others have in common with it.
    fn process(&self, record: &Record, security: &Security) -> Result<oci::Process> {
        let host = &record.host_config;
        let mut process = oci::Process::default();
        let cwd = record.config.working_dir.clone().filter(|path| !path.is_empty());
        process
            .set_args(Some(record.args.clone()))
            .set_env(Some(environment(record, record.tty())))
            .set_cwd(PathBuf::from(cwd.unwrap_or_else(|| "/".into())))
            .set_no_new_privileges(Some(security.no_new_privileges))
            .set_capabilities(Some(privileges::capabilities(host)?))
            .set_rlimits(Some(rlimits(host)?))
            .set_oom_score_adj(host.oom_score_adj.map(|score| score as i32).filter(|s| *s != 0));
        let mut user = oci::User::default();
        user.set_additional_gids(Some(self.groups(record)?));
        process.set_user(user);
        Ok(process)
    }

    /// The process ids of another container that this one shares, if it does.
    fn pid_namespace(&self, host: &wire::HostConfig) -> Result<Option<PathBuf>> {
        let mode = host.pid_mode.as_deref().unwrap_or_default();
        let Some(name) = mode.strip_prefix("container:") else { return Ok(None) };
        let other = self.0.containers.get(name)?.record();
        if !other.running() {
            return Err(Error::conflict(format!(
                "cannot join PID of a non running container: {}",
                other.id
            )));
        }
        if other.runtime_type == RuntimeType::Hyperv {
            return Err(Error::conflict(format!(
                "cannot join PID of container {}: it is a hyperv container, its processes are in a guest of its own",
                other.id
            )));
        }
        Ok(Some(PathBuf::from(format!("/proc/{}/ns/pid", other.state.pid))))
    }

    /// The numbers of `--group-add`: names are those of the image.
    fn groups(&self, record: &Record) -> Result<Vec<u32>> {
        let names = record.host_config.group_add.clone().unwrap_or_default();
        if names.iter().all(|name| name.parse::<u32>().is_ok()) {
            return Ok(names.iter().filter_map(|name| name.parse().ok()).collect());
        }
        let container = self.0.containers.get(&record.id)?;
        let path = container.places.rootfs();
        let root = std::fs::File::open(&path).doing(|| format!("open {}", path.display()))?;
        let number = |name: &String| {
            caisson_launch::user::resolve_group(&root, name)
                .map_err(|error| Error::from(error.into_failure()))
        };
        names.iter().map(number).collect()
    }

    /// One more process.
    pub(crate) fn exec_process(
        &self,
        record: &Record,
        config: &wire::ExecConfig,
    ) -> Result<oci::Process> {
        let security =
            Security::parse(record.host_config.security_opt.as_deref().unwrap_or_default())?;
        let mut process = self.process(record, &security)?;
        let tty = config.tty == Some(true);
        let mut env = environment(record, tty);
        for entry in config.env.iter().flatten() {
            if entry.is_empty() || entry.starts_with('=') || entry.contains('\0') {
                return Err(Error::invalid(format!("invalid environment variable: {entry}")));
            }
            put(&mut env, entry);
        }
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(Error::invalid("No exec command specified"));
        }
        if let Some(directory) = config.working_dir.as_deref().filter(|path| !path.is_empty()) {
            if !directory.starts_with('/') {
                return Err(Error::invalid(format!(
                    "the working directory '{directory}' is invalid, it needs to be an absolute path"
                )));
            }
            process.set_cwd(PathBuf::from(directory));
        }
        if config.privileged == Some(true) {
            process.set_capabilities(Some(privileges::all_capabilities()));
        }
        let own = record.config.user.clone().unwrap_or_default();
        let user = config.user.clone().filter(|user| !user.is_empty()).unwrap_or(own);
        let mut named = process.user().clone();
        named.set_username(Some(user));
        process
            .set_user(named)
            .set_args(config.cmd.clone())
            .set_env(Some(env))
            .set_terminal(Some(tty));
        Ok(process)
    }
}

/// What every process has, replaced and completed by the configuration.
fn environment(record: &Record, tty: bool) -> Vec<String> {
    let hostname = record.config.hostname.clone().unwrap_or_default();
    let mut env = vec![defaults::PATH.to_string(), format!("HOSTNAME={hostname}")];
    if tty {
        env.push("TERM=xterm".into());
    }
    for entry in record.config.env.iter().flatten() {
        put(&mut env, entry);
    }
    env
}

/// Sets a variable, in the place of an earlier value; a name without a value takes it away.
fn put(env: &mut Vec<String>, entry: &str) {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_string();
    let known = env.iter().position(|other| name(other) == name(entry));
    match (known, entry.contains('=')) {
        (Some(at), true) => env[at] = entry.into(),
        (Some(at), false) => drop(env.remove(at)),
        (None, true) => env.push(entry.into()),
        (None, false) => {}
    }
}

/// The namespaces: a container's own, but for those that it shares with the host.
fn namespaces(
    record: &Record,
    linux: &oci::Linux,
    network: Option<&Path>,
    pid: Option<&Path>,
) -> Vec<oci::LinuxNamespace> {
    use oci::LinuxNamespaceType as T;
    let host = &record.host_config;
    let is_host = |mode: &Option<String>| mode.as_deref() == Some("host");
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    namespaces.retain(|namespace| match namespace.typ() {
        T::Pid => !is_host(&host.pid_mode),
        T::Ipc => !is_host(&host.ipc_mode),
        T::Uts => !is_host(&host.uts_mode),
        T::Cgroup => host.cgroupns_mode != Some(wire::HostConfigCgroupnsModeEnum::HOST),
        T::Network => network.is_some(),
        _ => true,
    });
    for namespace in &mut namespaces {
        match namespace.typ() {
            T::Network => namespace.set_path(network.map(Path::to_path_buf)),
            T::Pid => namespace.set_path(pid.map(Path::to_path_buf)),
            _ => namespace,
        };
    }
    namespaces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::tests::record;

    #[test]
    fn shared_namespaces_are_left_out() {
        let mut one = record('a', "web", 100);
        one.host_config.ipc_mode = Some("host".into());
        let spec = defaults::spec(&["true"]);
        let linux = spec.linux().as_ref().unwrap();
        let path = Path::new("/run/netns/a");
        let kinds = |one: &Record, path| -> Vec<oci::LinuxNamespaceType> {
            namespaces(one, linux, path, None).iter().map(|namespace| namespace.typ()).collect()
        };
        use oci::LinuxNamespaceType as T;
        assert_eq!(kinds(&one, Some(path)), [T::Mount, T::Pid, T::Network, T::Uts, T::Cgroup]);
        assert!(!kinds(&one, None).contains(&T::Network));
        let joined = namespaces(&one, linux, None, Some(Path::new("/proc/7/ns/pid")));
        let pid = joined.iter().find(|namespace| namespace.typ() == T::Pid).unwrap();
        assert_eq!(pid.path().as_deref(), Some(Path::new("/proc/7/ns/pid")));
    }

    #[test]
    fn the_environment_is_completed() {
        let mut one = record('a', "web", 100);
        one.config.env = Some(vec!["A=1".into(), "PATH=/x".into()]);
        one.config.hostname = Some("box".into());
        assert_eq!(environment(&one, false), ["PATH=/x", "HOSTNAME=box", "A=1"]);
        one.config.env = Some(vec!["TERM=dumb".into(), "HOSTNAME".into()]);
        assert_eq!(environment(&one, true), [defaults::PATH, "TERM=dumb"]);
    }
}
