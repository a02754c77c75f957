//! Reload: from another configuration to what shards take while they run, and
//! to a report of what changed and what needs a restart.
//!
//! ```text
//! signal -> orders (one at a time, more are one) -> read the file -> compare with what runs
//!   -> settings and hooks, made here -> a mailbox for each shard -> what runs now
//! ```
//!
//! Everything that can fail comes before the first shard is told anything, so a
//! reload happens as a whole or not at all, unless the tracker stops meanwhile.
//! It runs on a thread of its own: neither shards nor signals wait for it.
//!
//! Which key takes what is in `keys`; how a shard takes it is its frontends'
//! matter.

use super::StartError;
use super::https::Https;
use super::keys::{self, Report};
use super::settings::Settings;
use super::state;
use crate::config::{Config, HookConfig};
use crate::control::background::Background;
use crate::control::reloads::Reloads;
use crate::control::service_manager::ServiceManager;
use crate::frontend::http::handover::HandedOver;
use crate::frontend::update::ShardUpdate;
use crate::hook::Plan;
use crate::runtime::clock::Clock;
use crate::runtime::mailbox::Mailbox;
use crate::runtime::mesh::Bell;
use crate::state::IntervalSetter;
use crossbeam_channel::{Sender, bounded};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a reload waits for one shard to take what is new; it does so in
/// its next turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the configuration came from, and how to read it again.
pub struct ConfigSource {
    /// As messages call it: the file.
    pub name: String,
    /// Reads it. What is wrong is told with its place, a line for each.
    pub read: Box<dyn Fn() -> Result<Config, String> + Send>,
}

impl fmt::Debug for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConfigSource").field(&self.name).finish()
    }
}

/// Changes a running tracker. Clones change the same.
#[derive(Clone)]
pub struct Reloader(Arc<Parts>);

/// What a reload works with.
pub(super) struct Parts {
    /// What runs: the configuration as it took effect. Locked for the whole of
    /// a reload, so there is one at a time.
    pub running: Mutex<Config>,
    /// What the hooks have done beside the shards; `None` once the tracker has
    /// ended.
    pub background: Mutex<Option<Background>>,
    /// What HTTPS has beside the shards, if it is on.
    pub https: Mutex<Option<Https>>,
    pub mailboxes: Vec<Arc<Mailbox<ShardUpdate>>>,
    /// In the order of the mailboxes.
    pub bells: Vec<Arc<Bell>>,
    pub seeds: ReloadSeeds,
    pub reloads: Arc<Reloads>,
    pub clock: Clock,
    /// The way to what serves statistics.
    pub statistics_lane: Sender<HandedOver>,
    /// Where the state is saved, if it is.
    pub state_intervals: Option<IntervalSetter>,
}

/// What was drawn at the start and stays.
#[derive(Clone, Copy)]
pub(super) struct ReloadSeeds {
    pub hooks: u64,
    /// For connection ids without a `private_key`.
    pub connection_key: [u8; 16],
}

impl Reloader {
    pub(super) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Applies what can change of another configuration, reads lists and
    /// certificates again, and returns once all shards work by it. What cannot
    /// change stays as it is and is named in the report.
    ///
    /// # Errors
    /// Why it cannot be applied; then everything stays as it was.
    pub fn reload(&self, config: &Config) -> Result<Report, StartError> {
        let result = self.try_reload(config);
        match &result {
            Ok(_) => self.0.reloads.succeeded_at(self.0.clock.now().unix_seconds),
            Err(_) => self.0.reloads.failed(),
        }
        result
    }

    /// Reads the configuration again and applies it; without one, only lists
    /// and certificates. What came of it is logged.
    pub fn reload_from(&self, source: Option<&ConfigSource>) {
        let Some(ConfigSource { name, read }) = source else {
            self.reread_lists();
            self.reread_certificates();
            self.0.reloads.succeeded_at(self.0.clock.now().unix_seconds);
            log::info!("lists are read again; there is no configuration file to read");
            return;
        };
        let config = match read() {
            Ok(config) => config,
            Err(problems) => {
                self.0.reloads.failed();
                for problem in problems.lines() {
                    log::error!("{problem}");
                }
                log::error!("{name} was not reloaded, and nothing has changed: see above");
                return;
            }
        };
        for notice in config.notices() {
            log::info!("{notice}");
        }
        for warning in config.warnings() {
            log::warn!("{warning}");
        }
        match self.reload(&config) {
            Ok(report) => report.log(name),
            Err(error) => {
                log::error!("{name}: {error}");
                log::error!("{name} was not reloaded, and nothing has changed: see above");
            }
        }
    }

    /// Reads the files again that hooks use. Returns at once; what came of it
    /// is logged.
    pub fn reread_lists(&self) {
        if let Some(background) = &*lock(&self.0.background) {
            background.reread();
        }
    }

    /// Ends what is done beside the shards.
    pub(super) fn close(&self) {
        let background = lock(&self.0.background).take();
        drop(background);
        let https = lock(&self.0.https).take();
        drop(https);
    }

    /// Reads the certificate of HTTPS and its key again. New connections get
    /// them; what came of it is logged.
    pub fn reread_certificates(&self) {
        if let Some(https) = &*lock(&self.0.https) {
            https.reread();
        }
    }

