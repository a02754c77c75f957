//! The info hashes of .torrent files (BEP 3; BEP 52: version 2 and hybrids).

use super::list_file::Stamp;
use crate::bittorrent::InfoHash;
use crate::protocol::bencode::{Event, KeyOrder, Limits, Reader};
use sha1::Digest as _;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Largest .torrent file that is read.
const MAX_BYTES: usize = 64 << 20;

/// The info hashes of one torrent: that of version 1, the first 20 bytes of
/// that of version 2, or both for a hybrid.
///
/// # Errors
/// Why this is no torrent.
pub fn info_hashes(torrent: &[u8]) -> Result<Vec<InfoHash>, String> {
    let limits = Limits {
        max_bytes: MAX_BYTES,
        key_order: KeyOrder::Any,
        ..Limits::default()
    };
    let mut reader = Reader::new(torrent, limits);
    // Depth 1 is the torrent, depth 2 what is in `info`.
    let mut depth = 0usize;
    let mut key: &[u8] = b"";
    let mut in_info = false;
    let mut start = None;
    let mut info: Option<&[u8]> = None;
    let (mut is_v1, mut is_v2) = (false, false);
    loop {
        let before = reader.offset();
        let Some(event) = reader.next() else { break };
        let event = event.map_err(|error| format!("is no torrent: byte {}: {error}", error.at))?;
        match event {
            Event::Key(found) => {
                key = found;
                if depth == 2 && in_info {
                    is_v1 |= key == b"pieces";
                }
            }
            Event::Integer(2) if depth == 2 && in_info => is_v2 |= key == b"meta version",
            Event::Dictionary | Event::List => {
                if depth == 1 && key == b"info" && event == Event::Dictionary {
                    in_info = true;
                    start = Some(before);
                }
                depth += 1;
            }
            Event::End => {
                depth = depth.saturating_sub(1);
                if depth == 1 && in_info {
                    in_info = false;
                    info = start.and_then(|start| torrent.get(start..reader.offset()));
                }
            }
            Event::Integer(_) | Event::Bytes(_) => {}
        }
    }
    let info = info.ok_or("is no torrent: it has no info dictionary")?;
    let mut hashes = Vec::new();
    if is_v1 {
        hashes.push(sha1(info));
    }
    if is_v2 {
        let digest = sha2::Sha256::digest(info);
        hashes.push(InfoHash(std::array::from_fn(|at| digest[at])));
    }
    if hashes.is_empty() {
        return Err("is no torrent: its info has neither pieces nor a meta version".to_owned());
    }
    Ok(hashes)
}

/// The info hash of version 1.
#[must_use]
pub(super) fn sha1(info: &[u8]) -> InfoHash {
    InfoHash(sha1::Sha1::digest(info).into())
}

/// The bytes of a file, if it is one and not too large. To open a pipe could
/// take for ever.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let data = fs::metadata(path).map_err(|error| error.to_string())?;
    if !data.is_file() {
        return Err("is no file".to_owned());
    }
    if data.len() > MAX_BYTES as u64 {
        return Err(format!("is larger than {MAX_BYTES} bytes"));
    }
    fs::read(path).map_err(|error| error.to_string())
}

/// A directory whose files that end in `.torrent` are known, and read again
/// only if they change. Directories inside are not looked at.
#[derive(Debug)]
pub struct TorrentDirectory {
    path: PathBuf,
    files: HashMap<PathBuf, (Stamp, Vec<InfoHash>)>,
}

impl TorrentDirectory {
    /// One that was not looked at yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            files: HashMap::new(),
        }
    }

    /// Reads what has come or changed, or everything. Returns whether there was
    /// anything. A file that is no torrent is warned of; what was known of it
    /// stays.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn refresh(&mut self, all: bool) -> Result<bool, String> {
        let shown = self.path.display().to_string();
        let unreadable = |error| format!("{shown}: cannot be read: {error}");
        let mut found = HashMap::new();
        let mut changed = false;
        for entry in fs::read_dir(&self.path).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_none_or(|end| end != "torrent") {
                continue;
            }
            // It may be gone again.
            let Some(stamp) = Stamp::of(&path) else {
                continue;
            };
            let known = self.files.remove(&path);
            let hashes = match known {
                Some((old, hashes)) if old == stamp && !all => hashes,
                known => {
                    changed = true;
                    read(&path)
                        .and_then(|bytes| info_hashes(&bytes))
                        .unwrap_or_else(|error| {
                            log::warn!("{}: {error}", path.display());
                            known.map(|(_, hashes)| hashes).unwrap_or_default()
                        })
                }
            };
            found.insert(path, (stamp, hashes));
        }
        changed |= !self.files.is_empty();
        self.files = found;
        Ok(changed)
    }

    /// The info hashes of all torrents.
    pub fn info_hashes(&self) -> impl Iterator<Item = InfoHash> {
        self.files
            .values()
            .flat_map(|(_, hashes)| hashes.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn hashes_what_stands_between_the_braces() {
        let v1 = b"d4:name1:a6:pieces0:e";
        let torrent = [b"d8:announce1:x4:info", &v1[..], b"4:spamd4:infodeee"].concat();
        assert_eq!(info_hashes(&torrent), Ok(vec![sha1(v1)]));

        let v2 = b"d9:file treede12:meta versioni2e4:name1:ae";
        let digest = sha2::Sha256::digest(v2);
        let torrent = [b"d4:info", &v2[..], b"e"].concat();
        let expected = InfoHash(std::array::from_fn(|at| digest[at]));
        assert_eq!(info_hashes(&torrent), Ok(vec![expected]));

        let hybrid = b"d9:file treede12:meta versioni2e4:name1:a6:pieces0:e";
        let torrent = [b"d4:info", &hybrid[..], b"e"].concat();
        assert_eq!(info_hashes(&torrent).map(|hashes| hashes.len()), Ok(2));
    }

    /// The SHA-1 of a known text (FIPS 180-2, appendix A.1).
    #[test]
    fn sha1_is_the_standards() {
        let hash = sha1(b"abc").to_string();
        assert_eq!(hash, "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    #[test]
    fn says_why_it_is_no_torrent() {
        for bad in ["", "de", "d4:infodee", "d4:infoi1ee", "d4:info", "x"] {
            let error = info_hashes(bad.as_bytes()).expect_err(bad);
            assert!(error.starts_with("is no torrent"), "{error}");
        }
        // Keys deeper down do not count.
        let nested = b"d4:infod1:ad6:pieces0:eee";
        assert!(info_hashes(nested).is_err());
    }
    /// Whoever may put torrents there must not be able to hold the thread that
    /// reads lists, or to fill the memory.
    #[test]
    fn pipes_and_giants_are_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let mut mkfifo = std::process::Command::new("mkfifo");
        let made = mkfifo.arg(path("a.torrent")).status();
        assert!(made.expect("mkfifo").success());
        let giant = fs::File::create(path("b.torrent")).expect("a file");
        giant.set_len(1 << 30).expect("a file with a hole");
        fs::write(path("c.torrent"), b"d4:infod6:pieces0:ee").expect("write");
        let mut directory = TorrentDirectory::new(folder.path().to_path_buf());
        let (done, read) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let changed = directory.refresh(true);
            done.send((changed, directory.info_hashes().count()))
        });
        let read = read.recv_timeout(Duration::from_secs(20));
        assert_eq!(read.expect("an end"), (Ok(true), 1));
    }
}
