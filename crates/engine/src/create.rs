//! A container is created.

use crate::{Engine, Result, pending, wire};

impl Engine {
    pub async fn create(
        &self,
        name: Option<String>,
        body: wire::ContainerCreateBody,
    ) -> Result<wire::ContainerCreateResponse> {
        let _ = (name, body);
        pending()
    }
}

/// Refuses what is no container's name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let mut bytes = name.bytes();
    if bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.len() > 1
        && bytes.all(allowed)
    {
        return Ok(());
    }
    Err(crate::Error::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}
