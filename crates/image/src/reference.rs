//! Image names: Docker's familiar form.

use crate::error::{Error, Result};

/// The name with its tag and without Docker Hub's implied prefixes: `busybox` is `busybox:latest`,
/// `docker.io/library/busybox:1` is `busybox:1`.
///
/// # Errors
/// [`Error::Invalid`] with Docker's words.
pub fn parse_reference(name: &str) -> Result<String> {
    let invalid = || Error::Invalid(format!("invalid reference format: {name:?}"));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (name, "latest"),
    };
    let path = path.strip_prefix("docker.io/").unwrap_or(path);
    let path = path.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(path);
    let tag_ok = (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if path.is_empty()
        || path.len() > 255
        || !tag_ok
        || !path.split('/').enumerate().all(component)
        || (path.contains(':') && !path.contains('/'))
    {
        return Err(invalid());
    }
    let hexadecimal = path.len() == 64 && path.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hexadecimal { Err(invalid()) } else { Ok(format!("{path}:{tag}")) }
}

/// One component of the path; the first may be a registry with a port.
fn component((index, text): (usize, &str)) -> bool {
    let registry = index == 0 && (text.contains('.') || text.contains(':') || text == "localhost");
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || b"._-".contains(&byte)
            || (registry && (byte == b':' || byte.is_ascii_uppercase()))
    };
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    edge(text.bytes().next()) && edge(text.bytes().last()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_the_familiar_form() {
        for (given, familiar) in [
            ("busybox", "busybox:latest"),
            ("docker.io/library/busybox:1.36", "busybox:1.36"),
            ("library/busybox", "busybox:latest"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("me/app:v1", "me/app:v1"),
        ] {
            assert_eq!(parse_reference(given).unwrap(), familiar);
        }
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["", "Busybox", "a//b", "../x", "a:", "a:b:c", "a b", "-a", "a:.x"] {
            let error = parse_reference(name).unwrap_err().to_string();
            assert!(error.starts_with("invalid reference format"), "{name}: {error}");
        }
        assert!(parse_reference(&"a".repeat(64)).is_err());
    }
}
