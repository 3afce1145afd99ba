//! Looking into the daemon's answers. What is missing or of another kind is empty: it is only shown.

use serde_json::Value;

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// As [`number`]; nothing is less than zero.
pub fn size(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

pub fn flag(value: &Value) -> bool {
    value.as_bool().unwrap_or_default()
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub fn texts(value: &Value) -> Vec<&str> {
    list(value).iter().map(text).collect()
}

/// `a=b,c=d`, as lists show labels.
pub fn pairs(map: &Value) -> String {
    let pairs = map.as_object().into_iter().flatten();
    pairs.map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join(",")
}

/// Indents JSON without changing the order of what is in it.
pub fn indent(json: &str, width: usize) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut rest = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', depth * width));
    };
    while let Some(character) = rest.next() {
        if quoted {
            out.push(character);
            quoted = character != '"' || escaped;
            escaped = character == '\\' && !escaped;
            continue;
        }
        match character {
            ' ' | '\n' | '\r' | '\t' => {}
            '{' | '[' => {
                out.push(character);
                while rest.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(close) = rest.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(character);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                quoted = character == '"';
                out.push(character);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn indentation_keeps_order_and_texts() {
        let text = r#"[{"b":1,"a":{},"s":"x: {\"y\", \\","l":[1,[ ],null]}]"#;
        let expected = "[\n    {\n        \"b\": 1,\n        \"a\": {},\n        \
                        \"s\": \"x: {\\\"y\\\", \\\\\",\n        \"l\": [\n            1,\n            \
                        [],\n            null\n        ]\n    }\n]";
        assert_eq!(indent(text, 4), expected);
        let again: Value = serde_json::from_str(&indent(text, 4)).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn labels_in_one_line() {
        assert_eq!(pairs(&json!({ "b": "2", "a": "1" })), "a=1,b=2");
        assert_eq!(pairs(&Value::Null), "");
    }
}
