//! Any run of steps on a swarm store: see `tests/swarm_model/mod.rs`. The
//! bytes are the run: 12 for its start, then 6 per step.

#![no_main]

#[path = "../../tests/swarm_model/mod.rs"]
mod model;

use karuta::bittorrent::Event;
use karuta::swarm::{Peer4, Peer6, StoredPeer};
use libfuzzer_sys::fuzz_target;
use model::{Start, Step, run};
use std::net::{Ipv4Addr, Ipv6Addr};

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let mut word = || {
        let (word, rest) = data.split_first_chunk()?;
        data = rest;
        Some(u32::from_be_bytes(*word))
    };
    let (Some(seed), Some(now_seconds), Some(lifetimes)) = (word(), word(), word()) else {
        return;
    };
    let [.., lifetime, empty_lifetime] = lifetimes.to_be_bytes();
    let start = Start {
        seed: seed.into(),
        now_seconds,
        lifetime,
        empty_lifetime,
    };
    let steps: Vec<_> = data.as_chunks::<6>().0.iter().map(step).collect();
    run(start, &steps, peer4);
    run(start, &steps, peer6);
});

fn step(bytes: &[u8; 6]) -> Step {
    let [kind, swarm, high, low, flags, count] = *bytes;
    let number = u16::from_be_bytes([high, low]);
    let event = match flags % 8 {
        0 => Event::Started,
        1 => Event::Stopped,
        2 => Event::Completed,
        3 => Event::Paused,
        _ => Event::None,
    };
    let left = flags & 8 != 0;
    match kind % 16 {
        0 => Step::Wait { seconds: number },
        1 => Step::Sweep { budget: number },
        2 => Step::SweepAll,
        3 => Step::Scrape { swarm },
        4 => Step::Remove { swarm },
        5 => Step::Cap {
            peers: swarm,
            swarms: count,
        },
        6 => Step::Uncap,
        7 => Step::Visit { budget: count },
        8 | 9 => Step::Crowd {
            swarm,
            first: number % 400,
            count,
            event,
            left,
        },
        10 => Step::Restore {
            swarm,
            first: number % 1000,
            count,
            age: u16::from(flags) * 2,
            downloads: flags % 4,
        },
        _ => Step::Announce {
            swarm,
            peer: number % 1000,
            event,
            left,
            want: count,
        },
    }
}

/// Neighbours share addresses and differ in the port only, or the reverse.
fn peer4(number: u16) -> Peer4 {
    let [_, last] = (number / 2).to_be_bytes();
    Peer4::new(Ipv4Addr::new(198, 51, 100, last), port(number))
}

fn peer6(number: u16) -> Peer6 {
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number / 2 % 256);
    Peer6::new(address, port(number))
}

fn port(number: u16) -> u16 {
    1 + number / 512 * 2 + number % 2
}
