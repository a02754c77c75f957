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
