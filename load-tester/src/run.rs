//! Runs one measurement: sockets, threads, progress, and the report.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::config::{Pace, RunConfig, Target};
use crate::connect::{self, ConnectError};
use crate::drive::drive;
use crate::http::HttpLoad;
use crate::pace::{Progress, Timeline, nanoseconds};
use crate::process::{self, CpuTime};
use crate::report::Report;
use crate::stats::Stats;
use crate::sys;
use crate::udp::UdpLoad;
use crate::workload::SwarmTooBig;

/// How long the tracker is waited for before a run.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

/// Open files besides connections: standard streams, /proc, what was inherited.
const OTHER_FILES: u64 = 16;

/// How often the main thread looks at the threads and the clock.
const TICK: Duration = Duration::from_millis(5);

/// Why there is no report.
#[derive(Debug)]
pub enum RunError {
    /// The tracker cannot be reached.
    Connect(ConnectError),
    /// A thread cannot watch its connections.
    Epoll(io::Error),
    /// More connections than files may be open: needed and allowed.
    OpenFiles(u64, u64),
    /// The watched process cannot be read.
    Process(u32, io::Error),
    /// A thread cannot be pinned.
    Pin(usize, io::Error),
    /// The network namespace to ask from cannot be entered.
    Namespace(io::Error),
    /// A fill needs more identities than there are.
    TooBig(SwarmTooBig),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Connect(error) => error.fmt(f),
            RunError::Epoll(error) => write!(
                f,
                "cannot watch connections: {error}; allow more open files (ulimit -n)"
            ),
            RunError::OpenFiles(needed, allowed) => write!(
                f,
                "--connections times --threads needs {needed} open files, but only {allowed} are allowed: allow more (ulimit -n) or use fewer --connections"
            ),
            RunError::Process(pid, error) => {
                write!(
                    f,
                    "cannot read process {pid} in /proc: {error}; is it running, and may you see it?"
                )
            }
            RunError::Pin(cpu, error) => {
                write!(
                    f,
                    "cannot pin a thread to processor {cpu}: {error}; check --cpus"
                )
            }
            RunError::Namespace(error) => {
                write!(f, "cannot enter the generator's network namespace: {error}")
            }
            RunError::TooBig(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs the measurement. `show_progress` draws a bar on standard error.
pub fn run(config: &RunConfig, show_progress: bool) -> Result<Report, RunError> {
    open_files(config)?;
    pinnable(&config.cpus)?;
    let mut loads = Vec::new();
    for thread in 0..config.threads {
        loads.push(Prepared::new(config, thread)?);
    }
    watched(config)?;
    let duration = config.fill.is_none().then_some(config.duration);
    let warm_up = if config.fill.is_some() {
        Duration::ZERO
    } else {
        config.warm_up
    };
    let timeline = Timeline::new(warm_up, duration);
    let progress: Vec<Progress> = (0..config.threads).map(|_| Progress::default()).collect();

    let (outcomes, cpu) = thread::scope(|scope| {
        let threads: Vec<_> = loads
            .into_iter()
            .enumerate()
            .zip(&progress)
            .map(|((index, load), progress)| {
                let timeline = &timeline;
                scope.spawn(move || {
                    let outcome = load.run(config, index, timeline, progress);
                    if outcome.is_err() {
                        timeline.give_up();
                    }
                    outcome
                })
            })
            .collect();
        let cpu = watch(config, &timeline, &progress, show_progress, || {
            threads.iter().all(|t| t.is_finished())
        });
        let outcomes: Vec<_> = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        (outcomes, cpu)
    });

    let mut stats = Stats::new();
    let mut ended = 0;
    for outcome in outcomes {
        let (of_thread, ended_at) = outcome?;
        stats.merge(&of_thread);
        ended = ended.max(ended_at);
    }
    let mut report = summarise(config, &stats, &timeline, ended);
    note_watched(&mut report, config, cpu);
    Ok(report)
}

/// The report of a run whose last thread ended at `ended`.
fn summarise(config: &RunConfig, stats: &Stats, timeline: &Timeline, ended: u64) -> Report {
    let measured = match config.fill {
        Some(_) => ended,
        None => timeline.end().saturating_sub(timeline.measure_from),
    };
    let mut report = Report::new(
        describe_target(config),
        describe_mode(config),
        measured as f64 / 1e9,
        config.threads,
        stats,
        config.max_loss,
        config.fill.map(|_| config.workload.peers),
    );
    if config.fill.is_none()
        && let Some(silence) = stats.silence(timeline.end(), nanoseconds(config.timeout))
    {
        report.invalid.push(format!(
            "no replies for the last {:.2} s of the interval: the tracker stalled or ended",
            silence as f64 / 1e9
        ));
    }
    if sys::interrupted() {
        report.interrupted = true;
        report.invalid.push("interrupted".into());
    }
    report
}

/// Notes what the watched processes used; one that is gone is a fault.
fn note_watched(report: &mut Report, config: &RunConfig, cpu: Option<CpuTime>) {
    if let Some(used) = cpu {
        report.set_cpu(used);
    }
    report.resident_bytes = config
        .rss_of
        .and_then(|pid| process::resident_bytes(pid).ok());
    let gone_cpu = config.cpu_of.filter(|_| report.cpu.is_none());
    let gone_rss = config.rss_of.filter(|_| report.resident_bytes.is_none());
    let mut gone: Vec<u32> = gone_cpu.into_iter().chain(gone_rss).collect();
    gone.dedup();
    for pid in gone {
        report
            .invalid
            .push(format!("the watched process {pid} ended during the run"));
    }
}

/// Fails early where a thread could not be pinned; tried on one of its own, so
/// that this one stays free.
fn pinnable(cpus: &[usize]) -> Result<(), RunError> {
    let try_all = || {
        cpus.iter()
            .try_for_each(|cpu| sys::pin_to_cpu(*cpu).map_err(|error| RunError::Pin(*cpu, error)))
    };
    thread::scope(|scope| {
        scope
            .spawn(try_all)
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A thread's load before its thread exists.
enum Prepared {
    Udp(Vec<connect::Endpoint>),
    Http,
}

impl Prepared {
    fn new(config: &RunConfig, thread: usize) -> Result<Prepared, RunError> {
        match &config.target {
            Target::Udp(address) => {
                let seed = config.workload.seed ^ ((thread as u64) << 32);
                connect::endpoints(*address, &config.sources, CONNECT_PATIENCE, seed)
                    .map(Prepared::Udp)
                    .map_err(RunError::Connect)
            }
            // A thread more does not change whether the tracker is there.
            Target::Http { .. } if thread > 0 => Ok(Prepared::Http),
            Target::Http { address, .. } => connect::try_tcp(*address, &config.sources)
                .map(|()| Prepared::Http)
                .map_err(RunError::Connect),
        }
    }

    fn run(
        self,
        config: &RunConfig,
        thread: usize,
        timeline: &Timeline,
        progress: &Progress,
    ) -> Result<(Stats, u64), RunError> {
        if !config.cpus.is_empty() {
            let cpu = config.cpus[thread % config.cpus.len()];
            sys::pin_to_cpu(cpu).map_err(|error| RunError::Pin(cpu, error))?;
        }
        let outcome = match self {
            Prepared::Udp(endpoints) => {
                let load = UdpLoad::new(config, endpoints, thread);
                drive(load, config.timeout, timeline, progress)
            }
            Prepared::Http => {
                let load = HttpLoad::new(config, thread).map_err(RunError::Epoll)?;
                drive(load, config.timeout, timeline, progress)
            }
        };
        outcome.map_err(RunError::TooBig)
    }
}

/// Shows the progress until all threads are done; returns the processor time
/// the watched process used in the measured interval.
fn watch(
    config: &RunConfig,
    timeline: &Timeline,
    progress: &[Progress],
    show: bool,
    finished: impl Fn() -> bool,
) -> Option<CpuTime> {
    let bar = show.then(|| progress_bar(config, timeline));
    let cpu = || config.cpu_of.and_then(|pid| process::cpu_time(pid).ok());
    let mut at_start: Option<CpuTime> = None;
    let mut at_end: Option<CpuTime> = None;
    let mut shown = (0, 0);
    loop {
        let now = timeline.now();
        if sys::interrupted() {
            timeline.stop(now);
        }
        if at_start.is_none() && now >= timeline.measure_from {
            at_start = cpu();
        }
        let done = finished();
        if at_end.is_none() && (now >= timeline.end() || done) {
            at_end = cpu();
        }
        if let Some(bar) = &bar
            && (now - shown.0 >= 200_000_000 || done)
        {
            shown = draw(bar, config, progress, shown, now);
        }
        if done {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
            return Some(at_end?.since(at_start?));
        }
        // Wake for the edges of the interval, so that both readings are on time.
        let next_edge = [timeline.measure_from, timeline.end()]
            .into_iter()
            .filter(|edge| *edge > now)
            .min()
            .map_or(TICK, |edge| Duration::from_nanos(edge - now));
        thread::sleep(next_edge.min(TICK));
    }
}

fn progress_bar(config: &RunConfig, timeline: &Timeline) -> ProgressBar {
    let length = match config.fill {
        Some(_) => config.workload.peers,
        None => timeline.end() / 1_000_000,
    };
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {percent:>3}% {msg}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// Draws the bar and returns the time and the replies it stands for.
fn draw(
    bar: &ProgressBar,
    config: &RunConfig,
    progress: &[Progress],
    before: (u64, u64),
    now: u64,
) -> (u64, u64) {
    let sum = |read: fn(&Progress) -> u64| progress.iter().map(read).sum::<u64>();
    let replies = sum(|p| p.replies.load(Ordering::Relaxed));
    let lost = sum(|p| p.lost.load(Ordering::Relaxed));
    let errors = sum(|p| p.errors.load(Ordering::Relaxed));
    let seconds = (now - before.0) as f64 / 1e9;
    let rate = replies.saturating_sub(before.1) as f64 / seconds.max(1e-3);
    bar.set_position(if config.fill.is_some() {
        replies
    } else {
        now / 1_000_000
    });
    bar.set_message(format!("{rate:.0} replies/s, {lost} lost, {errors} errors"));
    (now, replies)
}

/// Fails early where a watched process cannot be read.
fn watched(config: &RunConfig) -> Result<(), RunError> {
    if let Some(pid) = config.cpu_of {
        process::cpu_time(pid).map_err(|error| RunError::Process(pid, error))?;
    }
    if let Some(pid) = config.rss_of {
        process::resident_bytes(pid).map_err(|error| RunError::Process(pid, error))?;
    }
    Ok(())
}

/// Makes sure that all HTTP connections can be open at once.
fn open_files(config: &RunConfig) -> Result<(), RunError> {
    if let Target::Udp(_) = config.target {
        return Ok(());
    }
    // Each thread has an epoll instance, too.
    let needed = (config.threads * (config.connections + 1)) as u64 + OTHER_FILES;
    match sys::allow_open_files(needed) {
        Ok(allowed) if allowed < needed => Err(RunError::OpenFiles(needed, allowed)),
        // A limit that cannot be told shows in the reasons of failed connections.
        _ => Ok(()),
    }
}

fn describe_target(config: &RunConfig) -> String {
    match &config.target {
        Target::Udp(address) => format!("udp://{address}"),
        Target::Http { host, path, .. } => format!("http://{host}{path}"),
    }
}

fn describe_mode(config: &RunConfig) -> String {
    let what = match config.fill {
        Some(_) => format!("fill of {} peers", config.workload.peers),
        None => "traffic".to_string(),
    };
    let pace = match (config.pace, &config.target) {
        (Pace::Rate(rate), _) => format!("at {rate} requests/s"),
        (Pace::Window(window), Target::Udp(_)) => format!("closed loop, {window} in flight"),
        (Pace::Window(_), Target::Http { .. }) => format!(
            "closed loop, {} connections, {}",
            config.connections,
            if config.keep_alive {
                "keep-alive"
            } else {
                "one request each"
            }
        ),
    };
    let threads = match config.threads {
        1 => "1 thread".to_string(),
        n => format!("{n} threads"),
    };
    format!("{what}, {pace}, {threads}")
}
