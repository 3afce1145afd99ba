//! Images go: by name or id, with Docker's rules and words.
//!
//! What has a name or a child, or what a running container has, stays. A stopped container's image goes if
//! that is forced; its layers stay as long as the container does ([`Store::release`]).

use crate::error::{Doing, Error, Result};
use crate::reference::parse_reference;
use crate::store::{Names, Store, forget};

/// A container that has an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its id in short.
    pub container: String,
    pub running: bool,
}

/// What removing an image did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// This image lost this name.
    Untagged { image: String, name: String },
    /// This image is gone.
    Image(String),
    /// This layer is gone, with this many bytes.
    Layer(String, u64),
}

/// Why an image stays.
enum Obstacle {
    Child,
    Running(String),
    Names,
    Stopped(String),
}

impl Obstacle {
    /// Whether force does not help.
    fn hard(&self) -> bool {
        matches!(self, Obstacle::Child | Obstacle::Running(_))
    }

    fn used(&self) -> bool {
        matches!(self, Obstacle::Running(_) | Obstacle::Stopped(_))
    }

    fn error(&self, id: &str) -> Error {
        let force = if self.hard() { "cannot be forced" } else { "must be forced" };
        let why = match self {
            Obstacle::Child => "image has dependent child images".to_string(),
            Obstacle::Running(id) => format!("image is being used by running container {id}"),
            Obstacle::Names => "image is referenced in multiple repositories".to_string(),
            Obstacle::Stopped(id) => format!("image is being used by stopped container {id}"),
        };
        Error::Conflict(format!("conflict: unable to delete {} ({force}) - {why}", short(id)))
    }
}

/// One removal under way, with the names held.
struct Removal<'a> {
    store: &'a Store,
    names: &'a mut Names,
    users: &'a dyn Fn(&str) -> Option<User>,
    force: bool,
    removed: Vec<Removed>,
}

impl Store {
    /// Removes a name, and the image with its last name; with `prune` also the nameless images that it was
    /// made from. `users` tells a container that has an image, a running one first.
    pub fn remove(
        &self,
        name: &str,
        force: bool,
        prune: bool,
        users: &dyn Fn(&str) -> Option<User>,
    ) -> Result<Vec<Removed>> {
        let mut names = self.names();
        let image = self.get_with(&names, name)?;
        let reference = parse_reference(name).ok().filter(|name| image.names.contains(name));
        let mut removal =
            Removal { store: self, names: &mut names, users, force, removed: Vec::new() };
        match reference {
            Some(reference) => removal.by_name(name, &reference, &image.id, prune)?,
            None => removal.by_id(&image.id, prune)?,
        }
        let mut removed = removal.removed;
        drop(names);
        if removed.iter().any(|item| matches!(item, Removed::Image(_))) {
            let layers = self.sweep()?.into_iter();
            removed.extend(layers.map(|(digest, size)| Removed::Layer(digest, size)));
        }
        Ok(removed)
    }

    /// Removes what was kept of removed images for containers that are gone.
    pub fn release(&self, users: &dyn Fn(&str) -> Option<User>) -> Result<()> {
        let directory = self.root.join("configs");
        let what = || format!("list {}", directory.display());
        let mut released = false;
        {
            let _names = self.names();
            for entry in std::fs::read_dir(&directory).doing(what)? {
                let entry = entry.doing(what)?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let Some(hex) = name.strip_suffix(".held") else { continue };
                if users(&format!("sha256:{hex}")).is_none() {
                    forget(&entry.path())?;
                    released = true;
                }
            }
        }
        if released {
            self.sweep()?;
        }
        Ok(())
    }
}

impl Removal<'_> {
    fn by_name(&mut self, given: &str, reference: &str, id: &str, prune: bool) -> Result<()> {
        let only = self.names_of(id).len() == 1;
        if !self.force
            && only
            && let Some(user) = (self.users)(id)
        {
            return Err(Error::Conflict(format!(
                "conflict: unable to remove repository reference {given:?} (must force) - container {} is using its referenced image {}",
                user.container,
                short(id)
            )));
        }
        self.untag(id, reference)?;
        if only { self.image(id, prune, self.force, true) } else { Ok(()) }
    }

    fn by_id(&mut self, id: &str, prune: bool) -> Result<()> {
        let names = self.names_of(id);
        // The only name goes with the image.
        if names.len() <= 1 {
            let obstacle = self.obstacle(id, false).filter(|o| o.hard() || !self.force);
            if let Some(obstacle) = obstacle {
                return Err(obstacle.error(id));
            }
            for name in names {
                self.untag(id, &name)?;
            }
        }
        self.image(id, prune, self.force, false)
    }

    /// Removes an image; `quiet`: one that is to stay is no failure.
    fn image(&mut self, id: &str, prune: bool, force: bool, quiet: bool) -> Result<()> {
        if let Some(obstacle) = self.obstacle(id, true).filter(|o| o.hard() || !force) {
            let dangling = self.names_of(id).is_empty() && !self.has_child(id);
            return if quiet && (!dangling || obstacle.used()) {
                Ok(())
            } else {
                Err(obstacle.error(id))
            };
        }
        for name in self.names_of(id) {
            self.untag(id, &name)?;
        }
        let parent = self.store.get_with(self.names, id)?.parent;
        let config = self.store.config(&id[7..]);
        let what = || format!("remove {}", config.display());
        if (self.users)(id).is_some() {
            let held = self.store.config(&format!("{}.held", &id[7..]));
            std::fs::rename(&config, &held).doing(what)?;
        } else {
            std::fs::remove_file(&config).doing(what)?;
        }
        forget(&self.store.config(&format!("{}.parent", &id[7..])))?;
        self.removed.push(Removed::Image(id.to_string()));
        match parent.filter(|parent| prune && self.store.get_with(self.names, parent).is_ok()) {
            Some(parent) => self.image(&parent, true, false, true),
            None => Ok(()),
        }
    }

    fn untag(&mut self, id: &str, name: &str) -> Result<()> {
        let mut changed = self.names.clone();
        changed.remove(name);
        self.store.keep(self.names, changed)?;
        self.removed.push(Removed::Untagged { image: id.to_string(), name: name.to_string() });
        Ok(())
    }

    fn names_of(&self, id: &str) -> Vec<String> {
        self.names.iter().filter(|(_, to)| *to == id).map(|(name, _)| name.clone()).collect()
    }

    fn has_child(&self, id: &str) -> bool {
        self.store.list_with(self.names).iter().any(|image| image.parent.as_deref() == Some(id))
    }

    /// Why an image stays; `names`: they are a reason.
    fn obstacle(&self, id: &str, names: bool) -> Option<Obstacle> {
        if self.has_child(id) {
            return Some(Obstacle::Child);
        }
        match (self.users)(id) {
            Some(User { container, running: true }) => Some(Obstacle::Running(container)),
            _ if names && !self.names_of(id).is_empty() => Some(Obstacle::Names),
            Some(user) => Some(Obstacle::Stopped(user.container)),
            None => None,
        }
    }
}

fn short(id: &str) -> &str {
    &id[7..19]
}
