//! Refuses peers that listen on certain ports.
//!
//! Options: `blacklist`, a list of ports.

use super::{AnnounceRequest, Hook, Verdict};
use crate::config::Section;

/// The hook.
#[derive(Clone, Debug, Default)]
pub struct PortApproval {
    options: Options,
}

#[derive(Clone, Debug, Default)]
struct Options {
    ports: Vec<u16>,
}

impl Hook for PortApproval {
    fn read(options: &mut Section<'_>) -> Self {
        let mut read = Options::default();
        for (path, text) in options.texts("blacklist").into_iter().flatten() {
            match text.parse() {
                Ok(port) => read.ports.push(port),
                Err(_) => {
                    options.refuse_at(path, "is not a port; use 1 to 65535, in quotes");
                }
            }
        }
        Self { options: read }
    }

    fn announce(&mut self, request: &mut AnnounceRequest<'_>) -> Verdict {
        match self.options.ports.contains(&request.announce.port) {
            true => Verdict::fail("unapproved port"),
            false => Verdict::Continue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{announce, judge, problems, read};
    use super::*;

    #[test]
    fn ports_on_the_list_are_refused() {
        let mut hook: PortApproval = read("blacklist: ['6881']");
        let mut announce = announce();
        assert_eq!(
            judge(&mut hook, &mut announce),
            Verdict::fail("unapproved port")
        );
        announce.port = 6882;
        assert_eq!(judge(&mut hook, &mut announce), Verdict::Continue);
    }

    #[test]
    fn what_is_no_port_is_named() {
        let found = problems::<PortApproval>("blacklist: ['70000']");
        assert!(found.contains("blacklist[0]: is not a port"), "{found}");
    }
}
