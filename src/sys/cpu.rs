//! Which cores the process may use, and staying on one.

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
            let first = allowed().expect("mask")[0];
            pin(first).expect("pin");
            assert_eq!(allowed().expect("mask"), [first]);
        })
        .join()
        .expect("thread");
    }
}
