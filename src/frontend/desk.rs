//! Questions to other shards and the answers to theirs: the frontends' side of
//! the mesh.
//!
//! The desk asks the owner of an info hash in an [`Exchange`], remembers who
//! waits for the answer, and answers what others ask. It is generic over the
//! lanes, so that the same code runs over the mesh and in the simulation with
//! lost and reordered messages, and over `R`, what a frontend needs to know to
//! reply.
//!
//! Invariants: at most [`Desk::credit`] questions are out to one owner, so the
//! answers to them always fit into the lane back. Nothing waits for a lane: a
//! question that does not fit is refused, and its client is told or asks
//! again. The client of a question whose answer does not come is told so after
//! [`PATIENCE_SECONDS`]; the question keeps its credit until it comes back, since
//! it may still lie in a lane, or until it is written off after
//! [`WRITE_OFF_SECONDS`] more.

use crate::bittorrent::{Announce, AnnounceCounts, InfoHash, ScrapeCounts};
use crate::shard::Shard;
use crate::shard::exchange::{Exchange, PeerList, Question};
use crate::shard::families::Families;
use crate::shard::owner::ShardId;
use slab::Slab;

/// How long an answer from another shard is waited for. Shards answer within
/// microseconds; only a lost message takes longer, and the client's own
/// patience is about 15 s.
pub const PATIENCE_SECONDS: u32 = 3;

/// How long after its client was told a question is waited for: only one that
/// was lost takes longer, which sound lanes do not do.
pub const WRITE_OFF_SECONDS: u32 = 30;

/// The lanes to the other shards.
pub trait Lanes {
    /// How many shards there are.
    fn shards(&self) -> usize;
    /// Sends without waiting.
    ///
    /// # Errors
    /// Gives the exchange back when the lane is full.
    fn send(&mut self, to: ShardId, exchange: Box<Exchange>) -> Result<(), Box<Exchange>>;
    /// Takes the next exchange that has arrived.
    fn receive(&mut self) -> Option<Box<Exchange>>;
}

/// What a question has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The answer will come from [`Desk::drain`] or [`Desk::expire`].
    Waiting,
    /// The owner has too many questions already; nobody waits.
    Refused,
}

/// An answer that has come, for the one who waits.
#[derive(Debug)]
pub enum Answer<'a> {
    /// To an announce.
    Announce(AnnounceCounts, &'a PeerList),
    /// To a scrape, in the order of the client's request.
    Scrape(&'a [InfoHash], &'a [ScrapeCounts]),
    /// None will come: the lanes are full, or a message was lost.
    Failed,
}

/// Someone who waits for an answer.
struct Waiting<R> {
    /// Told apart from an earlier occupant of the same place.
    generation: u32,
    /// When patience ends, in monotonic seconds.
    until_seconds: u32,
    /// `None` once it was told that no answer comes: only credit is waited for.
    client: Option<R>,
    kind: WaitingFor,
}

enum WaitingFor {
    Announce(ShardId),
    Scrape(Box<Scrape>),
}

/// A scrape whose hashes belong to several shards.
#[derive(Default)]
struct Scrape {
    hashes: Vec<InfoHash>,
    counts: Vec<ScrapeCounts>,
    /// The owners that have not answered yet.
    missing: Vec<ShardId>,
}

/// One shard's desk.
pub struct Desk<L, R> {
    lanes: L,
    /// Questions that may be out to each owner at once.
    credit: usize,
    out: Vec<usize>,
    waiting: Slab<Waiting<R>>,
    /// How many of these are there for their credit only.
    overdue: usize,
    generation: u32,
    /// Exchanges and scrapes to be used again.
    #[expect(clippy::vec_box, reason = "the boxes themselves travel over the lanes")]
    exchanges: Vec<Box<Exchange>>,
    #[expect(clippy::vec_box, reason = "the boxes themselves wait in small entries")]
    scrapes: Vec<Box<Scrape>>,
    /// One exchange under preparation for each owner of a scrape.
    parts: Vec<Option<Box<Exchange>>>,
    /// The owners that have one.
    asked: Vec<ShardId>,
    id: ShardId,
}

impl<L: Lanes, R> Desk<L, R> {
    /// A desk for shard `id`. `lane_length` is what each lane holds: half of it
    /// for questions, half for answers.
    #[must_use]
    pub fn new(id: ShardId, lanes: L, lane_length: usize) -> Self {
        let shards = lanes.shards();
        Self {
            lanes,
            credit: lane_length / 2,
            out: vec![0; shards],
            waiting: Slab::new(),
            overdue: 0,
            generation: 0,
            exchanges: Vec::new(),
            scrapes: Vec::new(),
            parts: (0..shards).map(|_| None).collect(),
            asked: Vec::new(),
            id,
        }
    }

    /// Questions that may be out to one owner at once.
    #[must_use]
    pub const fn credit(&self) -> usize {
        self.credit
    }

