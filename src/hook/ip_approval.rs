//! Only requests from some subnets, or all but those from some.
//!
//! The longest prefix over an address decides, whichever list it is on;
//! between two that are the same, denial does. Addresses on no list are
//! allowed, unless only `allow` lists are given. Concerns announces and
//! scrapes, by the address they come from, and announces by the address that
//! others would be sent to, if that is another.
//!
//! Options: `allow`, `deny` (subnets or addresses), `allow_file`, `deny_file`
//! (files with one per line; watched, and read again at SIGHUP: a bad file
//! keeps the old list), `default` (`allow` or `deny`, for addresses on no
//! list), `refusal` (`fail`, the default: a failure reason; or `drop`: no
//! answer).

use super::background::{Services, Source};
use super::list_file::{self, Stamp};
use super::prefix_table::{Listed, Prefix, PrefixTable};
use super::shared::{Shared, View};
use super::{AnnounceRequest, Hook, Moment, ScrapeRequest, Verdict};
use crate::config::Section;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// The refusal, if there is to be one.
const UNAPPROVED: Verdict = Verdict::fail("unapproved address");

/// The hook.
#[derive(Clone, Debug)]
pub struct IpApproval {
    options: Options,
    table: View<PrefixTable>,
}

#[derive(Clone, Debug)]
struct Options {
    inline: Vec<(Prefix, Listed)>,
    files: Vec<(PathBuf, Listed)>,
    /// Whether addresses on no list may pass.
    unlisted_pass: bool,
    refusal: Verdict,
}

impl Hook for IpApproval {
    fn read(options: &mut Section<'_>) -> Self {
        let mut read = Options {
            inline: Vec::new(),
            files: Vec::new(),
            unlisted_pass: options.has("deny") || options.has("deny_file"),
            refusal: UNAPPROVED,
        };
        let allows = options.has("allow") || options.has("allow_file");
        if !allows && !read.unlisted_pass {
            options.refuse_all("wants a list: allow, deny, allow_file or deny_file");
        }
        for (inline, file, listed) in [
            ("allow", "allow_file", Listed::Allowed),
            ("deny", "deny_file", Listed::Denied),
        ] {
            for (path, text) in options.texts(inline).into_iter().flatten() {
                match text.parse() {
                    Ok(prefix) => read.inline.push((prefix, listed)),
                    Err(message) => {
                        options.refuse_at(path, &message);
                    }
                }
            }
            let files = options.paths(file).into_iter();
            read.files.extend(files.map(|path| (path, listed)));
        }
        let words = [("allow", true), ("deny", false)];
        options.choice("default", &words, &mut read.unlisted_pass);
        let words = [("fail", UNAPPROVED), ("drop", Verdict::Drop)];
        options.choice("refusal", &words, &mut read.refusal);
        Self {
            options: read,
            table: Shared::new(PrefixTable::default()).view(),
        }
    }

    fn start(&mut self, services: &mut Services) -> Result<(), String> {
        let mut source = TableSource {
            options: self.options.clone(),
            shared: Shared::new(PrefixTable::default()),
            stamps: Vec::new(),
        };
        if let Some(table) = source.load(true)? {
            source.shared.store(table);
        }
        self.table = source.shared.view();
        if !source.options.files.is_empty() {
            services.sources.push(Box::new(source));
        }
        Ok(())
    }

    fn announce(&mut self, request: &mut AnnounceRequest<'_>) -> Verdict {
        let (source, target) = (&request.context.source, &request.announce.ip);
        if self.passes(source) && (source == target || self.passes(target)) {
            Verdict::Continue
        } else {
            self.options.refusal
        }
    }

    fn scrape(&mut self, request: &ScrapeRequest<'_>) -> Verdict {
        match self.passes(&request.context.source) {
            true => Verdict::Continue,
            false => self.options.refusal,
        }
    }

    fn tick(&mut self, _: Moment) {
        self.table.refresh();
    }
}

impl IpApproval {
    #[inline]
    fn passes(&self, ip: &IpAddr) -> bool {
        match self.table.get().find(ip) {
            Listed::No => self.options.unlisted_pass,
            Listed::Allowed => true,
            Listed::Denied => false,
        }
    }
}

/// Reads the lists, off the shards' threads.
struct TableSource {
    options: Options,
    shared: Arc<Shared<PrefixTable>>,
    /// What the files were when they were read last, good or bad.
    stamps: Vec<Option<Stamp>>,
}

