//! A save that fails halfway holds up nobody: not the shards, whose walks end,
//! not the next save, and not the end of the tracker. What was saved stays whole.

mod support;

use crossbeam_channel::{Receiver, unbounded};
use karuta::bittorrent::{AddressFamily, InfoHash};
use karuta::runtime::clock::Clock;
use karuta::server::Tracker;
use karuta::shard::owner::OwnerMap;
use karuta::shard::stats::ShardStats;
use karuta::shard::survey::{self, PeerView, SurveyDesk, Surveys, Wake};
use karuta::shard::{Shard, ShardSettings};
use karuta::state::{Keeper, KeeperSettings, Place, StateStats, probe, save};
use karuta::swarm::SavedSwarm;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use support::{WATCHDOG, hash, shard_settings};

/// Swarms of one peer: several times what may be ahead of the disk.
const SWARMS: u32 = 40_000;

/// A shard that is driven by the test.
struct Driven {
    shard: Shard,
    surveys: Surveys,
    desk: SurveyDesk,
    rung: Receiver<()>,
}

impl Driven {
    fn new() -> Self {
        let settings = ShardSettings {
            peer_lifetime_seconds: 1800,
            downloads_lifetime_seconds: 3600,
            sweep_seconds: 60,
            ..shard_settings()
        };
        let stats = Arc::new(ShardStats::default());
        let mut shard = Shard::new(0, OwnerMap::new(7, 1), &settings, 5, stats);
        for number in 0..SWARMS {
            let saved = SavedSwarm {
                info_hash: InfoHash(hash(number)),
                downloads: 0,
                empty_seconds: 0,
            };
            let peer = PeerView {
                ip: [192, 0, 2, 1].into(),
                port: 6881,
                is_seeder: true,
                is_paused: false,
                age_seconds: 0,
                peer_id: None,
            };
            shard.restore(10, AddressFamily::V4, &saved, [peer].into_iter());
        }
        let (ring, rung) = unbounded();
        let wake: Wake = Box::new(move || ring.send(()).expect("the test listens"));
        let (desk, mut surveys) = survey::desk([wake]);
        Self {
            shard,
            surveys: surveys.pop().expect("one shard"),
            desk,
            rung,
        }
    }

    /// Runs until there is nothing to do, as a shard before it sleeps.
    fn run(&mut self) {
        while self.surveys.has_work() {
            self.surveys.turn(&mut self.shard, 10);
        }
    }

    fn is_woken(&self) {
        self.rung.recv_timeout(WATCHDOG).expect("it is woken");
    }

    /// Runs until no survey is left.
    fn run_to_the_end(&mut self) {
        self.run();
        while self.surveys.is_busy() {
            self.is_woken();
            self.run();
        }
    }
}

/// Has the next save fail, but not before [`let_it_fail`]: to open a pipe takes
/// until somebody reads, and what is written into one cannot be made shorter.
fn put_a_pipe_in_the_way(folder: &Path) {
    let made = Command::new("mkfifo")
        .arg(folder.join("state.tmp"))
        .status();
    assert!(made.expect("mkfifo").success());
}

fn let_it_fail(folder: &Path) {
    File::open(folder.join("state.tmp")).expect("the pipe");
}

#[test]
fn a_save_that_fails_while_a_shard_waits_for_it_ends_the_walk() {
    let folder = tempfile::tempdir().expect("a folder");
    put_a_pipe_in_the_way(folder.path());
    let place = Place::open(&folder.path().join("state")).expect("a folder");
    let mut driven = Driven::new();
    let desk = driven.desk.clone();
    let saver = thread::spawn(move || save(&desk, &place, false, 1));
    driven.is_woken();
    driven.run();
    assert!(driven.surveys.is_busy(), "it waits for the disk");
    let_it_fail(folder.path());
    saver.join().expect("no panic").expect_err("a pipe");
    driven.run_to_the_end();
}

#[test]
fn a_last_save_that_fails_lets_the_shard_end() {
    let folder = tempfile::tempdir().expect("a folder");
    put_a_pipe_in_the_way(folder.path());
    let mut driven = Driven::new();
    let stats = Arc::new(StateStats::default());
    let settings = KeeperSettings {
        place: Place::open(&folder.path().join("state")).expect("a folder"),
        interval: None,
        peer_ids: false,
        clock: Clock::start(),
        stats: stats.clone(),
    };
    let keeper = Keeper::start(settings, &driven.desk).expect("a thread");
    driven.surveys.begin_last();
    driven.run();
    assert!(driven.surveys.is_busy(), "it waits for the disk");
    let_it_fail(folder.path());
    driven.run_to_the_end();
    keeper.finish();
    assert_eq!(stats.save_failures(), 1);
}

/// A tracker that starts looks whether it could save just when the one before
/// it puts its last save in place.
#[test]
fn who_looks_whether_it_can_save_never_harms_what_was_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    std::fs::write(&path, "whole").expect("write");
    let place = Place::open(&path).expect("a folder");
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                // May be refused.
                let _ = probe(&place);
            }
        });
        for _ in 0..3_000 {
            if let Ok(mut replacement) = place.begin() {
                replacement.file.write_all(b"whole").expect("write");
                let committed = replacement.commit();
                let now = std::fs::read(&path);
                if committed.is_err() || now.as_deref().ok() != Some(b"whole") {
                    is_done.store(true, Ordering::Relaxed);
                    panic!("{committed:?}, then {now:?}");
                }
            }
        }
        is_done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_leftover_that_others_may_read_does_not_make_the_state_readable() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let leftover = folder.path().join("state.tmp");
    std::fs::write(&leftover, "left over").expect("write");
    std::fs::set_permissions(&leftover, Permissions::from_mode(0o666)).expect("its owner");
    let place = Place::open(&path).expect("a folder");
    place.begin().expect("free").commit().expect("commit");
    let mode = std::fs::metadata(&path).expect("it is there").mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// It may be good: a tracker that started without it would replace it.
#[test]
fn a_state_that_cannot_be_read_stops_the_start_and_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = support::config(1);
    config.state_file = folder.path().join("state");
    // Nobody can read it as a file, not even root.
    std::fs::create_dir(&config.state_file).expect("a folder");
    let error = Tracker::start(&config).err().expect("no start").to_string();
    assert!(error.contains("cannot be read"), "{error}");
    assert!(
        error.contains("make it readable, or move it away"),
        "{error}"
    );
    assert!(config.state_file.is_dir());
}
