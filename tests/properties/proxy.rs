//! Properties of what proxies say: the readers agree with naive ones, which
//! keep everything and read lists from the right.

use karuta::protocol::http::{Failure, HeadOptions, HeadStatus, forwarded_client, parse_head};
use karuta::protocol::proxy::{Introduced, Introduction, NotIntroduced};
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};

/// An introduction is read without a panic, and comes to the same however its
/// bytes arrive; nothing beyond it is taken.
pub fn any_introduction(bytes: &[u8]) {
    let whole = Introduction::default().read(bytes);
    if let Ok((used, introduced)) = whole {
        assert!(used <= bytes.len());
        if introduced == Introduced::Partly {
            assert_eq!(used, bytes.len());
        }
        // Without its last byte it is not complete.
        if let Some(cut) = used.checked_sub(1) {
            let partly = Ok((cut, Introduced::Partly));
            assert_eq!(Introduction::default().read(&bytes[..cut]), partly);
        }
    }
    for piece in [1, 2, 7, 13] {
        assert_eq!(in_pieces(bytes, piece), whole, "pieces of {piece}");
    }
}

fn in_pieces(bytes: &[u8], piece: usize) -> Result<(usize, Introduced), NotIntroduced> {
    let mut introduction = Introduction::default();
    let mut used = 0;
    for chunk in bytes.chunks(piece) {
        let (more, introduced) = introduction.read(chunk)?;
        used += more;
        if introduced != Introduced::Partly {
            return Ok((used, introduced));
        }
    }
    Ok((used, Introduced::Partly))
}

/// Trusts a half of all addresses.
pub fn is_trusted(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[3] % 2 == 0,
        IpAddr::V6(v6) => v6.octets()[15] % 2 == 0,
    }
}

/// A list of addresses is read as one from the right would read it, and
/// `Forwarded` without a panic.
pub fn any_forwarded(bytes: &[u8]) {
    const NAME: &str = "X-Forwarded-For";
    let _ = forwarded_client("Forwarded", bytes, is_trusted);
    let mut values = Vec::new();
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        match number {
            0 => values.push(line),
            _ => values.extend(value_of(line, NAME)),
        }
    }
    assert_eq!(
        forwarded_client(NAME, bytes, is_trusted),
        from_the_right(&values)
    );
}

/// The lines of one header in a request are all found.
pub fn any_head(bytes: &[u8]) {
    const NAME: &str = "X-Real-IP";
    let options = HeadOptions {
        max_head_bytes: 4096,
        real_ip_header: Some(NAME),
    };
    let Ok(HeadStatus::Complete(head)) = parse_head(bytes, &options) else {
        return;
    };
    let lines = bytes[..head.head_len].split(|&byte| byte == b'\n');
    let values: Vec<&[u8]> = lines.filter_map(|line| value_of(line, NAME)).collect();
    match head.real_ip {
        None => assert!(values.is_empty()),
        Some(found) => {
            let expected = from_the_right(&values);
            assert_eq!(forwarded_client(NAME, found, is_trusted), expected);
        }
    }
}

fn value_of<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    line[..colon]
        .eq_ignore_ascii_case(name.as_bytes())
        .then(|| &line[colon + 1..])
}

fn from_the_right(values: &[&[u8]]) -> Result<IpAddr, Failure> {
    let hops: Vec<&[u8]> = values
        .iter()
        // Nobody quotes here; but a comma between quotes separates nothing.
        .flat_map(|value| unquoted(value))
        .map(<[u8]>::trim_ascii)
        .filter(|hop| !hop.is_empty())
        .collect();
    let mut farthest = Err(Failure::NoForwardedAddress);
    for hop in hops.iter().rev() {
        let ip = address(hop).ok_or(Failure::UnparsableIp)?;
        if !is_trusted(&ip) {
            return Ok(ip);
        }
        farthest = Ok(ip);
    }
    farthest
}

fn unquoted(value: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let (mut start, mut at, mut quoted) = (0, 0, false);
    while at < value.len() {
        match value[at] {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                parts.push(&value[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(&value[start..]);
    parts
}

fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?;
    // Ports may be made up (RFC 7239, section 6.3): compare without them.
    let named = |port: &str| {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !port.is_empty() && port.bytes().all(is_word)
    };
    let with_port = || match text.rsplit_once(':') {
        Some((node, port)) if named(port) => {
            let node = format!("{node}:1");
            let v4 = node.parse::<SocketAddrV4>().map(|v4| IpAddr::V4(*v4.ip()));
            let v6 = || node.parse::<SocketAddrV6>().map(|v6| IpAddr::V6(*v6.ip()));
            v4.or_else(|_| v6()).ok()
        }
        _ => None,
    };
    let bracketed = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse().map(IpAddr::V6).ok()
    };
    let ip: IpAddr = text.parse().ok().or_else(with_port).or_else(bracketed)?;
    (text.len() <= 64 && !text.contains('%')).then(|| ip.to_canonical())
}
