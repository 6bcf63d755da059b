//! YAML 1.2 as a tree with the line of each node: what a person wrote, so errors say where.
//!
//! Reads one document of lists, mappings and scalars. Refuses what configuration files do without and what makes YAML
//! dangerous: aliases, which can multiply a text, tags of types, keys that are no scalars, duplicate keys.

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Number, Value as Json};
use std::collections::HashSet;

use crate::error::{Document, Error, Result, shown, shown_reason};

/// Far above what people write.
const MAX_NODES: usize = 100_000;
const MAX_DEPTH: usize = 64;

/// A value, and the line where it starts, from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The line.
    pub line: usize,
    /// The value.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text; what it means is up to the reader.
    Scalar(Scalar),
    /// `[a, b]`, or a line with `-` for each item.
    List(Vec<Node>),
    /// `key: value`, in the order of the text.
    Mapping(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The text of the key.
    pub key: String,
    /// Where the key is.
    pub line: usize,
    /// The value.
    pub value: Node,
}

/// A text without its quotes and escapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// The text.
    pub text: String,
    /// Whether it was neither quoted nor a block: `true` is a boolean, `"true"` a text.
    pub is_plain: bool,
}

impl Node {
    /// Returns the value of a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let Value::Mapping(entries) = &self.value else {
            return None;
        };
        let entry = entries.iter().find(|entry| entry.key == key)?;
        Some(&entry.value)
    }

    /// Returns the text of a scalar that is not null, as it was written: `1.0` and `no` are texts here.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) if !scalar.is_null() => Some(&scalar.text),
            _ => None,
        }
    }

    /// Returns the node as JSON, scalars by the core schema of YAML 1.2. What JSON numbers cannot express is a string.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Scalar(scalar) => scalar.to_json(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Mapping(entries) => {
                let members = entries.iter().map(|e| (e.key.clone(), e.value.to_json()));
                Json::Object(members.collect())
            }
        }
    }
}

impl Scalar {
    /// Returns whether it is null.
    pub fn is_null(&self) -> bool {
        self.is_plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    fn to_json(&self) -> Json {
        if self.is_null() {
            return Json::Null;
        }
        match self.text.as_str() {
            "true" | "True" | "TRUE" if self.is_plain => Json::Bool(true),
            "false" | "False" | "FALSE" if self.is_plain => Json::Bool(false),
            text if self.is_plain => number(text).map_or_else(|| text.into(), Json::Number),
            text => text.into(),
        }
    }
}

/// Reads a number of the core schema: `-12`, `0o17`, `0xff`, `1.5e3`.
fn number(text: &str) -> Option<Number> {
    let based = |digits: &str, base| {
        // from_str_radix takes a sign.
        let is_number = digits.starts_with(|c: char| c.is_ascii_hexdigit());
        let number = is_number.then(|| u64::from_str_radix(digits, base).ok());
        number.flatten().map(Number::from)
    };
    if let Some(digits) = text.strip_prefix("0o") {
        return based(digits, 8);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return based(digits, 16);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than 64 bits hold stay a text rather than lose some.
        let negative = text.parse::<i64>().ok().map(Number::from);
        return negative.or_else(|| unsigned_number(text));
    }
    let is_float = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(|c: char| c.is_ascii_digit())
        && (text.bytes()).all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let float = is_float.then(|| text.parse::<f64>().ok()).flatten()?;
    // None for one that is out of range.
    Number::from_f64(float)
}

fn unsigned_number(text: &str) -> Option<Number> {
    let number = text.strip_prefix('+').unwrap_or(text).parse::<u64>().ok()?;
    Some(number.into())
}

/// Parses a text that is one document; `None` if it has no content. `first_line` is the number of its first line.
pub fn parse(text: &str, document: Document, first_line: usize) -> Result<Option<Node>> {
    let reading = Reading {
        parser: Parser::new_from_str(text),
        document,
        first_line,
        nodes: 0,
    };
    reading.document()
}

struct Reading<'a> {
    parser: Parser<'a, StrInput<'a>>,
    document: Document,
    first_line: usize,
    nodes: usize,
}

/// A list or a mapping whose end has not come, with its line; of a mapping its keys, and the one whose value comes next.
enum Open {
    List(usize, Vec<Node>),
    Mapping(usize, Vec<Entry>, HashSet<String>, Option<(String, usize)>),
}

