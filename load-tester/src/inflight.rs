//! Requests that wait for their replies, found by transaction id.
//!
//! A transaction id is a slot number and, above it, the slot's generation, so
//! a reply that comes after its request was given up is told from one that
//! nobody asked for. No allocation after the queue of ids has grown once.

use std::collections::VecDeque;

use crate::workload::Request;

/// A request in flight.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What was asked.
    pub request: Request,
    /// When it should have been sent, in nanoseconds since the start; latency
    /// counts from here.
    pub intended: u64,
    /// When it was sent, in nanoseconds since the start; the timeout counts
    /// from here.
    pub sent: u64,
    /// Whether it falls into the measured interval.
    pub measured: bool,
    /// How often the same request was sent before.
    pub attempts: u16,
}

/// Why a reply belongs to no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// Its request had been given up as lost.
    Late,
    /// Its request had been answered before.
    Duplicate,
    /// No request has or had this transaction id, or it was another socket's.
    Unknown,
}

/// The table. Ids are unique in one table.
pub struct InFlight {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Ids in the order they were sent; may hold ids already answered.
    order: VecDeque<u32>,
    slot_bits: u32,
    waiting: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    id: u32,
    busy: bool,
    /// Whether the request of this id got its reply.
    answered: bool,
    /// How many ids this slot has had.
    issued: u32,
    /// How many of them were given up and not answered since.
    owed: u32,
    entry: Entry,
}

impl InFlight {
    /// Room for `capacity` requests, at most 2^24; rounded up to a power of two.
    pub fn new(capacity: usize, empty: Request) -> InFlight {
        let capacity = capacity.clamp(1, 1 << 24).next_power_of_two();
        let entry = Entry {
            request: empty,
            intended: 0,
            sent: 0,
            measured: false,
            attempts: 0,
        };
        let slots = (0..capacity as u32)
            .map(|id| Slot {
                id,
                busy: false,
                answered: false,
                issued: 0,
                owed: 0,
                entry,
            })
            .collect();
        InFlight {
            slots,
            free: (0..capacity as u32).rev().collect(),
            order: VecDeque::with_capacity(capacity * 4),
            slot_bits: capacity.trailing_zeros(),
            waiting: 0,
        }
    }

    /// Requests waiting.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Adds a request and gives its transaction id, `None` when all slots are
    /// taken.
    pub fn insert(&mut self, entry: Entry) -> Option<u32> {
        let index = self.free.pop()?;
        let slot = &mut self.slots[index as usize];
        let id = slot.id.wrapping_add(1 << self.slot_bits);
        *slot = Slot {
            id,
            busy: true,
            answered: false,
            issued: slot.issued.saturating_add(1),
            owed: slot.owed,
            entry,
        };
        self.order.push_back(id);
        self.waiting += 1;
        Some(id)
    }

    /// Ends the request a reply on the socket of `source` belongs to.
    pub fn answer(&mut self, id: u32, source: u16) -> Result<Entry, Stray> {
        let index = self.index(id);
        let slot = &mut self.slots[index];
        if slot.busy && slot.id == id && slot.entry.request.source == source {
            slot.busy = false;
            slot.answered = true;
            self.free.push(index as u32);
            self.waiting -= 1;
            return Ok(slot.entry);
        }
        // An id this slot has had: a tracker that is slow, or a network that
        // doubles packets, must not look like a tracker that invents ids.
        let age = slot.id.wrapping_sub(id) >> self.slot_bits;
        let current = age == 0;
        if age >= slot.issued || (current && slot.entry.request.source != source) {
            return Err(Stray::Unknown);
        }
        // Which of the former ids were given up is not kept: while replies to
        // any of them may still come, one to any of them is taken for it.
        if slot.owed > 0 && !(current && slot.answered) {
            slot.owed -= 1;
            return Err(Stray::Late);
        }
        Err(Stray::Duplicate)
    }

