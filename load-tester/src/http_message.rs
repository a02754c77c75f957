//! HTTP messages of a tracker: requests written into a reused buffer, replies
//! read from one (BEP 3, BEP 23, RFC 9112 as far as trackers use it).

use crate::account::Verdict;
use crate::bencode;
use crate::workload::{Event, Kind, Request, info_hash};

/// What all requests of a run share.
#[derive(Clone, Debug)]
pub struct RequestStyle {
    announce: Vec<u8>,
    scrape: Vec<u8>,
    tail: Vec<u8>,
    numwant: i32,
    scrape_hashes: usize,
    seed: u64,
    swarms: u32,
}

impl RequestStyle {
    /// Requests to `path` (scrapes to the same path with the last `announce`
    /// replaced, BEP 48) of `host`.
    pub fn new(
        host: &str,
        path: &str,
        keep_alive: bool,
        numwant: i32,
        scrape_hashes: usize,
        seed: u64,
        swarms: u32,
    ) -> RequestStyle {
        let joiner = if path.contains('?') { '&' } else { '?' };
        let scrape = match path.rfind("announce") {
            Some(at) => format!("{}scrape{}", &path[..at], &path[at + "announce".len()..]),
            None => path.to_string(),
        };
        let connection = if keep_alive {
            ""
        } else {
            "Connection: close\r\n"
        };
        RequestStyle {
            announce: format!("GET {path}{joiner}").into_bytes(),
            scrape: format!("GET {scrape}{joiner}").into_bytes(),
            tail: format!(
                " HTTP/1.1\r\nHost: {host}\r\nUser-Agent: karuta-load-tester\r\n{connection}\r\n"
            )
            .into_bytes(),
            numwant,
            scrape_hashes,
            seed,
            swarms,
        }
    }

    /// Writes `request`, replacing what `out` held.
    pub fn write(&self, request: &Request, out: &mut Vec<u8>) {
        out.clear();
        if request.kind == Kind::Scrape {
            out.extend_from_slice(&self.scrape);
            for n in 0..self.scrape_hashes {
                out.extend_from_slice(if n == 0 {
                    b"info_hash="
                } else {
                    b"&info_hash="
                });
                percent(&request.scraped(n, self.seed, self.swarms), out);
            }
        } else {
            self.write_announce(request, out);
        }
        out.extend_from_slice(&self.tail);
    }

    fn write_announce(&self, request: &Request, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.announce);
        out.extend_from_slice(b"info_hash=");
        percent(&info_hash(self.seed, request.swarm), out);
        out.extend_from_slice(b"&peer_id=-KL0100-");
        let peer = request.peer(self.seed);
        for digit in 0..12 {
            out.push(HEX[(peer >> (4 * digit)) as usize & 15]);
        }
        out.extend_from_slice(b"&port=");
        number(u64::from(request.port), out);
        let left: &[u8] = if request.has_all() {
            b"0"
        } else {
            b"1073741824"
        };
        out.extend_from_slice(b"&uploaded=0&downloaded=0&left=");
        out.extend_from_slice(left);
        if self.numwant >= 0 {
            out.extend_from_slice(b"&numwant=");
            number(self.numwant as u64, out);
        }
        out.extend_from_slice(b"&compact=1");
        out.extend_from_slice(match request.event {
            Event::None => b"",
            Event::Started => b"&event=started",
            Event::Completed => b"&event=completed",
            Event::Stopped => b"&event=stopped",
        });
    }
}

/// How much of a reply has arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// More must come.
    Partial,
    /// All of it.
    Complete(Reply<'a>),
    /// No HTTP reply, or one whose end cannot be found.
    Malformed(&'static str),
}

/// A complete reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
    /// Bytes of head and body together.
    pub len: usize,
    /// The server will close the connection.
    pub closes: bool,
}

