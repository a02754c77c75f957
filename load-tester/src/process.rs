//! Processor time and resident memory of another process, from /proc.

use std::fs;
use std::io;

/// What a process has used up to now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuTime {
    /// Nanoseconds on a processor, of all its threads.
    pub nanoseconds: u64,
    /// Nanoseconds that its threads could have run but waited for a processor;
    /// 0 where the kernel does not tell.
    pub waiting_nanoseconds: u64,
}

impl CpuTime {
    /// What was used since `before`.
    pub fn since(self, before: CpuTime) -> CpuTime {
        let waited = self
            .waiting_nanoseconds
            .saturating_sub(before.waiting_nanoseconds);
        CpuTime {
            nanoseconds: self.nanoseconds.saturating_sub(before.nanoseconds),
            waiting_nanoseconds: waited,
        }
    }
}

/// Processor time of the process and all its threads, exact to about a
/// scheduler tick: from the threads' schedstat, or from stat where the kernel
/// has none. Threads that ended do not count in the former, so differences are
/// good for servers whose threads stay. A process that has ended and only waits
/// for its parent is an error, as one that is gone.
pub fn cpu_time(pid: u32) -> io::Result<CpuTime> {
    let mut time = CpuTime {
        nanoseconds: 0,
        waiting_nanoseconds: 0,
    };
    let mut seen = false;
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = thread?.path().join("schedstat");
        threads += 1;
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
        if let (Some(Ok(ran)), Some(Ok(waited))) = (numbers.next(), numbers.next()) {
            time.nanoseconds += ran;
            time.waiting_nanoseconds += waited;
            seen = true;
        }
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // A main thread may end before the others; the process then lives on.
    if threads <= 1 && has_ended(&stat) {
        return Err(io::Error::other(format!("process {pid} has ended")));
    }
    if seen && time.nanoseconds > 0 {
        return Ok(time);
    }
    parse_stat(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not understood")))
}

/// Resident memory in bytes.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_resident(&status)
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no VmRSS")))
}

fn first_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// User and system time in ticks of 10 ms (USER_HZ is 100 on all Linux ports
/// in use). The name in parentheses may hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<CpuTime> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(CpuTime {
        nanoseconds: (user + system) * 10_000_000,
        waiting_nanoseconds: 0,
    })
}

/// Whether the state in /proc/PID/stat is "zombie" or "dead".
fn has_ended(stat: &str) -> bool {
    stat.rsplit(')')
        .next()
        .and_then(|after_name| after_name.split_ascii_whitespace().next())
        .is_some_and(|state| matches!(state, "Z" | "X"))
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(first_number(line)? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_time_and_memory() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() > 100_000);
        cpu_time(pid).unwrap();
        assert!(cpu_time(u32::MAX).is_err());
    }

    #[test]
    fn a_process_that_only_waits_for_its_parent_is_gone() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        cpu_time(child.id()).unwrap();
        // Its input ends, and with it the process; its parent only looks.
        drop(child.stdin.take());
        while cpu_time(child.id()).is_ok() {
            std::thread::yield_now();
        }
        assert!(std::path::Path::new(&format!("/proc/{}", child.id())).exists());
        child.wait().unwrap();
    }

    #[test]
    fn stat_and_status_are_read_past_odd_names() {
        let stat = "12 (a) b (c) S 1 1 1 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(
            parse_stat(stat),
            Some(CpuTime {
                nanoseconds: 2_000_000_000,
                waiting_nanoseconds: 0
            })
        );
        assert_eq!(
            parse_resident("Name:\tx\nVmRSS:\t  2048 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(parse_resident("Name:\tx\n"), None);
    }
}
