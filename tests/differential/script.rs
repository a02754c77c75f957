//! What both trackers are asked, in its order.

use super::differences::{
    FULL_SCRAPE, HALF_A_HASH, LATE_COMPLETED, LEFT_BEHIND, NEGATIVE_PORT, NO_PORT,
    REFUSED_DATAGRAM, SHORT_WITH_WRONG_ID, STATISTICS_HEAD, STATISTICS_WITH_HASH,
};
use super::trackers::{LISTED, hash};

/// One request.
pub struct Step {
    /// Says what is special about it.
    pub name: String,
    /// Who asks: the last part of an address.
    pub client: u8,
    pub request: Request,
    /// Whether there are more peers than the client is given.
    pub picks_some: bool,
    /// Whether it comes from a seeder.
    pub seeds: bool,
    /// Whether karuta's answer may lag behind what it was told.
    pub lags: bool,
    /// In what answers to it may differ.
    pub difference: Option<&'static str>,
}

/// What is sent.
pub enum Request {
    /// All bytes of it.
    Http(Vec<u8>),
    /// A datagram; a connection id of all ones is replaced by a right one.
    Udp(Vec<u8>),
}

/// A connection id to be replaced.
const RIGHT: u64 = u64::MAX;

/// A torrent that is not on the list.
const UNLISTED: u8 = 250;

/// All steps.
pub fn script() -> Vec<Step> {
    let mut steps = Steps(Vec::new());
    routes(&mut steps);
    parameters(&mut steps);
    let events = ["", "started", "completed", "stopped", "paused", "nonsense"];
    for (at, event) in events.into_iter().enumerate() {
        lives(&mut steps, 10 + at as u8, event);
    }
    oddities(&mut steps);
    crowd(&mut steps);
    http_scrapes(&mut steps);
    malformed_http(&mut steps);
    udp(&mut steps);
    malformed_udp(&mut steps);
    steps.0
}

struct Steps(Vec<Step>);

impl Steps {
    fn push(&mut self, name: &str, client: u8, request: Request) -> &mut Step {
        let name = format!("{}: {name}", self.0.len());
        self.0.push(Step {
            name,
            client,
            request,
            picks_some: false,
            seeds: false,
            lags: false,
            difference: None,
        });
        self.0.last_mut().expect("just pushed")
    }

    fn get(&mut self, client: u8, target: &str) -> &mut Step {
        let request = format!("GET {target} HTTP/1.1\r\nHost: tracker\r\n\r\n");
        let short: String = target.chars().take(160).collect();
        self.push(
            &format!("GET {short}"),
            client,
            Request::Http(request.into()),
        )
    }

    fn raw(&mut self, request: &[u8]) -> &mut Step {
        let short: Vec<u8> = request.iter().copied().take(120).collect();
        let name = format!("raw {}", short.escape_ascii());
        self.push(&name, 1, Request::Http(request.to_vec()))
    }

    fn announce(&mut self, client: u8, torrent: u8, more: &str) -> &mut Step {
        let hash = percent(&hash(torrent));
        let target = format!("/announce?info_hash={hash}&peer_id=-OT1234-abcdefghijkl{more}");
        let step = self.get(client, &target);
        let number = step.name.split(' ').next().unwrap_or_default();
        step.name = format!("{number} announce {torrent} by {client} {more}");
        step.seeds = more.contains("left=0");
        step
    }

    fn scrape(&mut self, torrent: u8) -> &mut Step {
        self.get(1, &format!("/scrape?info_hash={}", percent(&hash(torrent))))
    }

    fn datagram(&mut self, name: &str, client: u8, packet: Vec<u8>) -> &mut Step {
        self.push(&format!("datagram {name}"), client, Request::Udp(packet))
    }
}

pub fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

