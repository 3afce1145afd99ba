//! From a template's text to its tree.

use serde_json::Value;

/// Deeper nesting than this is refused: it would only exhaust the stack.
const DEEPEST: usize = 100;

/// A template.
#[derive(Debug)]
pub struct Template(pub(super) Vec<Node>);

/// A piece of it.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    /// A pipeline whose value is printed.
    Print(Pipeline),
    /// `{{$x := pipeline}}` or `{{$x = pipeline}}`.
    Assign(String, Pipeline),
    If(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    /// Up to two variables: key and element.
    Range(Vec<String>, Pipeline, Vec<Node>, Vec<Node>),
}

/// Commands, each of which gets the value of the one before it as its last argument.
pub(super) type Pipeline = Vec<Vec<Operand>>;

/// A word of a command.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Literal(Value),
    /// A function's name.
    Name(String),
    /// `.A.B`, from the value at hand; no names for `.`.
    Field(Vec<String>),
    /// `$x.A.B`, `$` being the whole value.
    Variable(String, Vec<String>),
    /// `(pipeline).A.B`.
    Group(Pipeline, Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Operand(Operand),
    Open,
    /// With the fields after it.
    Close(Vec<String>),
    Pipe,
    Comma,
    /// `:=` or `=`.
    Assign,
}

enum Piece {
    Text(String),
    Action(Vec<Token>),
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, String> {
        let pieces = split(text)?;
        let mut parser = Parser { pieces: pieces.into_iter(), depth: 0 };
        let (nodes, end) = parser.nodes()?;
        match end {
            None => Ok(Template(nodes)),
            Some(End { word, .. }) => Err(format!("unexpected {{{{{word}}}}}")),
        }
    }
}

/// Text and actions.
fn split(mut text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut trim = false;
    loop {
        let (before, rest) = match text.split_once("{{") {
            Some((before, rest)) => (before, Some(rest)),
            None => (text, None),
        };
        let before = if trim { before.trim_start() } else { before };
        let trimmed = rest.and_then(|rest| rest.strip_prefix("- "));
        let before = if trimmed.is_some() { before.trim_end() } else { before };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_string()));
        }
        let Some(rest) = trimmed.or(rest) else { return Ok(pieces) };
        let end = action_end(rest)?;
        let action = &rest[..end];
        text = &rest[end + 2..];
        let (action, trims) = match action.strip_suffix('-') {
            Some(action) if action.ends_with(' ') => (action, true),
            _ => (action, false),
        };
        trim = trims;
        if !action.trim().starts_with("/*") {
            pieces.push(Piece::Action(tokens(action)?));
        }
    }
}

/// Where the action's braces close, outside of quotes.
fn action_end(text: &str) -> Result<usize, String> {
    if text.trim_start().starts_with("/*") {
        let comment = text.find("*/").ok_or("unclosed comment")?;
        let end = text[comment..].find("}}").ok_or("unclosed action")?;
        return Ok(comment + end);
    }
    let (mut quote, mut escaped) = (None, false);
    for (index, character) in text.char_indices() {
        match (quote, character) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), close) if open == close && !escaped => quote = None,
            (None, '"' | '`') => quote = Some(character),
            (None, '}') if text[index..].starts_with("}}") => return Ok(index),
            _ => {}
        }
        escaped = false;
    }
    Err(match quote {
        Some(_) => "unterminated quoted string".into(),
        None => "unclosed action".into(),
    })
}

