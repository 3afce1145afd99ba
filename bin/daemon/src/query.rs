//! The query of a request, read as Docker reads it.

use crate::reply::{Failure, Result};

/// Names and values in the order they came.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: Option<&str>) -> Self {
        Query(form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// The first value of a name; an empty one counts as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Every value of a name that is not empty.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(key, value)| key == name && !value.is_empty());
        values.map(|(_, value)| value.clone()).collect()
    }

    /// Whether a switch is on: everything but nothing, `0`, `no`, `false` and `none` is.
    pub fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// The same for a switch that is on or off when it is not given at all.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        let Some((_, value)) = self.0.iter().find(|(key, _)| key == name) else { return default };
        !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A number, or `None` when it is not given.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Failure::invalid(format!(
                "invalid value {value:?} for {name}: it is not a number in range"
            ))),
        }
    }

    /// A moment, `SECONDS` or `SECONDS.FRACTION` since 1970, in nanoseconds.
    pub fn moment(&self, name: &str) -> Result<Option<i64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match moment(value) {
            Some(moment) => Ok(Some(moment)),
            None => Err(Failure::invalid(format!(
                "invalid value {value:?} for {name}: it is seconds since 1970, with a fraction if need be"
            ))),
        }
    }
}

fn moment(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: i64 = format!("{fraction:0<9}").parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(Some(text))
    }

    #[test]
    fn switches_are_read_as_docker_reads_them() {
        for on in ["1", "true", "True", "yes", "2", "x"] {
            assert!(query(&format!("a={on}")).flag("a"), "{on}");
        }
        for off in ["a=0", "a=", "a", "a=false", "a=FALSE", "a=no", "a=none", "a=+0", "b=1", ""] {
            assert!(!query(off).flag("a"), "{off}");
        }
        assert!(query("b=1").flag_or("a", true));
        assert!(!query("a=0").flag_or("a", true));
    }

    #[test]
    fn values_are_decoded_and_may_come_again() {
        let query = query("names=a%2Fb&x=&names=c+d");
        assert_eq!(query.all("names"), ["a/b", "c d"]);
        assert_eq!(query.get("names"), Some("a/b"));
        assert_eq!(query.get("x"), None);
    }

    #[test]
    fn numbers_that_are_none_are_refused_by_name() {
        assert_eq!(query("t=-1").number::<i64>("t").unwrap(), Some(-1));
        assert_eq!(query("").number::<i64>("t").unwrap(), None);
        let failure = query("h=70000").number::<u16>("h").unwrap_err();
        assert!(failure.message.contains("\"70000\" for h"), "{}", failure.message);
    }

    #[test]
    fn moments_have_nanoseconds() {
        assert_eq!(moment("1795300565"), Some(1_795_300_565_000_000_000));
        assert_eq!(moment("1795300565.5"), Some(1_795_300_565_500_000_000));
        assert_eq!(moment("1795300565.000000001"), Some(1_795_300_565_000_000_001));
        for bad in ["", "x", "1.2.3", "1.-2", "99999999999999", "1.0000000001"] {
            assert_eq!(moment(bad), None, "{bad}");
        }
    }
}
