//! The client's address as proxies tell it: `X-Forwarded-For`, `Forwarded`
//! (RFC 7239) and headers with a single address (`X-Real-IP`,
//! `CF-Connecting-IP`, `True-Client-IP` and their like).
//!
//! Every proxy appends the address that it saw to what it was sent, so only the
//! right end of the list is known to be true: it was written by our own proxy.
//! The list is therefore read from the right, past the proxies that are
//! trusted, to the first hop that is not. What stands to the left of it anybody
//! may have written. Several headers of the same name are one list (RFC 9110,
//! section 5.3).

use super::announce::Failure;
use std::net::IpAddr;

/// The longest address with brackets, zone and port.
const LONGEST_HOP: usize = 64;

/// The nearest hop that is not trusted; the farthest when all are.
///
/// `lines` is [`super::Head::real_ip`], `name` the header's name.
///
/// # Errors
/// [`Failure::NoForwardedAddress`] when nothing is listed,
/// [`Failure::UnparsableIp`] when that hop is no address (`unknown`, a made-up
/// name, garbage): whatever stands before it cannot be believed either.
pub fn forwarded_client(
    name: &str,
    lines: &[u8],
    is_trusted: impl Fn(&IpAddr) -> bool,
) -> Result<IpAddr, Failure> {
    let mut chain = Chain {
        is_trusted,
        nearest: None,
        farthest_trusted: None,
    };
    let is_forwarded = name.eq_ignore_ascii_case("forwarded");
    for value in values(name, lines) {
        for hop in split_outside_quotes(value, b',') {
            let hop = hop.trim_ascii();
            if hop.is_empty() {
                // RFC 9110, section 5.6.1.2: empty elements do not count.
                continue;
            }
            chain.hop(match is_forwarded {
                true => forwarded_element(hop),
                false => node(hop),
            });
        }
    }
    match chain.nearest {
        Some(hop) => hop.ok_or(Failure::UnparsableIp),
        None => chain.farthest_trusted.ok_or(Failure::NoForwardedAddress),
    }
}

/// The hops so far, from the left: so the list is gone through once and never
/// kept, however long it is.
struct Chain<T> {
    is_trusted: T,
    /// The last hop that was not trusted; `Some(None)` if it was no address.
    nearest: Option<Option<IpAddr>>,
    farthest_trusted: Option<IpAddr>,
}

impl<T: Fn(&IpAddr) -> bool> Chain<T> {
    fn hop(&mut self, address: Option<IpAddr>) {
        match address {
            Some(address) if (self.is_trusted)(&address) => {
                self.farthest_trusted.get_or_insert(address);
            }
            other => self.nearest = Some(other),
        }
    }
}

/// The values of a header: the first line is a value, later ones are whole
/// header lines, of which some have this name.
fn values<'a>(name: &str, lines: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut lines = lines.split(|&byte| byte == b'\n');
    let first = lines.next();
    first.into_iter().chain(lines.filter_map(move |line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (own, value) = line.split_at_checked(colon)?;
        own.eq_ignore_ascii_case(name.as_bytes())
            .then(|| value.get(1..))
            .flatten()
    }))
}

/// The parts between separators that stand in no quoted string. A quoted
/// string that does not end takes all that is left, which [`is_value`] then
/// refuses: so nobody can swallow what a proxy appended.
fn split_outside_quotes(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    bytes.split(move |&byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        byte == separator && !quoted
    })
}

/// The address of one element of `Forwarded` (RFC 7239, section 4): that of
/// its `for`. `None` when it has none, or breaks the rules anywhere.
fn forwarded_element(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for pair in split_outside_quotes(element, b';') {
        let pair = pair.trim_ascii();
        if pair.is_empty() {
            continue;
        }
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        let (name, value) = pair.split_at_checked(equals)?;
        let value = value.get(1..)?;
        if !name.iter().copied().all(is_token) || !is_value(value) {
            return None;
        }
        if name.eq_ignore_ascii_case(b"for") {
            if found.is_some() {
                return None;
            }
            let text = value.strip_prefix(b"\"").unwrap_or(value);
            found = Some(node(text.strip_suffix(b"\"").unwrap_or(text)));
        }
    }
    found.flatten()
}

