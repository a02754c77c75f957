//! Reads the tables of malformed requests, for whoever runs them: against the
//! codec, or against a server over sockets. The format is described at the top
//! of `udp.txt` and `http.txt`.
//!
//! A table is written by us: a mistake in it panics with its line.

use std::collections::HashMap;

/// One case of a table.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// What is malformed.
    pub name: String,
    /// Where the rule is written.
    pub cites: String,
    /// Settings that differ from the default.
    pub settings: Vec<String>,
    /// What is sent.
    pub send: Bytes,
    /// What has to come back.
    pub expect: Expect,
    /// HTTP: whether the connection is closed whatever the settings.
    pub close: bool,
}

/// What has to come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// The table forgot to say.
    #[default]
    Missing,
    /// UDP: nothing.
    Drop,
    /// HTTP: nothing yet.
    Wait,
    /// An answer that is no error.
    Served,
    /// UDP: exactly these bytes.
    Exactly(Bytes),
    /// HTTP: this status and exactly this body.
    Status(u16, Vec<u8>),
}

/// Bytes that may contain connection ids, which are only known when the case
/// runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    ConnectionId,
}

impl Bytes {
    /// The bytes, given the connection id that was issued to the sender.
    pub fn with(&self, connection_id: u64) -> Vec<u8> {
        let parts = self.0.iter().map(|part| match part {
            Part::Literal(bytes) => bytes.clone(),
            Part::ConnectionId => connection_id.to_be_bytes().to_vec(),
        });
        parts.collect::<Vec<_>>().concat()
    }
}

/// All cases of a table.
pub fn read(table: &str) -> Vec<Case> {
    let mut names: HashMap<&str, Vec<Part>> = HashMap::new();
    names.insert("CID", vec![Part::ConnectionId]);
    let mut cases: Vec<Case> = Vec::new();
    for (index, line) in table.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let at = format!("line {}: {line}", index + 1);
        if word == "let" {
            let (name, rest) = rest.split_once(' ').unwrap_or_else(|| panic!("{at}"));
            let parts = tokens(rest, &names, &at);
            assert!(names.insert(name, parts).is_none(), "named twice, {at}");
            continue;
        }
        if word == "case" {
            cases.push(Case {
                name: rest.to_owned(),
                ..Case::default()
            });
            continue;
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("no case, {at}"));
        match (word, rest) {
            ("cites", _) => case.cites = rest.to_owned(),
            ("settings", _) => case.settings = rest.split(' ').map(str::to_owned).collect(),
            ("send", _) => case.send.0.extend(tokens(rest, &names, &at)),
            ("connection", "close") => case.close = true,
            ("connection", "keep") => case.close = false,
            ("expect", _) => case.expect = expectation(rest, &names, &at),
            _ => panic!("unknown word, {at}"),
        }
    }
    for case in &cases {
        assert_ne!(case.expect, Expect::Missing, "{}", case.name);
        assert!(!case.cites.is_empty(), "{}", case.name);
    }
    cases
}

fn expectation(text: &str, names: &HashMap<&str, Vec<Part>>, at: &str) -> Expect {
    let bytes = |text| Bytes(tokens(text, names, at));
    match text.split_once(' ') {
        None if text == "drop" => Expect::Drop,
        None if text == "wait" => Expect::Wait,
        None if text == "served" => Expect::Served,
        Some(("failure", reason)) => {
            let reason = bytes(reason).with(0);
            let head = format!("d14:failure reason{}:", reason.len());
            Expect::Status(200, [head.as_bytes(), &reason, b"e"].concat())
        }
        Some(("status", rest)) => {
            let (code, body) = rest.split_once(' ').unwrap_or_else(|| panic!("{at}"));
            let code = code.parse().unwrap_or_else(|_| panic!("{at}"));
            Expect::Status(code, bytes(body).with(0))
        }
        _ => Expect::Exactly(bytes(text)),
    }
}

fn tokens(text: &str, names: &HashMap<&str, Vec<Part>>, at: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (token, behind) = token(rest, names, at);
        // `*N` may follow directly or behind a space.
        let (times, behind) = match behind.trim_start().strip_prefix('*') {
            Some(count) => {
                let end = count.find(' ').unwrap_or(count.len());
                let times = count[..end].parse().unwrap_or_else(|_| panic!("{at}"));
                (times, &count[end..])
            }
            None => (1, behind),
        };
        for _ in 0..times {
            parts.extend_from_slice(&token);
        }
        rest = behind.trim_start();
    }
    parts
}

/// The first token of a text, and what follows it.
fn token<'t>(text: &'t str, names: &HashMap<&str, Vec<Part>>, at: &str) -> (Vec<Part>, &'t str) {
    if let Some(quoted) = text.strip_prefix('"') {
        let (bytes, behind) = unquote(quoted, at);
        return (vec![Part::Literal(bytes)], behind);
    }
    let end = text.find([' ', '*']).unwrap_or(text.len());
    let (word, behind) = text.split_at(end);
    if let Some(parts) = names.get(word) {
        return (parts.clone(), behind);
    }
    let is_hex = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    assert!(
        word.bytes().all(is_hex),
        "neither named nor hexadecimal, {at}"
    );
    let (pairs, odd) = word.as_bytes().as_chunks::<2>();
    assert!(odd.is_empty(), "half a byte, {at}");
    let bytes = pairs.iter().map(|pair| hex(pair, at)).collect();
    (vec![Part::Literal(bytes)], behind)
}

/// The bytes up to the closing quote, and what follows it.
fn unquote<'t>(text: &'t str, at: &str) -> (Vec<u8>, &'t str) {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    loop {
        (bytes, rest) = match rest {
            [b'"', ..] => return (bytes, &text[text.len() - rest.len() + 1..]),
            [b'\\', b'x', high, low, rest @ ..] => {
                bytes.push(hex(&[*high, *low], at));
                (bytes, rest)
            }
            [b'\\', escaped, rest @ ..] => {
                bytes.push(match escaped {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b'"' | b'\\' => *escaped,
                    _ => panic!("unknown escape, {at}"),
                });
                (bytes, rest)
            }
            [byte, rest @ ..] => {
                bytes.push(*byte);
                (bytes, rest)
            }
            [] => panic!("no closing quote, {at}"),
        };
    }
}

fn hex(pair: &[u8; 2], at: &str) -> u8 {
    let text = std::str::from_utf8(pair).unwrap_or_else(|_| panic!("{at}"));
    u8::from_str_radix(text, 16).unwrap_or_else(|_| panic!("{at}"))
}
