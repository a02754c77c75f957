//! A shard's mailbox: how control hands a running shard something new, and
//! gets back what it replaces, which may be big and is not for the shard to
//! free.
//!
//! The shard looks whenever its loop comes round, which costs one load; it
//! takes the lock only when there is something. Whoever puts something in
//! rings the shard's bell.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where one shard finds what it is to take.
pub struct Mailbox<T> {
    full: AtomicBool,
    places: Mutex<Places<T>>,
    exchanged: Condvar,
}

struct Places<T> {
    /// In the order in which they came.
    new: Vec<T>,
    /// What the shard has left.
    old: Vec<T>,
    /// The shard has ended.
    closed: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self {
            full: AtomicBool::new(false),
            places: Mutex::new(Places {
                new: Vec::new(),
                old: Vec::new(),
                closed: false,
            }),
            exchanged: Condvar::new(),
        }
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl<T> Mailbox<T> {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Leaves something for the shard, behind what still lies there unread,
    /// and frees what the shard has left. For a shard that has ended it does
    /// nothing.
    pub fn put(&self, value: T) {
        let old = {
            let mut places = self.places();
            if places.closed {
                return;
            }
            places.new.push(value);
            self.full.store(true, Ordering::Release);
            std::mem::take(&mut places.old)
        };
        drop(old);
    }

    /// For the shard: whether something lies there.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// For the shard: lets `exchange` take what lies there, one after the
    /// other, and leave there what it had.
    pub fn look(&self, exchange: impl FnMut(&mut T)) {
        if !self.is_full() {
            return;
        }
        let mut places = self.places();
        let Places { new, old, .. } = &mut *places;
        self.full.store(false, Ordering::Release);
        new.iter_mut().for_each(exchange);
        old.append(new);
        self.exchanged.notify_all();
    }

    /// For the shard: it takes nothing any more, and nobody need wait for it.
    pub fn close(&self) {
        self.places().closed = true;
        self.exchanged.notify_all();
    }

    /// Whether the shard has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.places().closed
    }

    /// Waits until the shard has taken everything or has ended, and frees what
    /// it had. Returns false if it takes longer than this.
    pub fn wait(&self, patience: Duration) -> bool {
        let waiting = |places: &mut Places<T>| !places.new.is_empty() && !places.closed;
        let result = self
            .exchanged
            .wait_timeout_while(self.places(), patience, waiting);
        let (mut places, timeout) = result.unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::take(&mut places.old);
        drop(places);
        drop(old);
        !timeout.timed_out()
    }

    fn places(&self) -> MutexGuard<'_, Places<T>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_there_is_exchanged_once_and_in_order() {
        let mailbox = Mailbox::new();
        mailbox.look(|_| panic!("nothing lies there"));
        mailbox.put(1);
        mailbox.put(2);
        assert!(mailbox.is_full());
        assert!(!mailbox.wait(Duration::ZERO));
        let mut own = 0;
        mailbox.look(|value| std::mem::swap(value, &mut own));
        assert_eq!(own, 2, "the last");
        assert!(!mailbox.is_full());
        mailbox.look(|_| panic!("nothing lies there any more"));
        assert_eq!(mailbox.places().old, [0, 1], "what it had before each");
        assert!(mailbox.wait(Duration::ZERO));
        assert!(mailbox.places().old.is_empty());
    }

    #[test]
    fn nobody_waits_for_a_shard_that_has_ended() {
        let mailbox = Mailbox::new();
        mailbox.put(1);
        assert!(!mailbox.is_closed() && !mailbox.wait(Duration::ZERO));
        mailbox.close();
        assert!(mailbox.is_closed() && mailbox.wait(Duration::MAX));
        let value = Arc::new(2);
        let mailbox = Mailbox::new();
        mailbox.close();
        mailbox.put(value.clone());
        assert_eq!(Arc::strong_count(&value), 1, "kept for nobody");
    }

    #[test]
    fn the_shard_does_not_free_what_it_had() {
        let mailbox = Mailbox::new();
        let mut own = Arc::new(1);
        let first = Arc::downgrade(&own);
        mailbox.put(Arc::new(2));
        mailbox.look(|value| std::mem::swap(value, &mut own));
        assert!(first.upgrade().is_some());
        mailbox.put(Arc::new(3));
        assert!(first.upgrade().is_none(), "freed by who puts more in");
    }
}