fn tokens(action: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '|' => (Token::Pipe, &rest[1..]),
            ',' => (Token::Comma, &rest[1..]),
            '=' => (Token::Assign, &rest[1..]),
            ':' if rest.starts_with(":=") => (Token::Assign, &rest[2..]),
            '(' => (Token::Open, &rest[1..]),
            ')' => {
                let (names, after) = fields(&rest[1..])?;
                (Token::Close(names), after)
            }
            '"' => quoted(rest)?,
            '`' => {
                let end = rest[1..].find('`').ok_or("unterminated raw quoted string")?;
                let text = Value::String(rest[1..=end].to_string());
                (Token::Operand(Operand::Literal(text)), &rest[end + 2..])
            }
            '.' => {
                let (names, after) = fields(rest)?;
                let after = if names.is_empty() { &rest[1..] } else { after };
                (Token::Operand(Operand::Field(names)), after)
            }
            '$' => {
                let (name, after) = word(&rest[1..]);
                let (names, after) = fields(after)?;
                (Token::Operand(Operand::Variable(name.to_string(), names)), after)
            }
            '0'..='9' | '-' | '+' => number(rest)?,
            _ => {
                let (name, after) = word(rest);
                if name.is_empty() {
                    return Err(format!("unexpected {first:?} in operand"));
                }
                (Token::Operand(named(name)), after)
            }
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

fn named(name: &str) -> Operand {
    match name {
        "true" => Operand::Literal(true.into()),
        "false" => Operand::Literal(false.into()),
        "nil" => Operand::Literal(Value::Null),
        _ => Operand::Name(name.to_string()),
    }
}

fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    text.split_at(end)
}

/// `.A.B` and what follows.
fn fields(mut text: &str) -> Result<(Vec<String>, &str), String> {
    let mut names = Vec::new();
    while let Some(after) = text.strip_prefix('.') {
        let (name, rest) = word(after);
        if name.is_empty() {
            if names.is_empty() {
                break;
            }
            return Err("unexpected <.> in operand".into());
        }
        names.push(name.to_string());
        text = rest;
    }
    Ok((names, text))
}

/// A text in double quotes, with JSON's escapes, which command lines share with Go.
fn quoted(text: &str) -> Result<(Token, &str), String> {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, character)| {
        let ends = *character == '"' && !escaped;
        escaped = *character == '\\' && !escaped;
        ends
    });
    let (end, _) = end.ok_or("unterminated quoted string")?;
    // A real tab or newline is one that was written as an escape before.
    let literal = text[..=end].replace('\t', "\\t").replace('\n', "\\n");
    let value = serde_json::from_str(&literal).map_err(|_| format!("invalid string {literal}"))?;
    Ok((Token::Operand(Operand::Literal(value)), &text[end + 1..]))
}

fn number(text: &str) -> Result<(Token, &str), String> {
    let end = text[1..]
        .find(|c: char| !(c.is_alphanumeric() || c == '.'))
        .map_or(text.len(), |end| end + 1);
    let digits = &text[..end];
    let whole = digits.parse::<i64>().map(Value::from);
    let value = whole.or_else(|_| digits.parse::<f64>().map(Value::from));
    let value = value.map_err(|_| format!("bad number syntax: {digits:?}"))?;
    Ok((Token::Operand(Operand::Literal(value)), &text[end..]))
}

/// What ends a list of nodes: `else` with what follows it, or `end`.
struct End {
    word: &'static str,
    rest: Vec<Token>,
}

struct Parser<I> {
    pieces: I,
    depth: usize,
}

