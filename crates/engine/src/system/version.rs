//! `GET /version`.

use super::facts;
use crate::{Engine, Result, wire};

/// This engine's own version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The newest version of Docker's API that is served, and the oldest.
const API: &str = "1.51";
const OLDEST_API: &str = "1.24";

/// The processor in Go's words.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Engine {
    /// What this engine is.
    pub async fn version(&self) -> Result<wire::SystemVersion> {
        // Set by whoever builds a release.
        let commit = option_env!("CAISSON_COMMIT").unwrap_or_default();
        let built = option_env!("CAISSON_BUILD_TIME").unwrap_or_default();
        let kernel = facts::kernel();
        let details = [
            ("ApiVersion", API),
            ("MinAPIVersion", OLDEST_API),
            ("Arch", architecture()),
            ("Os", "linux"),
            ("KernelVersion", &kernel),
            ("GitCommit", commit),
            ("BuildTime", built),
            ("GoVersion", ""),
            ("Experimental", "false"),
        ];
        let details = details.map(|(name, value)| (name.to_string(), value.to_string()));
        Ok(wire::SystemVersion {
            platform: Some(wire::SystemVersionPlatform { name: "Caisson".into() }),
            components: Some(vec![wire::SystemVersionComponents {
                name: "Engine".into(),
                version: VERSION.into(),
                details: Some(details.into()),
            }]),
            version: Some(VERSION.into()),
            api_version: Some(API.into()),
            min_api_version: Some(OLDEST_API.into()),
            git_commit: Some(commit.into()),
            go_version: Some(String::new()),
            os: Some("linux".into()),
            arch: Some(architecture().into()),
            kernel_version: Some(kernel),
            experimental: None,
            build_time: Some(built.into()),
        })
    }
}
