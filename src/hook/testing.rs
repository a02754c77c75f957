//! What the tests of hooks have in common.

use super::background::Services;
use super::{AnnounceRequest, Context, Effects, Hook, Moment, ScrapeRequest, Transport, Verdict};
use crate::bittorrent::{Announce, Event, InfoHash, PeerId};
use crate::config::read_options;
use std::net::{IpAddr, Ipv4Addr};

/// A hook from its options in YAML, which must be right.
pub(crate) fn read<H: Hook>(options: &str) -> H {
    let value = serde_yaml::from_str(options).expect("YAML");
    read_options(&value, H::read).expect("valid options")
}

/// What is wrong with options in YAML; empty if nothing.
pub(crate) fn problems<H: Hook>(options: &str) -> String {
    let value = serde_yaml::from_str(options).expect("YAML");
    read_options(&value, H::read).err().unwrap_or_default()
}

/// A leecher's regular announce.
pub(crate) fn announce() -> Announce {
    Announce {
        info_hash: InfoHash([7; 20]),
        peer_id: PeerId(*b"-TR2820-abcdefghijkl"),
        ip: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
        port: 6881,
        event: Event::None,
        left: 1,
        downloaded: 0,
        uploaded: 0,
        num_want: 50,
    }
}

/// What a hook says of an announce that comes from its own address.
pub(crate) fn judge<H: Hook>(hook: &mut H, announce: &mut Announce) -> Verdict {
    let context = Context::bare(Transport::Udp, announce.ip);
    judge_at(hook, announce, Moment::default(), &context, b"").0
}

/// What a hook says and does, with everything given.
pub(crate) fn judge_at<H: Hook>(
    hook: &mut H,
    announce: &mut Announce,
    now: Moment,
    context: &Context<'_>,
    query: &[u8],
) -> (Verdict, Effects) {
    let mut effects = Effects::default();
    let verdict = hook.announce(&mut AnnounceRequest {
        now,
        announce,
        context,
        query,
        effects: &mut effects,
    });
    (verdict, effects)
}

/// Starts a hook; gives the work that it wants done.
pub(crate) fn start<H: Hook>(hook: &mut H) -> Result<Services, String> {
    let mut services = Services {
        seed: 1,
        shards: 1,
        ..Services::default()
    };
    hook.start(&mut services).map(|()| services)
}

/// What a hook says of a scrape.
pub(crate) fn scrape<H: Hook>(hook: &mut H, hashes: &[InfoHash]) -> Verdict {
    let source = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
    hook.scrape(&ScrapeRequest {
        now: Moment::default(),
        hashes,
        context: &Context::bare(Transport::Udp, source),
        query: b"",
    })
}
