//! Values that are made beside the shards and read by all of them: lists, keys.
//!
//! A value is immutable. Who makes a new one stores it in [`Shared`]; each
//! shard reads through a [`View`] of its own, which looks once per tick
//! whether there is a new one: a request takes no lock and touches nothing
//! that another core writes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The newest value of something, and those that shards may still be using.
#[derive(Debug)]
pub struct Shared<T> {
    generation: AtomicU64,
    kept: Mutex<Kept<T>>,
}

#[derive(Debug)]
struct Kept<T> {
    current: Arc<T>,
    /// Kept so that a shard never is the one to free a big list.
    old: Vec<Arc<T>>,
}

impl<T> Shared<T> {
    /// A first value.
    #[must_use]
    pub fn new(value: T) -> Arc<Self> {
        Arc::new(Self {
            generation: AtomicU64::new(0),
            kept: Mutex::new(Kept {
                current: Arc::new(value),
                old: Vec::new(),
            }),
        })
    }

    /// Replaces the value; shards see the new one at their next tick. Frees
    /// earlier values that no shard uses any more.
    pub fn store(&self, value: T) {
        let value = Arc::new(value);
        let unused = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let last = std::mem::replace(&mut kept.current, value);
            kept.old.push(last);
            self.generation.fetch_add(1, Ordering::Release);
            take_unused(&mut kept.old)
        };
        drop(unused);
    }

    /// The newest value.
    #[must_use]
    pub fn load(&self) -> Arc<T> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.current.clone()
    }

    /// Frees earlier values that no shard uses any more. Returns whether some
    /// are still in use.
    pub fn free_unused(&self) -> bool {
        let (unused, more) = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            (take_unused(&mut kept.old), !kept.old.is_empty())
        };
        drop(unused);
        more
    }

    /// A reader's own view.
    #[must_use]
    pub fn view(self: &Arc<Self>) -> View<T> {
        let generation = self.generation.load(Ordering::Acquire);
        View {
            current: self.load(),
            shared: self.clone(),
            generation,
        }
    }
}

fn take_unused<T>(old: &mut Vec<Arc<T>>) -> Vec<Arc<T>> {
    old.extract_if(.., |value| Arc::strong_count(value) == 1)
        .collect()
}

/// One shard's view of a shared value.
#[derive(Debug)]
pub struct View<T> {
    shared: Arc<Shared<T>>,
    generation: u64,
    current: Arc<T>,
}

impl<T> View<T> {
    /// The value as of the last [`View::refresh`].
    #[must_use]
    #[inline]
    pub fn get(&self) -> &T {
        &self.current
    }

    /// Looks for a newer value; returns whether there was one. One load when
    /// there is none.
    pub fn refresh(&mut self) -> bool {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation == self.generation {
            return false;
        }
        self.generation = generation;
        self.current = self.shared.load();
        true
    }
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            generation: self.generation,
            current: self.current.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_changes_only_when_it_is_refreshed() {
        let shared = Shared::new(1);
        let mut view = shared.view();
        shared.store(2);
        assert_eq!(*view.get(), 1);
        assert!(view.refresh());
        assert_eq!(*view.get(), 2);
        assert!(!view.refresh());
    }

    #[test]
    fn the_maker_frees_what_nobody_uses() {
        let shared = Shared::new(1);
        let mut view = shared.view();
        let first = Arc::downgrade(&view.current);
        shared.store(2);
        view.refresh();
        assert!(first.upgrade().is_some(), "the view did not free it");
        assert!(!shared.free_unused());
        assert!(first.upgrade().is_none());
    }
}
