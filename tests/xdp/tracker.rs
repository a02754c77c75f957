//! A tracker on the server's host, as a process, and what it says of itself.

use super::network::{Host, Network, until};
use crate::support::program::{Folder, Program, program};
use crate::support::{Udp, WATCHDOG, get};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output};

/// Where it listens, unless a test says otherwise.
pub const ADDRESSES: &str = r#"["10.203.0.1:6969", "10.203.0.1:6970", "[fd00:6b61::1]:6969"]"#;

/// How often metrics are asked for until they say something: some seconds.
const MOST_TRIES: usize = 20_000;

/// A configuration with these lines in its section `udp`.
pub fn config(shards: usize, udp: &str) -> String {
    format!(
        "shards: {shards}\nmetrics_addr: 127.0.0.1:0\nhttp: {{addr: '10.203.0.1:6969'}}\nudp:\n{}",
        udp.lines()
            .map(|line| format!("  {}\n", line.trim()))
            .collect::<String>()
    )
}

/// The usual addresses, on the usual interface.
pub fn usual(shards: usize, mode: &str) -> String {
    let keys = format!("addr: {ADDRESSES}\nxdp_interfaces: [xs0]\nxdp_mode: {mode}");
    config(shards, &keys)
}

/// The command that starts the program on a host, by others that become it.
fn on_host(host: &Host, others: &[&str]) -> Command {
    let plain = program();
    let words = others
        .iter()
        .map(AsRef::as_ref)
        .chain([plain.get_program()]);
    let mut command = host.command(words);
    for (name, _) in plain.get_envs() {
        command.env_remove(name);
    }
    command
}

/// A copy of the program that other users can execute.
pub fn copy_for_all(folder: &Folder) -> PathBuf {
    let copy = folder.path().join("karuta");
    std::fs::copy(env!("CARGO_BIN_EXE_karuta"), &copy).expect("a copy");
    folder.open(&copy, 0o755);
    copy
}

/// A tracker that runs.
pub struct Tracker<'n> {
    pub network: &'n Network,
    pub program: Program,
    folder: Folder,
    /// Whether its log was read.
    has_ended: bool,
}

impl<'n> Tracker<'n> {
    pub fn start(network: &'n Network, config: &str) -> Self {
        let folder = Folder::new();
        let file = folder.file("karuta.yaml", config);
        let mut command = on_host(&network.server, &[]);
        let program = Program::start(command.arg("--config").arg(file));
        Self {
            network,
            program,
            folder,
            has_ended: false,
        }
    }

    /// Starts one as nobody, with nothing but these capabilities.
    pub fn start_as_nobody(network: &'n Network, capabilities: &str, config: &str) -> Self {
        let folder = Folder::new();
        let file = folder.file("karuta.yaml", config);
        let copy = copy_for_all(&folder);
        let mut command = network.server.command([
            "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            &format!("--inh-caps=-all,{capabilities}"),
            &format!("--ambient-caps=-all,{capabilities}"),
            "--no-new-privs",
        ]);
        let program = Program::start(command.arg(copy).arg("--config").arg(file));
        Self {
            network,
            program,
            folder,
            has_ended: false,
        }
    }

    /// Starts one that must fail, and is ended if it does not; returns what it
    /// says.
    pub fn fail(network: &Network, config: &str) -> Output {
        let seconds = WATCHDOG.as_secs().to_string();
        let folder = Folder::new();
        let file = folder.file("karuta.yaml", config);
        let mut command = on_host(&network.server, &["timeout", &seconds]);
        let output = command.arg("--config").arg(file).output();
        output.expect("it can be run")
    }

    /// Writes its configuration anew.
    pub fn rewrite(&self, config: &str) -> PathBuf {
        self.folder.file("karuta.yaml", config)
    }

    /// A client of one of its addresses, with a connection id.
    pub fn client(&self, from: IpAddr, to: SocketAddr) -> Udp {
        self.network.client.run(|| Udp::from(from, to))
    }

    pub fn metrics(&self) -> Metrics {
        let address = self.program.metrics;
        let response = self.network.server.run(|| get(address, "/metrics"));
        assert_eq!(response.status, 200);
        Metrics(String::from_utf8(response.body).expect("text"))
    }

    /// Asks for metrics until they say so.
    pub fn reaches<T>(&self, what: &str, expected: T, read: impl Fn(&Metrics) -> T)
    where
        T: PartialEq + std::fmt::Debug,
    {
        let mut last = None;
        let reached = (0..MOST_TRIES).any(|_| {
            last = Some(read(&self.metrics()));
            last.as_ref() == Some(&expected)
        });
        let more = if reached {
            String::new()
        } else {
            self.metrics().udp()
        };
        assert!(reached, "{what}: {last:?} instead of {expected:?}\n{more}");
    }

