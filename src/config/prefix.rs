//! Subnets as the file writes them: `192.0.2.0/24`, `2001:db8::/32`.

use serde::Serialize;
use std::fmt;
use std::net::IpAddr;

/// A range of addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Any address in it.
    pub ip: IpAddr,
    /// How many bits they share, up to 32 or 128.
    pub bits: u8,
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

impl Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl std::str::FromStr for Prefix {
    type Err = String;

    /// Reads `192.0.2.0/24`, `2001:db8::/32`, or an address alone. Bits behind
    /// the prefix must be zero: a typing error is more likely than anything.
    /// A range of IPv4-mapped IPv6 addresses becomes one of IPv4.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a subnet; write it as \"192.0.2.0/24\"");
        let (ip, bits) = match text.split_once('/') {
            None => (text, None),
            Some((ip, bits)) => (ip, Some(bits)),
        };
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= most)
                .ok_or_else(wrong)?,
        };
        let behind = match ip {
            IpAddr::V4(ip) => u128::from(u32::from(ip) & !mask(bits, 32) as u32),
            IpAddr::V6(ip) => u128::from(ip) & !mask(bits, 128),
        };
        if behind != 0 {
            return Err(format!(
                "{text:?} has bits set behind the first {bits}; clear them or lengthen the prefix"
            ));
        }
        // Sockets' addresses are compared after the same step.
        Ok(match (ip.to_canonical(), bits.checked_sub(96)) {
            (ip @ IpAddr::V4(_), Some(bits)) if most == 128 => Self { ip, bits },
            _ => Self { ip, bits },
        })
    }
}

/// The bits of a mask, right-aligned in `width` bits.
pub(crate) const fn mask(bits: u8, width: u8) -> u128 {
    match bits {
        0 => 0,
        bits => (u128::MAX >> (128 - width)) & (u128::MAX << (width - bits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("a prefix")
    }

    #[test]
    fn refuses_what_is_no_prefix() {
        for bad in [
            "",
            "x",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.1/24",
            "::1/64",
            "1.2.3/8",
        ] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
        assert_eq!(prefix("192.0.2.1").bits, 32);
        assert_eq!(prefix("2001:db8::/32").bits, 32);
        assert_eq!(prefix("::ffff:192.0.2.0/120"), prefix("192.0.2.0/24"));
    }
}
