//! Properties of frames.

use karuta::protocol::frame;

/// Any bytes are read without a panic; to what was read a reply is written that
/// is read in turn, with as much as it was given.
pub fn any_frame(bytes: &[u8]) {
    let Ok(datagram) = frame::read(bytes) else {
        return;
    };
    let start = datagram.reply.bytes();
    let mut room = vec![0; start + datagram.payload.len()];
    room[start..].copy_from_slice(datagram.payload);
    let too_short = room.len() - 1;
    let payload_bytes = datagram.payload.len();
    assert_eq!(
        datagram.reply.write(&mut room[..too_short], payload_bytes),
        None
    );
    let length = datagram.reply.write(&mut room, payload_bytes);
    assert_eq!(length, Some(room.len()));
    match frame::read(&room) {
        Ok(reply) => {
            assert_eq!(reply.payload, datagram.payload);
            assert_eq!(room[..6], bytes[6..12]);
            assert_eq!(room[6..12], bytes[..6]);
        }
        // The address that was asked may be one that nobody can ask from.
        Err(error) => assert_eq!(error, frame::BadFrame::Source),
    }
}
