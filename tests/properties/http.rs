//! Properties of the HTTP codec: it agrees with a naive model, which decodes
//! everything into maps first.

use karuta::bittorrent::{Event, InfoHash, PeerId};
use karuta::protocol::http::{
    self, AnnounceQuery, Failure, HeadOptions, HeadStatus, NumWantLimits, Parameter, Routes,
    percent, query,
};
use std::collections::HashMap;
use std::net::IpAddr;

const LIMITS: NumWantLimits = NumWantLimits {
    default: 50,
    max: 100,
};

/// Any bytes are parsed without a panic, however they arrive.
pub fn any_request(bytes: &[u8]) {
    let options = HeadOptions {
        max_head_bytes: 1024,
        real_ip_header: Some("X-Real-IP"),
    };
    if let Ok(HeadStatus::Complete(head)) = http::parse_head(bytes, &options) {
        assert!(head.head_len <= bytes.len().min(options.max_head_bytes));
        assert!(head.path.starts_with('/'));
        assert!(!(head.keep_alive && head.has_body));
        // What follows the head does not matter, and no part of it is enough.
        let complete = Ok(HeadStatus::Complete(head));
        assert_eq!(
            http::parse_head(&bytes[..head.head_len], &options),
            complete
        );
        for end in [0, head.head_len / 2, head.head_len - 1] {
            let partial = Ok(HeadStatus::Partial);
            assert_eq!(http::parse_head(&bytes[..end], &options), partial);
        }
        let routes = Routes::compile(
            &["/announce", "/:a/announce", "/x/*rest"],
            &["/scrape", "/:a/:b"],
        );
        if let Some(found) = routes.unwrap().find(head.path) {
            for (_, value) in found.parameters.iter() {
                assert!(head.path.contains(value));
            }
        }
        any_query(head.query);
        if let Some(value) = head.real_ip {
            any_address(value);
        }
    }
    any_query(bytes);
    any_address(bytes);
}

/// The parsers of announces and scrapes agree with the model.
pub fn any_query(bytes: &[u8]) {
    let model = Model::read(bytes);
    let announce = http::parse_announce(bytes, LIMITS);
    match (&model, announce) {
        (Err(expected), Err(failure)) => assert_eq!(failure, *expected),
        (Err(expected), Ok(_)) => panic!("accepted, model: {expected}"),
        (Ok(model), announce) => model.check_announce(announce),
    }
    let mut hashes = Vec::new();
    let max = 2;
    let scrape = http::parse_scrape(bytes, max, |hash| hashes.push(hash));
    match model {
        Err(expected) => assert_eq!(scrape, Err(expected)),
        Ok(model) if model.info_hashes.is_empty() => assert_eq!(scrape, Err(Failure::NoInfoHash)),
        Ok(mut model) => {
            model.info_hashes.truncate(max);
            assert_eq!(scrape, Ok(model.info_hashes.len()));
            assert_eq!(hashes, model.info_hashes);
        }
    }
}

/// Decoding undoes encoding, whatever the bytes.
pub fn any_value(bytes: &[u8]) {
    let mut encoded = String::new();
    percent::encode_to(bytes, &mut encoded);
    assert!(encoded.is_ascii());
    let encoded = encoded.into_bytes();
    let mut decoded = Vec::new();
    percent::decode_to(&encoded, &mut decoded).unwrap();
    assert_eq!(decoded, bytes);
    let exact = bytes.first_chunk::<20>().filter(|_| bytes.len() == 20);
    assert_eq!(percent::decode_exact::<20>(&encoded), Ok(exact.copied()));
    // And as it comes: decoding either fails everywhere or nowhere.
    let model = decode(bytes);
    decoded.clear();
    let result = percent::decode_to(bytes, &mut decoded);
    assert_eq!(result.is_ok(), model.is_some());
    assert_eq!(percent::validate(bytes).is_ok(), model.is_some());
    let mut buffer = [0; 8];
    let into =
        percent::decode_into(bytes, &mut buffer).map(|found| found.map(|found| found.to_vec()));
    match model {
        None => assert!(into.is_err()),
        Some(model) => {
            assert_eq!(decoded, model);
            assert_eq!(into, Ok((model.len() <= 8).then_some(model)));
        }
    }
}

fn any_address(bytes: &[u8]) {
    let socket: IpAddr = "192.0.2.1".parse().unwrap();
    let claimed = http::ClaimedAddresses::default();
    match http::resolve_address(&claimed, true, Some(bytes), socket) {
        Ok(found) => assert_eq!(found, found.to_canonical()),
        Err(failure) => assert!(matches!(
            failure,
            Failure::UnparsableIp | Failure::InvalidIp
        )),
    }
}

