//! Where the blocks of a table lie: small pieces of the heap, or huge pages.

use crate::sys::huge::{HugeBox, Regions};
use std::ops::DerefMut;

/// Gives blocks their places.
pub(in crate::swarm) trait Memory<T>: Default {
    /// Owns one. All are given back.
    type Owned: DerefMut<Target = T>;

    /// Moves one to its place.
    fn put(&mut self, value: T) -> Self::Owned;

    /// Takes the place of one back.
    fn give(&mut self, owned: Self::Owned);
}

/// Among all else that the process has allocated: for small tables.
#[derive(Default)]
pub(in crate::swarm) struct Heap;

impl<T> Memory<T> for Heap {
    type Owned = Box<T>;

    fn put(&mut self, value: T) -> Box<T> {
        Box::new(value)
    }

    fn give(&mut self, _: Box<T>) {}
}

/// In huge pages: for a table that may become large.
impl<T: Copy> Memory<T> for Regions<T> {
    type Owned = HugeBox<T>;

    fn put(&mut self, value: T) -> HugeBox<T> {
        Self::put(self, value)
    }

    fn give(&mut self, owned: HugeBox<T>) {
        Self::give(self, owned);
    }
}
