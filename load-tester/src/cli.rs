//! The command line: arguments, their checks, and what is printed.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::arguments::{parse_shape, parse_skew, parse_target, seconds};
use crate::compare::CompareArgs;
use crate::config::{Pace, RunConfig, Target};
use crate::http::MAX_CONNECTIONS;
use crate::packet::MAX_SCRAPE_HASHES;
use crate::skew::Skew;
use crate::workload::{FillPlan, FillShape, Workload, info_hash};
use crate::{compare, echo, run, sys};

/// Source addresses used on loopback unless told otherwise: flows spread over
/// the workers of a tracker, and runs of packets stay long.
const LOOPBACK_SOURCES: u16 = 8;

/// Requests in flight, and connections, unless told otherwise.
const WINDOW: usize = 128;
const CONNECTIONS: usize = 64;

/// Most sending threads; more than any host has processors to spare for.
const MAX_THREADS: usize = 1024;

/// Most peers of traffic that is drawn: more than there are addresses.
const MAX_PEERS: u64 = 1_000_000_000_000;

/// Measures a BitTorrent tracker.
#[derive(Debug, Parser)]
#[command(
    name = "karuta-load-tester",
    version,
    about,
    args_conflicts_with_subcommands = true
)]
#[command(
    after_help = "Exit codes: 0 valid run, 1 could not run, 2 bad arguments, 3 invalid run \
    (no replies, more failures than --max-loss, wrong transaction ids), 130 interrupted."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure karuta, aquatic and opentracker side by side, with the limit of
    /// the host, and write tables and a plot.
    Compare(Box<CompareArgs>),
    /// Answer UDP requests with fixed bytes: the limit of the host.
    #[command(hide = true)]
    Echo(EchoArgs),
    /// Answer HTTP requests with fixed bytes: the limit of the host.
    #[command(hide = true)]
    HttpEcho(EchoArgs),
}

#[derive(Debug, Args)]
struct EchoArgs {
    /// Address to listen on.
    #[arg(default_value = "127.0.0.1:0")]
    address: SocketAddr,
    /// Peers in each announce reply.
    #[arg(long, default_value_t = 30)]
    peers: usize,
    /// Allow addresses that are not loopback addresses.
    #[arg(long)]
    allow_remote: bool,
}

