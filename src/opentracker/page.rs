//! The text of a configuration file in the making: keys, values and comments.
//!
//! Values and comments come from files and command lines: whatever they hold,
//! they stay within their quotes and their line.

use super::parse::Remark;
use std::fmt::Write as _;

/// The text in the making.
#[derive(Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    pub(super) fn root(&mut self, key: &str, comment: &str, value: String) {
        self.entry(0, key, comment, value);
    }

    pub(super) fn section(&mut self, name: &str, comment: &str) {
        self.text.push('\n');
        self.comment(0, comment);
        self.line(&format!("{name}:"));
    }

    pub(super) fn nested(&mut self, key: &str, comment: &str, value: &str) {
        self.nested_raw(key, comment, quoted(value));
    }

    pub(super) fn nested_raw(&mut self, key: &str, comment: &str, value: String) {
        self.entry(2, key, comment, value);
    }

    pub(super) fn deep(&mut self, key: &str, comment: &str, value: &str) {
        self.entry(4, key, comment, quoted(value));
    }

    fn entry(&mut self, indent: usize, key: &str, comment: &str, value: String) {
        self.comment(indent, comment);
        self.line(&format!("{:indent$}{key}: {value}", ""));
    }

    pub(super) fn comment(&mut self, indent: usize, comment: &str) {
        for line in comment.lines() {
            self.line(&format!("{:indent$}# {}", "", one_line(line)));
        }
    }

    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// The whole file, with what is not in it at its top.
    pub(super) fn finish(self, name: &str, remarks: &[Remark]) -> String {
        let name = one_line(name);
        let mut head = format!(
            "# The configuration of karuta that stands for opentracker's: {name}\n\
             # docs/replacing-opentracker.md says what differs; config.yaml explains the keys.\n"
        );
        if !remarks.is_empty() {
            head.push_str("#\n# Not taken over, or not as there:\n");
            for remark in remarks {
                let _ = writeln!(head, "# - {}", one_line(&remark.to_string()));
            }
        }
        format!("{head}\n{}", self.text)
    }
}

/// Keeps a text that came from outside within its comment: YAML has more line
/// breaks than one, and characters that it allows nowhere.
pub(super) fn one_line(text: &str) -> String {
    let is_safe = |c: char| matches!(c, ' '..='~') || c.is_alphanumeric();
    let keep = |c| if is_safe(c) { c } else { '?' };
    text.chars().map(keep).collect()
}

/// A text in YAML, whatever it holds.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            c if c.is_alphanumeric() => quoted.push(c),
            c => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
        }
    }
    quoted + "\""
}
