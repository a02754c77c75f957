//! Lanes between shards: a bounded lock-free channel for each ordered pair.
//!
//! A send never waits: a full lane gives the message back. Receivers drain
//! their lanes inline in their main loop; a [`Bell`] (an eventfd in the
//! receiver's reactor) is rung only when the receiver sleeps, once for a batch
//! of messages.
//!
//! The bell's protocol. Receiver: store `sleeping`, fence, look at the lanes
//! once more, then sleep. Sender: push, fence, and ring only if it takes
//! `sleeping` from true to false. Whichever fence comes first, either the
//! receiver sees the message or the sender sees the sleeper.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Messages that one lane may hold for a given number of shards.
///
/// A mesh of n shards has n² lanes, so the length falls as n grows: 4,096 for
/// two shards, 256 for 64 (8 MiB of lanes in all at 16 bytes a place). It never
/// falls below one batch of datagrams.
#[must_use]
pub const fn lane_length(shards: usize) -> usize {
    let length = 16_384 / if shards == 0 { 1 } else { shards };
    if length > 4096 {
        4096
    } else if length < 128 {
        128
    } else {
        length
    }
}

/// Wakes one shard from its sleep; anyone may ring.
#[derive(Debug)]
pub struct Bell {
    event: OwnedFd,
    sleeping: AtomicBool,
}

impl Bell {
    /// A bell whose shard is awake.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            event: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            sleeping: AtomicBool::new(false),
        })
    }

    /// Wakes the shard if it sleeps; returns whether it had to. Call after the
    /// message (or flag) that it should see was stored.
    pub fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        let must =
            self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::SeqCst);
        if must {
            // Fails only when the count would overflow, when the bell rings already.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
        must
    }

    /// Says that the shard is about to sleep. It must look at its lanes once
    /// more after this and before it does.
    pub fn about_to_sleep(&self) {
        self.sleeping.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Says that the shard is awake.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Silences the bell, once it was found ringing.
    pub fn silence(&self) {
        // Fails only when it does not ring.
        let _ = rustix::io::read(&self.event, &mut [0u8; 8]);
    }
}

impl AsFd for Bell {
    /// Readable while the bell rings.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// One shard's end of the mesh.
#[derive(Debug)]
pub struct Port<M> {
    id: usize,
    outgoing: Vec<Option<Sender<M>>>,
    incoming: Vec<Option<Receiver<M>>>,
    bells: Vec<Arc<Bell>>,
    to_ring: Vec<bool>,
    /// Where the next drain begins, so that no lane is always last.
    next: usize,
}

/// Builds the mesh: one port for each bell, with lanes of `length` messages.
#[must_use]
pub fn mesh<M>(bells: &[Arc<Bell>], length: usize) -> Vec<Port<M>> {
    let shards = bells.len();
    let mut ports: Vec<Port<M>> = (0..shards)
        .map(|id| Port {
            id,
            outgoing: (0..shards).map(|_| None).collect(),
            incoming: (0..shards).map(|_| None).collect(),
            bells: bells.to_vec(),
            to_ring: vec![false; shards],
            next: 0,
        })
        .collect();
    for from in 0..shards {
        for to in (0..shards).filter(|&to| to != from) {
            let (sender, receiver) = bounded(length);
            ports[from].outgoing[to] = Some(sender);
            ports[to].incoming[from] = Some(receiver);
        }
    }
    ports
}

impl<M> Port<M> {
    /// The shard whose end this is.
    #[must_use]
    pub const fn id(&self) -> usize {
        self.id
    }

    /// How many shards the mesh joins.
    #[must_use]
    pub const fn shards(&self) -> usize {
        self.bells.len()
    }

    /// Puts a message into the lane to `to`. It is seen for certain after the
    /// next [`Port::ring`].
    ///
    /// # Errors
    /// Gives the message back when the lane is full or leads nowhere (to this
    /// shard itself, or to one that has ended).
    pub fn send(&mut self, to: usize, message: M) -> Result<(), M> {
        let Some(Some(lane)) = self.outgoing.get(to) else {
            return Err(message);
        };
        match lane.try_send(message) {
            Ok(()) => {
                self.to_ring[to] = true;
                Ok(())
            }
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => Err(message),
        }
    }

