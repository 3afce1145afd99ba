//! Three real images, made from Debian's packages and kept as docker archives: no registry is asked.
//!
//! An archive is kept under a key of its recipe (packages, files, settings) and of Debian's suite, so a
//! changed recipe makes a new one and an unchanged one costs nothing.

mod archive;
mod debian;
mod recipe;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{cache, setup};
use recipe::{RECIPES, Recipe, Root};

/// Makes the named images, or all; says where they are.
pub fn run(names: &[String]) -> Result<()> {
    let names: Vec<&str> = match names {
        [] => RECIPES.iter().map(|recipe| recipe.name).collect(),
        names => names.iter().map(String::as_str).collect(),
    };
    for name in names {
        let path = archive(name)?;
        let size = fs::metadata(&path)?.len() as f64 / 1e6;
        println!("{name:<10} {size:>6.1} MB  {}", path.display());
    }
    Ok(())
}

/// The archive of the image `name`, made if it is not there yet.
pub fn archive(name: &str) -> Result<PathBuf> {
    let Some(recipe) = RECIPES.iter().find(|recipe| recipe.name == name) else {
        let known: Vec<_> = RECIPES.iter().map(|recipe| recipe.name).collect();
        bail!("there is no recipe for an image {name:?}: there are {}", known.join(", "));
    };
    let suite = debian::suite()?;
    let directory = cache::directory("images")?;
    let path = directory.join(format!("{name}-{suite}-{}.tar", key(recipe)));
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    eprintln!("==> make the image {name} from Debian's packages");
    let begun = Instant::now();
    // Beside its place, so that the last step is a rename.
    let work = tempfile::Builder::new().prefix("making-").tempdir_in(&directory)?;
    let layer = work.path().join("layer.tar");
    match recipe.root {
        Root::Busybox => {
            setup::packages_for(&[setup::BUSYBOX])?;
            archive::busybox_layer(&layer)?;
        }
        Root::Debian { .. } => {
            setup::packages_for(&[setup::MMDEBSTRAP])?;
            debian::layer(recipe, &suite, work.path(), &layer)?;
        }
    }
    let fresh = work.path().join("image.tar");
    archive::write(recipe, &layer, &fresh)?;
    fs::rename(&fresh, &path).with_context(|| format!("rename to {}", path.display()))?;
    forget_others(&directory, name, &path)?;
    eprintln!("    make the image {name}: {:.1} s", begun.elapsed().as_secs_f64());
    Ok(path)
}

fn key(recipe: &Recipe) -> String {
    cache::digest(format!("{recipe:?}").as_bytes())[..16].to_string()
}

/// Removes archives that earlier recipes of the image made.
fn forget_others(directory: &Path, name: &str, keep: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        let is_archive = path.extension().is_some_and(|extension| extension == "tar");
        let of_image = entry.file_name().to_string_lossy().starts_with(&format!("{name}-"));
        if is_archive && of_image && path != keep {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_image_is_named_with_the_known_ones() {
        let error = archive("postgres").unwrap_err().to_string();
        assert!(
            error.contains("postgres") && error.contains("busybox, nginx, wordpress"),
            "{error}"
        );
    }

    #[test]
    fn a_changed_recipe_has_another_key() {
        let keys: Vec<_> = RECIPES.iter().map(key).collect();
        assert!(keys[0] != keys[1] && keys[1] != keys[2]);
        let mut changed = RECIPES[1].clone();
        changed.cmd = &["nginx"];
        assert_ne!(key(&changed), keys[1]);
    }

    #[test]
    fn only_older_archives_of_the_same_image_go() {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = place.path().join(name);
            fs::write(&path, "").unwrap();
            path
        };
        let (keep, old) = (file("nginx-bookworm-2.tar"), file("nginx-bookworm-1.tar"));
        let (other, no_archive) = (file("busybox-bookworm-1.tar"), file("nginx-notes"));
        forget_others(place.path(), "nginx", &keep).unwrap();
        assert!(keep.exists() && other.exists() && no_archive.exists() && !old.exists());
    }
}
