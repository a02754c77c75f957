//! The figures of UDP announces: greatest rates, and processor time at a fixed
//! rate, on loopback and between two network namespaces.

use std::time::Duration;

use super::Bench;
use crate::compare::servers::{Running, Server, Setup};
use crate::compare::tables::{Figure, Mean};
use crate::compare::{FigureName, record};
use crate::config::{Pace, RunConfig};

/// All UDP trackers and the limit, the limit last: it answers with as many
/// peers as karuta did before it.
const SERVERS: [Server; 5] = [
    Server::Karuta,
    Server::AquaticMio,
    Server::AquaticUring,
    Server::Opentracker,
    Server::Echo,
];

/// The same where AF_XDP has a network device to receive from; the first is
/// what the others are held against.
const VETH_SERVERS: [Server; 6] = [
    Server::KarutaXdp,
    Server::Karuta,
    Server::AquaticUring,
    Server::AquaticMio,
    Server::Opentracker,
    Server::Echo,
];

/// Rate of the figures for processor time, requests per second.
const FIXED_RATE: f64 = 50_000.0;

/// Two figures of the same servers under the same load.
#[derive(Debug, PartialEq)]
pub struct UdpPair {
    /// The greatest rate.
    pub rate: FigureName,
    /// Processor time at a fixed rate.
    pub cost: FigureName,
    rate_id: &'static str,
    rate_title: &'static str,
    cost_id: &'static str,
    cost_title: &'static str,
    servers: &'static [Server],
    /// Each server in a network namespace of its own instead of on loopback.
    veth: bool,
}

static PAIRS: [UdpPair; 2] = [
    UdpPair {
        rate: FigureName::UdpThroughput,
        cost: FigureName::UdpCpu,
        rate_id: "udp-throughput",
        rate_title: "UDP announces per second, one core, 2 M peers skewed over 1 M info hashes",
        cost_id: "udp-cpu",
        cost_title: "Server processor time per UDP announce at 50,000/s",
        servers: &SERVERS,
        veth: false,
    },
    UdpPair {
        rate: FigureName::UdpVeth,
        cost: FigureName::UdpVethCpu,
        rate_id: "udp-veth",
        rate_title: "UDP announces per second over veth, 2 M peers skewed over 1 M info hashes",
        cost_id: "udp-veth-cpu",
        cost_title: "Server processor time per UDP announce over veth at 50,000/s",
        servers: &VETH_SERVERS,
        veth: true,
    },
];

impl UdpPair {
    /// The pair that a figure belongs to.
    pub fn with(name: FigureName) -> Option<&'static UdpPair> {
        PAIRS
            .iter()
            .find(|pair| pair.rate == name || pair.cost == name)
    }
}