/// A query, decoded into maps.
struct Model {
    info_hashes: Vec<InfoHash>,
    values: HashMap<Vec<u8>, Vec<u8>>,
}

impl Model {
    fn read(bytes: &[u8]) -> Result<Self, Failure> {
        let mut model = Self {
            info_hashes: Vec::new(),
            values: HashMap::new(),
        };
        for pair in bytes.split(|&byte| byte == b'&' || byte == b';') {
            if pair.is_empty() {
                continue;
            }
            let at = pair.iter().position(|&byte| byte == b'=');
            let (key, value) = match at {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &b""[..]),
            };
            let key = decode(key).ok_or(Failure::InvalidEscape)?;
            let value = decode(value).ok_or(Failure::InvalidEscape)?;
            let key = key.to_ascii_lowercase();
            if key == b"info_hash" {
                let hash = value.try_into().map_err(|_| Failure::InvalidInfoHash)?;
                model.info_hashes.push(InfoHash(hash));
            } else {
                model.values.insert(key, value);
            }
        }
        for (key, value) in &model.values {
            let found = query::find(bytes, key).and_then(decode);
            assert_eq!(found.as_ref(), Some(value));
        }
        Ok(model)
    }

    fn check_announce(&self, found: Result<AnnounceQuery<'_>, Failure>) {
        let expected = self.announce();
        let found = found.map(|found| AnnounceQuery {
            claimed: http::ClaimedAddresses::default(),
            ..found
        });
        assert_eq!(found, expected);
    }

    fn announce(&self) -> Result<AnnounceQuery<'static>, Failure> {
        let text = |key: &str| {
            let value = self.values.get(key.as_bytes())?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let number = |key: &str, parameter| {
            // More than 32 characters are not read.
            let digits = text(key).filter(|text| text.len() <= 32 && !text.starts_with('+'));
            digits
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or(Failure::Unparsable(parameter))
        };
        let event = match text("event").unwrap_or_default().to_lowercase().as_str() {
            "" | "none" => Event::None,
            "started" => Event::Started,
            "stopped" => Event::Stopped,
            "completed" => Event::Completed,
            "paused" => Event::Paused,
            _ => return Err(Failure::InvalidEvent),
        };
        let info_hash = match self.info_hashes[..] {
            [] => return Err(Failure::NoInfoHash),
            [info_hash] => info_hash,
            _ => return Err(Failure::MultipleInfoHashes),
        };
        let peer_id = self
            .values
            .get(&b"peer_id"[..])
            .ok_or(Failure::Unparsable(Parameter::PeerId))?;
        let peer_id = peer_id[..].try_into().map_err(|_| Failure::InvalidPeerId)?;
        let left = number("left", Parameter::Left)?;
        let downloaded = number("downloaded", Parameter::Downloaded)?;
        let uploaded = number("uploaded", Parameter::Uploaded)?;
        let num_want = match text("numwant") {
            None => LIMITS.default,
            Some(text) => {
                let digits = text.strip_prefix('-').unwrap_or(&text);
                let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                if !is_number || text.len() > 32 {
                    return Err(Failure::Unparsable(Parameter::NumWant));
                }
                match text.parse::<i128>() {
                    _ if text.starts_with('-') => LIMITS.default,
                    Ok(asked) => asked.min(LIMITS.max.into()) as u32,
                    Err(_) => panic!("32 digits fit"),
                }
            }
        };
        let port = number("port", Parameter::Port)?;
        let port = u16::try_from(port).map_err(|_| Failure::Unparsable(Parameter::Port))?;
        if port == 0 {
            return Err(Failure::InvalidPort);
        }
        Ok(AnnounceQuery {
            info_hash,
            peer_id: PeerId(peer_id),
            port,
            left,
            downloaded,
            uploaded,
            event,
            num_want,
            compact: text("compact").as_deref() != Some("0"),
            no_peer_id: text("no_peer_id").is_some_and(|value| value != "0"),
            claimed: http::ClaimedAddresses::default(),
        })
    }
}

/// Percent-decoding, the naive way.
fn decode(raw: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        if raw[at] == b'%' {
            let digits = raw.get(at + 1..at + 3)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            let digits = std::str::from_utf8(digits).unwrap();
            decoded.push(u8::from_str_radix(digits, 16).unwrap());
            at += 3;
        } else {
            decoded.push(raw[at]);
            at += 1;
        }
    }
    Some(decoded)
}
