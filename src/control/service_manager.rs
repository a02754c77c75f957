//! Tells the service manager how the tracker is, as sd_notify(3) says: ready,
//! reloading, stopping, and, if it asks for that, that every shard is alive.
//!
//! One datagram for each word, to the socket that `NOTIFY_SOCKET` names; without
//! one nothing is said. The socket is connected at start, so that it stays in
//! reach when privileges and the root directory are given up. Nobody listening
//! any more is no reason to stop: what cannot be said is left out.

use crate::shard::stats::ShardStats;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often a tracker that starts looks whether its shards run.
const LOOK: Duration = Duration::from_millis(20);

/// The shortest time within which a shard must have ticked to count as alive.
/// It ticks ten times a second; a starved core may take longer.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// Who started the tracker, and how often it wants to hear that it is alive.
#[derive(Debug)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    /// Shards that end are no shards that hang.
    is_stopping: AtomicBool,
}

impl ServiceManager {
    /// The one of this process's environment. A socket that cannot be reached
    /// is logged, and nothing is said then.
    #[must_use]
    pub fn of_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name);
        Self::find(variable, std::process::id()).unwrap_or_else(|error| {
            log::warn!(
                "NOTIFY_SOCKET cannot be reached ({error}): the service manager is not told"
            );
            Self::none()
        })
    }

    /// Says nothing to nobody.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            socket: None,
            watchdog: None,
            is_stopping: AtomicBool::new(false),
        }
    }

    /// The one that these variables name, for the process of this number:
    /// `NOTIFY_SOCKET` (a path, or `@` and an abstract name), `WATCHDOG_USEC`
    /// and `WATCHDOG_PID`.
    ///
    /// # Errors
    /// When the socket cannot be reached.
    pub fn find(variable: impl Fn(&str) -> Option<OsString>, process: u32) -> io::Result<Self> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::none());
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address(&name)?)?;
        // Whoever does not read must not hold anything up.
        socket.set_nonblocking(true)?;
        let number = |name: &str| -> Option<u64> { variable(name)?.to_str()?.parse().ok() };
        let is_meant = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(process));
        let watchdog = number("WATCHDOG_USEC").filter(|&period| is_meant && period > 0);
        Ok(Self {
            socket: Some(socket),
            watchdog: watchdog.map(Duration::from_micros),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// The tracker serves; or: it has reloaded what it was asked to.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// The tracker reads its configuration again; [`ServiceManager::ready`]
    /// must follow, whatever comes of it.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// The tracker ends. Nothing is said of its shards any more.
    pub fn stopping(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.say("STOPPING=1");
    }

    fn say(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(text.as_bytes())
        {
            log::debug!("telling the service manager {text:?}: {error}");
        }
    }
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "neither a path nor an abstract name",
        )),
    }
}

/// The thread that says when all shards run and that they still do. Dropping
/// it ends it.
#[derive(Debug)]
pub struct Attendant {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Attendant {
    /// Begins to look after these shards.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(manager: Arc<ServiceManager>, shards: Vec<Arc<ShardStats>>) -> io::Result<Self> {
        if manager.socket.is_none() {
            return Ok(Self {
                stop: None,
                thread: None,
            });
        }
        let (stop, stopped) = bounded::<()>(0);
        let pause = move |time| stopped.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
        let thread = thread::Builder::new()
            .name("attendant".to_owned())
            .spawn(move || attend(&manager, &shards, pause))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Attends until `pause`, which waits for the time given, returns false.
fn attend(manager: &ServiceManager, shards: &[Arc<ShardStats>], pause: impl Fn(Duration) -> bool) {
    while shards
        .iter()
        .any(|shard| shard.last_tick_milliseconds() == 0)
    {
        if !pause(LOOK) {
            return;
        }
    }
    let plural = if shards.len() == 1 { "" } else { "s" };
    manager.say(&format!(
        "READY=1\nSTATUS=Serving on {} shard{plural}",
        shards.len()
    ));
    let Some(watchdog) = manager.watchdog else {
        return;
    };
    // Twice as often as it must hear, as sd_watchdog_enabled(3) recommends.
    let period = watchdog / 2;
    let mut seen: Vec<Seen> = shards.iter().map(|_| Seen::default()).collect();
    while !manager.is_stopping.load(Ordering::Acquire) {
        let mut alive = true;
        for (id, (shard, seen)) in shards.iter().zip(&mut seen).enumerate() {
            if !seen.is_alive(shard.last_tick_milliseconds(), period) {
                alive = false;
                log::error!("shard {id} does not run: the service manager is not told it does");
            }
        }
        if alive {
            manager.say("WATCHDOG=1");
        }
        if !pause(period) {
            return;
        }
    }
}

/// When a shard was last seen to tick.
#[derive(Default)]
struct Seen {
    last_tick: u64,
    silent: Duration,
}

impl Seen {
    /// Looks at when a shard last ticked, a period after the last look.
    fn is_alive(&mut self, last_tick: u64, period: Duration) -> bool {
        self.silent = match last_tick == self.last_tick {
            true => self.silent.saturating_add(period),
            false => Duration::ZERO,
        };
        self.last_tick = last_tick;
        self.silent < period.max(LEAST_PATIENCE) || self.silent.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Listener {
        folder: tempfile::TempDir,
        socket: UnixDatagram,
    }

    impl Listener {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let socket = UnixDatagram::bind(folder.path().join("notify")).expect("bind");
            socket.set_nonblocking(true).expect("set");
            Self { folder, socket }
        }

        fn manager(&self, others: &[(&str, &str)]) -> ServiceManager {
            let path = self.folder.path().join("notify");
            let variable = |name: &str| match name {
                "NOTIFY_SOCKET" => Some(path.clone().into_os_string()),
                name => {
                    let mut others = others.iter();
                    others
                        .find(|(other, _)| *other == name)
                        .map(|(_, value)| value.into())
                }
            };
            ServiceManager::find(variable, 7).expect("in reach")
        }

        /// What was said since the last time.
        fn heard(&self) -> Vec<String> {
            let mut buffer = [0; 256];
            let mut heard = Vec::new();
            while let Ok(count) = self.socket.recv(&mut buffer) {
                heard.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
            }
            heard
        }
    }

