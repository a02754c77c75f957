//! The configuration: a YAML file in, validated settings out.
//!
//! ```text
//! text -> locate::check_shape -> serde_yaml::Value -> rules (reader::Section) -> Config
//!                                                      problems, placed by locate
//! ```
//!
//! The file is read into plain YAML values first and then, key by key, into
//! the settings. That, rather than deriving the reader, is what allows every
//! mistake to be reported at once, in words of our own, with its line and the
//! nearest known key.
//!
//! Invariants: a [`Config`] that was loaded keeps every range and rule that its
//! fields name. Nothing is read but the file that was named (whether others
//! exist is looked at). Secrets are never printed.
//!
//! Left to others: whether an address can be bound, and what hooks do.

mod address;
mod duration;
mod error;
mod hooks;
mod http_rules;
mod identity;
mod locate;
mod prefix;
mod reader;
mod rules;
mod settings;
mod state;
mod statistics;
pub(crate) mod url;
mod xdp;

pub use error::{ConfigError, Position, Problem};
pub use hooks::HookConfig;
pub(crate) use hooks::{KnownHook, read_options};
pub use prefix::Prefix;
pub(crate) use prefix::mask as prefix_mask;
pub(crate) use reader::{Section, Whole, nearest};
pub use settings::{
    Config, HttpConfig, MemoryConfig, Secret, Steering, StorageConfig, StorageName, UdpConfig,
};
pub use xdp::XdpMode;

use serde_yaml::Value;
use std::path::Path;

/// The root key of Chihaya's files; ours do without.
const CHIHAYA: &str = "chihaya";

/// Fewer bytes than this are few enough to guess a key.
const SHORT_KEY_BYTES: usize = 16;

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or for every reason that [`Config::parse`] has.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let fail = |message: String| {
            Err(ConfigError {
                file: name.clone(),
                problems: vec![Problem {
                    position: None,
                    message,
                }],
            })
        };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                return fail(format!(
                    "cannot be read: {error}; name a readable file with --config"
                ));
            }
        };
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, &name),
            Err(error) => {
                let good = &bytes[..error.valid_up_to()];
                let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
                fail(format!("line {line} is not UTF-8; save the file as UTF-8"))
            }
        }
    }

    /// Reads the text of a file. `name` is what errors call it.
    ///
    /// The keys may stand at the root or, as in Chihaya's files, under one root
    /// key `chihaya`. What is absent, or null, has its default; the sections
    /// `http` and `udp` turn their frontend off when they are.
    ///
    /// # Errors
    ///
    /// If the text is not YAML: that, with its place. Otherwise everything that
    /// is wrong: unknown keys, wrong types, values out of range, and settings
    /// that contradict each other.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let is_blank = |line: &str| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#')
        };
        // serde_yaml takes a file of comments for an unfinished one.
        let document = if text.lines().all(is_blank) {
            Value::Null
        } else {
            read_document(text).map_err(|error| not_yaml(&error, text, name))?
        };
        let file = reader::File::new(text);
        let config = rules::read(&file, &document);
        file.finish(name)?;
        Ok(config)
    }

    /// What is allowed but probably not meant, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let lifetime = self.storage.config.peer_lifetime;
        let spread = self.announce_interval_spread;
        let interval = self.announce_interval + spread;
        if lifetime < interval {
            let with = match spread.is_zero() {
                true => "",
                false => " with announce_interval_spread",
            };
            warnings.push(format!(
                "storage.config.peer_lifetime ({}) is shorter than announce_interval{with} ({}): \
                 peers are forgotten before they announce again",
                duration::format(lifetime),
                duration::format(interval),
            ));
        }
        let has_statedump = !self.opentracker_state_file.as_os_str().is_empty();
        if has_statedump && self.storage.config.downloads_lifetime.is_zero() {
            warnings.push(
                "opentracker_state_file has no effect while storage.config.downloads_lifetime \
                 is 0s: its torrents have no peers yet and are forgotten at once"
                    .to_owned(),
            );
        }
        if let Some(udp) = &self.udp {
            let key_bytes = udp.private_key.expose().len();
            if (1..SHORT_KEY_BYTES).contains(&key_bytes) {
                warnings.push(format!(
                    "udp.private_key is short enough to guess: use at least {SHORT_KEY_BYTES} \
                     random characters"
                ));
            }
        }
        warnings.extend(self.http.iter().flat_map(http_rules::warnings));
        warnings.extend(self.http.iter().flat_map(statistics::warnings));
        warnings
    }

    /// What the file asked for that has no effect here, one sentence each.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The effective configuration as a file: every key with its value, but
    /// for secrets, of which only a comment says that they are set. Reads back
    /// to the same settings, again but for secrets.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let text = serde_yaml::to_string(self).expect("settings are plain values");
        let mask = Secret::MASK;
        // A key that read "(set)" would be a key that everybody knows. The
        // first match is ours: no text before it can hold a line break.
        text.replacen(
            &format!("private_key: {mask}\n"),
            &format!("private_key: '' # {mask}\n"),
            1,
        )
    }
}

/// The YAML in a text, with merge keys (`<<`) carried out.
fn read_document(text: &str) -> Result<Value, serde_yaml::Error> {
    locate::check_shape(text)?;
    let mut document: Value = serde_yaml::from_str(text)?;
    document.apply_merge()?;
    Ok(document)
}

/// Words for a text that is not YAML, or not the YAML we read.
fn not_yaml(error: &serde_yaml::Error, text: &str, name: &str) -> ConfigError {
    let position = locate::position_of(error);
    let mut message = error.to_string();
    let mut hint = "";
    if let Some(Position { line, column }) = position {
        message = message.replacen(&format!(" at line {line} column {column}"), "", 1);
        let line = text.lines().nth(line - 1).unwrap_or_default();
        if line.contains("]:") && !line.contains(['"', '\'']) {
            hint = "; an IPv6 address needs quotes: \"[::]:6969\"";
        } else if line.trim_start_matches(' ').starts_with('\t') {
            hint = "; indent with spaces, not tabs";
        }
    }
    ConfigError {
        file: name.to_owned(),
        problems: vec![Problem {
            position,
            message: message + hint,
        }],
    }
}
