//! State that outlives the process: what a tracker that ran has saved comes
//! back, and nothing is lost when a save or a file fails. The files themselves
//! are tested in `state_file.rs`.

#[path = "properties/mod.rs"]
mod properties;
mod support;

use karuta::bittorrent::{AddressFamily, InfoHash, PeerId};
use karuta::config::Config;
use karuta::shard::survey::{Survey, SurveyDesk, SwarmView};
use karuta::state::{Place, load, probe, statedump};
use properties::state_file::shards;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use support::{Announce, COMPLETED, STOPPED, Server, Udp, WATCHDOG, config, hash};

const V4: AddressFamily = AddressFamily::V4;
const V6: AddressFamily = AddressFamily::V6;

/// Before anything was saved: nobody has aged by then.
const LONG_AGO: u64 = 1_000_000;

/// A folder of this test's own, and a configuration whose state lies there.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path("karuta.state")
    }

    fn config(&self, shards: usize) -> Config {
        let mut config = config(shards);
        config.state_file = self.state();
        config.storage.config.downloads_lifetime = Duration::from_secs(3600);
        config
    }
}

type Members = BTreeMap<(usize, [u8; 20]), Vec<(SocketAddr, bool, Option<PeerId>)>>;

/// Collects every peer of a tracker.
struct Roll(Members, Sender<Members>);

impl Survey for Roll {
    fn swarm(&mut self, swarm: &SwarmView<'_>) {
        let key = (swarm.family.index(), swarm.info_hash.0);
        let members = self.0.entry(key).or_default();
        members.extend(swarm.peers().map(|peer| {
            let address = SocketAddr::new(peer.ip, peer.port);
            (address, peer.is_seeder, peer.peer_id)
        }));
    }

    fn more_peers(&mut self, swarm: &SwarmView<'_>) {
        self.swarm(swarm);
    }

    fn finish(self: Box<Self>) {
        self.1.send(self.0).expect("the test listens");
    }
}

fn roll(desk: &SurveyDesk) -> Members {
    let (sender, receiver) = channel();
    desk.send(|_| Box::new(Roll(Members::new(), sender.clone())))
        .expect("room");
    let mut all = Members::new();
    for _ in 0..desk.shards() {
        all.extend(receiver.recv_timeout(WATCHDOG).expect("an end"));
    }
    for members in all.values_mut() {
        members.sort_unstable_by_key(|(address, ..)| *address);
    }
    all
}

fn client(server: &Server, family: AddressFamily) -> Udp {
    Udp::new(server.udp(family))
}

#[test]
fn everything_survives_a_stop_and_a_start_with_other_shards() {
    for peer_ids in [false, true] {
        let home = Home::new();
        let with = |shards| {
            let mut config = home.config(shards);
            config.storage.config.peer_ids = peer_ids;
            Server::start(&config)
        };
        let server = with(3);
        for family in [V4, V6] {
            let mut client = client(&server, family);
            for number in 0..60 {
                client.announce(&Announce::seeder(hash(number), 1000));
                client.announce(&Announce::leecher(hash(number), 2000));
                let done = Announce::seeder(hash(number), 2000).event(COMPLETED);
                client.announce(&done);
            }
            // A swarm of several parts, and one that is empty by now.
            for port in 1..=1500 {
                client.announce(&Announce::leecher(hash(500), port).want(0));
            }
            client.announce(&Announce::seeder(hash(501), 9).event(COMPLETED));
            client.announce(&Announce::seeder(hash(501), 9).event(STOPPED));
        }
        let before = roll(&server.surveys());
        assert_eq!(
            before.values().map(Vec::len).sum::<usize>(),
            2 * (120 + 1500)
        );
        drop(server);
        for shards in [2, 1, 4] {
            let server = with(shards);
            assert!(roll(&server.surveys()) == before, "{shards} shards");
            let mut client = client(&server, V6);
            let scraped = client.scrape(&[hash(0), hash(500), hash(501), hash(502)]);
            assert_eq!(scraped, [(2, 1, 0), (0, 0, 1500), (0, 1, 0), (0, 0, 0)]);
        }
    }
}

#[test]
fn a_foreign_file_is_set_aside_and_the_tracker_starts_empty() {
    let home = Home::new();
    fs::write(home.state(), "a letter to somebody").expect("write");
    let server = Server::start(&home.config(2));
    assert!(roll(&server.surveys()).is_empty());
    let aside = fs::read(home.path("karuta.state.bad")).expect("it is kept");
    assert_eq!(aside, b"a letter to somebody");
    client(&server, V4).announce(&Announce::seeder(hash(1), 1));
    drop(server);
    let server = Server::start(&home.config(2));
    assert_eq!(roll(&server.surveys()).len(), 1);
}

