//! The program in the kernel that picks, of all frames an interface receives,
//! those that are for the tracker and that [`read`](super::read) reads.
//!
//! It is an XDP program: it runs for each frame, and passes on to the network
//! stack what it does not pick. A frame is picked that is sent to the
//! interface's own Ethernet address and holds a whole UDP datagram, without IP
//! options or extension headers, for one of the tracker's addresses
//! ([`target_key`]).

use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use super::{FRAGMENT, IPV4_HEADERS, IPV4_PLAIN, IPV6_HEADERS, PROTOCOL_UDP};
use crate::sys::xdp::bpf::Instruction;
use crate::sys::xdp::socket::RECEIVED_BYTES;
use std::net::{IpAddr, SocketAddr};

/// Bytes of a key of the table of the tracker's addresses.
pub const TARGET_BYTES: usize = 20;

/// The verdict on a frame that is not picked (`XDP_PASS`).
const PASS: i32 = 2;

/// Helpers of the kernel (`enum bpf_func_id`).
const MAP_LOOKUP_ELEM: i32 = 1;
const REDIRECT_MAP: i32 = 51;

/// The key of an address in the table of the tracker's addresses: the IP
/// address (IPv4 as IPv4-mapped) and the port.
#[must_use]
pub fn target_key(address: SocketAddr) -> [u8; TARGET_BYTES] {
    let mut key = [0; TARGET_BYTES];
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    key[..16].copy_from_slice(&ip.octets());
    key[16..18].copy_from_slice(&address.port().to_be_bytes());
    key
}

/// Bytes of the frame's description (`struct xdp_md`) that are used.
const FRAME_START: i16 = 0;
const FRAME_END: i16 = 4;
const QUEUE: i16 = 16;

/// Where the key is put together, below the end of the stack.
const KEY: i16 = -24;

/// Registers: what a helper returns, its arguments, what it leaves alone.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R4: u8 = 4;
const R5: u8 = 5;
const DESCRIPTION: u8 = 6;
const STACK: u8 = 10;