/// Whether this is a token or one quoted string (RFC 9110, section 5.6).
fn is_value(value: &[u8]) -> bool {
    let Some(rest) = value.strip_prefix(b"\"") else {
        // Addresses stand here unquoted too, against the rules: harmless.
        return value
            .iter()
            .all(|&byte| is_token(byte) || matches!(byte, b'[' | b']' | b':'));
    };
    let mut rest = rest.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => return rest.next().is_none(),
            b'\\' => drop(rest.next()),
            _ => {}
        }
    }
    false
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// An address, perhaps in brackets, perhaps with a port.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = text.trim_ascii();
    if text.len() > LONGEST_HOP {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let (ip, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, rest) = rest.split_once(']')?;
            let port = match rest.strip_prefix(':') {
                None if rest.is_empty() => None,
                None => return None,
                Some(port) => Some(port),
            };
            // Brackets are for IPv6.
            (IpAddr::V6(ip.parse().ok()?), port)
        }
        None => match text.parse() {
            Ok(ip) => (ip, None),
            // With a port; IPv6 would need brackets.
            Err(_) => {
                let (ip, port) = text.split_once(':')?;
                (IpAddr::V4(ip.parse().ok()?), Some(port))
            }
        },
    };
    // RFC 7239, section 6: a number, or a made-up name.
    let is_port = |port: &str| {
        !port.is_empty()
            && port
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    port.is_none_or(is_port).then(|| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trusts 10.0.0.0/8 and 2001:db8:ffff::1.
    fn read(name: &str, lines: &str) -> Result<String, Failure> {
        let is_trusted = |ip: &IpAddr| match ip {
            IpAddr::V4(v4) => v4.octets()[0] == 10,
            IpAddr::V6(v6) => v6.to_string() == "2001:db8:ffff::1",
        };
        forwarded_client(name, lines.as_bytes(), is_trusted).map(|ip| ip.to_string())
    }

    const GARBAGE: Result<&str, Failure> = Err(Failure::UnparsableIp);
    const NOTHING: Result<&str, Failure> = Err(Failure::NoForwardedAddress);

    #[test]
    fn lists_are_read_from_the_right() {
        for (lines, expected) in [
            ("192.0.2.1", Ok("192.0.2.1")),
            ("  192.0.2.1\t", Ok("192.0.2.1")),
            ("6.6.6.6, 192.0.2.1", Ok("192.0.2.1")),
            ("6.6.6.6,192.0.2.1,10.1.1.1 , 10.2.2.2", Ok("192.0.2.1")),
            ("garbage, 192.0.2.1, 10.1.1.1", Ok("192.0.2.1")),
            ("192.0.2.1, garbage, 10.1.1.1", GARBAGE),
            ("192.0.2.1, unknown", GARBAGE),
            ("10.9.9.9, 10.1.1.1", Ok("10.9.9.9")),
            ("", NOTHING),
            (" , ,", NOTHING),
            ("192.0.2.1, ,", Ok("192.0.2.1")),
            ("2001:DB8::7", Ok("2001:db8::7")),
            ("2001:db8::7, 2001:db8:ffff::1", Ok("2001:db8::7")),
            ("[2001:db8::7]", Ok("2001:db8::7")),
            ("[2001:db8::7]:4711", Ok("2001:db8::7")),
            ("192.0.2.1:80", Ok("192.0.2.1")),
            ("192.0.2.1:", GARBAGE),
            ("::ffff:192.0.2.1", Ok("192.0.2.1")),
            ("192.0.2.1, ::ffff:10.1.1.1", Ok("192.0.2.1")),
            ("[192.0.2.1]", GARBAGE),
            ("[2001:db8::7", GARBAGE),
            ("[2001:db8::7]x", GARBAGE),
            ("2001:db8::7%eth0", GARBAGE),
            ("192.0.2.256", GARBAGE),
            ("192.0.2.01", GARBAGE),
            ("192.0.2.1 10.1.1.1", GARBAGE),
            ("\u{e9}", GARBAGE),
            (
                "6.6.6.6\r\nHost: a:b\r\nx-forwarded-FOR:192.0.2.1\r\nX: 1",
                Ok("192.0.2.1"),
            ),
            ("192.0.2.1\r\nX-Forwarded-For: 10.1.1.1", Ok("192.0.2.1")),
            ("192.0.2.1\r\nX-Forwarded-For:", Ok("192.0.2.1")),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(read("X-Forwarded-For", lines), expected, "{lines}");
        }
    }

    #[test]
    fn forwarded_as_in_its_rfc() {
        for (lines, expected) in [
            (
                "for=192.0.2.60;proto=http;by=203.0.113.43",
                Ok("192.0.2.60"),
            ),
            ("for=192.0.2.43, for=198.51.100.17", Ok("198.51.100.17")),
            ("For=\"[2001:db8:cafe::17]:4711\"", Ok("2001:db8:cafe::17")),
            ("FOR=\"192.0.2.43:_port\"", Ok("192.0.2.43")),
            ("for=192.0.2.43;for=1.1.1.1", GARBAGE),
            (
                "for=6.6.6.6, For=192.0.2.1;by=x , for=10.0.0.1;",
                Ok("192.0.2.1"),
            ),
            ("for=unknown", GARBAGE),
            ("for=\"_gazonk\"", GARBAGE),
            ("proto=https", GARBAGE),
            ("for", GARBAGE),
            ("for=", GARBAGE),
            ("", NOTHING),
            ("for=[2001:db8::7]", Ok("2001:db8::7")),
            ("for=192.0.2.1;x=\"a,b;for=6.6.6.6\"", Ok("192.0.2.1")),
            ("for=6.6.6.6\r\nForwarded: for=192.0.2.1", Ok("192.0.2.1")),
            // A client that tries to swallow what the proxy appends.
            ("for=6.6.6.6;x=\", for=192.0.2.1", GARBAGE),
            ("for=6.6.6.6;x=\", for=\"[2001:db8::7]:1\"", GARBAGE),
            ("for=6.6.6.6;x=\"\\, for=\"192.0.2.1\"", GARBAGE),
            ("for=\"6.6.6.6", GARBAGE),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(read("Forwarded", lines), expected, "{lines}");
        }
    }
}
