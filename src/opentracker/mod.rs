//! Running in opentracker's place: its configuration file and its flags become
//! a configuration of ours.
//!
//! ```text
//! file   -> parse \
//!                  directives -> import -> YAML text -> config::Config
//! flags  -> flags /
//! ```
//!
//! There is one path: what `karuta --opentracker FILE` runs on is, to the
//! letter, what `karuta import-opentracker FILE` prints.
//!
//! Left to others: everything that happens at run time. The answers in
//! opentracker's words are `dialect: opentracker`, the access lists are the
//! hook `torrent approval` with `format: opentracker`.

mod flags;
mod import;
mod page;
mod parse;

pub use flags::{Asked, HELP};
pub use import::{Import, Start};
pub use parse::{Remark, Script};

use crate::config::{Config, ConfigError};
use std::ffi::OsString;
use std::path::Path;

/// Reads opentracker's configuration file.
///
/// # Errors
/// If it cannot be read: one line with the remedy.
pub fn read_file(path: &Path) -> Result<Script, String> {
    let mut script = Script::default();
    script.read_file(path)?;
    Ok(script)
}

/// Reads opentracker's flags.
///
/// # Errors
/// What is wrong with them: one line.
pub fn read_flags(words: &[OsString]) -> Result<Asked, String> {
    flags::read(words)
}

/// Brings what was read into the form of our own configuration file. `name` is
/// what it was read from, for the comment at its top.
#[must_use]
pub fn import(script: &Script, start: &Start, name: &str) -> Import {
    import::import(script, start, name)
}

impl Import {
    /// Reads the text as any other configuration file.
    ///
    /// # Errors
    /// A value that has no place in our file, such as a user's name with a
    /// colon. Lines are those of the text.
    pub fn config(&self, name: &str) -> Result<Config, ConfigError> {
        let name = format!("{name} (lines as karuta import-opentracker prints it)");
        Config::parse(&self.yaml, &name)
    }
}
