//! Only clients on a list, or all but those on a list (Chihaya's hook).
//!
//! A client is known by the six bytes of its client id: bytes 1 to 6 of a peer
//! id that begins with `-` (`-TR2820-…` is `TR2820`, BEP 20), else bytes 0 to 5
//! (`M4-20-…`). Entries are such ids, or the beginning of some with `*` behind
//! it (`qB*`). Peer ids are the client's own word: this keeps out what honest
//! programs do by accident, no liars.
//!
//! Options: `whitelist` or `blacklist`, a list of entries.

use super::{AnnounceRequest, Hook, Verdict};
use crate::bittorrent::PeerId;
use crate::config::Section;

/// Bytes of a client id.
const ID_BYTES: usize = 6;

/// The refusal, as Chihaya words it.
const UNAPPROVED: Verdict = Verdict::fail("unapproved client");

/// The hook.
#[derive(Clone, Debug, Default)]
pub struct ClientApproval {
    options: Options,
}

#[derive(Clone, Debug, Default)]
struct Options {
    /// Whether those on the list are the ones who may.
    is_whitelist: bool,
    /// The entries by their length, each as a number, sorted.
    entries: [Vec<u64>; ID_BYTES + 1],
}

impl Hook for ClientApproval {
    fn read(options: &mut Section<'_>) -> Self {
        let mut read = Options::default();
        let lists = [
            (true, options.texts("whitelist")),
            (false, options.texts("blacklist")),
        ];
        match &lists {
            [(_, Some(_)), (_, Some(_))] => {
                options.refuse(
                    "blacklist",
                    "cannot be given with a whitelist; remove one of them",
                );
            }
            [(_, None), (_, None)] if !options.has("whitelist") && !options.has("blacklist") => {
                options.refuse_all("wants a whitelist or a blacklist of client ids");
            }
            _ => {}
        }
        for (is_whitelist, list) in lists {
            for (path, text) in list.into_iter().flatten() {
                read.is_whitelist = is_whitelist;
                match entry(text) {
                    Ok((length, number)) => read.entries[length].push(number),
                    Err(message) => {
                        options.refuse_at(path, &message);
                    }
                }
            }
        }
        for entries in &mut read.entries {
            entries.sort_unstable();
            entries.dedup();
        }
        if options.has("whitelist") {
            // An empty whitelist approves nobody.
            read.is_whitelist = true;
        }
        Self { options: read }
    }

    fn announce(&mut self, request: &mut AnnounceRequest<'_>) -> Verdict {
        if self.options.lists(&request.announce.peer_id) == self.options.is_whitelist {
            Verdict::Continue
        } else {
            UNAPPROVED
        }
    }
}

impl Options {
    fn lists(&self, peer_id: &PeerId) -> bool {
        let id = client_id(peer_id);
        self.entries.iter().enumerate().any(|(length, entries)| {
            let Some(beginning) = id.get(..length) else {
                return false;
            };
            !entries.is_empty() && entries.binary_search(&number(beginning)).is_ok()
        })
    }
}

/// The six bytes that tell which program it is.
fn client_id(peer_id: &PeerId) -> &[u8] {
    let start = usize::from(peer_id.0[0] == b'-');
    &peer_id.0[start..start + ID_BYTES]
}

/// An entry's length and its bytes as a number.
fn entry(text: &str) -> Result<(usize, u64), String> {
    let bytes = text.as_bytes();
    let id = match bytes.strip_suffix(b"*") {
        Some(beginning) if beginning.len() < ID_BYTES => beginning,
        _ if bytes.len() == ID_BYTES => bytes,
        _ => {
            return Err(format!(
                "{text:?} is not a client id; write its six characters, as \"TR2820\" for peer ids \
                 that begin with -TR2820-, or the first of them and *, as \"TR*\""
            ));
        }
    };
    if id.first() == Some(&b'-') {
        return Err(format!(
            "{text:?} begins with the dash of the peer id; leave it out"
        ));
    }
    Ok((id.len(), number(id)))
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{announce, judge, problems};
    use super::*;

    fn approves(options: &str, peer_id: &[u8; 20]) -> bool {
        let mut hook: ClientApproval = super::super::testing::read(options);
        let mut announce = announce();
        announce.peer_id = PeerId(*peer_id);
        judge(&mut hook, &mut announce) == Verdict::Continue
    }

    #[test]
    fn a_whitelist_lets_in_those_on_it() {
        let options = "whitelist: [TR2820, M4-20-, qB*]";
        assert!(approves(options, b"-TR2820-abcdefghijkl"));
        assert!(approves(options, b"M4-20-0-abcdefghijkl"));
        assert!(approves(options, b"-qB4650-abcdefghijkl"));
        assert!(approves(options, b"qB4650--abcdefghijkl"));
        assert!(!approves(options, b"-TR2821-abcdefghijkl"));
        assert!(!approves(options, b"-qC4650-abcdefghijkl"));
        assert!(!approves("whitelist: []", b"-TR2820-abcdefghijkl"));
    }

    #[test]
    fn a_blacklist_keeps_out_those_on_it() {
        let options = "blacklist: [XL0012, 'XF*']";
        assert!(!approves(options, b"-XL0012-abcdefghijkl"));
        assert!(!approves(options, b"-XF9999-abcdefghijkl"));
        assert!(approves(options, b"-XL0013-abcdefghijkl"));
        assert!(approves("blacklist: []", b"-XL0012-abcdefghijkl"));
        assert!(!approves("blacklist: ['*']", b"-XL0012-abcdefghijkl"));
    }

    #[test]
    fn the_refusal_is_chihayas() {
        let mut hook: ClientApproval = super::super::testing::read("whitelist: [AA0000]");
        assert_eq!(
            judge(&mut hook, &mut announce()),
            Verdict::fail("unapproved client")
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (options, expected) in [
            ("{}", "wants a whitelist or a blacklist"),
            (
                "{whitelist: [], blacklist: []}",
                "blacklist: cannot be given with a whitelist",
            ),
            (
                "whitelist: [TR282]",
                "whitelist[0]: \"TR282\" is not a client id",
            ),
            (
                "whitelist: [TR2820, 'TR2820*']",
                "whitelist[1]: \"TR2820*\" is not",
            ),
            ("blacklist: ['-TR282']", "blacklist[0]: \"-TR282\" begins"),
            ("blacklist: [7]", "blacklist[0]: wants a text"),
            ("whitlist: []", "unknown key \"whitlist\"; did you mean"),
        ] {
            let found = problems::<ClientApproval>(options);
            assert!(found.contains(expected), "{options}: {found}");
        }
    }
}
