//! Binding every listening socket, in shard order, and steering UDP.
//!
//! Owns the sockets until the shards take theirs. Called by the server at
//! start only.

use super::StartError;
use crate::bittorrent::AddressFamily;
use crate::config::{Config, Steering};
use crate::frontend::http::Listener;
use crate::shard::owner::OwnerMap;
use crate::sys::{self, socket::UdpOptions};
use rustls::ServerConfig;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

/// Every listening socket, `[address][shard]`, until the shards take theirs.
#[derive(Default)]
pub(super) struct Sockets {
    pub udp_addresses: Vec<SocketAddr>,
    pub http_addresses: Vec<SocketAddr>,
    pub https_addresses: Vec<SocketAddr>,
    udp: Vec<Vec<Option<UdpSocket>>>,
    http: Vec<Vec<Option<TcpListener>>>,
    https: Vec<Vec<Option<TcpListener>>>,
}

impl Sockets {
    pub fn bind(config: &Config, shards: usize) -> Result<Self, StartError> {
        let mut sockets = Self::default();
        if let Some(udp) = &config.udp {
            for &address in &udp.addr {
                let options = UdpOptions {
                    receive_buffer_bytes: udp.receive_buffer_bytes,
                    send_buffer_bytes: udp.send_buffer_bytes,
                    packet_info: address.ip().is_unspecified(),
                };
                let bind = |address| sys::socket::udp(address, options);
                let Some(group) =
                    bind_group("udp.addr", address, false, shards, udp.addr.len(), bind)?
                else {
                    continue;
                };
                if let Some(first) = group.sockets.first().and_then(Option::as_ref) {
                    warn_of_small_buffer(first, group.address, udp.receive_buffer_bytes);
                }
                sockets.udp_addresses.push(group.address);
                sockets.udp.push(group.sockets);
            }
        }
        if let Some(http) = &config.http {
            let addresses = http.addr.len() + http.https_addr.len();
            for (key, wanted) in [
                ("http.addr", &http.addr),
                ("http.https_addr", &http.https_addr),
            ] {
                for &address in wanted {
                    let tcp = sys::socket::tcp;
                    let group = bind_group(key, address, true, shards, addresses, tcp)?;
                    let Some(group) = group else {
                        continue;
                    };
                    let (bound, groups) = match key {
                        "http.addr" => (&mut sockets.http_addresses, &mut sockets.http),
                        _ => (&mut sockets.https_addresses, &mut sockets.https),
                    };
                    bound.push(group.address);
                    groups.push(group.sockets);
                }
            }
        }
        Ok(sockets)
    }

    /// Attaches the steering program to every UDP group; returns whether UDP
    /// requests now reach their owners without crossing shards.
    pub fn steer(&mut self, config: &Config, owners: &OwnerMap) -> bool {
        let wanted = config
            .udp
            .as_ref()
            .is_some_and(|udp| udp.steering == Steering::Kernel);
        if owners.shards() == 1 {
            return true;
        }
        if !wanted {
            return false;
        }
        let program = owners.steering_program();
        for group in &self.udp {
            let Some(Some(first)) = group.first() else {
                continue;
            };
            if let Err(error) = sys::steering::attach(first, &program) {
                log::warn!(
                    "the kernel does not steer UDP requests to their shards ({error}): they cross \
                     shards instead, which costs throughput; set udp.steering to off to accept this"
                );
                return false;
            }
        }
        true
    }

    pub fn take_udp(&mut self, shard: usize) -> Vec<(UdpSocket, AddressFamily)> {
        let taken = self.udp.iter_mut().zip(&self.udp_addresses);
        taken
            .filter_map(|(group, address)| {
                let socket = group.get_mut(shard)?.take()?;
                Some((socket, AddressFamily::of(&address.ip())))
            })
            .collect()
    }

    /// The shard's listeners, those of HTTPS last, which speak TLS by `tls`.
    pub fn take_http(&mut self, shard: usize, tls: Option<&Arc<ServerConfig>>) -> Vec<Listener> {
        let take = |groups: &mut Vec<Vec<Option<TcpListener>>>, tls: Option<&Arc<_>>| {
            let taken = groups.iter_mut().filter_map(|group| {
                Some(Listener {
                    socket: group.get_mut(shard)?.take()?,
                    tls: tls.cloned(),
                })
            });
            taken.collect::<Vec<_>>()
        };
        let mut listeners = take(&mut self.http, None);
        listeners.extend(take(&mut self.https, tls));
        listeners
    }
}

/// The sockets of one address, in shard order.
struct Group<S> {
    address: SocketAddr,
    sockets: Vec<Option<S>>,
}

/// Binds one socket for each shard to an address. `None` when it is the IPv6
/// wildcard on a host without IPv6, and there are other addresses.
fn bind_group<S>(
    key: &str,
    address: SocketAddr,
    stream: bool,
    shards: usize,
    addresses: usize,
    bind: impl Fn(SocketAddr) -> io::Result<S>,
) -> Result<Option<Group<S>>, StartError> {
    let all = || -> io::Result<Group<S>> {
        // With SO_REUSEPORT a second tracker could join the group and take a
        // part of the requests unnoticed.
        let address = sys::socket::probe_free(address, stream)?;
        let mut sockets = Vec::new();
        for _ in 0..shards {
            sockets.push(Some(bind(address)?));
        }
        Ok(Group { address, sockets })
    };
    match all() {
        Ok(group) => Ok(Some(group)),
        Err(error)
            if error.raw_os_error() == Some(libc::EAFNOSUPPORT)
                && address.is_ipv6()
                && address.ip().is_unspecified()
                && addresses > 1 =>
        {
            log::warn!("this host has no IPv6: {key} {address} is left out");
            Ok(None)
        }
        Err(error) => Err(StartError(format!(
            "{key} {address}: {}",
            bind_remedy(&error, address)
        ))),
    }
}

pub(super) fn bind_remedy(error: &io::Error, address: SocketAddr) -> String {
    let port = address.port();
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => format!(
            "the port is in use by another program (ss -lntup 'sport = :{port}' tells which): stop \
             it or choose another port"
        ),
        Some(libc::EACCES) => format!(
            "no permission to use a port below 1024: give the program CAP_NET_BIND_SERVICE or use a \
             port other than {port}"
        ),
        Some(libc::EADDRNOTAVAIL) => "this host has no such address (ip addr lists them)".to_owned(),
        Some(libc::EAFNOSUPPORT) => "this host does not speak this address family".to_owned(),
        Some(libc::EMFILE | libc::ENFILE) => {
            "out of file descriptors: raise the limit (ulimit -n, or LimitNOFILE= in the systemd unit)".to_owned()
        }
        _ => error.to_string(),
    }
}

fn warn_of_small_buffer(socket: &UdpSocket, address: SocketAddr, asked: usize) {
    if let Ok(granted) = sys::socket::receive_buffer_bytes(socket)
        && granted < asked
    {
        log::warn!(
            "udp {address}: the receive buffer is {granted} bytes instead of {asked}: bursts may be \
             lost; raise it with sysctl net.core.rmem_max={asked}"
        );
    }
}
