//! As much of Helm's templates as the chart uses: actions with whitespace
//! control, if, with, range, define, include, pipelines of some functions.
//!
//! Strict where Helm is lenient: a value that is not in values.yaml, and a
//! function that is not known here, are errors.

use serde_yaml::Value;
use std::collections::BTreeMap;

/// A part of a template.
#[derive(Clone, Debug)]
enum Node {
    Text(String),
    /// A pipeline whose value is written.
    Print(String),
    If(String, Vec<Node>, Vec<Node>),
    With(String, Vec<Node>),
    Range(String, Vec<Node>),
}

/// Templates that were read together: their definitions see each other.
#[derive(Default)]
pub struct Templates {
    defined: BTreeMap<String, Vec<Node>>,
    files: BTreeMap<String, Vec<Node>>,
}

/// What a template is rendered with.
struct Scope<'a> {
    root: &'a Value,
    dot: Value,
}

impl Templates {
    /// Reads a file.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), String> {
        let mut tokens = tokens(text).map_err(|error| format!("{name}: {error}"))?;
        tokens.reverse();
        let (nodes, end) = self
            .parse(&mut tokens)
            .map_err(|error| format!("{name}: {error}"))?;
        if let Some(end) = end {
            return Err(format!("{name}: {{{{ {end} }}}} closes nothing"));
        }
        self.files.insert(name.to_owned(), nodes);
        Ok(())
    }

    /// Renders a file with these values.
    pub fn render(&self, name: &str, root: &Value) -> Result<String, String> {
        let scope = Scope {
            root,
            dot: root.clone(),
        };
        let mut out = String::new();
        let nodes = &self.files[name];
        self.write(nodes, &scope, &mut out)
            .map_err(|error| format!("{name}: {error}"))?;
        Ok(out)
    }

    /// Nodes up to an `end` or `else`, which is returned.
    fn parse(&mut self, tokens: &mut Vec<Token>) -> Result<(Vec<Node>, Option<String>), String> {
        let mut nodes = Vec::new();
        while let Some(token) = tokens.pop() {
            let action = match token {
                Token::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Token::Action(action) => action,
            };
            let (word, rest) = action.split_once(' ').unwrap_or((&action, ""));
            let rest = rest.trim().to_owned();
            match word {
                "end" | "else" => return Ok((nodes, Some(word.to_owned()))),
                "if" => {
                    let (then, end) = self.parse(tokens)?;
                    let otherwise = match end.as_deref() {
                        Some("else") => self.block(tokens, &action)?,
                        Some(_) => Vec::new(),
                        None => return Err(format!("{{{{ {action} }}}} is not closed")),
                    };
                    nodes.push(Node::If(rest, then, otherwise));
                }
                "with" => nodes.push(Node::With(rest, self.block(tokens, &action)?)),
                "range" => nodes.push(Node::Range(rest, self.block(tokens, &action)?)),
                "define" => {
                    let block = self.block(tokens, &action)?;
                    self.defined
                        .insert(rest.trim_matches('"').to_owned(), block);
                }
                comment if comment.starts_with("/*") => {}
                _ => nodes.push(Node::Print(action)),
            }
        }
        Ok((nodes, None))
    }

    fn block(&mut self, tokens: &mut Vec<Token>, action: &str) -> Result<Vec<Node>, String> {
        match self.parse(tokens)? {
            (nodes, Some(end)) if end == "end" => Ok(nodes),
            _ => Err(format!("{{{{ {action} }}}} is not closed")),
        }
    }

    fn write(&self, nodes: &[Node], scope: &Scope<'_>, out: &mut String) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Print(pipeline) => out.push_str(&text(&self.value(pipeline, scope)?)?),
                Node::If(condition, then, otherwise) => {
                    let is_true = truth(&self.value(condition, scope)?);
                    self.write(if is_true { then } else { otherwise }, scope, out)?;
                }
                Node::With(pipeline, block) => {
                    let dot = self.value(pipeline, scope)?;
                    if truth(&dot) {
                        let root = scope.root;
                        self.write(block, &Scope { root, dot }, out)?;
                    }
                }
                Node::Range(pipeline, block) => {
                    let Value::Sequence(items) = self.value(pipeline, scope)? else {
                        return Err(format!("range over {pipeline}, which is no list"));
                    };
                    for dot in items {
                        let root = scope.root;
                        self.write(block, &Scope { root, dot }, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn value(&self, pipeline: &str, scope: &Scope<'_>) -> Result<Value, String> {
        let mut piped = None;
        for stage in split(pipeline, '|') {
            piped = Some(self.call(&stage, piped, scope)?);
        }
        piped.ok_or_else(|| "an empty action".to_owned())
    }

    fn call(&self, stage: &str, piped: Option<Value>, scope: &Scope<'_>) -> Result<Value, String> {
        let mut words = split(stage, ' ').into_iter();
        let function = words.next().unwrap_or_default();
        let mut arguments = Vec::new();
        for word in words {
            arguments.push(self.operand(&word, scope)?);
        }
        if arguments.is_empty() && piped.is_none() {
            if let Ok(value) = self.operand(&function, scope) {
                return Ok(value);
            }
            return Err(format!("{function} is not known"));
        }
        arguments.extend(piped);
        let string = Value::String;
        let number = |value: &Value| value.as_u64().map(|number| number as usize);
        Ok(match (function.as_str(), arguments.as_slice()) {
            ("include", [Value::String(name), dot]) => {
                let nodes = self.defined.get(name);
                let nodes = nodes.ok_or_else(|| format!("{name} is not defined"))?;
                let (root, dot) = (scope.root, dot.clone());
                let mut out = String::new();
                self.write(nodes, &Scope { root, dot }, &mut out)?;
                string(out)
            }
            ("toYaml", [value]) => {
                let text = serde_yaml::to_string(value).map_err(|error| error.to_string())?;
                string(text.trim_end().to_owned())
            }
            ("nindent", [width, Value::String(text)]) => {
                let margin = " ".repeat(number(width).ok_or("nindent wants a number")?);
                let lines: Vec<String> =
                    text.lines().map(|line| format!("{margin}{line}")).collect();
                string(format!("\n{}", lines.join("\n")))
            }
            ("quote", [value]) => string(format!("{:?}", text(value)?)),
            ("default", [default, value]) => if truth(value) { value } else { default }.clone(),
            ("printf", [Value::String(format), value]) => {
                string(format.replacen("%s", &text(value)?, 1))
            }
            ("trunc", [width, Value::String(text)]) => {
                let width = number(width).ok_or("trunc wants a number")?;
                string(text.chars().take(width).collect())
            }
            ("trimSuffix", [Value::String(suffix), Value::String(text)]) => string(
                text.strip_suffix(suffix.as_str())
                    .unwrap_or(text)
                    .to_owned(),
            ),
            ("eq", [a, b]) => Value::Bool(a == b),
            ("ne", [a, b]) => Value::Bool(a != b),
            ("not", [value]) => Value::Bool(!truth(value)),
            _ => return Err(format!("{stage}: not known, or not with these arguments")),
        })
    }

    fn operand(&self, word: &str, scope: &Scope<'_>) -> Result<Value, String> {
        if let Some(text) = word
            .strip_prefix('"')
            .and_then(|word| word.strip_suffix('"'))
        {
            return Ok(Value::String(text.to_owned()));
        }
        if let Ok(number) = word.parse::<u64>() {
            return Ok(Value::from(number));
        }
        let path = word.strip_prefix('.');
        let path = path.ok_or_else(|| format!("{word} is not known"))?;
        let mut value = &scope.dot;
        for key in path.split('.').filter(|key| !key.is_empty()) {
            value = value
                .get(key)
                .ok_or_else(|| format!("there is no {word}"))?;
        }
        Ok(value.clone())
    }
}

#[derive(Clone, Debug)]
enum Token {
    Text(String),
    Action(String),
}

fn tokens(mut rest: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut trim = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) = after
            .split_once("}}")
            .ok_or_else(|| format!("{{{{ without }}}}: {}", &after[..after.len().min(40)]))?;
        let mut before = if trim { before.trim_start() } else { before };
        let mut action = action;
        if let Some(cut) = action.strip_prefix("- ") {
            before = before.trim_end();
            action = cut;
        }
        trim = action.ends_with(" -");
        let action = action.strip_suffix(" -").unwrap_or(action);
        tokens.push(Token::Text(before.to_owned()));
        tokens.push(Token::Action(action.trim().to_owned()));
        rest = after;
    }
    if rest.contains("}}") {
        return Err("}} without {{".to_owned());
    }
    let rest = if trim { rest.trim_start() } else { rest };
    tokens.push(Token::Text(rest.to_owned()));
    Ok(tokens)
}

/// The parts between separators that are not within quotes.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        quoted ^= c == '"';
        match parts.last_mut() {
            Some(_) if c == separator && !quoted => parts.push(String::new()),
            Some(last) => last.push(c),
            None => {}
        }
    }
    let parts = parts.into_iter().map(|part| part.trim().to_owned());
    parts.filter(|part| !part.is_empty()).collect()
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Sequence(items) => !items.is_empty(),
        Value::Mapping(entries) => !entries.is_empty(),
        Value::Tagged(_) => true,
    }
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        other => Err(format!("{other:?} would be written as Go writes it")),
    }
}
