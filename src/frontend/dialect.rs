//! Where [`Dialect`]s differ about what hooks have decided.

use crate::bittorrent::{Announce, Event};
use crate::hook::{Effects, Failure, HookKind, Refused};
use crate::protocol::Dialect;

/// What becomes of an announce that hooks have judged.
///
/// opentracker's only hook is its list of torrents. It words the refusal in its
/// own way, and asks the list about everything but `stopped`.
///
/// # Errors
/// The refusal, worded in the dialect.
pub(super) fn accept(
    dialect: Dialect,
    judgement: Result<Effects, Refused>,
    announce: &Announce,
) -> Result<Effects, Refused> {
    judgement.or_else(|refused| match (dialect, refused.by) {
        (Dialect::Opentracker, HookKind::TorrentApproval) if announce.event == Event::Stopped => {
            Ok(Effects::default())
        }
        _ => Err(word(dialect, refused)),
    })
}

/// A refusal, worded in the dialect.
pub(super) fn word(dialect: Dialect, refused: Refused) -> Refused {
    if refused.by != HookKind::TorrentApproval {
        return refused;
    }
    Refused {
        failure: refused.failure.map(|failure| Failure {
            reason: dialect.unapproved(failure.reason),
            ..failure
        }),
        ..refused
    }
}
