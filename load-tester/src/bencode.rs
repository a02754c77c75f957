//! Just enough bencode (BEP 3) to check a tracker's reply, without allocation.

/// What the top-level dictionary of a reply says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Body<'a> {
    /// `failure reason`.
    pub failure: Option<&'a [u8]>,
    /// Peers in `peers` and `peers6`, compact or listed; `None` without `peers`.
    pub peers: Option<usize>,
    /// Whether `interval` is there and a number.
    pub has_interval: bool,
    /// Entries of `files`, the swarms of a scrape.
    pub files: Option<usize>,
}

/// Reads a whole body; `None` where it is not one bencoded dictionary. A line
/// end after it is let pass: aquatic_http sends one, and clients ignore it.
pub fn read_body(bytes: &[u8]) -> Option<Body<'_>> {
    let bytes = bytes.strip_suffix(b"\r\n").unwrap_or(bytes);
    let mut body = Body::default();
    let mut at = 1;
    if *bytes.first()? != b'd' {
        return None;
    }
    while *bytes.get(at)? != b'e' {
        let (key, value) = string(bytes, at)?;
        let end = skip(bytes, value)?;
        match key {
            b"failure reason" => body.failure = Some(string(bytes, value)?.0),
            b"interval" => body.has_interval = bytes[value] == b'i',
            b"peers" => body.peers = Some(body.peers.unwrap_or(0) + peers(bytes, value, 6)?),
            b"peers6" => body.peers = Some(body.peers.unwrap_or(0) + peers(bytes, value, 18)?),
            b"files" => body.files = Some(entries(bytes, value, b'd')? / 2),
            _ => {}
        }
        at = end;
    }
    (at + 1 == bytes.len()).then_some(body)
}

/// Compact peers of `size` bytes, or a list of dictionaries.
fn peers(bytes: &[u8], at: usize, size: usize) -> Option<usize> {
    if bytes[at] == b'l' {
        return entries(bytes, at, b'l');
    }
    let compact = string(bytes, at)?.0;
    (compact.len() % size == 0).then_some(compact.len() / size)
}

/// Values inside the list or dictionary (keys count too) at `at`.
fn entries(bytes: &[u8], at: usize, open: u8) -> Option<usize> {
    if *bytes.get(at)? != open {
        return None;
    }
    let mut at = at + 1;
    let mut count = 0;
    while *bytes.get(at)? != b'e' {
        at = skip(bytes, at)?;
        count += 1;
    }
    Some(count)
}

/// The string at `at`, and where it ends.
fn string(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let colon = at + bytes.get(at..)?.iter().take(10).position(|b| *b == b':')?;
    let len: usize = std::str::from_utf8(&bytes[at..colon]).ok()?.parse().ok()?;
    let end = colon.checked_add(1)?.checked_add(len)?;
    Some((bytes.get(colon + 1..end)?, end))
}

/// Where the value at `at` ends.
fn skip(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match *bytes.get(at)? {
            b'i' => {
                let end = at + bytes[at..].iter().take(24).position(|b| *b == b'e')?;
                std::str::from_utf8(&bytes[at + 1..end])
                    .ok()?
                    .parse::<i64>()
                    .ok()?;
                at = end + 1;
            }
            b'l' | b'd' => {
                depth += 1;
                at += 1;
            }
            b'e' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b'0'..=b'9' => at = string(bytes, at)?.1,
            _ => return None,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read() {
        let compact = read_body(
            b"d8:completei1e8:intervali1800e5:peers12:aaaaaabbbbbb6:peers618:ccccccccccccccccce",
        );
        assert_eq!(compact, None, "17 bytes where 18 are promised");
        let compact =
            read_body(b"d8:intervali1800e5:peers12:aaaaaabbbbbb6:peers618:cccccccccccccccccce")
                .unwrap();
        assert_eq!((compact.peers, compact.has_interval), (Some(3), true));
        let listed =
            read_body(b"d8:intervali9e5:peersld2:ip1:a4:porti1eed2:ip1:b4:porti2eeee").unwrap();
        assert_eq!(listed.peers, Some(2));
        let failure = read_body(b"d14:failure reason2:noe\r\n").unwrap();
        assert_eq!(failure.failure, Some(&b"no"[..]));
        let scrape = read_body(b"d5:filesd2:aad8:completei1ee2:bbd8:completei1eeee").unwrap();
        assert_eq!(scrape.files, Some(2));
    }

    #[test]
    fn what_is_no_bencode_is_refused() {
        let broken: [&[u8]; 9] = [
            b"",
            b"d",
            b"<html>",
            b"d8:intervali1800e",
            b"de ",
            b"d5:peers5:aaaaae",
            b"di1ei2ee",
            b"d1:aixee",
            b"d1:a99999999999:e",
        ];
        for bytes in broken {
            assert_eq!(
                read_body(bytes),
                None,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}
