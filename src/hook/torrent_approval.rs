//! Only torrents on a list, or all but those on a list (Chihaya's hook).
//!
//! The list is given inline, in files of one info hash per line, and in
//! directories of .torrent files; all that are given are one list. Files and
//! directories are watched and read again when they change or at SIGHUP, off
//! the shards' threads. As long as one of the files is bad the old list stays,
//! and the log says which line; a bad .torrent file is left out with a warning
//! (or stays with what it was).
//!
//! Programs can change the running list through FIFOs, a hash per line. Then
//! files are read again at SIGHUP only, and what came through the FIFOs is
//! forgotten at that: it is expected to stand in the files by then, as
//! opentracker expects it.
//!
//! Options: `whitelist`, `whitelist_file`, `whitelist_directory`, or the same
//! with `blacklist`; `scrapes` (default false) applies it to scrapes too;
//! `format` (`karuta`, or `opentracker` to read lists as leniently);
//! `fifo_add` and `fifo_delete`.

use super::background::{Services, Source};
use super::fifo::{Fifo, Tended};
use super::hash_lines::HashLines;
use super::hash_list::HashList;
use super::layered_list::{Changes, LayeredList};
use super::list_file::{self, Stamp};
use super::shared::{Shared, View};
use super::torrent_file::TorrentDirectory;
use super::{AnnounceRequest, Hook, Moment, ScrapeRequest, Verdict, Wants};
use crate::bittorrent::InfoHash;
use crate::config::Section;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The refusal, as Chihaya words it.
const UNAPPROVED: Verdict = Verdict::fail("unapproved torrent");

/// How often a FIFO may be found in another reader's hands before that is
/// worth a warning: a reload's old reader takes a moment to go.
const PATIENCE: u32 = 10;

/// The hook.
#[derive(Clone, Debug)]
pub struct TorrentApproval {
    options: Options,
    list: View<LayeredList>,
}

#[derive(Clone, Debug, Default)]
struct Options {
    is_whitelist: bool,
    inline: Vec<InfoHash>,
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    scrapes: bool,
    format: Format,
    fifo_add: Option<PathBuf>,
    fifo_delete: Option<PathBuf>,
}

