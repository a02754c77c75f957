//! Starts the tracker and stops it in reverse: probes the host, binds every
//! socket in shard order, builds the mesh, starts the shards and the control.
//!
//! All sockets are bound here, on the starting thread, for two reasons: a port
//! in use is an error before anything runs, and the kernel's steering program
//! names sockets by the order in which their group was bound.

mod https;
mod keys;
mod privileges;
mod reload;
mod seeds;
mod settings;
mod shards;
mod sockets;
mod state;
mod xdp;

use crate::config::Config;
use crate::control::opentracker_stats::{self, OpentrackerStats, Sources};
use crate::control::reloads::Reloads;
use crate::control::report::Reporter;
use crate::control::service_manager::{Attendant, ServiceManager};
use crate::control::signals::HeldSignals;
use crate::control::web;
use crate::control::web::server::WebServer;
use crate::frontend::http::handover::HandedOver;
use crate::frontend::worker::Stop;
use crate::runtime::clock::Clock;
use crate::runtime::executor;
use crate::shard::Shard;
use crate::shard::owner::OwnerMap;
use crate::shard::stats::ShardStats;
use crate::shard::survey::SurveyDesk;
use crate::state::{Keeper, StateStats};
use crate::sys;
use crate::sys::process::ProcessFiles;
use crossbeam_channel::Receiver;
use https::Https;
use reload::{Orders, Parts, ReloadSeeds};
use seeds::Seeds;
use settings::Settings;
use shards::{Cores, Links, Running};
use sockets::{Sockets, bind_remedy};
use state::State;
use std::fmt;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use xdp::{Frames, Programs};

pub use keys::{Reach, Report, keys};
pub use reload::{ConfigSource, Reloader};

/// Why the tracker could not start: one line, with the remedy.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// A tracker that runs.
pub struct Tracker {
    stop: Arc<Stop>,
    ended: Receiver<io::Result<()>>,
    shards: usize,
    metrics: Vec<WebServer>,
    reloader: Reloader,
    surveys: SurveyDesk,
    statistics: Option<OpentrackerStats>,
    keeper: Option<Keeper>,
    programs: Programs,
    state_stats: Arc<StateStats>,
    /// The UDP addresses that are served, with the ports that were taken.
    pub udp: Vec<SocketAddr>,
    /// The HTTP addresses that are served, with the ports that were taken.
    pub http: Vec<SocketAddr>,
    /// The HTTPS addresses that are served, with the ports that were taken.
    pub https: Vec<SocketAddr>,
    /// Where metrics are served.
    pub metrics_addresses: Vec<SocketAddr>,
    /// The counters of each shard.
    pub stats: Vec<Arc<ShardStats>>,
    /// Whether the kernel steers UDP requests to their owners.
    pub steered: bool,
    announce_path: String,
}

/// Stops a tracker from another thread.
#[derive(Clone)]
pub struct Stopper(Arc<Stop>);

impl Stopper {
    /// Tells the tracker to finish what is under way and end.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl Tracker {
    /// Starts a tracker; returns once every socket is bound.
    ///
    /// # Errors
    /// What stands in the way, with the remedy.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        executor::probe().map_err(|reason| StartError(reason.to_string()))?;
        sys::probe::raise_open_files();
        sys::cpu::allow_real_time(config.realtime_priority);
        let cores = Cores::find(config)?;
        let shards = cores.shards;
        let seeds = Seeds::draw(shards)?;
        let owners = OwnerMap::new(seeds.owner_key, shards);
        let mut sockets = Sockets::bind(config, shards)?;
        let steered = sockets.steer(config, &owners);
        let mut frames = match &config.udp {
            Some(udp) => Frames::open(udp, &sockets.udp_addresses, shards)?,
            None => Frames::default(),
        };
        let metrics_listeners = bind_metrics(config)?;
        // Out of reach below another root, and closed to another user.
        let process = ProcessFiles::open();
        privileges::give_up(config)?;

