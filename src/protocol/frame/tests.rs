//! Frames made by hand, read, answered, and put to the filter.

use super::*;
use crate::sys::xdp::bpf::Instruction;
use filter::code;
use proptest::prelude::*;

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The checksum as RFC 1071 has it, word by word.
fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words = bytes.chunks(2).map(|word| match *word {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let mut sum: u64 = words.map(u64::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn pseudo_header(from: SocketAddr, to: SocketAddr, udp_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for ip in [from.ip(), to.ip()] {
        match ip {
            IpAddr::V4(v4) => bytes.extend(v4.octets()),
            IpAddr::V6(v6) => bytes.extend(v6.octets()),
        }
    }
    bytes.extend((udp_bytes as u32).to_be_bytes());
    bytes.extend([0, 0, 0, PROTOCOL_UDP]);
    bytes
}

/// A frame with right checksums.
fn frame(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let udp_bytes = 8 + payload.len();
    let mut udp = Vec::new();
    udp.extend(from.port().to_be_bytes());
    udp.extend(to.port().to_be_bytes());
    udp.extend((udp_bytes as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let sum = match checksum(&[&pseudo_header(from, to, udp_bytes), &udp]) {
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [OURS, THEIRS].concat();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend(ETHERTYPE_IPV4);
            let mut ip = vec![IPV4_PLAIN, 0];
            ip.extend((20 + udp_bytes as u16).to_be_bytes());
            ip.extend([0x12, 0x34, 0x40, 0, 57, PROTOCOL_UDP, 0, 0]);
            ip.extend(from.octets());
            ip.extend(to.octets());
            let sum = checksum(&[&ip]);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(ip);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend(ETHERTYPE_IPV6);
            frame.extend([0x60, 0x12, 0x34, 0x56]);
            frame.extend((udp_bytes as u16).to_be_bytes());
            frame.extend([PROTOCOL_UDP, 57]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        _ => panic!("of two families"),
    }
    frame.extend(udp);
    frame
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn pairs() -> [(SocketAddr, SocketAddr); 2] {
    [
        ("192.0.2.7:51413", "198.51.100.1:6969"),
        ("[2001:db8::7]:51413", "[2001:db8:1::1]:6969"),
    ]
    .map(|(from, to)| (address(from), address(to)))
}

proptest! {
    /// What is read is answered by a frame that is read in turn, from the
    /// address that was asked to the one that asked.
    #[test]
    fn a_reply_goes_back_where_the_request_came_from(
        question in prop::collection::vec(any::<u8>(), 0..1400),
        answer in prop::collection::vec(any::<u8>(), 0..1400),
        ports in (1u16.., 1u16..),
        padding in 0usize..20,
    ) {
        for (mut from, mut to) in pairs() {
            from.set_port(ports.0);
            to.set_port(ports.1);
            let mut request = frame(from, to, &question);
            request.extend(vec![0; padding]);
            let read_request = read(&request).expect("right");
            prop_assert_eq!(read_request.payload, &question[..]);
            prop_assert_eq!(read_request.source, from);

            let mut reply = vec![0xa5; 2048];
            let start = read_request.reply.bytes();
            reply[start..start + answer.len()].copy_from_slice(&answer);
            let length = read_request.reply.write(&mut reply, answer.len()).expect("room");
            reply.truncate(length);
            let read_reply = read(&reply).expect("right");
            prop_assert_eq!(read_reply.payload, &answer[..]);
            prop_assert_eq!(read_reply.source, to);
            prop_assert_eq!(&reply[..6], THEIRS);
            prop_assert_eq!(&reply[6..12], OURS);
            let mut expected = frame(to, from, &answer);
            // Of the headers only these are the sender's own choice.
            expected[..12].copy_from_slice(&reply[..12]);
            match to {
                SocketAddr::V4(_) => {
                    for at in [18, 19, 20, 21, 22, 24, 25] {
                        expected[at] = reply[at];
                    }
                    let identified = match answer.len() > sure_packet_bytes(AddressFamily::V4) {
                        false => [0, 0, 0x40, 0],
                        true => [reply[40], reply[41], 0, 0],
                    };
                    prop_assert_eq!(&reply[18..22], identified);
                }
                SocketAddr::V6(_) => for at in [15, 16, 17, 21] {
                    expected[at] = reply[at];
                },
            }
            prop_assert_eq!(reply, expected);
        }
    }

    #[test]
    fn nothing_that_arrives_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    /// One bit that is wrong anywhere in the IP packet is noticed, or is one of
    /// those that no checksum covers.
    #[test]
    fn a_wrong_bit_is_noticed(bit in 0usize..8 * 126, of_ipv4: bool) {
        let (from, to) = pairs()[usize::from(!of_ipv4)];
        let mut bytes = frame(from, to, &[0x5a; 98]);
        let at = ETHERNET_BYTES + bit / 8;
        prop_assume!(at < bytes.len());
        bytes[at] ^= 1 << (bit % 8);
        // IPv6 leaves traffic class, flow label and hop limit uncovered.
        let is_uncovered = !of_ipv4
            && (at == 14 && bit % 8 < 4 || (15..=17).contains(&at) || at == 21);
        prop_assert_eq!(read(&bytes).is_ok(), is_uncovered, "byte {}", at);
    }

    /// The program picks what it should, whatever byte of the headers changes.
    #[test]
    fn the_filter_and_the_reader_agree(
        of_ipv4: bool,
        at in 0usize..62,
        byte: u8,
        length in 0usize..120,
    ) {
        let (from, to) = pairs()[usize::from(!of_ipv4)];
        let mut bytes = frame(from, to, &[7; 58]);
        bytes[at] = byte;
        bytes.truncate(length.max(14));
        let verdict = run(&bytes, 3, &[to]);
        let is_for_us = bytes[..6] == OURS && bytes.len() >= IPV4_HEADERS
            && match [bytes[12], bytes[13]] {
                ETHERTYPE_IPV4 => frame_target(&bytes, 30, 4, 36) == Some(filter::target_key(to)),
                ETHERTYPE_IPV6 => frame_target(&bytes, 38, 16, 56) == Some(filter::target_key(to)),
                _ => false,
            };
        match verdict {
            Verdict::Redirected(queue) => {
                prop_assert_eq!(queue, 3);
                prop_assert!(is_for_us);
            }
            Verdict::Passed => {
                // What it passes on is not for us, or the reader would refuse
                // its shape as well. (IPv6 allows any version to the filter.)
                prop_assert!(!is_for_us || read(&bytes).is_err());
            }
        }
    }
}

/// The key of a frame's receiver, as the program should put it together.
fn frame_target(bytes: &[u8], ip: usize, ip_bytes: usize, port: usize) -> Option<[u8; 20]> {
    let mut key = [0; 20];
    key[10..12].fill(0xff);
    key[16 - ip_bytes..16].copy_from_slice(bytes.get(ip..ip + ip_bytes)?);
    key[16..18].copy_from_slice(bytes.get(port..port + 2)?);
    Some(key)
}

#[test]
fn checksums_that_cannot_be_right_are_refused() {
    for (from, to) in pairs() {
        let good = frame(from, to, b"payload");
        let udp_at = good.len() - 15;
        assert!(read(&good).is_ok());

        let mut damaged = good.clone();
        damaged[udp_at + 8] ^= 1;
        assert_eq!(read(&damaged).err(), Some(BadFrame::Checksum));

        let mut without = good.clone();
        without[udp_at + 6..udp_at + 8].fill(0);
        let expected = from.is_ipv6().then_some(BadFrame::Checksum);
        assert_eq!(read(&without).err(), expected, "{from}");

        // As a virtual interface hands it over.
        let mut unfinished = good.clone();
        let sum = !checksum(&[&pseudo_header(from, to, 15)]);
        unfinished[udp_at + 6..udp_at + 8].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(read(&unfinished).expect("right").payload, b"payload");
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    for (from, to) in pairs() {
        let good = frame(from, to, b"payload");
        let udp_at = good.len() - 15;
        for length in [0u16, 7, 16, 0xffff] {
            let mut bytes = good.clone();
            bytes[udp_at + 4..udp_at + 6].copy_from_slice(&length.to_be_bytes());
            assert_eq!(read(&bytes).err(), Some(BadFrame::Malformed), "{length}");
        }
        for length in 0..good.len() {
            assert_eq!(read(&good[..length]).err(), Some(BadFrame::Malformed));
        }
    }
}

#[test]
fn senders_that_nobody_is_are_refused() {
    let [(_, v4), (_, v6)] = pairs();
    let mut of_a_group = frame(address("192.0.2.1:1"), v4, b"x");
    of_a_group[6] |= 1;
    assert_eq!(read(&of_a_group).err(), Some(BadFrame::Source));
    for (from, to) in [
        ("198.51.100.1:1", v4),
        ("[2001:db8:1::1]:1", v6),
        ("0.0.0.0:1", v4),
        ("0.1.2.3:1", v4),
        ("127.0.0.1:1", v4),
        ("224.0.0.1:1", v4),
        ("255.255.255.255:1", v4),
        ("192.0.2.1:0", v4),
        ("[::]:1", v6),
        ("[::1]:1", v6),
        ("[ff02::1]:1", v6),
        ("[::ffff:192.0.2.1]:1", v6),
        ("[2001:db8::1]:0", v6),
    ] {
        let bytes = frame(address(from), to, b"x");
        assert_eq!(read(&bytes).err(), Some(BadFrame::Source), "{from}");
    }
}

#[test]
fn the_filter_picks_whole_datagrams_for_the_trackers_addresses() {
    let [(from4, to4), (from6, to6)] = pairs();
    let targets = [to4, to6];
    for (from, to) in [(from4, to4), (from6, to6)] {
        let good = frame(from, to, b"payload");
        assert_eq!(run(&good, 5, &targets), Verdict::Redirected(5));
        assert_eq!(run(&good, 5, &[]), Verdict::Passed);
        let mut port = to;
        port.set_port(6970);
        assert_eq!(run(&frame(from, port, b"x"), 5, &targets), Verdict::Passed);
        let mut elsewhere = good.clone();
        elsewhere[5] ^= 1;
        assert_eq!(run(&elsewhere, 5, &targets), Verdict::Passed);
        let mut tcp = good.clone();
        tcp[if to.is_ipv4() { 23 } else { 20 }] = 6;
        assert_eq!(run(&tcp, 5, &targets), Verdict::Passed);
    }
    // A frame has room for so much.
    for (bytes, expected) in [(1792, Verdict::Redirected(5)), (1793, Verdict::Passed)] {
        let mut large = frame(from4, to4, b"payload");
        large.resize(bytes, 0);
        assert_eq!(run(&large, 5, &targets), expected);
    }
    for fragment in [0x2000u16, 0x0001, 0x1fff] {
        let mut bytes = frame(from4, to4, b"payload");
        bytes[20..22].copy_from_slice(&fragment.to_be_bytes());
        assert_eq!(run(&bytes, 0, &targets), Verdict::Passed);
    }
    let mut options = frame(from4, to4, b"payload");
    options[14] = 0x46;
    assert_eq!(run(&options, 0, &targets), Verdict::Passed);
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Redirected(u32),
}

/// Where an interpreted program finds its memory: far apart.
const DESCRIPTION_AT: u64 = 1 << 40;
const FRAME_AT: u64 = 0x1000;
const STACK_END: u64 = 1 << 50;
const FOUND: u64 = 1 << 60;
const TARGETS: u64 = 77;
const SOCKETS: u64 = 88;

/// What the kernel does with the program for our interface.
fn run(frame: &[u8], queue: u32, targets: &[SocketAddr]) -> Verdict {
    let program = filter::program(OURS, TARGETS as i32, SOCKETS as i32);
    let mut description = [0u8; 24];
    let end = FRAME_AT as u32 + frame.len() as u32;
    description[..4].copy_from_slice(&(FRAME_AT as u32).to_ne_bytes());
    description[4..8].copy_from_slice(&end.to_ne_bytes());
    description[16..20].copy_from_slice(&queue.to_ne_bytes());
    let keys: Vec<_> = targets.iter().map(|&to| filter::target_key(to)).collect();
    let mut stack = [0xeeu8; 512];
    let mut registers = [0u64; 11];
    registers[1] = DESCRIPTION_AT;
    registers[10] = STACK_END;
    let mut at = 0;
    for _ in 0..1000 {
        let i: Instruction = program[at];
        at += 1;
        let (to, from) = (i.to() as usize, i.from() as usize);
        let bytes = match i.code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            _ => 1,
        };
        let jump = |at: usize| (at as i64 + i64::from(i.offset)) as usize;
        match i.code {
            c if c & 0xe7 == code::LOAD => {
                let address = registers[from].wrapping_add_signed(i64::from(i.offset));
                let memory = match address {
                    DESCRIPTION_AT.. => &description[(address - DESCRIPTION_AT) as usize..],
                    _ => &frame[(address - FRAME_AT) as usize..],
                };
                let mut word = [0u8; 8];
                let word_bytes = if cfg!(target_endian = "little") {
                    0..bytes
                } else {
                    8 - bytes..8
                };
                word[word_bytes].copy_from_slice(&memory[..bytes]);
                registers[to] = u64::from_ne_bytes(word);
            }
            c if c & 0xe7 == code::STORE => {
                let start = (512 + i64::from(i.offset)) as usize;
                let word = (registers[from] as u32).to_ne_bytes();
                let half = (registers[from] as u16).to_ne_bytes();
                match bytes {
                    4 => stack[start..start + 4].copy_from_slice(&word),
                    _ => stack[start..start + 2].copy_from_slice(&half),
                }
            }
            code::STORE_CONSTANT => {
                let start = (512 + i64::from(i.offset)) as usize;
                stack[start..start + 4].copy_from_slice(&i.immediate.to_ne_bytes());
            }
            code::COPY => registers[to] = registers[from],
            code::SET => registers[to] = i64::from(i.immediate) as u64,
            code::ADD => {
                registers[to] = registers[to].wrapping_add_signed(i64::from(i.immediate));
            }
            code::AND => registers[to] &= i64::from(i.immediate) as u64,
            code::LOAD_CONSTANT => {
                assert_eq!(i.from(), 1, "a map");
                registers[to] = i.immediate as u64;
                at += 1;
            }
            code::JUMP => at = jump(at),
            code::JUMP_IF_EQUAL if registers[to] as u32 == i.immediate as u32 => at = jump(at),
            code::JUMP_IF_NOT_EQUAL if registers[to] as u32 != i.immediate as u32 => at = jump(at),
            code::JUMP_IF_NULL if registers[to] == i64::from(i.immediate) as u64 => at = jump(at),
            code::JUMP_IF_GREATER if registers[to] > registers[from] => at = jump(at),
            code::JUMP_IF_AT_MOST if registers[to] <= registers[from] => at = jump(at),
            code::JUMP_IF_AT_MOST
            | code::JUMP_IF_EQUAL
            | code::JUMP_IF_NOT_EQUAL
            | code::JUMP_IF_NULL
            | code::JUMP_IF_GREATER => {}
            code::CALL if i.immediate == 1 => {
                assert_eq!(registers[1], TARGETS);
                let start = (512 - (STACK_END - registers[2])) as usize;
                let key = &stack[start..start + filter::TARGET_BYTES];
                let is_known = keys.iter().any(|known| known == key);
                registers[0] = if is_known { FOUND } else { 0 };
                // A helper leaves nothing in these.
                registers[1..6].fill(u64::MAX);
            }
            code::CALL if i.immediate == 51 => {
                assert_eq!((registers[1], registers[3]), (SOCKETS, 2));
                return Verdict::Redirected(registers[2] as u32);
            }
            code::EXIT => {
                assert_eq!(registers[0], 2, "XDP_PASS");
                return Verdict::Passed;
            }
            other => panic!("unknown operation {other:#x}"),
        }
    }
    panic!("it does not end");
}
