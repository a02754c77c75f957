//! Takes typed values out of a mapping and remembers what is wrong, so that
//! all mistakes of a file are reported at once.
//!
//! A value that is wrong is reported and leaves its setting as it was. Keys
//! that nobody took are unknown: [`Section::finish`] reports them.

use super::error::{ConfigError, Problem};
use super::locate::{Part, Step, locate};
use super::prefix::Prefix;
use super::{address, duration};
use serde_yaml::{Mapping, Value};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The file being read, and what was found wrong so far.
pub(crate) struct File<'a> {
    text: &'a str,
    problems: RefCell<Vec<Found>>,
}

/// A problem that is not yet placed.
struct Found {
    path: Vec<Step>,
    part: Part,
    message: String,
}

impl<'a> File<'a> {
    /// A file without problems.
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            problems: RefCell::default(),
        }
    }

    /// Reports a problem with a value, or with its key.
    pub(super) fn report(&self, path: Vec<Step>, part: Part, message: String) {
        self.problems.borrow_mut().push(Found {
            path,
            part,
            message,
        });
    }

    /// What all problems say, without their places.
    pub(crate) fn into_messages(self) -> Vec<String> {
        let problems = self.problems.take().into_iter();
        problems.map(|found| found.message).collect()
    }

    /// All problems, placed and in the order of the file; `Ok` if there are
    /// none.
    pub(crate) fn finish(self, name: &str) -> Result<(), ConfigError> {
        let mut problems: Vec<Problem> = self
            .problems
            .take()
            .into_iter()
            .map(|found| Problem {
                position: locate(self.text, &found.path, found.part),
                message: found.message,
            })
            .collect();
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort_by_key(|problem| problem.position);
        Err(ConfigError {
            file: name.to_owned(),
            problems,
        })
    }
}

