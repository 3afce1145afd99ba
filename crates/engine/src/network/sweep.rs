//! What daemons left on the host whose data root has since been removed: their bridges, which would keep
//! their subnets for ever, and their tables.
//!
//! Each bridge says whose it is: its alias names the data root. One that still has a port, or whose data
//! root has a record of networks, is left alone.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use caisson_net::{Firewall, remove_bridge, set_alias};

use super::open::table;
use crate::error::chain;
use crate::{Engine, blocking};

const INTERFACES: &str = "/sys/class/net";
/// In front of the data root, in a bridge's alias.
const OWNER: &[u8] = b"caisson ";

/// Writes on a bridge whose it is.
pub(super) async fn mark(bridge: &str, data_root: &Path) {
    let alias = [OWNER, data_root.as_os_str().as_bytes()].concat();
    // The alias is for those who clean up: without one the bridge works.
    let Ok(alias) = String::from_utf8(alias) else { return };
    if let Err(error) = set_alias(bridge, &alias).await {
        tracing::debug!("{}", chain(&error));
    }
}

impl Engine {
    /// Removes what is nobody's any more.
    pub(super) async fn networks_sweep(&self) {
        let left = blocking(|| abandoned(Path::new(INTERFACES))).await;
        for (bridge, data_root) in left {
            tracing::info!("removing {bridge}: {} is gone", data_root.display());
            let removed = match remove_bridge(&bridge).await {
                Ok(()) => Firewall::new(&table(data_root.as_os_str().as_bytes())).remove().await,
                failed => failed,
            };
            if let Err(error) = removed {
                tracing::warn!("{}", chain(&error));
            }
        }
    }
}

/// Bridges without ports whose data root is gone, and that data root.
fn abandoned(interfaces: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(interfaces) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let ours = names.filter(|name| name.starts_with("csb"));
    let left = ours.filter_map(|name| {
        let place = interfaces.join(&name);
        let data_root = owner(&std::fs::read(place.join("ifalias")).ok()?)?;
        let ports = std::fs::read_dir(place.join("brif")).ok()?.next().is_some();
        let known = data_root.join("networks.json").try_exists();
        (!ports && matches!(known, Ok(false))).then_some((name, data_root))
    });
    left.collect()
}

fn owner(alias: &[u8]) -> Option<PathBuf> {
    let path = alias.trim_ascii_end().strip_prefix(OWNER)?.to_vec();
    Some(PathBuf::from(std::ffi::OsString::from_vec(path))).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_nobodys_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let interface = |name: &str, alias: &str, ports: &[&str]| {
            let place = root.join("net").join(name);
            std::fs::create_dir_all(place.join("brif")).unwrap();
            std::fs::write(place.join("ifalias"), format!("{alias}\n")).unwrap();
            for port in ports {
                std::fs::write(place.join("brif").join(port), "").unwrap();
            }
        };
        let alias = |name: &str| format!("caisson {}", root.join(name).display());
        std::fs::create_dir(root.join("kept")).unwrap();
        std::fs::write(root.join("kept/networks.json"), "[]").unwrap();
        interface("csb1", &alias("gone"), &[]);
        interface("csb2", &alias("gone"), &["csv1"]);
        interface("csb3", &alias("kept"), &[]);
        interface("csb4", "", &[]);
        interface("csb5", "caisson relative", &[]);
        interface("br0", &alias("gone"), &[]);
        assert_eq!(abandoned(&root.join("net")), [("csb1".into(), root.join("gone"))]);
    }
}