/// First letters decide.
fn routes(steps: &mut Steps) {
    let query = format!("?info_hash={}&port=6881&left=1", percent(&hash(0)));
    for path in [
        "/announce",
        "/announce.php",
        "/a",
        "/announce/",
        "//announce",
        "/anything/else",
        "/A",
        "/%61nnounce",
        "/",
        "/index.html",
        "/favicon.ico",
        "/s",
        "/b",
        "/sc",
        "/scrape",
        "/scrape.php",
        "/scrape/",
        "/statistics",
        "/robots.txt",
        "/announce%20",
        "/tracker/announce",
    ] {
        steps.get(1, &format!("{path}{query}"));
    }
    for path in [
        "/",
        "/announce",
        "/a",
        "/scrape.php",
        "/index.html",
        "//",
        "/?",
        "/announce?",
    ] {
        steps.get(1, path);
    }
    steps.get(1, &format!("/announce{query}&compact=0"));
}

/// What an announce may carry, and what is wrong with it.
fn parameters(steps: &mut Steps) {
    // Each has a torrent of its own: what one does must not tell in the next.
    let mut torrent = 100;
    for more in [
        "&port=6881&left=0&uploaded=0&downloaded=0&compact=1&event=started",
        "&port=6881",
        "",
        "&port=0",
        "&port=65535&left=1",
        "&port=65536",
        "&port=-1",
        "&port=x",
        "&port=",
        "&port",
        "&left=0",
        "&left=x&port=6882",
        "&left=&port=6882",
        "&left=-5&port=6883",
        "&left=18446744073709551615&port=6884",
        "&left=00&port=6885",
        "&uploaded=x&downloaded=y&port=6886&left=1",
        "&port=6887&left=1&compact=1&compact=1",
        "&port=6887&left=1&compact=2",
        "&port=6887&left=1&compact=x",
        "&port=6887&left=1&compact6=0",
        "&port=6887&left=1&ip=192.0.2.1",
        "&port=6887&left=1&ip=nonsense",
        "&port=6887&left=1&ipv6=2001:db8::1",
        "&port=6887&left=1&key=abc&trackerid=x&no_peer_id=1&supportcrypto=1",
        "&port=6887&left=1&numwant=50",
        "&port=6887&left=1&numwant=0",
        "&port=6887&left=1&numwant=-1",
        "&port=6887&left=1&numwant=-1000",
        "&port=6887&left=1&numwant=1000",
        "&port=6887&left=1&numwant=x",
        "&port=6887&left=1&numwant=",
        "&port=6887&left=1&unknown=%zz",
        "&port=6887&left=1&",
        "&&port=6887&left=1",
        "&port=6887&left=1&=",
        "&port=6887;left=1",
        "&PORT=6888&LEFT=0",
        "&port=%36%38%38%39&left=1",
        "&port=6887&port=6890&left=1",
        "&port=6887&left=1#fragment",
    ] {
        torrent += 1;
        let difference = match more {
            "" | "&port=0" | "&left=0" | "&PORT=6888&LEFT=0" => Some(NO_PORT),
            "&port=-1" => Some(NEGATIVE_PORT),
            _ => None,
        };
        steps.announce(1, torrent, more).difference = difference;
        // What it has left behind.
        steps.announce(2, torrent, "&port=7000&left=1").difference = difference;
        steps.scrape(torrent).difference = difference;
    }
    let whole = percent(&hash(2));
    assert!(torrent < LISTED);
    for query in [
        format!("info_hash={whole}&info_hash={whole}&port=6881"),
        format!("info_hash={}&port=6881", &whole[..57]),
        format!("info_hash={whole}%00&port=6881"),
        "info_hash=&port=6881".to_owned(),
        "info_hash&port=6881".to_owned(),
        "port=6881&left=0".to_owned(),
        "port=6881&left=0&info_hash".to_owned(),
        format!("info_hash={}&port=6881", whole.to_lowercase()),
        format!("info_hash={whole}&port=6881&peer_id=short"),
        format!("info_hash={whole}&port=6881&peer_id={}", "x".repeat(21)),
        format!(
            "info_hash={whole}&port=6881&peer_id=%00%01{}",
            "x".repeat(18)
        ),
        format!("INFO_HASH={whole}&port=6881"),
        format!("info_hash=%2x{}&port=6881", &whole[3..]),
        format!("x={}&info_hash={whole}&port=6881", "y".repeat(3000)),
    ] {
        steps.get(1, &format!("/announce?{query}"));
    }
    let bare = format!("/announce?info_hash={}", percent(&hash(4)));
    steps.get(1, &bare).difference = Some(NO_PORT);
}

