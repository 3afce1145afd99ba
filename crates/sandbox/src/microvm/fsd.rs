//! The share: a server process with a mount namespace of its own, into which host directories are attached.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use caisson_protocol::task::Failure;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::MoveMountFlags;

use super::{Attachment, at};

/// The share of one microVM.
pub struct Share {
    server: Child,
}

impl Share {
    /// Starts the server; returns the socket that the machine monitor uses as the device's back end.
    pub fn serve(program: &Path, directory: &Path) -> Result<(Self, OwnedFd), Failure> {
        let share = directory.join("share");
        std::fs::create_dir_all(&share).map_err(|e| at(share.display(), e))?;
        let path = directory.join("fsd.sock");
        let listener = UnixListener::bind(&path).map_err(|e| at(path.display(), e))?;
        let device = UnixStream::connect(&path).map_err(|e| at(path.display(), e))?;
        std::fs::remove_file(&path).map_err(|e| at(path.display(), e))?;
        let server = Command::new(program)
            .arg(&share)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| at(program.display(), e))?;
        Ok((Share { server }, device.into()))
    }

    /// Attaches a host file or directory to the share.
    pub fn attach(&self, attachment: &Attachment) -> Result<(), Failure> {
        let Attachment { source, subpath, target, recursive, read_only } = attachment;
        let tree = caisson_launch::source_tree(source, subpath.as_deref(), *recursive)
            .map_err(|e| at(source.display(), e))?;
        if *read_only {
            caisson_launch::make_read_only(tree.as_fd(), *recursive)
                .map_err(|e| at(source.display(), e))?;
        }
        let stat = rustix::fs::fstat(&tree).map_err(|e| at(source.display(), e))?;
        let directory = FileType::from_raw_mode(stat.st_mode).is_dir();
        let path = format!("/proc/{}/ns/mnt", self.server.id());
        let namespace = File::open(&path).map_err(|e| at(path, e))?;
        // Only a thread that shares nothing of its file system state may enter a mount namespace.
        std::thread::scope(|scope| {
            let placed = scope.spawn(|| place(&namespace, &tree, target, directory)).join();
            placed.unwrap_or_else(|_| Err(std::io::Error::other("the helper thread failed")))
        })
        .map_err(|e| at(format!("attach {} to the share", source.display()), e))
    }

    /// Ends the server; its mounts go with its namespace.
    pub fn end(&mut self) {
        // It may have ended with its client.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn place(namespace: &File, tree: &OwnedFd, target: &str, directory: bool) -> std::io::Result<()> {
    // SAFETY: CLONE_FS makes only this thread's root and working directory its own.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }?;
    caisson_launch::enter_mount_namespace(namespace.as_fd())?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if let Some((parent, _)) = target.split_once('/') {
        match rustix::fs::mkdirat(&root, parent, Mode::from_raw_mode(0o755)) {
            Err(error) if error != rustix::io::Errno::EXIST => return Err(error.into()),
            _ => {}
        }
    }
    if directory {
        rustix::fs::mkdirat(&root, target, Mode::from_raw_mode(0o755))?;
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(&root, target, flags, Mode::from_raw_mode(0o644))?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", &root, target, flags)?;
    Ok(())
}
