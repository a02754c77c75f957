//! Golden bytes of the UDP tracker protocol, written down from BEP 15 and
//! BEP 41 by hand, and the rules for addresses and connection ids.

use karuta::bittorrent::{AddressFamily, Event, InfoHash, PeerId, ScrapeCounts};
use karuta::protocol::udp::{
    self, AnnounceAction, AnnounceFields, BufferTooSmall, ConnectionIds, DropReason, ErrorText,
    ParseError, Request, UrlData,
};
use std::net::IpAddr;

/// BEP 15, "IPv4 announce request", field by field.
const ANNOUNCE: &[u8] = b"\
    \x01\x02\x03\x04\x05\x06\x07\x08\
    \x00\x00\x00\x01\
    \x0a\x0b\x0c\x0d\
    aaaaabbbbbcccccddddd\
    -KT0100-eeeeefffffgg\
    \x00\x00\x00\x00\x00\x00\x10\x00\
    \x00\x00\x00\x00\x00\x00\x20\x00\
    \x00\x00\x00\x00\x00\x00\x30\x00\
    \x00\x00\x00\x02\
    \x00\x00\x00\x00\
    \xde\xad\xbe\xef\
    \xff\xff\xff\xff\
    \x1a\xe1";

fn announce_fields() -> AnnounceFields<'static> {
    AnnounceFields {
        action: AnnounceAction::Standard,
        info_hash: InfoHash(*b"aaaaabbbbbcccccddddd"),
        peer_id: PeerId(*b"-KT0100-eeeeefffffgg"),
        downloaded: 0x1000,
        left: 0x2000,
        uploaded: 0x3000,
        event: Event::Started,
        claimed_ip: None,
        key: 0xdead_beef,
        num_want: -1,
        port: 6881,
        url_data: UrlData::default(),
    }
}

fn parsed_announce(packet: &[u8]) -> AnnounceFields<'_> {
    match udp::parse(packet) {
        Ok(Request::Announce { announce, .. }) => announce,
        other => panic!("not an announce: {other:?}"),
    }
}

/// The announce with some bytes replaced.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut packet = ANNOUNCE.to_vec();
    packet[at..at + bytes.len()].copy_from_slice(bytes);
    packet
}

fn answer(error: ErrorText) -> ParseError {
    ParseError::Answer {
        connection_id: 0x0102_0304_0506_0708,
        transaction_id: 0x0a0b_0c0d,
        error,
    }
}

#[test]
fn connect_request_bep_15() {
    let packet = b"\x00\x00\x04\x17\x27\x10\x19\x80\x00\x00\x00\x00\x0a\x0b\x0c\x0d";
    let expected = Request::Connect {
        transaction_id: 0x0a0b_0c0d,
    };
    assert_eq!(udp::parse(packet), Ok(expected));
    // "Check whether the packet is at least 16 bytes": more is not wrong.
    assert_eq!(udp::parse(&[&packet[..], b"more"].concat()), Ok(expected));
}

#[test]
fn connect_response_bep_15() {
    let mut buffer = [0xff; 20];
    let written = udp::write_connect(&mut buffer, 0x0a0b_0c0d, 0x0102_0304_0506_0708);
    assert_eq!(written, Ok(udp::CONNECT_REPLY_BYTES));
    assert_eq!(
        &buffer[..16],
        b"\x00\x00\x00\x00\x0a\x0b\x0c\x0d\x01\x02\x03\x04\x05\x06\x07\x08"
    );
    assert_eq!(
        udp::write_connect(&mut buffer[..15], 1, 2),
        Err(BufferTooSmall)
    );
}

#[test]
fn announce_request_bep_15() {
    assert_eq!(ANNOUNCE.len(), 98);
    let expected = Request::Announce {
        connection_id: 0x0102_0304_0506_0708,
        transaction_id: 0x0a0b_0c0d,
        announce: announce_fields(),
    };
    assert_eq!(udp::parse(ANNOUNCE), Ok(expected));
    assert_eq!(expected.connection_id(), Some(0x0102_0304_0506_0708));
    assert_eq!(expected.transaction_id(), 0x0a0b_0c0d);
}

