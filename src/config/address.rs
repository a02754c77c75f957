//! Socket addresses: `0.0.0.0:6969`, `[::]:6969`, and Go's `:6969`, which
//! means every address of this host. Names are not resolved.

use super::settings::every_address;
use serde::ser::SerializeSeq;
use std::net::{IpAddr, SocketAddr};

/// Reads one address. The error is what to tell the user.
pub(super) fn parse(text: &str) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    if let Some(port) = text.strip_prefix(':')
        && let Ok(port) = read_port(port)
    {
        return Ok(every_address(port));
    }
    Err(format!(
        "{text:?} is not an address: {}",
        what_is_wrong(text)
    ))
}

/// Why a text is not an address and what to write instead.
fn what_is_wrong(text: &str) -> String {
    const FORMS: &str = "write it as \"0.0.0.0:6969\", \"[::]:6969\" or \":6969\"";
    if text.is_empty() {
        return format!("it is empty; {FORMS}");
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return format!(
            "it has no port; write it as \"{}\"",
            SocketAddr::new(ip, 6969)
        );
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return format!("it has no port; {FORMS}");
    };
    if read_port(port).is_err() {
        return format!("{port:?} is not a port from 0 to 65535; {FORMS}");
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        // Only IPv6 without brackets gets here.
        return format!("IPv6 needs brackets; write it as \"[{ip}]:{port}\"");
    }
    format!("{host:?} is not an IP address (names are not looked up); {FORMS}")
}

/// Digits only: Rust would also read a sign.
fn read_port(text: &str) -> Result<u16, ()> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(drop)
    } else {
        Err(())
    }
}

/// For `serialize_with`: nothing as an empty text, one as a text, more as a
/// list.
pub(super) fn serialize<S: serde::Serializer>(
    addresses: &[SocketAddr],
    to: S,
) -> Result<S::Ok, S::Error> {
    match addresses {
        [] => to.serialize_str(""),
        [one] => to.serialize_str(&one.to_string()),
        many => {
            let mut list = to.serialize_seq(Some(many.len()))?;
            for address in many {
                list.serialize_element(&address.to_string())?;
            }
            list.end()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_of_both_families() {
        let read = |text: &str| -> Vec<String> {
            let addresses = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            addresses.iter().map(SocketAddr::to_string).collect()
        };
        assert_eq!(read("127.0.0.1:80"), ["127.0.0.1:80"]);
        assert_eq!(read("[::1]:0"), ["[::1]:0"]);
        assert_eq!(read(":6969"), ["0.0.0.0:6969", "[::]:6969"]);
    }

    #[test]
    fn says_what_to_write_instead() {
        for (text, part) in [
            ("", "empty"),
            ("127.0.0.1", "write it as \"127.0.0.1:6969\""),
            ("::1", "write it as \"[::1]:6969\""),
            ("[::1]", "write it as \"[::1]:6969\""),
            (
                "2001:db8::1:2:3:4:5:6969",
                "write it as \"[2001:db8:0:1:2:3:4:5]:6969\"",
            ),
            ("localhost:80", "\"localhost\" is not an IP address"),
            ("127.0.0.1:65536", "\"65536\" is not a port"),
            ("127.0.0.1:", "\"\" is not a port"),
            (":+80", "\"+80\" is not a port"),
            ("localhost", "no port"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
