//! The servers of a comparison: how each is configured, started and stopped.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::link::{self, Link};
use crate::config::RunConfig;
use crate::report::Report;
use crate::run::{self, RunError};
use crate::workload::{Event, info_hash};
use crate::{cli, connect, packet, sys};

/// How long a server may take to answer; opentracker sorts its list first.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// A server that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    /// The tracker this comparison is about.
    Karuta,
    /// karuta with AF_XDP on the interface of its network namespace.
    KarutaXdp,
    /// aquatic_udp on mio.
    AquaticMio,
    /// aquatic_udp on io_uring.
    AquaticUring,
    /// aquatic_http without TLS.
    AquaticHttp,
    /// Debian's opentracker: one UDP worker, its whitelist.
    Opentracker,
    /// The bare UDP responder.
    Echo,
    /// The bare HTTP responder.
    HttpEcho,
}

impl Server {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Server::Karuta => "karuta",
            Server::KarutaXdp => "karuta, AF_XDP",
            Server::AquaticMio => "aquatic_udp (mio)",
            Server::AquaticUring => "aquatic_udp (io_uring)",
            Server::AquaticHttp => "aquatic_http",
            Server::Opentracker => "opentracker",
            Server::Echo => "bare UDP echo",
            Server::HttpEcho => "bare HTTP responder",
        }
    }

    /// Whether it is no tracker but the limit of the host.
    pub fn is_limit(self) -> bool {
        matches!(self, Server::Echo | Server::HttpEcho)
    }

    fn speaks_udp(self) -> bool {
        !matches!(self, Server::AquaticHttp | Server::HttpEcho)
    }
}

/// Where the programs are, and on which processor they run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// karuta, if it is to be measured.
    pub karuta: Option<PathBuf>,
    /// aquatic_udp with the io_uring feature.
    pub aquatic_udp: PathBuf,
    /// aquatic_http.
    pub aquatic_http: PathBuf,
    /// opentracker.
    pub opentracker: PathBuf,
    /// Directory for configurations and logs.
    pub work: PathBuf,
    /// Processors of the servers, in taskset's notation.
    pub server_cpus: String,
}

/// What differs between the figures.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Shards (karuta only).
    pub shards: usize,
    /// Seconds a peer lives without announcing (karuta only).
    pub peer_lifetime_seconds: u32,
    /// Many requests per HTTP connection.
    pub keep_alive: bool,
    /// Peers per reply of the bare responders.
    pub echo_peers: usize,
    /// Swarms that opentracker's whitelist names.
    pub swarms: u32,
    /// Seed of their info hashes.
    pub seed: u64,
    /// In a network namespace of its own, asked over a veth pair.
    pub veth: bool,
    /// At a real-time priority (SCHED_FIFO): other programs of the host, and
    /// threads of its kernel, wait while the server has work.
    pub real_time: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            shards: 1,
            peer_lifetime_seconds: 7200,
            keep_alive: true,
            echo_peers: 30,
            swarms: 1_000_000,
            seed: 1,
            veth: false,
            real_time: false,
        }
    }
}

/// A running server; ends with the value.
pub struct Running {
    child: Child,
    // Removed once `drop` has ended the child.
    link: Option<Link>,
    /// Address of the tracker, UDP and HTTP.
    pub address: SocketAddr,
    /// Address of karuta's metrics.
    pub metrics: SocketAddr,
}

/// Why a server does not run.
#[derive(Debug)]
pub enum StartError {
    /// Not asked for or not installed.
    Missing(String),
    /// A file could not be written.
    Files(PathBuf, io::Error),
    /// There are no network namespaces to start it in.
    Link(String),
    /// The program could not be started.
    Spawn(PathBuf, io::Error),
    /// It ended or did not answer; with the end of its log.
    Silent(&'static str, String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Missing(what) | StartError::Link(what) => f.write_str(what),
            StartError::Files(path, error) => write!(f, "cannot write {}: {error}", path.display()),
            StartError::Spawn(path, error) => {
                write!(
                    f,
                    "cannot start {} with taskset or chrt (util-linux): {error}",
                    path.display()
                )
            }
            StartError::Silent(name, log) => {
                write!(f, "{name} does not answer; its log ends: {log}")
            }
        }
    }
}

impl Programs {
    /// The program of a server, if it is there.
    pub fn find(&self, server: Server) -> Result<PathBuf, StartError> {
        let (path, option) = match server {
            Server::Karuta | Server::KarutaXdp => match &self.karuta {
                Some(path) => (path.clone(), "--karuta"),
                None => {
                    return Err(StartError::Missing(
                        "karuta: give its path with --karuta".into(),
                    ));
                }
            },
            Server::AquaticMio | Server::AquaticUring => {
                (self.aquatic_udp.clone(), "--aquatic-udp")
            }
            Server::AquaticHttp => (self.aquatic_http.clone(), "--aquatic-http"),
            Server::Opentracker => (self.opentracker.clone(), "--opentracker"),
            Server::Echo | Server::HttpEcho => {
                return std::env::current_exe().map_err(|error| {
                    StartError::Missing(format!("the path of this program is unknown: {error}"))
                });
            }
        };
        if path.components().count() > 1 {
            if path.exists() {
                return Ok(path);
            }
        } else if let Some(found) = std::env::var_os("PATH")
            .into_iter()
            .flat_map(|paths| {
                std::env::split_paths(&paths)
                    .map(|dir| dir.join(&path))
                    .collect::<Vec<_>>()
            })
            .find(|candidate| candidate.exists())
        {
            return Ok(found);
        }
        Err(StartError::Missing(format!(
            "{}: no program {}; install it or give its path with {option}",
            server.name(),
            path.display()
        )))
    }