/// Longest reply head taken, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Reads a reply from the bytes received so far; `ended` when no more can come.
pub fn read_reply(bytes: &[u8], ended: bool) -> Progress<'_> {
    let head_end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    // Before `ended` is looked at, and with the end in sight or not: the
    // verdict must not depend on how much arrives at once.
    if head_end.unwrap_or(bytes.len()) > MAX_HEAD {
        return Progress::Malformed("(reply head too long)");
    }
    let Some(head_len) = head_end else {
        return match ended {
            true => Progress::Malformed("(connection ended inside the reply head)"),
            false => Progress::Partial,
        };
    };
    let head = &bytes[..head_len];
    let status = (head.starts_with(b"HTTP/1.") && head.get(8) == Some(&b' '))
        .then(|| head.get(9..12))
        .flatten()
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let Some(status) = status else {
        return Progress::Malformed("(no HTTP/1 status line)");
    };
    let mut length = None;
    let mut closes = head.get(7) == Some(&b'0');
    for line in head.split(|b| *b == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            return Progress::Malformed("(header line without colon)");
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = std::str::from_utf8(value)
                .ok()
                .and_then(|v| v.parse::<usize>().ok());
            if length.is_none() {
                return Progress::Malformed("(Content-Length is no number)");
            }
        } else if name.eq_ignore_ascii_case(b"connection") {
            closes = value.eq_ignore_ascii_case(b"close")
                || (closes && !value.eq_ignore_ascii_case(b"keep-alive"));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Progress::Malformed("(chunked reply; trackers' clients expect Content-Length)");
        }
    }
    let rest = &bytes[head_len + 4..];
    match length {
        Some(length) if rest.len() >= length => Progress::Complete(Reply {
            status,
            body: &rest[..length],
            len: head_len + 4 + length,
            closes,
        }),
        Some(_) if ended => Progress::Malformed("(connection ended before Content-Length bytes)"),
        None if ended => Progress::Complete(Reply {
            status,
            body: rest,
            len: bytes.len(),
            closes: true,
        }),
        _ => Progress::Partial,
    }
}

/// Judges a reply to a request of `kind`; a scrape asked for `scrape_hashes`
/// different swarms.
pub fn judge<'a>(reply: &Reply<'a>, kind: Kind, numwant: i32, scrape_hashes: usize) -> Verdict<'a> {
    let Some(body) = bencode::read_body(reply.body) else {
        return Verdict::Bad(match reply.status {
            200 => "(body is no bencoded dictionary)",
            _ => "(status is not 200, and the body no bencoded dictionary)",
        });
    };
    if let Some(reason) = body.failure {
        return Verdict::Failure(reason);
    }
    if reply.status != 200 {
        return Verdict::Bad("(status is not 200)");
    }
    match (kind, body.peers, body.files) {
        (Kind::Scrape, _, Some(files)) => {
            let fewer = "(fewer swarms than asked for: unknown ones may be left out, fill first)";
            Verdict::of_swarms(files, scrape_hashes, fewer)
        }
        (Kind::Scrape, _, None) => Verdict::Bad("(scrape reply without files)"),
        (_, None, _) => Verdict::Bad("(announce reply without peers)"),
        (_, Some(_), _) if !body.has_interval => Verdict::Bad("(announce reply without interval)"),
        (_, Some(peers), _) => Verdict::of_peers(peers, numwant),
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn percent(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.extend_from_slice(&[
            b'%',
            HEX[usize::from(byte >> 4)],
            HEX[usize::from(byte & 15)],
        ]);
    }
}