#[test]
fn announce_request_numbers_its_events_as_bep_15_does() {
    for (number, event) in [
        (0, Event::None),
        (1, Event::Completed),
        (2, Event::Started),
        (3, Event::Stopped),
        // BEP 21; the number is libtorrent's.
        (4, Event::Paused),
    ] {
        assert_eq!(parsed_announce(&with(83, &[number])).event, event);
    }
    for number in [5u32, 255, 256, 0x0100_0002, u32::MAX] {
        let packet = with(80, &number.to_be_bytes());
        assert_eq!(udp::parse(&packet), Err(answer(ErrorText::MalformedEvent)));
    }
}

#[test]
fn announce_request_with_an_address_of_its_own() {
    let announce = with(84, &[192, 0, 2, 1]);
    let claimed: IpAddr = "192.0.2.1".parse().expect("an address");
    assert_eq!(parsed_announce(&announce).claimed_ip, Some(claimed));
}

/// The old IPv6 form of opentracker: a 16-byte address field at offset 84.
#[test]
fn announce_request_with_action_4() {
    let long = |address: &str| {
        let address: std::net::Ipv6Addr = address.parse().expect("an address");
        let mut packet = with(11, &[4]);
        packet.splice(84..88, address.octets());
        packet
    };
    let packet = long("2001:db8::1");
    assert_eq!(packet.len(), 110);
    let expected = AnnounceFields {
        action: AnnounceAction::OldIpv6,
        claimed_ip: Some("2001:db8::1".parse().expect("an address")),
        ..announce_fields()
    };
    assert_eq!(parsed_announce(&packet), expected);
    assert_eq!(parsed_announce(&long("::")).claimed_ip, None);
    let mapped: IpAddr = "192.0.2.1".parse().expect("an address");
    assert_eq!(
        parsed_announce(&long("::ffff:192.0.2.1")).claimed_ip,
        Some(mapped)
    );
    assert_eq!(
        udp::parse(&packet[..109]),
        Err(answer(ErrorText::MalformedPacket))
    );
}

#[test]
fn announce_request_with_url_data_bep_41() {
    // BEP 41, "URLData": /announce?jwt=x in two options, then a nop and an end.
    let packet = [ANNOUNCE, b"\x02\x09/announce\x01\x02\x06?jwt=x\x00padding"].concat();
    let url_data = parsed_announce(&packet).url_data;
    let mut joined = Vec::new();
    url_data.copy_to(&mut joined);
    assert_eq!(joined, b"/announce?jwt=x");
    assert_eq!(url_data.as_single(), None);
    assert_eq!(url_data.parts().count(), 2);
}

#[test]
fn announce_response_bep_15() {
    let mut buffer = [0xff; 32];
    for (action, number) in [(AnnounceAction::Standard, 1), (AnnounceAction::OldIpv6, 4)] {
        let written = udp::write_announce_header(&mut buffer, action, 0x0a0b_0c0d, 1800, 5, 7);
        assert_eq!(written, Ok(udp::ANNOUNCE_HEADER_BYTES));
        let expected = [
            &[0, 0, 0, number][..],
            b"\x0a\x0b\x0c\x0d\x00\x00\x07\x08\x00\x00\x00\x05\x00\x00\x00\x07",
        ]
        .concat();
        assert_eq!(buffer[..20], expected);
        assert_eq!(buffer[20..], [0xff; 12]);
    }
    let action = AnnounceAction::Standard;
    let written = udp::write_announce_header(&mut buffer[..19], action, 0, 0, 0, 0);
    assert_eq!(written, Err(BufferTooSmall));
}

#[test]
fn announce_responses_hold_as_many_peers_as_fit() {
    // BEP 15: 20 + 6 * n; with IPv6 20 + 18 * n.
    assert_eq!(
        udp::max_peers_for(udp::MAX_PACKET_BYTES_V4, AddressFamily::V4),
        238
    );
    assert_eq!(
        udp::max_peers_for(udp::MAX_PACKET_BYTES_V6, AddressFamily::V6),
        67
    );
    assert_eq!(udp::max_peers_for(20 + 18, AddressFamily::V6), 1);
    assert_eq!(udp::max_peers_for(20 + 17, AddressFamily::V6), 0);
    assert_eq!(udp::max_peers_for(0, AddressFamily::V4), 0);
}

