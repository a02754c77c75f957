//! Where a shard waits: one epoll for all its descriptors, itself awaited
//! through the executor's io_uring.
//!
//! A sleep of a glommio executor costs about 31 µs of CPU, as much as ten
//! announces. So the shard waits in three steps: a look without waiting, a
//! short linger in `epoll_wait`, and only when that brought nothing the
//! executor's own sleep. Under load the third never happens; an idle shard
//! spends its time there.
//!
//! The main loop must be the only task of its executor: the linger blocks the
//! thread, and other tasks would wait with it.

use super::mesh::Bell;
use crate::sys;
use futures_lite::AsyncRead;
use glommio::net::TcpStream;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How long a shard that ran dry blocks in `epoll_wait` before it sleeps in the
/// executor. At 1,000 requests a second and more the linger hardly ever ends
/// without one, so the dear sleep is left to shards that are nearly idle.
const LINGER: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 2_000_000,
};

/// Look and come back.
const NOT_AT_ALL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// How long [`Reactor::pause`] lets work gather. The kernel's timer slack adds
/// about 50 µs.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000,
};

/// Events that one wait brings, at most.
const EVENTS: usize = 256;

/// Tokens of the reactor's own descriptors, out of the way of its users'.
const BELL: u64 = u64::MAX;
const TICK: u64 = u64::MAX - 1;

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes, datagrams or connections to read.
    Read,
    /// Room to write.
    Write,
    /// Nothing but errors and hang-ups.
    Nothing,
}

impl Interest {
    const fn flags(self) -> EventFlags {
        match self {
            Self::Read => EventFlags::IN.union(EventFlags::RDHUP),
            Self::Write => EventFlags::OUT,
            Self::Nothing => EventFlags::empty(),
        }
    }
}

/// What a wait brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// The tick is due.
    pub tick: bool,
}

/// The epoll of one shard with its tick and its bell.
pub struct Reactor {
    epoll: OwnedFd,
    tick: OwnedFd,
    bell: Arc<Bell>,
    ready: Vec<u64>,
    /// The last wait brought something of the users': worth a linger.
    was_busy: bool,
}

impl Reactor {
    /// A reactor that ticks at this period and wakes at this bell.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new(bell: Arc<Bell>, tick_period: Duration) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let tick = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let period = Timespec {
            tv_sec: i64::try_from(tick_period.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(tick_period.subsec_nanos()),
        };
        timerfd_settime(
            &tick,
            TimerfdTimerFlags::empty(),
            &Itimerspec {
                it_interval: period,
                it_value: period,
            },
        )?;
        epoll::add(&epoll, &tick, EventData::new_u64(TICK), EventFlags::IN)?;
        epoll::add(&epoll, &*bell, EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(Self {
            epoll,
            tick,
            bell,
            ready: Vec::with_capacity(EVENTS),
            was_busy: false,
        })
    }

    /// Watches a descriptor; events carry `token`.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(token),
            interest.flags(),
        )?)
    }

    /// Watches a descriptor for something else.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            fd,
            EventData::new_u64(token),
            interest.flags(),
        )?)
    }

    /// Stops watching a descriptor. Closing its only copy does so too.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Tokens of the descriptors that the last wait found ready.
    #[must_use]
    pub fn ready(&self) -> &[u64] {
        &self.ready
    }

    /// Lets work gather for a moment before the next wait, as network cards
    /// moderate their interrupts: to wake for each of a brisk stream of
    /// datagrams costs more than to answer it. Adds 150 µs of latency at most.
    pub fn pause(&self) {
        // Woken early by a signal: as good.
        let _ = rustix::thread::nanosleep(&PAUSE);
    }

    /// Looks what is ready without waiting, for a shard that has work besides.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`.
    pub fn look(&mut self) -> io::Result<Woken> {
        let (woken, _) = self.poll(&NOT_AT_ALL)?;
        self.was_busy = true;
        Ok(woken)
    }

    /// Waits until a descriptor is ready, the tick is due or the bell rings.
    /// Does not wait at all when `has_work` says, after the shard has declared
    /// that it is about to sleep, that there is work.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)` and of the executor's ring.
    pub async fn wait(&mut self, has_work: impl Fn() -> bool) -> io::Result<Woken> {
        // The look below may find nothing and forget that there was work.
        let was_busy = self.was_busy;
        if has_work() || was_busy {
            let (woken, count) = self.poll(&NOT_AT_ALL)?;
            if count > 0 || has_work() {
                return Ok(woken);
            }
        }
        self.bell.about_to_sleep();
        let result = self.sleep(was_busy, has_work).await;
        self.bell.awake();
        result
    }

    async fn sleep(&mut self, was_busy: bool, has_work: impl Fn() -> bool) -> io::Result<Woken> {
        if has_work() {
            return Ok(Woken::default());
        }
        if was_busy {
            let (woken, count) = self.poll(&LINGER)?;
            if count > 0 {
                return Ok(woken);
            }
        }
        readable(&self.epoll).await?;
        let (woken, _) = self.poll(&NOT_AT_ALL)?;
        Ok(woken)
    }

    /// Asks the epoll; returns how many events it had, the reactor's own
    /// included.
    fn poll(&mut self, timeout: &Timespec) -> io::Result<(Woken, usize)> {
        self.ready.clear();
        let mut room = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        let events: &[epoll::Event] = match epoll::wait(&self.epoll, &mut room, Some(timeout)) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => &[],
            Err(error) => return Err(error.into()),
        };
        let mut woken = Woken::default();
        let mut rung = false;
        for event in events {
            match event.data.u64() {
                TICK => {
                    woken.tick = true;
                    // The count of missed ticks is of no interest.
                    let _ = rustix::io::read(&self.tick, &mut [0u8; 8]);
                }
                BELL => {
                    rung = true;
                    self.bell.silence();
                }
                token => self.ready.push(token),
            }
        }
        self.was_busy = rung || !self.ready.is_empty();
        Ok((woken, events.len()))
    }
}