fn number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: Kind) -> Request {
        Request {
            kind,
            event: Event::Completed,
            seeder: true,
            source: 0,
            port: 6881,
            swarm: 5,
        }
    }

    fn written(style: &RequestStyle, kind: Kind) -> String {
        let mut out = b"old".to_vec();
        style.write(&request(kind), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn requests_have_the_parameters_of_bep_3() {
        let style = RequestStyle::new("h:1", "/announce", true, 30, 2, 1, 6);
        let hash = |swarm| -> String {
            info_hash(1, swarm)
                .iter()
                .map(|b| format!("%{b:02X}"))
                .collect()
        };
        let text = written(&style, Kind::Announce);
        let (before, after) = text.split_once("&peer_id=-KL0100-").unwrap();
        assert_eq!(before, format!("GET /announce?info_hash={}", hash(5)));
        assert_eq!(
            &after[12..],
            "&port=6881&uploaded=0&downloaded=0&left=0&numwant=30&compact=1&event=completed HTTP/1.1\r\n\
             Host: h:1\r\nUser-Agent: karuta-load-tester\r\n\r\n"
        );
        let text = written(&style, Kind::Scrape);
        let expected = format!(
            "GET /scrape?info_hash={}&info_hash={} HTTP/1.1\r\n",
            hash(5),
            hash(0)
        );
        assert!(text.starts_with(&expected), "{text}");
        let style = RequestStyle::new("h:1", "/key/announce?a=b", false, -1, 1, 1, 6);
        let text = written(&style, Kind::Announce);
        assert!(
            text.starts_with("GET /key/announce?a=b&info_hash="),
            "{text}"
        );
        assert!(
            text.contains("\r\nConnection: close\r\n") && !text.contains("numwant"),
            "{text}"
        );
    }

    #[test]
    fn replies_are_complete_at_content_length_or_the_end() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 2\r\nConnection: close\r\n\r\ndeX";
        for len in 0..text.len() - 1 {
            assert_eq!(read_reply(&text[..len], false), Progress::Partial, "{len}");
        }
        let reply = Reply {
            status: 200,
            body: b"de",
            len: text.len() - 1,
            closes: true,
        };
        assert_eq!(read_reply(text, false), Progress::Complete(reply));
        let open = b"HTTP/1.0 404 x\r\nA: b\r\n\r\nde";
        assert_eq!(read_reply(open, false), Progress::Partial);
        let reply = Reply {
            status: 404,
            body: b"de",
            len: open.len(),
            closes: true,
        };
        assert_eq!(read_reply(open, true), Progress::Complete(reply));
    }

    #[test]
    fn broken_replies_are_malformed() {
        let broken: [&[u8]; 5] = [
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 2x0 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nde",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ];
        for bytes in broken {
            assert!(matches!(read_reply(bytes, true), Progress::Malformed(_)));
        }
    }

    #[test]
    fn a_head_without_end_is_too_long_whoever_ends_the_connection() {
        let mut text = b"HTTP/1.1 200 OK\r\nA: ".to_vec();
        text.resize(MAX_HEAD, b'a');
        assert_eq!(read_reply(&text, false), Progress::Partial);
        let ended = Progress::Malformed("(connection ended inside the reply head)");
        assert_eq!(read_reply(&text, true), ended);
        text.push(b'a');
        for ending in ["", "\r\n\r\n"] {
            text.extend(ending.bytes());
            for ended in [false, true] {
                let too_long = Progress::Malformed("(reply head too long)");
                assert_eq!(read_reply(&text, ended), too_long, "{ending:?} {ended}");
            }
        }
    }

    #[test]
    fn replies_are_judged_by_what_was_asked() {
        let judged = |status, body, kind| {
            let reply = Reply {
                status,
                body,
                len: 0,
                closes: false,
            };
            match judge(&reply, kind, 1, 1) {
                Verdict::Good { peers } => format!("good {peers}"),
                Verdict::Failure(reason) => format!("failure {}", String::from_utf8_lossy(reason)),
                Verdict::Bad(why) => why.to_string(),
            }
        };
        let announce = b"d8:intervali1e5:peers6:aaaaaae";
        assert_eq!(judged(200, announce, Kind::Announce), "good 1");
        assert_eq!(
            judged(200, announce, Kind::Scrape),
            "(scrape reply without files)"
        );
        assert_eq!(judged(500, announce, Kind::Announce), "(status is not 200)");
        assert_eq!(
            judged(200, b"d14:failure reason2:noe", Kind::Announce),
            "failure no"
        );
        assert_eq!(
            judged(200, b"d5:filesdee", Kind::Scrape),
            "(fewer swarms than asked for: unknown ones may be left out, fill first)"
        );
        let file = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaadeee";
        assert_eq!(judged(200, file, Kind::Scrape), "good 0");
        let files = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaade20:bbbbbbbbbbbbbbbbbbbbdeee";
        assert_eq!(
            judged(200, files, Kind::Scrape),
            "(more swarms than asked for)"
        );
        assert_eq!(
            judged(200, b"d5:peers0:e", Kind::Announce),
            "(announce reply without interval)"
        );
        assert_eq!(
            judged(
                200,
                b"d8:intervali1e5:peers12:aaaaaaaaaaaae",
                Kind::Announce
            ),
            "(more peers than asked for)"
        );
        assert_eq!(
            judged(200, b"hello", Kind::Announce),
            "(body is no bencoded dictionary)"
        );
    }
}
