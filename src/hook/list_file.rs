//! Lists in text files: one entry per line; empty lines and those that begin
//! with `#` say nothing.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longest line that is read.
const LONGEST_LINE: usize = 4096;

/// Calls `entry` with each line that says something, without the blanks around
/// it.
///
/// # Errors
/// When the file cannot be read, or for the first line that `entry` refuses,
/// with file and line.
pub fn read(path: &Path, mut entry: impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
    let shown = path.display();
    let unreadable = |error| format!("{shown}: cannot be read: {error}");
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(unreadable)?);
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let mut limited = std::io::Read::take(&mut reader, LONGEST_LINE as u64);
        if limited.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            break;
        }
        let refused = |message: String| format!("{shown}:{number}: {message}");
        if line.len() == LONGEST_LINE && line.last() != Some(&b'\n') {
            return Err(refused(format!("is longer than {LONGEST_LINE} bytes")));
        }
        let text = std::str::from_utf8(&line)
            .map_err(|_| refused("is not UTF-8 text".to_owned()))?
            .trim_start_matches('\u{feff}')
            .trim();
        if !text.is_empty() && !text.starts_with('#') {
            entry(text).map_err(refused)?;
        }
    }
    Ok(())
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// The file's state now; `None` if there is none.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).ok()?;
        Some(Self {
            file: (data.dev(), data.ino()),
            bytes: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
        })
    }
}

/// The directories to watch for changes of a file: its own and, behind a
/// symbolic link, that of the file itself.
#[must_use]
pub fn directories(path: &Path) -> Vec<PathBuf> {
    let mut directories = vec![parent(path).to_path_buf()];
    if let Ok(real) = path.canonicalize() {
        let real = parent(&real).to_path_buf();
        if directories[0].canonicalize().ok().as_ref() != Some(&real) {
            directories.push(real);
        }
    }
    directories
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