impl<'a> Reading<'a> {
    fn document(mut self) -> Result<Option<Node>> {
        let mut root: Option<Node> = None;
        // A stack of our own: depth costs no stack of the process.
        let mut open: Vec<Open> = Vec::new();
        loop {
            let (event, span) = self.event()?;
            let line = self.line(&span);
            let node = match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(self.refused(line, "a second document"));
                }
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd => continue,
                Event::Alias(_) => return Err(self.refused(line, "aliases are not read")),
                Event::SequenceStart(_, tag) => {
                    self.check_tag(line, tag.as_deref(), &["seq"])?;
                    self.push(&mut open, Open::List(line, Vec::new()), line)?;
                    continue;
                }
                Event::MappingStart(_, tag) => {
                    self.check_tag(line, tag.as_deref(), &["map"])?;
                    let mapping = Open::Mapping(line, Vec::new(), HashSet::new(), None);
                    self.push(&mut open, mapping, line)?;
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                    Some(ended) => ended.close(),
                    None => return Err(self.refused(line, "an end without a start")),
                },
                Event::Scalar(text, style, _, tag) => {
                    self.check_tag(line, tag.as_deref(), &SCALARS)?;
                    let is_text = tag.is_some_and(|tag| tag.suffix == "str" || is_unspecific(&tag));
                    let is_plain = style == ScalarStyle::Plain && !is_text;
                    let text = text.into_owned();
                    self.scalar(line, Scalar { text, is_plain })?
                }
            };
            match open.last_mut() {
                None => root = Some(node),
                Some(parent) => self.place(parent, node)?,
            }
        }
    }

    fn event(&mut self) -> Result<(Event<'a>, Span)> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, Span::default())),
            Some(Ok(event)) => Ok(event),
            Some(Err(e)) => {
                let line = self.first_line + e.marker().line().saturating_sub(1);
                Err(self.refused(line, &shown_reason(e.info())))
            }
        }
    }

    fn line(&self, span: &Span) -> usize {
        self.first_line + span.start.line().saturating_sub(1)
    }

    fn refused(&self, line: usize, reason: &str) -> Error {
        Error::InvalidYaml {
            document: self.document,
            line: line as u64,
            reason: reason.to_owned(),
        }
    }

    fn scalar(&mut self, line: usize, scalar: Scalar) -> Result<Node> {
        self.count(line)?;
        if scalar.text.contains('\0') {
            return Err(self.refused(line, "a zero character"));
        }
        let value = Value::Scalar(scalar);
        Ok(Node { line, value })
    }

    fn count(&mut self, line: usize) -> Result<()> {
        self.nodes += 1;
        match self.nodes > MAX_NODES {
            true => Err(self.refused(line, &format!("more than {MAX_NODES} values"))),
            false => Ok(()),
        }
    }

    fn push(&mut self, open: &mut Vec<Open>, started: Open, line: usize) -> Result<()> {
        self.count(line)?;
        if open.len() == MAX_DEPTH {
            let reason = format!("more than {MAX_DEPTH} lists and mappings in one another");
            return Err(self.refused(line, &reason));
        }
        open.push(started);
        Ok(())
    }

    /// Adds a node to the list or the mapping that it is in.
    fn place(&self, parent: &mut Open, node: Node) -> Result<()> {
        let (entries, keys, waiting) = match parent {
            Open::List(_, items) => {
                items.push(node);
                return Ok(());
            }
            Open::Mapping(_, entries, keys, waiting) => (entries, keys, waiting),
        };
        if let Some((key, line)) = waiting.take() {
            let value = node;
            entries.push(Entry { key, line, value });
            return Ok(());
        }
        let (line, Value::Scalar(key)) = (node.line, node.value) else {
            return Err(self.refused(node.line, "a key that is a list or a mapping"));
        };
        if !keys.insert(key.text.clone()) {
            let reason = format!("duplicate key \"{}\"", shown(&key.text));
            return Err(self.refused(line, &reason));
        }
        *waiting = Some((key.text, line));
        Ok(())
    }

    fn check_tag(&self, line: usize, tag: Option<&Tag>, known: &[&str]) -> Result<()> {
        match tag {
            // `!` alone means a text, a list or a mapping.
            Some(tag) if is_unspecific(tag) => Ok(()),
            Some(tag) if tag.is_yaml_core_schema() && known.contains(&tag.suffix.as_str()) => {
                Ok(())
            }
            Some(tag) => {
                let reason = format!("unknown tag \"{}\"", shown(&tag.to_string()));
                Err(self.refused(line, &reason))
            }
            None => Ok(()),
        }
    }
}

/// Returns whether a tag is `!` alone.
fn is_unspecific(tag: &Tag) -> bool {
    tag.handle.is_empty() && tag.suffix == "!"
}

/// Tags of scalars in the core schema.
const SCALARS: [&str; 5] = ["str", "int", "float", "bool", "null"];

impl Open {
    fn close(self) -> Node {
        let (line, value) = match self {
            Open::List(line, items) => (line, Value::List(items)),
            Open::Mapping(line, entries, ..) => (line, Value::Mapping(entries)),
        };
        Node { line, value }
    }
}
