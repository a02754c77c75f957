//! Real BitTorrent clients exchange a file through the tracker.
//!
//! Each test makes a torrent, starts a seeder and then a leecher, and waits
//! until the leecher says that it is done. The torrent is private (BEP 27),
//! and DHT, PEX and local discovery are off besides: only the tracker can have
//! introduced the two. Clients have addresses of their own on loopback, so
//! that the tracker sees two hosts; `::1` is the only IPv6 address there, so
//! over IPv6 they differ by port alone.
//!
//! The clients are those of Debian (`.ci/run` installs them). What they cannot
//! do: aria2 1.36 speaks to UDP trackers over IPv4 only; Transmission 3.00 uses
//! UDP over IPv6 only on a host with a public IPv6 address, never connects to a
//! loopback peer itself (it accepts connections from there), and over HTTP ends
//! without telling the tracker.

#![allow(
    clippy::disallowed_methods,
    reason = "other programs are waited for, and a watchdog needs a clock"
)]

use karuta::bittorrent::AddressFamily;
use karuta::config::Config;
use karuta::server::Tracker;
use karuta::shard::stats::{Action, Outcome, Protocol};
use std::fmt::Write as _;
use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long a test may take before it fails. They need a few seconds.
const WATCHDOG: Duration = Duration::from_secs(90);

/// How often to look whether something has happened elsewhere.
const LOOK: Duration = Duration::from_millis(50);

/// Long enough for many pieces, and not a multiple of any piece size.
const FILE_BYTES: usize = 3 * 1024 * 1024 + 12_345;

/// Declares one test for each row: name, transport, seeder, leecher.
macro_rules! exchanges {
    ($($name:ident: $protocol:ident over $family:ident, $seeder:ident to $leecher:ident;)*) => {
        $(
            #[test]
            #[ignore = "real clients; run by .ci/run"]
            fn $name() {
                let transport = (Protocol::$protocol, AddressFamily::$family);
                exchange(stringify!($name), transport, Kind::$seeder, Kind::$leecher);
            }
        )*
    };
}

exchanges! {
    aria2_udp_ipv4: Udp over V4, Aria2 to Aria2;
    aria2_http_ipv4: Http over V4, Aria2 to Aria2;
    aria2_http_ipv6: Http over V6, Aria2 to Aria2;
    libtorrent_udp_ipv4: Udp over V4, Libtorrent to Libtorrent;
    libtorrent_udp_ipv6: Udp over V6, Libtorrent to Libtorrent;
    libtorrent_http_ipv4: Http over V4, Libtorrent to Libtorrent;
    libtorrent_http_ipv6: Http over V6, Libtorrent to Libtorrent;
    transmission_to_libtorrent_udp_ipv4: Udp over V4, Transmission to Libtorrent;
    transmission_to_libtorrent_http_ipv4: Http over V4, Transmission to Libtorrent;
    transmission_to_libtorrent_http_ipv6: Http over V6, Transmission to Libtorrent;
    libtorrent_to_transmission_udp_ipv4: Udp over V4, Libtorrent to Transmission;
    libtorrent_to_transmission_http_ipv4: Http over V4, Libtorrent to Transmission;
    libtorrent_to_transmission_http_ipv6: Http over V6, Libtorrent to Transmission;
}

/// What a transport is: how announces travel.
type Transport = (Protocol, AddressFamily);

