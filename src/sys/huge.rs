//! Values of some hundred bytes to some kilobytes that are kept for long and
//! read at random: side by side in regions of 2 MB that ask the kernel for huge
//! pages.
//!
//! Why: with pages of 4 kB nearly every look into a big swarm table costs a
//! walk of the page tables besides the cache miss; one huge page takes one
//! entry of the processor's translation buffer instead of 512. The general
//! allocator's heaps never get huge pages unless the host gives them to
//! everyone, as they grow by 4 kB at a time. And what becomes empty here is
//! given back to the kernel at once, but for one region.
//!
//! The first of some [`Regions`] is smaller and asks for nothing: a small
//! tracker stays small. Before the last one is full a thread beside prepares
//! the next: it takes the kernel 0.2 ms to clear 2 MB, and on a virtual machine
//! whose host must first find them 4. So at most two regions have nothing in
//! them: 4 MB.

use super::cpu;
use super::mapping::Mapping;
use crossbeam_channel::{Receiver, TryRecvError, bounded};
use std::alloc::Layout;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::thread;

/// Bytes of a region, and its alignment: a huge page of all 64-bit processors
/// with pages of 4 kB.
const REGION_BYTES: usize = 2 << 20;

/// Values begin at multiples of this, so that they share no cache line.
const ALIGNMENT: usize = 64;

/// The largest value, so that a region has room for a few.
const MAX_BYTES: usize = REGION_BYTES / 32;

/// Of the thread that prepares a region, which does next to nothing.
const STACK_BYTES: usize = 64 * 1024;

/// As `Box`, from [`Regions`], which want it back: dropped, it keeps its place
/// for ever. `T: Copy`, as nothing is dropped in it.
#[must_use]
pub struct HugeBox<T: Copy>(NonNull<T>);

// SAFETY: it alone leads to its place, as a `Box` does.
unsafe impl<T: Copy + Send> Send for HugeBox<T> {}
// SAFETY: as above.
unsafe impl<T: Copy + Sync> Sync for HugeBox<T> {}

impl<T: Copy> Deref for HugeBox<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `put` wrote a value there, and the place is this box's until
        // it is given back: regions with values in them are not unmapped.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Copy> DerefMut for HugeBox<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; the place is nobody else's.
        unsafe { self.0.as_mut() }
    }
}

/// Regions for values of one kind.
pub struct Regions<T> {
    /// `None` where one was unmapped. A region begins with its index here, four
    /// bytes; its places come behind, from [`ALIGNMENT`] on.
    regions: Vec<Option<Region>>,
    /// Which regions have room.
    roomy: BTreeSet<usize>,
    /// The one empty region that is kept, so that a table that wavers maps
    /// nothing.
    spare: Option<usize>,
    /// Free places of all regions.
    room: usize,
    /// Brings the mapping of the next region, if one is being prepared.
    next: Option<Receiver<Mapping>>,
    kind: PhantomData<T>,
}

struct Region {
    mapping: Mapping,
    /// How many places it has.
    places: u16,
    /// How many places, from the first on, have been used so far.
    begun: u16,
    /// Those of them that are free again.
    free: Vec<u16>,
}

impl<T> Default for Regions<T> {
    fn default() -> Self {
        Self {
            regions: Vec::new(),
            roomy: BTreeSet::new(),
            spare: None,
            room: 0,
            next: None,
            kind: PhantomData,
        }
    }
}

impl<T: Copy> Regions<T> {
    /// Bytes from one place to the next.
    const STEP: usize = size_of::<T>().next_multiple_of(ALIGNMENT);
    /// Places of a region.
    const PLACES: usize = (REGION_BYTES - ALIGNMENT) / Self::STEP;
    /// Places of the first one: 256 kB or so.
    const FIRST_PLACES: usize = Self::PLACES / 8;
    /// When there is room for no more than so many, the next is prepared.
    const FEW: usize = Self::PLACES / 16;

    /// Moves a value into a region. As `Box::new` it ends the process when
    /// there is no memory.
    pub fn put(&mut self, value: T) -> HugeBox<T> {
        const {
            assert!(0 < size_of::<T>() && size_of::<T>() <= MAX_BYTES);
            assert!(align_of::<T>() <= ALIGNMENT);
        }
        let Some(place) = self.take() else {
            std::alloc::handle_alloc_error(Layout::new::<T>())
        };
        // SAFETY: the place is in a mapping, aligned, large enough for a `T`,
        // and nobody else has it.
        unsafe { place.write(value) };
        HugeBox(place)
    }