/// Peers that come, change and go, on the list and off it.
fn lives(steps: &mut Steps, at: u8, event: &str) {
    let event = format!("&event={event}");
    for torrent in [at, UNLISTED] {
        for (client, left) in [(1, 1), (2, 0), (3, 7), (1, 3), (2, 5)] {
            let more = format!("&port=700{client}&left={left}{event}");
            steps.announce(client, torrent, &more);
        }
        for (client, more) in [
            (1, "&port=7001&left=0&event=completed"),
            (1, "&port=7001&left=0&event=completed"),
            (3, "&port=7003&left=3"),
            (2, "&port=7002&left=0&event=stopped"),
            (2, "&port=7002&left=0&event=stopped"),
            (1, "&port=7001&left=0&event=stopped"),
            (3, "&port=7003&left=0"),
        ] {
            steps.announce(client, torrent, more);
        }
        steps.scrape(torrent);
        steps.announce(3, torrent, "&port=7003&left=0&event=stopped");
        steps.scrape(torrent);
    }
}

/// One that seeds before it says that it has completed, and one that was the
/// only one.
fn oddities(steps: &mut Steps) {
    steps.announce(1, 20, "&port=7001&left=0");
    for _ in 0..2 {
        let step = steps.announce(1, 20, "&port=7001&left=0&event=completed");
        step.difference = Some(LATE_COMPLETED);
    }
    steps.scrape(20).difference = Some(LATE_COMPLETED);
    steps.announce(1, 21, "&port=7001&left=1");
    steps.announce(1, 21, "&port=7001&left=1&event=stopped");
    steps.scrape(21).difference = Some(LEFT_BEHIND);
}

/// More peers than one reply has.
fn crowd(steps: &mut Steps) {
    for peer in 0..70u16 {
        let left = u16::from(peer % 3 == 0);
        let more = format!("&port={}&left={left}&numwant=0", 8000 + peer);
        steps.announce(1 + (peer % 5) as u8, 30, &more);
    }
    for numwant in ["", "&numwant=1", "&numwant=10", "&numwant=60"] {
        for left in [0, 1] {
            let more = format!("&port=9000&left={left}{numwant}");
            steps.announce(9, 30, &more).picks_some = true;
        }
    }
    for left in [0, 1] {
        steps.announce(9, 30, &format!("&port=9000&left={left}&numwant=200"));
    }
    steps.announce(9, 30, "&port=9000&left=0&event=stopped");
}

fn http_scrapes(steps: &mut Steps) {
    let fields = |torrents: &[u8]| -> String {
        let fields: Vec<String> = torrents
            .iter()
            .map(|&torrent| format!("info_hash={}", percent(&hash(torrent))))
            .collect();
        fields.join("&")
    };
    for torrents in [
        &[30][..],
        &[30, 1],
        &[1, 30],
        &[39],
        &[39, 30],
        &[30, 30],
        &[UNLISTED],
    ] {
        steps.get(1, &format!("/scrape?{}", fields(torrents)));
    }
    for count in [63, 64, 65, 70] {
        steps.get(1, &format!("/scrape?{}", fields(&some(count))));
    }
    steps.get(1, &format!("/scrape?{}&x=y", fields(&[30])));
    for query in ["", "x=y", "info_hash=short", "info_hash=", "info_hash"] {
        steps.get(1, &format!("/scrape?{query}"));
    }
}

/// So many torrents, known and unknown ones.
fn some(count: u8) -> Vec<u8> {
    let known = [0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 30, 198, 197, UNLISTED];
    known.into_iter().cycle().take(count.into()).collect()
}

