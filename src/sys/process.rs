//! What the kernel tells of this process: time, memory, descriptors.
//!
//! Read from `/proc/self`, which is opened once, so that it can still be read
//! after a `chroot(2)` and by another user.

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use std::fs::{self, File};
use std::io::{self, Read};

/// Most bytes of a file under `/proc/self` that are read; they have far fewer.
const MOST_BYTES: u64 = 16 << 10;

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessReport {
    /// Processor time used since the start, user and system.
    pub cpu_seconds: f64,
    /// Memory that is in RAM now.
    pub resident_bytes: u64,
    /// Address space that is taken now.
    pub virtual_bytes: u64,
    /// Descriptors that are open now.
    pub open_fds: u64,
    /// Descriptors that may be open; `None` without a limit.
    pub max_fds: Option<u64>,
    /// Threads that run now.
    pub threads: u64,
    /// When it started, in seconds since 1970.
    pub start_unix_seconds: f64,
}

/// `/proc/self`, held open.
#[derive(Debug)]
pub struct ProcessFiles {
    directory: OwnedFd,
    /// Its directory `fd`.
    descriptors: OwnedFd,
    boot_unix_seconds: u64,
    ticks_per_second: u64,
    page_bytes: u64,
}

impl ProcessFiles {
    /// Opens them.
    ///
    /// # Errors
    /// When there is no `/proc`, or it does not say what it should.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = openat(CWD, "/proc/self", flags, Mode::empty())?;
        let descriptors = openat(&directory, "fd", flags, Mode::empty())?;
        let stat = fs::read_to_string("/proc/stat")?;
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime "));
        let boot_unix_seconds = boot.and_then(|seconds| seconds.trim().parse().ok());
        Ok(Self {
            directory,
            descriptors,
            boot_unix_seconds: boot_unix_seconds.ok_or(io::ErrorKind::InvalidData)?,
            ticks_per_second: system_constant(libc::_SC_CLK_TCK)?,
            page_bytes: system_constant(libc::_SC_PAGESIZE)?,
        })
    }

    /// Reads them.
    ///
    /// # Errors
    /// Those of reading files, or that they do not say what they should.
    pub fn read(&self) -> io::Result<ProcessReport> {
        let stat = Stat::parse(&self.read_file("stat")?).ok_or(io::ErrorKind::InvalidData)?;
        let seconds = |ticks: u64| ticks as f64 / self.ticks_per_second as f64;
        Ok(ProcessReport {
            cpu_seconds: seconds(stat.cpu_ticks),
            resident_bytes: stat.resident_pages * self.page_bytes,
            virtual_bytes: stat.virtual_bytes,
            open_fds: self.count_descriptors()?,
            max_fds: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            threads: stat.threads,
            start_unix_seconds: self.boot_unix_seconds as f64 + seconds(stat.start_ticks),
        })
    }

    fn read_file(&self, name: &str) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.directory, name, flags, Mode::empty())?;
        let mut text = String::new();
        File::from(file)
            .take(MOST_BYTES)
            .read_to_string(&mut text)?;
        Ok(text)
    }

    fn count_descriptors(&self) -> io::Result<u64> {
        // Since Linux 6.2 the size of the directory is their number; before
        // that it is 0.
        let size = rustix::fs::fstat(&self.descriptors)?.st_size;
        if size > 0 {
            return Ok(size as u64);
        }
        self.count_entries()
    }

    fn count_entries(&self) -> io::Result<u64> {
        // The copy shares its position with what it was made of.
        let mut entries = Dir::new(self.descriptors.try_clone()?)?;
        entries.rewind();
        let entries = entries.filter_map(Result::ok);
        let numbers = entries.filter(|entry| !entry.file_name().to_bytes().starts_with(b"."));
        // Without the copy.
        Ok((numbers.count() as u64).saturating_sub(1))
    }
}

/// What is used of `/proc/self/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name in parentheses may hold spaces and parentheses itself. The
        // first field behind it is number 3.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: number(14)?.checked_add(number(15)?)?,
            threads: number(20)?,
            start_ticks: number(22)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
        })
    }
}

fn system_constant(name: libc::c_int) -> io::Result<u64> {
    // SAFETY: sysconf(3) only looks the number up.
    let value = unsafe { libc::sysconf(name) };
    match u64::try_from(value) {
        Ok(value) if value > 0 => Ok(value),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_told_of() {
        let files = ProcessFiles::open().expect("open");
        let report = files.read().expect("read");
        assert!(report.resident_bytes > 1 << 16, "{report:?}");
        assert!(report.virtual_bytes > report.resident_bytes, "{report:?}");
        assert!(report.threads >= 1, "{report:?}");
        // Standard input, output and error, and the two files.
        assert!(report.open_fds >= 5, "{report:?}");
        for _ in 0..2 {
            assert!(files.count_entries().expect("read") >= 5);
        }
        assert!(report.start_unix_seconds > 1e9, "{report:?}");
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat =
            Stat::parse("7 (a) b) (c) S 1 7 7 0 -1 0 1 2 3 4 50 6 0 0 20 0 9 0 1234 4096 3 0\n");
        let expected = Stat {
            cpu_ticks: 56,
            threads: 9,
            start_ticks: 1234,
            virtual_bytes: 4096,
            resident_pages: 3,
        };
        assert_eq!(stat, Some(expected));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }
}
