//! The check over HTTP and HTTPS (BEP 3, 23).

use super::{PeerRequest, Reply, compact_ports};
use crate::bittorrent::Event;
use crate::protocol::bencode::{self, KeyOrder, Limits, Reader};
use crate::protocol::http::percent;
use std::fmt;
use std::time::Duration;
use ureq::http::Uri;

/// More than any reply to 50 peers.
const MAX_REPLY_BYTES: usize = 64 << 10;

/// `http[s]://host[:port]/path[?query]`.
#[derive(Clone, Debug)]
pub(super) struct Url(String);

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Url {
    /// Reads a URL; without a path it is that of announces.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let uri: Option<Uri> = text.parse().ok();
        let is_web = |uri: &Uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        };
        let Some(uri) = uri.filter(is_web) else {
            return Err(format!("{text:?} is no URL like {}", super::DEFAULT_HTTP));
        };
        let has_path = uri.path() != "/" || uri.query().is_some();
        Ok(Self(match has_path {
            true => text.to_owned(),
            false => format!("{}/announce", text.trim_end_matches('/')),
        }))
    }

    fn request(&self, peer: &PeerRequest) -> String {
        let mut url = self.0.clone();
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str("info_hash=");
        percent::encode_to(&peer.info_hash.0, &mut url);
        url.push_str("&peer_id=");
        percent::encode_to(&peer.peer_id.0, &mut url);
        let event = match peer.event {
            Event::Completed => "completed",
            Event::Started => "started",
            Event::Stopped => "stopped",
            _ => "",
        };
        let numbers = format!(
            "&port={}&uploaded={}&downloaded={}&left={}&numwant={}&compact=1&event={event}",
            peer.port,
            PeerRequest::UPLOADED,
            PeerRequest::DOWNLOADED,
            PeerRequest::LEFT,
            PeerRequest::NUM_WANT,
        );
        url + &numbers
    }
}

/// A tracker behind a URL.
pub(super) struct Client {
    url: Url,
    agent: ureq::Agent,
}

impl Client {
    pub(super) fn new(url: &Url, timeout: Duration, insecure: bool) -> Self {
        let tls = ureq::tls::TlsConfig::builder().disable_verification(insecure);
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            // A tracker is asked directly, as clients do.
            .proxy(None)
            .tls_config(tls.build());
        Self {
            url: url.clone(),
            agent: config.build().into(),
        }
    }
}

impl super::Client for Client {
    fn announce(&mut self, peer: &PeerRequest) -> Result<Reply, String> {
        let request = self.agent.get(self.url.request(peer));
        let mut response = request.call().map_err(|error| explain(&error))?;
        let status = response.status();
        if status != 200 {
            return Err(format!(
                "the answer has status {status}; is the path right?",
            ));
        }
        let body = response.body_mut().with_config();
        let body = body.limit(MAX_REPLY_BYTES as u64).read_to_vec();
        read(&body.map_err(|error| explain(&error))?)
    }
}

fn explain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            format!("{error}: no program listens on this port")
        }
        ureq::Error::Io(error)
            if error
                .get_ref()
                .is_some_and(|error| error.is::<rustls::Error>()) =>
        {
            format!(
                "{error}; --insecure does without a certificate that public authorities vouch for"
            )
        }
        ureq::Error::Timeout(_) => {
            format!("{error}; is a tracker running there, and do firewalls let it be reached?")
        }
        error => error.to_string(),
    }
}

/// Reads a reply to an announce: compact, or as a list of dictionaries.
fn read(body: &[u8]) -> Result<Reply, String> {
    let limits = Limits {
        max_bytes: MAX_REPLY_BYTES,
        // Chihaya's are not sorted.
        key_order: KeyOrder::Any,
        ..Limits::default()
    };
    let mut interval = None;
    let mut ports = Vec::new();
    let mut depth = 0;
    let (mut key, mut inner): (&[u8], &[u8]) = (b"", b"");
    for event in Reader::new(body, limits) {
        let event = event.map_err(|error| format!("the answer is not bencode: {error}"))?;
        use bencode::Event::{Bytes, Dictionary, End, Integer, Key, List};
        match (event, depth) {
            (Dictionary, _) => depth += 1,
            (List, 1..) => depth += 1,
            (End, _) => depth -= 1,
            (Key(found), 1) => key = found,
            (Key(found), _) => inner = found,
            (Bytes(text), 1) if key == b"failure reason" => {
                return Err(format!(
                    "the tracker refuses it: {:?}",
                    String::from_utf8_lossy(text)
                ));
            }
            (Bytes(peers), 1) if key == b"peers" => ports.extend(compact_ports(peers, 6)?),
            (Bytes(peers), 1) if key == b"peers6" => ports.extend(compact_ports(peers, 18)?),
            (Integer(seconds), 1) if key == b"interval" => interval = u32::try_from(seconds).ok(),
            (Integer(port), 3) if key == b"peers" && inner == b"port" => {
                ports.extend(u16::try_from(port));
            }
            (_, 0) => return Err("the answer is no dictionary".to_owned()),
            _ => {}
        }
    }
    match interval {
        Some(interval) if interval > 0 => Ok(Reply { interval, ports }),
        _ => Err("the answer has no interval".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_in_every_form() {
        let reply = read(b"d8:intervali1800e5:peers6:\x7f\0\0\x01\x27\x11e").expect("compact");
        assert_eq!((reply.interval, reply.ports), (1800, vec![10001]));
        let mut both = b"d6:peers618:".to_vec();
        both.extend([0; 16]);
        both.extend(b"\x27\x125:peers0:8:intervali5ee");
        assert_eq!(read(&both).expect("IPv6, unsorted").ports, [10002]);
        let list = b"d8:intervali60e5:peersld2:ip9:127.0.0.17:peer id1:x4:porti10001eeee";
        assert_eq!(read(list).expect("dictionaries").ports, [10001]);
    }

    #[test]
    fn replies_are_read_with_distrust() {
        let cases: [(&[u8], &str); 7] = [
            (b"", "not bencode"),
            (b"<html>", "not bencode"),
            (b"i5e", "no dictionary"),
            (b"le", "no dictionary"),
            (b"d5:peers0:e", "no interval"),
            (b"d8:intervali-1e5:peers0:e", "no interval"),
            (b"d8:intervali60e5:peers5:abcdee", "no multiple of 6"),
        ];
        for (body, expected) in cases {
            let error = read(body).expect_err("refused");
            assert!(error.contains(expected), "{error}");
        }
        let error = read(b"d14:failure reason3:bade").expect_err("refused");
        assert!(error.contains("refuses it: \"bad\""), "{error}");
    }

    #[test]
    fn a_url_without_a_path_means_announces() {
        let read = |text| Url::parse(text).expect("a URL").0;
        assert_eq!(read("http://h:1"), "http://h:1/announce");
        assert_eq!(read("https://h/"), "https://h/announce");
        assert_eq!(read("http://h/a"), "http://h/a");
        assert_eq!(read("http://h/?k=v"), "http://h/?k=v");
        for text in ["", "h", "http://", "udp://h:1", "http://h h/"] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
