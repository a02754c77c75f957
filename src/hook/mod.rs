//! Policy on requests, one hook per file.
//!
//! ```text
//!                 where the request arrived                 where the swarm is
//! frontend -> Chain: prehooks, in the file's order -> owner: Selection (which peers)
//!                |                                      |
//!                refused: failure reason, or silence    reply -> Chain: posthooks
//! ```
//!
//! A hook is a type that implements `Hook` in a file of its own, and one line
//! in the list at the end of this file; `docs/hooks.md` shows how. From that
//! line come its name in the configuration, the check of its options, its
//! place in the dispatch (an enum: no pointer is followed and nothing is
//! allocated for a request) and its counters. Hooks that are not configured
//! are not there: with none, a request pays for one branch.
//!
//! Each shard has hooks of its own ([`ShardHooks`]), so a hook may keep state
//! without locks. What shards share are lists: immutable, loaded beside the
//! shards by [`background`] work, and picked up once per tick ([`shared`]).
//!
//! Invariants: a hook does no I/O in a request, does not panic on any input,
//! takes time and seeds as arguments, and bounds what it remembers.
//!
//! Left to others: how a refusal looks on the wire (`frontend`), the threads
//! that run the background work (`control`).

pub mod background;
mod chain;
pub mod fifo;
pub mod hash_lines;
pub mod hash_list;
pub mod layered_list;
pub mod list_file;
pub mod plan;
pub mod prefix_table;
pub mod selection;
pub mod shared;
pub mod torrent_file;

pub use chain::Chain;
pub use plan::{Plan, ShardHooks};
pub use selection::Selection;

use crate::bittorrent::{Announce, InfoHash};
use crate::config::{KnownHook, Section};
use crate::protocol::http::RouteParameters;
use crate::protocol::udp::UrlData;
use background::Services;
use std::net::IpAddr;

/// One policy. Only [`Hook::read`] is required; everything else has a default
/// that does nothing.
///
/// Made once from its options, started once, then cloned for each shard.
pub(crate) trait Hook: Clone + Send {
    /// Takes its options out of the configuration and reports what is wrong
    /// with them, with the place. Touches nothing else: this also runs when a
    /// file is only checked.
    fn read(options: &mut Section<'_>) -> Self;

    /// Loads lists and hands work to be done beside the shards to `services`.
    ///
    /// # Errors
    /// What keeps it from starting, where, and what to do.
    fn start(&mut self, services: &mut Services) -> Result<(), String> {
        let _ = services;
        Ok(())
    }

    /// Makes a clone one shard's own.
    fn enter(&mut self, shard: &ShardSetup) {
        let _ = shard;
    }

    /// What it reads of a request that must be prepared for it.
    fn wants(&self) -> Wants {
        Wants::default()
    }

    /// Says which peers requesters are given. A hook that does only this
    /// returns true, and is not called for requests.
    fn shape(&self, selection: &mut Selection) -> bool {
        let _ = selection;
        false
    }

    /// Judges an announce before it reaches its swarm; may change it.
    fn announce(&mut self, request: &mut AnnounceRequest<'_>) -> Verdict {
        let _ = request;
        Verdict::Continue
    }

    /// Judges a scrape before its swarms are counted.
    fn scrape(&mut self, request: &ScrapeRequest<'_>) -> Verdict {
        let _ = request;
        Verdict::Continue
    }

    /// Takes note of an announce that was accepted (posthooks).
    fn announced(&mut self, now: Moment, announce: &Announce, context: &Context<'_>) {
        let _ = (now, announce, context);
    }

    /// Called about ten times a second: picks up new lists and the like.
    fn tick(&mut self, now: Moment) {
        let _ = now;
    }

    /// Events lost so far for want of room (posthooks).
    fn lost(&self) -> u64 {
        0
    }
}

/// What a hook has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing against it: the next hook decides.
    Continue,
    /// The client is told why not.
    Fail(Failure),
    /// The client gets no answer: a datagram is ignored, a connection closed.
    Drop,
}

impl Verdict {
    /// A refusal for this reason.
    #[must_use]
    pub const fn fail(reason: &'static str) -> Self {
        Self::Fail(Failure {
            reason,
            interval_seconds: None,
        })
    }
}

/// Why a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For the client's user.
    pub reason: &'static str,
    /// When the client may try again, if the hook minds (HTTP only).
    pub interval_seconds: Option<u32>,
}

/// A refusal and who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The hook.
    pub by: HookKind,
    /// What the client is told; `None` for no answer at all.
    pub failure: Option<Failure>,
}

/// What hooks have changed about the reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Added to the interval.
    pub extra_interval_seconds: u32,
    /// Added to the least interval.
    pub extra_min_interval_seconds: u32,
}

/// The time, as the shard's loop has read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic, since the start.
    pub milliseconds: u64,
    /// Wall clock, since 1970.
    pub unix_seconds: u64,
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram (BEP 15).
    Udp,
    /// Over HTTP.
    Http,
}

/// What is known of a request beside what it asks for.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// How it came.
    pub transport: Transport,
    /// Who sent it: the address of the socket, or what a trusted proxy says.
    /// Not what the client claims.
    pub source: IpAddr,
    /// The parameters in its URL.
    pub url: Url<'a>,
    /// The parameters in its path (HTTP).
    pub route: Option<&'a RouteParameters<'a, 'a>>,
    /// The header `Authorization` (HTTP), if a hook wants it.
    pub authorization: Option<&'a [u8]>,
}

