//! Starting one glommio executor on a thread of its own.

use crate::sys;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use std::fmt;
use std::future::Future;
use std::time::Duration;

/// Memory that the executor registers for its own I/O. karuta hands it no
/// buffers; the default (10 MiB and more) would be pinned for nothing.
const IO_MEMORY_BYTES: usize = 64 << 10;

/// When the executor interrupts its tasks: never, in effect. A shard's loop is
/// the only task and yields by itself. More than that: when glommio 0.9.0 finds
/// the timer expired before it has run a single task (with more shards than
/// cores that happens within milliseconds), it takes "ran nothing" for "has
/// nothing to run" and sleeps with the task still in its queue. The shard is
/// deaf from then on. `tests/steering.rs` shows it with a timer of 1 ms.
const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 3600);

/// Locked memory below which glommio's rings may fail to start.
const LEAST_MEMLOCK_BYTES: u64 = 512 << 10;

/// Why no executor can run on this host.
#[derive(Debug)]
pub enum Unsupported {
    /// `io_uring_setup` failed.
    IoUring(std::io::Error),
    /// The limit on locked memory, in bytes, is too low.
    Memlock(u64),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IoUring(error) => {
                write!(f, "io_uring is not available ({error}): ")?;
                f.write_str(match error.raw_os_error() {
                    Some(libc::EPERM) => {
                        "it is forbidden, as in Docker's default seccomp profile; run the container \
                         with a profile that allows io_uring_setup, io_uring_enter and \
                         io_uring_register (or --security-opt seccomp=unconfined), or set \
                         sysctl kernel.io_uring_disabled=0"
                    }
                    Some(libc::ENOSYS) => {
                        "this kernel has none; karuta needs Linux 5.8 or newer, built with \
                         CONFIG_IO_URING (gVisor has none)"
                    }
                    Some(libc::ENOMEM) => {
                        "the limit on locked memory is too low; raise it to at least 512 KiB \
                         (ulimit -l, or LimitMEMLOCK= in the systemd unit)"
                    }
                    Some(libc::EMFILE | libc::ENFILE) => {
                        "the limit on open files is too low (ulimit -n, or LimitNOFILE= in the \
                         systemd unit)"
                    }
                    _ => "see io_uring_setup(2)",
                })
            }
            Self::Memlock(bytes) => write!(
                f,
                "the limit on locked memory is {} KiB, io_uring needs 512 KiB: raise it \
                 (ulimit -l 512, or LimitMEMLOCK=infinity in the systemd unit)",
                bytes / 1024
            ),
        }
    }
}

impl std::error::Error for Unsupported {}

/// Asks the host, before glommio does, whether executors can run: where they
/// cannot, glommio would panic or exit without a word of help.
///
/// # Errors
/// What stands in the way, with the remedy.
pub fn probe() -> Result<(), Unsupported> {
    if let Some(bytes) = sys::probe::memlock_bytes()
        && bytes < LEAST_MEMLOCK_BYTES
    {
        return Err(Unsupported::Memlock(bytes));
    }
    sys::probe::io_uring().map_err(Unsupported::IoUring)
}

/// How a thread runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// The core that it stays on; `None` for all that the process may use.
    pub cpu: Option<usize>,
    /// Its real-time priority, 1 to 99; 0 for none.
    pub realtime_priority: u8,
}

impl Place {
    /// Takes it, as far as the host lets this thread.
    fn take(self) {
        if let Some(cpu) = self.cpu
            && let Err(error) = sys::cpu::pin(cpu)
        {
            log::warn!("cannot pin a shard to core {cpu}: {error}; it runs unpinned");
        }
        let priority = self.realtime_priority;
        if priority > 0
            && let Err(error) = sys::cpu::take_real_time(priority)
        {
            log::warn!(
                "realtime_priority: a shard cannot have {priority}: {error}; it runs without. Raise \
                 the limit (ulimit -r, or LimitRTPRIO= and RestrictRealtime=no in the systemd unit) \
                 or give the program CAP_SYS_NICE; a container's seccomp profile must allow \
                 sched_setscheduler"
            );
        }
    }
}

/// Starts a thread with an executor that runs one future.
///
/// # Errors
/// Those of glommio at start.
pub fn spawn<F, T>(
    name: &str,
    place: Place,
    task: impl FnOnce() -> F + Send + 'static,
) -> Result<ExecutorJoinHandle<T>, glommio::GlommioError<()>>
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    // Placement::Fixed would read the CPU topology from /sys and panic where
    // there is none; pinning the thread is all that is wanted.
    LocalExecutorBuilder::new(Placement::Unbound)
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(PREEMPT_TIMER)
        .spawn(move || async move {
            place.take();
            task().await
        })
}

/// Lets the executor see to its own affairs if it wants to; costs about 3 ns
/// when it does not.
pub async fn breathe() {
    glommio::yield_if_needed().await;
}
