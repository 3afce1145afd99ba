//! A client's own system call profile: the plain OCI form, or Docker's, whose rules may hang on the
//! capabilities, the architecture and the kernel.

use caisson_bundle::oci;
use serde_json::{Map, Value, json};

use super::privileges;
use crate::error::{Error, Result};

/// This architecture in Docker's profiles.
const ARCHITECTURE: &str = "amd64";
/// Linux's MAX_ERRNO.
const MOST_ERRNO: u64 = 4095;
/// Calls have six arguments.
const LAST_ARGUMENT: usize = 5;

/// A checked profile.
#[derive(Debug, Clone)]
pub struct Own(Value);

impl Own {
    /// Reads a profile and checks all of its rules, also those that do not hold here.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| invalid(&error.to_string()))?;
        if !value.is_object() {
            return Err(invalid("it is not a JSON object"));
        }
        for call in calls(&value) {
            conditions(call)?;
            if call.get("action").and_then(Value::as_str) == Some("SCMP_ACT_NOTIFY") {
                return Err(invalid("SCMP_ACT_NOTIFY is not supported"));
            }
        }
        plain(&value, |_| true)?;
        Ok(Own(value))
    }

    /// The rules that hold for a container whose bounding set is this bit mask.
    pub fn resolved(&self, bounding: u64) -> Result<oci::LinuxSeccomp> {
        let kernel = kernel();
        plain(&self.0, |call| conditions(call).is_ok_and(|all| all.hold(bounding, kernel)))
    }
}

fn invalid(why: &str) -> Error {
    Error::invalid(format!("Decoding seccomp profile failed: {why}"))
}

fn calls(profile: &Value) -> impl Iterator<Item = &Value> {
    profile.get("syscalls").and_then(Value::as_array).into_iter().flatten()
}

/// The OCI form, with the rules that `keep` wants.
fn plain(profile: &Value, keep: impl Fn(&Value) -> bool) -> Result<oci::LinuxSeccomp> {
    let mut fields = Map::new();
    for name in ["defaultAction", "defaultErrnoRet"] {
        fields.extend(profile.get(name).map(|value| (name.to_string(), value.clone())));
    }
    let rules = calls(profile).filter(|call| keep(call)).map(|call| {
        let mut rule = Map::new();
        for name in ["names", "action", "errnoRet", "args"] {
            let given = call.get(name).filter(|value| !value.is_null());
            rule.extend(given.map(|value| (name.to_string(), value.clone())));
        }
        // The form before there were lists of names.
        if let Some(name) = call.get("name").filter(|name| name.is_string()) {
            rule.entry("names").or_insert_with(|| json!([name]));
        }
        Value::Object(rule)
    });
    fields.insert("syscalls".into(), rules.collect());
    let errors = calls(profile).filter_map(|call| call.get("errnoRet"));
    if errors
        .chain(profile.get("defaultErrnoRet"))
        .filter_map(Value::as_u64)
        .any(|number| number > MOST_ERRNO)
    {
        return Err(invalid("an errnoRet is above 4095"));
    }
    let profile: oci::LinuxSeccomp = serde_json::from_value(Value::Object(fields))
        .map_err(|error| invalid(&error.to_string()))?;
    let mut args = profile.syscalls().iter().flatten().flat_map(|call| call.args()).flatten();
    match args.find(|arg| arg.index() > LAST_ARGUMENT) {
        Some(arg) => Err(invalid(&format!("a call has no argument {}", arg.index()))),
        None => Ok(profile),
    }
}

/// When a rule holds.
#[derive(Debug, Default)]
struct Conditions {
    /// Bits that must all be, and that must not be, in the bounding set.
    with: u64,
    without: u64,
    here: bool,
    least_kernel: (u32, u32),
    /// Kernels from this one on are excluded.
    end_kernel: Option<(u32, u32)>,
}

impl Conditions {
    fn hold(&self, bounding: u64, kernel: (u32, u32)) -> bool {
        self.here
            && bounding & self.with == self.with
            && bounding & self.without == 0
            && kernel >= self.least_kernel
            && self.end_kernel.is_none_or(|end| kernel < end)
    }
}

fn conditions(call: &Value) -> Result<Conditions> {
    let (includes, excludes) = (call.get("includes"), call.get("excludes"));
    let words = |of: Option<&Value>, name: &str| -> Vec<String> {
        let list = of.and_then(|of| of.get(name)).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(String::from).collect()
    };
    let mask = |names: Vec<String>| {
        names.iter().try_fold(0, |mask, name| match super::capability(name)? {
            Some(capability) => Ok(mask | privileges::bit(capability)),
            None => Err(invalid("ALL is no capability of a rule")),
        })
    };
    let kernel = |of: Option<&Value>| {
        let text = of.and_then(|of| of.get("minKernel")).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
            .map(|text| version(text).ok_or_else(|| invalid(&format!("minKernel {text:?}"))))
            .transpose()
    };
    let only = words(includes, "arches");
    let not = words(excludes, "arches");
    let is_here = |list: &[String]| list.iter().any(|name| name == ARCHITECTURE);
    Ok(Conditions {
        with: mask(words(includes, "caps"))?,
        without: mask(words(excludes, "caps"))?,
        here: (only.is_empty() || is_here(&only)) && !is_here(&not),
        least_kernel: kernel(includes)?.unwrap_or_default(),
        end_kernel: kernel(excludes)?,
    })
}

fn kernel() -> (u32, u32) {
    version(&rustix::system::uname().release().to_string_lossy()).unwrap_or_default()
}

/// The first two numbers of a kernel's version.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYS_ADMIN: u64 = 1 << 21;

    /// The form of Docker's own default profile.
    const DOCKERS: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "",
             "includes": {}, "excludes": {}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
             "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["sync_file_range2"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["ppc64le"]}},
            {"name": "old", "action": "SCMP_ACT_ALLOW"}
        ]}"#;

    fn names(bounding: u64) -> Vec<String> {
        let profile = Own::parse(DOCKERS).unwrap().resolved(bounding).unwrap();
        let calls = profile.syscalls().clone().unwrap();
        calls.iter().flat_map(|call| call.names().clone()).collect()
    }

    #[test]
    fn rules_hang_on_capabilities_and_place() {
        assert_eq!(names(0), ["read", "write", "clone3", "socket", "ptrace", "old"]);
        assert_eq!(names(SYS_ADMIN), ["read", "write", "mount", "socket", "ptrace", "old"]);
    }

    #[test]
    fn kernels_are_compared_by_number() {
        assert_eq!(version("6.12.9-amd64"), Some((6, 12)));
        let call = json!({"includes": {"minKernel": "4.10"}, "excludes": {"minKernel": "5.9"}});
        let all = conditions(&call).unwrap();
        for (kernel, holds) in [((4, 9), false), ((4, 10), true), ((5, 8), true), ((5, 9), false)] {
            assert_eq!(all.hold(0, kernel), holds, "{kernel:?}");
        }
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        for bad in [
            "{",
            "[]",
            "{}",
            r#"{"defaultAction":"SCMP_ACT_FLY"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_NOTIFY"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":70000}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_ALLOW","args":[{"index":9,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_FLY"]}}]}"#,
        ] {
            assert!(Own::parse(bad).is_err(), "{bad}");
        }
    }
}
