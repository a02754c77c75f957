//! How often every torrent may be asked for: one dump at a time in the whole
//! tracker, and a pause for each address behind its last.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Addresses that are remembered. They are forgotten after the pause; when
/// there are more within it, nobody else is served.
const MAX_ADDRESSES: usize = 4096;

/// When to come back if somebody else is being served.
const BUSY_PAUSE: Duration = Duration::from_secs(5);

/// Who may ask for every torrent, and when.
#[derive(Debug, Default)]
pub struct Limits {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_work: bool,
    /// When each address was served last.
    last: HashMap<IpAddr, Duration>,
}

/// Why somebody has to wait, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It has been served not long ago.
    TooSoon(Duration),
    /// Another is being served.
    Busy(Duration),
}

/// A dump in work; dropped at its end.
#[derive(Debug)]
pub struct Permit<'a>(&'a Limits);

impl Limits {
    /// Lets an address have a dump if its last was before this pause. `now` is
    /// monotonic.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn permit(&self, now: Duration, ip: IpAddr, pause: Duration) -> Result<Permit<'_>, Wait> {
        let mut state = self.lock();
        state
            .last
            .retain(|_, last| now.saturating_sub(*last) < pause);
        let who = network(ip);
        if let Some(last) = state.last.get(&who) {
            let passed = now.saturating_sub(*last);
            return Err(Wait::TooSoon(pause.saturating_sub(passed)));
        }
        if state.in_work || state.last.len() >= MAX_ADDRESSES {
            return Err(Wait::Busy(BUSY_PAUSE));
        }
        state.in_work = true;
        if !pause.is_zero() {
            state.last.insert(who, now);
        }
        Ok(Permit(self))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.lock().in_work = false;
    }
}

/// Who counts as one: an IPv4 address, an IPv6 /64 (what one host can have).
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => {
            let prefix = u128::from(v6) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_secs(10);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_at_a_time_and_a_pause_for_each_address() {
        let limits = Limits::default();
        let (one, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let permit = limits.permit(SECOND, one, PAUSE).expect("the first");
        let busy = limits
            .permit(2 * SECOND, other, PAUSE)
            .expect_err("one at a time");
        assert_eq!(busy, Wait::Busy(BUSY_PAUSE));
        drop(permit);
        drop(
            limits
                .permit(2 * SECOND, other, PAUSE)
                .expect("it was not served"),
        );
        let soon = limits.permit(4 * SECOND, one, PAUSE).expect_err("too soon");
        assert_eq!(soon, Wait::TooSoon(7 * SECOND));
        drop(
            limits
                .permit(11 * SECOND, one, PAUSE)
                .expect("after the pause"),
        );
    }

    #[test]
    fn the_addresses_of_one_ipv6_host_are_one() {
        let limits = Limits::default();
        drop(
            limits
                .permit(SECOND, ip("2001:db8::1"), PAUSE)
                .expect("the first"),
        );
        let soon = limits.permit(SECOND, ip("2001:db8::ffff:2"), PAUSE);
        assert!(matches!(soon, Err(Wait::TooSoon(_))));
        drop(
            limits
                .permit(SECOND, ip("2001:db8:0:1::1"), PAUSE)
                .expect("another"),
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let limits = Limits::default();
        for number in 0..MAX_ADDRESSES as u32 {
            let ip = IpAddr::V4(number.into());
            drop(limits.permit(SECOND, ip, PAUSE).expect("room"));
        }
        let full = limits
            .permit(SECOND, ip("192.0.2.1"), PAUSE)
            .expect_err("full");
        assert_eq!(full, Wait::Busy(BUSY_PAUSE));
        drop(
            limits
                .permit(12 * SECOND, ip("192.0.2.1"), PAUSE)
                .expect("forgotten"),
        );
        assert_eq!(limits.lock().last.len(), 1);
    }

    #[test]
    fn without_a_pause_nothing_is_remembered() {
        let limits = Limits::default();
        for _ in 0..3 {
            drop(
                limits
                    .permit(SECOND, ip("192.0.2.1"), Duration::ZERO)
                    .expect("always"),
            );
        }
        assert!(limits.lock().last.is_empty());
    }
}
