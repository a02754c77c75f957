//! Info hashes that other programs write into FIFOs, a line each, while the
//! tracker runs: opentracker's `access.fifo_add` and `access.fifo_delete`.
//!
//! - A FIFO that does not exist is created. Anything else of its name is an
//!   error.
//! - Writers come and go; a line that its writer left without an end counts
//!   once the last writer has closed.
//! - It is opened for reading only (a tracker may not be allowed to write it),
//!   and opened again after its last writer has closed, the new one before the
//!   old one goes, so that a writer always finds a reader.
//! - One reader at a time, held by a lock on the FIFO: of two, each would miss
//!   what the other has read. A reload's new reader waits for the old one.
//! - One that was replaced by another of the same name is opened anew.

use super::hash_lines::HashLines;
use crate::bittorrent::InfoHash;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes that one call of [`Fifo::receive`] takes at most: those that the
/// kernel keeps for a FIFO, a few times over.
const MOST_BYTES: usize = 1 << 20;

/// Who may use a FIFO that is created, less what the umask takes away.
const MODE: Mode = Mode::from_raw_mode(0o660);

/// One FIFO, open for reading.
#[derive(Debug)]
pub struct Fifo {
    path: PathBuf,
    file: File,
    is_locked: bool,
    lines: HashLines,
    /// Lines that said nothing, already complained about.
    complained: bool,
}

impl Fifo {
    /// Opens a FIFO, which is created if there is nothing of its name.
    ///
    /// # Errors
    /// When it is something else, or cannot be made or opened: one line with
    /// the path and the remedy.
    pub fn open(path: PathBuf) -> Result<Self, String> {
        let shown = path.display();
        match rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, MODE, 0) {
            Ok(()) => log::info!("{shown}: created, a FIFO"),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(format!("{shown}: cannot be created: {error}")),
        }
        let mut fifo = Self {
            file: open(&path)?,
            path,
            is_locked: false,
            lines: HashLines::default(),
            complained: false,
        };
        fifo.lock();
        Ok(fifo)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When it was last written to: seconds and nanoseconds since 1970, as fine
    /// as the kernel's clock for files.
    #[must_use]
    pub fn written(&self) -> Option<(i64, i64)> {
        let data = self.file.metadata().ok()?;
        Some((data.mtime(), data.mtime_nsec()))
    }

    /// What becomes readable when something was written; nothing while another
    /// reader has it.
    #[must_use]
    pub fn input(&self) -> Option<BorrowedFd<'_>> {
        self.is_locked.then(|| self.file.as_fd())
    }

    /// Takes the hashes that lie there.
    pub fn receive(&mut self, mut found: impl FnMut(InfoHash)) {
        if !self.is_locked {
            return;
        }
        let mut buffer = [0; 1 << 14];
        let mut bytes = 0;
        while bytes < MOST_BYTES {
            match self.file.read(&mut buffer) {
                Ok(0) => {
                    self.lines.end(&mut found);
                    self.reopen();
                    break;
                }
                Ok(read) => {
                    self.lines.feed(&buffer[..read], &mut found);
                    bytes += read;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nothing more for now.
                Err(_) => break,
            }
        }
        if self.lines.skipped > 0 && !self.complained {
            self.complained = true;
            log::warn!(
                "{}: lines that do not begin with an info hash are skipped",
                self.path.display()
            );
        }
    }

    /// Sees to it that it is the FIFO of its name and read by nobody else.
    /// Returns whether it has just become so, and whether it is.
    pub fn tend(&mut self) -> Tended {
        let was_locked = self.is_locked;
        if !self.is_current() {
            self.is_locked = false;
            if let Ok(file) = open(&self.path) {
                self.file = file;
                self.lines = HashLines::default();
                self.lock();
            }
        } else if !was_locked {
            self.lock();
        }
        match (was_locked, self.is_locked) {
            (_, false) => Tended::Waiting,
            (false, true) => Tended::Taken,
            (true, true) => Tended::Held,
        }
    }

    /// Another open file for the same FIFO: this one says for ever that its
    /// writers are gone.
    fn reopen(&mut self) {
        self.complained = false;
        self.lines = HashLines::default();
        match open(&self.path) {
            Ok(file) => {
                let old = std::mem::replace(&mut self.file, file);
                drop(old);
                self.is_locked = false;
                self.lock();
            }
            Err(error) => {
                self.is_locked = false;
                log::error!("{error}; nothing is received until it is there again");
            }
        }
    }

    fn lock(&mut self) {
        let operation = FlockOperation::NonBlockingLockExclusive;
        self.is_locked = rustix::fs::flock(&self.file, operation).is_ok();
    }

    /// Whether the open file is the one of its name.
    fn is_current(&self) -> bool {
        let named = std::fs::metadata(&self.path);
        match (named, self.file.metadata()) {
            (Ok(named), Ok(own)) => (named.dev(), named.ino()) == (own.dev(), own.ino()),
            _ => false,
        }
    }
}