    #[test]
    fn each_word_is_a_datagram() {
        let listener = Listener::new();
        let manager = listener.manager(&[]);
        manager.ready();
        manager.reloading();
        manager.stopping();
        let heard = listener.heard();
        assert_eq!(heard.len(), 3);
        assert_eq!((&*heard[0], &*heard[2]), ("READY=1", "STOPPING=1"));
        let time = heard[1].strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let time: u64 = time.expect("a time").parse().expect("a number");
        assert!(time > 0);
    }

    #[test]
    fn the_environment_decides() {
        let nothing = ServiceManager::find(|_| None, 7).expect("nobody");
        assert!(nothing.socket.is_none());
        nothing.ready();
        let find = |name: &'static str| {
            ServiceManager::find(move |_| Some(OsString::from(name)), 7).map(drop)
        };
        assert!(find("relative").is_err());
        assert!(find("/nonexistent/notify").is_err());

        let listener = Listener::new();
        let watchdog = |others: &[(&str, &str)]| listener.manager(others).watchdog;
        assert_eq!(watchdog(&[]), None);
        let usec = ("WATCHDOG_USEC", "3000000");
        assert_eq!(watchdog(&[usec]), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(&[usec, ("WATCHDOG_PID", "7")]), watchdog(&[usec]));
        assert_eq!(watchdog(&[usec, ("WATCHDOG_PID", "8")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "soon")]), None);
    }

    #[test]
    fn an_abstract_name_is_reached() {
        let name = format!("karuta-test-{}", std::process::id());
        let at = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&at).expect("bind");
        let manager = ServiceManager::find(
            |key| (key == "NOTIFY_SOCKET").then(|| format!("@{name}").into()),
            7,
        );
        manager.expect("in reach").ready();
        let mut buffer = [0; 16];
        let count = socket.recv(&mut buffer).expect("a word");
        assert_eq!(&buffer[..count], b"READY=1");
    }

    #[test]
    fn it_is_ready_when_all_shards_run_and_alive_while_all_tick() {
        let listener = Listener::new();
        let manager = listener.manager(&[("WATCHDOG_USEC", "4000000")]);
        let shards: Vec<Arc<ShardStats>> = (0..2).map(|_| Arc::default()).collect();
        let turn = Cell::new(0);
        let tick = |shard: usize| shards[shard].ticked(Duration::from_millis(turn.get()));
        attend(&manager, &shards, |time| {
            turn.set(turn.get() + 1);
            let heard = listener.heard();
            match turn.get() {
                // The second shard has not begun yet.
                1 | 2 => {
                    assert_eq!((time, heard), (LOOK, vec![]));
                    tick(0);
                }
                3 => {
                    assert_eq!(heard, [""; 0]);
                    tick(1);
                }
                4 => {
                    assert_eq!(heard, ["READY=1\nSTATUS=Serving on 2 shards", "WATCHDOG=1"]);
                    assert_eq!(time, Duration::from_secs(2));
                    tick(0);
                    tick(1);
                }
                5 => {
                    assert_eq!(heard, ["WATCHDOG=1"]);
                    // One of them hangs.
                    tick(0);
                }
                6 => {
                    assert_eq!(heard, [""; 0]);
                    tick(1);
                    tick(0);
                }
                7 => {
                    assert_eq!(heard, ["WATCHDOG=1"]);
                    manager.stopping();
                }
                turn => panic!("turn {turn}"),
            }
            true
        });
        assert_eq!(turn.get(), 7);
        assert_eq!(listener.heard(), ["STOPPING=1"], "and nothing after it");
    }

    #[test]
    fn a_short_watchdog_does_not_ask_for_more_than_shards_do() {
        let period = Duration::from_millis(300);
        let mut seen = Seen::default();
        assert!(seen.is_alive(1, period));
        let alive: Vec<bool> = (0..5).map(|_| seen.is_alive(1, period)).collect();
        assert_eq!(alive, [true, true, true, false, false]);
        assert!(seen.is_alive(2, period));
    }
}
