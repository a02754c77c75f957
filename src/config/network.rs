//! Networks in the settings: `192.0.2.0/24`, `2001:db8::/32`, or one address.

use serde::{Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    ip: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether an address is in it. An IPv4 address never is in an IPv6
    /// network; map addresses to their canonical form first.
    #[must_use]
    pub fn contains(&self, ip: &IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                let differing = u32::from(network) ^ u32::from(*ip);
                differing.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                let differing = u128::from(network) ^ u128::from(*ip);
                differing.leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }

    /// Whether a list of networks admits an address; an empty list admits all.
    #[must_use]
    pub fn admit(networks: &[Self], ip: &IpAddr) -> bool {
        networks.is_empty() || networks.iter().any(|network| network.contains(ip))
    }
}

impl FromStr for Network {
    type Err = String;

    /// Bits behind the prefix must be zero: a typing error is more likely than
    /// anything. The error is what to tell the user.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a network; write it as \"192.0.2.0/24\"");
        let (ip, bits) = match text.split_once('/') {
            None => (text, None),
            Some((ip, bits)) => (ip, Some(bits)),
        };
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let width: u8 = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let bits: u8 = bits.parse().map_err(|_| wrong())?;
                if bits > width {
                    return Err(wrong());
                }
                bits
            }
            Some(_) => return Err(wrong()),
        };
        let zeros = match ip {
            IpAddr::V4(ip) => u32::from(ip).trailing_zeros(),
            IpAddr::V6(ip) => u128::from(ip).trailing_zeros(),
        };
        if zeros < u32::from(width - bits) {
            return Err(format!(
                "{text:?} has bits set behind the first {bits}; clear them or lengthen the prefix"
            ));
        }
        Ok(Self { ip, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_what_shares_the_prefix() {
        for (network, ip, inside) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            let network: Network = network.parse().expect("a network");
            let ip = ip.parse().expect("an address");
            assert_eq!(network.contains(&ip), inside, "{network} {ip}");
            assert_eq!(Network::admit(&[network], &ip), inside);
            assert!(Network::admit(&[], &ip));
        }
    }

    #[test]
    fn refuses_what_is_no_network() {
        for text in [
            "",
            "x",
            "192.0.2.0/33",
            "192.0.2.0/+8",
            "::/129",
            "192.0.2/24",
            "1.2.3.4/",
        ] {
            let error = Network::from_str(text).expect_err(text);
            assert!(error.contains("is not a network"), "{error}");
        }
        let error = Network::from_str("192.0.2.1/24").expect_err("bits");
        assert!(error.contains("behind the first 24"), "{error}");
    }
}