/// How list files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    /// A line that says nothing is an error, as is a file that is not there.
    #[default]
    Karuta,
    /// Lines that say nothing are skipped; a file that is not there when the
    /// tracker starts is an empty list.
    Opentracker,
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
        let formats = [
            ("karuta", Format::Karuta),
            ("opentracker", Format::Opentracker),
        ];
        options.choice("format", &formats, &mut read.format);
        read.fifo_add = read_fifo(options, "fifo_add");
        read.fifo_delete = read_fifo(options, "fifo_delete");
        if read.fifo_add.is_some() && read.fifo_add == read.fifo_delete {
            options.refuse("fifo_delete", "is fifo_add; name another path");
        }
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
            list: Shared::new(LayeredList::new(HashList::new(&[], 0), 0)).view(),
        }
    }

    fn start(&mut self, services: &mut Services) -> Result<(), String> {
        let mut source = ListSource::new(self.options.clone(), services.seed);
        // Before the files are read: what is said to them from then on counts.
        source.open_fifos()?;
        if let Some(list) = source.load(true)? {
            source.set(list);
        }
        self.list = source.shared.view();
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

/// Takes the path of a FIFO.
fn read_fifo(options: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
    let path = options.text(key)?;
    if path.is_empty() {
        options.refuse(key, "is empty; name a path or remove this");
        return None;
    }
    Some(PathBuf::from(path))
}

/// Reads the list, off the shards' threads.
struct ListSource {
    options: Options,
    seed: u64,
    shared: Arc<Shared<LayeredList>>,
    /// The list as it was published last.
    list: LayeredList,
    /// What the files were when they were read last, good or bad.
    stamps: Vec<Option<Stamp>>,
    torrents: Vec<TorrentDirectory>,
    /// Something has changed and is not in the list yet, since another of its
    /// parts could not be read.
    is_stale: bool,
    /// Each with what its lines say: to put in or to take out.
    fifos: Vec<(Fifo, bool)>,
    /// How often in a row a FIFO could not be had.
    waited: u32,
}

impl ListSource {
    fn new(options: Options, seed: u64) -> Self {
        let list = LayeredList::new(HashList::new(&[], seed), seed);
        Self {
            seed,
            shared: Shared::new(list.clone()),
            list,
            stamps: Vec::new(),
            torrents: options
                .directories
                .iter()
                .map(|path| TorrentDirectory::new(path.clone()))
                .collect(),
            is_stale: false,
            options,
            fifos: Vec::new(),
            waited: 0,
        }
    }

    fn open_fifos(&mut self) -> Result<(), String> {
        let paths = [
            (&self.options.fifo_add, true),
            (&self.options.fifo_delete, false),
        ];
        for (path, puts_in) in paths {
            if let Some(path) = path {
                self.fifos.push((Fifo::open(path.clone())?, puts_in));
            }
        }
        Ok(())
    }

    fn is_watched(&self) -> bool {
        !self.options.files.is_empty() || !self.torrents.is_empty() || !self.fifos.is_empty()
    }

    fn set(&mut self, list: HashList) {
        self.list = LayeredList::new(list, self.seed);
        self.shared.store(self.list.clone());
    }

    /// The whole list, or `None` if nothing has changed.
    fn load(&mut self, all: bool) -> Result<Option<HashList>, String> {
        let is_first = self.stamps.is_empty();
        let stamps: Vec<_> = self
            .options
            .files
            .iter()
            .map(|path| Stamp::of(path))
            .collect();
        self.is_stale |= all || stamps != self.stamps;
        self.stamps = stamps;
        for directory in &mut self.torrents {
            self.is_stale |= directory.refresh(all)?;
        }
        if !self.is_stale {
            return Ok(None);
        }
        let mut hashes = self.options.inline.clone();
        for path in &self.options.files {
            match self.options.format {
                Format::Karuta => list_file::read(path, |line| {
                    hashes.push(info_hash(line)?);
                    Ok(())
                })?,
                Format::Opentracker => read_leniently(path, is_first, &mut hashes)?,
            }
        }
        for directory in &self.torrents {
            hashes.extend(directory.info_hashes());
        }
        self.is_stale = false;
        Ok(Some(HashList::new(&hashes, self.seed)))
    }

    /// Sees to the FIFOs. Returns whether one was taken over from another
    /// reader, and whether one is still to be had.
    fn tend_fifos(&mut self) -> (bool, bool) {
        let (mut taken, mut waiting) = (false, None);
        for (fifo, _) in &mut self.fifos {
            match fifo.tend() {
                Tended::Held => {}
                Tended::Taken => taken = true,
                Tended::Waiting => waiting = Some(fifo.path()),
            }
        }
        self.waited = if waiting.is_some() {
            self.waited + 1
        } else {
            0
        };
        if let Some(path) = waiting
            && self.waited == PATIENCE
        {
            log::warn!(
                "{}: is gone or read by another process; nothing is received",
                path.display()
            );
        }
        (taken, waiting.is_some())
    }
}

impl Source for ListSource {
    fn directories(&self) -> Vec<PathBuf> {
        if !self.fifos.is_empty() {
            // A FIFO may be replaced.
            let fifos = self.fifos.iter();
            return fifos
                .flat_map(|(fifo, _)| list_file::directories(fifo.path()))
                .collect();
        }
        let files = self.options.files.iter();
        let files = files.flat_map(|file| list_file::directories(file));
        files
            .chain(self.options.directories.iter().cloned())
            .collect()
    }

    fn refresh(&mut self, all: bool) -> bool {
        // What came before SIGHUP counts as part of what it flushes.
        self.receive();
        let (taken, waiting) = self.tend_fifos();
        if all || taken || self.fifos.is_empty() {
            match self.load(all) {
                Ok(None) => {}
                Ok(Some(list)) => {
                    log::info!("torrent approval: read {} info hashes", list.len());
                    self.set(list);
                }
                Err(error) => log::error!("torrent approval: {error}; the old list stays in use"),
            }
        }
        self.shared.free_unused() | waiting
    }

    fn inputs(&self) -> Vec<BorrowedFd<'_>> {
        self.fifos
            .iter()
            .filter_map(|(fifo, _)| fifo.input())
            .collect()
    }

    fn receive(&mut self) {
        let mut changes = Changes::new();
        // Of two that lie there, the one that was written last has the last
        // word; in doubt, what takes out.
        self.fifos
            .sort_by_key(|(fifo, puts_in)| (fifo.written(), !puts_in));
        for (fifo, puts_in) in &mut self.fifos {
            fifo.receive(|hash| {
                changes.insert(hash, *puts_in);
            });
        }
        if !changes.is_empty() {
            log::debug!(
                "torrent approval: {} changes came through FIFOs",
                changes.len()
            );
            self.list = self.list.changed(&changes);
            self.shared.store(self.list.clone());
        }
    }
}

/// Reads a list as opentracker does. One that is not there when the tracker
/// starts is empty; later the old list stays.
fn read_leniently(path: &Path, is_first: bool, into: &mut Vec<InfoHash>) -> Result<(), String> {
    let shown = path.display();
    let unreadable = |error| format!("{shown}: cannot be read: {error}");
    let mut file = match File::open(path) {
        Err(error) if is_first && error.kind() == ErrorKind::NotFound => {
            log::warn!("{shown}: is not there; the list is empty until it is");
            return Ok(());
        }
        file => file.map_err(unreadable)?,
    };
    let (mut lines, mut buffer) = (HashLines::default(), vec![0; 1 << 18]);
    loop {
        let read = file.read(&mut buffer).map_err(unreadable)?;
        let found = |hash| into.push(hash);
        match buffer.get(..read) {
            Some(bytes) if read > 0 => lines.feed(bytes, found),
            _ => {
                lines.end(found);
                break;
            }
        }
    }
    if lines.skipped > 0 {
        log::warn!(
            "{shown}: {} lines that begin with no info hash are skipped",
            lines.skipped
        );
    }
    Ok(())
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
mod tests;