    /// How many wait for an answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len() - self.overdue
    }

    /// The lanes.
    pub const fn lanes(&mut self) -> &mut L {
        &mut self.lanes
    }

    /// Asks the owner of an announce, which is another shard.
    pub fn announce(
        &mut self,
        now_seconds: u32,
        owner: ShardId,
        announce: &Announce,
        client: R,
    ) -> Asked {
        self.ask_one(now_seconds, owner, Question::Announce(*announce), client)
    }

    /// Asks the owner of an announce, which is another shard, this question
    /// about it.
    pub fn ask_one(
        &mut self,
        now_seconds: u32,
        owner: ShardId,
        question: Question,
        client: R,
    ) -> Asked {
        if self.out[owner] >= self.credit {
            return Asked::Refused;
        }
        let token = self.wait(now_seconds, client, WaitingFor::Announce(owner));
        let mut exchange = self.exchange(owner, question);
        exchange.token = token;
        match self.ask(exchange) {
            Ok(()) => Asked::Waiting,
            Err(()) => {
                self.forget(token);
                Asked::Refused
            }
        }
    }

    /// Scrapes hashes of any owners. When all of them are this shard's own, or
    /// when an owner has too many questions already, the answer is given at
    /// once and nobody waits.
    pub fn scrape(
        &mut self,
        now_seconds: u32,
        shard: &mut Shard,
        families: impl Into<Families>,
        hashes: impl Iterator<Item = InfoHash>,
        client: R,
        answer: impl FnOnce(R, Answer<'_>),
    ) {
        let scrape = self.divide(shard, families.into(), hashes);
        if self.asked.is_empty() {
            answer(client, Answer::Scrape(&scrape.hashes, &scrape.counts));
            self.scrapes.push(scrape);
            return;
        }
        let token = self.wait(now_seconds, client, WaitingFor::Scrape(scrape));
        // Nobody is asked unless all can be: the answers would be for nobody.
        let mut refused = self
            .asked
            .iter()
            .any(|&owner| self.out[owner] >= self.credit);
        while let Some(owner) = self.asked.pop() {
            let Some(mut part) = self.parts[owner].take() else {
                continue;
            };
            // Once one part is refused the rest need not be asked.
            if refused {
                self.exchanges.push(part);
                continue;
            }
            part.token = token;
            refused = self.ask(part).is_err();
            if !refused && let WaitingFor::Scrape(scrape) = &mut self.waiting[place(token)].kind {
                scrape.missing.push(owner);
            }
        }
        if refused && let Some(client) = self.give_up(now_seconds, place(token)) {
            answer(client, Answer::Failed);
        }
    }

    /// Handles what has arrived, `limit` messages at most: answers others'
    /// questions and passes on the answers to our own. Returns how many
    /// messages there were.
    pub fn drain(
        &mut self,
        now_seconds: u32,
        shard: &mut Shard,
        limit: usize,
        mut answer: impl FnMut(R, Answer<'_>),
    ) -> usize {
        for handled in 0..limit {
            let Some(mut exchange) = self.lanes.receive() else {
                return handled;
            };
            if exchange.origin == self.id {
                self.complete(&exchange, &mut answer);
                self.exchanges.push(exchange);
            } else {
                shard.handle(now_seconds, &mut exchange);
                // The origin's credit keeps room in this lane; where it is full
                // all the same, the origin writes the question off.
                let _ = self.lanes.send(exchange.origin, exchange);
            }
        }
        limit
    }

    /// Gives up on answers that have not come in time; returns how many. Looks
    /// at everyone who waits, at most [`Desk::credit`] per owner: meant for
    /// about once a second.
    pub fn expire(&mut self, now_seconds: u32, mut answer: impl FnMut(R, Answer<'_>)) -> usize {
        let mut given_up = 0;
        for at in 0..self.waiting.capacity() {
            match self.waiting.get(at) {
                Some(waiting) if waiting.until_seconds <= now_seconds => {}
                _ => continue,
            }
            match self.give_up(now_seconds, at) {
                Some(client) => {
                    given_up += 1;
                    answer(client, Answer::Failed);
                }
                None => self.write_off(at),
            }
        }
        given_up
    }

    /// Answers the hashes that are this shard's own, and prepares a part for
    /// each other owner, named in `self.asked`.
    fn divide(
        &mut self,
        shard: &mut Shard,
        families: Families,
        hashes: impl Iterator<Item = InfoHash>,
    ) -> Box<Scrape> {
        let mut scrape = self.scrapes.pop().unwrap_or_default();
        scrape.hashes.clear();
        scrape.counts.clear();
        scrape.missing.clear();
        self.asked.clear();
        for (position, hash) in hashes.enumerate() {
            let owner = shard.owners().owner(&hash);
            scrape.hashes.push(hash);
            if owner == self.id {
                scrape.counts.push(shard.scrape(families, &hash));
                continue;
            }
            scrape.counts.push(ScrapeCounts::default());
            if self.parts[owner].is_none() {
                self.parts[owner] = Some(self.exchange(owner, families.into()));
                self.asked.push(owner);
            }
            if let Some(part) = &mut self.parts[owner] {
                part.hashes.push(hash);
                // The request's size bounds the hashes far below 65,536.
                part.positions.push(position as u16);
            }
        }
        scrape
    }

    /// Takes the answer to a question of this shard's.
    fn complete(&mut self, exchange: &Exchange, answer: &mut impl FnMut(R, Answer<'_>)) {
        let token = exchange.token;
        let Some(waiting) = self
            .waiting
            .get_mut(place(token))
            .filter(|waiting| waiting.generation == generation(token))
        else {
            // It was written off, and its credit came back then.
            return;
        };
        if let WaitingFor::Scrape(scrape) = &mut waiting.kind {
            for (position, counts) in exchange.positions.iter().zip(&exchange.scrape_counts) {
                if let Some(place) = scrape.counts.get_mut(usize::from(*position)) {
                    *place = *counts;
                }
            }
            scrape.missing.retain(|&owner| owner != exchange.owner);
            if !scrape.missing.is_empty() {
                self.return_credit(exchange.owner);
                return;
            }
        }
        self.return_credit(exchange.owner);
        let Some(waiting) = self.forget(token) else {
            return;
        };
        match (waiting.client, waiting.kind) {
            (Some(client), WaitingFor::Announce(_)) => {
                answer(client, Answer::Announce(exchange.counts, &exchange.peers));
            }
            (client, WaitingFor::Scrape(scrape)) => {
                if let Some(client) = client {
                    answer(client, Answer::Scrape(&scrape.hashes, &scrape.counts));
                }
                self.scrapes.push(scrape);
            }
            // Too late.
            (None, WaitingFor::Announce(_)) => {}
        }
    }

    /// Ends the wait of a client whose answer will not come; returns the client,
    /// unless it knows already. What is under way to owners keeps its credit.
    fn give_up(&mut self, now_seconds: u32, at: usize) -> Option<R> {
        let waiting = self.waiting.get_mut(at)?;
        let client = waiting.client.take()?;
        waiting.until_seconds = now_seconds.saturating_add(WRITE_OFF_SECONDS);
        self.overdue += 1;
        if matches!(&waiting.kind, WaitingFor::Scrape(scrape) if scrape.missing.is_empty()) {
            self.write_off(at);
        }
        Some(client)
    }

    /// Takes back the credit of a question that does not come back. If it does
    /// all the same, it is ignored.
    fn write_off(&mut self, at: usize) {
        let Some(waiting) = self.waiting.get(at) else {
            return;
        };
        match self
            .forget(token(at, waiting.generation))
            .map(|waiting| waiting.kind)
        {
            Some(WaitingFor::Announce(owner)) => self.return_credit(owner),
            Some(WaitingFor::Scrape(scrape)) => {
                for &owner in &scrape.missing {
                    self.return_credit(owner);
                }
                self.scrapes.push(scrape);
            }
            None => {}
        }
    }

    fn wait(&mut self, now_seconds: u32, client: R, kind: WaitingFor) -> u64 {
        self.generation = self.generation.wrapping_add(1);
        let at = self.waiting.insert(Waiting {
            generation: self.generation,
            until_seconds: now_seconds.saturating_add(PATIENCE_SECONDS),
            client: Some(client),
            kind,
        });
        token(at, self.generation)
    }

    fn forget(&mut self, token: u64) -> Option<Waiting<R>> {
        let at = place(token);
        match self.waiting.get(at) {
            Some(waiting) if waiting.generation == generation(token) => {
                let waiting = self.waiting.remove(at);
                self.overdue -= usize::from(waiting.client.is_none());
                Some(waiting)
            }
            _ => None,
        }
    }

    /// A used exchange, or a new one, that asks `owner`.
    fn exchange(&mut self, owner: ShardId, question: Question) -> Box<Exchange> {
        let mut exchange = self
            .exchanges
            .pop()
            .unwrap_or_else(|| Box::new(Exchange::new(self.id)));
        exchange.ask(owner, question);
        exchange
    }

    fn ask(&mut self, exchange: Box<Exchange>) -> Result<(), ()> {
        let owner = exchange.owner;
        match self.lanes.send(owner, exchange) {
            Ok(()) => {
                self.out[owner] += 1;
                Ok(())
            }
            Err(exchange) => {
                self.exchanges.push(exchange);
                Err(())
            }
        }
    }

    fn return_credit(&mut self, owner: ShardId) {
        self.out[owner] -= 1;
    }
}

const fn token(place: usize, generation: u32) -> u64 {
    ((generation as u64) << 32) | place as u64
}

const fn place(token: u64) -> usize {
    (token & 0xffff_ffff) as usize
}

const fn generation(token: u64) -> u32 {
    (token >> 32) as u32
}