impl<I: Iterator<Item = Piece>> Parser<I> {
    fn nodes(&mut self) -> Result<(Vec<Node>, Option<End>), String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("it is nested too deeply".into());
        }
        let mut nodes = Vec::new();
        let mut end = None;
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let word = match tokens.first() {
                Some(Token::Operand(Operand::Name(name))) => name.as_str(),
                _ => "",
            };
            match word {
                "end" => end = Some(End { word: "end", rest: Vec::new() }),
                "else" => end = Some(End { word: "else", rest: tokens[1..].to_vec() }),
                "if" | "with" | "range" => nodes.push(self.block(&tokens)?),
                _ => nodes.push(plain(&tokens)?),
            }
            if end.is_some() {
                break;
            }
        }
        self.depth -= 1;
        Ok((nodes, end))
    }

    /// `if`, `with` or `range`, with its branches up to its `end`.
    fn block(&mut self, tokens: &[Token]) -> Result<Node, String> {
        let Some(Token::Operand(Operand::Name(word))) = tokens.first() else {
            return Err("unexpected action".into());
        };
        let tokens = &tokens[1..];
        let (variables, tokens) =
            if word == "range" { declared(tokens) } else { (Vec::new(), tokens) };
        let subject = pipeline(tokens)?;
        let (body, end) = self.nodes()?;
        let otherwise = match end {
            None => return Err("unexpected EOF".into()),
            Some(End { word: "end", .. }) => Vec::new(),
            Some(End { rest, .. }) if rest.is_empty() => match self.nodes()? {
                (nodes, Some(End { word: "end", .. })) => nodes,
                (_, Some(_)) => return Err("unexpected {{else}}".into()),
                (_, None) => return Err("unexpected EOF".into()),
            },
            // `else if` shares its `end`.
            Some(End { rest, .. }) => {
                self.depth += 1;
                if self.depth > DEEPEST {
                    return Err("it is nested too deeply".into());
                }
                let node = self.block(&rest)?;
                self.depth -= 1;
                vec![node]
            }
        };
        Ok(match word.as_str() {
            "if" => Node::If(subject, body, otherwise),
            "with" => Node::With(subject, body, otherwise),
            "range" => Node::Range(variables, subject, body, otherwise),
            _ => return Err(format!("unexpected <{word}> in else")),
        })
    }
}

/// `$k, $v :=` before a pipeline.
fn declared(tokens: &[Token]) -> (Vec<String>, &[Token]) {
    let variable = |token: &Token| match token {
        Token::Operand(Operand::Variable(name, fields)) if fields.is_empty() => Some(name.clone()),
        _ => None,
    };
    match tokens {
        [key, Token::Comma, element, Token::Assign, rest @ ..] => {
            if let (Some(key), Some(element)) = (variable(key), variable(element)) {
                return (vec![key, element], rest);
            }
        }
        [element, Token::Assign, rest @ ..] => {
            if let Some(element) = variable(element) {
                return (vec![element], rest);
            }
        }
        _ => {}
    }
    (Vec::new(), tokens)
}

fn plain(tokens: &[Token]) -> Result<Node, String> {
    let (mut variables, rest) = declared(tokens);
    match (variables.pop(), variables.is_empty()) {
        (Some(name), true) => Ok(Node::Assign(name, pipeline(rest)?)),
        (Some(_), false) => Err("too many declarations".into()),
        (None, _) => Ok(Node::Print(pipeline(tokens)?)),
    }
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline, String> {
    let mut tokens = tokens.iter();
    let (pipeline, close) = commands(&mut tokens, 0)?;
    match close {
        None => Ok(pipeline),
        Some(_) => Err("unexpected right paren".into()),
    }
}

/// Commands up to the end or a closing parenthesis, whose fields are returned.
fn commands(
    tokens: &mut std::slice::Iter<'_, Token>,
    depth: usize,
) -> Result<(Pipeline, Option<Vec<String>>), String> {
    if depth > DEEPEST {
        return Err("it is nested too deeply".into());
    }
    let mut pipeline = vec![Vec::new()];
    let mut close = None;
    while let Some(token) = tokens.next() {
        match token {
            Token::Operand(operand) => {
                pipeline.last_mut().into_iter().for_each(|command| command.push(operand.clone()))
            }
            Token::Pipe => pipeline.push(Vec::new()),
            Token::Open => match commands(tokens, depth + 1)? {
                (inner, Some(fields)) => pipeline.last_mut().into_iter().for_each(|command| {
                    command.push(Operand::Group(inner.clone(), fields.clone()))
                }),
                (_, None) => return Err("unclosed left paren".into()),
            },
            Token::Close(fields) => {
                close = Some(fields.clone());
                break;
            }
            Token::Comma => return Err("unexpected \",\" in operand".into()),
            Token::Assign => return Err("unexpected \"=\" in operand".into()),
        }
    }
    if pipeline.iter().any(Vec::is_empty) {
        return Err("missing value for command".into());
    }
    Ok((pipeline, close))
}