    /// Starts a server and waits until it answers.
    pub fn start(&self, server: Server, setup: &Setup) -> Result<Running, StartError> {
        let program = self.find(server)?;
        let link = setup.veth.then(Link::new).transpose();
        let link = link.map_err(StartError::Link)?;
        let [address, metrics] = match link {
            Some(_) => [6969, 6970].map(|port| SocketAddr::from((link::SERVER, port))),
            None => [free_address(), free_address()],
        };
        let arguments = self.configure(server, setup, address, metrics)?;
        let log_path = self.work.join(format!("{server:?}.log").to_lowercase());
        let log =
            File::create(&log_path).map_err(|error| StartError::Files(log_path.clone(), error))?;
        let errors = log
            .try_clone()
            .map_err(|error| StartError::Files(log_path.clone(), error))?;
        let prefix = link.as_ref().map(Link::prefix);
        let priority: &[&str] = match setup.real_time {
            true => &["chrt", "--fifo", "1"],
            false => &[],
        };
        let words = prefix.iter().flatten().chain(priority).copied();
        let mut words = words.chain(["taskset", "-c"]);
        let mut command = Command::new(words.next().unwrap_or_default());
        sys::end_with_this_thread(&mut command);
        let child = command
            .args(words)
            .arg(&self.server_cpus)
            .arg(&program)
            .args(arguments)
            .current_dir(&self.work)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| StartError::Spawn(program, error))?;
        let mut running = Running {
            child,
            link,
            address,
            metrics,
        };
        let accepts =
            |running: &Running| running.inside(|| running.accepts(setup)).unwrap_or(false);
        if running.answers(server) && (server != Server::Opentracker || accepts(&running)) {
            return Ok(running);
        }
        Err(StartError::Silent(server.name(), end_of(&log_path)))
    }

    /// Writes the configuration; returns the arguments that name it.
    fn configure(
        &self,
        server: Server,
        setup: &Setup,
        address: SocketAddr,
        metrics: SocketAddr,
    ) -> Result<Vec<String>, StartError> {
        let write = |name: &str, text: String| {
            let path = self.work.join(name);
            fs::write(&path, text).map_err(|error| StartError::Files(path.clone(), error))?;
            Ok(path.display().to_string())
        };
        Ok(match server {
            Server::Karuta => vec![
                "--config".into(),
                write("karuta.yaml", karuta_yaml(setup, address, metrics, ""))?,
            ],
            Server::KarutaXdp => vec![
                "--config".into(),
                write(
                    "karuta-xdp.yaml",
                    karuta_yaml(setup, address, metrics, &karuta_xdp()),
                )?,
            ],
            Server::AquaticMio | Server::AquaticUring => {
                let uring = server == Server::AquaticUring;
                let text = format!(
                    "socket_workers = 1\n[network]\naddress = \"{address}\"\nuse_io_uring = {uring}\n{AQUATIC_CLEANING}"
                );
                vec!["-c".into(), write("aquatic_udp.toml", text)?]
            }
            Server::AquaticHttp => {
                let text = format!(
                    "socket_workers = 1\nswarm_workers = 1\n[network]\naddress = \"{address}\"\nenable_tls = false\nkeep_alive = {}\n{AQUATIC_CLEANING}",
                    setup.keep_alive
                );
                vec!["-c".into(), write("aquatic_http.toml", text)?]
            }
            Server::Opentracker => {
                let list = self.work.join("whitelist");
                cli::write_info_hashes(&list, setup.seed, setup.swarms)
                    .map_err(|error| StartError::Files(list, error))?;
                let text = format!(
                    "listen.udp.workers 1\nlisten.udp {address}\nlisten.tcp {address}\naccess.whitelist whitelist\n\
                     tracker.user nobody\ntracker.rootdir {}\n",
                    self.work.display()
                );
                vec!["-f".into(), write("opentracker.conf", text)?]
            }
            Server::Echo | Server::HttpEcho => {
                let command = match server {
                    Server::Echo => "echo",
                    _ => "http-echo",
                };
                let (address, peers) = (address.to_string(), setup.echo_peers.to_string());
                let mut all = vec![command, &address, "--peers", &peers];
                all.extend(setup.veth.then_some("--allow-remote"));
                all.into_iter().map(String::from).collect()
            }
        })
    }
}