impl Context<'_> {
    /// A request of which only the source is known.
    #[must_use]
    pub const fn bare(transport: Transport, source: IpAddr) -> Self {
        Self {
            transport,
            source,
            url: Url::Query(b""),
            route: None,
            authorization: None,
        }
    }
}

/// The parameters in a URL.
#[derive(Clone, Copy, Debug)]
pub enum Url<'a> {
    /// What follows the question mark, still percent-encoded.
    Query(&'a [u8]),
    /// Options of a datagram (BEP 41), joined if a hook wants them.
    Data(UrlData<'a>),
}

/// An announce under judgement.
#[derive(Debug)]
pub struct AnnounceRequest<'a> {
    /// When it came.
    pub now: Moment,
    /// What it says.
    pub announce: &'a mut Announce,
    /// Where it comes from.
    pub context: &'a Context<'a>,
    /// The parameters in its URL, for hooks that want them: see
    /// [`crate::protocol::http::query::find`].
    pub query: &'a [u8],
    /// What is changed about the reply.
    pub effects: &'a mut Effects,
}

/// A scrape under judgement.
#[derive(Debug)]
pub struct ScrapeRequest<'a> {
    /// When it came.
    pub now: Moment,
    /// The torrents it asks for.
    pub hashes: &'a [InfoHash],
    /// Where it comes from.
    pub context: &'a Context<'a>,
    /// The parameters in its URL, for hooks that want them.
    pub query: &'a [u8],
}

/// What hooks read of a request that costs something to prepare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// The parameters in the URL, joined.
    pub query: bool,
    /// The header `Authorization`.
    pub authorization: bool,
    /// The hashes of scrapes.
    pub scrapes: bool,
}

/// What a hook learns of the shard it is to serve.
#[derive(Clone, Copy, Debug)]
pub struct ShardSetup {
    /// Its number, from 0.
    pub id: usize,
    /// How many there are.
    pub shards: usize,
    /// Random and secret, another one for each shard.
    pub seed: u64,
}

/// What speaks HTTP for a hook's background work. A request takes no longer
/// than `timeout` altogether.
fn http_agent(timeout: std::time::Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(timeout));
    config.build().into()
}

/// Makes the dispatch out of the lists of hooks.
macro_rules! hooks {
    (
        $d:tt
        before { $($before_module:ident :: $before:ident = $before_name:literal,)* }
        after { $($after_module:ident :: $after:ident = $after_name:literal,)* }
    ) => {
        $(pub mod $before_module;)*
        $(pub mod $after_module;)*

        /// Prehooks, as the configuration knows them.
        pub(crate) const PREHOOKS: &[KnownHook] = &[$(KnownHook {
            name: $before_name,
            check: |options| {
                let _ = $before_module::$before::read(options);
            },
        },)*];

        /// Posthooks, as the configuration knows them.
        pub(crate) const POSTHOOKS: &[KnownHook] = &[$(KnownHook {
            name: $after_name,
            check: |options| {
                let _ = $after_module::$after::read(options);
            },
        },)*];

        /// Which hook: its type without its state.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is documented in its module")]
        pub enum HookKind {
            $($before,)*
            $($after,)*
        }

        impl HookKind {
            /// All there are, in order.
            pub const ALL: &[Self] = &[$(Self::$before,)* $(Self::$after,)*];

            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in the configuration and in metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$before => $before_name,)*
                    $(Self::$after => $after_name,)*
                }
            }
        }

        /// Any hook. Each variant is what [`Hook`] says of its type.
        #[derive(Clone)]
        enum AnyHook {
            $($before($before_module::$before),)*
            $($after($after_module::$after),)*
        }

        impl AnyHook {
            fn read(name: &str, options: &mut Section<'_>) -> Option<Self> {
                match name {
                    $($before_name => Some(Self::$before(Hook::read(options))),)*
                    $($after_name => Some(Self::$after(Hook::read(options))),)*
                    _ => None,
                }
            }

            const fn kind(&self) -> HookKind {
                match self {
                    $(Self::$before(_) => HookKind::$before,)*
                    $(Self::$after(_) => HookKind::$after,)*
                }
            }
        }

        /// Runs `$body` with `$bound` bound to the hook inside.
        macro_rules! each {
            ($d any:expr, $d bound:ident => $d body:expr) => {
                match $d any {
                    $(AnyHook::$before($d bound) => $d body,)*
                    $(AnyHook::$after($d bound) => $d body,)*
                }
            };
        }
        use each;
    };
}

// A line for each hook: its module, its type, its name in the configuration.
hooks! {
    $
    before {
        client_approval::ClientApproval = "client approval",
        torrent_approval::TorrentApproval = "torrent approval",
        interval_variation::IntervalVariation = "interval variation",
        peer_scope::PeerScope = "peer scope",
        ip_approval::IpApproval = "ip approval",
        rate_limit::RateLimit = "rate limit",
        fixed_peers::FixedPeersHook = "fixed peers",
        preferred_subnet::PreferredSubnetHook = "preferred subnet",
        jwt::Jwt = "jwt",
        port_approval::PortApproval = "port approval",
    }
    after {
        webhook::Webhook = "webhook",
    }
}

#[cfg(test)]
pub(crate) mod testing;
