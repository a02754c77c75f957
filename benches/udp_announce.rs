//! One UDP announce from the socket to the socket, over loopback, without the
//! executor: what `valgrind --tool=callgrind` counts instructions of.
//!
//! Measures [`UdpFrontend::serve`]: receiving a batch, verifying, announcing,
//! encoding, sending. Does not measure the kernel, the reactor or the mesh.
//!
//! ```text
//! valgrind --tool=callgrind --collect-atstart=no \
//!     --toggle-collect='*measured_serve*' BENCH --bench ROUNDS
//! ```
//!
//! The program prints how many announces were served; the instructions that
//! callgrind reports, divided by that, are the figure in PERFORMANCE.md.
//!
//! [`UdpFrontend::serve`]: karuta::frontend::udp::UdpFrontend::serve

#[path = "../tests/support/mod.rs"]
mod support;

use karuta::protocol::Dialect;
use support::lone_shard::LoneShard;
use support::{Announce, shard_settings};

const BATCH: u64 = 64;
const SWARMS: u64 = 20_000;
const PEERS: u64 = 200_000;

fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let rounds = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next_back();
    let rounds: u64 = rounds.unwrap_or(if measured { 1000 } else { 2 });
    let fill = if measured { PEERS / BATCH } else { 2 };

    let mut lone = LoneShard::new(&shard_settings(), Dialect::Karuta, 0);
    let mut number = 0u64;
    let mut served = 0;
    for round in 0..fill + rounds {
        for _ in 0..BATCH {
            number += 1;
            let packet = announce(number).packet(lone.connection_id, number as u32);
            lone.client.send(&packet).expect("send");
        }
        let count = if round < fill {
            lone.serve()
        } else {
            measured_serve(&mut lone)
        };
        let count = count.expect("serve");
        assert_eq!(count as u64, BATCH, "loopback lost a datagram");
        served += if round < fill { 0 } else { count };
        let mut reply = [0u8; 1500];
        for _ in 0..BATCH {
            let length = lone.client.recv(&mut reply).expect("a reply");
            assert!(length >= 20 && reply[3] == 1, "an announce reply");
        }
    }
    println!("{served} announces served");
}

/// Where counting begins and ends.
#[inline(never)]
fn measured_serve(lone: &mut LoneShard) -> std::io::Result<usize> {
    lone.serve()
}

/// The announce of peer `number`, of a swarm chosen with a cubic skew.
fn announce(number: u64) -> Announce {
    let mixed = (number % PEERS).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let unit = (mixed >> 11) as f64 / (1u64 << 53) as f64;
    let swarm = (unit * unit * unit * SWARMS as f64) as u64;
    let bits = (swarm + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let mut hash = [0u8; 20];
    hash[..8].copy_from_slice(&bits.to_be_bytes());
    hash[8..16].copy_from_slice(&bits.rotate_left(23).to_be_bytes());
    let mut announce = Announce::leecher(hash, (mixed >> 40) as u16 | 1).want(30);
    announce.peer_id = *b"-KA0001-abcdefghijkl";
    // One in four leeches.
    announce.left = u64::from(mixed & 3 == 0);
    announce
}