/// The arguments of one run.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Tracker to ask: udp://HOST:PORT or http://HOST:PORT[/announce].
    target: Option<String>,
    /// Allow targets that are not loopback addresses. Load only what is yours.
    #[arg(long)]
    allow_remote: bool,

    /// Sending threads.
    #[arg(long, default_value_t = 1, help_heading = "Load")]
    threads: usize,
    /// Processors to pin the threads to, in turn: 1,2,3.
    #[arg(long, value_delimiter = ',', help_heading = "Load")]
    cpus: Vec<usize>,
    /// UDP, closed loop: requests in flight per thread (default 128).
    #[arg(long, conflicts_with = "rate", help_heading = "Load")]
    window: Option<usize>,
    /// Open loop: requests per second of all threads together; latency counts
    /// from when a request should have been sent.
    #[arg(long, help_heading = "Load")]
    rate: Option<f64>,
    /// Seconds of load before the measured interval.
    #[arg(long, default_value_t = 1.0, help_heading = "Load")]
    warm_up: f64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 5.0, help_heading = "Load")]
    duration: f64,
    /// Milliseconds until a request counts as lost.
    #[arg(long, default_value_t = 500, help_heading = "Load")]
    timeout: u64,
    /// Greatest percentage of failed requests in a valid run.
    #[arg(long, default_value_t = 1.0, help_heading = "Load")]
    max_loss: f64,
    /// HTTP: connections per thread, each with one request at a time (default
    /// 64).
    #[arg(long, help_heading = "Load")]
    connections: Option<usize>,
    /// HTTP: one connection per request.
    #[arg(long, help_heading = "Load")]
    no_keep_alive: bool,
    /// UDP: do not use segmentation offload (UDP_SEGMENT). With it, runs of
    /// packets arrive together on loopback, at one socket of the tracker: cheap
    /// to send, but not how a tracker that steers by info hash is really asked.
    #[arg(long, help_heading = "Load")]
    no_segmentation: bool,
    /// Number of source addresses: 127.0.0.2 and so on (default 8) for an IPv4
    /// loopback target.
    #[arg(long, conflicts_with = "source_addresses", help_heading = "Load")]
    sources: Option<u16>,
    /// Source addresses of this host, given in full.
    #[arg(long, value_delimiter = ',', help_heading = "Load")]
    source_addresses: Vec<IpAddr>,

    /// Everything random follows from it.
    #[arg(long, default_value_t = 1, help_heading = "Workload")]
    seed: u64,
    /// Number of swarms.
    #[arg(long, default_value_t = 1_000_000, help_heading = "Workload")]
    info_hashes: u32,
    /// Number of distinct peers.
    #[arg(long, default_value_t = 2_000_000, help_heading = "Workload")]
    peers: u64,
    /// How peers spread over swarms: uniform, cubic (index = u^3 * swarms), or
    /// a Zipf exponent such as 1.0 (default cubic; see --fill-shape for fills).
    #[arg(long, value_parser = parse_skew, help_heading = "Workload")]
    skew: Option<Skew>,
    /// Relative weight of connects (UDP).
    #[arg(long, default_value_t = 0.0, help_heading = "Workload")]
    connects: f64,
    /// Relative weight of announces.
    #[arg(long, default_value_t = 1.0, help_heading = "Workload")]
    announces: f64,
    /// Relative weight of scrapes.
    #[arg(long, default_value_t = 0.0, help_heading = "Workload")]
    scrapes: f64,
    /// Info hashes per scrape.
    #[arg(long, default_value_t = 1, help_heading = "Workload")]
    scrape_hashes: usize,
    /// Fraction of the peers that seed.
    #[arg(long, default_value_t = 0.75, help_heading = "Workload")]
    seeders: f64,
    /// Peers wanted; -1 leaves it to the tracker.
    #[arg(long, default_value_t = 30, help_heading = "Workload")]
    numwant: i32,
    /// Fraction of the announces with the event `started`.
    #[arg(long, default_value_t = 0.0, help_heading = "Workload")]
    started: f64,
    /// Fraction of the announces with the event `completed`.
    #[arg(long, default_value_t = 0.0, help_heading = "Workload")]
    completed: f64,
    /// Fraction of the announces with the event `stopped`.
    #[arg(long, default_value_t = 0.0, help_heading = "Workload")]
    stopped: f64,

    /// Announce exactly N distinct peers once each, again until answered.
    #[arg(long, value_name = "N", help_heading = "Fill")]
    fill: Option<u64>,
    /// How a fill spreads its peers over --info-hashes swarms: one-each (by
    /// turns), or what --skew takes (default: --skew if given, else uniform).
    #[arg(long, value_parser = parse_shape, requires = "fill", help_heading = "Fill")]
    fill_shape: Option<FillShape>,
    /// Announce the peers that a fill put in before instead of others. Give
    /// --peers the N of --fill, --skew the shape of the fill (uniform for
    /// one-each and where neither --skew nor --fill-shape was given), and the
    /// same --seed, --sources and --info-hashes.
    #[arg(long, conflicts_with = "fill", help_heading = "Fill")]
    reannounce: bool,
    /// Write the info hashes, one of 40 hex digits per line, and exit unless a
    /// target is given too.
    #[arg(long, value_name = "FILE", help_heading = "Fill")]
    write_info_hashes: Option<PathBuf>,

    /// Print the report as JSON.
    #[arg(long, help_heading = "Report")]
    json: bool,
    /// No progress bar.
    #[arg(long, help_heading = "Report")]
    quiet: bool,
    /// Report the processor time that this process uses meanwhile.
    #[arg(long, value_name = "PID", help_heading = "Report")]
    cpu_of: Option<u32>,
    /// Report the resident memory of this process at the end.
    #[arg(long, value_name = "PID", help_heading = "Report")]
    rss_of: Option<u32>,
}

