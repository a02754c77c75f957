//! What concerns whole threads and processes: limits, pinning, signals.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes room for `needed` open files, where the soft limit is lower and the
/// hard one allows it. Returns the soft limit afterwards.
pub fn allow_open_files(needed: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` outlives the call and is what the call writes.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let wanted = needed.min(limit.rlim_max);
    if limit.rlim_cur >= wanted {
        return Ok(limit.rlim_cur);
    }
    limit.rlim_cur = wanted;
    // SAFETY: `limit` outlives the call, which only reads it.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(wanted)
}

/// Pins the calling thread to one processor.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: all zeroes is the empty cpu_set_t; `cpu` is inside the set; the
    // set outlives the call, and 0 names the calling thread.
    let result = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Moves the calling thread, and those it starts from now on, into a network
/// namespace.
pub fn enter_network_namespace(namespace: &File) -> io::Result<()> {
    // SAFETY: no pointers; a descriptor that is open, of whatever kind.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether this process may do everything.
pub fn is_root() -> bool {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Has a program that is yet to be started end when the thread that starts it
/// does, however that ends. (One that changes its user is let off by the
/// kernel.)
pub fn end_with_this_thread(command: &mut Command) {
    let ask = || {
        // SAFETY: no pointers; the number of a signal.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec it makes one system call and allocates
    // nothing.
    unsafe { command.pre_exec(ask) };
}

/// From now on the first SIGINT only makes [`interrupted`] true; a second one
/// ends the process as ever.
pub fn catch_interrupt() {
    extern "C" fn note(_signal: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let handler: extern "C" fn(libc::c_int) = note;
    // SAFETY: all zeroes is a valid sigaction; the handler only stores to an
    // atomic, which is safe at any moment; the struct outlives the call.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
        libc::sigaction(libc::SIGINT, &raw const action, ptr::null_mut());
    }
}

/// Whether the user wants an end; see [`catch_interrupt`].
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Sends `signal` to the process `pid`, which the caller started.
pub fn signal(pid: u32, signal: i32) -> io::Result<()> {
    if pid == 0 || pid > i32::MAX as u32 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: no pointers; a single positive process id.
    let result = unsafe { libc::kill(pid as libc::pid_t, signal) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
