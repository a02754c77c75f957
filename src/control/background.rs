//! Runs what hooks have done beside the shards: one thread that watches and
//! re-reads files, and one for each task that waits for the network.
//!
//! Files are watched by their directories (inotify), because editors and
//! deployments replace files rather than write into them. What happens within
//! a moment is handled at once, so that a copied directory is read once.

use crate::hook::background::{Services, Source, Task};
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long after the last change files are read.
const QUIET: Duration = Duration::from_millis(100);

/// Changes in a row after which files are read although there is no quiet.
const MOST_CHANGES: usize = 20;

/// When to look again whether shards have let go of an old list.
const LATER: Duration = Duration::from_secs(1);

/// How long a task may take to end.
const TASK_PATIENCE: Duration = Duration::from_secs(1);

/// The threads. Dropping it ends them.
#[derive(Debug)]
pub struct Background {
    files: Option<Files>,
    tasks: Vec<RunningTask>,
}

impl Background {
    /// Starts the threads that this work needs; none if there is none.
    ///
    /// # Errors
    /// When threads or descriptors cannot be had.
    pub fn start(services: Services) -> io::Result<Self> {
        let files = match services.sources.is_empty() {
            true => None,
            false => Some(Files::start(services.sources)?),
        };
        let tasks: io::Result<_> = services.tasks.into_iter().map(RunningTask::start).collect();
        let tasks = tasks?;
        Ok(Self { files, tasks })
    }

    /// Reads every file again and does at once what is done now and then: for
    /// SIGHUP. Returns at once; the outcome is logged.
    pub fn reread(&self) {
        if let Some(files) = &self.files {
            files.all.store(true, Ordering::Release);
            ring(&files.bell);
        }
        for task in &self.tasks {
            // One that lies there unread is enough.
            let _ = task.now.as_ref().map(|now| now.try_send(()));
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        for task in &mut self.tasks {
            task.now = None;
        }
        self.files = None;
        for task in &self.tasks {
            // Closed by the end of the thread; one that waits for the network
            // is left behind.
            let _ = task.ended.recv_timeout(TASK_PATIENCE);
        }
    }
}

/// The thread that reads files.
struct Files {
    bell: Arc<OwnedFd>,
    stop: Arc<AtomicBool>,
    all: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

impl Files {
    fn start(sources: Vec<Box<dyn Source>>) -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let (stop, all) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let mut watch = Watch {
            changes: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?,
            bell: bell.clone(),
            stop: stop.clone(),
            all: all.clone(),
            sources,
        };
        // Before anybody relies on it.
        watch.watch_directories();
        let thread = thread::Builder::new()
            .name("lists".to_owned())
            .spawn(move || watch.run())?;
        Ok(Self {
            bell,
            stop,
            all,
            thread: Some(thread),
        })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        ring(&self.bell);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ring(bell: &OwnedFd) {
    // Fails only when it has rung 2⁶⁴ times unheard.
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

/// What ended a wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// Nothing, for all the time.
    Late,
    /// Something that came through a FIFO.
    Received,
    /// A change, or the bell.
    Called,
}

/// What the thread works with.
struct Watch {
    changes: OwnedFd,
    bell: Arc<OwnedFd>,
    stop: Arc<AtomicBool>,
    all: Arc<AtomicBool>,
    sources: Vec<Box<dyn Source>>,
}

impl Watch {
    fn run(&mut self) {
        let mut later = true;
        loop {
            let mut due = self.wait(later.then_some(LATER)) == Woken::Late;
            let mut changes = 0;
            while self.forget_changes() && changes < MOST_CHANGES {
                changes += 1;
                self.wait(Some(QUIET));
            }
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let all = self.all.swap(false, Ordering::AcqRel);
            due |= all || changes > 0;
            if !due {
                continue;
            }
            later = false;
            for source in &mut self.sources {
                later |= source.refresh(all);
            }
            // Directories may have been replaced.
            self.watch_directories();
        }
    }

    /// Waits for a change, the bell, or the end of this time; takes what comes
    /// through FIFOs meanwhile.
    fn wait(&mut self, time: Option<Duration>) -> Woken {
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        let inputs: Vec<_> = self.sources.iter().map(|source| source.inputs()).collect();
        let inputs = inputs.concat();
        let mut descriptors = vec![
            PollFd::new(&self.changes, PollFlags::IN),
            PollFd::new(&*self.bell, PollFlags::IN),
        ];
        descriptors.extend(inputs.iter().map(|input| PollFd::new(input, PollFlags::IN)));
        let woken = match poll(&mut descriptors, time.as_ref()) {
            Ok(0) => Woken::Late,
            Ok(_)
                if descriptors[2..]
                    .iter()
                    .any(|input| !input.revents().is_empty()) =>
            {
                Woken::Received
            }
            Ok(_) | Err(Errno::INTR) => Woken::Called,
            Err(error) => {
                log::error!("waiting for files to change: {error}");
                Woken::Called
            }
        };
        let _ = rustix::io::read(&*self.bell, &mut [0u8; 8]);
        if woken == Woken::Received {
            for source in &mut self.sources {
                source.receive();
            }
        }
        woken
    }

    /// Empties the list of changes; returns whether there were any. What they
    /// were is told by the files themselves.
    fn forget_changes(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.changes, &mut buffer);
        let mut any = false;
        while reader.next().is_ok() {
            any = true;
        }
        any
    }

    fn watch_directories(&mut self) {
        let wanted = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::ONLYDIR;
        for directory in self.sources.iter().flat_map(|source| source.directories()) {
            if let Err(error) = inotify::add_watch(&self.changes, &directory, wanted) {
                log::warn!(
                    "{}: changes are not noticed ({error}); send SIGHUP after a change",
                    directory.display()
                );
            }
        }
    }
}

/// The thread of a task.
#[derive(Debug)]
struct RunningTask {
    /// Closed to end it.
    now: Option<Sender<()>>,
    ended: Receiver<()>,
}

impl RunningTask {
    fn start(task: Task) -> io::Result<Self> {
        let (now, asked) = bounded(1);
        let (ending, ended) = bounded(0);
        thread::Builder::new()
            .name(task.name.to_owned())
            .spawn(move || {
                (task.run)(&asked);
                drop(ending);
            })?;
        Ok(Self {
            now: Some(now),
            ended,
        })
    }
}