/// Nothing may expire or be cleaned during a measurement.
const AQUATIC_CLEANING: &str =
    "[cleaning]\ntorrent_cleaning_interval = 7200\nmax_peer_age = 7200\n";

/// The configuration; `of_udp` are more lines of its section `udp`.
fn karuta_yaml(setup: &Setup, address: SocketAddr, metrics: SocketAddr, of_udp: &str) -> String {
    format!(
        "shards: {}\nmetrics_addr: \"{metrics}\"\nudp:\n  addr: \"{address}\"\n{of_udp}http:\n  addr: \"{address}\"\n  \
         enable_keepalive: {}\nstorage:\n  name: memory\n  config:\n    peer_lifetime: \"{}s\"\n    gc_interval: \"{}s\"\n",
        setup.shards,
        setup.keep_alive,
        setup.peer_lifetime_seconds,
        (setup.peer_lifetime_seconds / 10).clamp(1, 180),
    )
}

/// AF_XDP in the driver, or none: what another mode does is another figure.
fn karuta_xdp() -> String {
    let interface = link::SERVER_INTERFACE;
    format!("  xdp_interfaces: [\"{interface}\"]\n  xdp_mode: \"driver\"\n")
}

impl Running {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first of the addresses that it is asked from.
    pub fn first_source(&self) -> Ipv4Addr {
        match self.link {
            Some(_) => link::FIRST_CLIENT,
            None => Ipv4Addr::new(127, 0, 0, 2),
        }
    }

    /// Runs a measurement of this server, from where it can be asked.
    pub fn run(&self, config: &RunConfig) -> Result<Report, RunError> {
        self.inside(|| run::run(config, false))
            .unwrap_or_else(|error| Err(RunError::Namespace(error)))
    }

    /// Does something where the server can be asked.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        match &self.link {
            Some(link) => link.inside(work),
            None => Ok(work()),
        }
    }

    /// Waits until an announce is accepted: opentracker answers connects before
    /// it has read its whitelist, and peers that stop whatever the list says.
    /// The announced peer leaves at once.
    fn accepts(&self, setup: &Setup) -> bool {
        let begin = Instant::now();
        let mut announce = [0; packet::ANNOUNCE_LEN];
        packet::prepare_announce(&mut announce, 1);
        while begin.elapsed() < START_PATIENCE {
            let Ok(endpoints) =
                connect::endpoints(self.address, &[None], Duration::from_secs(1), 0)
            else {
                return false;
            };
            for endpoint in endpoints {
                let _ = endpoint.socket.set_nonblocking(false);
                let mut ask = |event| {
                    let fields = packet::Announce {
                        connection_id: endpoint.connection_id,
                        transaction_id: 1,
                        info_hash: info_hash(setup.seed, setup.swarms - 1),
                        peer: 1,
                        seeder: false,
                        event,
                        port: 1,
                    };
                    packet::patch_announce(&mut announce, &fields);
                    let mut reply = [0; 2048];
                    endpoint.socket.send(&announce)?;
                    let len = endpoint.socket.recv(&mut reply)?;
                    let reply = packet::read_reply(&reply[..len], false);
                    io::Result::Ok(matches!(reply, Ok((1, packet::Reply::Announce { .. }))))
                };
                if ask(Event::None).is_ok_and(|is_accepted| is_accepted) {
                    // The answer that matters has come.
                    let _ = ask(Event::Stopped);
                    return true;
                }
            }
            thread::sleep(Duration::from_millis(30));
        }
        false
    }

    fn answers(&mut self, server: Server) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < START_PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return false;
            }
            let patience = Duration::from_millis(300);
            let is_up = || match server.speaks_udp() {
                true => connect::endpoints(self.address, &[None], patience, 0).is_ok(),
                false => TcpStream::connect_timeout(&self.address, patience).is_ok(),
            };
            if self.inside(is_up).unwrap_or(false) {
                return true;
            }
            thread::sleep(Duration::from_millis(30));
        }
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = sys::signal(self.pid(), libc::SIGTERM);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(5) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sum of karuta's metrics whose names speak of cross-shard requests.
pub fn cross_shard(metrics: SocketAddr) -> Option<u64> {
    let mut stream = TcpStream::connect_timeout(&metrics, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {metrics}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let counts: Vec<f64> = text
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains("cross_shard"))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    (!counts.is_empty()).then(|| counts.iter().sum::<f64>() as u64)
}

/// A loopback address whose port was free for UDP and TCP a moment ago.
fn free_address() -> SocketAddr {
    for _ in 0..100 {
        let Ok(tcp) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) else {
            break;
        };
        let Ok(address) = tcp.local_addr() else { break };
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    // Whoever has it then will say so in the server's log.
    SocketAddr::from((Ipv4Addr::LOCALHOST, 6969))
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    match lines.len() {
        0 => "(empty)".into(),
        n => lines[n.saturating_sub(5)..].join(" | "),
    }
}