    /// Gives up the oldest request if it was sent before `before`.
    pub fn expire(&mut self, before: u64) -> Option<Entry> {
        while let Some(&id) = self.order.front() {
            let index = self.index(id);
            let slot = &mut self.slots[index];
            if slot.busy && slot.id == id {
                if slot.entry.sent >= before {
                    return None;
                }
                slot.busy = false;
                slot.owed = slot.owed.saturating_add(1);
                self.order.pop_front();
                self.free.push(index as u32);
                self.waiting -= 1;
                return Some(slot.entry);
            }
            self.order.pop_front();
        }
        None
    }

    fn index(&self, id: u32) -> usize {
        id as usize & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Event, Kind};

    fn entry(sent: u64) -> Entry {
        let request = Request {
            kind: Kind::Announce,
            event: Event::None,
            seeder: false,
            source: 3,
            port: 1,
            swarm: sent as u32,
        };
        Entry {
            request,
            intended: sent,
            sent,
            measured: true,
            attempts: 0,
        }
    }

    fn table(capacity: usize) -> InFlight {
        InFlight::new(capacity, entry(0).request)
    }

    #[test]
    fn a_reply_finds_its_request_once() {
        let mut table = table(2);
        let a = table.insert(entry(1)).unwrap();
        let b = table.insert(entry(2)).unwrap();
        assert!(table.insert(entry(3)).is_none());
        assert_eq!(table.answer(b, 3).unwrap().sent, 2);
        assert_eq!(table.answer(b, 3).unwrap_err(), Stray::Duplicate);
        assert_eq!(
            table.answer(a, 4).unwrap_err(),
            Stray::Unknown,
            "another socket's"
        );
        assert_eq!(table.answer(a, 3).unwrap().sent, 1);
        assert!(table.is_empty());
    }

    #[test]
    fn a_second_reply_is_a_duplicate_also_when_the_slot_is_in_use_again() {
        let mut table = table(1);
        let first = table.insert(entry(1)).unwrap();
        table.answer(first, 3).unwrap();
        assert_eq!(table.answer(first, 4).unwrap_err(), Stray::Unknown);
        let second = table.insert(entry(2)).unwrap();
        assert_eq!(table.answer(first, 3).unwrap_err(), Stray::Duplicate);
        assert_eq!(table.answer(second, 3).unwrap().sent, 2);
    }

    #[test]
    fn ids_that_were_never_sent_are_unknown() {
        let mut table = table(4);
        let id = table.insert(entry(1)).unwrap();
        for wrong in [id ^ 1, id ^ 0x8000_0000, !id, 0] {
            assert_eq!(
                table.answer(wrong, 3).unwrap_err(),
                Stray::Unknown,
                "{wrong:x}"
            );
        }
    }

    #[test]
    fn old_requests_expire_in_order_and_their_replies_are_late() {
        let mut table = table(4);
        let ids: Vec<u32> = (1..=4).map(|t| table.insert(entry(t)).unwrap()).collect();
        table.answer(ids[1], 3).unwrap();
        let expired: Vec<u64> = std::iter::from_fn(|| table.expire(4))
            .map(|e| e.sent)
            .collect();
        assert_eq!(expired, [1, 3]);
        assert_eq!(table.len(), 1);
        assert_eq!(table.answer(ids[0], 3).unwrap_err(), Stray::Late);
        for _ in 0..3 {
            table.insert(entry(9)).unwrap();
        }
        assert_eq!(
            table.answer(ids[2], 3).unwrap_err(),
            Stray::Late,
            "slot in use again"
        );
    }
    #[test]
    fn replies_that_come_after_many_timeouts_are_still_late() {
        let mut table = table(1);
        let ids: Vec<u32> = (0..5)
            .map(|t| {
                let id = table.insert(entry(t)).unwrap();
                table.expire(u64::MAX).unwrap();
                id
            })
            .collect();
        for id in &ids {
            assert_eq!(table.answer(*id, 3).unwrap_err(), Stray::Late);
        }
        assert_eq!(table.answer(ids[4], 3).unwrap_err(), Stray::Duplicate);
        let last = table.insert(entry(9)).unwrap();
        table.expire(u64::MAX).unwrap();
        let never_issued = last.wrapping_add(5);
        assert_eq!(table.answer(never_issued, 3).unwrap_err(), Stray::Unknown);
    }
}
