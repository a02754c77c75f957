//! AF_XDP at the start: the program on each interface of `udp.xdp_interfaces`,
//! and a socket on each of its queues.
//!
//! Owns the sockets until the shards take theirs, and the programs as long as
//! the tracker runs. Called by the server only.

use super::StartError;
use crate::bittorrent::AddressFamily;
use crate::config::{UdpConfig, XdpMode};
use crate::frontend::udp::FrameQueue;
use crate::protocol::frame::filter::{self, TARGET_BYTES};
use crate::protocol::frame::{ETHERNET_BYTES, IPV4_HEADERS, IPV6_HEADERS};
use crate::sys::xdp::bpf::{Link, Map, Program};
use crate::sys::xdp::interface::Interface;
use crate::sys::xdp::socket;
use rustix::time::Timespec;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

/// How often something that is taken is tried again, and after what pause: for
/// a second in all.
const BUSY_ATTEMPTS: usize = 100;
const BUSY_PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

/// What takes frames off the interfaces.
#[derive(Default)]
pub(super) struct Frames {
    /// The interfaces, which are listeners after those of the sockets.
    pub names: Vec<String>,
    /// The queues of each shard.
    queues: Vec<Vec<FrameQueue>>,
    links: Vec<Link>,
}

/// The programs on the interfaces, which they leave when this is dropped.
pub(super) struct Programs(#[expect(dead_code, reason = "they live as long as this")] Vec<Link>);

impl Frames {
    /// Opens what is configured; `addresses` are those that the sockets are
    /// bound to. Until this returns, and where it fails, every datagram goes to
    /// those.
    ///
    /// # Errors
    /// What stands in the way, with the remedy.
    pub fn open(
        udp: &UdpConfig,
        addresses: &[SocketAddr],
        shards: usize,
    ) -> Result<Self, StartError> {
        let mut frames = Self {
            queues: (0..shards).map(|_| Vec::new()).collect(),
            ..Self::default()
        };
        let mut next = 0;
        for name in &udp.xdp_interfaces {
            let failed = |why: String| StartError(format!("udp.xdp_interfaces: {name}: {why}"));
            let interface = Interface::find(name).map_err(|error| failed(not_found(&error)))?;
            check_packet_bytes(udp, name, interface.mtu)?;
            let (link, sockets) = attach(udp, name, addresses, &interface).map_err(&failed)?;
            frames.links.push(link);
            let (queues, all) = (interface.queues, interface.receive_queues);
            if queues < all {
                log::warn!(
                    "udp: {name} has {all} queues to receive and {queues} to send: datagrams that \
                     come by the others are served by the sockets (`ethtool -L {name}` sets both)"
                );
            }
            for queue in 0..interface.queues {
                let (receiver, sender) = patiently(|| socket::open(interface.index, queue))
                    .and_then(|(receiver, sender)| {
                        sockets.set_socket(queue, &receiver)?;
                        Ok((receiver, sender))
                    })
                    .map_err(|error| failed(format!("queue {queue}: {}", no_socket(&error))))?;
                if let Some(queues) = frames.queues.get_mut(next % shards) {
                    queues.push(FrameQueue {
                        listener: addresses.len() + frames.names.len(),
                        mtu: interface.mtu,
                        receiver,
                        sender,
                    });
                }
                next += 1;
            }
            frames.names.push(name.clone());
        }
        Ok(frames)
    }

    /// The queues of this shard.
    pub fn take(&mut self, shard: usize) -> Vec<FrameQueue> {
        let queues = self.queues.get_mut(shard);
        queues.map(std::mem::take).unwrap_or_default()
    }

    /// The programs, once the shards have their queues.
    pub fn into_programs(self) -> Programs {
        Programs(self.links)
    }
}

/// Has the kernel pick the tracker's frames on an interface; also returns the
/// map of the sockets that they go to.
fn attach(
    udp: &UdpConfig,
    name: &str,
    addresses: &[SocketAddr],
    interface: &Interface,
) -> Result<(Link, Map), String> {
    let targets = targets(addresses, interface);
    if targets.is_empty() {
        return Err(
            "it has none of the addresses of udp.addr (`ip addr` lists what it has)".to_owned(),
        );
    }
    let prepare = || -> io::Result<(Program, Map)> {
        let table = Map::table(TARGET_BYTES, targets.len())?;
        for target in &targets {
            table.set(target, 1)?;
        }
        let sockets = Map::sockets(interface.queues as usize)?;
        let [of_table, of_sockets] = [&table, &sockets].map(|map| map.as_fd().as_raw_fd());
        let instructions = filter::program(interface.ethernet, of_table, of_sockets);
        Ok((Program::load(&instructions)?, sockets))
    };
    let (program, sockets) = prepare().map_err(|error| no_program(&error))?;
    let in_driver = match udp.xdp_mode {
        XdpMode::Driver if interface.is_bond => {
            return Err(
                "it is a bond, whose frames reach AF_XDP only with udp.xdp_mode: generic (or \
                 auto)"
                    .to_owned(),
            );
        }
        XdpMode::Generic => None,
        // Its parts would run the program, and their frames are not its own.
        XdpMode::Auto if interface.is_bond => None,
        XdpMode::Driver | XdpMode::Auto => {
            Some(patiently(|| program.attach(interface.index, true)))
        }
    };
    let queues = interface.queues;
    match in_driver {
        Some(Ok(link)) => {
            log::info!("udp: {name} by AF_XDP in its driver, {queues} queue(s)");
            Ok((link, sockets))
        }
        Some(Err(error)) if udp.xdp_mode == XdpMode::Driver || is_final(&error) => {
            Err(not_attached(name, &error))
        }
        _ => {
            let link = patiently(|| program.attach(interface.index, false));
            let link = link.map_err(|error| not_attached(name, &error))?;
            log::info!("udp: {name} by AF_XDP in front of the network stack, {queues} queue(s)");
            Ok((link, sockets))
        }
    }
}

/// Tries again while something is taken: when a process ends, the kernel takes
/// its programs and sockets off an interface a moment later, and a tracker that
/// is restarted must not fail for that.
fn patiently<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..BUSY_ATTEMPTS {
        match open() {
            Err(error) if is_busy(&error) => {
                // Interrupted by a signal: as good.
                let _ = rustix::thread::nanosleep(&BUSY_PAUSE);
            }
            result => return result,
        }
    }
    open()
}

fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
}

/// The addresses whose datagrams are the tracker's on this interface.
fn targets(addresses: &[SocketAddr], interface: &Interface) -> Vec<[u8; TARGET_BYTES]> {
    let mut targets = Vec::new();
    for address in addresses {
        if address.ip().is_unspecified() {
            let family = AddressFamily::of(&address.ip());
            let own = interface.addresses.iter();
            let own = own.filter(|ip| AddressFamily::of(ip) == family);
            targets.extend(own.map(|&ip| filter::target_key((ip, address.port()).into())));
        } else if !address.ip().is_loopback() && !interface.vlan_addresses.contains(&address.ip()) {
            targets.push(filter::target_key(*address));
        }
    }
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// Replies must fit into one frame: nobody cuts them into fragments here.
fn check_packet_bytes(udp: &UdpConfig, name: &str, mtu: usize) -> Result<(), StartError> {
    let room = mtu.min(socket::FRAME_BYTES - ETHERNET_BYTES);
    for (key, bytes, headers) in [
        ("ipv4", udp.max_packet_bytes_ipv4, IPV4_HEADERS),
        ("ipv6", udp.max_packet_bytes_ipv6, IPV6_HEADERS),
    ] {
        let most = room.saturating_sub(headers - ETHERNET_BYTES);
        if bytes > most {
            return Err(StartError(format!(
                "udp.max_packet_bytes_{key}: {bytes} do not fit into a frame of {name} (MTU {mtu}), \
                 as udp.xdp_interfaces needs: at most {most}"
            )));
        }
    }
    Ok(())
}

fn not_found(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no interface of this name (`ip link` lists them)".to_owned()
        }
        io::ErrorKind::Unsupported => {
            "it is no Ethernet interface; leave it out, its datagrams are served all the same"
                .to_owned()
        }
        _ => format!("cannot ask the kernel about it: {error}"),
    }
}

const PRIVILEGES: &str = "AF_XDP needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF at the start: start \
                          karuta as root (with user set, it becomes that user then), or see \
                          docs/operation.md, \"AF_XDP\"";

fn no_program(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => PRIVILEGES.to_owned(),
        Some(libc::ENOSYS | libc::EINVAL) => {
            format!("this kernel takes no XDP program ({error}); Linux 5.9 or newer does")
        }
        _ => format!("cannot load the XDP program: {error}"),
    }
}