        let mut links = Links::new(shards)?;
        // In the order in which each shard has its listeners.
        let streams = [&sockets.http_addresses[..], &sockets.https_addresses].concat();
        let datagrams = sockets.udp_addresses.iter().map(ToString::to_string);
        let datagrams: Vec<_> = datagrams.chain(frames.names.iter().cloned()).collect();
        let stats: Vec<_> = (0..shards)
            .map(|_| ShardStats::new(&datagrams, &streams))
            .map(Arc::new)
            .collect();
        let clock = Clock::start();
        let (statistics_lane, handed_over) = opentracker_stats::lane();
        let settings = Settings::new(config, seeds.connection_key, &statistics_lane)?;
        let hooks = (config.prehooks.as_slice(), config.posthooks.as_slice());
        let (hooks, background) = reload::start_hooks(hooks, shards, seeds.hooks)?;
        let state = State::open(config, clock)?;
        let state_stats = state.stats.clone();
        let loaded = state.load(|| {
            let shard = |id| {
                let seed = seeds.shards[id];
                Shard::new(id, owners, &settings.shard, seed, stats[id].clone())
            };
            (0..shards).map(shard).collect()
        })?;
        let keeper = state.keep(&links.surveys)?;
        let certificates = Https::start(config, &stats[0], clock)?;
        let start = shards::Start {
            cores: &cores,
            links: &mut links,
            sockets: &mut sockets,
            frames: &mut frames,
            settings: &settings,
            tls: certificates.as_ref().map(|https| &https.tls),
            hooks: &hooks,
            clock,
        };
        let Running { mailboxes, ended } = start.all(loaded)?;
        let sources = Sources {
            shards: stats.clone(),
            surveys: links.surveys.clone(),
            clock,
            tracker_id: seeds.tracker_id,
        };
        let statistics = start_statistics(config, &handed_over, sources)?;
        let reloads = Arc::new(Reloads::started_at(clock.now().unix_seconds));
        let reporter = Reporter::new(
            process,
            stats.clone(),
            reloads.clone(),
            state_stats.clone(),
            clock,
        );
        let metrics = start_metrics(metrics_listeners, reporter)?;
        let metrics_addresses = metrics.iter().flat_map(WebServer::local_addr).collect();
        Ok(Self {
            stop: links.stop,
            ended,
            shards,
            metrics,
            surveys: links.surveys,
            statistics,
            state_stats,
            reloader: Reloader::new(Parts {
                running: Mutex::new(config.clone()),
                background: Mutex::new(Some(background)),
                https: Mutex::new(certificates),
                mailboxes,
                bells: links.bells,
                seeds: ReloadSeeds {
                    hooks: seeds.hooks,
                    connection_key: seeds.connection_key,
                },
                reloads,
                clock,
                statistics_lane,
                state_intervals: keeper.as_ref().map(Keeper::intervals),
            }),
            keeper,
            programs: frames.into_programs(),
            udp: sockets.udp_addresses,
            http: sockets.http_addresses,
            https: sockets.https_addresses,
            metrics_addresses,
            stats,
            steered,
            announce_path: config
                .http
                .as_ref()
                .and_then(|http| http.announce_routes.first().cloned())
                .unwrap_or_else(|| "/announce".to_owned()),
        })
    }

    /// How many shards there are.
    #[must_use]
    pub const fn shards(&self) -> usize {
        self.shards
    }

    /// The URLs to put into torrents, with a word on what they stand for.
    #[must_use]
    pub fn announce_urls(&self) -> Vec<String> {
        let url = |scheme: &str, path: &str, address: &SocketAddr| {
            let port = address.port();
            match address {
                SocketAddr::V4(v4) if v4.ip().is_unspecified() => format!(
                    "{scheme}://127.0.0.1:{port}{path} (and every other IPv4 address of this host)"
                ),
                SocketAddr::V6(v6) if v6.ip().is_unspecified() => format!(
                    "{scheme}://[::1]:{port}{path} (and every other IPv6 address of this host)"
                ),
                address => format!("{scheme}://{address}{path}"),
            }
        };
        let udp = self
            .udp
            .iter()
            .map(|address| url("udp", "/announce", address));
        let http = self
            .http
            .iter()
            .map(|address| url("http", &self.announce_path, address));
        let https = self
            .https
            .iter()
            .map(|address| url("https", &self.announce_path, address));
        udp.chain(http).chain(https).collect()
    }

    /// Says on standard output what is served where, for people and for
    /// programs that started this one on port 0.
    pub fn report(&self) {
        let shards = self.shards;
        let plural = if shards == 1 { "" } else { "s" };
        let mut text = format!(
            "karuta {} serves on {shards} shard{plural}:\n",
            env!("CARGO_PKG_VERSION")
        );
        for url in self.announce_urls() {
            text.push_str(&format!("  {url}\n"));
        }
        for address in &self.metrics_addresses {
            text.push_str(&format!("  metrics at http://{address}/metrics\n"));
        }
        // Nobody has to read it.
        let _ = io::stdout().lock().write_all(text.as_bytes());
    }

    /// Reads the files again that hooks use, as SIGHUP asks for. Returns at
    /// once; what came of it is logged.
    pub fn reread_lists(&self) {
        self.reloader.reread_lists();
    }

    /// Reads the certificate of HTTPS again, as SIGHUP asks for. New connections
    /// get it; what came of it is logged.
    pub fn reread_certificates(&self) {
        self.reloader.reread_certificates();
    }

    /// Applies what can change of another configuration while the tracker
    /// runs; see [`Reloader::reload`].
    ///
    /// # Errors
    /// Why it cannot be applied; then everything stays as it was.
    pub fn reload(&self, config: &Config) -> Result<Report, StartError> {
        self.reloader.reload(config)
    }

    /// What reloads it from another thread.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// What brings walks over all swarms to the shards.
    #[must_use]
    pub fn surveys(&self) -> SurveyDesk {
        self.surveys.clone()
    }

    /// What is known of the state's saves.
    #[must_use]
    pub fn state_stats(&self) -> &StateStats {
        &self.state_stats
    }

    /// What stops it from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// Waits until all shards have ended: after a stop, or because one failed.
    ///
    /// # Errors
    /// The first failure of a shard.
    pub fn wait(self) -> Result<(), StartError> {
        let mut result = Ok(());
        for _ in 0..self.shards {
            match self.ended.recv() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    self.stop.stop();
                    if result.is_ok() {
                        result = Err(StartError(format!("a shard failed: {error}")));
                    }
                }
                Err(_) => break,
            }
        }
        if let Some(keeper) = self.keeper {
            keeper.finish();
        }
        for metrics in self.metrics {
            metrics.stop();
        }
        drop((self.statistics, self.programs));
        self.reloader.close();
        result
    }

    /// Stops it and waits for its end.
    ///
    /// # Errors
    /// The first failure of a shard.
    pub fn stop(self) -> Result<(), StartError> {
        self.stop.stop();
        self.wait()
    }
}

