//! The loop of a sending thread, the same for both protocols: it never sleeps
//! and never waits.
//!
//! Each turn takes what has arrived, gives up what is too old, and sends what
//! the window or the rate allows. It polls instead of sleeping, because a
//! sleeping receiver costs the *tracker* a wake-up per reply, which is not the
//! tracker's own cost and hides differences.

use std::time::Duration;

use crate::account::Account;
use crate::pace::{Progress, Timeline, nanoseconds};
use crate::stats::Stats;
use crate::workload::SwarmTooBig;

/// How often the totals are published, in nanoseconds.
const PUBLISH_EVERY: u64 = 20_000_000;

/// A turn that found little waits this long for more, so that requests travel
/// in larger groups. Far below the time a full window takes.
const GATHERING: u64 = 10_000;

/// What one protocol does in a turn.
pub trait Load {
    /// What its requests are counted in.
    fn account(&mut self) -> &mut Account;

    /// Requests that wait for their replies, and connections that must end.
    fn in_flight(&self) -> usize;

    /// Takes what has arrived; returns how much that was.
    fn receive(&mut self, timeline: &Timeline) -> usize;

    /// Gives up what has waited too long at `now`.
    fn expire(&mut self, now: u64);

    /// Sends what may be sent at `now`; returns how many requests that was.
    fn send(&mut self, now: u64, timeline: &Timeline) -> Result<usize, SwarmTooBig>;

    /// Gives up everything in flight.
    fn abandon(&mut self);

    /// Whether it pays to wait for more, after a turn that took `received` of
    /// what `in_flight` requests wait for.
    fn gathers(&self, received: usize, in_flight: usize) -> bool;
}

/// Runs until the timeline's end, or the end of the fill, and then until every
/// request is answered or lost. Also returns when that was.
///
/// What an open loop could not send by the end still gets its chance for as
/// long as a reply is waited for; the rest counts as not sent.
pub fn drive(
    mut load: impl Load,
    timeout: Duration,
    timeline: &Timeline,
    progress: &Progress,
) -> Result<(Stats, u64), SwarmTooBig> {
    let timeout = nanoseconds(timeout);
    let mut publish_at = 0;
    let mut turn_began = 0;
    loop {
        let before = load.in_flight();
        let received = load.receive(timeline);
        let now = timeline.now();
        load.expire(now);
        let account = load.account();
        // It moves where the run is interrupted.
        let end = timeline.end();
        account.end_at(end);
        let hopeless = account.has_stalled(now) || timeline.is_given_up();
        let open = account.gate.is_open(now, end) && now < end.saturating_add(timeout);
        let sending = open && !hopeless;
        let sent = if sending {
            load.send(now, timeline)?
        } else {
            0
        };
        if hopeless {
            load.abandon();
        }
        let at_rest = load.in_flight() == 0;
        let account = load.account();
        let done = at_rest && (!sending || account.source.is_exhausted());
        if done || now >= publish_at {
            publish_at = now + PUBLISH_EVERY;
            account.publish(progress);
        }
        if done {
            if !account.source.is_fill() {
                account.stats.unsent += account.gate.left_over(timeline.measure_from);
            }
            return Ok((std::mem::take(&mut account.stats), now));
        }
        if received + sent == 0 && timeline.measures(now) {
            account.stats.idle_nanoseconds += now - turn_began;
        }
        turn_began = now;
        if load.gathers(received, before) {
            turn_began = gather(load.account(), timeline);
        }
    }
}

/// Lets replies gather; returns the time afterwards.
fn gather(account: &mut Account, timeline: &Timeline) -> u64 {
    let from = timeline.now();
    loop {
        let now = timeline.now();
        if now >= from + GATHERING {
            if timeline.measures(now) {
                account.stats.idle_nanoseconds += now - from;
            }
            return now;
        }
        std::hint::spin_loop();
    }
}
