//! QEMU as the machine monitor: its `microvm` machine, unprivileged, behind its own seccomp filter.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use caisson_bundle::oci;
use caisson_launch::cgroup::Cgroup;
use caisson_protocol::agent::{PORT, SHARE_TAG};
use caisson_protocol::supervisor::{Accelerator, Microvm};
use caisson_protocol::task::Failure;
use rustix::pipe::PipeFlags;

use super::at;
use super::ticks::Reading;
use crate::failure::internal;

/// Most of the console that is kept, bytes: the guest can write without end.
const CONSOLE: usize = 16 << 10;
/// Most memory for translated code under emulation, MiB.
const CODE_CACHE: u32 = 64;
/// QEMU's own memory at most, MiB.
const OVERHEAD: u32 = 256;
/// QEMU's threads beside the vCPUs' at most.
const THREADS: u32 = 64;

/// A running machine monitor.
pub struct Monitor {
    child: Child,
    pidfd: OwnedFd,
    console: OwnedFd,
    words: VecDeque<u8>,
    cgroup: Option<Cgroup>,
}

impl Monitor {
    /// Starts QEMU with `agent` behind the virtio-serial port and `device` as virtio-fs back end.
    pub fn start(
        shape: &Microvm,
        agent: OwnedFd,
        device: OwnedFd,
        clock: Reading,
    ) -> Result<Self, Failure> {
        let open = |path: &PathBuf| File::open(path).map_err(|e| at(path.display(), e));
        let kernel: OwnedFd = open(&shape.kernel)?.into();
        let initramfs: OwnedFd = open(&shape.initramfs)?.into();
        let tap = shape.tap.as_deref().map(open_tap).transpose()?;
        let (console, output) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(internal)?;
        rustix::fs::fcntl_setfl(&console, rustix::fs::OFlags::NONBLOCK).map_err(internal)?;
        let errors = output.try_clone().map_err(internal)?;
        let cgroup = Cgroup::create(&shape.cgroup).map_err(caisson_launch::Error::into_failure)?;
        cgroup.apply(&limits(shape)).map_err(caisson_launch::Error::into_failure)?;
        let inherited: Vec<&OwnedFd> =
            [&agent, &device, &kernel, &initramfs].into_iter().chain(&tap).collect();
        let numbers: Vec<RawFd> = inherited.iter().map(|fd| fd.as_raw_fd()).collect();
        let ticks = (shape.accelerator == Accelerator::Emulation).then(|| clock.frequency());
        let mut command = Command::new(&shape.qemu);
        command
            .args(arguments(shape, &numbers, ticks))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(errors));
        let (uid, joins, kvm) = (shape.uid, cgroup.procs_files(), kvm_device(shape)?);
        // SAFETY: the supervisor has one thread, so the child may allocate; the closure touches only
        // descriptors and identities of the child.
        unsafe {
            command.pre_exec(move || confine(&numbers, &joins, uid, kvm));
        }
        let child = command.spawn().map_err(|e| at(shape.qemu.display(), e))?;
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
            .map_err(internal)?;
        Ok(Monitor { child, pidfd, console, words: VecDeque::new(), cgroup: Some(cgroup) })
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Readable once the monitor has ended.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Readable when the console has something.
    pub fn console(&self) -> BorrowedFd<'_> {
        self.console.as_fd()
    }

    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Takes in what the console and QEMU itself have said, the newest kept.
    pub fn read_console(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = rustix::io::read(&self.console, &mut buffer) {
            self.words.extend(&buffer[..count]);
            let excess = self.words.len().saturating_sub(CONSOLE);
            self.words.drain(..excess);
        }
    }

    /// The last lines of the console, in one line.
    pub fn last_words(&mut self) -> String {
        self.read_console();
        let bytes: Vec<u8> = self.words.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        match lines.len() {
            0 => "it said nothing".into(),
            count => lines[count.saturating_sub(4)..].join(" | "),
        }
    }

    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
    }

    /// Collects the ended process and its cgroup.
    pub fn collect(&mut self) {
        let _ = self.child.wait();
        if let Some(cgroup) = self.cgroup.take()
            && let Err(error) = cgroup.remove()
        {
            eprintln!("clean-up of the machine monitor: {}", error.into_failure().message);
        }
    }
}

/// What the monitor may use at most, whatever the guest makes it do: the guest's memory and CPUs and what
/// QEMU needs beside them. The container's own limits are applied in the guest.
fn limits(shape: &Microvm) -> oci::LinuxResources {
    let mut memory = oci::LinuxMemory::default();
    memory.set_limit(Some(i64::from(shape.memory_mib + CODE_CACHE + OVERHEAD) << 20));
    let mut cpu = oci::LinuxCpu::default();
    let period = 100_000;
    // A quarter of a CPU for devices.
    cpu.set_period(Some(period)).set_quota(Some((period * u64::from(shape.vcpus) * 5 / 4) as i64));
    let mut pids = oci::LinuxPids::default();
    pids.set_limit(i64::from(shape.vcpus + THREADS));
    let mut resources = oci::LinuxResources::default();
    resources.set_memory(Some(memory)).set_cpu(Some(cpu)).set_pids(Some(pids));
    resources
}

/// What the child does between fork and exec. Order matters: the death signal is cleared by a change
/// of user, and namespaces need the privilege that is then given up.
fn confine(
    inherited: &[RawFd],
    joins: &[PathBuf],
    uid: u32,
    kvm: Option<u64>,
) -> std::io::Result<()> {
    for file in joins {
        std::fs::write(file, "0")?;
    }
    for raw in inherited {
        // SAFETY: these are open descriptors of this process, kept open by the parent's copies.
        let fd = unsafe { BorrowedFd::borrow_raw(*raw) };
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    }
    let flags = libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNS;
    // SAFETY: numbers only; this process has one thread.
    check(unsafe { libc::unshare(flags) })?;
    devices(kvm, uid)?;
    // SAFETY: numbers, and an empty group list.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(uid, uid, uid))?;
        check(libc::setresuid(uid, uid, uid))?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
    }
    Ok(())
}

