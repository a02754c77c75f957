//! Only torrents on a list, or all but those on a list (Chihaya's hook).
//!
//! The list is given inline, in files of one info hash per line, and in
//! directories of .torrent files; all that are given are one list. Files and
//! directories are watched and read again when they change or at SIGHUP, off
//! the shards' threads. As long as one of the files is bad the old list stays,
//! and the log says which line; a bad .torrent file is left out with a warning
//! (or stays with what it was).
//!
//! Options: `whitelist`, `whitelist_file`, `whitelist_directory`, or the same
//! with `blacklist`; `scrapes` (default false) applies it to scrapes too.

use super::background::{Services, Source};
use super::hash_list::HashList;
use super::list_file::{self, Stamp};
use super::shared::{Shared, View};
use super::torrent_file::TorrentDirectory;
use super::{AnnounceRequest, Hook, Moment, ScrapeRequest, Verdict, Wants};
use crate::bittorrent::InfoHash;
use crate::config::Section;
use std::path::PathBuf;
use std::sync::Arc;

/// The refusal, as Chihaya words it.
const UNAPPROVED: Verdict = Verdict::fail("unapproved torrent");

/// The hook.
#[derive(Clone, Debug)]
pub struct TorrentApproval {
    options: Options,
    list: View<HashList>,
}

#[derive(Clone, Debug, Default)]
struct Options {
    is_whitelist: bool,
    inline: Vec<InfoHash>,
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    scrapes: bool,
}

/// The keys of both kinds of list: inline, files, directories.
const KEYS: [[&str; 3]; 2] = [
    ["whitelist", "whitelist_file", "whitelist_directory"],
    ["blacklist", "blacklist_file", "blacklist_directory"],
];

impl Hook for TorrentApproval {
    fn read(options: &mut Section<'_>) -> Self {
        let mut read = Options::default();
        let [white, black] = KEYS.map(|keys| keys.into_iter().find(|key| options.has(key)));
        read.is_whitelist = white.is_some();
        for [inline, files, directories] in KEYS {
            for (path, text) in options.texts(inline).into_iter().flatten() {
                match text.parse() {
                    Ok(hash) => read.inline.push(hash),
                    Err(error) => {
                        options.refuse_at(path, &format!("{text:?}: {error}"));
                    }
                }
            }
            read.files.extend(options.paths(files));
            read.directories.extend(options.paths(directories));
        }
        options.boolean("scrapes", &mut read.scrapes);
        match (white, black) {
            (Some(white), Some(black)) => {
                let message = format!("cannot be given with a {white}; remove one of them");
                options.refuse(black, &message);
            }
            (None, None) => {
                options.refuse_all(
                    "wants a list: whitelist, whitelist_file, whitelist_directory, \
                     or the same with blacklist",
                );
            }
            _ => {}
        }
        Self {
            options: read,
            list: Shared::new(HashList::new(&[], 0)).view(),
        }
    }

    fn start(&mut self, services: &mut Services) -> Result<(), String> {
        let mut source = ListSource::new(self.options.clone(), services.seed);
        let list = source.load(true)?;
        self.list = source.shared.view();
        if let Some(list) = list {
            source.shared.store(list);
            self.list.refresh();
        }
        if source.is_watched() {
            services.sources.push(Box::new(source));
        }
        Ok(())
    }

    fn wants(&self) -> Wants {
        Wants {
            scrapes: self.options.scrapes,
            ..Wants::default()
        }
    }

    fn announce(&mut self, request: &mut AnnounceRequest<'_>) -> Verdict {
        self.judge(&request.announce.info_hash)
    }

    fn scrape(&mut self, request: &ScrapeRequest<'_>) -> Verdict {
        let applies = self.options.scrapes;
        let refused = |hash| applies && self.judge(hash) != Verdict::Continue;
        if request.hashes.iter().any(refused) {
            return UNAPPROVED;
        }
        Verdict::Continue
    }

    fn tick(&mut self, _: Moment) {
        self.list.refresh();
    }
}

impl TorrentApproval {
    #[inline]
    fn judge(&self, hash: &InfoHash) -> Verdict {
        if self.list.get().contains(hash) == self.options.is_whitelist {
            Verdict::Continue
        } else {
            UNAPPROVED
        }
    }
}

