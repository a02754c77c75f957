//! From the configuration to each shard's hooks, at the start and at a reload.

use super::background::Services;
use super::{AnyHook, Chain, Hook, Selection, ShardSetup, each};
use crate::config::{HookConfig, read_options};
use std::fmt;

/// What one shard works with.
#[derive(Clone, Default)]
pub struct ShardHooks {
    /// For requests that arrive here.
    pub chain: Chain,
    /// For swarms that are kept here.
    pub selection: Selection,
}

/// The hooks of one configuration, started: what each shard gets a clone of.
pub struct Plan {
    hooks: ShardHooks,
    shards: usize,
    seed: u64,
}

impl Plan {
    /// Starts all hooks of a configuration. The background work that they need
    /// is left in the services that are returned.
    ///
    /// # Errors
    /// What keeps a hook from starting.
    pub fn new(
        prehooks: &[HookConfig],
        posthooks: &[HookConfig],
        shards: usize,
        seed: u64,
    ) -> Result<(Self, Services), PlanError> {
        let mut services = Services {
            seed,
            shards,
            ..Services::default()
        };
        let mut selection = Selection::default();
        let mut start = |list: &'static str, configs: &[HookConfig]| {
            let mut hooks = Vec::new();
            for config in configs {
                let fail = |message| PlanError {
                    list,
                    name: config.name.clone(),
                    line: config.line,
                    message,
                };
                let read = read_options(&config.options, |options| {
                    AnyHook::read(&config.name, options)
                });
                let unknown = || fail("there is no such hook".to_owned());
                let mut any = read.map_err(fail)?.ok_or_else(unknown)?;
                each!(&mut any, hook => hook.start(&mut services)).map_err(fail)?;
                if !each!(&any, hook => hook.shape(&mut selection)) {
                    hooks.push(any);
                }
            }
            Ok(hooks)
        };
        let before = start("prehooks", prehooks)?;
        let after = start("posthooks", posthooks)?;
        let hooks = ShardHooks {
            chain: Chain::new(before, after),
            selection,
        };
        let plan = Self {
            hooks,
            shards,
            seed,
        };
        Ok((plan, services))
    }

    /// One shard's hooks.
    #[must_use]
    pub fn shard(&self, id: usize) -> ShardHooks {
        let mut hooks = self.hooks.clone();
        hooks.chain.enter(&ShardSetup {
            id,
            shards: self.shards,
            // Any odd factor keeps the shards' seeds apart.
            seed: self
                .seed
                .wrapping_add((id as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        });
        hooks
    }
}

/// Why hooks cannot start: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    list: &'static str,
    name: String,
    line: usize,
    message: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            list,
            name,
            line,
            message,
        } = self;
        match line {
            0 => write!(f, "{list}: {name}: {message}"),
            line => write!(f, "{list} (line {line}): {name}: {message}"),
        }
    }
}

impl std::error::Error for PlanError {}