#[test]
fn nothing_of_a_torn_file_is_kept() {
    let home = Home::new();
    let server = Server::start(&home.config(1));
    let mut announcer = client(&server, V4);
    for number in 0..3000 {
        announcer.announce(&Announce::seeder(hash(number), 1).want(0));
    }
    drop(server);
    let whole = fs::read(home.state()).expect("saved");
    assert!(whole.len() > 100_000, "several blocks: {}", whole.len());
    fs::write(home.state(), &whole[..whole.len() - 1]).expect("write");
    let server = Server::start(&home.config(1));
    assert!(roll(&server.surveys()).is_empty());
}

#[test]
fn the_state_is_saved_while_announces_go_on() {
    let home = Home::new();
    let mut config = home.config(2);
    config.state_interval = Duration::from_millis(10);
    let server = Server::start(&config);
    let mut client = client(&server, V4);
    let mut number = 0;
    // As long as it takes, but for ever only if nothing is saved.
    while number < 50 || server.state_stats().last_saved_unix_seconds() == 0 {
        client.announce(&Announce::seeder(hash(number % 500), 1).want(0));
        number += 1;
    }
    let bytes = fs::read(home.state()).expect("saved");
    let mut shards = shards(2, 0);
    load(&bytes[..], &mut shards, 10, LONG_AGO).expect("a whole file");
    drop(server);
    let server = Server::start(&home.config(1));
    assert_eq!(roll(&server.surveys()).len(), number.min(500) as usize);
}

#[test]
fn a_reload_can_have_it_saved_more_often() {
    let home = Home::new();
    let mut config = home.config(2);
    let server = Server::start(&config);
    let mut client = client(&server, V4);
    client.announce(&Announce::seeder(hash(1), 1));
    assert_eq!(server.state_stats().last_saved_unix_seconds(), 0);
    config.state_interval = Duration::from_millis(10);
    let report = server.reload(&config).expect("a good configuration");
    assert_eq!(report.changed, ["state_interval"]);
    while server.state_stats().last_saved_unix_seconds() == 0 {
        client.announce(&Announce::seeder(hash(1), 1));
    }
}

#[test]
fn what_a_killed_save_left_is_no_matter() {
    let home = Home::new();
    let server = Server::start(&home.config(2));
    client(&server, V4).announce(&Announce::seeder(hash(1), 1));
    drop(server);
    let saved = fs::read(home.state()).expect("saved");
    fs::write(home.path("karuta.state.tmp"), &saved[..40]).expect("write");
    let server = Server::start(&home.config(2));
    assert_eq!(roll(&server.surveys()).len(), 1);
    client(&server, V4).announce(&Announce::seeder(hash(2), 1));
    drop(server);
    let server = Server::start(&home.config(2));
    assert_eq!(roll(&server.surveys()).len(), 2);
    assert!(!home.path("karuta.state.tmp").exists());
}

#[test]
fn a_save_that_fails_is_counted_and_the_old_file_stays() {
    let home = Home::new();
    let server = Server::start(&home.config(1));
    client(&server, V4).announce(&Announce::seeder(hash(1), 1));
    drop(server);
    let saved = fs::read(home.state()).expect("saved");
    let mut config = home.config(2);
    config.state_interval = Duration::from_millis(10);
    let server = Server::start(&config);
    // Nothing can be written there, whoever tries.
    let in_the_way = home.path("karuta.state.tmp");
    while fs::create_dir(&in_the_way).is_err() {}
    let mut client = client(&server, V4);
    while server.state_stats().save_failures() < 2 {
        client.announce(&Announce::seeder(hash(2), 1));
    }
    let now = fs::read(home.state()).expect("it is there");
    drop(server);
    assert_eq!(fs::read(home.state()).expect("it is there"), now);
    let mut shards = shards(2, 0);
    load(&now[..], &mut shards, 10, LONG_AGO).expect("a whole file");
    assert!(now.len() >= saved.len());
}

#[test]
fn a_place_that_cannot_be_written_is_told_at_the_start() {
    let home = Home::new();
    let mut config = home.config(1);
    config.state_file = home.path("nowhere/karuta.state");
    let error = karuta::server::Tracker::start(&config).err().expect("no");
    let text = error.to_string();
    assert!(text.contains("nowhere/karuta.state"), "{text}");
    assert!(
        text.contains("directory that karuta may write to"),
        "{text}"
    );
}

