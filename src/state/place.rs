//! Where a state file lies, and how it is replaced so that there is always a
//! whole one: the old or the new.
//!
//! The directory is opened once, at the start, and everything is relative to
//! it: a later change of the root or working directory is no matter.

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Added to the name of the file that is being written.
const TEMPORARY: &str = ".tmp";

/// Added to the name of a file that could not be read.
const BAD: &str = ".bad";

/// How often a file that another process has just put in place is left to it.
const MOST_TRIES: u32 = 100;

/// A state file's directory and name.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
    name: OsString,
    directory: Arc<OwnedFd>,
}

impl Place {
    /// Opens the directory of this path.
    ///
    /// # Errors
    /// When there is none, or the path names no file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        };
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            path: path.to_owned(),
            name: name.to_owned(),
            directory: Arc::new(rustix::fs::open(directory, flags, Mode::empty())?),
        })
    }

    /// The path as it was given, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file to read; `None` if there is none.
    ///
    /// # Errors
    /// Those of `open(2)` but for a missing file.
    pub fn read(&self) -> io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(&*self.directory, &self.name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(File::from(file))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Renames the file, so that nothing overwrites it; returns its new path.
    ///
    /// # Errors
    /// Those of `rename(2)`.
    pub fn set_aside(&self) -> io::Result<PathBuf> {
        self.rename(&self.name, &with_suffix(&self.name, BAD))?;
        Ok(with_suffix(self.path.as_os_str(), BAD).into())
    }

    /// Begins a new file beside the old one. What another left unfinished is
    /// overwritten, unless it is still at work.
    ///
    /// # Errors
    /// Those of `open(2)`; `WouldBlock` if another process is writing.
    pub fn begin(&self) -> io::Result<Replacement> {
        let name = with_suffix(&self.name, TEMPORARY);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Addresses of people: for the owner's eyes only.
        let mode = Mode::RUSR | Mode::WUSR;
        let mut tries = 0..MOST_TRIES;
        let file = loop {
            if tries.next().is_none() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let file = rustix::fs::openat(&*self.directory, &name, flags, mode)?;
            let file = File::from(file);
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Another process may have put it into its place, or removed it,
            // before it was locked here: then it is the saved state by now.
            if self.is_named(&file, &name)? {
                break file;
            }
        };
        let replacement = Replacement {
            file,
            name,
            place: self.clone(),
            is_done: false,
        };
        replacement.file.set_len(0)?;
        // A leftover keeps the mode that it had; some file systems have none.
        let _ = rustix::fs::fchmod(&replacement.file, mode);
        Ok(replacement)
    }

    /// Whether this name still is that of an open file.
    fn is_named(&self, file: &File, name: &OsStr) -> io::Result<bool> {
        let named = rustix::fs::statat(&*self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let opened = rustix::fs::fstat(file)?;
        match named {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        rustix::fs::renameat(&*self.directory, from, &*self.directory, to)?;
        // Otherwise the old name could be back after a crash of the host.
        Ok(rustix::fs::fsync(&*self.directory)?)
    }
}

/// A file that will replace the old one, and is removed if it does not.
#[derive(Debug)]
pub struct Replacement {
    /// What is written to.
    pub file: File,
    name: OsString,
    place: Place,
    is_done: bool,
}

impl Replacement {
    /// Puts it into the place of the old one, once it is safe on the disk.
    ///
    /// # Errors
    /// Those of `fsync(2)` and `rename(2)`: the old one is still there, but
    /// for a failure to sync the directory.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.place.rename(&self.name, &self.place.name)?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_done {
            // Of no use to anybody; the next one overwrites it if this fails.
            let _ = rustix::fs::unlinkat(&*self.place.directory, &self.name, AtFlags::empty());
        }
    }
}

fn with_suffix(name: &OsStr, suffix: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(suffix);
    name
}
