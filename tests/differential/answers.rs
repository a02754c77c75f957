//! Answers in a form in which they can be compared: what is random is checked
//! and taken out.

use super::script::Step;
use std::collections::BTreeSet;
use std::fmt;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Over HTTP; without a head if the connection was just closed.
    Http {
        status: String,
        headers: Vec<(String, String)>,
        body: Body,
    },
    /// A datagram, if any.
    Udp(Option<Datagram>),
}

/// What an HTTP response carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A bencoded dictionary, in its order.
    Dictionary(Vec<(String, Value)>),
    /// Anything else.
    Text(String),
}

/// A bencoded value, as far as trackers use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(i64),
    Text(Vec<u8>),
    Peers(BTreeSet<Vec<u8>>),
    Dictionary(Vec<(String, Value)>),
}

/// A datagram's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub action: u32,
    pub transaction_id: u32,
    /// Of an announce: its counts.
    pub numbers: Vec<u32>,
    pub peers: BTreeSet<Vec<u8>>,
    /// Of anything else: what follows.
    pub rest: Vec<u8>,
}

/// One thing in which two answers differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aspect {
    /// What: `status`, `header X`, `keys`, `peers`, ...
    pub what: String,
    pub ours: String,
    pub theirs: String,
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, ours, theirs } = self;
        write!(f, "{what}\n    ours:   {ours}\n    theirs: {theirs}")
    }
}

impl Answer {
    pub fn of_http(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let (head, body) = match end {
            Some(end) => (&bytes[..end], &bytes[end + 4..]),
            None => (bytes, &b""[..]),
        };
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default().to_owned();
        let mut headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        if let Some((_, length)) = headers
            .iter_mut()
            .find(|(name, _)| name == "Content-Length")
        {
            assert_eq!(length.parse(), Ok(body.len()), "{}", bytes.escape_ascii());
            "right".clone_into(length);
        }
        let chunked = ("Transfer-Encoding".to_owned(), "chunked".to_owned());
        let whole = if headers.contains(&chunked) {
            joined(body)
        } else {
            body.to_vec()
        };
        let body = &whole;
        let body = match Reader(body).dictionary() {
            Some(fields) => Body::Dictionary(tidied(fields)),
            None => Body::Text(String::from_utf8_lossy(body).into_owned()),
        };
        Self::Http {
            status,
            headers,
            body,
        }
    }

    pub fn of_udp(packet: Option<Vec<u8>>) -> Self {
        let Some(packet) = packet else {
            return Self::Udp(None);
        };
        let word = |at: usize| {
            let bytes = packet.get(at * 4..at * 4 + 4);
            u32::from_be_bytes(bytes.unwrap_or(&[0xee; 4]).try_into().expect("four bytes"))
        };
        let mut datagram = Datagram {
            action: word(0),
            transaction_id: word(1),
            numbers: Vec::new(),
            peers: BTreeSet::new(),
            rest: packet.get(8..).unwrap_or_default().to_vec(),
        };
        match datagram.action {
            // Connection ids are random.
            0 => datagram
                .rest
                .truncate(datagram.rest.len().saturating_sub(8)),
            1 if packet.len() >= 20 => {
                assert!(
                    (1620..=1979).contains(&word(2)),
                    "an interval of {}",
                    word(2)
                );
                datagram.numbers = vec![word(3), word(4)];
                datagram.peers = packet[20..].chunks(6).map(<[u8]>::to_vec).collect();
                datagram.rest.clear();
            }
            _ => {}
        }
        Self::Udp(Some(datagram))
    }

    /// How many peers there are instead of which: for clients of another
    /// family.
    pub fn without_addresses(mut self) -> Self {
        match &mut self {
            Self::Http {
                body: Body::Dictionary(fields),
                ..
            } => fields.retain(|(key, _)| !key.starts_with("peers")),
            Self::Udp(Some(datagram)) => datagram.peers.clear(),
            _ => {}
        }
        self
    }
}

/// Everything in which two answers to a step differ.
pub fn compare(step: &Step, ours: &Answer, theirs: &Answer) -> Vec<Aspect> {
    let mut found = Vec::new();
    let mut differ = |what: &str, ours: &dyn fmt::Debug, theirs: &dyn fmt::Debug| {
        let (ours, theirs) = (format!("{ours:?}"), format!("{theirs:?}"));
        if ours != theirs {
            let what = what.to_owned();
            found.push(Aspect { what, ours, theirs });
        }
    };
    match (ours, theirs) {
        (
            Answer::Http {
                status,
                headers,
                body,
            },
            Answer::Http {
                status: their_status,
                headers: their_headers,
                body: their_body,
            },
        ) => {
            differ("status", status, their_status);
            differ("headers", headers, their_headers);
            compare_bodies(step, body, their_body, &mut differ);
        }
        (Answer::Udp(Some(ours)), Answer::Udp(Some(theirs))) => {
            differ("action", &ours.action, &theirs.action);
            differ(
                "transaction id",
                &ours.transaction_id,
                &theirs.transaction_id,
            );
            differ("counts", &ours.numbers, &theirs.numbers);
            compare_peers("peers", step, &ours.peers, &theirs.peers, &mut differ);
            let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
            differ("rest", &text(&ours.rest), &text(&theirs.rest));
        }
        (ours, theirs) => differ("answer", ours, theirs),
    }
    found
}

