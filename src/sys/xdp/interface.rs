//! What the kernel says of a network interface.

use nix::sys::socket::SockaddrStorage;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A network interface as it is now.
#[derive(Clone, Debug)]
pub struct Interface {
    /// The kernel's number for it.
    pub index: u32,
    /// Its Ethernet address.
    pub ethernet: [u8; 6],
    /// Bytes of an IP packet that it carries, at most.
    pub mtu: usize,
    /// Queues on which it receives, and sends as well: the first ones.
    pub queues: u32,
    /// Queues on which it receives.
    pub receive_queues: u32,
    /// Its IP addresses.
    pub addresses: Vec<IpAddr>,
    /// Those of VLANs on it.
    pub vlan_addresses: Vec<IpAddr>,
    /// Whether it consists of others.
    pub is_bond: bool,
}

/// The number of the type of an Ethernet interface (`ARPHRD_ETHER`).
const ETHERNET: u32 = 1;

impl Interface {
    /// Asks for the interface of this name.
    ///
    /// # Errors
    /// NotFound when there is none, Unsupported when it is not of Ethernet,
    /// others when the kernel's files cannot be read.
    pub fn find(name: &str) -> io::Result<Self> {
        let directory = PathBuf::from("/sys/class/net").join(name);
        if number(&directory.join("type"))? != ETHERNET {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let ethernet = fs::read_to_string(directory.join("address"))?;
        let ethernet = ethernet_address(ethernet.trim()).ok_or(io::ErrorKind::InvalidData)?;
        let [mut receiving, mut sending] = [0; 2];
        for entry in fs::read_dir(directory.join("queues"))? {
            let name = entry?.file_name();
            let name = name.as_encoded_bytes();
            receiving += u32::from(name.starts_with(b"rx-"));
            sending += u32::from(name.starts_with(b"tx-"));
        }
        let mut addresses = Vec::new();
        let mut vlan_addresses = Vec::new();
        for entry in nix::ifaddrs::getifaddrs()? {
            // Further addresses may have a label: eth0:1.
            let of = entry.interface_name.split(':').next().unwrap_or_default();
            let v4 =
                |address: &SockaddrStorage| Some(IpAddr::V4(address.as_sockaddr_in()?.ip().into()));
            let v6 = |address: &SockaddrStorage| Some(IpAddr::V6(address.as_sockaddr_in6()?.ip()));
            let Some(ip) = entry
                .address
                .and_then(|address| v4(&address).or(v6(&address)))
            else {
                continue;
            };
            if of == name {
                addresses.push(ip);
            } else if is_vlan_of(of, name) {
                vlan_addresses.push(ip);
            }
        }
        Ok(Self {
            index: number(&directory.join("ifindex"))?,
            ethernet,
            mtu: number(&directory.join("mtu"))? as usize,
            queues: receiving.min(sending),
            receive_queues: receiving,
            addresses,
            vlan_addresses,
            is_bond: directory.join("bonding").exists(),
        })
    }
}

/// Whether an interface is a VLAN on this other one.
fn is_vlan_of(interface: &str, lower: &str) -> bool {
    let directory = Path::new("/sys/class/net").join(interface);
    let kind = fs::read_to_string(directory.join("uevent")).unwrap_or_default();
    kind.lines().any(|line| line == "DEVTYPE=vlan")
        && directory.join(format!("lower_{lower}")).exists()
}

fn number(path: &Path) -> io::Result<u32> {
    let text = fs::read_to_string(path)?;
    text.trim()
        .parse()
        .map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Six bytes in hexadecimal, with colons between them.
fn ethernet_address(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_addresses_have_six_bytes() {
        let address = ethernet_address("02:00:ac:1e:00:ff");
        assert_eq!(address, Some([2, 0, 0xac, 0x1e, 0, 0xff]));
        for text in ["", "02:00", "02:00:ac:1e:00:ff:00", "02:00:ac:1e:00:xx"] {
            assert_eq!(ethernet_address(text), None, "{text}");
        }
    }

    #[test]
    fn an_interface_that_is_not_there_or_not_of_ethernet_is_refused() {
        let error = Interface::find("karuta-none").expect_err("not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = Interface::find("lo").expect_err("loopback");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }
}
