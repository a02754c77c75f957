//! Properties of the UDP codec.

use karuta::bittorrent::Event;
use karuta::protocol::udp::{
    self, AnnounceAction, AnnounceFields, DropReason, ErrorText, ParseError, Request,
};
use std::net::IpAddr;

/// Any bytes are parsed without a panic, and what was parsed says what the
/// bytes say.
pub fn any_packet(packet: &[u8]) {
    let word = |at: usize| {
        packet
            .get(at..at + 4)
            .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
    };
    let connection_id = packet
        .get(..8)
        .map(|word| u64::from_be_bytes(word.try_into().unwrap()));
    let parsed = udp::parse(packet);
    if let Err(ParseError::Answer { error, .. }) = parsed {
        parsed_leniently(packet, error);
    }
    match parsed {
        Err(ParseError::Drop(DropReason::Malformed)) => panic!("only of the lenient parser"),
        Err(ParseError::Drop(DropReason::TooShort)) => assert!(packet.len() < 16),
        Err(ParseError::Drop(DropReason::WrongProtocolId)) => {
            assert_eq!(word(8), Some(0));
            assert_ne!(connection_id, Some(udp::PROTOCOL_ID));
        }
        Err(ParseError::Answer {
            connection_id: id,
            transaction_id,
            error,
        }) => {
            assert_eq!(connection_id, Some(id));
            assert_eq!(word(12), Some(transaction_id));
            let mut buffer = [0; 64];
            let written = udp::write_error(&mut buffer, transaction_id, error.as_str()).unwrap();
            assert_eq!(&buffer[8..written], error.as_str().as_bytes());
        }
        Ok(request) => {
            assert_eq!(word(12), Some(request.transaction_id()));
            match request {
                Request::Connect { .. } => assert_eq!(connection_id, Some(udp::PROTOCOL_ID)),
                Request::Announce { announce, .. } => {
                    assert_eq!(connection_id, request.connection_id());
                    announce_survives_encoding(&packet[..16], &announce);
                    url_data_is_in_the_packet(packet, &announce);
                }
                Request::Scrape { info_hashes, .. } => {
                    assert_eq!(connection_id, request.connection_id());
                    assert_eq!(info_hashes.len(), (packet.len() - 16) / 20);
                    assert!(!info_hashes.is_empty());
                    for (at, info_hash) in info_hashes.iter().enumerate() {
                        assert_eq!(info_hash.0, packet[16 + 20 * at..36 + 20 * at]);
                    }
                }
            }
        }
    }
    for source in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "::"] {
        let source: IpAddr = source.parse().unwrap();
        let Ok(Request::Announce { announce, .. }) = parsed else {
            continue;
        };
        for spoofing in [false, true] {
            if let Ok(found) = udp::resolve_address(announce.claimed_ip, spoofing, source) {
                assert_eq!(found, found.to_canonical());
                assert_eq!(found.is_ipv4(), source.to_canonical().is_ipv4());
                assert!(spoofing || found == source.to_canonical());
            }
        }
    }
}

/// opentracker's second look: strange events and ports pass, the rest is
/// dropped, and all that was understood is what the bytes say.
fn parsed_leniently(packet: &[u8], error: ErrorText) {
    match (udp::parse_leniently(packet), error) {
        (Ok(Request::Scrape { info_hashes, .. }), ErrorText::MalformedPacket) => {
            assert!(info_hashes.is_empty() && packet.len() < 36);
        }
        (
            Ok(Request::Announce { announce, .. }),
            ErrorText::MalformedEvent | ErrorText::InvalidPort,
        ) => {
            // A port and the event that was made of it, and it passes.
            let mut packet = packet.to_vec();
            let options = if packet[11] == 4 { 110 } else { 98 };
            packet[options - 2..options].copy_from_slice(&[0x1a, 0xe1]);
            if announce.event == Event::None {
                packet[80..84].fill(0);
            }
            let announce = AnnounceFields {
                port: 0x1ae1,
                ..announce
            };
            match udp::parse(&packet) {
                Ok(Request::Announce { announce: same, .. }) => assert_eq!(same, announce),
                other => panic!("{other:?}"),
            }
        }
        (
            Err(ParseError::Drop(DropReason::Malformed)),
            ErrorText::MalformedPacket | ErrorText::UnknownAction,
        ) => {}
        (other, error) => panic!("{error:?}: {other:?}"),
    }
}

/// The bytes of an announce, without options: the naive way round.
pub fn encode_announce(header: &[u8], announce: &AnnounceFields<'_>) -> Vec<u8> {
    let event: u32 = match announce.event {
        Event::None => 0,
        Event::Completed => 1,
        Event::Started => 2,
        Event::Stopped => 3,
        Event::Paused => 4,
    };
    let ip = match (announce.action, announce.claimed_ip) {
        (AnnounceAction::Standard, None) => vec![0; 4],
        (AnnounceAction::Standard, Some(IpAddr::V4(v4))) => v4.octets().to_vec(),
        (AnnounceAction::OldIpv6, None) => vec![0; 16],
        (AnnounceAction::OldIpv6, Some(IpAddr::V4(v4))) => v4.to_ipv6_mapped().octets().to_vec(),
        (AnnounceAction::OldIpv6, Some(IpAddr::V6(v6))) => v6.octets().to_vec(),
        (AnnounceAction::Standard, Some(IpAddr::V6(_))) => panic!("IPv6 in a 4-byte field"),
    };
    [
        header,
        &announce.info_hash.0,
        &announce.peer_id.0,
        &announce.downloaded.to_be_bytes(),
        &announce.left.to_be_bytes(),
        &announce.uploaded.to_be_bytes(),
        &event.to_be_bytes(),
        &ip,
        &announce.key.to_be_bytes(),
        &announce.num_want.to_be_bytes(),
        &announce.port.to_be_bytes(),
    ]
    .concat()
}

fn announce_survives_encoding(header: &[u8], announce: &AnnounceFields<'_>) {
    let encoded = encode_announce(header, announce);
    let expected = AnnounceFields {
        url_data: udp::UrlData::default(),
        ..*announce
    };
    match udp::parse(&encoded) {
        Ok(Request::Announce { announce, .. }) => assert_eq!(announce, expected),
        other => panic!("{other:?}"),
    }
}

fn url_data_is_in_the_packet(packet: &[u8], announce: &AnnounceFields<'_>) {
    let url_data = announce.url_data;
    let mut joined = Vec::new();
    url_data.copy_to(&mut joined);
    assert!(joined.len() <= packet.len() - 98);
    assert_eq!(joined, url_data.parts().collect::<Vec<_>>().concat());
    assert_eq!(url_data.is_empty(), joined.is_empty());
    match url_data.as_single() {
        Some(single) => assert_eq!(single, joined),
        None => assert!(url_data.parts().count() > 1),
    }
}