#[test]
fn scrape_request_bep_15() {
    let packet = b"\
        \x01\x02\x03\x04\x05\x06\x07\x08\x00\x00\x00\x02\x0a\x0b\x0c\x0d\
        aaaaabbbbbcccccdddddeeeeefffffggggghhhhh";
    let hashes = [
        InfoHash(*b"aaaaabbbbbcccccddddd"),
        InfoHash(*b"eeeeefffffggggghhhhh"),
    ];
    for tail in [&b""[..], b"x", b"1234567890123456789"] {
        let padded = [packet, tail].concat();
        let Ok(Request::Scrape {
            connection_id,
            transaction_id,
            info_hashes,
        }) = udp::parse(&padded)
        else {
            panic!("not a scrape");
        };
        assert_eq!(connection_id, 0x0102_0304_0506_0708);
        assert_eq!(transaction_id, 0x0a0b_0c0d);
        assert_eq!(info_hashes.len(), 2);
        assert!(info_hashes.iter().eq(hashes));
        assert!(info_hashes.truncated(1).iter().eq([hashes[0]]));
        assert_eq!(info_hashes.truncated(99), info_hashes);
        assert!(info_hashes.truncated(0).is_empty());
    }
}

#[test]
fn scrape_response_bep_15() {
    let counts = [
        ScrapeCounts {
            complete: 1,
            incomplete: 2,
            downloaded: 3,
            downloaders: 0,
        },
        ScrapeCounts::default(),
    ];
    let mut buffer = [0xff; 40];
    let written = udp::write_scrape(&mut buffer, 0x0a0b_0c0d, counts);
    // Seeders, completed, leechers.
    let expected = b"\x00\x00\x00\x02\x0a\x0b\x0c\x0d\
        \x00\x00\x00\x01\x00\x00\x00\x03\x00\x00\x00\x02\
        \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    assert_eq!(written, Ok(expected.len()));
    assert_eq!(&buffer[..expected.len()], expected);
    assert_eq!(
        udp::write_scrape(&mut buffer[..31], 0, counts),
        Err(BufferTooSmall)
    );
}

#[test]
fn error_response_bep_15() {
    let mut buffer = [0xff; 40];
    let text = ErrorText::MalformedPacket.as_str();
    let written = udp::write_error(&mut buffer, 0x0a0b_0c0d, text);
    let expected = b"\x00\x00\x00\x03\x0a\x0b\x0c\x0dmalformed packet";
    assert_eq!(written, Ok(expected.len()));
    assert_eq!(&buffer[..expected.len()], expected);
    assert_eq!(
        udp::write_error(&mut buffer[..23], 0, text),
        Err(BufferTooSmall)
    );
}

#[test]
fn a_wrong_connection_id_is_never_answered_with_more_than_was_sent() {
    const BAD_ID: &str = "bad connection ID";
    let mut buffer = [0; 64];
    let written = udp::write_bad_connection_id(&mut buffer, 25, 0x0a0b_0c0d, BAD_ID);
    assert_eq!(written, Some(25));
    let expected = b"\x00\x00\x00\x03\x0a\x0b\x0c\x0dbad connection ID";
    assert_eq!(&buffer[..25], expected);
    for request_bytes in 0..25 {
        let written = udp::write_bad_connection_id(&mut buffer, request_bytes, 1, BAD_ID);
        assert_eq!(written, None);
    }
}

#[test]
fn what_is_no_request_is_dropped_or_answered() {
    for length in 0..16 {
        let error = ParseError::Drop(DropReason::TooShort);
        assert_eq!(udp::parse(&ANNOUNCE[..length]), Err(error));
    }
    for length in 16..98 {
        let error = answer(ErrorText::MalformedPacket);
        assert_eq!(udp::parse(&ANNOUNCE[..length]), Err(error));
    }
    let error = ParseError::Drop(DropReason::WrongProtocolId);
    assert_eq!(udp::parse(&with(11, &[0])), Err(error));
    let error = answer(ErrorText::UnknownAction);
    assert_eq!(udp::parse(&with(11, &[3])), Err(error));
    assert_eq!(udp::parse(&with(8, &[1])), Err(error));
    let error = answer(ErrorText::InvalidPort);
    assert_eq!(udp::parse(&with(96, &[0, 0])), Err(error));
}

