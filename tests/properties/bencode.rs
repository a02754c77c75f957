//! Properties of bencode.

use karuta::protocol::bencode::{Event, KeyOrder, Limits, Reader, Writer};

/// Any bytes are read without a panic, and what was read is written back as
/// the same bytes: there is only one form of a value.
pub fn any_input(bytes: &[u8]) {
    let strict = Limits {
        // What the writer checks in debug builds.
        max_depth: 8,
        ..Limits::default()
    };
    let read = Reader::new(bytes, strict).collect::<Result<Vec<_>, _>>();
    let lenient = Limits {
        key_order: KeyOrder::Any,
        ..strict
    };
    let read_leniently = Reader::new(bytes, lenient).collect::<Result<Vec<_>, _>>();
    match read {
        Ok(events) => {
            assert_eq!(write(&events), bytes);
            assert_eq!(read_leniently, Ok(events));
        }
        Err(error) => assert!(error.at <= bytes.len()),
    }
    let small = Limits {
        max_depth: 1,
        max_bytes: 8,
        key_order: KeyOrder::Sorted,
    };
    let small = Reader::new(bytes, small).collect::<Result<Vec<_>, _>>();
    assert!(small.is_err() || bytes.len() <= 8);
}

fn write(events: &[Event<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    for event in events {
        match event {
            Event::Dictionary => writer.begin_dictionary(),
            Event::List => writer.begin_list(),
            Event::End => writer.end(),
            Event::Key(key) => writer.key(key),
            Event::Bytes(bytes) => writer.bytes(bytes),
            Event::Integer(number) => writer.signed(*number),
        }
    }
    out
}
