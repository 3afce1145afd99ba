//! The `filters` argument of list, prune and event calls: a JSON map from a filter's name to its values.
//!
//! Old clients send `{"name":["a","b"]}`, newer ones `{"name":{"a":true,"b":true}}`; both are read. How values
//! are compared is Docker's (`api/types/filters`): names as regular expressions, ids by their beginning,
//! labels by `key` or `key=value`, all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;

/// A filter that cannot be used; its text is Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    fn name(name: &str) -> Self {
        Invalid(format!("invalid filter '{name}'"))
    }

    /// `invalid filter 'name=[a b]'`, as Docker prints a list of values.
    fn values<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> Self {
        Invalid(format!("invalid filter '{name}=[{}]'", values.collect::<Vec<_>>().join(" ")))
    }

    /// `invalid filter 'name=value': why`.
    pub fn value(name: &str, value: &str, why: impl std::fmt::Display) -> Self {
        Invalid(format!("invalid filter '{name}={value}': {why}"))
    }
}

/// Filters by name, each with the values that are accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Map(BTreeMap<String, BTreeMap<String, bool>>),
    List(BTreeMap<String, Vec<String>>),
}

impl Filters {
    /// Reads the argument; an empty one is no filter.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Ok(Filters::default());
        }
        let form = serde_json::from_str::<Option<Form>>(text);
        let form = form.map_err(|_| Invalid("invalid filter".into()))?;
        Ok(Filters(match form {
            None => BTreeMap::new(),
            Some(Form::Map(map)) => map
                .into_iter()
                .map(|(name, values)| {
                    let wanted = values.into_iter().filter(|(_, wanted)| *wanted);
                    (name, wanted.map(|(value, _)| value).collect())
                })
                .collect(),
            Some(Form::List(map)) => {
                map.into_iter().map(|(name, values)| (name, values.into_iter().collect())).collect()
            }
        }))
    }

    /// The argument as newer clients send it.
    pub fn to_json(&self) -> String {
        let map: BTreeMap<&str, BTreeMap<&str, bool>> = self
            .0
            .iter()
            .map(|(name, values)| {
                (name.as_str(), values.iter().map(|value| (value.as_str(), true)).collect())
            })
            .collect();
        serde_json::to_string(&map).unwrap_or_default()
    }

    /// Adds a value to a filter.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.entry(name.into()).or_default().insert(value.into());
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses filters that a call does not have.
    pub fn check(&self, known: &[&str]) -> Result<(), Invalid> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Invalid::name(name)),
            None => Ok(()),
        }
    }

    /// Whether the filter was given, with at least one value.
    pub fn contains(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|values| !values.is_empty())
    }

    /// The values of a filter.
    pub fn get<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    /// A filter that is true or false; `default` when it was not given.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Invalid> {
        let Some(values) = self.0.get(name) else { return Ok(default) };
        if values.is_empty() {
            return Err(Invalid::name(name));
        }
        let any = |words: [&str; 2]| words.into_iter().any(|word| values.contains(word));
        match (any(["1", "true"]), any(["0", "false"])) {
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            _ => Err(Invalid::values(name, self.get(name))),
        }
    }

    /// Whether a value is one of the filter's, or the filter was not given.
    pub fn exact(&self, name: &str, value: &str) -> bool {
        !self.contains(name) || self.get(name).any(|wanted| wanted == value)
    }

    /// Whether a value begins with one of the filter's, or the filter was not given.
    pub fn prefix(&self, name: &str, value: &str) -> bool {
        !self.contains(name) || self.get(name).any(|wanted| value.starts_with(wanted))
    }

    /// Whether one of the filter's values, taken as a regular expression, is found in a value, or the filter
    /// was not given.
    pub fn matches(&self, name: &str, value: &str) -> bool {
        self.exact(name, value)
            || self.get(name).any(|wanted| {
                regex_lite::Regex::new(wanted).is_ok_and(|pattern| pattern.is_match(value))
            })
    }

    /// Whether labels have every `key` and `key=value` of the filter `label`, and not those of `label!`.
    pub fn labels<'a>(&self, labels: impl Into<Option<&'a HashMap<String, String>>>) -> bool {
        let labels = labels.into();
        self.has_labels("label", labels)
            && !(self.contains("label!") && self.has_labels("label!", labels))
    }

    fn has_labels(&self, name: &str, labels: Option<&HashMap<String, String>>) -> bool {
        self.get(name).all(|wanted| {
            let (key, value) = match wanted.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (wanted, None),
            };
            let found = labels.and_then(|labels| labels.get(key));
            found.is_some_and(|found| value.is_none_or(|value| value == found))
        })
    }

    /// The time of the filter `until`, nanoseconds since 1970; `now` is what durations count back from.
    pub fn until(&self, now: i64) -> Result<Option<i64>, Invalid> {
        let mut values = self.get("until");
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Invalid("more than one until filter specified".into()));
        }
        crate::time::parse_time(value, now).map(Some).map_err(|error| Invalid(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Filters {
        Filters::parse(text).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn both_forms_are_read() {
        let list = filters(r#"{"name":["a","b"],"label":["x=y"]}"#);
        let map = filters(r#"{"name":{"a":true,"b":true,"c":false},"label":{"x=y":true}}"#);
        assert_eq!(list, map);
        assert_eq!(list, filters(&list.to_json()));
        assert_eq!(list.get("name").collect::<Vec<_>>(), ["a", "b"]);
        assert!(["", "{}", "null"].iter().all(|text| filters(text).is_empty()));
        for wrong in ["x", "[]", r#"{"a":"b"}"#, r#"{"a":[1]}"#] {
            assert_eq!(Filters::parse(wrong).unwrap_err().to_string(), "invalid filter", "{wrong}");
        }
    }

    #[test]
    fn errors_are_dockers() {
        let wrong = filters(r#"{"x":["1"]}"#).check(&["name"]).unwrap_err();
        assert_eq!(wrong.to_string(), "invalid filter 'x'");
        let wrong = filters(r#"{"dangling":["x"]}"#).flag("dangling", false).unwrap_err();
        assert_eq!(wrong.to_string(), "invalid filter 'dangling=[x]'");
        let wrong = filters(r#"{"dangling":["1","0"]}"#).flag("dangling", false).unwrap_err();
        assert_eq!(wrong.to_string(), "invalid filter 'dangling=[0 1]'");
        let wrong = filters(r#"{"dangling":{}}"#).flag("dangling", false).unwrap_err();
        assert_eq!(wrong.to_string(), "invalid filter 'dangling'");
        assert_eq!(filters(r#"{"dangling":["1","true"]}"#).flag("dangling", false), Ok(true));
        assert_eq!(filters("{}").flag("dangling", true), Ok(true));
    }

    #[test]
    fn values_are_compared_as_docker_does() {
        let given = filters(r#"{"name":["we","^db$","(("],"id":["ab"]}"#);
        assert!(given.matches("name", "my-web"));
        assert!(given.matches("name", "db") && !given.matches("name", "db2"));
        assert!(given.matches("name", "(("), "a value that is no expression still equals itself");
        assert!(given.prefix("id", "abc") && !given.prefix("id", "cab"));
        assert!(given.matches("other", "x") && given.prefix("other", "x"));
        assert!(given.exact("name", "we") && !given.exact("name", "web"));
    }

    #[test]
    fn labels_must_all_match() {
        let have = labels(&[("a", "1"), ("b", "")]);
        assert!(filters(r#"{"label":["a","b="]}"#).labels(&have));
        assert!(filters(r#"{"label":["a=1"]}"#).labels(&have));
        assert!(!filters(r#"{"label":["a=2"]}"#).labels(&have));
        assert!(!filters(r#"{"label":["a","c"]}"#).labels(&have));
        assert!(filters(r#"{"label!":["c"]}"#).labels(&have));
        assert!(!filters(r#"{"label!":["a"]}"#).labels(&have));
        assert!(filters("{}").labels(None));
        assert!(!filters(r#"{"label":["a"]}"#).labels(None));
    }

    #[test]
    fn until_is_one_time() {
        let now = 1_000_000_000_000;
        assert_eq!(filters(r#"{"until":["10s"]}"#).until(now), Ok(Some(990_000_000_000)));
        assert_eq!(filters("{}").until(now), Ok(None));
        let two = filters(r#"{"until":["10s","1h"]}"#).until(now).unwrap_err();
        assert_eq!(two.to_string(), "more than one until filter specified");
    }

    proptest::proptest! {
        #[test]
        fn any_filters_survive_json(
            map in proptest::collection::btree_map(".*", proptest::collection::btree_set(".*", 0..4), 0..4)
        ) {
            let given = Filters(map);
            proptest::prop_assert_eq!(Filters::parse(&given.to_json()).unwrap(), given);
        }

        #[test]
        fn no_pattern_panics(pattern in ".{0,20}", value in ".{0,20}") {
            let mut given = Filters::default();
            given.add("name", pattern);
            given.matches("name", &value);
        }
    }
}