fn exchange(name: &str, transport: Transport, seeder: Kind, leecher: Kind) {
    let deadline = Instant::now() + WATCHDOG;
    let (protocol, family) = transport;
    let place = Place::new(name);
    let tracker = start_tracker(family);
    let content = place.write_content();
    let info_hash = place.make_torrent(&announce_url(&tracker, protocol));
    let swarm = || scrape(&tracker, &info_hash);

    let [seeder_ip, leecher_ip] = addresses(family);
    let mut seeding = seeder.start(&place, "seeder", seeder_ip);
    seeding.wait_until(deadline, "the seeder is in the swarm", |client| {
        if seeder == Kind::Transmission && client.has_ended() {
            // Between checking the file and seeding it the torrent is stopped
            // for a moment. Should Transmission look just then, it ends.
            *client = seeder.start(&place, "seeder", seeder_ip);
        }
        swarm() == [1, 0, 0]
    });

    let mut leeching = leecher.start(&place, "leecher", leecher_ip);
    if leecher == Kind::Transmission {
        // It will not connect to a loopback address: the seeder has to, and
        // learns of it by asking the tracker again.
        leeching.wait_until(deadline, "the leecher is in the swarm", |_| {
            swarm() == [1, 0, 1]
        });
        seeding.write_line();
    }
    leeching.wait_until(deadline, "the leecher has the file", |client| {
        leecher.is_complete(client)
    });
    leeching.wait_until(deadline, "the tracker has counted the download", |_| {
        let [complete, downloaded, incomplete] = swarm();
        downloaded == 1 && complete >= 1 && incomplete == 0
    });
    assert!(
        place.read_download() == content,
        "the downloaded file differs from the seeded one"
    );

    leeching.stop(deadline);
    if leecher != Kind::Transmission || protocol == Protocol::Udp {
        leeching.wait_until(deadline, "the leecher has left the swarm", |_| {
            swarm() == [1, 1, 0]
        });
    }
    seeding.stop(deadline);
    check_counters(&tracker, transport);
    tracker.stop().expect("the tracker stops cleanly");
}

/// Every announce came over the transport under test, and was answered.
fn check_counters(tracker: &Tracker, transport: Transport) {
    for protocol in Protocol::ALL {
        for family in AddressFamily::ALL {
            let sum = |outcome| -> u64 {
                let shards = tracker.stats.iter();
                let replies =
                    shards.map(|stats| stats.replies(protocol, Action::Announce, family, outcome));
                replies.map(|counter| counter.get()).sum()
            };
            let answered = sum(Outcome::Ok);
            if (protocol, family) == transport {
                // Seeder: started. Leecher: started, completed.
                assert!(
                    answered >= 3,
                    "only {answered} announces over {protocol:?} {family:?}"
                );
            } else {
                assert_eq!(answered, 0, "announces over {protocol:?} {family:?}");
            }
            assert_eq!(
                sum(Outcome::Error),
                0,
                "refused announces over {protocol:?} {family:?}"
            );
        }
    }
}

fn start_tracker(family: AddressFamily) -> Tracker {
    let own = SocketAddr::new(tracker_address(family), 0);
    let mut config = Config::default();
    config.metrics_addr.clear();
    config.shards = 2;
    config.udp.as_mut().expect("on by default").addr = vec![own];
    config.http.as_mut().expect("on by default").addr = vec![own];
    Tracker::start(&config).expect("the tracker starts")
}

fn announce_url(tracker: &Tracker, protocol: Protocol) -> String {
    match protocol {
        Protocol::Udp => format!("udp://{}/announce", tracker.udp[0]),
        Protocol::Http => format!("http://{}/announce", tracker.http[0]),
    }
}

fn tracker_address(family: AddressFamily) -> IpAddr {
    match family {
        AddressFamily::V4 => IpAddr::from([127, 0, 0, 1]),
        AddressFamily::V6 => IpAddr::from(Ipv6Addr::LOCALHOST),
    }
}

/// The addresses of the seeder and the leecher.
fn addresses(family: AddressFamily) -> [IpAddr; 2] {
    match family {
        AddressFamily::V4 => ["127.0.0.2", "127.0.0.3"],
        AddressFamily::V6 => ["::1", "::1"],
    }
    .map(|address| address.parse().expect("an address"))
}

/// What the tracker says of a swarm: complete, downloaded, incomplete.
fn scrape(tracker: &Tracker, info_hash: &str) -> [u64; 3] {
    let mut stream = TcpStream::connect(tracker.http[0]).expect("connect to the tracker");
    // A tracker that does not answer is to fail the test, not to hang it.
    let limit = stream.set_read_timeout(Some(Duration::from_secs(20)));
    limit.expect("set a time limit");
    let mut query = String::new();
    for at in (0..info_hash.len()).step_by(2) {
        write!(query, "%{}", &info_hash[at..at + 2]).expect("write to a string");
    }
    let request = format!("GET /scrape?info_hash={query} HTTP/1.1\r\nHost: tracker\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("send");
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).expect("receive");
    // The info hash is the only binary part, and no digits follow these keys in it.
    let reply = String::from_utf8_lossy(&reply).into_owned();
    ["8:completei", "10:downloadedi", "10:incompletei"].map(|key| {
        let (_, value) = reply
            .rsplit_once(key)
            .unwrap_or_else(|| panic!("no {key} in {reply}"));
        let (number, _) = value.split_once('e').expect("an integer ends with e");
        number.parse().expect("a number")
    })
}