    /// A free place in the lowest region with room, so that the others drain;
    /// `None` without memory.
    fn take(&mut self) -> Option<NonNull<T>> {
        let at = match self.roomy.first() {
            Some(at) => *at,
            None => self.map()?,
        };
        let region = self.regions.get_mut(at)?.as_mut()?;
        let place = region.free.pop().unwrap_or_else(|| {
            region.begun += 1;
            region.begun - 1
        });
        if region.free.is_empty() && region.begun == region.places {
            self.roomy.remove(&at);
        }
        let begin = region.mapping.start();
        let offset = ALIGNMENT + usize::from(place) * Self::STEP;
        if self.spare == Some(at) {
            self.spare = None;
        }
        self.room -= 1;
        if self.room == Self::FEW && self.next.is_none() {
            self.next = prepare();
        }
        // SAFETY: less than `PLACES` steps behind the first place, so within
        // the mapping.
        Some(unsafe { begin.byte_add(offset) }.cast())
    }

    /// A new region at the lowest index that is free.
    fn map(&mut self) -> Option<usize> {
        let prepared = match self.next.as_ref().map(Receiver::try_recv) {
            // Not ready yet: for the next time.
            Some(Err(TryRecvError::Empty)) => None,
            Some(ended) => {
                self.next = None;
                ended.ok()
            }
            None => None,
        };
        let is_first = self.regions.is_empty();
        let mapping = match prepared {
            Some(mapping) => mapping,
            None => {
                let mapping = Mapping::aligned(REGION_BYTES).ok()?;
                if !is_first {
                    mapping.ask_for_huge_pages();
                }
                mapping
            }
        };
        let places = if is_first {
            Self::FIRST_PLACES
        } else {
            Self::PLACES
        };
        let at = match self.regions.iter().position(Option::is_none) {
            Some(at) => at,
            None => {
                self.regions.push(None);
                self.regions.len() - 1
            }
        };
        // SAFETY: a region begins with four bytes for this, and is aligned.
        unsafe { mapping.start().cast::<u32>().write(at as u32) };
        self.regions[at] = Some(Region {
            mapping,
            places: places as u16,
            begun: 0,
            free: Vec::new(),
        });
        self.roomy.insert(at);
        self.room += places;
        Some(at)
    }

    /// Takes a place back. An empty region is unmapped, but for one. A box of
    /// other regions keeps its place.
    pub fn give(&mut self, value: HugeBox<T>) {
        let place = value.0.cast::<u8>();
        let offset = place.addr().get() % REGION_BYTES;
        // SAFETY: the region of the place begins so far before it.
        let start = unsafe { place.byte_sub(offset) };
        // SAFETY: it begins with four bytes that `map` wrote.
        let at = unsafe { start.cast::<u32>().read() } as usize;
        let Some(Some(region)) = self.regions.get_mut(at) else {
            return;
        };
        if region.mapping.start() != start {
            return;
        }
        region.free.push(((offset - ALIGNMENT) / Self::STEP) as u16);
        self.room += 1;
        self.roomy.insert(at);
        if region.free.len() < usize::from(region.begun) {
            return;
        }
        // Of two empty ones the lower is kept.
        let Some(spare) = self.spare.replace(at) else {
            return;
        };
        self.spare = Some(spare.min(at));
        let gone = spare.max(at);
        if let Some(region) = self.regions[gone].take() {
            self.room -= usize::from(region.places);
        }
        self.roomy.remove(&gone);
        // With a whole region empty nobody waits for another.
        self.next = None;
        while let Some(None) = self.regions.last() {
            self.regions.pop();
        }
    }
}

/// Has a thread beside map a region and touch it. `None` where there can be no
/// thread: then it is mapped when it is wanted.
fn prepare() -> Option<Receiver<Mapping>> {
    let (sender, receiver) = bounded(1);
    let work = move || {
        // Else it would take its time from the shard that started it.
        let _ = cpu::unpin();
        if let Ok(mapping) = Mapping::touched(REGION_BYTES) {
            let _ = sender.send(mapping);
        }
    };
    let thread = thread::Builder::new().name("memory".into());
    thread.stack_size(STACK_BYTES).spawn(work).ok()?;
    Some(receiver)
}

impl<T> Drop for Regions<T> {
    /// What has values in it stays for ever: their boxes live on.
    fn drop(&mut self) {
        for region in self.regions.drain(..).flatten() {
            if region.free.len() < usize::from(region.begun) {
                std::mem::forget(region.mapping);
            }
        }
    }
}

#[cfg(test)]
mod tests;