    fn try_reload(&self, config: &Config) -> Result<Report, StartError> {
        let mut running = lock(&self.0.running);
        let mut next = config.clone();
        let report = keys::settle(&running, &mut next);
        let settings = Settings::new(&next, self.0.seeds.connection_key, &self.0.statistics_lane)?;
        // Hooks that stay the same keep what they know of clients.
        let hooks_change = report.changed.iter().any(|key| key.ends_with("hooks"));
        let (plan, background) = match hooks_change {
            false => (None, None),
            true => {
                let lists = (next.prehooks.as_slice(), next.posthooks.as_slice());
                let shards = self.0.mailboxes.len();
                let (plan, background) = start_hooks(lists, shards, self.0.seeds.hooks)?;
                (Some(plan), Some(background))
            }
        };
        let certificate = Https::prepare(&running, &next)?;
        self.tell_shards(&settings, plan.as_ref())?;
        // Only if it changed: the time until the next save begins anew.
        if report.changed.contains(&"state_interval")
            && let Some(intervals) = &self.0.state_intervals
        {
            intervals.set(state::interval(&next));
        }
        match background {
            Some(background) => self.replace(background),
            // Other hooks have just read theirs.
            None => self.reread_lists(),
        }
        match (certificate, &*lock(&self.0.https)) {
            (Some(certificate), Some(https)) => https.install(certificate),
            (_, Some(https)) => https.reread(),
            _ => {}
        }
        *running = next;
        Ok(report)
    }

    /// Gives every shard what is new, and waits until it has it.
    ///
    /// # Errors
    /// When there is a shard that has ended: the tracker stops, and it does not
    /// matter any more what the others work by.
    fn tell_shards(&self, settings: &Settings, plan: Option<&Plan>) -> Result<(), StartError> {
        let boxes = self.0.mailboxes.iter().zip(&self.0.bells);
        for (id, (mailbox, bell)) in boxes.enumerate() {
            mailbox.put(ShardUpdate {
                hooks: plan.map(|plan| plan.shard(id)),
                shard: settings.shard,
                udp: settings.udp.clone(),
                http: settings.http.clone(),
            });
            bell.ring();
        }
        for mailbox in &self.0.mailboxes {
            if !mailbox.wait(PATIENCE) {
                log::warn!("a shard takes long to take its new settings");
            }
        }
        match self.0.mailboxes.iter().any(|mailbox| mailbox.is_closed()) {
            true => Err(StartError("the tracker has stopped".to_owned())),
            false => Ok(()),
        }
    }

    /// Puts other background work in the place of what runs; shards feed the
    /// old one no more.
    fn replace(&self, new: Background) {
        let old = match &mut *lock(&self.0.background) {
            Some(current) => std::mem::replace(current, new),
            // The tracker has ended meanwhile.
            None => new,
        };
        drop(old);
    }
}

impl Report {
    /// Says what came of it.
    fn log(&self, name: &str) {
        match self.changed.as_slice() {
            [] => log::info!("{name} is reloaded: no setting has changed, lists are read again"),
            changed => log::info!("{name} is reloaded: changed {}", changed.join(", ")),
        }
        if self.changed.contains(&"udp.private_key") {
            log::info!(
                "udp.private_key has changed: connection ids of the old key are refused, so \
                 clients connect anew"
            );
        }
        if !self.restart.is_empty() {
            log::warn!(
                "{name}: only a restart changes {}: left as at the start",
                self.restart.join(", ")
            );
        }
    }
}

/// Starts the hooks of these lists.
pub(super) fn start_hooks(
    (prehooks, posthooks): (&[HookConfig], &[HookConfig]),
    shards: usize,
    seed: u64,
) -> Result<(Plan, Background), StartError> {
    let (plan, services) = Plan::new(prehooks, posthooks, shards, seed)
        .map_err(|error| StartError(error.to_string()))?;
    let background = Background::start(services)
        .map_err(|error| super::out_of("threads or file descriptors", &error))?;
    Ok((plan, background))
}

/// Orders reloads of a thread that carries them out.
pub(super) struct Orders(Sender<()>);

impl Orders {
    /// Starts the thread. It ends after the orders are dropped; nobody waits
    /// for that, since it may be reading a long list. The service manager is
    /// told when a reload begins and ends.
    pub fn start(
        reloader: Reloader,
        source: Option<ConfigSource>,
        manager: Arc<ServiceManager>,
    ) -> io::Result<Self> {
        let (orders, ordered) = bounded(1);
        thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || {
                while ordered.recv().is_ok() {
                    manager.reloading();
                    reloader.reload_from(source.as_ref());
                    manager.ready();
                }
            })?;
        Ok(Self(orders))
    }

    /// Orders a reload and returns at once. One that waits for its turn has
    /// not read anything yet, and serves for this order too.
    pub fn reload(&self) {
        let _ = self.0.try_send(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Tracker;
    use std::sync::mpsc;

    #[test]
    fn orders_during_a_reload_become_one_and_the_end_waits_for_none() {
        let text = "shards: 1\nmetrics_addr: ''\nudp: {addr: 127.0.0.1:0}";
        let config = Config::parse(text, "f").expect("valid");
        let tracker = Tracker::start(&config).expect("starts");
        let (begins, began) = mpsc::channel();
        let (allow, allowed) = mpsc::channel::<()>();
        let source = ConfigSource {
            name: "f".to_owned(),
            read: Box::new(move || {
                begins.send(()).expect("heard");
                let _ = allowed.recv();
                Err("f: not now".to_owned())
            }),
        };
        let orders = Orders::start(
            tracker.reloader(),
            Some(source),
            Arc::new(ServiceManager::none()),
        )
        .expect("starts");
        orders.reload();
        began.recv().expect("the first");
        for _ in 0..100 {
            orders.reload();
        }
        tracker.reread_lists();
        allow.send(()).expect("waiting");
        began.recv().expect("one more for all others");
        // It ends although a reload reads for ever.
        tracker.stop().expect("stops");
        drop(orders);
        drop(allow);
        assert!(began.recv().is_err(), "no third");
    }
}