fn check(value: i32) -> std::io::Result<()> {
    if value < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// A /dev with only what QEMU opens, its own /dev/kvm included: the host's may be root's alone.
fn devices(kvm: Option<u64>, uid: u32) -> std::io::Result<()> {
    use rustix::fs::{CWD, FileType, Gid, Mode, Uid};
    use rustix::mount::{MountFlags, MountPropagationFlags};
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("dev", "/dev", "tmpfs", flags, c"mode=755,size=64k")?;
    let null = ("/dev/null", Some(rustix::fs::makedev(1, 3)));
    let random = ("/dev/urandom", Some(rustix::fs::makedev(1, 9)));
    for (path, device) in [null, random, ("/dev/kvm", kvm)] {
        let Some(device) = device else { continue };
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, mode, device)?;
        rustix::fs::chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?;
    }
    Ok(())
}

/// The device number of /dev/kvm, when it is to be used.
fn kvm_device(shape: &Microvm) -> Result<Option<u64>, Failure> {
    if shape.accelerator != Accelerator::Kvm {
        return Ok(None);
    }
    let stat = rustix::fs::stat("/dev/kvm").map_err(|e| at("/dev/kvm", e))?;
    Ok(Some(stat.st_rdev))
}

/// The kernel's command line. `ticks` is the frequency of an emulated time stamp counter, kHz.
fn kernel_arguments(ticks: Option<u64>) -> String {
    let counter = ticks.map(|khz| format!(" tsc_early_khz={khz}")).unwrap_or_default();
    format!("console=ttyS0 quiet panic=-1 reboot=t tsc=reliable{counter}")
}

/// QEMU's command line. `fds` are agent, file system, kernel, initramfs and perhaps the tap.
fn arguments(shape: &Microvm, fds: &[RawFd], ticks: Option<u64>) -> Vec<String> {
    let (accelerator, cpu) = match shape.accelerator {
        Accelerator::Kvm => ("kvm".to_string(), "host"),
        Accelerator::Emulation => (format!("tcg,thread=multi,tb-size={CODE_CACHE}"), "max"),
    };
    let memory = shape.memory_mib;
    let mut list: Vec<String> = Vec::new();
    let mut add = |name: &str, value: String| list.extend([format!("-{name}"), value]);
    add("machine", "microvm,acpi=off,memory-backend=memory".into());
    add("accel", accelerator);
    add("cpu", cpu.into());
    add("smp", shape.vcpus.to_string());
    add("m", format!("{memory}M"));
    add("object", format!("memory-backend-memfd,id=memory,size={memory}M,share=on"));
    add("kernel", format!("/proc/self/fd/{}", fds[2]));
    add("initrd", format!("/proc/self/fd/{}", fds[3]));
    add("append", kernel_arguments(ticks));
    add("serial", "stdio".into());
    add("chardev", format!("socket,id=agent,fd={}", fds[0]));
    add("device", "virtio-serial-device,max_ports=2".into());
    add("device", format!("virtserialport,chardev=agent,name={PORT}"));
    add("chardev", format!("socket,id=share,fd={}", fds[1]));
    add("device", format!("vhost-user-fs-device,chardev=share,tag={SHARE_TAG},queue-size=1024"));
    add("device", "virtio-rng-device".into());
    add("device", "virtio-balloon-device,free-page-reporting=on".into());
    if let Some(tap) = fds.get(4) {
        add("netdev", format!("tap,id=net,fd={tap}"));
        add("device", "virtio-net-device,netdev=net".into());
    }
    let sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
    add("sandbox", sandbox.into());
    let flags = ["-nodefaults", "-no-user-config", "-nographic", "-no-reboot"];
    list.extend(flags.map(String::from));
    list
}

/// Makes a tap interface that lasts as long as its descriptor.
fn open_tap(name: &str) -> Result<OwnedFd, Failure> {
    const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(|e| at("/dev/net/tun", e))?;
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(at(format!("tap name {name:?}"), std::io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
    // SAFETY: TUNSETIFF reads and writes the ifreq that is passed.
    check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) })
        .map_err(|e| at(format!("make tap {name}"), e))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_is_told_to_confine_itself() {
        let shape = Microvm {
            kernel: "/k".into(),
            initramfs: "/i".into(),
            qemu: "/q".into(),
            fsd_program: "/f".into(),
            accelerator: Accelerator::Emulation,
            memory_mib: 256,
            vcpus: 1,
            tap: None,
            uid: 1000,
            template_directory: None,
            cgroup: "caisson/vm".into(),
        };
        let text = arguments(&shape, &[10, 11, 12, 13], Some(2_600_000)).join(" ");
        assert!(text.contains(" tsc_early_khz=2600000 "));
        assert!(text.contains("-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny"));
        let limits = limits(&shape);
        assert_eq!(limits.memory().and_then(|m| m.limit()), Some((256 + 64 + 256) << 20));
        assert_eq!(limits.cpu().as_ref().and_then(|cpu| cpu.quota()), Some(125_000));
        assert!(text.contains("-nodefaults") && !text.contains("-netdev"));
        assert!(
            arguments(&shape, &[10, 11, 12, 13, 14], None).join(" ").contains("tap,id=net,fd=14")
        );
    }
}
