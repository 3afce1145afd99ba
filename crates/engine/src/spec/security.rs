//! `--security-opt`: the system call filter and what else a client may ask for.

use caisson_bundle::oci;

use super::seccomp;
use crate::error::{Error, Result};

/// `--security-opt`.
#[derive(Debug, Default)]
pub(crate) struct Security {
    pub no_new_privileges: bool,
    profile: Profile,
}

#[derive(Debug, Default)]
enum Profile {
    #[default]
    Default,
    Unconfined,
    Own(seccomp::Own),
}

impl Security {
    pub fn parse(options: &[String]) -> Result<Self> {
        let mut security = Security::default();
        for option in options {
            let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (name, value) {
                ("no-new-privileges", "" | "true" | "1") => security.no_new_privileges = true,
                ("no-new-privileges", "false" | "0") => security.no_new_privileges = false,
                ("seccomp", "unconfined") => security.profile = Profile::Unconfined,
                ("seccomp", "builtin") => security.profile = Profile::Default,
                ("seccomp", text) => security.profile = Profile::Own(seccomp::Own::parse(text)?),
                // What this engine has no policy of.
                ("apparmor", "unconfined" | "docker-default") | ("label", _) | ("disable", "") => {}
                ("apparmor", profile) => {
                    return Err(Error::invalid(format!(
                        "AppArmor profile {profile:?} cannot be applied: AppArmor is not supported, leave it out or use apparmor=unconfined"
                    )));
                }
                // The command line has made it into empty lists of paths.
                ("systempaths", "unconfined") => {}
                _ => {
                    return Err(Error::invalid(format!("invalid --security-opt: {option:?}")));
                }
            }
        }
        Ok(security)
    }

    /// The filter of a container whose bounding set is this bit mask.
    pub fn seccomp(&self, privileged: bool, bounding: u64) -> Result<Option<oci::LinuxSeccomp>> {
        match &self.profile {
            Profile::Own(own) => own.resolved(bounding).map(Some),
            Profile::Default if !privileged => {
                Ok(Some(caisson_launch::seccomp::default_profile(bounding)))
            }
            Profile::Default | Profile::Unconfined => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_options_are_read() {
        let parse = |options: &[&str]| {
            Security::parse(&options.iter().map(|o| o.to_string()).collect::<Vec<_>>())
        };
        let filtered = |options: &[&str], privileged| {
            parse(options).unwrap().seccomp(privileged, 0).unwrap().is_some()
        };
        assert!(parse(&["no-new-privileges"]).unwrap().no_new_privileges);
        assert!(!parse(&["no-new-privileges:false"]).unwrap().no_new_privileges);
        assert!(filtered(&[], false) && !filtered(&[], true));
        assert!(!filtered(&["seccomp=unconfined"], false));
        assert!(filtered(&[r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#], true));
        for bad in ["seccomp={", "magic=1", "no-new-privileges=maybe", "apparmor=mine"] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }
}