/// Awaits readability of any descriptor through the executor's io_uring.
///
/// glommio has no such function. Its TCP stream arms a poll when it is made
/// and, once that fires, receives: from something that is no socket this fails
/// with ENOTSOCK, which thus means "ready". The stream owns a duplicate, made
/// anew each time. This leans on glommio =0.9.0; the test below tells when it
/// no longer holds.
async fn readable(fd: &OwnedFd) -> io::Result<()> {
    let mut stream: TcpStream = sys::fd::adopt(sys::fd::duplicate(fd)?);
    match poll_fn(|context| Pin::new(&mut stream).poll_read(context, &mut [])).await {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommio::{LocalExecutorBuilder, Placement};
    use std::sync::atomic::{AtomicBool, Ordering};

    fn run<T: Send + 'static>(
        task: impl AsyncFnOnce(Reactor) -> T + Send + 'static,
        bell: Arc<Bell>,
        tick: Duration,
    ) -> T {
        LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(64 << 10)
            .spawn(move || async move { task(Reactor::new(bell, tick).expect("reactor")).await })
            .expect("executor")
            .join()
            .expect("task")
    }

    /// The regression test for [`readable`]: an epoll awaited through glommio
    /// wakes each time anew.
    #[test]
    fn a_sleeping_reactor_wakes_at_the_tick_again_and_again() {
        let bell = Arc::new(Bell::new().expect("eventfd"));
        let ticks = run(
            async |mut reactor| {
                let mut ticks = 0;
                while ticks < 20 {
                    // Never busy, so that each wait is one of the executor.
                    assert!(!reactor.was_busy);
                    ticks += u32::from(reactor.wait(|| false).await.expect("wait").tick);
                }
                ticks
            },
            bell,
            Duration::from_millis(1),
        );
        assert_eq!(ticks, 20);
    }

    #[test]
    fn a_bell_from_another_thread_wakes_the_sleeper() {
        let bell = Arc::new(Bell::new().expect("eventfd"));
        let flag = Arc::new(AtomicBool::new(false));
        let ringer = {
            let (bell, flag) = (bell.clone(), flag.clone());
            std::thread::spawn(move || {
                flag.store(true, Ordering::SeqCst);
                bell.ring();
            })
        };
        run(
            async move |mut reactor| {
                while !flag.load(Ordering::SeqCst) {
                    reactor
                        .wait(|| flag.load(Ordering::SeqCst))
                        .await
                        .expect("wait");
                }
            },
            bell,
            Duration::from_secs(3600),
        );
        ringer.join().expect("ringer");
    }

    #[test]
    fn a_ready_socket_is_named_by_its_token() {
        let bell = Arc::new(Bell::new().expect("eventfd"));
        let ready = run(
            async |mut reactor| {
                let a = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
                reactor.add(&a, 42, Interest::Read).expect("add");
                let b = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
                b.send_to(b"x", a.local_addr().expect("address"))
                    .expect("send");
                reactor.wait(|| false).await.expect("wait");
                reactor.ready().to_vec()
            },
            bell,
            Duration::from_secs(3600),
        );
        assert_eq!(ready, [42]);
    }
}