/// The program for an interface with this Ethernet address: `targets` is the
/// descriptor of the table of the tracker's addresses ([`target_key`]),
/// `sockets` that of the map from queues to sockets.
#[must_use]
pub fn program(ethernet: [u8; 6], targets: i32, sockets: i32) -> Vec<Instruction> {
    let [a, b, c, d, e, f] = ethernet;
    let mut p = Assembler::default();
    p.copy(DESCRIPTION, R1);
    p.load(Size::Word, R2, R1, FRAME_START);
    p.load(Size::Word, R3, R1, FRAME_END);
    p.pass_if_shorter(IPV4_HEADERS);
    p.pass_if_longer(RECEIVED_BYTES);
    p.load(Size::Word, R5, R2, 0);
    p.pass_unless(R5, i32::from_ne_bytes([a, b, c, d]));
    p.load(Size::Half, R5, R2, 4);
    p.pass_unless(R5, half([e, f]));
    p.load(Size::Half, R5, R2, 12);
    let is_ipv4 = p.jump_if(R5, half(ETHERTYPE_IPV4));

    p.pass_unless(R5, half(ETHERTYPE_IPV6));
    p.pass_if_shorter(IPV6_HEADERS);
    p.load(Size::Byte, R5, R2, 20);
    p.pass_unless(R5, i32::from(PROTOCOL_UDP));
    for (from, to) in [(38, KEY), (42, KEY + 4), (46, KEY + 8), (50, KEY + 12)] {
        p.load(Size::Word, R5, R2, from);
        p.store(Size::Word, to, R5);
    }
    p.load(Size::Half, R5, R2, 56);
    let known = p.jump();

    p.land(is_ipv4);
    p.load(Size::Byte, R5, R2, 14);
    p.pass_unless(R5, i32::from(IPV4_PLAIN));
    p.load(Size::Byte, R5, R2, 23);
    p.pass_unless(R5, i32::from(PROTOCOL_UDP));
    p.load(Size::Half, R5, R2, 20);
    p.and(R5, half(FRAGMENT.to_be_bytes()));
    p.pass_unless(R5, 0);
    // ::ffff:0:0, and the address at its end.
    p.store_constant(KEY, 0);
    p.store_constant(KEY + 4, 0);
    p.store_constant(KEY + 8, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
    p.load(Size::Word, R5, R2, 30);
    p.store(Size::Word, KEY + 12, R5);
    p.load(Size::Half, R5, R2, 36);

    p.land(known);
    p.store_constant(KEY + 16, 0);
    p.store(Size::Half, KEY + 16, R5);
    p.load_map(R1, targets);
    p.copy(R2, STACK);
    p.add(R2, i32::from(KEY));
    p.call(MAP_LOOKUP_ELEM);
    p.pass_unless_found();
    // To the socket of the queue; where there is none the frame passes.
    p.load_map(R1, sockets);
    p.load(Size::Word, R2, DESCRIPTION, QUEUE);
    p.set(R3, PASS);
    p.call(REDIRECT_MAP);
    p.exit();
    p.finish()
}

/// Two bytes of a frame as they are loaded.
const fn half(bytes: [u8; 2]) -> i32 {
    u16::from_ne_bytes(bytes) as i32
}

/// How much is loaded or stored.
#[derive(Clone, Copy)]
enum Size {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
}

/// A jump whose target is not known yet.
struct Jump(usize);

/// Puts instructions one behind the other.
#[derive(Default)]
struct Assembler {
    instructions: Vec<Instruction>,
    /// Jumps to the end, where the frame is passed on.
    to_pass: Vec<Jump>,
}

impl Assembler {
    fn push(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        let instruction = Instruction::new(code, to, from, offset, immediate);
        self.instructions.push(instruction);
    }

    fn load(&mut self, size: Size, to: u8, from: u8, offset: i16) {
        self.push(code::LOAD | size as u8, to, from, offset, 0);
    }

    fn store(&mut self, size: Size, offset: i16, from: u8) {
        self.push(code::STORE | size as u8, STACK, from, offset, 0);
    }

    fn store_constant(&mut self, offset: i16, word: i32) {
        self.push(code::STORE_CONSTANT, STACK, 0, offset, word);
    }

    fn copy(&mut self, to: u8, from: u8) {
        self.push(code::COPY, to, from, 0, 0);
    }

    fn set(&mut self, to: u8, value: i32) {
        self.push(code::SET, to, 0, 0, value);
    }

    fn add(&mut self, to: u8, value: i32) {
        self.push(code::ADD, to, 0, 0, value);
    }

    fn and(&mut self, to: u8, value: i32) {
        self.push(code::AND, to, 0, 0, value);
    }

    fn load_map(&mut self, to: u8, descriptor: i32) {
        // Of two parts; "from" says that the number is a map's descriptor.
        self.push(code::LOAD_CONSTANT, to, 1, 0, descriptor);
        self.push(0, 0, 0, 0, 0);
    }

    fn call(&mut self, helper: i32) {
        self.push(code::CALL, 0, 0, 0, helper);
    }

    fn exit(&mut self) {
        self.push(code::EXIT, 0, 0, 0, 0);
    }

    fn jump_with(&mut self, code: u8, register: u8, other: u8, value: i32) -> Jump {
        self.push(code, register, other, 0, value);
        Jump(self.instructions.len().saturating_sub(1))
    }

    fn jump(&mut self) -> Jump {
        self.jump_with(code::JUMP, 0, 0, 0)
    }

    fn jump_if(&mut self, register: u8, value: i32) -> Jump {
        self.jump_with(code::JUMP_IF_EQUAL, register, 0, value)
    }

    fn pass_unless(&mut self, register: u8, value: i32) {
        let jump = self.jump_with(code::JUMP_IF_NOT_EQUAL, register, 0, value);
        self.to_pass.push(jump);
    }

    /// Passes when a helper returned a null pointer.
    fn pass_unless_found(&mut self) {
        let jump = self.jump_with(code::JUMP_IF_NULL, R0, 0, 0);
        self.to_pass.push(jump);
    }

    /// Passes a frame, which lies between R2 and R3, of fewer bytes.
    fn pass_if_shorter(&mut self, bytes: usize) {
        self.copy(R4, R2);
        self.add(R4, bytes as i32);
        let jump = self.jump_with(code::JUMP_IF_GREATER, R4, R3, 0);
        self.to_pass.push(jump);
    }

    /// Passes a frame, which lies between R2 and R3, of more bytes.
    fn pass_if_longer(&mut self, bytes: usize) {
        self.copy(R4, R2);
        self.add(R4, (bytes as i32).saturating_add(1));
        let jump = self.jump_with(code::JUMP_IF_AT_MOST, R4, R3, 0);
        self.to_pass.push(jump);
    }

    /// Has a jump end here.
    fn land(&mut self, jump: Jump) {
        let skipped = self.instructions.len().saturating_sub(jump.0);
        if let Some(instruction) = self.instructions.get_mut(jump.0) {
            instruction.offset = skipped.saturating_sub(1) as i16;
        }
    }

    fn finish(mut self) -> Vec<Instruction> {
        for jump in std::mem::take(&mut self.to_pass) {
            self.land(jump);
        }
        self.set(R0, PASS);
        self.exit();
        self.instructions
    }
}

/// Operation codes of eBPF (linux/bpf_common.h, linux/bpf.h).
pub(super) mod code {
    /// to = what lies at from + offset; the size is added.
    pub const LOAD: u8 = 0x61;
    /// What lies at to + offset = from; the size is added.
    pub const STORE: u8 = 0x63;
    /// The word at to + offset = the constant.
    pub const STORE_CONSTANT: u8 = 0x62;
    /// to = from.
    pub const COPY: u8 = 0xbf;
    /// to = the constant.
    pub const SET: u8 = 0xb7;
    /// to += the constant.
    pub const ADD: u8 = 0x07;
    /// to &= the constant.
    pub const AND: u8 = 0x57;
    /// to = a constant of 64 bits.
    pub const LOAD_CONSTANT: u8 = 0x18;
    /// Jump.
    pub const JUMP: u8 = 0x05;
    /// Jump if the lower 32 bits of to are the constant.
    pub const JUMP_IF_EQUAL: u8 = 0x16;
    /// Jump if they are not.
    pub const JUMP_IF_NOT_EQUAL: u8 = 0x56;
    /// Jump if to is the constant.
    pub const JUMP_IF_NULL: u8 = 0x15;
    /// Jump if to > from.
    pub const JUMP_IF_GREATER: u8 = 0x2d;
    /// Jump if to <= from.
    pub const JUMP_IF_AT_MOST: u8 = 0xbd;
    /// Call a helper of the kernel.
    pub const CALL: u8 = 0x85;
    /// End with the verdict in register 0.
    pub const EXIT: u8 = 0x95;
}
