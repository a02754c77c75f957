//! Reads single arguments of the command line; errors say what to write.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::config::Target;
use crate::skew::Skew;
use crate::workload::FillShape;

/// Reads a target and looks its name up.
pub fn parse_target(text: &str) -> Result<Target, String> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| {
        format!("target {text:?} has no scheme; write udp://{text} or http://{text}/announce")
    })?;
    match scheme {
        "udp" | "http" => {}
        "https" => {
            return Err(format!(
                "target {text:?}: https:// is not measured, because the encryption would be; give the tracker's http:// address"
            ));
        }
        _ => {
            return Err(format!(
                "target {text:?}: only udp:// and http:// can be measured"
            ));
        }
    }
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let default_port = if scheme == "http" { ":80" } else { "" };
    let with_port = if host.rsplit(']').next().is_some_and(|end| end.contains(':')) {
        host.to_string()
    } else {
        format!("{host}{default_port}")
    };
    let address = with_port
        .to_socket_addrs()
        .map_err(|error| {
            format!("target {text:?}: {error}; write HOST:PORT, IPv6 addresses as [::1]:PORT")
        })?
        .next()
        .ok_or_else(|| format!("target {text:?}: the name has no address"))?;
    // ::ffff:127.0.0.1 is 127.0.0.1, with its sources and lengths of peers.
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    if scheme == "udp" {
        return Ok(Target::Udp(address));
    }
    let path = match path {
        "" | "/" => "/announce",
        path => path,
    };
    Ok(Target::Http {
        address,
        host: host.to_string(),
        path: path.to_string(),
    })
}

/// Reads `--fill-shape`.
pub fn parse_shape(text: &str) -> Result<FillShape, String> {
    match text {
        "one-each" => Ok(FillShape::OneEach),
        skew => parse_skew(skew)
            .map(FillShape::Drawn)
            .map_err(|error| format!("write one-each; or as --skew: {error}")),
    }
}

/// Reads `--skew`.
pub fn parse_skew(text: &str) -> Result<Skew, String> {
    match text {
        "uniform" => Ok(Skew::Uniform),
        "cubic" => Ok(Skew::Cubic),
        number => match number.parse::<f64>() {
            Ok(exponent) if exponent > 0.0 && exponent <= 10.0 => Ok(Skew::Zipf(exponent)),
            _ => Err("write uniform, cubic, or a Zipf exponent above 0 and up to 10".into()),
        },
    }
}

/// Checks a length of time that `name` gives in seconds.
pub fn seconds(name: &str, value: f64, least: f64) -> Result<Duration, String> {
    if (least..=86_400.0 * 30.0).contains(&value) {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err(format!(
            "{name} {value} is not between {least} and 2592000 seconds"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_written_as_ipv6_is_the_ipv4_address() {
        let target = parse_target("udp://[::ffff:127.0.0.1]:5").unwrap();
        assert_eq!(target, Target::Udp(([127, 0, 0, 1], 5).into()));
        let target = parse_target("udp://[::1]:5").unwrap();
        assert!(target.address().is_ipv6());
    }
}