/// Whether no other way of attaching can work.
fn is_final(error: &io::Error) -> bool {
    is_busy(error) || matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

/// Whether the driver is what does not go along.
fn is_for_want_of_xdp(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EOPNOTSUPP
                | libc::EINVAL
                | libc::ERANGE
                | libc::E2BIG
                | libc::ENOMEM
                | libc::ENOSPC
                | libc::ENODEV
        )
    )
}

fn not_attached(name: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => PRIVILEGES.to_owned(),
        _ if is_busy(error) => format!(
            "another XDP program is attached to it, perhaps of another karuta (`ip link show {name}` \
             names it): stop that first"
        ),
        _ if is_for_want_of_xdp(error) => format!(
            "its driver takes no XDP program ({error}; some do with a smaller MTU or \
             fewer queues): set udp.xdp_mode \
             to generic, or leave the interface out"
        ),
        _ => format!("cannot attach the XDP program: {error}"),
    }
}

fn no_socket(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => PRIVILEGES.to_owned(),
        Some(libc::EBUSY) => {
            "another program has an AF_XDP socket on it: stop that first".to_owned()
        }
        Some(libc::ENOMEM | libc::ENOBUFS) => format!(
            "no memory for frames ({error}): raise the limit on locked memory (ulimit -l, or \
             LimitMEMLOCK= in the systemd unit) by 11 MB for each queue"
        ),
        Some(libc::EAFNOSUPPORT) => {
            "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS); leave out udp.xdp_interfaces"
                .to_owned()
        }
        _ => format!("cannot open an AF_XDP socket: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn interface(addresses: &[&str]) -> Interface {
        let addresses = addresses
            .iter()
            .map(|text| text.parse().expect("an address"));
        Interface {
            index: 7,
            ethernet: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            queues: 1,
            receive_queues: 1,
            addresses: addresses.collect(),
            vlan_addresses: vec![IpAddr::from([203, 0, 113, 1])],
            is_bond: false,
        }
    }

    #[test]
    fn wildcards_stand_for_the_addresses_of_the_interface() {
        let interface = interface(&["192.0.2.1", "192.0.2.2", "fe80::1", "2001:db8::1"]);
        for (listening, expected) in [
            (&["0.0.0.0:1"][..], &["192.0.2.1:1", "192.0.2.2:1"][..]),
            (&["[::]:1"], &["[2001:db8::1]:1", "[fe80::1]:1"]),
            (
                &["192.0.2.2:1", "0.0.0.0:1"],
                &["192.0.2.1:1", "192.0.2.2:1"],
            ),
            // Another interface's: its datagrams may arrive here all the same.
            (
                &["198.51.100.1:1", "192.0.2.1:2"],
                &["192.0.2.1:2", "198.51.100.1:1"],
            ),
            // The card may have taken the tag off; a reply would be without it.
            (&["127.0.0.1:1", "[::1]:1", "203.0.113.1:1"], &[]),
        ] {
            let parse = |text: &&str| text.parse().expect("an address");
            let listening: Vec<SocketAddr> = listening.iter().map(parse).collect();
            let expected: Vec<SocketAddr> = expected.iter().map(parse).collect();
            let mut expected: Vec<_> = expected.into_iter().map(filter::target_key).collect();
            expected.sort_unstable();
            assert_eq!(targets(&listening, &interface), expected, "{listening:?}");
        }
    }

    #[test]
    fn replies_that_do_not_fit_into_a_frame_are_refused() {
        let check = |ipv4, ipv6, mtu| {
            let udp = UdpConfig {
                max_packet_bytes_ipv4: ipv4,
                max_packet_bytes_ipv6: ipv6,
                ..UdpConfig::default()
            };
            check_packet_bytes(&udp, "eth0", mtu).map_err(|error| error.to_string())
        };
        assert_eq!(check(1472, 1452, 1500), Ok(()));
        let error = check(1473, 1452, 1500).expect_err("too large");
        assert!(error.contains("max_packet_bytes_ipv4: 1473"), "{error}");
        assert!(error.contains("at most 1472"), "{error}");
        let error = check(1472, 1453, 1500).expect_err("too large");
        assert!(error.contains("at most 1452"), "{error}");
        // Whatever the interface carries, a frame has no more room.
        assert_eq!(check(2006, 1986, 9000), Ok(()));
        assert!(check(2007, 1986, 9000).is_err());
        assert!(check(2006, 1987, 9000).is_err());
    }
}
