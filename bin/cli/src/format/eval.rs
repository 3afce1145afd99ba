//! A template's tree over a value.

use serde_json::Value;

use super::functions::{call, is_true, print};
use super::parse::{Node, Operand, Pipeline, Template};

pub(super) fn render(template: &Template, value: &Value) -> Result<String, String> {
    let mut run = Run { whole: value, variables: Vec::new(), text: String::new() };
    run.nodes(&template.0, value)?;
    Ok(run.text)
}

struct Run<'a> {
    whole: &'a Value,
    /// The innermost last.
    variables: Vec<(String, Value)>,
    text: String,
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), String> {
        let outer = self.variables.len();
        for node in nodes {
            self.node(node, dot)?;
        }
        self.variables.truncate(outer);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), String> {
        match node {
            Node::Text(text) => self.text.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                self.text.push_str(&print(&value));
            }
            Node::Assign(name, pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                self.variables.push((name.clone(), value));
            }
            Node::If(pipeline, then, otherwise) => {
                let holds = is_true(&self.pipeline(pipeline, dot)?);
                self.nodes(if holds { then } else { otherwise }, dot)?;
            }
            Node::With(pipeline, then, otherwise) => {
                let value = self.pipeline(pipeline, dot)?;
                match is_true(&value) {
                    true => self.nodes(then, &value)?,
                    false => self.nodes(otherwise, dot)?,
                }
            }
            Node::Range(variables, pipeline, body, otherwise) => {
                let value = self.pipeline(pipeline, dot)?;
                let elements = elements(value)?;
                if elements.is_empty() {
                    return self.nodes(otherwise, dot);
                }
                for (key, element) in elements {
                    self.element(variables, key, &element, body)?;
                }
            }
        }
        Ok(())
    }

    fn element(
        &mut self,
        variables: &[String],
        key: Value,
        element: &Value,
        body: &[Node],
    ) -> Result<(), String> {
        let outer = self.variables.len();
        if let [name, ..] = variables
            && variables.len() == 2
        {
            self.variables.push((name.clone(), key));
        }
        if let Some(name) = variables.last() {
            self.variables.push((name.clone(), element.clone()));
        }
        self.nodes(body, element)?;
        self.variables.truncate(outer);
        Ok(())
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut last = None;
        for command in pipeline {
            last = Some(self.command(command, dot, last)?);
        }
        last.ok_or_else(|| "missing value for command".into())
    }

    fn command(
        &self,
        command: &[Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        let (first, rest) = command.split_first().ok_or("missing value for command")?;
        let arguments = rest.iter().map(|operand| self.operand(operand, dot));
        let arguments = arguments.chain(last.map(Ok)).collect::<Result<Vec<_>, _>>()?;
        match first {
            Operand::Name(name) => call(name, &arguments),
            // Docker's lists have a method for one label of theirs.
            Operand::Field(names) if names.last().is_some_and(|name| name == "Label") => {
                let labels = walk(dot, &names[..names.len() - 1])?;
                Ok(label(&labels, &arguments))
            }
            operand if arguments.is_empty() => self.operand(operand, dot),
            _ => Err("can't give argument to non-function".into()),
        }
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        match operand {
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Name(name) => call(name, &[]),
            Operand::Field(names) => walk(dot, names),
            Operand::Group(pipeline, names) => walk(&self.pipeline(pipeline, dot)?, names),
            Operand::Variable(name, names) if name.is_empty() => walk(self.whole, names),
            Operand::Variable(name, names) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = found.ok_or_else(|| format!("undefined variable \"${name}\""))?;
                walk(value, names)
            }
        }
    }
}

/// Follows the names into a value.
fn walk(value: &Value, names: &[String]) -> Result<Value, String> {
    let path = || format!("<.{}>", names.join("."));
    let mut at = value;
    for name in names {
        at = match at {
            Value::Object(map) => map
                .get(name)
                .ok_or_else(|| format!("{}: map has no entry for key {name:?}", path()))?,
            Value::Null => return Err(format!("{}: nil data; no entry for key {name:?}", path())),
            other => {
                let kind = match other {
                    Value::String(_) => "string",
                    Value::Number(_) => "float64",
                    Value::Bool(_) => "bool",
                    _ => "[]interface {}",
                };
                return Err(format!("{}: can't evaluate field {name} in type {kind}", path()));
            }
        };
    }
    Ok(at.clone())
}

/// A label's value in a row's `Labels`, a map or `key=value,key=value`.
fn label(row: &Value, arguments: &[Value]) -> Value {
    let wanted = arguments.first().and_then(Value::as_str).unwrap_or_default();
    match &row["Labels"] {
        Value::Object(map) => map.get(wanted).cloned().unwrap_or_else(|| "".into()),
        Value::String(text) => {
            let mut pairs = text.split(',').filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(key, _)| *key == wanted).map(|(_, value)| value);
            found.unwrap_or_default().into()
        }
        _ => "".into(),
    }
}

fn elements(value: Value) -> Result<Vec<(Value, Value)>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => {
            Ok(list.into_iter().enumerate().map(|(index, value)| (index.into(), value)).collect())
        }
        Value::Object(map) => Ok(map.into_iter().map(|(key, value)| (key.into(), value)).collect()),
        other => Err(format!("range can't iterate over {}", print(&other))),
    }
}