/// Runs the command of this process.
pub fn main() -> ExitCode {
    // So that the checks say what is wrong with a negative number; clap would
    // take it for an option and suggest `-- -5`.
    let command = Cli::command().mut_args(|arg| {
        let takes_number = arg.get_long().is_some() && arg.get_action().takes_values();
        arg.allow_negative_numbers(takes_number)
    });
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    match cli.command {
        None => run_once(&cli.run),
        Some(Command::Compare(args)) => compare::main(&args),
        Some(Command::Echo(args)) => serve(&args, false),
        Some(Command::HttpEcho(args)) => serve(&args, true),
    }
}

fn run_once(args: &RunArgs) -> ExitCode {
    // Before the file is written, so that mistakes leave it alone.
    let checked = match (&args.write_info_hashes, &args.target) {
        (Some(_), None) => at_least_one("--info-hashes", args.info_hashes.into()).map(|()| None),
        _ => args.check().map(Some),
    };
    let config = match checked {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    if let Some(path) = &args.write_info_hashes
        && let Err(error) = write_info_hashes(path, args.seed, args.info_hashes)
    {
        eprintln!("error: cannot write {}: {error}", path.display());
        return ExitCode::from(1);
    }
    let Some(config) = config else {
        return ExitCode::SUCCESS;
    };
    sys::catch_interrupt();
    let show_progress = !args.quiet && io::stderr().is_terminal();
    match run::run(&config, show_progress) {
        Ok(report) => {
            let text = if args.json {
                serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
            } else {
                report.to_text()
            };
            if let Err(error) = print(&text) {
                eprintln!("error: cannot print the report: {error}");
                return ExitCode::from(1);
            }
            ExitCode::from(match report.is_valid() {
                true => 0,
                false if report.interrupted => 130,
                false => 3,
            })
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

/// Prints on standard output. A reader that went away has seen enough.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn serve(args: &EchoArgs, over_http: bool) -> ExitCode {
    if !args.address.ip().is_loopback() && !args.allow_remote {
        eprintln!(
            "error: {} is not a loopback address; the responder serves this host, unless --allow-remote is given",
            args.address.ip()
        );
        return ExitCode::from(2);
    }
    match echo::serve(args.address, args.peers.min(1000), over_http) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot answer on {}: {error}", args.address);
            ExitCode::from(1)
        }
    }
}

impl RunArgs {
    /// Checks the arguments together; an error says which and what to do.
    pub fn check(&self) -> Result<RunConfig, String> {
        let target = self
            .target
            .as_deref()
            .ok_or("no target; give udp://HOST:PORT or http://HOST:PORT/announce, or see --help")?;
        let target = parse_target(target)?;
        let ip = target.address().ip();
        if !ip.is_loopback() && !self.allow_remote {
            return Err(format!(
                "{ip} is not a loopback address; add --allow-remote if the tracker there is yours to load"
            ));
        }
        self.check_places(&target)?;
        let window = self.window.unwrap_or(WINDOW);
        let connections = self.connections.unwrap_or(CONNECTIONS);
        let mut sources = self.source_list(ip)?;
        if matches!(target, Target::Http { .. }) && connections < sources.len() {
            if self.sources.is_some() || !self.source_addresses.is_empty() {
                return Err(format!(
                    "--connections {connections} is less than one per source address ({})",
                    sources.len()
                ));
            }
            sources.truncate(connections.max(1));
        }
        self.check_numbers(window, connections)?;
        if self.fill.is_none() && self.peers < sources.len() as u64 {
            return Err(format!(
                "--peers {} is less than one per source address ({})",
                self.peers,
                sources.len()
            ));
        }
        let pace = match self.rate {
            None => Pace::Window(window),
            Some(rate) if rate > 0.0 && rate <= 1e9 => Pace::Rate(rate),
            Some(rate) => {
                return Err(format!(
                    "--rate {rate} is not above 0 and at most 10^9 requests per second"
                ));
            }
        };
        let workload = self.workload(sources.len() as u16)?;
        if let Some(shape) = self.shape() {
            FillPlan::check_room(&workload, shape)
                .map_err(|error| format!("--fill {} is too much: {error}", workload.peers))?;
        }
        Ok(RunConfig {
            target,
            threads: self.threads,
            cpus: self.cpus.clone(),
            pace,
            workload,
            sources,
            fill: self.shape(),
            numwant: self.numwant,
            scrape_hashes: self.scrape_hashes,
            warm_up: seconds("--warm-up", self.warm_up, 0.0)?,
            duration: seconds("--duration", self.duration, 0.001)?,
            timeout: Duration::from_millis(self.timeout),
            connections,
            keep_alive: !self.no_keep_alive,
            segmentation: !self.no_segmentation,
            cpu_of: self.cpu_of,
            rss_of: self.rss_of,
            max_loss: self.max_loss / 100.0,
        })
    }

    /// Refuses numbers outside of their limits.
    fn check_numbers(&self, window: usize, connections: usize) -> Result<(), String> {
        at_least_one("--threads", self.threads as u64)?;
        at_least_one("--window", window as u64)?;
        at_least_one("--connections", connections as u64)?;
        at_least_one("--info-hashes", u64::from(self.info_hashes))?;
        at_least_one("--fill", self.fill.unwrap_or(1))?;
        if self.threads > MAX_THREADS {
            return Err(format!(
                "--threads {} is more than {MAX_THREADS}",
                self.threads
            ));
        }
        if self.peers > MAX_PEERS {
            return Err(format!("--peers {} is more than {MAX_PEERS}", self.peers));
        }
        if window > 1 << 20 {
            return Err(format!("--window {window} is more than 1048576"));
        }
        if !(-1..=10_000).contains(&self.numwant) {
            return Err(format!(
                "--numwant {} is not between -1 and 10000",
                self.numwant
            ));
        }
        if !(1..=60_000).contains(&self.timeout) {
            return Err(format!(
                "--timeout {} is not between 1 and 60000 milliseconds",
                self.timeout
            ));
        }
        if !(1..=MAX_SCRAPE_HASHES).contains(&self.scrape_hashes) {
            return Err(format!(
                "--scrape-hashes {} is not between 1 and {MAX_SCRAPE_HASHES}",
                self.scrape_hashes
            ));
        }
        if connections > MAX_CONNECTIONS {
            return Err(format!(
                "--connections {connections} is more than {MAX_CONNECTIONS}"
            ));
        }
        Ok(())
    }

    /// The shape of the fill, if it is one. One with the skew of the traffic to
    /// come is what --reannounce needs.
    fn shape(&self) -> Option<FillShape> {
        let of_skew = FillShape::Drawn(self.skew.unwrap_or(Skew::Uniform));
        self.fill.map(|_| self.fill_shape.unwrap_or(of_skew))
    }

    /// Refuses arguments that would have no effect on this target or in a fill.
    fn check_places(&self, target: &Target) -> Result<(), String> {
        let (other, misplaced) = match target {
            Target::Udp(_) => (
                "http://",
                [
                    ("--connections", self.connections.is_some()),
                    ("--no-keep-alive", self.no_keep_alive),
                    ("", false),
                ],
            ),
            Target::Http { .. } => (
                "udp://",
                [
                    ("--window", self.window.is_some()),
                    ("--no-segmentation", self.no_segmentation),
                    ("--connects", self.connects > 0.0),
                ],
            ),
        };
        if let Some((name, _)) = misplaced.iter().find(|(_, given)| *given) {
            return Err(format!("{name} is for {other} targets; leave it out here"));
        }
        let in_traffic = [
            ("--connects", self.connects),
            ("--scrapes", self.scrapes),
            ("--started", self.started),
            ("--completed", self.completed),
            ("--stopped", self.stopped),
        ];
        match in_traffic.iter().find(|(_, share)| *share > 0.0) {
            Some((name, _)) if self.fill.is_some() => Err(format!(
                "{name} has no place in a fill, which announces each peer once with the event started"
            )),
            _ => Ok(()),
        }
    }

    fn workload(&self, sources: u16) -> Result<Workload, String> {
        let fractions = [
            ("--seeders", self.seeders),
            ("--started", self.started),
            ("--completed", self.completed),
            ("--stopped", self.stopped),
            (
                "--started, --completed and --stopped together",
                self.started + self.completed + self.stopped,
            ),
        ];
        if !(0.0..=100.0).contains(&self.max_loss) {
            return Err(format!(
                "--max-loss is {}, not a percentage between 0 and 100",
                self.max_loss
            ));
        }
        for (name, value) in fractions {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("{name} is {value}, not a fraction between 0 and 1"));
            }
        }
        let weights = [self.connects, self.announces, self.scrapes];
        if weights.iter().any(|w| !(0.0..=1e9).contains(w)) || weights.iter().sum::<f64>() <= 0.0 {
            return Err(
                "--connects, --announces and --scrapes must be finite, not negative and at most 10^9, and not all 0".into(),
            );
        }
        Ok(Workload {
            seed: self.seed,
            swarms: self.info_hashes,
            peers: self.fill.unwrap_or(self.peers),
            skew: self.skew.unwrap_or(Skew::Cubic),
            sources,
            connects: self.connects,
            announces: self.announces,
            scrapes: self.scrapes,
            seeders: self.seeders,
            started: self.started,
            completed: self.completed,
            stopped: self.stopped,
            reannounce: self.reannounce,
        })
    }

    fn source_list(&self, target: IpAddr) -> Result<Vec<Option<IpAddr>>, String> {
        if !self.source_addresses.is_empty() {
            if let Some(other) = self
                .source_addresses
                .iter()
                .find(|ip| ip.is_ipv4() != target.is_ipv4())
            {
                return Err(format!(
                    "source address {other} is of another family than the target {target}"
                ));
            }
            return Ok(self.source_addresses.iter().copied().map(Some).collect());
        }
        let loopback_v4 = target.is_ipv4() && target.is_loopback();
        match self.sources {
            Some(0) => Err("--sources must be at least 1".into()),
            Some(count) if count > 1 && !loopback_v4 => Err(format!(
                "--sources {count} needs an IPv4 loopback target; for {target} list this host's addresses with --source-addresses"
            )),
            Some(count) if count > 4096 => Err(format!("--sources {count} is more than 4096")),
            count if loopback_v4 => {
                let first = u32::from(Ipv4Addr::new(127, 0, 0, 2));
                let count = u32::from(count.unwrap_or(LOOPBACK_SOURCES));
                Ok((0..count)
                    .map(|n| Some(IpAddr::V4(Ipv4Addr::from(first + n))))
                    .collect())
            }
            _ => Ok(vec![None]),
        }
    }
}

