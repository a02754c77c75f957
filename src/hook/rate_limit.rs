//! Not more than so many requests from one address: a bucket of tokens for
//! each IPv4 address and each IPv6 /64.
//!
//! A bucket is kept as the time at which it will be full again (the generic
//! cell rate algorithm, ITU-T I.371): one number, and nothing to refill. The
//! buckets lie in a table of fixed size, four to a cache line; where all four
//! are taken, the one that is full soonest gives way, so those who ask too
//! much are remembered longest, however many addresses an attack comes from.
//!
//! Each shard counts for itself, without locks. Datagrams reach shards by info
//! hash, so a client with many torrents may get up to the limit from each.
//!
//! Over the limit a datagram gets no answer, and an HTTP request a failure
//! reason with a longer interval. A request that is refused takes no token.
//!
//! Options: `requests` per `period` (default 60 per minute, at once or one
//! after the other), `ipv4_prefix_bits` (32), `ipv6_prefix_bits` (64),
//! `addresses` (remembered by each shard, default 65536, 16 bytes each),
//! `retry_interval` (told over HTTP, default 30m), `scrapes` (default true:
//! scrapes count too).

use super::Transport;
use super::{AnnounceRequest, Context, Failure, Hook, Moment, ScrapeRequest, ShardSetup, Verdict};
use crate::config::{Section, Whole};
use std::net::IpAddr;
use std::time::Duration;

/// What a client is told over HTTP.
const TOO_MANY: &str = "too many requests";

/// Buckets side by side: a cache line.
const WAYS: usize = 4;

/// The hook.
#[derive(Clone, Debug)]
pub struct RateLimit {
    options: Options,
    /// Empty until it enters a shard.
    sets: Vec<Set>,
    key: u64,
}

#[derive(Clone, Debug)]
struct Options {
    requests: u64,
    period: Duration,
    prefix_bits: [u32; 2],
    addresses: usize,
    retry_interval: Duration,
    scrapes: bool,
}

/// Buckets among which an address has its place.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Set([Bucket; WAYS]);

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    address: u64,
    /// When it is full again, in monotonic microseconds.
    full_at: u64,
}

impl Hook for RateLimit {
    fn read(options: &mut Section<'_>) -> Self {
        let mut read = Options {
            requests: 60,
            period: Duration::from_secs(60),
            prefix_bits: [32, 64],
            addresses: 1 << 16,
            retry_interval: Duration::from_secs(30 * 60),
            scrapes: true,
        };
        let day = Duration::from_secs(86_400);
        options.integer("requests", 1..=1_000_000, &mut read.requests);
        let period = Duration::from_secs(1)..=day;
        options.duration("period", period, Whole::Any, &mut read.period);
        options.integer("ipv4_prefix_bits", 1..=32, &mut read.prefix_bits[0]);
        options.integer("ipv6_prefix_bits", 1..=64, &mut read.prefix_bits[1]);
        options.integer("addresses", 1024..=100_000_000, &mut read.addresses);
        let retry = Duration::from_secs(1)..=day;
        let into = &mut read.retry_interval;
        options.duration("retry_interval", retry, Whole::Seconds, into);
        options.boolean("scrapes", &mut read.scrapes);
        Self {
            options: read,
            sets: Vec::new(),
            key: 0,
        }
    }

    fn enter(&mut self, shard: &ShardSetup) {
        let sets = self.options.addresses.div_ceil(WAYS);
        self.sets = vec![Set::default(); sets];
        self.key = shard.seed | 1;
    }

    fn announce(&mut self, request: &mut AnnounceRequest<'_>) -> Verdict {
        self.judge(request.now, request.context)
    }

    fn scrape(&mut self, request: &ScrapeRequest<'_>) -> Verdict {
        match self.options.scrapes {
            true => self.judge(request.now, request.context),
            false => Verdict::Continue,
        }
    }
}

impl RateLimit {
    fn judge(&mut self, now: Moment, context: &Context<'_>) -> Verdict {
        if self.take(now.milliseconds * 1000, &context.source) {
            return Verdict::Continue;
        }
        match context.transport {
            Transport::Udp => Verdict::Drop,
            Transport::Http => Verdict::Fail(Failure {
                reason: TOO_MANY,
                // At most a day.
                interval_seconds: Some(self.options.retry_interval.as_secs() as u32),
            }),
        }
    }

