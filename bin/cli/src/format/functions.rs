//! The functions of templates, and how values are printed.

use std::cmp::Ordering;

use serde_json::Value;

/// As Go prints a value.
pub(super) fn print(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        other => inner(other),
    }
}

fn inner(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(inner).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let pairs = map.iter().map(|(key, value)| format!("{key}:{}", inner(value)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

/// Whether a value counts as something: not zero, not empty.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Calls a function.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let needed = match name {
        "json" | "lower" | "upper" | "title" | "len" | "not" | "urlquery" => 1..=1,
        "join" | "split" | "ne" | "lt" | "le" | "gt" | "ge" | "truncate" => 2..=2,
        "pad" => 3..=3,
        "eq" => 2..=usize::MAX,
        "index" | "slice" | "and" | "or" | "printf" => 1..=usize::MAX,
        "print" | "println" => 0..=usize::MAX,
        _ => return Err(format!("function {name:?} not defined")),
    };
    if !needed.contains(&arguments.len()) {
        return Err(format!(
            "wrong number of args for {name}: want {} got {}",
            needed.start(),
            arguments.len()
        ));
    }
    let text = |index: usize| arguments.get(index).map(print).unwrap_or_default();
    Ok(match name {
        "json" => arguments[0].to_string().into(),
        "lower" => text(0).to_lowercase().into(),
        "upper" => text(0).to_uppercase().into(),
        "title" => title(&text(0)).into(),
        "urlquery" => form(&text(0)).into(),
        "len" => length(&arguments[0])?.into(),
        "not" => (!is_true(&arguments[0])).into(),
        "join" => join(&arguments[0], &text(1))?.into(),
        "split" => text(0).split(&text(1)).map(Value::from).collect::<Vec<_>>().into(),
        "truncate" => {
            let most = arguments[1].as_u64().unwrap_or(0) as usize;
            text(0).chars().take(most).collect::<String>().into()
        }
        "pad" => pad(&text(0), &arguments[1], &arguments[2])?.into(),
        "eq" => arguments[1..].iter().any(|other| equal(&arguments[0], other)).into(),
        "ne" => (!equal(&arguments[0], &arguments[1])).into(),
        "lt" => (order(arguments)? == Ordering::Less).into(),
        "le" => (order(arguments)? != Ordering::Greater).into(),
        "gt" => (order(arguments)? == Ordering::Greater).into(),
        "ge" => (order(arguments)? != Ordering::Less).into(),
        "and" => choose(arguments, false),
        "or" => choose(arguments, true),
        "index" => index(arguments)?,
        "slice" => slice(arguments)?,
        "printf" => printf(&text(0), &arguments[1..]).into(),
        "println" => format!("{}\n", words(arguments)).into(),
        _ => words(arguments).into(),
    })
}

fn words(arguments: &[Value]) -> String {
    arguments.iter().map(print).collect::<Vec<_>>().join(" ")
}

/// The first that decides, else the last.
fn choose(arguments: &[Value], wanted: bool) -> Value {
    let first = arguments.iter().find(|value| is_true(value) == wanted);
    first.or(arguments.last()).cloned().unwrap_or_default()
}

fn title(text: &str) -> String {
    let mut begin = true;
    let raise = |character: char| {
        let raised = if begin { character.to_ascii_uppercase() } else { character };
        begin = character.is_whitespace();
        raised
    };
    text.chars().map(raise).collect()
}

fn form(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        b' ' => "+".into(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::Null => Ok(0),
        Value::String(text) => Ok(text.len()),
        Value::Array(list) => Ok(list.len()),
        Value::Object(map) => Ok(map.len()),
        other => Err(format!("len of type {other}")),
    }
}

fn join(list: &Value, separator: &str) -> Result<String, String> {
    match list {
        Value::Null => Ok(String::new()),
        Value::Array(list) => Ok(list.iter().map(print).collect::<Vec<_>>().join(separator)),
        other => Err(format!("join: {} is no list", print(other))),
    }
}

/// The longest padding that is made.
const LONGEST_PAD: u64 = 1000;

fn pad(text: &str, before: &Value, after: &Value) -> Result<String, String> {
    let blanks = |value: &Value| {
        let count = value.as_u64().filter(|count| *count <= LONGEST_PAD);
        count.map(|count| " ".repeat(count as usize)).ok_or(format!("pad: {value} is no width"))
    };
    Ok(format!("{}{text}{}", blanks(before)?, blanks(after)?))
}

fn equal(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

fn order(arguments: &[Value]) -> Result<Ordering, String> {
    let (one, other) = (&arguments[0], &arguments[1]);
    let order = match (one.as_f64(), other.as_f64(), one.as_str(), other.as_str()) {
        (Some(one), Some(other), ..) => one.partial_cmp(&other),
        (.., Some(one), Some(other)) => Some(one.cmp(other)),
        _ => None,
    };
    order.ok_or_else(|| "incompatible types for comparison".into())
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let mut at = arguments[0].clone();
    for key in &arguments[1..] {
        at = match (&at, key) {
            (Value::Object(map), Value::String(key)) => map.get(key).cloned().unwrap_or_default(),
            (Value::Array(list), Value::Number(number)) => {
                let found = number.as_u64().and_then(|number| list.get(number as usize));
                found.cloned().ok_or_else(|| format!("index out of range: {number}"))?
            }
            (Value::String(text), Value::Number(number)) => {
                let found = number.as_u64().and_then(|number| text.as_bytes().get(number as usize));
                found
                    .copied()
                    .map(Value::from)
                    .ok_or_else(|| format!("index out of range: {number}"))?
            }
            (Value::Null, _) => return Err("index of untyped nil".into()),
            (_, key) => return Err(format!("cannot index it with {}", print(key))),
        };
    }
    Ok(at)
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let bound = |index: usize, otherwise: usize| match arguments.get(index) {
        None => Ok(otherwise),
        Some(value) => value.as_u64().map(|bound| bound as usize).ok_or("slice: no such bound"),
    };
    let length = length(&arguments[0])?;
    let (from, to) = (bound(1, 0)?, bound(2, length)?);
    let wrong = || format!("slice index out of range: {from}:{to}");
    match &arguments[0] {
        Value::String(text) => text.get(from..to).map(Value::from).ok_or_else(wrong),
        Value::Array(list) => list.get(from..to).map(|list| list.into()).ok_or_else(wrong),
        _ => Err("slice: it is no list".into()),
    }
}

/// `%s`, `%v`, `%d`, `%q`, `%t`, `%f`, `%%`, with a width and `-`; what is missing is told as Go does.
fn printf(format: &str, arguments: &[Value]) -> String {
    let mut text = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let mut width = String::new();
        while let Some(digit) = rest.next_if(|c| c.is_ascii_digit() || matches!(c, '-' | '.')) {
            width.push(digit);
        }
        let Some(verb) = rest.next() else { return text + "%!(NOVERB)" };
        if verb == '%' {
            text.push('%');
            continue;
        }
        let Some(value) = arguments.next() else {
            text.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let shown = match (verb, value.as_f64()) {
            ('q', _) => format!("{:?}", print(value)),
            ('f', Some(number)) => {
                let digits = width.split_once('.').and_then(|(_, digits)| digits.parse().ok());
                format!("{number:.*}", std::cmp::min(digits.unwrap_or(6), 30))
            }
            ('x', Some(number)) => format!("{:x}", number as i64),
            _ => print(value),
        };
        text.push_str(&padded(&shown, &width));
    }
    text
}

fn padded(text: &str, width: &str) -> String {
    let left = width.starts_with('-');
    let digits = width.trim_start_matches('-').split('.').next().unwrap_or_default();
    let width = digits.parse::<usize>().unwrap_or(0).min(LONGEST_PAD as usize);
    if left { format!("{text:<width$}") } else { format!("{text:>width$}") }
}