/// How it stands with a FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tended {
    /// It is read here, as before.
    Held,
    /// It is read here from now on.
    Taken,
    /// It is not there, or somebody else reads it.
    Waiting,
}

fn open(path: &Path) -> Result<File, String> {
    let shown = path.display();
    // Without waiting for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|error| format!("{shown}: cannot be opened: {error}"))?;
    let is_fifo = file.metadata().is_ok_and(|data| data.file_type().is_fifo());
    match is_fifo {
        true => Ok(file),
        false => Err(format!(
            "{shown}: is not a FIFO; remove it, and it will be created, or name another path"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn write(path: &Path, text: &str) -> File {
        let mut file = File::options()
            .write(true)
            .open(path)
            .expect("a reader is there");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    fn line(number: u8) -> String {
        InfoHash([number; 20]).to_string() + "\n"
    }

    fn receive(fifo: &mut Fifo) -> Vec<u8> {
        let mut found = Vec::new();
        fifo.receive(|hash| found.push(hash.0[0]));
        found
    }

    const NOTHING: [u8; 0] = [];

    fn made() -> (tempfile::TempDir, Fifo) {
        let directory = tempfile::tempdir().expect("a directory");
        let fifo = Fifo::open(directory.path().join("add")).expect("a FIFO");
        (directory, fifo)
    }

    #[test]
    fn writers_come_and_go() {
        let (_directory, mut fifo) = made();
        let path = fifo.path().to_owned();
        assert_eq!(receive(&mut fifo), NOTHING);
        for round in 1..5 {
            drop(write(&path, &line(round)));
            assert_eq!(receive(&mut fifo), [round]);
            assert_eq!(receive(&mut fifo), NOTHING);
        }
        // Two at once, and one that writes before it is looked at again.
        let first = write(&path, &line(6));
        let second = write(&path, &(line(7) + "rubbish\n"));
        drop(first);
        assert_eq!(receive(&mut fifo), [6, 7]);
        drop(second);
        drop(write(&path, &line(8)));
        assert_eq!(receive(&mut fifo), [8]);
        assert_eq!(receive(&mut fifo), NOTHING);
        assert_eq!(fifo.tend(), Tended::Held);
    }

    #[test]
    fn lines_may_come_in_pieces() {
        let (_directory, mut fifo) = made();
        let path = fifo.path().to_owned();
        let whole = line(1);
        let mut writer = write(&path, &whole[..13]);
        assert_eq!(receive(&mut fifo), NOTHING);
        writer.write_all(&whole.as_bytes()[13..]).expect("written");
        assert_eq!(receive(&mut fifo), [1]);
        // Without an end: counts when its writer has closed.
        writer.write_all(&whole.as_bytes()[..40]).expect("written");
        assert_eq!(receive(&mut fifo), NOTHING);
        drop(writer);
        assert_eq!(receive(&mut fifo), [1]);
        // Half a hash is none, and does not spoil the next writer's.
        drop(write(&path, &whole[..20]));
        assert_eq!(receive(&mut fifo), NOTHING);
        drop(write(&path, &whole));
        assert_eq!(receive(&mut fifo), [1]);
    }

    #[test]
    fn one_reader_at_a_time() {
        let (_directory, mut fifo) = made();
        let mut second = Fifo::open(fifo.path().to_owned()).expect("the same FIFO");
        assert!(second.input().is_none() && fifo.input().is_some());
        drop(write(fifo.path(), &line(1)));
        assert_eq!(receive(&mut second), NOTHING);
        assert_eq!(receive(&mut fifo), [1]);
        assert_eq!(second.tend(), Tended::Waiting);
        drop(write(fifo.path(), &line(2)));
        drop(fifo);
        assert_eq!(second.tend(), Tended::Taken);
        assert_eq!(receive(&mut second), [2], "what the first one has left");
    }

    #[test]
    fn a_fifo_may_be_replaced() {
        let (_directory, mut fifo) = made();
        let path = fifo.path().to_owned();
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(fifo.tend(), Tended::Waiting);
        drop(Fifo::open(path.clone()).expect("made again"));
        assert_eq!(fifo.tend(), Tended::Taken);
        drop(write(&path, &line(3)));
        assert_eq!(receive(&mut fifo), [3]);
    }

    #[test]
    fn what_is_no_fifo_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, "").expect("written");
        let error = Fifo::open(path).expect_err("a file");
        assert!(error.contains("file: is not a FIFO; remove it"), "{error}");
        let error = Fifo::open(directory.path().join("no/fifo")).expect_err("no directory");
        assert!(error.contains("no/fifo: cannot be created: "), "{error}");
    }
}
