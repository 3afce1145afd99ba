//! The API's versions: `/v1.43/...`, or no version for the newest.

use crate::reply::{Failure, Result};

/// The minor number of a version 1.x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    pub const OLDEST: Version = Version(24);
    pub const NEWEST: Version = Version(51);

    /// From this version on, streams that are multiplexed say so in their content type.
    pub const SAYS_MULTIPLEXED: Version = Version(42);
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// Takes the version off a decoded path's segments.
pub fn split(segments: &mut Vec<String>) -> Result<Version> {
    let Some(text) = segments.first().and_then(|first| first.strip_prefix('v')) else {
        return Ok(Version::NEWEST);
    };
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Ok(Version::NEWEST);
    }
    let version = check(text)?;
    segments.remove(0);
    Ok(version)
}

fn check(text: &str) -> Result<Version> {
    let mut numbers = text.split('.').map(|part| part.parse::<u32>().unwrap_or(u32::MAX));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (oldest, newest) = (Version::OLDEST, Version::NEWEST);
    if (major, minor) < (1, oldest.0) {
        return Err(Failure::invalid(format!(
            "client version {text} is too old. Minimum supported API version is {oldest}, please upgrade your client to a newer version"
        )));
    }
    if (major, minor) > (1, newest.0) {
        return Err(Failure::invalid(format!(
            "client version {text} is too new. Maximum supported API version is {newest}"
        )));
    }
    Ok(Version(minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> (Result<Version>, Vec<String>) {
        let mut segments = path.split('/').map(String::from).collect();
        (split(&mut segments), segments)
    }

    #[test]
    fn versions_are_taken_off() {
        let (version, rest) = of("v1.24/containers/json");
        assert_eq!((version.unwrap(), rest.join("/")), (Version(24), "containers/json".into()));
        assert_eq!(of("v1.51/info").0.unwrap(), Version(51));
        let (version, rest) = of("volumes/v1.24");
        assert_eq!((version.unwrap(), rest.join("/")), (Version::NEWEST, "volumes/v1.24".into()));
    }

    #[test]
    fn others_are_refused_in_dockers_words() {
        assert_eq!(
            of("v1.23/info").0.unwrap_err().message,
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
        assert_eq!(
            of("v1.52/info").0.unwrap_err().message,
            "client version 1.52 is too new. Maximum supported API version is 1.51"
        );
        for path in ["v2/info", "v1.999999999999/info", "v99.1/info"] {
            assert!(of(path).0.unwrap_err().message.contains("too new"), "{path}");
        }
        assert!(of("v1/info").0.unwrap_err().message.contains("too old"));
    }
}