/// A program that takes part.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Aria2,
    Libtorrent,
    Transmission,
}

impl Kind {
    /// Starts it; a seeder checks the file that it finds before it seeds.
    fn start(self, place: &Place, role: &str, address: IpAddr) -> Client {
        let directory = place.0.join(role);
        let torrent = place.torrent();
        let address = address.to_string();
        let command = match self {
            Self::Aria2 => aria2(place, &directory, &torrent, &address, role),
            Self::Libtorrent => {
                let mut command = place.command("/usr/bin/python3");
                let script = scripts().join("libtorrent_client.py");
                command
                    .arg(script)
                    .args([&torrent, &directory])
                    .arg(&address);
                command
            }
            Self::Transmission => transmission(place, &directory, &torrent, &address, role),
        };
        Client::start(command, role)
    }

    /// Whether a leecher has said that it has everything.
    fn is_complete(self, client: &mut Client) -> bool {
        match self {
            // It ends with 0 when it is complete and need seed no longer.
            Self::Aria2 => match client.child.try_wait().expect("its state") {
                Some(status) if !status.success() => client.fail(&format!("ended: {status}")),
                status => status.is_some(),
            },
            Self::Libtorrent => client.log.lines().any(|line| line == "complete"),
            Self::Transmission => client.log.lines().any(|line| line.starts_with("Seeding")),
        }
    }
}

fn aria2(place: &Place, directory: &Path, torrent: &Path, address: &str, role: &str) -> Command {
    let mut command = place.command("aria2c");
    // UDP trackers work in aria2 only while its DHT runs. It has no entry
    // point here, and is not used for private torrents.
    let dht_file = directory.join("dht.dat");
    command
        .args(["--no-conf", "--enable-color=false", "--summary-interval=0"])
        .args(["--enable-dht=true", "--enable-dht6=false"])
        .args(["--enable-peer-exchange=false", "--bt-enable-lpd=false"])
        .arg("--file-allocation=none")
        .arg(format!("--dht-file-path={}", dht_file.display()))
        .arg(format!("--interface={address}"))
        // It tries these in random order until one is free.
        .args(["--listen-port=20000-29999", "--dht-listen-port=20000-29999"])
        .arg("--dir")
        .arg(directory);
    match role {
        "seeder" => command.args(["--check-integrity=true", "--seed-ratio=0.0"]),
        // Minutes. With 0 it may end before it has announced that it is complete.
        _ => command.arg("--seed-time=0.05"),
    };
    command.arg(torrent);
    command
}

fn transmission(
    place: &Place,
    directory: &Path,
    torrent: &Path,
    address: &str,
    role: &str,
) -> Command {
    // It cannot choose a free port itself.
    let probe = TcpListener::bind((address, 0)).expect("a free port");
    let port = probe.local_addr().expect("its address").port();
    let family = if address.contains(':') { 6 } else { 4 };
    let settings = format!(
        r#"{{"bind-address-ipv{family}": "{address}", "peer-port": {port}, "dht-enabled": false,
        "pex-enabled": false, "lpd-enabled": false, "port-forwarding-enabled": false}}"#
    );
    let config = place.0.join(format!("{role}-config"));
    std::fs::create_dir_all(&config).expect("make a directory");
    std::fs::write(config.join("settings.json"), settings).expect("write settings");
    let mut command = place.command("stdbuf");
    // Into a pipe it would speak only every 4096 bytes.
    command.args(["--output=0", "transmission-cli"]);
    // Not "-v" for a seeder: a new torrent is checked anyway, and to check it
    // twice is to be stopped for a moment twice.
    command.arg("-g").arg(config).arg("-w").arg(directory);
    command.arg(torrent);
    command
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_clients")
}

