//! Who a process is: Docker's user string against the container's own /etc/passwd and /etc/group.

use std::io::Read;
use std::os::fd::AsFd;

use caisson_beneath::open_in_root;
use caisson_protocol::task::FailureKind;
use rustix::fs::OFlags;

use crate::error::Error;

/// Most bytes read of an image's account file.
const MAX_FILE: u64 = 4 << 20;

/// A resolved user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
    /// Home directory, `/` when the user is not listed.
    pub home: String,
}

/// Resolves `user[:group]` (names or numbers, empty is root) below `root`.
///
/// # Errors
/// [`FailureKind::Invalid`] with Docker's words for a name that the image does not know.
pub fn resolve(root: impl AsFd, user: &str) -> Result<Identity, Error> {
    let passwd = read(&root, "/etc/passwd");
    let group = read(&root, "/etc/group");
    resolve_in(&passwd, &group, user)
}

fn read(root: impl AsFd, path: &str) -> String {
    let mut text = Vec::new();
    if let Ok(fd) = open_in_root(root, path, OFlags::RDONLY | OFlags::NONBLOCK)
        && std::fs::File::from(fd).take(MAX_FILE).read_to_end(&mut text).is_err()
    {
        text.clear();
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn resolve_in(passwd: &str, group: &str, user: &str) -> Result<Identity, Error> {
    let (name, wanted_group) = user.split_once(':').unwrap_or((user, ""));
    let name = if name.is_empty() { "0" } else { name };
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.len() >= 6 && (fields[0] == name || (number(name).is_some() && fields[2] == name))
    });
    let mut identity = Identity { home: "/".into(), ..Identity::default() };
    let mut login = "";
    match (&entry, number(name)) {
        (Some(fields), _) => {
            let bad = || Error::new(FailureKind::Invalid, format!("bad passwd entry of {name}"));
            identity.uid = number(fields[2]).ok_or_else(bad)?;
            identity.gid = number(fields[3]).ok_or_else(bad)?;
            identity.home = fields[5].into();
            login = fields[0];
        }
        (None, Some(uid)) => identity.uid = uid,
        (None, None) => {
            let text = format!("unable to find user {name}: no matching entries in passwd file");
            return Err(Error::new(FailureKind::Invalid, text));
        }
    }
    if !wanted_group.is_empty() {
        identity.gid = group_id(group, wanted_group)?;
    } else if !login.is_empty() {
        identity.groups = member_of(group, login);
    }
    Ok(identity)
}

/// Resolves a group name or number below `root`, for `--group-add`.
pub fn resolve_group(root: impl AsFd, name: &str) -> Result<u32, Error> {
    group_id(&read(root, "/etc/group"), name)
}

fn group_id(group: &str, name: &str) -> Result<u32, Error> {
    let listed = group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 3 && fields[0] == name)
        .and_then(|fields| number(fields[2]));
    listed.or_else(|| number(name)).ok_or_else(|| {
        let text = format!("unable to find group {name}: no matching entries in group file");
        Error::new(FailureKind::Invalid, text)
    })
}

fn member_of(group: &str, login: &str) -> Vec<u32> {
    let fields = group.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields
        .filter(|f| f.len() >= 4 && f[3].split(',').any(|member| member == login))
        .filter_map(|f| number(f[2]))
        .collect()
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlog:x:4:syslog,web\n";

    #[test]
    fn names_numbers_and_groups_resolve() {
        let web = resolve_in(PASSWD, GROUP, "web").unwrap();
        assert_eq!((web.uid, web.gid, web.home.as_str()), (33, 34, "/var/www"));
        assert_eq!(web.groups, [4]);
        assert_eq!(resolve_in(PASSWD, GROUP, "33").unwrap(), web);
        let other = resolve_in(PASSWD, GROUP, "1000:log").unwrap();
        assert_eq!((other.uid, other.gid, other.home.as_str()), (1000, 4, "/"));
        assert_eq!(resolve_in(PASSWD, GROUP, "").unwrap().home, "/root");
    }

    #[test]
    fn an_unknown_name_is_named() {
        let error = resolve_in(PASSWD, GROUP, "nobody").unwrap_err();
        assert!(error.to_string().contains("unable to find user nobody"));
        assert!(resolve_in(PASSWD, GROUP, "web:none").is_err());
    }
}
