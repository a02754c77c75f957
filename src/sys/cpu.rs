//! Which cores the process may use, staying on one, and going before others.

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::io;
use std::path::Path;

/// The cores of the process's affinity mask, in ascending order.
///
/// # Errors
/// Those of `sched_getaffinity(2)`.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect())
}

/// How many cores' worth of time the cgroup quota grants, rounded up; `None`
/// without a quota. Reads cgroup v2 (`cpu.max`, this group and its parents)
/// and v1 (`cpu.cfs_quota_us`).
#[must_use]
pub fn quota() -> Option<usize> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    quota_under(Path::new("/sys/fs/cgroup"), &own)
}

/// Keeps the calling thread on one core.
///
/// # Errors
/// Those of `sched_setaffinity(2)`.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Lets the calling thread run wherever the process's first thread may, however
/// the thread that started it is pinned.
///
/// # Errors
/// Those of `sched_getaffinity(2)` and `sched_setaffinity(2)`.
pub fn unpin() -> io::Result<()> {
    let set = sched_getaffinity(Some(rustix::process::getpid()))?;
    Ok(sched_setaffinity(None, &set)?)
}

/// Raises the process's limit on real-time priorities (RLIMIT_RTPRIO) to this
/// one where it may, so that its threads can take it when it is root no more.
pub fn allow_real_time(priority: u8) {
    let priority = u64::from(priority);
    let is_less = |bound: Option<u64>| bound.is_some_and(|bound| bound < priority);
    let mut limit = getrlimit(Resource::Rtprio);
    if is_less(limit.current) {
        limit.current = Some(priority);
        if is_less(limit.maximum) {
            limit.maximum = Some(priority);
        }
        // Without it, taking the priority fails and says so.
        let _ = setrlimit(Resource::Rtprio, limit);
    }
}

/// Gives the calling thread a real-time priority (SCHED_FIFO), 1 to 99: threads
/// without one wait on its core until it has nothing to do. Threads that it
/// starts have none.
///
/// # Errors
/// Those of `sched_setscheduler(2)`: EPERM where RLIMIT_RTPRIO is lower, without
/// CAP_SYS_NICE.
pub fn take_real_time(priority: u8) -> io::Result<()> {
    // SAFETY: all-zero bytes are valid: integers.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = libc::c_int::from(priority);
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // The call itself, as not every C library has a function for it.
    // SAFETY: the kernel reads the parameters, which live until it returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            0,
            policy,
            &raw const parameters,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn quota_under(root: &Path, own: &str) -> Option<usize> {
    let mut least: Option<usize> = None;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (base, version_2) = match controllers {
            "" => (root.to_path_buf(), true),
            list if list.split(',').any(|name| name == "cpu") => (root.join("cpu"), false),
            _ => continue,
        };
        let group = base.join(path.trim_start_matches('/'));
        for folder in group
            .ancestors()
            .take_while(|folder| folder.starts_with(&base))
        {
            let found = match version_2 {
                true => read_version_2(folder),
                false => read_version_1(folder),
            };
            least = match (least, found) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
    least
}

fn read_version_2(folder: &Path) -> Option<usize> {
    let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
    let mut fields = text.split_whitespace();
    cores(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)
}

fn read_version_1(folder: &Path) -> Option<usize> {
    let number = |name: &str| {
        fs::read_to_string(folder.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    cores(number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
}

fn cores(quota_microseconds: i64, period_microseconds: i64) -> Option<usize> {
    if quota_microseconds <= 0 || period_microseconds <= 0 {
        return None;
    }
    let cores = (quota_microseconds - 1) / period_microseconds + 1;
    usize::try_from(cores).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_rounds_up_and_the_tightest_group_counts() {
        assert_eq!(cores(150_000, 100_000), Some(2));
        assert_eq!(cores(100_000, 100_000), Some(1));
        assert_eq!(cores(-1, 100_000), None);

        let root = std::env::temp_dir().join(format!("karuta-cgroup-{}", std::process::id()));
        fs::create_dir_all(root.join("a/b")).expect("folder");
        fs::write(root.join("a/cpu.max"), "200000 100000\n").expect("write");
        fs::write(root.join("a/b/cpu.max"), "max 100000\n").expect("write");
        assert_eq!(quota_under(&root, "0::/a/b\n"), Some(2));
        fs::write(root.join("a/b/cpu.max"), "50000 100000\n").expect("write");
        assert_eq!(quota_under(&root, "0::/a/b\n"), Some(1));
        assert_eq!(quota_under(&root, "nonsense"), None);
        fs::remove_dir_all(&root).expect("clean up");
    }

    #[test]
    fn a_pinned_thread_sees_one_core() {
        std::thread::spawn(|| {
            let before = allowed().expect("mask");
            pin(before[0]).expect("pin");
            assert_eq!(allowed().expect("mask"), before[..1]);
            unpin().expect("unpin");
            assert_eq!(allowed().expect("mask"), before);
        })
        .join()
        .expect("thread");
    }

    #[test]
    fn a_priority_is_had_or_refused() {
        std::thread::spawn(|| {
            allow_real_time(1);
            match take_real_time(1) {
                Ok(()) => {
                    // SAFETY: no memory is involved.
                    let policy = unsafe { libc::sched_getscheduler(0) };
                    assert_eq!(policy, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK);
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
            }
            assert!(take_real_time(100).is_err(), "99 is the highest");
        })
        .join()
        .expect("thread");
    }
}
