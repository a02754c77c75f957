//! Which hooks there are, and how the file names them.
//!
//! A hook has one entry in [`PREHOOKS`] or [`POSTHOOKS`], with a function that
//! reads its options out of the file, so that a mistake in them is found and
//! placed like any other. This module knows nothing of what hooks do.

use super::reader::Section;
use serde::Serialize;

/// One entry of `prehooks` or `posthooks`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HookConfig {
    /// Which hook.
    pub name: String,
    /// Its options as the file has them; null when there are none.
    pub options: serde_yaml::Value,
    /// Where in the file the entry begins, from 1; 0 if unknown.
    #[serde(skip)]
    pub line: usize,
}

/// A hook that may be named in the file.
#[derive(Clone, Copy)]
pub(super) struct KnownHook {
    /// As it is written in the file.
    pub(super) name: &'static str,
    /// Takes every option this hook has and reports what is wrong with them.
    /// Options that it does not take are unknown keys.
    pub(super) check: fn(&mut Section<'_>),
}

/// Hooks that run before the reply.
pub(super) const PREHOOKS: &[KnownHook] = &[];

/// Hooks that run after the reply.
pub(super) const POSTHOOKS: &[KnownHook] = &[];