impl Bench<'_> {
    /// Greatest rate and processor time at a fixed rate, as far as wanted, once
    /// every peer is known: a tracker is in that state from its first interval
    /// on.
    pub(super) fn udp(&mut self, pair: &UdpPair, wanted: &[FigureName]) -> Vec<Figure> {
        let mut rates = wanted
            .contains(&pair.rate)
            .then(|| Figure::new(pair.rate_id, pair.rate_title, "announces/s", false));
        let mut costs = wanted
            .contains(&pair.cost)
            .then(|| Figure::new(pair.cost_id, pair.cost_title, "µs per announce", true));
        let (peers, swarms) = (2_000_000, 1_000_000);
        let setup = Setup {
            veth: pair.veth,
            ..self.setup(swarms)
        };
        let mut figures: Vec<&mut Figure> = rates.iter_mut().chain(&mut costs).collect();
        let loaded = self.load(&mut figures, pair.servers, &setup, (peers, swarms));
        for round in 0..self.args.runs {
            for (server, running) in &loaded {
                self.say(pair.rate_id, server.name(), round);
                let config = self.reannounce(running, peers, swarms);
                if let Some(rates) = &mut rates {
                    let best = greatest_rate(rates, *server, running, &config);
                    if *server == Server::Karuta && !pair.veth && best > self.best_rate {
                        self.best_rate = best;
                    }
                }
                if let Some(costs) = &mut costs {
                    cost(costs, *server, running, config);
                }
            }
        }
        rates.into_iter().chain(costs).collect()
    }

    /// Greatest rate with many peers loaded.
    pub(super) fn udp_loaded(&mut self) -> Figure {
        let mut figure = Figure::new(
            "udp-loaded",
            "UDP announces per second, one core, 10 M peers in 2 M swarms loaded",
            "announces/s",
            false,
        );
        let (peers, swarms) = (10_000_000, 2_000_000);
        let setup = self.setup(swarms);
        let loaded = self.load(&mut [&mut figure], &SERVERS, &setup, (peers, swarms));
        for round in 0..self.args.runs {
            for (server, running) in &loaded {
                self.say("udp loaded", server.name(), round);
                let config = self.reannounce(running, peers, swarms);
                greatest_rate(&mut figure, *server, running, &config);
            }
        }
        figure
    }

    /// All these servers with the same peers loaded, in skewed swarms. Those not
    /// being measured sleep, with nothing to clean.
    fn load(
        &self,
        figures: &mut [&mut Figure],
        servers: &[Server],
        setup: &Setup,
        (peers, swarms): (u32, u32),
    ) -> Vec<(Server, Running)> {
        let mut loaded: Vec<(Server, Running)> = Vec::new();
        let mut mean = Mean::default();
        for &server in servers {
            self.say("loading", server.name(), 0);
            let setup = Setup {
                echo_peers: mean.rounded(30),
                ..setup.clone()
            };
            let started = self.start_filled(server, &setup, peers, swarms);
            let note = match &started {
                Ok((_, rate)) => rate.map(|rate| format!("filled at {:.0} k/s", rate / 1e3)),
                Err(why) => Some(why.clone()),
            };
            for figure in &mut *figures {
                let row = figure.row(server.name(), server.is_limit());
                note.iter().for_each(|note| row.note(note));
            }
            let Ok((running, _)) = started else {
                continue;
            };
            if self.sizes_echo(server) {
                // The size of the echo's replies: a short look at what it hands out.
                let look = RunConfig {
                    duration: Duration::from_millis(500),
                    ..self.reannounce(&running, peers, swarms)
                };
                if let Ok(report) = running.run(&look) {
                    mean.add(report.peers_per_reply);
                }
            }
            loaded.push((server, running));
        }
        loaded
    }
}

/// One run in a closed loop; its rate.
fn greatest_rate(
    figure: &mut Figure,
    server: Server,
    running: &Running,
    config: &RunConfig,
) -> Option<f64> {
    let row = figure.row(server.name(), server.is_limit());
    let report = record::record(row, running.run(config), |r| Some(r.replies_per_second))?;
    row.detail = Some(format!("{:.1} peers per reply", report.peers_per_reply));
    record::note_generator(row, &report);
    Some(report.replies_per_second)
}

/// One run at the fixed rate; the server's processor time.
fn cost(figure: &mut Figure, server: Server, running: &Running, config: RunConfig) {
    let config = RunConfig {
        pace: Pace::Rate(FIXED_RATE),
        warm_up: Duration::from_millis(300),
        ..config
    };
    let row = figure.row(server.name(), server.is_limit());
    if let Some(report) = record::record(row, running.run(&config), record::cpu_per_reply) {
        row.detail = Some(format!("p99.9 {:.0} µs", report.latency.p999_us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tables::ORDER;

    #[test]
    fn a_pair_has_both_of_its_figures() {
        for pair in &PAIRS {
            assert_eq!(UdpPair::with(pair.rate), Some(pair));
            assert_eq!(UdpPair::with(pair.cost), Some(pair));
            for id in [pair.rate_id, pair.cost_id] {
                assert!(ORDER.contains(&id), "{id} has no place in the table");
            }
        }
        assert_eq!(UdpPair::with(FigureName::UdpLoaded), None);
    }
}
