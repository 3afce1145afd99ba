//! A bundle with host paths becomes one with the guest's.

use std::path::PathBuf;

use caisson_bundle::{Bundle, oci};
use caisson_launch::SUBPATH;
use caisson_protocol::agent::SHARE;
use caisson_protocol::task::{Failure, FailureKind};

use super::Attachment;
use crate::failure::failure;

/// The guest's bundle, and what must be attached to the share for it.
pub fn bundle(bundle: &Bundle) -> Result<(Bundle, Vec<Attachment>), Failure> {
    let mut guest = bundle.clone();
    let mut attachments = vec![Attachment {
        source: bundle.rootfs.clone(),
        target: "rootfs".into(),
        recursive: true,
        ..Default::default()
    }];
    guest.rootfs = PathBuf::from(format!("{SHARE}/rootfs"));
    let mut mounts = bundle.spec.mounts().clone().unwrap_or_default();
    for (index, mount) in mounts.iter_mut().enumerate() {
        let mut options = mount.options().clone().unwrap_or_default();
        let has = |name: &str| options.iter().any(|option| option == name);
        if mount.typ().as_deref() != Some("bind") && !has("bind") && !has("rbind") {
            continue;
        }
        let Some(source) = mount.source().clone() else {
            let text = format!("the bind mount at {} has no source", mount.destination().display());
            return Err(failure(FailureKind::Invalid, text));
        };
        let target = format!("mounts/{index}");
        mount.set_source(Some(PathBuf::from(format!("{SHARE}/{target}"))));
        let subpath = options.iter().find_map(|option| option.strip_prefix(SUBPATH));
        attachments.push(Attachment {
            source,
            subpath: subpath.map(PathBuf::from),
            target,
            recursive: has("rbind"),
            read_only: has("ro") || has("rro"),
        });
        options.retain(|option| !option.starts_with(SUBPATH));
        mount.set_options(Some(options));
    }
    guest.spec.set_mounts(Some(mounts));
    if let Some(linux) = guest.spec.linux().clone() {
        guest.spec.set_linux(Some(in_guest(linux)?));
    }
    Ok((guest, attachments))
}

/// The guest's network is the container's own, and its cgroup tree is v2 and empty.
fn in_guest(mut linux: oci::Linux) -> Result<oci::Linux, Failure> {
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    namespaces.retain(|namespace| namespace.typ() != oci::LinuxNamespaceType::Network);
    if let Some(shared) = namespaces.iter().find(|namespace| namespace.path().is_some()) {
        let text = format!(
            "a hyperv container cannot share the host's {:?} namespace: use the process type",
            shared.typ()
        );
        return Err(failure(FailureKind::Invalid, text));
    }
    linux.set_namespaces(Some(namespaces));
    linux.set_cgroups_path(Some(PathBuf::from("/caisson")));
    Ok(linux)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_do_not_reach_the_guest() {
        let mount = oci::MountBuilder::default()
            .destination("/data")
            .typ("bind")
            .source("/srv/secret")
            .options(["rbind", "rro", "io.caisson.subpath=part"].map(String::from).to_vec())
            .build()
            .unwrap();
        let mut spec = oci::Spec::default();
        spec.set_mounts(Some(vec![mount]));
        let host = Bundle { id: "c".into(), rootfs: "/var/lib/x".into(), spec };
        let (guest, attachments) = bundle(&host).unwrap();
        let text = serde_json::to_string(&guest).unwrap();
        assert!(!text.contains("/srv/secret") && !text.contains("/var/lib/x"));
        let rootfs = Attachment {
            source: "/var/lib/x".into(),
            target: "rootfs".into(),
            recursive: true,
            ..Default::default()
        };
        let data = Attachment {
            source: "/srv/secret".into(),
            subpath: Some("part".into()),
            target: "mounts/0".into(),
            recursive: true,
            read_only: true,
        };
        assert_eq!(attachments, [rootfs, data]);
        assert!(!text.contains("part"));
    }
}