    /// Wakes the sleepers among the shards that were sent something since the
    /// last call; returns how many that were.
    pub fn ring(&mut self) -> usize {
        let mut rung = 0;
        for (bell, must) in self.bells.iter().zip(&mut self.to_ring) {
            if std::mem::take(must) && bell.ring() {
                rung += 1;
            }
        }
        rung
    }

    /// Takes the next message, going around the lanes.
    pub fn receive(&mut self) -> Option<M> {
        let lanes = self.incoming.len();
        for offset in 0..lanes {
            let at = (self.next + offset) % lanes;
            if let Some(lane) = &self.incoming[at]
                && let Ok(message) = lane.try_recv()
            {
                // Stay on this lane until it is empty: its memory is warm.
                self.next = at;
                return Some(message);
            }
        }
        self.next = (self.next + 1) % lanes.max(1);
        None
    }

    /// Messages that wait in this shard's inbound lanes.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.incoming.iter().flatten().map(Receiver::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bells(count: usize) -> Vec<Arc<Bell>> {
        (0..count)
            .map(|_| Arc::new(Bell::new().expect("eventfd")))
            .collect()
    }

    #[test]
    fn a_full_lane_gives_the_message_back() {
        let mut ports = mesh(&bells(2), 2);
        assert_eq!(ports[0].send(1, 'a'), Ok(()));
        assert_eq!(ports[0].send(1, 'b'), Ok(()));
        assert_eq!(ports[0].send(1, 'c'), Err('c'));
        assert_eq!(ports[1].waiting(), 2);
        assert_eq!(ports[1].receive(), Some('a'));
        assert_eq!(ports[0].send(1, 'd'), Ok(()));
        assert_eq!(ports[1].receive(), Some('b'));
        assert_eq!(ports[1].receive(), Some('d'));
        assert_eq!(ports[1].receive(), None);
    }

    #[test]
    fn there_is_no_lane_to_oneself() {
        let mut ports = mesh(&bells(1), 2);
        assert_eq!(ports[0].send(0, ()), Err(()));
        assert_eq!(ports[0].receive(), None);
    }

    #[test]
    fn the_bell_rings_only_for_a_sleeper_and_once() {
        let bells = bells(2);
        let mut ports = mesh(&bells, 8);
        ports[0].send(1, 1).expect("room");
        assert_eq!(ports[0].ring(), 0, "shard 1 is awake");
        bells[1].about_to_sleep();
        assert_eq!(ports[0].ring(), 0, "nothing new was sent");
        ports[0].send(1, 2).expect("room");
        ports[0].send(1, 3).expect("room");
        assert_eq!(ports[0].ring(), 1);
        ports[0].send(1, 4).expect("room");
        assert_eq!(ports[0].ring(), 0, "it rings already");
        bells[1].awake();
        assert_eq!(
            [(); 4].map(|()| ports[1].receive()),
            [Some(1), Some(2), Some(3), Some(4)]
        );
    }

    #[test]
    fn two_threads_pass_every_message_without_losing_a_wake() {
        const MESSAGES: u32 = 20_000;
        let bells = bells(2);
        let mut ports = mesh(&bells, 16);
        let mut receiver = ports.pop().expect("port 1");
        let mut sender = ports.pop().expect("port 0");
        let bell = bells[1].clone();
        let thread = std::thread::spawn(move || {
            let mut expected = 0;
            while expected < MESSAGES {
                if let Some(number) = receiver.receive() {
                    assert_eq!(number, expected);
                    expected += 1;
                    continue;
                }
                bell.about_to_sleep();
                if receiver.waiting() == 0 {
                    // Without a time limit: a lost wake would hang the test.
                    let mut set = [rustix::event::PollFd::new(
                        &*bell,
                        rustix::event::PollFlags::IN,
                    )];
                    rustix::event::poll(&mut set, None).expect("poll");
                    bell.silence();
                }
                bell.awake();
            }
        });
        for number in 0..MESSAGES {
            while sender.send(1, number).is_err() {
                sender.ring();
                std::thread::yield_now();
            }
            sender.ring();
        }
        thread.join().expect("receiver");
    }
}
