//! `--filter KEY=VALUE`.

use caisson_api::filters::Filters;

use crate::failure::{Failure, Result};

/// What the API takes; nothing if there are no filters.
pub fn filters(given: &[String]) -> Result<Option<String>> {
    filters_with(given, &[])
}

/// As [`filters`], and more of them.
pub fn filters_with(given: &[String], more: &[(&str, &str)]) -> Result<Option<String>> {
    let mut filters = Filters::default();
    for text in given {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::words(format!("invalid filter '{text}': use KEY=VALUE")))?;
        filters.add(name.trim().to_ascii_lowercase(), value.trim());
    }
    for (name, value) in more {
        filters.add(*name, *value);
    }
    Ok((!filters.is_empty()).then(|| filters.to_json()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_pairs() {
        let given = ["Name=web ", "label=a=b"].map(String::from);
        let text = filters(&given).unwrap().unwrap();
        assert_eq!(text, r#"{"label":{"a=b":true},"name":{"web":true}}"#);
        assert_eq!(filters(&[]).unwrap(), None);
        let error = filters(&["x".into()]).unwrap_err().sentence();
        assert_eq!(error, "invalid filter 'x': use KEY=VALUE");
    }
}