fn malformed_http(steps: &mut Steps) {
    let target = format!("/announce?info_hash={}&port=6881&left=1", percent(&hash(3)));
    for request in [
        format!("GET {target} HTTP/1.0\r\n\r\n"),
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"),
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n"),
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n"),
        format!("GET {target} HTTP/1.1\n\n"),
        format!("GET {target}\r\n\r\n"),
        format!("get {target} HTTP/1.1\r\n\r\n"),
        format!("POST {target} HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
        format!("HEAD {target} HTTP/1.1\r\n\r\n"),
        "GET http://tracker/announce HTTP/1.1\r\n\r\n".to_owned(),
        "GET  HTTP/1.1\r\n\r\n".to_owned(),
        "nonsense\r\n\r\n".to_owned(),
    ] {
        steps.raw(request.as_bytes());
    }
}

fn announce_packet(torrent: u8, port: u16, left: u64, event: u32, num_want: i32) -> Vec<u8> {
    let mut packet = RIGHT.to_be_bytes().to_vec();
    packet.extend(1u32.to_be_bytes());
    packet.extend(7u32.to_be_bytes());
    packet.extend(hash(torrent));
    packet.extend(b"-OT1234-abcdefghijkl");
    for number in [0, left, 0] {
        packet.extend(u64::to_be_bytes(number));
    }
    packet.extend(event.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend(num_want.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet
}

fn scrape_packet(torrents: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let mut packet = RIGHT.to_be_bytes().to_vec();
    packet.extend(2u32.to_be_bytes());
    packet.extend(9u32.to_be_bytes());
    for torrent in torrents {
        packet.extend(hash(torrent));
    }
    packet
}

fn udp(steps: &mut Steps) {
    let mut connect = 0x0417_2710_1980u64.to_be_bytes().to_vec();
    connect.extend([0, 0, 0, 0, 1, 2, 3, 4]);
    steps.datagram("connect", 1, connect);
    for torrent in [31, UNLISTED] {
        for (client, port, left, event) in [
            (1, 7001, 1, 2),
            (2, 7002, 0, 2),
            (3, 7003, 7, 0),
            (1, 7001, 0, 1),
            (1, 7001, 0, 1),
            (2, 7002, 5, 0),
            (4, 7004, u64::MAX, 2),
            (5, 7005, 1 << 32, 4),
            (6, 7006, 1, 99),
            (2, 7002, 0, 3),
            (2, 7002, 0, 3),
        ] {
            let packet = announce_packet(torrent, port, left, event, -1);
            let name = format!("{torrent}: {client}:{port}, left {left}, event {event}");
            let step = steps.datagram(&name, client, packet);
            step.seeds = left == 0;
            if torrent == UNLISTED && event != 3 {
                step.difference = Some(REFUSED_DATAGRAM);
            }
        }
        steps.datagram(&format!("scrape {torrent}"), 1, scrape_packet([torrent]));
    }
    let step = steps.datagram("without a port", 1, announce_packet(33, 0, 0, 2, -1));
    step.difference = Some(NO_PORT);
    for num_want in [0, 1, 10, 30, -1, -2, 200, 1000, i32::MIN, i32::MAX] {
        for left in [0, 1] {
            let packet = announce_packet(30, 9001, left, 0, num_want);
            let name = format!("crowd, left {left}, {num_want} wanted");
            let step = steps.datagram(&name, 9, packet);
            step.picks_some = (1..70).contains(&num_want);
            step.seeds = left == 0;
        }
    }
    steps.datagram("crowd, stopped", 9, announce_packet(30, 9001, 0, 3, -1));
    steps.datagram("scrape of three", 1, scrape_packet([30, UNLISTED, 31]));
    steps.datagram("scrape of the same", 1, scrape_packet([30, 30]));
    for count in [70, 74, 75, 80] {
        let packet = scrape_packet(some(count));
        steps.datagram(&format!("scrape of {count}"), 1, packet);
    }
}

fn malformed_udp(steps: &mut Steps) {
    let announce = announce_packet(32, 6881, 1, 2, 50);
    for length in [0, 1, 8, 15, 16, 50, 97] {
        let packet = announce[..length].to_vec();
        steps.datagram(&format!("announce of {length} bytes"), 1, packet);
    }
    let mut longer = announce.clone();
    longer.extend(b"\x02\x09/announce");
    steps.datagram("announce with options (BEP 41)", 1, longer);
    let mut claims = announce.clone();
    claims[84..88].copy_from_slice(&[192, 0, 2, 1]);
    steps.datagram("announce that claims an address", 1, claims);
    let mut wrong = announce.clone();
    wrong[..8].copy_from_slice(&[1; 8]);
    steps.datagram("announce with a wrong connection id", 1, wrong.clone());
    wrong.truncate(16);
    let step = steps.datagram("short announce with a wrong connection id", 1, wrong);
    step.difference = Some(SHORT_WITH_WRONG_ID);
    for action in [3u32, 4, 5, 255, u32::MAX] {
        let mut packet = announce.clone();
        packet[8..12].copy_from_slice(&action.to_be_bytes());
        steps.datagram(&format!("action {action}"), 1, packet);
    }
    let mut magic = 0x0417_2710_1981u64.to_be_bytes().to_vec();
    magic.extend([0, 0, 0, 0, 1, 2, 3, 4]);
    steps.datagram("connect with a wrong magic", 1, magic.clone());
    magic[7] = 0x80;
    magic.extend(b"more");
    steps.datagram("connect that is too long", 1, magic.clone());
    steps.datagram("connect that is too short", 1, magic[..15].to_vec());
    steps.datagram("scrape of nothing", 1, scrape_packet([]));
    let mut half = scrape_packet([30]);
    half.truncate(26);
    steps.datagram("scrape of half a hash", 1, half).difference = Some(HALF_A_HASH);
    let mut more = scrape_packet([30]);
    more.extend([1, 2, 3]);
    steps
        .datagram("scrape of a hash and some bytes", 1, more)
        .difference = Some(HALF_A_HASH);
}

/// A few swarms without anything odd, and what statistics say of them, as far
/// as it does not depend on time.
pub fn statistics() -> Vec<Step> {
    let mut steps = Steps(Vec::new());
    for torrent in 0..12 {
        for peer in 0..=torrent {
            let seeds = peer % 2 == 0;
            let event = if seeds { "0&event=completed" } else { "1" };
            let more = format!("&port={}&left={event}", 7000 + u16::from(peer));
            steps.announce(1 + peer, torrent, &more);
        }
    }
    // One that was not stored, one that has gone, and one that nobody counts.
    steps.announce(1, UNLISTED, "&port=7000&left=0");
    steps.announce(1, 5, "&port=7000&left=0&event=stopped");
    steps.scrape(3);
    for query in [
        "",
        "?",
        "?mode=peer",
        "?mode=torr",
        "?mode=top10",
        "?mode=top100",
        "?mode=nonsense",
        "?mode=",
        "?x=y",
        "?mode=%70eer",
        "?mode=peer&mode=torr",
        "?format=txt",
        "?mode=renew",
        "?mode=s24s",
        "?mode=tpbs&format=nonsense",
    ] {
        let step = steps.get(1, &format!("/stats{query}"));
        step.difference = Some(STATISTICS_HEAD);
        step.lags = true;
    }
    let step = steps.get(1, "/stats?mode=peer&info_hash=x");
    step.difference = Some(STATISTICS_WITH_HASH);
    for path in ["/stats/", "/stats.php", "/statsx"] {
        steps.get(1, path);
    }
    // Not allowed.
    steps.get(2, "/stats");
    steps.get(2, "/stats?mode=everything");
    steps.get(1, "/scrape").difference = Some(FULL_SCRAPE);
    steps.0
}