/// The directory of one test: a torrent, and a directory for each client.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if root.exists() {
            std::fs::remove_dir_all(&root).expect("remove what an earlier run left");
        }
        for role in ["seeder", "leecher"] {
            std::fs::create_dir_all(root.join(role)).expect("make a directory");
        }
        Self(root)
    }

    fn torrent(&self) -> PathBuf {
        self.0.join("file.torrent")
    }

    /// Bytes without a pattern, so that no piece equals another.
    fn write_content(&self) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let content: Vec<u8> = (0..FILE_BYTES)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        std::fs::write(self.0.join("seeder/file"), &content).expect("write the file");
        content
    }

    fn read_download(&self) -> Vec<u8> {
        std::fs::read(self.0.join("leecher/file")).expect("read the download")
    }

    /// Makes the torrent; returns the info hash in hex.
    fn make_torrent(&self, url: &str) -> String {
        let output = self
            .command("/usr/bin/python3")
            .arg(scripts().join("torrent.py"))
            .arg(self.0.join("seeder/file"))
            .arg(url)
            .arg(self.torrent())
            .stderr(Stdio::inherit())
            .output()
            .expect("run python3 (.ci/run installs what the tests need)");
        assert!(output.status.success(), "torrent.py: {}", output.status);
        let info_hash = String::from_utf8(output.stdout).expect("text");
        info_hash.trim().to_owned()
    }

    /// A command that ends with the thread that starts it, and sees nothing
    /// of this user's settings or proxies.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", program])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.0)
            .env("LC_ALL", "C.UTF-8")
            .current_dir(&self.0);
        command
    }
}

/// A client that runs, and all that it has said. Killed when dropped.
struct Client {
    role: String,
    child: Child,
    stdin: Option<ChildStdin>,
    said: Receiver<String>,
    log: String,
}

impl Client {
    fn start(mut command: Command, role: &str) -> Self {
        let spawned = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child =
            spawned.unwrap_or_else(|error| panic!("cannot start the {role} {command:?}: {error}"));
        let (sender, said) = channel();
        forward(child.stdout.take().expect("piped"), sender.clone());
        forward(child.stderr.take().expect("piped"), sender);
        Self {
            role: role.to_owned(),
            stdin: child.stdin.take(),
            child,
            said,
            log: String::new(),
        }
    }

    /// Waits for something to become true, looking whenever the client says
    /// something and twenty times a second.
    fn wait_until(
        &mut self,
        deadline: Instant,
        what: &str,
        mut is_true: impl FnMut(&mut Self) -> bool,
    ) {
        while !is_true(self) {
            match self.said.recv_timeout(LOOK) {
                Ok(text) => self.log.push_str(&text),
                Err(RecvTimeoutError::Timeout) => {}
                // It has ended; the condition may still become true.
                Err(RecvTimeoutError::Disconnected) => std::thread::park_timeout(LOOK),
            }
            if Instant::now() > deadline {
                self.fail(&format!("waited in vain until {what}"));
            }
        }
    }

    /// Sends an empty line.
    fn write_line(&mut self) {
        let stdin = self.stdin.as_mut().expect("open until stop");
        stdin.write_all(b"\n").expect("the client reads");
    }

    /// Asks it to end, the way each of them understands, and waits for it.
    fn stop(&mut self, deadline: Instant) {
        self.stdin = None;
        if !self.has_ended() {
            let id = self.child.id().to_string();
            let killed = Command::new("kill").args(["-INT", &id]).status();
            assert!(killed.expect("run kill").success(), "kill -INT {id}");
        }
        self.wait_until(deadline, "it ends", Self::has_ended);
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_some()
    }

    fn fail(&mut self, what: &str) -> ! {
        self.log.extend(self.said.try_iter());
        panic!("{}: {what}. It said:\n{}", self.role, self.log);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes on what a client says, with every line ended by a line feed.
fn forward(stream: impl Read + Send + 'static, sender: Sender<String>) {
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..count]).replace('\r', "\n");
            if sender.send(text).is_err() {
                break;
            }
        }
    });
}
