//! Brings the shards to life: where they run, what joins them, their threads.

use super::settings::Settings;
use super::sockets::Sockets;
use super::xdp::Frames;
use super::{StartError, out_of};
use crate::config::Config;
use crate::frontend::desk::Desk;
use crate::frontend::http::HttpFrontend;
use crate::frontend::udp::UdpFrontend;
use crate::frontend::update::ShardUpdate;
use crate::frontend::worker::{Stop, TICK, Worker};
use crate::hook::Plan;
use crate::runtime::clock::Clock;
use crate::runtime::executor::{self, Place};
use crate::runtime::mailbox::Mailbox;
use crate::runtime::mesh::{self, Bell, Port};
use crate::runtime::reactor::Reactor;
use crate::shard::Shard;
use crate::shard::exchange::Exchange;
use crate::shard::owner::OwnerMap;
use crate::shard::survey::{self, SurveyDesk, Surveys, Wake};
use crate::sys;
use crossbeam_channel::{Receiver, Sender, unbounded};
use rustls::ServerConfig;
use std::io;
use std::sync::Arc;

/// How many shards there are and where they run.
pub(super) struct Cores {
    /// How many.
    pub shards: usize,
    allowed: Vec<usize>,
    realtime_priority: u8,
}

impl Cores {
    /// As many shards as were asked for; with 0 one for each core that the
    /// process may use.
    ///
    /// # Errors
    /// More shards than can be, or, with a real-time priority, than cores.
    pub fn find(config: &Config) -> Result<Self, StartError> {
        let asked = config.shards;
        let allowed = sys::cpu::allowed().unwrap_or_default();
        let usable = sys::cpu::quota().map_or(allowed.len(), |quota| quota.min(allowed.len()));
        let shards = if asked == 0 { usable.max(1) } else { asked };
        if shards > OwnerMap::MAX_SHARDS {
            return Err(StartError(format!(
                "shards: {shards} is more than {}",
                OwnerMap::MAX_SHARDS
            )));
        }
        let cores = allowed.len();
        if config.realtime_priority > 0 && cores > 0 && shards > cores {
            return Err(StartError(format!(
                "realtime_priority: {shards} shards on {cores} cores would keep each other from \
                 running; lower shards to {cores}, or remove realtime_priority"
            )));
        }
        Ok(Self {
            shards,
            allowed,
            realtime_priority: config.realtime_priority,
        })
    }

    /// Where a shard runs; with more shards than cores they take turns.
    fn place(&self, shard: usize) -> Place {
        let at = shard.checked_rem(self.allowed.len());
        Place {
            cpu: at.and_then(|at| self.allowed.get(at).copied()),
            realtime_priority: self.realtime_priority,
        }
    }
}

/// What joins the shards with each other and with the control.
pub(super) struct Links {
    /// What wakes each shard.
    pub bells: Vec<Arc<Bell>>,
    /// What stops them all.
    pub stop: Arc<Stop>,
    /// What brings walks over their swarms to them.
    pub surveys: SurveyDesk,
    /// Each shard's ends.
    ends: Vec<(Port<Box<Exchange>>, Surveys)>,
}

impl Links {
    /// Links for so many shards.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new(shards: usize) -> Result<Self, StartError> {
        let bell = |_| Bell::new().map(Arc::new);
        let bells = (0..shards).map(bell).collect::<io::Result<Vec<_>>>();
        let bells = bells.map_err(|error| out_of("event descriptors", &error))?;
        let (surveys, ends) = survey::desk(bells.iter().cloned().map(|bell| -> Wake {
            Box::new(move || {
                bell.ring();
            })
        }));
        let ports = mesh::mesh(&bells, mesh::lane_length(shards));
        Ok(Self {
            stop: Arc::new(Stop::new(bells.clone())),
            surveys,
            ends: ports.into_iter().zip(ends).collect(),
            bells,
        })
    }
}

/// What the shards are started with.
pub(super) struct Start<'a> {
    /// Where they run.
    pub cores: &'a Cores,
    /// What joins them.
    pub links: &'a mut Links,
    /// What they listen on; taken by each.
    pub sockets: &'a mut Sockets,
    /// The queues of network interfaces that they serve; taken by each.
    pub frames: &'a mut Frames,
    /// What they are set to.
    pub settings: &'a Settings,
    /// Who they are over HTTPS.
    pub tls: Option<&'a Arc<ServerConfig>>,
    /// What they ask before they answer.
    pub hooks: &'a Plan,
    /// The tracker's clock.
    pub clock: Clock,
}

/// Shards that run.
pub(super) struct Running {
    /// Where updates are left for each.
    pub mailboxes: Vec<Arc<Mailbox<ShardUpdate>>>,
    /// Brings one result from each that ends.
    pub ended: Receiver<io::Result<()>>,
}

impl Start<'_> {
    /// Starts a thread for each of these shards, which are in their order.
    ///
    /// # Errors
    /// When the process is out of threads or descriptors.
    pub fn all(self, shards: Vec<Shard>) -> Result<Running, StartError> {
        let (ending, ended) = unbounded();
        let lane_length = mesh::lane_length(shards.len());
        let mut mailboxes = Vec::new();
        let ends = std::mem::take(&mut self.links.ends);
        for (mut shard, (port, surveys)) in shards.into_iter().zip(ends) {
            let id = shard.id();
            let reactor = Reactor::new(self.links.bells[id].clone(), TICK)
                .map_err(|error| out_of("file descriptors", &error))?;
            let stats = shard.stats().clone();
            shard.swap_hooks(&mut self.hooks.shard(id));
            let mailbox = Mailbox::new();
            mailboxes.push(mailbox.clone());
            let worker = Worker {
                shard,
                udp: self.settings.udp.clone().map(|settings| {
                    UdpFrontend::new(settings, self.sockets.take_udp(id), stats.clone())
                        .with_frames(self.frames.take(id))
                }),
                http: self.settings.http.clone().map(|settings| {
                    let listeners = self.sockets.take_http(id, self.tls);
                    HttpFrontend::new(settings, listeners, stats.clone())
                }),
                desk: Desk::new(id, port, lane_length),
                surveys,
                reactor,
                clock: self.clock,
                stop: self.links.stop.clone(),
                mailbox,
                pass_nanoseconds: 0,
            };
            start(worker, self.cores.place(id), ending.clone())?;
        }
        Ok(Running { mailboxes, ended })
    }
}

fn start(worker: Worker, place: Place, ending: Sender<io::Result<()>>) -> Result<(), StartError> {
    let id = worker.shard.id();
    executor::spawn(&format!("shard-{id}"), place, move || async move {
        let mailbox = worker.mailbox.clone();
        let result = worker.run().await;
        mailbox.close();
        // Nobody listens any more when the tracker itself was dropped.
        let _ = ending.send(result);
    })
    .map(drop)
    .map_err(|error| StartError(format!("cannot start shard {id}: {error}")))
}
