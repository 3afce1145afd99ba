//! Docker's default profile as data: an allow list, and what certain capabilities add to it.

use caisson_bundle::oci;
use oci::{LinuxSeccompAction as Action, LinuxSeccompOperator as Operator};

/// Calls that every container may make.
const ALLOWED: &str = "accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod \
    chown clock_adjtime clock_getres clock_gettime clock_nanosleep close close_range connect \
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait \
    epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat \
    faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl \
    fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex \
    futex_requeue futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid \
    geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom \
    getresgid getresuid getrlimit get_robust_list getrusage getsid getsockname getsockopt \
    get_thread_area gettid gettimeofday getuid getxattr inotify_add_watch inotify_init inotify_init1 \
    inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents ioprio_get ioprio_set \
    io_setup io_submit kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown \
    lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat madvise \
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock \
    mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink \
    mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep \
    newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free \
    pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pwrite64 \
    pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages \
    removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending \
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo \
    sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min \
    sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam \
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg \
    sendmsg sendto setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid \
    setresuid setreuid setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address \
    setuid setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair splice \
    stat statfs statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create \
    timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime \
    timerfd_settime times tkill truncate umask uname unlink unlinkat utime utimensat utimes vfork \
    vmsplice wait4 waitid write writev arch_prctl modify_ldt process_vm_readv process_vm_writev ptrace";

/// Calls that a capability (by number) adds.
const BY_CAPABILITY: [(u32, &str); 12] = [
    (2, "open_by_handle_at"),
    (
        21,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount \
         mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount2 unshare",
    ),
    (22, "reboot"),
    (18, "chroot"),
    (16, "delete_module init_module finit_module"),
    (20, "acct"),
    (19, "kcmp pidfd_getfd process_madvise"),
    (17, "iopl ioperm"),
    (25, "settimeofday clock_settime"),
    (26, "vhangup"),
    (23, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (38, "perf_event_open"),
];

/// Namespace flags of clone(2) that need CAP_SYS_ADMIN.
const NAMESPACES: u64 = 0x7e02_0000;
const SYS_ADMIN: u64 = 1 << 21;

/// The default profile for a container whose bounding set is the bit mask `capabilities`.
pub fn default_profile(capabilities: u64) -> oci::LinuxSeccomp {
    let mut calls = vec![call(ALLOWED, Action::ScmpActAllow, None, &[])];
    for (capability, names) in BY_CAPABILITY {
        if capabilities & (1 << capability) != 0 {
            calls.push(call(names, Action::ScmpActAllow, None, &[]));
        }
    }
    for persona in [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff] {
        let arg = (0, persona, None, Operator::ScmpCmpEq);
        calls.push(call("personality", Action::ScmpActAllow, None, &[arg]));
    }
    // AF_VSOCK (40) reaches the host's or the hypervisor's own services past every network namespace.
    for operator in [Operator::ScmpCmpLt, Operator::ScmpCmpGt] {
        calls.push(call("socket", Action::ScmpActAllow, None, &[(0, 40, None, operator)]));
    }
    if capabilities & SYS_ADMIN == 0 {
        let no_namespace = (0, NAMESPACES, Some(0), Operator::ScmpCmpMaskedEq);
        calls.push(call("clone", Action::ScmpActAllow, None, &[no_namespace]));
        // clone3's flags are behind a pointer: say that it does not exist, and libc falls back to clone.
        calls.push(call("clone3", Action::ScmpActErrno, Some(libc::ENOSYS as u32), &[]));
    }
    oci::LinuxSeccompBuilder::default()
        .default_action(Action::ScmpActErrno)
        .default_errno_ret(libc::EPERM as u32)
        .syscalls(calls)
        .build()
        .expect("a profile with a default action is complete")
}

type Condition = (usize, u64, Option<u64>, Operator);

fn call(
    names: &str,
    action: Action,
    errno: Option<u32>,
    conditions: &[Condition],
) -> oci::LinuxSyscall {
    let names: Vec<String> = names.split_whitespace().map(String::from).collect();
    let mut builder = oci::LinuxSyscallBuilder::default().names(names).action(action);
    if let Some(errno) = errno {
        builder = builder.errno_ret(errno);
    }
    let args: Vec<_> = conditions.iter().map(|condition| argument(*condition)).collect();
    if !args.is_empty() {
        builder = builder.args(args);
    }
    builder.build().expect("a rule with names and an action is complete")
}

fn argument((index, value, second, operator): Condition) -> oci::LinuxSeccompArg {
    let mut builder = oci::LinuxSeccompArgBuilder::default().index(index).value(value).op(operator);
    if let Some(second) = second {
        builder = builder.value_two(second);
    }
    builder.build().expect("an argument with index, value and operator is complete")
}