#[test]
fn peers_are_found_where_they_may_be() {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let malformed = Err(ErrorText::MalformedIp);
    for (claimed, spoofing, source, expected) in [
        (None, true, "192.0.2.1", Ok(ip("192.0.2.1"))),
        (
            Some("198.51.100.1"),
            true,
            "192.0.2.1",
            Ok(ip("198.51.100.1")),
        ),
        (
            Some("198.51.100.1"),
            false,
            "192.0.2.1",
            Ok(ip("192.0.2.1")),
        ),
        (
            Some("2001:db8::1"),
            true,
            "2001:db8::2",
            Ok(ip("2001:db8::1")),
        ),
        // The reply has the form of the packet's family.
        (
            Some("198.51.100.1"),
            true,
            "2001:db8::2",
            Ok(ip("2001:db8::2")),
        ),
        (Some("2001:db8::1"), true, "192.0.2.1", Ok(ip("192.0.2.1"))),
        (None, false, "::ffff:192.0.2.1", Ok(ip("192.0.2.1"))),
        (
            Some("198.51.100.1"),
            true,
            "::ffff:192.0.2.1",
            Ok(ip("198.51.100.1")),
        ),
        (Some("255.255.255.255"), true, "192.0.2.1", malformed),
        (Some("224.0.0.1"), true, "192.0.2.1", malformed),
        (Some("ff02::1"), true, "2001:db8::2", malformed),
        (None, false, "0.0.0.0", malformed),
        (None, false, "::", malformed),
    ] {
        let found = udp::resolve_address(claimed.map(ip), spoofing, ip(source));
        assert_eq!(found, expected, "{claimed:?} {spoofing} {source}");
    }
}

#[test]
fn connection_ids_end_after_two_minutes_and_the_skew() {
    let address: IpAddr = "192.0.2.1".parse().expect("an address");
    // At the beginning of a unit of time an id lives longest.
    let now = 1_800_000_000;
    for skew in [0, 8, 400, u64::MAX] {
        let ids = ConnectionIds::new([7; 16], skew);
        let skew = skew.min(udp::MAX_CLOCK_SKEW_LIMIT_SECONDS);
        let id = ids.issue(now, address);
        let life = udp::CONNECTION_ID_LIFE_SECONDS + skew;
        assert!(ids.accepts(now + life, address, id));
        assert!(ids.accepts(now + life + 3, address, id));
        assert!(!ids.accepts(now + life + 4, address, id));
        assert!(ids.accepts(now - skew, address, id));
        assert!(!ids.accepts(now - skew - 1, address, id));
        // The time in an id repeats every 1024 seconds; the id does not.
        for later in (now + 1024 - skew..now + 3 * 1024).step_by(4) {
            assert!(!ids.accepts(later, address, id), "{skew} {later}");
        }
    }
}

#[test]
fn connection_ids_do_not_show_their_key() {
    let ids = ConnectionIds::from_secret(b"swordfish", 10);
    let shown = format!("{ids:?}");
    assert!(shown.contains("(secret)"), "{shown}");
    let key = b"swordfish".iter().map(u8::to_string).collect::<Vec<_>>();
    assert!(!shown.contains("swordfish") && !shown.contains(&key.join(", ")));
    // A hasher's own Debug would print its state.
    assert!(!shown.contains("Sip"), "{shown}");
}

/// Instances of different versions share keys: an id must not change by
/// accident. The values are those of a second implementation, written from the
/// description of SipHash.
#[test]
fn connection_ids_stay_what_they_are() {
    let ids = ConnectionIds::from_secret(b"swordfish", 10);
    let v4 = ids.issue(1_800_000_000, "192.0.2.1".parse().expect("an address"));
    let v6 = ids.issue(1_800_000_000, "2001:db8::1".parse().expect("an address"));
    assert_eq!(
        (v4, v6),
        (9_280_394_144_021_244_464, 9_275_456_570_845_390_173)
    );
}
