//! Several servers measured side by side: one command, one table.
//!
//! Every server runs on the same processor and the generator on another; runs
//! are interleaved, so that a noisy minute hits all alike, and each figure is
//! a median with its spread. What cannot be measured (a program missing, a run
//! invalid) is said in the table.

mod figures;
mod link;
mod record;
mod servers;
mod tables;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::{Args, ValueEnum};

use servers::Programs;
use tables::{Comparison, Figure, Host};

/// The comparison for machines, in the directory of the outcome.
const JSON: &str = "comparison.json";

/// Processors have no greater numbers.
const MAX_PROCESSOR: usize = 8191;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FigureName {
    /// Greatest rate of UDP announces, 2 M peers skewed over 1 M info hashes.
    UdpThroughput,
    /// Processor time per UDP announce at a fixed rate.
    UdpCpu,
    /// As udp-throughput, but between two network namespaces over a veth pair
    /// and with karuta's AF_XDP, which makes no sense on loopback. Needs root
    /// and ip (iproute2). As on loopback, the kernel does part of the server's
    /// receiving on the generator's processor, with AF_XDP too.
    UdpVeth,
    /// As udp-cpu, but over a veth pair as udp-veth; what the kernel does on
    /// the generator's processor is not in it.
    UdpVethCpu,
    /// Greatest rate with 10 M peers in 2 M swarms loaded.
    UdpLoaded,
    /// Resident memory after three fills.
    Memory,
    /// p99.9 latency at half the greatest rate while peers expire (karuta).
    Expiry,
    /// As expiry, with the servers at a real-time priority (SCHED_FIFO), so that
    /// other programs and the kernel's threads on this host wait for them.
    /// Needs root, or CAP_SYS_NICE.
    ExpiryRealTime,
    /// Processor time per HTTP announce, 64 connections with keep-alive.
    HttpKeepAlive,
    /// Processor time per HTTP announce, one connection each.
    HttpClose,
    /// Processor time per UDP announce as shards grow (karuta).
    Shards,
}

/// The arguments of a comparison.
#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    /// Figures to produce; all unless told otherwise.
    #[arg(long, value_enum, value_delimiter = ',')]
    figures: Vec<FigureName>,
    /// Interleaved runs of each server.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Runs of the fills for memory, which take three minutes for all servers
    /// and hardly vary.
    #[arg(long, default_value_t = 5)]
    memory_runs: usize,
    /// Runs of each expiry figure, which take two minutes.
    #[arg(long, default_value_t = 5)]
    expiry_runs: usize,
    /// Seconds that each run measures.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Divide the numbers of peers and swarms by this, for a quick look.
    #[arg(long, default_value_t = 1)]
    scale: u32,
    /// Path of karuta; without it, only the others are measured.
    #[arg(long)]
    karuta: Option<PathBuf>,
    /// Path or name of aquatic_udp, built with its feature io-uring.
    #[arg(long, default_value = "aquatic_udp")]
    aquatic_udp: PathBuf,
    /// Path or name of aquatic_http.
    #[arg(long, default_value = "aquatic_http")]
    aquatic_http: PathBuf,
    /// Path or name of opentracker.
    #[arg(long, default_value = "opentracker")]
    opentracker: PathBuf,
    /// Processor of the servers (taskset notation).
    #[arg(long, default_value = "0")]
    server_cpu: String,
    /// Processor of the generator.
    #[arg(long, default_value_t = 1)]
    generator_cpu: usize,
    /// Directory for the servers' configurations and logs; other users must be
    /// able to read it (opentracker changes its user).
    #[arg(long, default_value = "comparison")]
    work: PathBuf,
    /// Directory for comparison.md, .json and .svg; --work unless told otherwise.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Keep the figures of an earlier comparison in --out that are not measured
    /// now.
    #[arg(long)]
    keep: bool,
}

/// Why there is no comparison.
enum Failure {
    /// The arguments are wrong.
    Arguments(String),
    /// Something else stands in the way.
    Other(String),
}

