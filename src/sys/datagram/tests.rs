//! Datagrams over loopback, and what sockets are told.

use super::super::option;
use super::*;
use std::net::UdpSocket;

/// One that sends, one that receives, and where that is.
fn sockets() -> (UdpSocket, UdpSocket, Address) {
    let [a, b] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("bind"));
    let to = Address::from(b.local_addr().expect("address"));
    (a, b, to)
}

#[test]
fn addresses_keep_family_port_and_ip() {
    for text in ["192.0.2.7:6969", "[2001:db8::7]:51413"] {
        let address: SocketAddr = text.parse().expect("an address");
        let raw = Address::from(address);
        assert_eq!((raw.ip(), raw.port()), (address.ip(), address.port()));
    }
    let mapped: SocketAddr = "[::ffff:192.0.2.7]:1".parse().expect("an address");
    assert_eq!(Address::from(mapped).ip(), IpAddr::from([192, 0, 2, 7]));
}

#[test]
fn a_batch_goes_there_and_back() {
    let (a, b, to) = sockets();
    let mut outbox = Outbox::new(16, 16);
    for number in 0..BATCH as u8 {
        outbox.push(&to, LocalAddress::Unknown, |buffer| {
            buffer[0] = number;
            Some(1)
        });
    }
    assert!(outbox.is_full());
    assert_eq!(
        outbox.send(&a),
        Sent {
            sent: BATCH,
            bytes: BATCH as u64,
            failed: 0
        }
    );

    let mut inbox = Inbox::default();
    let mut seen = Vec::new();
    while seen.len() < BATCH {
        // Loopback delivers within the send call; an empty batch here would
        // mean that a datagram was lost.
        let count = inbox.receive(&b).expect("receive");
        assert!(count > 0);
        for at in 0..count {
            let datagram = inbox.datagram(at);
            assert_eq!(
                datagram.from.port(),
                a.local_addr().expect("address").port()
            );
            seen.push(datagram.bytes[0]);
        }
    }
    assert_eq!(seen, (0..BATCH as u8).collect::<Vec<_>>());
    assert_eq!(inbox.receive(&b).expect("receive"), 0);
}

#[test]
fn a_socket_is_told_how_wide_its_datagrams_are() {
    for (host, level, option, wide) in [
        ("127.0.0.1:0", libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, 5),
        ("[::1]:0", libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, 1),
    ] {
        let socket = UdpSocket::bind(host).expect("bind");
        let to = Address::from(socket.local_addr().expect("address"));
        let mut outbox = Outbox::new(16, 8);
        for (lengths, mode) in [
            (&[8, 8][..], 3),
            (&[8, 9, 8], wide),
            (&[], wide),
            (&[9], wide),
            (&[1], 3),
        ] {
            for &length in lengths {
                outbox.push(&to, LocalAddress::Unknown, |_| Some(length));
            }
            assert_eq!(outbox.send(&socket).failed, 0);
            let told: i32 = option::get(&socket, level, option).expect("a mode");
            assert_eq!(told, mode, "{host} after {lengths:?}");
        }
    }
}

/// Datagrams that lie side by side keep apart, whatever their lengths.
#[test]
fn each_datagram_is_sent_as_it_was_written() {
    let (a, b, to) = sockets();
    let mut outbox = Outbox::new(200, 200);
    for round in 0..2 {
        let lengths = (0..BATCH).map(|at| (at * 67 + round) % 201);
        let expected: Vec<_> = (0u8..)
            .zip(lengths)
            .map(|(number, length)| vec![number; length])
            .collect();
        for bytes in &expected {
            // What is not sent after all leaves no trace.
            outbox.push(&to, LocalAddress::Unknown, |buffer| {
                buffer.fill(0xff);
                None
            });
            outbox.push(&to, LocalAddress::Unknown, |buffer| {
                assert_eq!(buffer.len(), 200);
                buffer.fill(bytes.first().copied().unwrap_or(0));
                Some(bytes.len())
            });
        }
        assert_eq!(outbox.send(&a).sent, BATCH);
        let mut inbox = Inbox::default();
        assert_eq!(inbox.receive(&b).expect("receive"), BATCH);
        let received: Vec<_> = (0..BATCH).map(|at| inbox.datagram(at).bytes).collect();
        assert_eq!(received, expected, "round {round}");
    }
}

#[test]
fn a_refused_datagram_does_not_stop_the_others() {
    let (a, _b, good) = sockets();
    let port_zero = Address::from(SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut outbox = Outbox::new(16, 16);
    for to in [good, port_zero, good] {
        outbox.push(&to, LocalAddress::Unknown, |_| Some(4));
    }
    let expected = Sent {
        sent: 2,
        bytes: 8,
        failed: 1,
    };
    assert_eq!(outbox.send(&a), expected);
}