/// Reads the list, off the shards' threads.
struct ListSource {
    options: Options,
    seed: u64,
    shared: Arc<Shared<HashList>>,
    /// What the files were when they were read last, good or bad.
    stamps: Vec<Option<Stamp>>,
    torrents: Vec<TorrentDirectory>,
}

impl ListSource {
    fn new(options: Options, seed: u64) -> Self {
        Self {
            seed,
            shared: Shared::new(HashList::new(&[], seed)),
            stamps: Vec::new(),
            torrents: options
                .directories
                .iter()
                .map(|path| TorrentDirectory::new(path.clone()))
                .collect(),
            options,
        }
    }

    fn is_watched(&self) -> bool {
        !self.options.files.is_empty() || !self.torrents.is_empty()
    }

    /// The whole list, or `None` if nothing has changed.
    fn load(&mut self, all: bool) -> Result<Option<HashList>, String> {
        let stamps: Vec<_> = self
            .options
            .files
            .iter()
            .map(|path| Stamp::of(path))
            .collect();
        let mut changed = all || stamps != self.stamps;
        self.stamps = stamps;
        for directory in &mut self.torrents {
            changed |= directory.refresh(all)?;
        }
        if !changed {
            return Ok(None);
        }
        let mut hashes = self.options.inline.clone();
        for path in &self.options.files {
            list_file::read(path, |line| {
                hashes.push(info_hash(line)?);
                Ok(())
            })?;
        }
        for directory in &self.torrents {
            hashes.extend(directory.info_hashes());
        }
        Ok(Some(HashList::new(&hashes, self.seed)))
    }
}

impl Source for ListSource {
    fn directories(&self) -> Vec<PathBuf> {
        let files = self.options.files.iter();
        let files = files.flat_map(|file| list_file::directories(file));
        files
            .chain(self.options.directories.iter().cloned())
            .collect()
    }

    fn refresh(&mut self, all: bool) -> bool {
        match self.load(all) {
            Ok(None) => {}
            Ok(Some(list)) => {
                log::info!("torrent approval: read {} info hashes", list.len());
                self.shared.store(list);
            }
            Err(error) => log::error!("torrent approval: {error}; the old list stays in use"),
        }
        self.shared.free_unused()
    }
}

