//! Chihaya's end-to-end check: asks a running tracker as two clients would and
//! says whether they find each other.
//!
//! ```text
//! first peer announces -> pause -> second peer announces -> is the first among its peers?
//! ```
//!
//! On an info hash made up for the occasion, over UDP (with the connect before
//! it, BEP 15) and over HTTP or HTTPS. Works with any tracker, not only this
//! one. Both peers are taken back at the end, so that a check leaves nothing.
//!
//! Blocking and on one thread: nobody else waits for it. Wire formats are those
//! of `protocol`; replies are read with the distrust that a stranger's deserve.

mod http;
mod udp;

use crate::bittorrent::{Event, InfoHash, PeerId};
use std::fmt::Display;
use std::time::Duration;

/// Chihaya's default for the URL over HTTP.
pub const DEFAULT_HTTP: &str = "http://127.0.0.1:6969/announce";

/// Chihaya's default for the URL over UDP.
pub const DEFAULT_UDP: &str = "udp://127.0.0.1:6969";

/// The ports that the two peers claim, as Chihaya's do.
const PORTS: [u16; 2] = [10001, 10002];

/// What to check, and how patiently.
#[derive(Clone, Debug)]
pub struct Check {
    http: Option<http::Url>,
    udp: Option<udp::Url>,
    /// The pause between the two announces: what the tracker may take to make
    /// a peer known.
    pub delay: Duration,
    /// How long one answer may take.
    pub timeout: Duration,
    /// Whether HTTPS is spoken without looking at the certificate.
    pub insecure: bool,
}

impl Check {
    /// A check of these URLs; an empty one is left out. No pause, five seconds
    /// for an answer, certificates are verified.
    ///
    /// # Errors
    /// What is wrong with a URL, or that both are empty.
    pub fn new(http: &str, udp: &str) -> Result<Self, String> {
        let given = |url: &str| !url.is_empty();
        if !given(http) && !given(udp) {
            return Err("nothing to check: --httpaddr and --udpaddr are both empty".to_owned());
        }
        let http = Some(http).filter(|url| given(url)).map(http::Url::parse);
        let udp = Some(udp).filter(|url| given(url)).map(udp::Url::parse);
        let named = |name: &str, error: String| format!("{name}: {error}");
        Ok(Self {
            http: http
                .transpose()
                .map_err(|error| named("--httpaddr", error))?,
            udp: udp.transpose().map_err(|error| named("--udpaddr", error))?,
            delay: Duration::ZERO,
            timeout: Duration::from_secs(5),
            insecure: false,
        })
    }

    /// Checks each transport, HTTP first; returns whether all went well.
    /// `say` gets one line for each. `random` must be unlike that of any other
    /// check.
    pub fn run(&self, random: [u8; 32], mut say: impl FnMut(&str)) -> bool {
        let mut all_well = true;
        if let Some(url) = &self.http {
            let mut client = http::Client::new(url, self.timeout, self.insecure);
            let outcome = self.check(&mut client, Names::new(random, 0));
            all_well &= tell(url, &outcome, &mut say);
        }
        if let Some(url) = &self.udp {
            let outcome = udp::Client::connect(url, self.timeout, transaction(random))
                .and_then(|mut client| self.check(&mut client, Names::new(random, 1)));
            all_well &= tell(url, &outcome, &mut say);
        }
        all_well
    }

    /// The check itself; what went well in words, or what did not.
    fn check(&self, client: &mut impl Client, names: Names) -> Result<String, String> {
        let [first, second] = names.peers();
        let outcome = self.meet(client, first, second);
        // Whether they can be taken back is not what is checked.
        for peer in [first, second] {
            let _ = client.announce(&peer.with(Event::Stopped));
        }
        outcome
    }

    fn meet(
        &self,
        client: &mut impl Client,
        first: PeerRequest,
        second: PeerRequest,
    ) -> Result<String, String> {
        let reply = client
            .announce(&first)
            .map_err(|error| format!("the first peer's announce: {error}"))?;
        // Chihaya hands a lonely peer itself, others nobody.
        if let Some(port) = reply.ports.iter().find(|port| **port != first.port) {
            return Err(format!(
                "the first peer's announce: the tracker names a peer (port {port}) for an info \
                 hash that was made up a moment ago"
            ));
        }
        pause(self.delay);
        let reply = client
            .announce(&second)
            .map_err(|error| format!("the second peer's announce: {error}"))?;
        if !reply.ports.contains(&first.port) {
            let ports: Vec<String> = reply.ports.iter().map(u16::to_string).collect();
            return Err(format!(
                "the second peer's announce: the first peer (port {}) is not among the {} peers \
                 of the reply (ports: {}); if this tracker makes peers known late, raise --delay",
                first.port,
                ports.len(),
                ports.join(", ")
            ));
        }
        Ok(format!(
            "ok: the second peer was told of the first; announce again in {} s",
            reply.interval
        ))
    }
}

fn tell(url: &impl Display, outcome: &Result<String, String>, say: &mut impl FnMut(&str)) -> bool {
    match outcome {
        Ok(words) => say(&format!("{url}: {words}")),
        Err(words) => say(&format!("{url}: FAILED: {words}")),
    }
    outcome.is_ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a pause is what was asked for, and nothing else happens"
)]
fn pause(delay: Duration) {
    std::thread::sleep(delay);
}