    /// So many datagrams came in through a listener, and all were answered.
    pub fn counted(&self, listener: &str, count: u64) {
        let read = |metrics: &Metrics| metrics.listener(listener);
        self.reaches(listener, (count, count), read);
    }

    /// No datagram came or went through an ordinary socket.
    pub fn sockets_are_idle(&self) {
        let metrics = self.metrics();
        for name in metrics.listeners() {
            // The others are named as their interfaces.
            if name.contains(':') {
                assert_eq!(metrics.listener(&name), (0, 0), "{name}");
            }
        }
    }

    /// Ends it by a signal; returns its log.
    pub fn end(self, signal: &str) -> String {
        self.program.signal(signal);
        self.ended(if signal == "KILL" { None } else { Some(0) })
    }

    /// Waits for its end with this code; no XDP program may be left behind.
    /// Returns its log.
    pub fn ended(mut self, code: Option<i32>) -> String {
        self.has_ended = true;
        let (status, log) = self.program.end();
        assert_eq!(status.code(), code, "{log}");
        let server = &self.network.server;
        until("its end", || server.attached("xs0").is_none());
        log
    }
}

impl Drop for Tracker<'_> {
    /// When a test fails, it shows what the tracker had to say.
    fn drop(&mut self) {
        if std::thread::panicking() && !self.has_ended {
            self.program.signal("TERM");
            let (status, log) = self.program.end();
            println!("the tracker: {status}\n{log}");
        }
    }
}

/// One answer of the endpoint for metrics.
pub struct Metrics(String);

const DATAGRAMS: &str = "karuta_listener_datagrams_total";

impl Metrics {
    /// Labels and value of each line of a metric.
    fn lines(&self, name: &str) -> impl Iterator<Item = (&str, &str)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?.strip_prefix('{')?;
            rest.rsplit_once("} ")
        })
    }

    /// The sum of a metric over the lines that have all of these labels.
    fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let mut lines = self.lines(name).peekable();
        assert!(lines.peek().is_some(), "no {name}");
        lines
            .filter(|(found, _)| labels.iter().all(|label| found.contains(label)))
            .map(|(_, value)| value.parse::<u64>().expect("a number"))
            .sum()
    }

    /// The names of all listeners.
    fn listeners(&self) -> BTreeSet<String> {
        let names = self.lines(DATAGRAMS).filter_map(|(labels, _)| {
            let (name, _) = labels.strip_prefix("address=\"")?.split_once('"')?;
            Some(name.to_owned())
        });
        names.collect()
    }

    /// Datagrams that the kernel had no room for.
    pub fn overflows(&self, name: &str) -> u64 {
        let label = format!("address=\"{name}\"");
        self.sum("karuta_listener_overflows_total", &[&label])
    }

    /// Datagrams that came and went through a listener.
    pub fn listener(&self, name: &str) -> (u64, u64) {
        let names = self.listeners();
        assert!(names.contains(name), "no {name} among {names:?}");
        let address = format!("address=\"{name}\"");
        let sum = |direction| self.sum(DATAGRAMS, &[&address, direction]);
        (sum("direction=\"in\""), sum("direction=\"out\""))
    }

    /// The lines to read when a number is not as expected.
    fn udp(&self) -> String {
        let lines = self.0.lines().filter(|line| {
            let is_of_udp = line.contains("drops_total{protocol=\"udp\"");
            (is_of_udp || line.starts_with(DATAGRAMS)) && !line.ends_with(" 0")
        });
        lines.collect::<Vec<&str>>().join("\n")
    }

    /// Datagrams dropped for this reason.
    pub fn drops(&self, reason: &str) -> u64 {
        let reason = format!("reason=\"{reason}\"");
        self.sum("karuta_drops_total", &["protocol=\"udp\"", &reason])
    }

    /// Announces over UDP.
    pub fn announces(&self) -> u64 {
        let labels = ["protocol=\"udp\"", "action=\"announce\""];
        self.sum("karuta_requests_total", &labels)
    }

    /// Requests over UDP that a shard handed on to another.
    pub fn crossed(&self) -> u64 {
        self.sum("karuta_cross_shard_requests_total", &["protocol=\"udp\""])
    }

    /// Reloads that went well.
    pub fn reloads(&self) -> u64 {
        self.sum("karuta_reloads_total", &["result=\"ok\""])
    }
}