fn at_least_one(name: &str, value: u64) -> Result<(), String> {
    match value {
        0 => Err(format!("{name} must be at least 1")),
        _ => Ok(()),
    }
}

/// Writes the info hashes of a workload, 40 hex digits per line.
pub fn write_info_hashes(path: &Path, seed: u64, swarms: u32) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for swarm in 0..swarms {
        let mut line = [b'\n'; 41];
        for (digits, byte) in line.chunks_exact_mut(2).zip(info_hash(seed, swarm)) {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            digits[0] = HEX[usize::from(byte >> 4)];
            digits[1] = HEX[usize::from(byte & 15)];
        }
        file.write_all(&line)?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_has_the_shape_of_the_skew_unless_told_otherwise() {
        for (arguments, expected) in [
            ("--fill 9", FillShape::Drawn(Skew::Uniform)),
            ("--fill 9 --skew cubic", FillShape::Drawn(Skew::Cubic)),
            (
                "--fill 9 --skew 1 --fill-shape one-each",
                FillShape::OneEach,
            ),
        ] {
            let words = "x udp://127.0.0.1:1 ".to_string() + arguments;
            let cli = Cli::try_parse_from(words.split(' ')).unwrap();
            assert_eq!(cli.run.check().unwrap().fill, Some(expected), "{arguments}");
        }
        let cli = Cli::try_parse_from(["x", "udp://127.0.0.1:1"]).unwrap();
        let config = cli.run.check().unwrap();
        assert_eq!((config.fill, config.workload.skew), (None, Skew::Cubic));
    }
}
