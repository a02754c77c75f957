//! The figures: which servers, which load, which number.

use clap::ValueEnum;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use super::record::{
    LONGEST_TAIL, cpu_per_reply, not_started, record, record_nothing, record_tail, valid,
};
use super::servers::{Programs, Running, Server, Setup, cross_shard};
use super::tables::{Figure, Mean};
use super::{CompareArgs, FigureName};
use crate::config::{Pace, RunConfig, Target};
use crate::echo;
use crate::report::Report;
use crate::skew::Skew;
use crate::workload::{FillShape, Workload};

mod udp;

use udp::UdpPair;

/// Lifetime of peers in the expiry figure; longer than its fill takes.
const EXPIRY_SECONDS: u32 = 30;

/// Lifetime of peers where nothing may expire.
const NO_EXPIRY_SECONDS: u32 = 7200;

/// Source addresses of the generator.
const SOURCES: u16 = super::link::CLIENTS;

/// Runs the figures one after the other.
pub struct Bench<'a> {
    programs: &'a Programs,
    args: &'a CompareArgs,
    /// Greatest rate of karuta seen, for the half rate of the expiry figure.
    best_rate: Option<f64>,
}

impl<'a> Bench<'a> {
    /// Nothing measured yet.
    pub fn new(programs: &'a Programs, args: &'a CompareArgs) -> Bench<'a> {
        Bench {
            programs,
            args,
            best_rate: None,
        }
    }

    /// Measures the wanted figures, in the order of the table.
    /// `note` is told after each, so that an interrupted comparison leaves what
    /// it had.
    pub fn measure(
        &mut self,
        wanted: &[FigureName],
        mut note: impl FnMut(&[Figure]),
    ) -> Vec<Figure> {
        let mut figures = Vec::new();
        for name in FigureName::value_variants() {
            let pair = UdpPair::with(*name);
            // Measured along with the rates, if those are wanted.
            let was_measured =
                pair.is_some_and(|pair| *name == pair.cost && wanted.contains(&pair.rate));
            if !wanted.contains(name) || was_measured {
                continue;
            }
            figures.extend(self.figure(*name, wanted));
            note(&figures);
        }
        figures
    }

    fn figure(&mut self, name: FigureName, wanted: &[FigureName]) -> Vec<Figure> {
        let mut figures = Vec::new();
        match name {
            FigureName::UdpThroughput
            | FigureName::UdpCpu
            | FigureName::UdpVeth
            | FigureName::UdpVethCpu => {
                if let Some(pair) = UdpPair::with(name) {
                    figures.extend(self.udp(pair, wanted));
                }
            }
            FigureName::UdpLoaded => figures.push(self.udp_loaded()),
            FigureName::Memory => figures.extend(self.memory()),
            FigureName::Expiry => figures.push(self.expiry(false)),
            FigureName::ExpiryRealTime => figures.push(self.expiry(true)),
            FigureName::HttpKeepAlive => figures.push(self.http(true)),
            FigureName::HttpClose => figures.push(self.http(false)),
            FigureName::Shards => figures.push(self.shards()),
        }
        figures
    }

    /// A server with peers loaded in skewed swarms, and the rate of that; a bare
    /// responder is only started.
    fn start_filled(
        &self,
        server: Server,
        setup: &Setup,
        peers: u32,
        swarms: u32,
    ) -> Result<(Running, Option<f64>), String> {
        let started = self.programs.start(server, setup);
        let running = started.map_err(|error| error.to_string())?;
        if server.is_limit() {
            return Ok((running, None));
        }
        let fill = RunConfig {
            // On loopback a run that leaves as one message arrives as one, at
            // the owner of its first packet alone.
            segmentation: setup.shards == 1,
            ..self.fill(&running, peers, swarms, FillShape::Drawn(Skew::Cubic))
        };
        let report = valid(running.run(&fill)).map_err(|why| format!("not loaded: {why}"))?;
        Ok((running, Some(report.replies_per_second)))
    }

    /// Resident memory after each of three fills.
    fn memory(&mut self) -> Vec<Figure> {
        let one_each = (
            1_000_000,
            1_000_000,
            FillShape::OneEach,
            "memory-one-each",
            "1 M swarms of 1 peer",
        );
        let uniform = (
            5_000_000,
            1_000_000,
            FillShape::Drawn(Skew::Uniform),
            "memory-uniform",
            "5 M peers uniformly over 1 M swarms",
        );
        let cubic = (
            5_000_000,
            1_000_000,
            FillShape::Drawn(Skew::Cubic),
            "memory-cubic",
            "5 M peers skewed over 1 M swarms",
        );
        let mut figures = Vec::new();
        for (peers, swarms, shape, id, title) in [one_each, uniform, cubic] {
            let mut figure = Figure::new(id, &format!("Resident memory, {title}"), "MB", true);
            for round in 0..self.args.memory_runs.max(1) {
                for server in [Server::Karuta, Server::AquaticMio, Server::Opentracker] {
                    self.say(id, server.name(), round);
                    let running = match self.programs.start(server, &self.setup(swarms)) {
                        Ok(running) => running,
                        Err(error) => {
                            not_started(&mut figure, server, &error);
                            continue;
                        }
                    };
                    let mut config = self.fill(&running, peers, swarms, shape);
                    config.rss_of = Some(running.pid());
                    let before =
                        crate::process::resident_bytes(running.pid()).unwrap_or(0) as f64 / 1e6;
                    let row = figure.row(server.name(), false);
                    let megabytes = |r: &Report| r.resident_bytes.map(|bytes| bytes as f64 / 1e6);
                    if record(row, running.run(&config), megabytes).is_some() {
                        row.detail = Some(format!("{before:.0} MB before the fill"));
                    }
                }
            }
            figures.push(figure);
        }
        figures
    }

    /// p99.9 latency at half the greatest rate, with and without expiry; the
    /// servers at a real-time priority or not.
    fn expiry(&mut self, real_time: bool) -> Figure {
        let mut half_rate = self.best_rate.map(|rate| rate / 2.0);
        let (id, title) = match real_time {
            false => (
                "expiry",
                "p99.9 latency at half the greatest rate while 5 M peers expire",
            ),
            true => (
                "expiry-real-time",
                "The same at a real-time priority: p99.9 latency while 5 M peers expire",
            ),
        };
        let mut figure = Figure::new(id, title, "µs", true);
        let (swarms, peers) = (1_000_000, 5_000_000);
        let common = Setup {
            real_time,
            ..self.setup(swarms)
        };
        for round in 0..self.args.expiry_runs.max(1) {
            for (name, lifetime) in [
                ("karuta, no expiry", NO_EXPIRY_SECONDS),
                ("karuta, expiring", EXPIRY_SECONDS),
            ] {
                self.say(id, name, round);
                let setup = Setup {
                    peer_lifetime_seconds: lifetime,
                    ..common.clone()
                };
                let running = match self.programs.start(Server::Karuta, &setup) {
                    Ok(running) => running,
                    Err(error) => {
                        figure.row(name, false).note(error.to_string());
                        continue;
                    }
                };
                let begin = Instant::now();
                let fill = self.fill(&running, peers, swarms, FillShape::Drawn(Skew::Cubic));
                let fill = running.run(&fill);
                let row = figure.row(name, false);
                if record_nothing(row, fill).is_none() {
                    continue;
                }
                let took = begin.elapsed();
                let rate = *half_rate.get_or_insert_with(|| {
                    let look = RunConfig {
                        duration: Duration::from_secs(1),
                        ..self.reannounce(&running, peers, swarms)
                    };
                    running
                        .run(&look)
                        .map_or(0.0, |report| report.replies_per_second)
                        / 2.0
                });
                if lifetime == EXPIRY_SECONDS {
                    let first_expires = Duration::from_secs(EXPIRY_SECONDS.into());
                    if took > first_expires {
                        row.note("the fill took longer than the peers live; use --scale");
                        continue;
                    }
                    thread::sleep(first_expires.saturating_sub(begin.elapsed()));
                }
                let load = self.reannounce(&running, peers, swarms);
                record_tail(row, rate, took, &running, load);
            }
            if let Some(rate) = half_rate {
                self.echo_tail(&mut figure, round, rate, &common);
            }
        }
        figure
    }

    /// The tail that this host gives whatever server is asked at this rate.
    fn echo_tail(&self, figure: &mut Figure, round: usize, rate: f64, setup: &Setup) {
        let server = Server::Echo;
        self.say(&figure.id, server.name(), round);
        match self.programs.start(server, setup) {
            Ok(running) => {
                let load = self.udp_load(&running, 1_000_000, 2_000_000);
                let row = figure.row(server.name(), true);
                record_tail(row, rate, LONGEST_TAIL, &running, load);
            }
            Err(error) => not_started(figure, server, &error),
        }
    }

    /// Processor time per HTTP announce.
    fn http(&mut self, keep_alive: bool) -> Figure {
        let (id, title) = match keep_alive {
            true => (
                "http-keep-alive",
                "Server processor time per HTTP announce, 64 connections kept alive",
            ),
            false => (
                "http-close",
                "Server processor time per HTTP announce, one connection each",
            ),
        };
        let mut figure = Figure::new(id, title, "µs per announce", true);
        let servers: &[Server] = match keep_alive {
            true => &[Server::Karuta, Server::AquaticHttp, Server::HttpEcho],
            false => &[
                Server::Karuta,
                Server::AquaticHttp,
                Server::Opentracker,
                Server::HttpEcho,
            ],
        };
        for round in 0..self.args.runs {
            let mut bytes = Mean::default();
            for &server in servers {
                self.say(id, server.name(), round);
                let setup = Setup {
                    keep_alive,
                    echo_peers: echo::http_peers(bytes.get().unwrap_or(200.0), keep_alive),
                    ..self.setup(1_000_000)
                };
                let running = match self.programs.start(server, &setup) {
                    Ok(running) => running,
                    Err(error) => {
                        not_started(&mut figure, server, &error);
                        continue;
                    }
                };
                let config = RunConfig {
                    target: Target::Http {
                        address: running.address,
                        host: running.address.to_string(),
                        path: "/announce".into(),
                    },
                    keep_alive,
                    timeout: Duration::from_secs(2),
                    ..self.udp_load(&running, 1_000_000, 2_000_000)
                };
                let row = figure.row(server.name(), server.is_limit());
                if let Some(report) = record(row, running.run(&config), cpu_per_reply) {
                    if self.sizes_echo(server) {
                        bytes.add(report.bytes_per_reply);
                    }
                    row.detail = Some(format!(
                        "{:.0} k/s, {:.0} bytes per reply",
                        report.replies_per_second / 1e3,
                        report.bytes_per_reply
                    ));
                }
            }
        }
        figure
    }

    /// Processor time per UDP announce with more and more shards on one core.
    fn shards(&mut self) -> Figure {
        let mut figure = Figure::new(
            "shards",
            "Server processor time per UDP announce as shards grow, all on one core",
            "µs per announce",
            true,
        );
        let (peers, swarms) = (2_000_000, 1_000_000);
        let mut loaded = Vec::new();
        for shards in [1, 2, 4, 8] {
            let name = format!("karuta, {shards} shards");
            self.say("loading", &name, 0);
            let setup = Setup {
                shards,
                ..self.setup(swarms)
            };
            match self.start_filled(Server::Karuta, &setup, peers, swarms) {
                Ok((running, _)) => loaded.push((name, running)),
                Err(why) => figure.row(&name, false).note(why),
            }
        }
        for round in 0..self.args.runs {
            for (name, running) in &loaded {
                self.say("shards", name, round);
                let config = RunConfig {
                    pace: Pace::Window(256),
                    // As in the fill; for one shard too, to compare like with like.
                    segmentation: false,
                    ..self.reannounce(running, peers, swarms)
                };
                let row = figure.row(name, false);
                if record(row, running.run(&config), cpu_per_reply).is_some() {
                    match cross_shard(running.metrics) {
                        Some(count) => row.detail = Some(format!("{count} cross-shard requests")),
                        None => row.note("no metric with \"cross_shard\" in its name"),
                    }
                }
            }
        }
        figure
    }

    /// Whether the bare responders answer with as much as this server:
    /// karuta, or all trackers alike if it is not measured.
    fn sizes_echo(&self, server: Server) -> bool {
        match self.programs.karuta {
            Some(_) => server == Server::Karuta,
            None => !server.is_limit(),
        }
    }

    fn say(&self, figure: &str, server: &str, round: usize) {
        eprintln!("{figure}: {server}, run {}", round + 1);
    }

    fn scaled(&self, count: u32) -> u32 {
        (count / self.args.scale).max(u32::from(SOURCES))
    }

    fn setup(&self, swarms: u32) -> Setup {
        Setup {
            swarms: self.scaled(swarms),
            ..Setup::default()
        }
    }

    /// Announces in a closed loop, 30 peers wanted.
    fn udp_load(&self, running: &Running, swarms: u32, peers: u32) -> RunConfig {
        let first = u32::from(running.first_source());
        let source = |n| Some(IpAddr::V4(Ipv4Addr::from(first + u32::from(n))));
        RunConfig {
            target: Target::Udp(running.address),
            sources: (0..SOURCES).map(source).collect(),
            threads: 1,
            cpus: vec![self.args.generator_cpu],
            pace: Pace::Window(128),
            workload: Workload {
                seed: Setup::default().seed,
                swarms: self.scaled(swarms),
                peers: self.scaled(peers).into(),
                skew: Skew::Cubic,
                sources: SOURCES,
                connects: 0.0,
                announces: 1.0,
                scrapes: 0.0,
                seeders: 0.75,
                started: 0.0,
                completed: 0.0,
                stopped: 0.0,
                reannounce: false,
            },
            fill: None,
            numwant: 30,
            scrape_hashes: 1,
            warm_up: Duration::from_millis(1000),
            duration: Duration::from_secs_f64(self.args.seconds),
            timeout: Duration::from_millis(500),
            connections: 64,
            keep_alive: true,
            segmentation: true,
            cpu_of: Some(running.pid()),
            rss_of: None,
            max_loss: 0.01,
        }
    }

    /// Every peer once; nobody cares for the peers in the replies.
    fn fill(&self, running: &Running, peers: u32, swarms: u32, shape: FillShape) -> RunConfig {
        let mut config = self.udp_load(running, swarms, peers);
        config.fill = Some(shape);
        config.numwant = 1;
        config
    }

    /// The peers of a skewed fill again.
    fn reannounce(&self, running: &Running, peers: u32, swarms: u32) -> RunConfig {
        let mut config = self.udp_load(running, swarms, peers);
        config.workload.reannounce = true;
        config
    }
}
