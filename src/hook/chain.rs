//! The hooks of one shard in their order, and what a request costs without
//! them: one branch.

use super::{
    AnnounceRequest, AnyHook, Context, Effects, Hook, Moment, Refused, ScrapeRequest, ShardSetup,
    Url, Verdict, Wants, each,
};
use crate::bittorrent::{Announce, InfoHash};

/// One shard's hooks that act on requests.
#[derive(Clone, Default)]
pub struct Chain {
    before: Vec<AnyHook>,
    after: Vec<AnyHook>,
    /// Accepted announces are noted even without a posthook.
    note_all: bool,
    wants: Wants,
    /// The parts of a datagram's URL data, joined.
    url: Vec<u8>,
}

impl Chain {
    /// Hooks that were started, in the order in which they run.
    pub(super) fn new(before: Vec<AnyHook>, after: Vec<AnyHook>) -> Self {
        let mut wants = Wants::default();
        for hook in before.iter().chain(&after) {
            let more = each!(hook, hook => hook.wants());
            wants.query |= more.query;
            wants.authorization |= more.authorization;
            wants.scrapes |= more.scrapes;
        }
        Self {
            before,
            after,
            note_all: false,
            wants,
            url: Vec::new(),
        }
    }

    /// Makes a clone one shard's own.
    pub(super) fn enter(&mut self, shard: &ShardSetup) {
        for hook in self.before.iter_mut().chain(&mut self.after) {
            each!(hook, hook => hook.enter(shard));
        }
    }

    /// Whether any hook judges requests.
    #[must_use]
    #[inline]
    pub const fn judges(&self) -> bool {
        !self.before.is_empty()
    }

    /// Whether any hook, or the shard, takes note of accepted announces.
    #[must_use]
    #[inline]
    pub const fn notes(&self) -> bool {
        self.note_all || !self.after.is_empty()
    }

    /// Has [`Chain::notes`] say yes even without a posthook: the shard itself
    /// takes note.
    pub const fn note_all(&mut self, note_all: bool) {
        self.note_all = note_all;
    }

    /// What must be prepared of a request.
    #[must_use]
    #[inline]
    pub const fn wants(&self) -> Wants {
        self.wants
    }

    /// Asks all prehooks about an announce, which they may change. The first
    /// that refuses decides.
    ///
    /// # Errors
    /// The refusal.
    pub fn before_announce(
        &mut self,
        now: Moment,
        announce: &mut Announce,
        context: &Context<'_>,
    ) -> Result<Effects, Refused> {
        let mut effects = Effects::default();
        let query = query(self.wants, context, &mut self.url);
        for any in &mut self.before {
            let mut request = AnnounceRequest {
                now,
                announce,
                context,
                query,
                effects: &mut effects,
            };
            let verdict = each!(&mut *any, hook => hook.announce(&mut request));
            refused(any, verdict)?;
        }
        Ok(effects)
    }

    /// Asks all prehooks about a scrape. The first that refuses decides.
    ///
    /// # Errors
    /// The refusal.
    pub fn before_scrape(
        &mut self,
        now: Moment,
        hashes: &[InfoHash],
        context: &Context<'_>,
    ) -> Result<(), Refused> {
        let query = query(self.wants, context, &mut self.url);
        let request = ScrapeRequest {
            now,
            hashes,
            context,
            query,
        };
        for any in &mut self.before {
            let verdict = each!(&mut *any, hook => hook.scrape(&request));
            refused(any, verdict)?;
        }
        Ok(())
    }

    /// Tells all posthooks of an announce that was accepted.
    pub fn after_announce(&mut self, now: Moment, announce: &Announce, context: &Context<'_>) {
        for any in &mut self.after {
            each!(any, hook => hook.announced(now, announce, context));
        }
    }

    /// Lets all hooks pick up new lists and the like.
    pub fn tick(&mut self, now: Moment) {
        for any in self.before.iter_mut().chain(&mut self.after) {
            each!(any, hook => hook.tick(now));
        }
    }

    /// Events that posthooks have lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let lost = |any: &AnyHook| each!(any, hook => hook.lost());
        self.after.iter().map(lost).sum()
    }
}

/// The parameters in the URL, if a hook wants them.
#[inline]
fn query<'a>(wants: Wants, context: &Context<'a>, buffer: &'a mut Vec<u8>) -> &'a [u8] {
    let data = match context.url {
        _ if !wants.query => return b"",
        Url::Query(query) => return query,
        Url::Data(data) => data,
    };
    let target = match data.as_single() {
        Some(target) => target,
        None => {
            buffer.clear();
            data.copy_to(buffer);
            buffer
        }
    };
    crate::protocol::http::query::split_target(target).1
}

#[inline]
fn refused(by: &AnyHook, verdict: Verdict) -> Result<(), Refused> {
    let failure = match verdict {
        Verdict::Continue => return Ok(()),
        Verdict::Fail(failure) => Some(failure),
        Verdict::Drop => None,
    };
    Err(Refused {
        by: by.kind(),
        failure,
    })
}
