//! Which hooks there are, and how the file names them.
//!
//! A hook has one entry in [`PREHOOKS`] or [`POSTHOOKS`], with a function that
//! reads its options out of the file, so that a mistake in them is found and
//! placed like any other. The entries come from the list in [`crate::hook`]:
//! the one place where this layer names an upper one, so that a hook's options
//! stand in the hook's own file. What hooks do is not known here.

use super::reader::{File, Section};
use super::url;
use serde::Serialize;
use serde_yaml::Value;

/// One entry of `prehooks` or `posthooks`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HookConfig {
    /// Which hook.
    pub name: String,
    /// Its options as the file has them; null when there are none. Written
    /// without what may be secret in their URLs.
    #[serde(serialize_with = "url::serialize")]
    pub options: Value,
    /// Where in the file the entry begins, from 1; 0 if unknown.
    #[serde(skip)]
    pub line: usize,
}

/// A hook that may be named in the file.
#[derive(Clone, Copy)]
pub(crate) struct KnownHook {
    /// As it is written in the file.
    pub(crate) name: &'static str,
    /// Takes every option this hook has and reports what is wrong with them.
    /// Options that it does not take are unknown keys.
    pub(crate) check: fn(&mut Section<'_>),
}

/// Hooks that run before the reply.
pub(super) const PREHOOKS: &[KnownHook] = crate::hook::PREHOOKS;

/// Hooks that run after the reply.
pub(super) const POSTHOOKS: &[KnownHook] = crate::hook::POSTHOOKS;

/// Reads options that are no longer part of a file's text, as those of a
/// [`HookConfig`].
///
/// # Errors
/// What is wrong with them, one line.
pub(crate) fn read_options<T>(
    options: &Value,
    read: impl FnOnce(&mut Section<'_>) -> T,
) -> Result<T, String> {
    let file = File::new("");
    let mut result = None;
    if let Some(mut section) = Section::new(&file, Vec::new(), options) {
        result = Some(read(&mut section));
        section.finish();
    }
    let problems = file.into_messages();
    match result {
        Some(result) if problems.is_empty() => Ok(result),
        _ => Err(problems.join("; ")),
    }
}