/// One transport to a tracker.
trait Client {
    /// Announces a peer.
    ///
    /// # Errors
    /// What went wrong, and what may help.
    fn announce(&mut self, peer: &PeerRequest) -> Result<Reply, String>;
}

/// An announce of a leecher, as Chihaya's check makes it.
#[derive(Clone, Copy, Debug)]
struct PeerRequest {
    info_hash: InfoHash,
    peer_id: PeerId,
    port: u16,
    event: Event,
}

impl PeerRequest {
    const DOWNLOADED: u64 = 50;
    const LEFT: u64 = 100;
    const UPLOADED: u64 = 50;
    const NUM_WANT: u32 = 50;

    const fn with(self, event: Event) -> Self {
        Self { event, ..self }
    }
}

/// What matters of a reply.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    /// Seconds.
    interval: u32,
    /// The ports of the peers.
    ports: Vec<u16>,
}

/// What the peers of one transport go by.
struct Names {
    info_hash: InfoHash,
    peer_ids: [PeerId; 2],
}

impl Names {
    fn new(random: [u8; 32], transport: u8) -> Self {
        let mut info_hash = [0; 20];
        info_hash.copy_from_slice(&random[..20]);
        info_hash[19] ^= transport;
        let peer_id = |number: u8| {
            let mut peer_id = *b"-KE0001-000000000000";
            for (digit, byte) in peer_id[8..].iter_mut().zip(&random[20..]) {
                *digit = b'a' + byte % 26;
            }
            peer_id[19] = b'0' + number;
            PeerId(peer_id)
        };
        Self {
            info_hash: InfoHash(info_hash),
            peer_ids: [peer_id(1), peer_id(2)],
        }
    }

    fn peers(&self) -> [PeerRequest; 2] {
        [0, 1].map(|at| PeerRequest {
            info_hash: self.info_hash,
            peer_id: self.peer_ids[at],
            port: PORTS[at],
            event: Event::Started,
        })
    }
}

/// The first transaction id.
const fn transaction(random: [u8; 32]) -> u32 {
    let [a, b, c, d, ..] = random;
    u32::from_be_bytes([a, b, c, d])
}

/// The ports of peers in compact form, `stride` bytes each.
///
/// # Errors
/// Bytes that are no whole number of peers.
fn compact_ports(bytes: &[u8], stride: usize) -> Result<Vec<u16>, String> {
    if !bytes.len().is_multiple_of(stride) {
        return Err(format!(
            "{} bytes of peers are no multiple of {stride}",
            bytes.len()
        ));
    }
    let port = |peer: &[u8]| match peer {
        [.., high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    };
    Ok(bytes.chunks_exact(stride).map(port).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with what it was given, and notes what it was asked.
    struct Script(Vec<Result<Reply, String>>, Vec<(u16, Event)>);

    impl Client for Script {
        fn announce(&mut self, peer: &PeerRequest) -> Result<Reply, String> {
            self.1.push((peer.port, peer.event));
            match peer.event {
                Event::Stopped => Err("who cares".to_owned()),
                _ => self.0.remove(0),
            }
        }
    }

    fn check(replies: [&[u16]; 2]) -> Result<String, String> {
        let reply = |ports: &[u16]| {
            Ok(Reply {
                interval: 1800,
                ports: ports.to_vec(),
            })
        };
        let mut script = Script(replies.map(reply).into(), Vec::new());
        let check = Check::new("", DEFAULT_UDP).expect("a check");
        let outcome = check.check(&mut script, Names::new([7; 32], 0));
        // Whatever came of it, both are taken back.
        let last = &script.1[script.1.len() - 2..];
        assert_eq!(last, [(10001, Event::Stopped), (10002, Event::Stopped)]);
        outcome
    }

    #[test]
    fn the_second_peer_must_be_told_of_the_first() {
        check([&[], &[10001]]).expect("others hand out nobody");
        check([&[10001], &[10002, 10001]]).expect("Chihaya hands out oneself");
        let error = check([&[], &[]]).expect_err("nobody");
        assert!(error.contains("not among the 0 peers"), "{error}");
        let error = check([&[], &[10002]]).expect_err("only itself");
        assert!(error.contains("not among the 1 peers"), "{error}");
        let error = check([&[4444], &[10001]]).expect_err("a stranger");
        assert!(error.contains("port 4444"), "{error}");
    }

    #[test]
    fn urls_are_checked() {
        let refused = |http: &str, udp: &str| Check::new(http, udp).expect_err("refused");
        assert!(refused("", "").contains("nothing to check"));
        assert!(refused("udp://a:1", "").starts_with("--httpaddr: "));
        assert!(refused("", "http://a:1").starts_with("--udpaddr: "));
        assert!(Check::new(DEFAULT_HTTP, DEFAULT_UDP).is_ok());
    }

    #[test]
    fn transports_do_not_share_a_swarm() {
        let (http, udp) = (Names::new([9; 32], 0), Names::new([9; 32], 1));
        assert_ne!(http.info_hash, udp.info_hash);
        let [first, second] = http.peers();
        assert_ne!(first.peer_id, second.peer_id);
    }
}
