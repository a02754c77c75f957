//! Two hosts with a cable between them: network namespaces and a pair of
//! virtual interfaces.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The first cable, at the server's end and at the client's. What the second one
/// has is one more.
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const SERVER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 203, 0, 1));
pub const CLIENT_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 203, 0, 2));
pub const SERVER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x6b61, 0, 0, 0, 0, 0, 1));
pub const CLIENT_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x6b61, 0, 0, 0, 0, 0, 2));

/// How often `ip` is asked until it says something: some seconds.
const MOST_TRIES: usize = 2000;

/// A host: its name space.
#[derive(Debug)]
pub struct Host(String);

impl Host {
    fn new(role: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let host = Self(format!("karuta-{}-{number}-{role}", std::process::id()));
        run(Command::new("ip").args(["netns", "add", &host.0]));
        host.ip("link set lo up");
        host
    }

    /// Does something there, on a thread of its own. Sockets that it opens stay
    /// there.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            let space = File::open(format!("/run/netns/{}", self.0)).expect("a name space");
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(space.as_fd(), kind).expect("only root may");
            act()
        };
        let result = std::thread::scope(|scope| scope.spawn(enter).join());
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// This command, run there.
    pub fn command<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).args(words);
        command
    }

    /// What `ip` says there.
    pub fn ip(&self, words: &str) -> String {
        run(Command::new("ip")
            .args(["-n", &self.0])
            .args(words.split_whitespace()))
    }

    fn address(&self, address: &str, interface: &str) {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {interface} {nodad}"));
    }

    /// How a program of XDP hangs on an interface, as `ip` calls it: `xdp` (in
    /// the driver) or `xdpgeneric`.
    pub fn attached(&self, interface: &str) -> Option<String> {
        let said = self.ip(&format!("-d link show {interface}"));
        let mut words = said.split_whitespace();
        words
            .find(|word| word.starts_with("xdp"))
            .map(str::to_owned)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Both of them.
pub struct Network {
    pub server: Host,
    pub client: Host,
}

impl Network {
    /// Interface `xs0` of the server, 10.203.0.1 and fd00:6b61::1, to interface
    /// `xc0` of the client, 10.203.0.2 and fd00:6b61::2.
    pub fn new() -> Self {
        Self::with_queues(1)
    }

    /// Both ends of the cable have so many queues.
    pub fn with_queues(queues: usize) -> Self {
        let network = Self {
            server: Host::new("server"),
            client: Host::new("client"),
        };
        network.cable(0, queues);
        network
    }

    /// A second cable, from `xs1` to `xc1`: 10.204.0.0/24 and fd00:6b62::/64.
    pub fn second_cable(&self) {
        self.cable(1, 1);
    }

    fn cable(&self, number: u8, queues: usize) {
        let (v4, v6) = (203 + number, 0x6b61 + u16::from(number));
        let [server, client] = [(&self.server, 1), (&self.client, 2)];
        let queues = format!("numrxqueues {queues} numtxqueues {queues}");
        let end = |side: u8| format!("address 02:00:00:00:{side:02x}:{:02x}", number + 1);
        self.server.ip(&format!(
            "link add xs{number} {} {queues} type veth peer name xc{number} netns {} {} {queues}",
            end(0),
            self.client.0,
            end(1),
        ));
        plug(
            [(server, "xs"), (client, "xc")].map(|((host, last), side)| {
                let addresses = [
                    format!("10.{v4}.0.{last}/24"),
                    format!("fd00:{v6:x}::{last}/64"),
                ];
                (host, format!("{side}{number}"), addresses.to_vec())
            }),
        );
    }

    /// A host behind the client's, 10.205.0.2, where the last cable is narrower
    /// than the first one.
    pub fn behind_client(&self, mtu: u32) -> Host {
        let far = Host::new("far");
        let client = &self.client;
        let peer = format!("peer name xf0 netns {}", far.0);
        client.ip(&format!("link add xr0 type veth {peer}"));
        plug(
            [(client, "xr0", 1), (&far, "xf0", 2)].map(|(host, interface, last)| {
                let address = format!("10.205.0.{last}/24");
                (host, interface.to_owned(), vec![address])
            }),
        );
        for (host, interface) in [(client, "xr0"), (&far, "xf0")] {
            host.ip(&format!("link set {interface} mtu {mtu}"));
        }
        far.ip("route add default via 10.205.0.1");
        self.server.ip("route add 10.205.0.0/24 via 10.203.0.2");
        let forward = || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1");
        client.run(forward).expect("only root may");
        far
    }

    /// One more address for the server's first interface.
    pub fn server_address(&self, address: &str) {
        self.server.address(address, "xs0");
    }
}

/// Takes both ends of a cable into use: host, interface and addresses of each.
fn plug(ends: [(&Host, String, Vec<String>); 2]) {
    for (host, interface, addresses) in &ends {
        // Nothing is said on the cable but what a test says.
        host.ip(&format!("link set {interface} addrgenmode none"));
        host.ip(&format!("link set {interface} up"));
        for address in addresses {
            host.address(address, interface);
        }
    }
    for (host, interface, _) in &ends {
        let show = format!("link show {interface}");
        until("the cable", || host.ip(&show).contains("state UP"));
    }
}

/// Asks until it is so.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let held = (0..MOST_TRIES).any(|_| holds());
    assert!(held, "{what} did not come");
}

/// Runs a command that must do well; returns what it said.
pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}
