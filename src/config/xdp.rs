//! The keys of AF_XDP: on which network interfaces, and how.

use super::reader::{Section, ends_in_index};
use super::settings::UdpConfig;
use serde::Serialize;

/// Where on its way from the driver a frame is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// As `Driver`; where the driver knows no XDP, as `Generic`.
    #[default]
    Auto,
    /// In the driver, before the kernel has made a packet of it.
    Driver,
    /// At the beginning of the kernel's network stack: with every driver, but
    /// it saves less.
    Generic,
}

/// Bytes of an interface's name, at most (`IFNAMSIZ` less its final zero).
const MAX_NAME_BYTES: usize = 15;

/// Reads `xdp_interfaces` and `xdp_mode` of the section `udp`.
pub(super) fn read(section: &mut Section<'_>, udp: &mut UdpConfig) {
    const KEY: &str = "xdp_interfaces";
    for (path, name) in section.texts(KEY).into_iter().flatten() {
        let refusal = match name {
            // One empty text by itself: none, as with addresses.
            "" if !ends_in_index(&path) => continue,
            "lo" => Some(
                "lo is the loopback interface, whose datagrams only the kernel can answer; name \
                 the one to the network"
                    .to_owned(),
            ),
            _ if name.is_empty()
                || name.len() > MAX_NAME_BYTES
                || name.starts_with('.')
                || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) =>
            {
                Some(format!(
                    "{name:?} is not the name of a network interface; `ip link` shows them"
                ))
            }
            _ if udp.xdp_interfaces.iter().any(|other| other == name) => {
                Some(format!("{name} is given twice; remove one"))
            }
            _ => None,
        };
        if let Some(message) = refusal {
            section.refuse_at(path, &message);
        } else {
            udp.xdp_interfaces.push(name.to_owned());
        }
    }
    let modes = [
        ("auto", XdpMode::Auto),
        ("driver", XdpMode::Driver),
        ("generic", XdpMode::Generic),
    ];
    section.choice("xdp_mode", &modes, &mut udp.xdp_mode);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(keys: &str) -> Result<UdpConfig, String> {
        let text = format!("udp:\n  addr: 192.0.2.1:6969\n{keys}");
        let config = Config::parse(&text, "f").map_err(|error| error.to_string())?;
        config.udp.ok_or_else(|| "no section udp".to_owned())
    }

    #[test]
    fn interfaces_are_one_or_a_list() {
        for (keys, interfaces, mode) in [
            ("", &[][..], XdpMode::Auto),
            ("  xdp_interfaces: ''", &[], XdpMode::Auto),
            (
                "  xdp_interfaces: []\n  xdp_mode: generic",
                &[],
                XdpMode::Generic,
            ),
            (
                "  xdp_interfaces: eth0\n  xdp_mode: driver",
                &["eth0"],
                XdpMode::Driver,
            ),
            (
                "  xdp_interfaces: [eth0, enp1s0f1np1]",
                &["eth0", "enp1s0f1np1"],
                XdpMode::Auto,
            ),
        ] {
            let udp = parse(keys).expect(keys);
            assert_eq!(udp.xdp_interfaces, interfaces, "{keys}");
            assert_eq!(udp.xdp_mode, mode, "{keys}");
        }
    }

    #[test]
    fn what_is_no_interface_is_refused_where_it_stands() {
        for (keys, message) in [
            (
                "  xdp_interfaces: lo",
                "f:3:19: udp.xdp_interfaces: lo is the loopback interface",
            ),
            (
                "  xdp_interfaces: [a, a]",
                "f:3:23: udp.xdp_interfaces[1]: a is given twice",
            ),
            (
                "  xdp_interfaces: [a, '']",
                "udp.xdp_interfaces[1]: \"\" is not the name of",
            ),
            (
                "  xdp_interfaces: ../eth0",
                "\"../eth0\" is not the name of a network interface",
            ),
            (
                "  xdp_interfaces: eth0:1",
                "\"eth0:1\" is not the name of a network interface",
            ),
            (
                "  xdp_interfaces: a234567890123456",
                "is not the name of a network interface",
            ),
            (
                "  xdp_interfaces: [1]",
                "udp.xdp_interfaces[0]: wants a text",
            ),
            (
                "  xdp_mode: skb",
                "f:3:13: udp.xdp_mode: \"skb\" is not one of: auto, driver, generic",
            ),
        ] {
            let error = parse(keys).expect_err(keys);
            assert!(error.contains(message), "{error}");
        }
    }
}