/// The hash at the beginning of a line of a list: 40 hexadecimal digits, or the
/// 64 of a version 2 hash. What follows after a space is a remark.
fn info_hash(line: &str) -> Result<InfoHash, String> {
    let word = line.split_ascii_whitespace().next().unwrap_or_default();
    let is_v2 = word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = if is_v2 { &word[..40] } else { word };
    digits.parse().map_err(|error| format!("{word:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{announce, judge, problems, read, scrape, start};
    use super::*;
    use std::fs;

    const ONE: &str = "0101010101010101010101010101010101010101";
    const TWO: &str = "0202020202020202020202020202020202020202";

    fn approves(hook: &mut TorrentApproval, hash: &str) -> bool {
        let mut announce = announce();
        announce.info_hash = hash.parse().expect("a hash");
        judge(hook, &mut announce) == Verdict::Continue
    }

    #[test]
    fn inline_lists_decide() {
        let mut hook: TorrentApproval = read(&format!("whitelist: ['{ONE}']"));
        start(&mut hook).expect("starts");
        assert!(approves(&mut hook, ONE));
        assert!(!approves(&mut hook, TWO));
        let mut hook: TorrentApproval = read(&format!("blacklist: ['{ONE}']"));
        start(&mut hook).expect("starts");
        assert!(!approves(&mut hook, ONE));
        assert!(approves(&mut hook, TWO));
        let mut announce = announce();
        announce.info_hash = ONE.parse().expect("a hash");
        assert_eq!(
            judge(&mut hook, &mut announce),
            Verdict::fail("unapproved torrent")
        );
    }

    #[test]
    fn scrapes_are_free_unless_asked_for() {
        let hash: InfoHash = ONE.parse().expect("a hash");
        for (option, expected) in [("", Verdict::Continue), ("scrapes: true", UNAPPROVED)] {
            let mut hook: TorrentApproval = read(&format!("blacklist: ['{ONE}']\n{option}"));
            start(&mut hook).expect("starts");
            assert_eq!(scrape(&mut hook, &[InfoHash([5; 20]), hash]), expected);
            assert_eq!(scrape(&mut hook, &[InfoHash([5; 20])]), Verdict::Continue);
        }
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_a_bad_one_changes_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("list");
        fs::write(&path, format!("# a remark\r\n\n  {ONE} a name\n")).expect("written");
        let mut hook: TorrentApproval = read(&format!("whitelist_file: '{}'", path.display()));
        let mut sources = start(&mut hook).expect("starts").sources;
        assert_eq!(sources[0].directories(), [directory.path()]);
        assert!(approves(&mut hook, ONE));

        fs::write(&path, format!("{ONE}\n{TWO}")).expect("written");
        sources[0].refresh(false);
        assert!(!approves(&mut hook, TWO), "not before the tick");
        hook.tick(Moment::default());
        assert!(approves(&mut hook, ONE) && approves(&mut hook, TWO));

        fs::write(&path, format!("{ONE}\n{TWO}0\n")).expect("written");
        let mut again = ListSource::new(hook.options.clone(), 1);
        let error = again.load(true).expect_err("a bad line");
        assert!(error.contains("list:2: "), "{error}");
        for _ in 0..2 {
            sources[0].refresh(true);
            hook.tick(Moment::default());
            assert!(approves(&mut hook, TWO), "the old list stays");
        }

        fs::remove_file(&path).expect("removed");
        sources[0].refresh(false);
        hook.tick(Moment::default());
        assert!(approves(&mut hook, TWO), "the old list stays");
    }

    #[test]
    fn lines_begin_with_a_hash_of_either_version() {
        let v2 = format!("{ONE}{}", "ab".repeat(12));
        assert_eq!(info_hash(&v2), Ok(InfoHash([1; 20])));
        assert_eq!(info_hash(&format!("{TWO}\tname")), Ok(InfoHash([2; 20])));
        for bad in ["", "xyz", &v2[..63], &ONE[..39], &format!("{ONE},name")] {
            assert!(info_hash(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_directory_of_torrents_is_a_list() {
        let directory = tempfile::tempdir().expect("a directory");
        let torrent = |name: &str| format!("d4:infod4:name1:{name}6:pieces0:ee");
        let hash = |name: &str| {
            super::super::torrent_file::sha1(format!("d4:name1:{name}6:pieces0:e").as_bytes())
        };
        fs::write(directory.path().join("a.torrent"), torrent("a")).expect("written");
        fs::write(directory.path().join("b.txt"), torrent("b")).expect("written");
        let path = directory.path().display();
        let mut hook: TorrentApproval = read(&format!("whitelist_directory: '{path}'"));
        let mut sources = start(&mut hook).expect("starts").sources;
        assert!(approves(&mut hook, &hash("a").to_string()));
        assert!(!approves(&mut hook, &hash("b").to_string()));
        fs::rename(
            directory.path().join("b.txt"),
            directory.path().join("b.torrent"),
        )
        .expect("renamed");
        fs::write(directory.path().join("bad.torrent"), "d4:info").expect("written");
        sources[0].refresh(false);
        hook.tick(Moment::default());
        assert!(approves(&mut hook, &hash("b").to_string()));
        // A file that goes bad stays what it was; one that goes is gone.
        fs::write(directory.path().join("b.torrent"), "oops").expect("written");
        fs::remove_file(directory.path().join("a.torrent")).expect("removed");
        sources[0].refresh(false);
        hook.tick(Moment::default());
        assert!(approves(&mut hook, &hash("b").to_string()));
        assert!(!approves(&mut hook, &hash("a").to_string()));
    }

    #[test]
    fn mistakes_are_named() {
        for (options, expected) in [
            ("{}", "wants a list"),
            (
                "{whitelist_file: /a, blacklist: []}",
                "blacklist: cannot be given with a whitelist_file",
            ),
            ("whitelist: [abc]", "whitelist[0]: \"abc\": an info hash is"),
            ("whitelist_file: ''", "whitelist_file: is empty"),
            ("{blacklist: [], scrape: true}", "did you mean \"scrapes\""),
        ] {
            let found = problems::<TorrentApproval>(options);
            assert!(found.contains(expected), "{options}: {found}");
        }
        let mut hook: TorrentApproval = read("whitelist_file: /nonexistent/list");
        let error = start(&mut hook).err().expect("no such file");
        assert!(
            error.starts_with("/nonexistent/list: cannot be read"),
            "{error}"
        );
    }
}