/// A mapping of the file.
pub(crate) struct Section<'a> {
    file: &'a File<'a>,
    path: Vec<Step>,
    /// `None` for a mapping that is there but empty.
    entries: Option<&'a Mapping>,
    taken: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The section that a value is; null is an empty one. Reports anything
    /// that is not a mapping.
    pub(crate) fn new(file: &'a File<'a>, path: Vec<Step>, value: &'a Value) -> Option<Self> {
        let entries = match value {
            Value::Null => None,
            Value::Mapping(entries) => Some(entries),
            other => {
                let message = format!(
                    "{}wants keys with values, not {}",
                    prefix(&path),
                    kind_of(other)
                );
                file.report(path, Part::Value, message);
                return None;
            }
        };
        Some(Self {
            file,
            path,
            entries,
            taken: Vec::new(),
        })
    }

    /// Takes a value as it is. A null counts as absent.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<&'a Value> {
        self.taken.push(key);
        self.entries?.get(key).filter(|value| !value.is_null())
    }

    /// Takes the mapping under a key; `None` if it is absent or null.
    pub(crate) fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        let value = self.take(key)?;
        Section::new(self.file, self.at(key), value)
    }

    /// Takes a duration within a range; `whole` refuses fractions of a second.
    pub(crate) fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        whole: Whole,
        into: &mut Duration,
    ) -> Option<()> {
        let value = self.take(key)?;
        let read = match value {
            Value::String(text) => duration::parse(text),
            Value::Number(number) if number.as_u64() == Some(0) => Some(Duration::ZERO),
            _ => None,
        };
        let Some(read) = read else {
            let hint = match value {
                Value::Number(_) => "; the unit is missing",
                _ => "",
            };
            let message = format!("{} is not {}{hint}", show(value), duration::FORMS);
            return self.refuse(key, &message);
        };
        if !range.contains(&read) {
            let (least, most) = (
                duration::format(*range.start()),
                duration::format(*range.end()),
            );
            let message = format!("{} is out of range; use {least} to {most}", show(value));
            return self.refuse(key, &message);
        }
        if whole == Whole::Seconds && read.subsec_nanos() != 0 {
            let message = format!("{} has a fraction; use whole seconds", show(value));
            return self.refuse(key, &message);
        }
        *into = read;
        Some(())
    }

    /// Takes a whole number within a range, which must be within that of `T`.
    pub(crate) fn integer<T: TryFrom<u64>>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        into: &mut T,
    ) -> Option<()> {
        let value = self.take(key)?;
        let (least, most) = (range.start(), range.end());
        let Some(number) = value.as_u64().filter(|number| range.contains(number)) else {
            let message = if value.is_number() {
                format!(
                    "{} is out of range; use a whole number from {least} to {most}",
                    show(value)
                )
            } else {
                format!(
                    "{} is not a number; use one from {least} to {most}, without quotes",
                    show(value)
                )
            };
            return self.refuse(key, &message);
        };
        match T::try_from(number) {
            Ok(number) => {
                *into = number;
                Some(())
            }
            Err(_) => self.refuse(key, &format!("{number} is too large for this machine")),
        }
    }

    /// Takes a number that may have a fraction, above one bound and up to the
    /// other.
    pub(crate) fn fraction(
        &mut self,
        key: &'static str,
        (above, most): (f64, f64),
        into: &mut f64,
    ) -> Option<()> {
        let value = self.take(key)?;
        match value.as_f64().filter(|read| *read > above && *read <= most) {
            Some(read) => *into = read,
            None => {
                let message = format!(
                    "{} is not a number above {above} and up to {most}",
                    show(value)
                );
                return self.refuse(key, &message);
            }
        }
        Some(())
    }

    /// Takes true or false; also yes, no, on and off, as Chihaya does.
    pub(crate) fn boolean(&mut self, key: &'static str, into: &mut bool) -> Option<()> {
        let value = self.take(key)?;
        let read = match value {
            Value::Bool(read) => Some(*read),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "yes" | "on" => Some(true),
                "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        let Some(read) = read else {
            return self.refuse(key, &format!("{} is not true or false", show(value)));
        };
        *into = read;
        Some(())
    }

    /// Takes a text.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let value = self.take(key)?;
        let text = value.as_str();
        if text.is_none() {
            let message = format!("wants a text, not {}; put it in quotes", kind_of(value));
            self.refuse(key, &message);
        }
        text
    }

    /// Takes one of a few words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        into: &mut T,
    ) -> Option<()> {
        let value = self.take(key)?;
        let text = value.as_str();
        let Some((_, choice)) = choices.iter().find(|(word, _)| Some(*word) == text) else {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let message = format!("{} is not one of: {}", show(value), words.join(", "));
            return self.refuse(key, &message);
        };
        *into = *choice;
        Some(())
    }

    /// Takes one text or a list of texts, each with its path.
    pub(crate) fn texts(&mut self, key: &'static str) -> Option<Vec<(Vec<Step>, &'a str)>> {
        let value = self.take(key)?;
        let items = match value {
            Value::Sequence(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        let mut texts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let mut path = self.at(key);
            if value.is_sequence() {
                path.push(Step::Index(index));
            }
            match item.as_str() {
                Some(text) => texts.push((path, text)),
                None => {
                    let message = format!("wants a text, not {}; put it in quotes", kind_of(item));
                    self.refuse_at(path, &message);
                }
            }
        }
        Some(texts)
    }

    /// Takes one path or a list of paths.
    pub(crate) fn paths(&mut self, key: &'static str) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for (path, text) in self.texts(key).into_iter().flatten() {
            if text.is_empty() {
                self.refuse_at(path, "is empty; name a path or remove this");
            } else {
                paths.push(PathBuf::from(text));
            }
        }
        paths
    }

    /// Takes addresses: one text or a list. An empty text by itself gives an
    /// empty list, so does an empty list.
    pub(crate) fn addresses(
        &mut self,
        key: &'static str,
        into: &mut Vec<SocketAddr>,
    ) -> Option<()> {
        let texts = self.texts(key)?;
        let mut read: Vec<SocketAddr> = Vec::new();
        let alone_and_empty = matches!(texts.as_slice(), [(path, "")] if !ends_in_index(path));
        if !alone_and_empty {
            for (path, text) in texts {
                let addresses = match address::parse(text) {
                    Ok(addresses) => addresses,
                    Err(message) => {
                        self.refuse_at(path, &message);
                        continue;
                    }
                };
                // Port 0 is a new port each time.
                let twice = |address: &&SocketAddr| address.port() != 0 && read.contains(address);
                if let Some(address) = addresses.iter().find(twice) {
                    self.refuse_at(path, &format!("{address} is given twice; remove one"));
                    continue;
                }
                read.extend(addresses);
            }
        }
        if self.is_sound(&[key]) {
            *into = read;
        }
        Some(())
    }

    /// Takes one subnet or a list of subnets.
    pub(crate) fn prefixes(&mut self, key: &'static str, into: &mut Vec<Prefix>) -> Option<()> {
        let texts = self.texts(key)?;
        let mut read = Vec::new();
        for (path, text) in texts {
            match text.parse() {
                Ok(prefix) => read.push(prefix),
                Err(message) => {
                    let message: String = message;
                    self.refuse_at(path, &message);
                }
            }
        }
        if self.is_sound(&[key]) {
            *into = read;
        }
        Some(())
    }

    /// Reports a problem with the value of a key. Always `None`, so that a
    /// reader can end with it.
    pub(crate) fn refuse(&self, key: &'static str, message: &str) -> Option<()> {
        self.refuse_at(self.at(key), message)
    }

    /// Reports a problem with the section as a whole. Always `None`.
    pub(crate) fn refuse_all(&self, message: &str) -> Option<()> {
        self.refuse_at(self.path.clone(), message)
    }

    /// Reports a problem with the value at a path. Always `None`.
    pub(crate) fn refuse_at(&self, path: Vec<Step>, message: &str) -> Option<()> {
        let message = format!("{}{message}", prefix(&path));
        self.file.report(path, Part::Value, message);
        None
    }

    /// Whether nothing was found wrong with these keys: rules about several
    /// settings only make sense then.
    pub(crate) fn is_sound(&self, keys: &[&'static str]) -> bool {
        let problems = self.file.problems.borrow();
        !keys.iter().any(|key| {
            let path = self.at(key);
            problems.iter().any(|found| found.path.starts_with(&path))
        })
    }

    /// Whether a key has a value that is not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        let value = self.entries.and_then(|entries| entries.get(key));
        value.is_some_and(|value| !value.is_null())
    }

    /// The path of a key of this section.
    pub(crate) fn at(&self, key: &str) -> Vec<Step> {
        let mut path = self.path.clone();
        path.push(Step::Key(key.to_owned()));
        path
    }

    /// The file that this section is part of.
    pub(crate) fn file(&self) -> &'a File<'a> {
        self.file
    }

    /// The line of the value at a path, from 1; 0 if unknown.
    pub(crate) fn line_of(&self, path: &[Step]) -> usize {
        locate(self.file.text, path, Part::Value).map_or(0, |position| position.line)
    }

    /// Reports every key that nobody took.
    pub(crate) fn finish(self) {
        let Some(entries) = self.entries else { return };
        for key in entries.keys() {
            let name = key_text(key);
            if self.taken.contains(&name.as_str()) {
                continue;
            }
            let place = match shown(&self.path) {
                place if place.is_empty() => String::new(),
                place => format!(" in {place}"),
            };
            let remedy = match nearest(&name, &self.taken) {
                Some(known) => format!("did you mean {known:?}?"),
                None => format!("known here: {}", self.taken.join(", ")),
            };
            let message = format!("unknown key {name:?}{place}; {remedy}");
            self.file.report(self.at(&name), Part::Key, message);
        }
    }
}

