//! Where the sending threads get their requests from: endless traffic or a
//! fill, at a window or a rate.

use crate::config::{Pace, RunConfig};
use crate::schedule::Schedule;
use crate::workload::{FillPlan, Request, SwarmTooBig, Traffic};

/// Sendings of one peer of a fill before it counts as refused, where the
/// tracker answers with errors. Lost packets are sent again for much longer.
pub const MAX_REFUSALS: u16 = 3;

/// A fill ends as failed after this long without an accepted peer, in
/// nanoseconds: it has no other end where the tracker has stopped answering, or
/// answers what nobody asked.
pub const FILL_PATIENCE: u64 = 10_000_000_000;

/// Sendings of one peer of a fill before it is given up.
pub const MAX_ATTEMPTS: u16 = 100;

/// Requests of one thread, in order.
pub enum Source {
    /// Without end.
    Traffic(Box<Traffic>),
    /// Every peer once, and again what was lost.
    Fill {
        /// What was not sent yet.
        plan: Box<FillPlan>,
        /// What must be sent again, and how often it was sent.
        again: Vec<(Request, u16)>,
        /// Drawn while looking for another source address's peer, or while its
        /// own address had to wait, by source.
        set_aside: Vec<Vec<(Request, u16)>>,
        /// Nothing left in the plan.
        exhausted: bool,
    },
}

impl Source {
    /// The source of thread `thread` of a run.
    pub fn new(config: &RunConfig, thread: usize) -> Source {
        match config.fill {
            None => Source::Traffic(Box::new(Traffic::new(&config.workload, thread))),
            Some(shape) => Source::Fill {
                plan: Box::new(FillPlan::new(
                    &config.workload,
                    shape,
                    thread,
                    config.threads,
                )),
                again: Vec::with_capacity(1024),
                set_aside: vec![Vec::new(); config.sources.len()],
                exhausted: false,
            },
        }
    }

    /// The next request and how often it was sent before.
    pub fn draw(&mut self) -> Result<Option<(Request, u16)>, SwarmTooBig> {
        match self {
            Source::Traffic(traffic) => Ok(Some((traffic.draw(), 0))),
            Source::Fill {
                plan,
                again,
                exhausted,
                ..
            } => {
                if let Some(again) = again.pop() {
                    return Ok(Some(again));
                }
                let request = plan.draw().transpose()?;
                *exhausted = request.is_none();
                Ok(request.map(|request| (request, 0)))
            }
        }
    }

    /// The next request that the given source address sends, for connections
    /// that are bound to one. `None` where all the rest belongs to others.
    pub fn next_from(&mut self, source: u16) -> Result<Option<(Request, u16)>, SwarmTooBig> {
        if let Source::Traffic(traffic) = self {
            return Ok(Some((traffic.next_from(source), 0)));
        }
        loop {
            if let Source::Fill { set_aside, .. } = self
                && let Some(request) = set_aside[usize::from(source)].pop()
            {
                return Ok(Some(request));
            }
            let Some((request, attempts)) = self.draw()? else {
                return Ok(None);
            };
            self.set_aside(request, attempts);
        }
    }

    /// Takes back a request that got no good answer. Returns whether it will
    /// be sent again.
    pub fn failed(&mut self, request: Request, attempts: u16, refused: bool) -> bool {
        let limit = if refused { MAX_REFUSALS } else { MAX_ATTEMPTS };
        let goes_on = self.is_fill() && attempts + 1 < limit;
        if goes_on {
            self.put_back(request, attempts + 1);
        }
        goes_on
    }

    /// Takes back a request that could not be sent, or not count.
    pub fn put_back(&mut self, request: Request, attempts: u16) {
        if let Source::Fill { again, .. } = self {
            again.push((request, attempts));
        }
    }

    /// Keeps a request for when its source address can send it: until
    /// [`Source::next_from`] or [`Source::release`].
    pub fn set_aside(&mut self, request: Request, attempts: u16) {
        if let Source::Fill { set_aside, .. } = self {
            set_aside[usize::from(request.source)].push((request, attempts));
        }
    }

    /// What was set aside for this source address may be sent again.
    pub fn release(&mut self, source: usize) {
        if let Source::Fill {
            again, set_aside, ..
        } = self
        {
            again.append(&mut set_aside[source]);
        }
    }

    /// Whether nothing is left to send.
    pub fn is_exhausted(&self) -> bool {
        matches!(self, Source::Fill { again, set_aside, exhausted: true, .. }
            if again.is_empty() && set_aside.iter().all(Vec::is_empty))
    }

    /// Whether this is a fill.
    pub fn is_fill(&self) -> bool {
        matches!(self, Source::Fill { .. })
    }
}

/// How many requests may be sent now.
pub enum Gate {
    /// As many as keep this many in flight.
    Window(usize),
    /// As many as are due.
    Rate(Schedule),
}

impl Gate {
    /// The gate of thread `thread` of a run.
    pub fn new(config: &RunConfig, thread: usize) -> Gate {
        match config.pace {
            Pace::Window(window) => Gate::Window(window),
            Pace::Rate(rate) => Gate::Rate(Schedule::new(rate, thread, config.threads)),
        }
    }

    /// Closes the gate for what is due from `end` on.
    pub fn end_at(&mut self, end: u64) {
        if let Gate::Rate(schedule) = self {
            schedule.end_at(end);
        }
    }

    /// Whether requests may still be sent at `now`, in a run that ends at `end`.
    pub fn is_open(&self, now: u64, end: u64) -> bool {
        match self {
            Gate::Window(_) => now < end,
            Gate::Rate(schedule) => !schedule.is_over(),
        }
    }

    /// When the next request should be sent, if that is not after `now` and
    /// the window has room.
    pub fn due(&self, now: u64, in_flight: usize) -> Option<u64> {
        match self {
            Gate::Window(window) => (in_flight < *window).then_some(now),
            Gate::Rate(schedule) => schedule.due(now),
        }
    }

    /// The request that was due has been taken.
    pub fn advance(&mut self) {
        if let Gate::Rate(schedule) = self {
            schedule.advance();
        }
    }

    /// How many requests that were due at `from` or later were never taken.
    pub fn left_over(&self, from: u64) -> u64 {
        match self {
            Gate::Window(_) => 0,
            Gate::Rate(schedule) => schedule.left_over(from),
        }
    }
}
