//! Being told when files of a directory change: one inotify instance for all who follow logs, of which the
//! kernel gives each user only some.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::error::{Doing, Result};

/// The directories that are watched.
#[derive(Default)]
pub(crate) struct Watches(Mutex<Option<Arc<Instance>>>);

struct Instance {
    descriptor: AsyncFd<OwnedFd>,
    /// By watch descriptor. A directory has one, however many watch it.
    watched: Mutex<HashMap<i32, watch::Sender<()>>>,
}

/// Is told of changes in one directory.
pub(super) struct Watch {
    instance: Arc<Instance>,
    descriptor: i32,
    changes: watch::Receiver<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watches {
    /// Watches the files of a directory from now on.
    pub(super) fn watch(&self, directory: &Path) -> Result<Watch> {
        let instance = self.instance()?;
        let what = || {
            format!(
                "watch {} (the limit is in /proc/sys/fs/inotify/max_user_watches)",
                directory.display()
            )
        };
        let flags =
            WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        // Held so that nobody ends the same watch in between.
        let mut watched = lock(&instance.watched);
        let added = inotify::add_watch(instance.descriptor.get_ref(), directory, flags);
        let descriptor = added.doing(what)?;
        let sender = watched.entry(descriptor).or_insert_with(|| watch::channel(()).0);
        let changes = sender.subscribe();
        drop(watched);
        Ok(Watch { instance, descriptor, changes })
    }

    fn instance(&self) -> Result<Arc<Instance>> {
        let mut slot = lock(&self.0);
        if let Some(instance) = &*slot {
            return Ok(instance.clone());
        }
        let what = || {
            "watch for changes (the limit is in /proc/sys/fs/inotify/max_user_instances)"
                .to_string()
        };
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).doing(what)?;
        // SAFETY: an `OwnedFd` always gives the same descriptor, which is open as long as it lives.
        let descriptor = unsafe { AsyncFd::register(fd) }.doing(what)?;
        let instance = Arc::new(Instance { descriptor, watched: Mutex::default() });
        tokio::spawn(instance.clone().run());
        *slot = Some(instance.clone());
        Ok(instance)
    }
}

impl Instance {
    /// Passes on what the kernel tells.
    async fn run(self: Arc<Self>) {
        loop {
            let mut ready = match self.descriptor.readable().await {
                Ok(ready) => ready,
                // The runtime ends.
                Err(_) => return,
            };
            let _ = ready.try_io(|descriptor| self.read(descriptor.get_ref()));
        }
    }

    /// Reads until there is no more, which is an error.
    fn read(&self, descriptor: &OwnedFd) -> std::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); 8 << 10];
        let mut reader = inotify::Reader::new(descriptor, &mut space);
        loop {
            let wd = reader.next()?.wd();
            let watched = lock(&self.watched);
            match watched.get(&wd) {
                Some(sender) => sender.send_replace(()),
                // The queue ran over: whose events are lost is not known.
                None if wd < 0 => watched.values().for_each(|sender| sender.send_replace(())),
                None => {}
            }
        }
    }
}

impl Watch {
    /// Forgets the changes until now.
    pub fn seen(&mut self) {
        self.changes.mark_unchanged();
    }

    /// Waits for a change since [`Watch::seen`].
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // Nobody tells any more, which only the end of the runtime does.
            std::future::pending().await
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = lock(&self.instance.watched);
        // This one is still counted.
        if watched.get(&self.descriptor).is_some_and(|sender| sender.receiver_count() <= 1) {
            watched.remove(&self.descriptor);
            // The directory may be gone, and its watch with it.
            let _ = inotify::remove_watch(self.instance.descriptor.get_ref(), self.descriptor);
        }
    }
}