/// Whether a duration must be whole seconds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whole {
    /// Yes: it goes on the wire, or is kept, in seconds.
    Seconds,
    /// No.
    Any,
}

/// The known word that was most likely meant, if one is near enough: a third
/// of the letters may be wrong.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|&candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| distance * 3 <= word.chars().count().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `http.addr[1]`. The root key of Chihaya's files is left out.
fn shown(path: &[Step]) -> String {
    let mut text = String::new();
    for (depth, step) in path.iter().enumerate() {
        match step {
            Step::Key(key) if depth == 0 && key == super::CHIHAYA => {}
            Step::Key(key) if text.is_empty() => text += key,
            Step::Key(key) => text += &format!(".{key}"),
            Step::Index(index) => text += &format!("[{index}]"),
        }
    }
    text
}

/// What a message about a value begins with.
fn prefix(path: &[Step]) -> String {
    match shown(path) {
        place if place.is_empty() => place,
        place => format!("{place}: "),
    }
}

/// A scalar in a message as it was written, more or less.
fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        other => kind_of(other).to_owned(),
    }
}

/// What kind of thing a value is, for messages.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "keys with values",
        Value::Tagged(_) => "a value with a !tag",
    }
}

/// The text of a key that may be any scalar.
fn key_text(key: &Value) -> String {
    match key {
        Value::String(text) => text.clone(),
        Value::Null => "null".to_owned(),
        other => show(other),
    }
}

/// Whether a path leads to an item of a list.
pub(super) fn ends_in_index(path: &[Step]) -> bool {
    matches!(path.last(), Some(Step::Index(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_what_is_near() {
        let known = ["announce_interval", "addr", "udp"];
        assert_eq!(
            nearest("anounce_interval", &known),
            Some("announce_interval")
        );
        assert_eq!(
            nearest("announce-intervall", &known),
            Some("announce_interval")
        );
        assert_eq!(nearest("adr", &known), Some("addr"));
        assert_eq!(nearest("upd", &known), Some("udp"));
        assert_eq!(nearest("tcp", &known), None);
        assert_eq!(nearest("", &known), None);
    }
}