#[test]
fn two_trackers_do_not_write_one_file() {
    let home = Home::new();
    let place = Place::open(&home.state()).expect("a folder");
    let first = place.begin().expect("free");
    let second = probe(&place).expect_err("taken");
    assert_eq!(second.kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    probe(&place).expect("free again");
}

#[test]
fn a_replacement_that_is_given_up_changes_nothing() {
    let home = Home::new();
    fs::write(home.state(), "old").expect("write");
    let place = Place::open(&home.state()).expect("a folder");
    let mut replacement = place.begin().expect("free");
    replacement.file.write_all(b"half").expect("write");
    drop(replacement);
    assert_eq!(fs::read(home.state()).expect("old"), b"old");
    let mut replacement = place.begin().expect("free");
    replacement.file.write_all(b"new").expect("write");
    replacement.commit().expect("commit");
    assert_eq!(fs::read(home.state()).expect("new"), b"new");
    let names = fs::read_dir(home.folder.path()).expect("folder").count();
    assert_eq!(names, 1, "nothing else is left");
}

/// Collects the lines of a statedump.
struct Dump(Vec<u8>, Sender<Vec<u8>>);

impl Survey for Dump {
    fn swarm(&mut self, swarm: &SwarmView<'_>) {
        if let Some(line) = statedump::Line::of(swarm, 30_000_000) {
            line.write(&mut self.0);
        }
    }

    fn wants_peers(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>) {
        self.1.send(self.0).expect("the test listens");
    }
}

#[test]
fn a_tracker_imports_what_it_dumps() {
    let home = Home::new();
    let server = Server::start(&home.config(2));
    for family in [V4, V6] {
        let mut client = client(&server, family);
        client.announce(&Announce::seeder(hash(1), 1).event(COMPLETED));
        client.announce(&Announce::seeder(hash(1), 2).event(COMPLETED));
    }
    client(&server, V6).announce(&Announce::seeder(hash(2), 1).event(COMPLETED));
    let (sender, receiver) = channel();
    let desk = server.surveys();
    desk.send(|_| Box::new(Dump(Vec::new(), sender.clone())))
        .expect("room");
    let parts = (0..2).map(|_| receiver.recv_timeout(WATCHDOG).expect("an end"));
    let text = String::from_utf8(parts.collect::<Vec<_>>().concat()).expect("text");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let hex = |number| InfoHash(hash(number)).to_string().to_uppercase();
    let mut expected = vec![
        format!("{}:30000000:4", hex(1)),
        format!("{}:30000000:1", hex(2)),
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
    drop(server);

    let mut config = home.config(3);
    config.state_file = PathBuf::new();
    config.opentracker_state_file = home.path("dump");
    fs::write(home.path("dump"), text).expect("write");
    let server = Server::start(&config);
    let scraped = client(&server, V4).scrape(&[hash(1), hash(2)]);
    assert_eq!(scraped, [(0, 4, 0), (0, 1, 0)]);
    drop(server);

    fs::remove_file(home.path("dump")).expect("remove");
    let error = karuta::server::Tracker::start(&config).err().expect("no");
    assert!(
        error.to_string().contains("opentracker_state_file"),
        "{error}"
    );
}

#[test]
fn a_save_that_hangs_does_not_keep_a_second_signal_from_ending_it() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let home = Home::new();
    let text = format!(
        "shards: 1\nmetrics_addr: ''\nudp: {{addr: 127.0.0.1:0}}\nstate_file: {}\n",
        home.state().display()
    );
    fs::write(home.path("karuta.yaml"), text).expect("write");
    let mut child = Command::new(env!("CARGO_BIN_EXE_karuta"))
        .arg("--config")
        .arg(home.path("karuta.yaml"))
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut said = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let mut log = BufReader::new(child.stderr.take().expect("stderr")).lines();
    while !said
        .next()
        .expect("it runs")
        .expect("text")
        .contains("udp://")
    {}
    // To open a pipe that nobody reads takes for ever.
    let made = Command::new("mkfifo")
        .arg(home.path("karuta.state.tmp"))
        .status();
    assert!(made.expect("mkfifo").success());
    let signal = |child: &std::process::Child| {
        let sent = Command::new("kill").arg(child.id().to_string()).status();
        assert!(sent.expect("kill").success());
    };
    signal(&child);
    while !log
        .next()
        .expect("it runs")
        .expect("text")
        .contains("once more")
    {}
    signal(&child);
    while !log
        .next()
        .expect("it runs")
        .expect("text")
        .contains("ending at once")
    {}
    assert_eq!(child.wait().expect("its end").code(), Some(1));
    assert!(!Path::new(&home.state()).exists());
}