    /// Takes a token, if there is one.
    #[inline]
    fn take(&mut self, now: u64, ip: &IpAddr) -> bool {
        let period = self.options.period.as_micros() as u64;
        let token = period / self.options.requests;
        let address = self.address(ip);
        // Folded multiplication with a secret: strangers cannot choose who
        // shares their set.
        let product = u128::from(address ^ self.key.rotate_left(29)) * u128::from(self.key);
        let mixed = (product as u64) ^ (product >> 64) as u64;
        let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = (u128::from(mixed) * self.sets.len() as u128) >> 64;
        let Some(Set(buckets)) = self.sets.get_mut(at as usize) else {
            return true;
        };
        let own = buckets.iter().position(|bucket| bucket.address == address);
        let at = own.unwrap_or_else(|| {
            let soonest = buckets
                .iter()
                .enumerate()
                .min_by_key(|(_, bucket)| bucket.full_at);
            let at = soonest.map_or(0, |(at, _)| at);
            buckets[at] = Bucket {
                address,
                full_at: 0,
            };
            at
        });
        let full_at = buckets[at].full_at.max(now) + token;
        // With all tokens taken it is full after a whole period.
        if full_at > now + period {
            return false;
        }
        buckets[at].full_at = full_at;
        true
    }

    /// The address without what its owner may choose, as a number.
    #[inline]
    fn address(&self, ip: &IpAddr) -> u64 {
        match ip {
            IpAddr::V4(ip) => {
                let kept = u32::MAX << (32 - self.options.prefix_bits[0]);
                // A prefix that no IPv6 address has: 0000::/8 is reserved.
                1 << 32 | u64::from(u32::from(*ip) & kept)
            }
            IpAddr::V6(ip) => {
                let kept = u64::MAX << (64 - self.options.prefix_bits[1]);
                (u128::from(*ip) >> 64) as u64 & kept
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{announce, judge_at, problems, read};
    use super::*;

    fn hook(options: &str) -> RateLimit {
        let mut hook: RateLimit = read(options);
        hook.enter(&ShardSetup {
            id: 0,
            shards: 1,
            seed: 0x1234_5678_9abc_def0,
        });
        hook
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    const SECOND: u64 = 1_000_000;

    #[test]
    fn so_many_at_once_then_one_for_each_part_of_the_period() {
        let mut hook = hook("{requests: 3, period: 30s}");
        let client = ip("198.51.100.1");
        for _ in 0..3 {
            assert!(hook.take(SECOND, &client));
        }
        assert!(!hook.take(SECOND, &client));
        assert!(hook.take(SECOND, &ip("198.51.100.2")), "others are free");
        assert!(!hook.take(10 * SECOND, &client));
        assert!(hook.take(11 * SECOND, &client), "a token has come");
        assert!(!hook.take(12 * SECOND, &client), "only one");
        for _ in 0..3 {
            assert!(hook.take(100 * SECOND, &client), "full again, no more");
        }
        assert!(!hook.take(100 * SECOND, &client));
    }

    #[test]
    fn a_subnet_shares_a_bucket() {
        let mut hook = hook("{requests: 1, ipv4_prefix_bits: 24}");
        assert!(hook.take(0, &ip("2001:db8::1")));
        assert!(!hook.take(0, &ip("2001:db8::2")));
        assert!(hook.take(0, &ip("2001:db8:0:1::1")));
        assert!(hook.take(0, &ip("192.0.2.1")));
        assert!(!hook.take(0, &ip("192.0.2.2")));
        assert!(hook.take(0, &ip("192.0.3.1")));
    }

    /// Ten times as many addresses as there is room for: those who ask too
    /// much stay known.
    #[test]
    fn many_addresses_do_not_wash_out_the_greedy() {
        let mut hook = hook("{requests: 2, addresses: 1024}");
        let greedy = ip("198.51.100.1");
        assert!(hook.take(0, &greedy) && hook.take(0, &greedy));
        for other in 0..10_240u32 {
            hook.take(0, &IpAddr::V4(other.into()));
            assert!(!hook.take(0, &greedy), "after {other}");
        }
        assert_eq!(hook.sets.len() * WAYS, 1024);
        assert_eq!(size_of::<Set>(), 64);
    }

    #[test]
    fn datagrams_are_dropped_and_http_is_told_when_to_come_back() {
        let mut hook = hook("{requests: 1, retry_interval: 1h}");
        let mut announce = announce();
        let verdicts: Vec<Verdict> = [Transport::Udp, Transport::Udp, Transport::Http]
            .map(|transport| {
                let context = Context::bare(transport, announce.ip);
                judge_at(&mut hook, &mut announce, Moment::default(), &context, b"").0
            })
            .into();
        let told = Verdict::Fail(Failure {
            reason: TOO_MANY,
            interval_seconds: Some(3600),
        });
        assert_eq!(verdicts, [Verdict::Continue, Verdict::Drop, told]);
    }

    #[test]
    fn mistakes_are_named() {
        for (options, expected) in [
            ("requests: 0", "requests: 0 is out of range"),
            ("period: 1", "period: 1 is not a duration"),
            (
                "ipv6_prefix_bits: 128",
                "ipv6_prefix_bits: 128 is out of range",
            ),
            ("rate: 1", "unknown key \"rate\""),
        ] {
            let found = problems::<RateLimit>(options);
            assert!(found.contains(expected), "{options}: {found}");
        }
    }
}