type Differ<'a> = dyn FnMut(&str, &dyn fmt::Debug, &dyn fmt::Debug) + 'a;

fn compare_bodies(step: &Step, ours: &Body, theirs: &Body, differ: &mut Differ<'_>) {
    let (Body::Dictionary(ours), Body::Dictionary(theirs)) = (ours, theirs) else {
        return differ("body", ours, theirs);
    };
    let keys = |fields: &[(String, Value)]| -> Vec<String> {
        fields.iter().map(|(key, _)| key.clone()).collect()
    };
    let empty = ("peers".to_owned(), Value::Peers(BTreeSet::new()));
    let mut with_empty = keys(ours);
    with_empty.push("peers".to_owned());
    let only_empty = theirs.contains(&empty) && keys(theirs) == with_empty;
    let what = if only_empty { NO_PEERS } else { "keys" };
    differ(what, &keys(ours), &keys(theirs));
    for (key, our) in ours {
        let their = theirs.iter().find(|(their, _)| their == key);
        match (our, their.map(|(_, value)| value)) {
            (Value::Peers(our), Some(Value::Peers(their))) => {
                compare_peers(key, step, our, their, differ);
            }
            (our, Some(their)) => differ(key, our, their),
            // Among the keys already.
            (_, None) => {}
        }
    }
}

/// Which peers of many are handed out is chance; how many is not.
fn compare_peers(
    what: &str,
    step: &Step,
    ours: &BTreeSet<Vec<u8>>,
    theirs: &BTreeSet<Vec<u8>>,
    differ: &mut Differ<'_>,
) {
    let own = [127, 0, 1, step.client];
    let mut more = theirs.difference(ours);
    if step.picks_some {
        let what = if step.seeds && ours.len() < theirs.len() {
            PEERS_OF_SEEDER
        } else {
            what
        };
        return differ(what, &ours.len(), &theirs.len());
    }
    let what = match ours.is_subset(theirs) {
        true if more.all(|peer| peer.starts_with(&own)) => OWN_ADDRESS,
        true if step.seeds => PEERS_OF_SEEDER,
        _ => what,
    };
    differ(what, &ours, &theirs);
}

/// Only they have the requester itself among its peers.
pub const OWN_ADDRESS: &str = "own address";

/// Only they have more peers for one who seeds.
pub const PEERS_OF_SEEDER: &str = "peers of a seeder";

/// Only they have the key `peers`, and no peer there.
pub const NO_PEERS: &str = "empty peers";

/// The body that was sent in these chunks (RFC 9112, 7.1).
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = chunks
            .windows(2)
            .position(|window| window == b"\r\n")
            .expect("a length");
        let digits = std::str::from_utf8(&chunks[..end]).expect("digits");
        let length = usize::from_str_radix(digits, 16).expect("a number");
        chunks = &chunks[end + 2..];
        body.extend(&chunks[..length]);
        assert_eq!(chunks[length..length + 2], *b"\r\n");
        chunks = &chunks[length + 2..];
        if length == 0 {
            assert!(chunks.is_empty());
            return body;
        }
    }
}

/// Takes out what is random, once it is checked.
fn tidied(mut fields: Vec<(String, Value)>) -> Vec<(String, Value)> {
    let mut interval = None;
    for (key, value) in &mut fields {
        match (key.as_str(), &value) {
            ("interval", Value::Number(seconds)) => {
                assert!((1620..=1979).contains(seconds), "an interval of {seconds}");
                interval = Some(*seconds);
                *value = Value::Number(0);
            }
            ("min interval", Value::Number(seconds)) => {
                assert_eq!(Some(*seconds), interval.map(|interval| interval / 2));
                *value = Value::Number(0);
            }
            // In a full scrape in no order.
            ("files", Value::Dictionary(files)) => {
                let mut files = files.clone();
                files.sort_by(|one, other| one.0.cmp(&other.0));
                *value = Value::Dictionary(files);
            }
            ("peers" | "peers6", Value::Text(bytes)) => {
                let size = if key == "peers" { 6 } else { 18 };
                assert_eq!(bytes.len() % size, 0);
                *value = Value::Peers(bytes.chunks(size).map(<[u8]>::to_vec).collect());
            }
            _ => {}
        }
    }
    fields
}

/// Reads bencode in its order, and gives up at anything else.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// A dictionary and nothing behind it.
    fn dictionary(mut self) -> Option<Vec<(String, Value)>> {
        let Value::Dictionary(fields) = self.value()? else {
            return None;
        };
        self.0.is_empty().then_some(fields)
    }

    fn value(&mut self) -> Option<Value> {
        match self.0.first()? {
            b'i' => {
                self.0 = &self.0[1..];
                Some(Value::Number(self.until(b'e')?))
            }
            b'd' => {
                self.0 = &self.0[1..];
                let mut fields = Vec::new();
                while *self.0.first()? != b'e' {
                    let key = self.text()?.escape_ascii().to_string();
                    fields.push((key, self.value()?));
                }
                self.0 = &self.0[1..];
                Some(Value::Dictionary(fields))
            }
            _ => Some(Value::Text(self.text()?)),
        }
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.until(b':')?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text.to_vec())
    }

    fn until(&mut self, end: u8) -> Option<i64> {
        let at = self.0.iter().position(|&byte| byte == end)?;
        let number = std::str::from_utf8(&self.0[..at]).ok()?.parse().ok()?;
        self.0 = &self.0[at + 1..];
        Some(number)
    }
}