/// Measures and writes; the exit code is 3 when no figure came out.
pub fn main(args: &CompareArgs) -> ExitCode {
    match compare(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("error: nothing could be measured; the table says why");
            ExitCode::from(3)
        }
        Err(Failure::Arguments(error)) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
        Err(Failure::Other(error)) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

/// Refuses arguments that no comparison can be made with.
fn check(args: &CompareArgs) -> Result<(), String> {
    let runs = [args.runs, args.memory_runs, args.expiry_runs];
    if runs.contains(&0) || args.scale == 0 {
        return Err("--runs, --memory-runs, --expiry-runs and --scale must be at least 1".into());
    }
    if !(0.1..=3600.0).contains(&args.seconds) {
        return Err("--seconds must be between 0.1 and 3600".into());
    }
    let servers = processors(&args.server_cpu).ok_or_else(|| {
        let list = &args.server_cpu;
        format!("--server-cpu {list:?} is not a list of processors; write it as 0 or 0-3,6")
    })?;
    if servers.contains(&args.generator_cpu) {
        let cpu = args.generator_cpu;
        return Err(format!(
            "--server-cpu and --generator-cpu must be different processors; both have {cpu}"
        ));
    }
    match &args.karuta {
        Some(path) if !path.is_file() => {
            Err(format!("--karuta: there is no program {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The processors of a list in taskset's notation: numbers and ranges, with a
/// step if need be.
fn processors(list: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (range, step) = part.split_once(':').unwrap_or((part, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        let step: usize = step.parse().ok()?;
        if first > last || last > MAX_PROCESSOR || step == 0 {
            return None;
        }
        all.extend((first..=last).step_by(step));
    }
    Some(all)
}

fn compare(args: &CompareArgs) -> Result<bool, Failure> {
    check(args).map_err(Failure::Arguments)?;
    let absolute = |path: &Path| -> Result<PathBuf, Failure> {
        fs::create_dir_all(path)
            .and_then(|()| path.canonicalize())
            .map_err(|error| {
                Failure::Other(format!("cannot use directory {}: {error}", path.display()))
            })
    };
    let work = absolute(&args.work)?;
    let out = args.out.as_deref().map_or(Ok(work.clone()), absolute)?;
    let program = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let programs = Programs {
        karuta: args.karuta.as_deref().map(program),
        aquatic_udp: program(&args.aquatic_udp),
        aquatic_http: program(&args.aquatic_http),
        opentracker: program(&args.opentracker),
        work,
        server_cpus: args.server_cpu.clone(),
    };
    let wanted = match args.figures.as_slice() {
        [] => FigureName::value_variants().to_vec(),
        some => some.to_vec(),
    };
    let earlier = match args.keep {
        true => earlier(&out).map_err(Failure::Other)?,
        false => Vec::new(),
    };
    let begin = Instant::now();
    let mut bench = figures::Bench::new(&programs, args);
    let mut comparison = Comparison {
        host: host(args, &programs, 0.0),
        figures: Vec::new(),
    };
    comparison.figures = bench.measure(&wanted, |figures| {
        // Only in case the comparison is interrupted; the end reports errors.
        let so_far = serde_json::to_string_pretty(figures).unwrap_or_default();
        let _ = fs::write(out.join("comparison.partial.json"), so_far);
    });
    comparison.host.seconds = begin.elapsed().as_secs_f64();
    let is_measured = |figure: &Figure| figure.rows.iter().any(|row| !row.values.is_empty());
    let any = comparison.figures.iter().any(is_measured);
    comparison.add_earlier(earlier);
    let markdown = tables::markdown(&comparison);
    write_all(&out, &comparison, &markdown)
        .map_err(|error| Failure::Other(format!("cannot write into {}: {error}", out.display())))?;
    // Whoever reads no standard output has the files.
    let _ = io::stdout().write_all(markdown.as_bytes());
    eprintln!(
        "wrote comparison.md, comparison.json and comparison.svg to {}",
        out.display()
    );
    Ok(any)
}

/// The figures of an earlier comparison.
fn earlier(out: &Path) -> Result<Vec<Figure>, String> {
    let path = out.join(JSON);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    match serde_json::from_str::<Comparison>(&text) {
        Ok(comparison) => Ok(comparison.figures),
        Err(error) => Err(format!(
            "{} is no comparison of this program ({error}); move it away or leave --keep out",
            path.display()
        )),
    }
}

/// Writes the outcome in its three forms.
fn write_all(out: &Path, comparison: &Comparison, markdown: &str) -> io::Result<()> {
    fs::write(out.join("comparison.md"), markdown)?;
    fs::write(out.join(JSON), serde_json::to_string_pretty(comparison)?)?;
    fs::write(out.join("comparison.svg"), tables::svg(comparison))?;
    let _ = fs::remove_file(out.join("comparison.partial.json"));
    Ok(())
}

/// Where and with what it was measured.
fn host(args: &CompareArgs, programs: &Programs, seconds: f64) -> Host {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name")?
                .split_once(':')
                .map(|(_, name)| name.trim().to_string())
        })
        .unwrap_or_else(|| "unknown".into());
    let said = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        let text = if output.stdout.is_empty() {
            output.stderr
        } else {
            output.stdout
        };
        let text = String::from_utf8_lossy(&text);
        text.lines()
            .next()
            .map(|line| line.trim().to_string())
            .filter(|line| output.status.success() && !line.is_empty())
    };
    let mut versions = vec![(
        "karuta-load-tester".to_string(),
        env!("CARGO_PKG_VERSION").to_string(),
    )];
    if let Some(karuta) = &programs.karuta {
        versions.push((
            "karuta".into(),
            said(karuta, &["--version"]).unwrap_or_else(|| "unknown".into()),
        ));
    }
    for (name, program) in [
        ("aquatic_udp", &programs.aquatic_udp),
        ("aquatic_http", &programs.aquatic_http),
    ] {
        if let Some(version) = said(program, &["--version"]).or_else(|| said(program, &["-v"])) {
            versions.push((name.into(), version));
        }
    }
    if let Some(version) = said(
        Path::new("dpkg-query"),
        &["-W", "-f=${Version}", "opentracker"],
    ) {
        versions.push(("opentracker".into(), format!("Debian {version}")));
    }
    Host {
        processor,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_string(),
        processors: std::thread::available_parallelism().map_or(0, usize::from),
        server_cpu: args.server_cpu.clone(),
        generator_cpu: args.generator_cpu,
        versions,
        seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_read_as_taskset_does() {
        assert_eq!(processors("0"), Some(vec![0]));
        assert_eq!(processors("0-2,7"), Some(vec![0, 1, 2, 7]));
        assert_eq!(processors("0-6:3"), Some(vec![0, 3, 6]));
        for bad in ["", "a", "3-1", "0-", "0-4:0", "0-99999999999"] {
            assert_eq!(processors(bad), None, "{bad}");
        }
    }

    #[test]
    fn figures_measured_now_replace_earlier_ones_in_the_order_of_the_table() {
        let figure = |id: &str, title: &str| Figure::new(id, title, "", true);
        let mut comparison = Comparison {
            host: Host::default(),
            figures: vec![figure("udp-loaded", "new")],
        };
        comparison.add_earlier(vec![
            figure("shards", "old"),
            figure("udp-loaded", "old"),
            figure("udp-throughput", "old"),
        ]);
        let seen: Vec<_> = comparison
            .figures
            .iter()
            .map(|f| (&*f.id, &*f.title))
            .collect();
        let expected = [
            ("udp-throughput", "old"),
            ("udp-loaded", "new"),
            ("shards", "old"),
        ];
        assert_eq!(seen, expected);
    }
}