impl TableSource {
    /// All lists, or `None` if nothing has changed.
    fn load(&mut self, all: bool) -> Result<Option<PrefixTable>, String> {
        let files = &self.options.files;
        let stamps: Vec<_> = files.iter().map(|(path, _)| Stamp::of(path)).collect();
        let changed = all || stamps != self.stamps;
        self.stamps = stamps;
        if !changed {
            return Ok(None);
        }
        let mut prefixes = self.options.inline.clone();
        for (path, listed) in files {
            list_file::read(path, |line| {
                // What follows after a blank is a remark.
                let word = line.split_ascii_whitespace().next().unwrap_or_default();
                prefixes.push((word.parse()?, *listed));
                Ok(())
            })?;
        }
        Ok(Some(PrefixTable::new(&prefixes)))
    }
}

impl Source for TableSource {
    fn directories(&self) -> Vec<PathBuf> {
        let files = self.options.files.iter();
        files
            .flat_map(|(path, _)| list_file::directories(path))
            .collect()
    }

    fn refresh(&mut self, all: bool) -> bool {
        match self.load(all) {
            Ok(None) => {}
            Ok(Some(table)) => {
                log::info!("ip approval: read {} ranges of addresses", table.ranges());
                self.shared.store(table);
            }
            Err(error) => log::error!("ip approval: {error}; the old list stays in use"),
        }
        self.shared.free_unused()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{announce, judge, judge_at, problems, read, start};
    use super::super::{Context, Transport};
    use super::*;

    fn verdict(options: &str, ip: &str) -> Verdict {
        let mut hook: IpApproval = read(options);
        start(&mut hook).expect("starts");
        let mut announce = announce();
        announce.ip = ip.parse().expect("an address");
        judge(&mut hook, &mut announce)
    }

    #[test]
    fn the_longest_prefix_decides() {
        let options = "{deny: [192.0.2.0/24], allow: [192.0.2.128/25, '2001:db8::/32']}";
        assert_eq!(verdict(options, "192.0.2.1"), UNAPPROVED);
        assert_eq!(verdict(options, "192.0.2.129"), Verdict::Continue);
        assert_eq!(verdict(options, "198.51.100.1"), Verdict::Continue);
        assert_eq!(verdict(options, "2001:db8::1"), Verdict::Continue);
        let only = "{allow: [192.0.2.0/24], refusal: drop}";
        assert_eq!(verdict(only, "192.0.2.1"), Verdict::Continue);
        assert_eq!(verdict(only, "198.51.100.1"), Verdict::Drop);
        assert_eq!(verdict(only, "2001:db8::1"), Verdict::Drop);
        let open = "{allow: [192.0.2.0/24], default: allow}";
        assert_eq!(verdict(open, "198.51.100.1"), Verdict::Continue);
    }

    #[test]
    fn the_address_that_peers_are_sent_to_counts_too() {
        let mut hook: IpApproval = read("deny: [192.0.2.0/24]");
        start(&mut hook).expect("starts");
        let mut announce = announce();
        let context = Context::bare(Transport::Http, announce.ip);
        announce.ip = "192.0.2.1".parse().expect("an address");
        let (verdict, _) = judge_at(&mut hook, &mut announce, Moment::default(), &context, b"");
        assert_eq!(verdict, UNAPPROVED);
    }

    #[test]
    fn files_are_read_again_and_a_bad_one_changes_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("deny");
        std::fs::write(&path, "# bad\n192.0.2.0/24 a remark\n").expect("written");
        let mut hook: IpApproval = read(&format!("deny_file: '{}'", path.display()));
        let mut sources = start(&mut hook).expect("starts").sources;
        let denied = |ip: &str, hook: &mut IpApproval| {
            hook.tick(Moment::default());
            !hook.passes(&ip.parse().expect("an address"))
        };
        assert!(denied("192.0.2.1", &mut hook));
        std::fs::write(&path, "198.51.100.0/24\n").expect("written");
        sources[0].refresh(false);
        assert!(!denied("192.0.2.1", &mut hook) && denied("198.51.100.1", &mut hook));
        std::fs::write(&path, "192.0.2.0/24\n198.51.100.1/24\n").expect("written");
        sources[0].refresh(false);
        assert!(!denied("192.0.2.1", &mut hook) && denied("198.51.100.1", &mut hook));
        let error = start(&mut hook).err().expect("a bad line");
        assert!(
            error.contains("deny:2: \"198.51.100.1/24\" has bits"),
            "{error}"
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (options, expected) in [
            ("{}", "wants a list"),
            ("deny: [x]", "deny[0]: \"x\" is not a subnet"),
            ("{deny: [], refusal: no}", "refusal: "),
            ("{deny: [], alow: []}", "did you mean \"allow\""),
        ] {
            let found = problems::<IpApproval>(options);
            assert!(found.contains(expected), "{options}: {found}");
        }
    }
}