fn bind_metrics(config: &Config) -> Result<Vec<TcpListener>, StartError> {
    let bind = |&address: &SocketAddr| {
        TcpListener::bind(address).map_err(|error| {
            StartError(format!(
                "metrics_addr {address}: {}",
                bind_remedy(&error, address)
            ))
        })
    };
    config.metrics_addr.iter().map(bind).collect()
}

fn start_metrics(
    listeners: Vec<TcpListener>,
    reporter: Reporter,
) -> Result<Vec<WebServer>, StartError> {
    let routes = web::routes(reporter);
    let start = |listener| WebServer::start(listener, routes.clone());
    let servers: io::Result<_> = listeners.into_iter().map(start).collect();
    servers.map_err(|error| out_of("threads", &error))
}

/// What serves opentracker's tools; only over HTTP.
fn start_statistics(
    config: &Config,
    handed_over: &Receiver<HandedOver>,
    sources: Sources,
) -> Result<Option<OpentrackerStats>, StartError> {
    if config.http.is_none() {
        return Ok(None);
    }
    let started = OpentrackerStats::start(handed_over, sources);
    started.map(Some).map_err(|error| out_of("threads", &error))
}

fn out_of(what: &str, error: &io::Error) -> StartError {
    StartError(format!(
        "out of {what} ({error}): raise the process's limits (ulimit -a shows them)"
    ))
}

/// Runs the tracker until it is told to stop by a signal. Other signals have
/// the configuration read again from its source; without one, only lists and
/// certificates.
///
/// # Errors
/// What kept it from starting, or the failure that ended it.
pub fn run(config: &Config, source: Option<ConfigSource>) -> Result<(), StartError> {
    let deaf = |error| StartError(format!("cannot listen for signals: {error}"));
    let signals = HeldSignals::hold().map_err(deaf)?;
    // In reach only until the root directory is given up.
    let manager = Arc::new(ServiceManager::of_environment());
    let tracker = Tracker::start(config)?;
    let stopper = tracker.stopper();
    let orders = Orders::start(tracker.reloader(), source, manager.clone())
        .map_err(|error| out_of("threads", &error))?;
    let told = manager.clone();
    let stop = move || {
        told.stopping();
        stopper.stop();
    };
    let signals = signals
        .listen(stop, move || orders.reload())
        .map_err(deaf)?;
    let attendant = Attendant::start(manager, tracker.stats.clone())
        .map_err(|error| out_of("threads", &error))?;
    tracker.report();
    let result = tracker.wait();
    drop((signals, attendant));
    if result.is_ok() {
        log::info!("stopped");
    }
    result
}
