//! From the configuration to each shard's hooks, at the start and at a reload.

use super::background::Services;
use super::{AnyHook, Chain, Hook, Selection, ShardSetup, each};
use crate::config::{HookConfig, read_options};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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

/// Where a shard finds new hooks after a reload, and leaves those it had: they
/// may hold a big list, which it should not be the one to free. It looks once
/// per tick.
#[derive(Default)]
pub struct Mailbox {
    full: AtomicBool,
    places: Mutex<Places>,
    exchanged: Condvar,
}

#[derive(Default)]
struct Places {
    new: Option<Box<ShardHooks>>,
    old: Option<Box<ShardHooks>>,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl Mailbox {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Leaves new hooks for the shard, instead of those that lie there unread.
    pub fn put(&self, hooks: ShardHooks) {
        let unread = {
            let mut places = self.places();
            self.full.store(true, Ordering::Release);
            (places.new.replace(Box::new(hooks)), places.old.take())
        };
        drop(unread);
    }

    /// For the shard: lets `exchange` swap its hooks for those that lie there,
    /// if any do.
    pub fn look(&self, exchange: impl FnOnce(&mut ShardHooks)) {
        if !self.full.load(Ordering::Acquire) {
            return;
        }
        let mut places = self.places();
        self.full.store(false, Ordering::Release);
        if let Some(mut hooks) = places.new.take() {
            exchange(&mut hooks);
            places.old = Some(hooks);
            self.exchanged.notify_all();
        }
    }

    /// Waits until the shard has its new hooks, and frees those it had. Returns
    /// false if it takes longer than this.
    pub fn wait(&self, patience: Duration) -> bool {
        let waiting = |places: &mut Places| places.new.is_some();
        let result = self
            .exchanged
            .wait_timeout_while(self.places(), patience, waiting);
        let (mut places, timeout) = result.unwrap_or_else(PoisonError::into_inner);
        let old = places.old.take();
        drop(places);
        drop(old);
        !timeout.timed_out()
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_exchanged_once() {
        let mailbox = Mailbox::new();
        mailbox.look(|_| panic!("nothing lies there"));
        mailbox.put(ShardHooks::default());
        assert!(!mailbox.wait(Duration::ZERO));
        let mut own = ShardHooks::default();
        own.selection.peer_scope = false;
        mailbox.look(|hooks| std::mem::swap(hooks, &mut own));
        assert!(own.selection.peer_scope, "the new ones");
        mailbox.look(|_| panic!("nothing lies there any more"));
        let old = mailbox
            .places()
            .old
            .as_ref()
            .map(|old| old.selection.peer_scope);
        assert_eq!(old, Some(false));
        assert!(mailbox.wait(Duration::ZERO));
        assert!(mailbox.places().old.is_none());
    }
}
