//! `GET /system/df`, and giving back what containers that do not run take.

use std::collections::{BTreeMap, HashMap};

use caisson_api::filters::Filters;

use crate::error::{Error, Kind, Result};
use crate::record::Status;
use crate::remove::RemoveOptions;
use crate::{Engine, ListOptions, Record, blocking, wire};

impl Engine {
    /// What images, containers and volumes take.
    pub async fn disk_usage(&self) -> Result<wire::SystemDataUsageResponse> {
        let engine = self.clone();
        blocking(move || engine.disk_usage_now()).await
    }

    fn disk_usage_now(&self) -> Result<wire::SystemDataUsageResponse> {
        let layers =
            Layers::of(self.0.images.list().into_iter().map(|image| (image.id, image.layers)));
        let size = |digest: &str| self.0.images.layer_size(digest);
        let mut images = self.image_list_now(&Filters::default())?;
        for image in &mut images {
            image.shared_size = signed(layers.shared(&image.id, size));
        }
        let options = ListOptions { all: true, size: true, ..ListOptions::default() };
        Ok(wire::SystemDataUsageResponse {
            layers_size: Some(signed(layers.users.keys().map(|digest| size(digest)).sum())),
            images: Some(images),
            containers: Some(self.list_now(&options)?),
            volumes: Some(self.volumes_usage()?),
            build_cache: Some(Vec::new()),
        })
    }

    /// Removes the containers that do not run.
    pub async fn containers_prune(
        &self,
        filters: &Filters,
    ) -> Result<wire::ContainerPruneResponse> {
        filters.check(&["label", "label!", "until"])?;
        let until = filters.until(crate::now())?;
        let (mut removed, mut bytes) = (Vec::new(), 0_i64);
        for container in self.0.containers.all() {
            let record = container.record();
            if !idle(&record)
                || !filters.labels(record.config.labels.as_ref())
                || until.is_some_and(|until| record.created > until)
            {
                continue;
            }
            let (engine, subject) = (self.clone(), container.clone());
            let (size, _) = blocking(move || engine.sizes(&subject, &record)).await;
            match self.remove(&container.id, RemoveOptions::default()).await {
                Ok(()) => {
                    bytes = bytes.saturating_add(size);
                    removed.push(container.id.clone());
                }
                // Started or removed meanwhile.
                Err(Error { kind: Kind::Conflict | Kind::NotFound, .. }) => {}
                Err(error) => tracing::warn!("container {} is not pruned: {error}", container.id),
            }
        }
        let attributes = HashMap::from([("reclaimed".to_string(), bytes.to_string())]);
        self.0.events.tell(wire::EventMessageTypeEnum::CONTAINER, "prune", "", attributes);
        Ok(wire::ContainerPruneResponse {
            containers_deleted: Some(removed),
            space_reclaimed: Some(bytes),
        })
    }
}

/// Whether a container is one that pruning takes.
fn idle(record: &Record) -> bool {
    matches!(record.state.status, Status::Created | Status::Exited | Status::Dead)
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The layers of all images.
struct Layers {
    of: BTreeMap<String, Vec<String>>,
    /// How many images have a layer.
    users: BTreeMap<String, usize>,
}

impl Layers {
    fn of(images: impl Iterator<Item = (String, Vec<String>)>) -> Self {
        let (mut of, mut users) = (BTreeMap::new(), BTreeMap::new());
        for (id, mut layers) in images {
            layers.sort();
            layers.dedup();
            for layer in &layers {
                *users.entry(layer.clone()).or_default() += 1;
            }
            of.insert(id, layers);
        }
        Layers { of, users }
    }

    /// Bytes of an image that others have too.
    fn shared(&self, image: &str, size: impl Fn(&str) -> u64) -> u64 {
        let layers = self.of.get(image).into_iter().flatten();
        layers.filter(|layer| self.users[*layer] > 1).map(|layer| size(layer)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::tests::record;

    #[test]
    fn layers_that_two_images_have_are_shared() {
        let image = |id: &str, layers: &[&str]| {
            (id.to_string(), layers.iter().map(|layer| layer.to_string()).collect())
        };
        let images = [image("a", &["1", "2", "2"]), image("b", &["1", "3"]), image("c", &["4"])];
        let layers = Layers::of(images.into_iter());
        let size = |layer: &str| 10 * layer.parse::<u64>().unwrap();
        assert_eq!(layers.shared("a", size), 10);
        assert_eq!(layers.shared("b", size), 10);
        assert_eq!(layers.shared("c", size), 0);
        assert_eq!(layers.users.keys().map(|layer| size(layer)).sum::<u64>(), 100);
    }

    #[test]
    fn what_runs_or_is_about_to_is_not_pruned() {
        let mut one = record('a', "web", 1);
        for (status, expected) in [
            (Status::Created, true),
            (Status::Exited, true),
            (Status::Running, false),
            (Status::Starting, false),
            (Status::Restarting, false),
            (Status::Removing, false),
        ] {
            one.state.status = status;
            assert_eq!(idle(&one), expected, "{status:?}");
        }
    }
}
