//! Docker's rules of where a copy goes.

use std::path::Path;

use crate::failure::{Failure, Result};

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
pub enum Side<'a> {
    Container(&'a str, &'a str),
    Local(&'a str),
}

impl<'a> Side<'a> {
    /// `CONTAINER:PATH`, unless it begins like a local path.
    pub fn of(text: &'a str) -> Self {
        match text.split_once(':') {
            Some((name, path)) if !text.starts_with('/') && !name.starts_with('.') => {
                Self::Container(name, path)
            }
            _ => Self::Local(text),
        }
    }
}

/// What is copied.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name in the destination; nothing if only what is in it is copied.
    name: Option<String>,
    is_directory: bool,
}

impl Source {
    pub fn new(path: &str, is_directory: bool) -> Self {
        let path = path.strip_prefix("./").unwrap_or(path);
        let name = match split(path).1 {
            "." | "" | "/" | ".." => None,
            name => Some(name.to_string()),
        };
        // A colon ends a container's name, not a file's.
        let name = name.map(|name| match name.rsplit_once(':') {
            Some((_, name)) if !path.contains('/') => name.to_string(),
            _ => name,
        });
        Self { name, is_directory }
    }
}

/// Where it is copied to.
#[derive(Debug)]
pub struct Destination {
    pub path: String,
    pub exists: bool,
    pub is_directory: bool,
}

impl Destination {
    /// On this machine, links followed.
    pub fn local(path: &str) -> Result<Self> {
        let path = if path.is_empty() { "." } else { path };
        let found = match std::fs::metadata(path) {
            Ok(metadata) => Some(metadata.is_dir()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::io(format!("look at {path}"))(error)),
        };
        let parent = split(path).0;
        if found.is_none() && !Path::new(parent).is_dir() {
            let text = format!("invalid output path: directory {parent:?} does not exist");
            return Err(Failure::words(text));
        }
        let path = resolved(path, found.is_some())?;
        Ok(Self { path, exists: found.is_some(), is_directory: found == Some(true) })
    }
}

/// An existing file behind links: it is written where it is.
fn resolved(path: &str, exists: bool) -> Result<String> {
    if !exists {
        return Ok(path.to_string());
    }
    let real = std::fs::canonicalize(path).map_err(Failure::io(format!("look at {path}")))?;
    real.into_os_string()
        .into_string()
        .map_err(|path| Failure::words(format!("the path {path:?} is not UTF-8")))
}

/// The directory that it is unpacked in, and the name that the copy gets there; without a name it is the
/// contents that go there.
pub fn place(source: &Source, to: &Destination) -> Result<(String, Option<String>)> {
    let asserts_directory = to.path.ends_with('/') || to.path.ends_with("/.");
    if to.is_directory {
        return Ok((to.path.clone(), source.name.clone()));
    }
    if to.exists && source.is_directory {
        return Err(Failure::words("cannot copy directory"));
    }
    if asserts_directory && !source.is_directory {
        return Err(Failure::words("no such directory"));
    }
    let (directory, name) = split(&to.path);
    Ok((directory.to_string(), Some(name.to_string())))
}

/// Directory and last name; `.` at the end is a name.
pub fn split(path: &str) -> (&str, &str) {
    let whole = path.trim_end_matches('/');
    match whole.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((directory, name)) => (directory, name),
        None if whole.is_empty() && path.starts_with('/') => ("/", "/"),
        None => (".", whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart() {
        assert_eq!(Side::of("web:/a:b"), Side::Container("web", "/a:b"));
        assert_eq!(Side::of("web:a"), Side::Container("web", "a"));
        for local in ["/a:b", "./a:b", "../a:b", "a", "-", ""] {
            assert_eq!(Side::of(local), Side::Local(local));
        }
    }

    #[test]
    fn paths_are_split() {
        assert_eq!(split("/a/b"), ("/a", "b"));
        assert_eq!(split("/a"), ("/", "a"));
        assert_eq!(split("a"), (".", "a"));
        assert_eq!(split("/a/b/"), ("/a", "b"));
        assert_eq!(split("/a/."), ("/a", "."));
        assert_eq!(split("/"), ("/", "/"));
    }

    fn placed(source: (&str, bool), to: (&str, bool, bool)) -> Result<(String, Option<String>)> {
        let (path, exists, is_directory) = to;
        let to = Destination { path: path.into(), exists, is_directory };
        place(&Source::new(source.0, source.1), &to)
    }

    #[test]
    fn dockers_rules() {
        const FILE: (&str, bool) = ("/s/f", false);
        const FOLDER: (&str, bool) = ("/s/d/", true);
        const CONTENTS: (&str, bool) = ("/s/d/.", true);
        let cases = [
            // A directory takes it as a child.
            (FILE, ("/t", true, true), "/t", Some("f")),
            (FOLDER, ("/t/", true, true), "/t/", Some("d")),
            (CONTENTS, ("/t", true, true), "/t", None),
            (("/", true), ("/t", true, true), "/t", None),
            // A file is overwritten.
            (FILE, ("/t/x", true, false), "/t", Some("x")),
            // What does not exist gets the new name.
            (FILE, ("/t/x", false, false), "/t", Some("x")),
            (FOLDER, ("/t/x", false, false), "/t", Some("x")),
            (FOLDER, ("/t/x/", false, false), "/t", Some("x")),
            (CONTENTS, ("/t/x", false, false), "/t", Some("x")),
            (("f", false), ("x", false, false), ".", Some("x")),
        ];
        for (source, to, directory, name) in cases {
            let expected = (directory.to_string(), name.map(String::from));
            assert_eq!(placed(source, to).unwrap(), expected, "{source:?} {to:?}");
        }
        let error = placed(FOLDER, ("/t/x", true, false)).unwrap_err().sentence();
        assert_eq!(error, "cannot copy directory");
        let error = placed(FILE, ("/t/x/", false, false)).unwrap_err().sentence();
        assert_eq!(error, "no such directory");
    }

    #[test]
    fn a_name_after_the_containers_is_the_files() {
        assert_eq!(Source::new("web:f", false).name.as_deref(), Some("f"));
        assert_eq!(Source::new("/a/b:c", false).name.as_deref(), Some("b:c"));
    }
}
