//! Length-prefixed frames, the same on both hops.
//!
//! A frame is a 12-byte header and a payload:
//!
//! | bytes | meaning |
//! | --- | --- |
//! | 0..4 | payload length, little-endian, at most [`MAX_PAYLOAD`] |
//! | 4..8 | channel, little-endian; 0 is control |
//! | 8 | [`Kind`] |
//! | 9..12 | zero |
//!
//! Channel 0 carries [`Kind::Message`] frames: one JSON document each. Other channels exist on the
//! guest hop only and carry a process's stdio: [`Kind::Data`], [`Kind::Eof`] and, from the reader to
//! the writer, [`Kind::Window`] (a little-endian u32: how many more bytes the reader takes). A channel
//! starts with a window of [`INITIAL_WINDOW`] bytes in each direction; a peer that writes past it is
//! cut off.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes in a frame's header.
pub const HEADER: usize = 12;
/// Largest payload, in bytes, of any frame.
pub const MAX_PAYLOAD: usize = 4 << 20;
/// Largest payload, in bytes, of a [`Kind::Data`] frame.
pub const MAX_DATA: usize = 64 << 10;
/// Bytes a writer may send on a fresh channel before the reader grants more.
pub const INITIAL_WINDOW: u32 = 256 << 10;
/// The channel of requests, replies and events.
pub const CONTROL: u32 = 0;

/// What a frame's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A JSON document, on [`CONTROL`] only.
    Message = 1,
    /// Bytes of a stream.
    Data = 2,
    /// The writer of the stream is done; no payload.
    Eof = 3,
    /// The reader grants the writer a number of bytes.
    Window = 4,
}

/// A decoded header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Payload length in bytes.
    pub length: usize,
    /// Channel number.
    pub channel: u32,
    /// What the payload is.
    pub kind: Kind,
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The length field is larger than its kind allows.
    #[error("frame of {0} bytes is larger than allowed")]
    TooLarge(usize),
    /// The kind byte, or its combination with the channel, is not defined.
    #[error("frame of kind {kind} on channel {channel} is not defined")]
    Undefined {
        /// The kind byte as received.
        kind: u8,
        /// The channel as received.
        channel: u32,
    },
    /// A message's JSON does not parse as what was expected.
    #[error("message does not parse")]
    Json(#[from] serde_json::Error),
    /// The connection failed or ended inside a frame.
    #[error("connection failed")]
    Io(#[from] io::Error),
}

impl Header {
    /// Decodes and checks a header.
    pub fn decode(bytes: [u8; HEADER]) -> Result<Self, Error> {
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let channel = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let undefined = Error::Undefined { kind: bytes[8], channel };
        let (kind, limit) = match (bytes[8], channel) {
            (1, CONTROL) => (Kind::Message, MAX_PAYLOAD),
            (_, CONTROL) => return Err(undefined),
            (2, _) => (Kind::Data, MAX_DATA),
            (3, _) => (Kind::Eof, 0),
            (4, _) => (Kind::Window, 4),
            _ => return Err(undefined),
        };
        if bytes[9..] != [0, 0, 0] {
            return Err(undefined);
        }
        if length > limit || (kind == Kind::Window && length != 4) {
            return Err(Error::TooLarge(length));
        }
        Ok(Header { length, channel, kind })
    }

    /// Encodes the header.
    pub fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..4].copy_from_slice(&(self.length as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&self.channel.to_le_bytes());
        bytes[8] = self.kind as u8;
        bytes
    }
}

/// Encodes `message` as one control frame, header included.
pub fn encode_message<T: Serialize>(message: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - HEADER;
    if length > MAX_PAYLOAD {
        return Err(Error::TooLarge(length));
    }
    bytes[..HEADER]
        .copy_from_slice(&Header { length, channel: CONTROL, kind: Kind::Message }.encode());
    Ok(bytes)
}

/// Writes `message` as one control frame in a single write.
pub fn write_message<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), Error> {
    Ok(to.write_all(&encode_message(message)?)?)
}

/// Reads one frame, blocking. `Ok(None)` is a clean end between frames.
pub fn read_frame(from: &mut impl Read) -> Result<Option<(Header, Vec<u8>)>, Error> {
    let mut bytes = [0; HEADER];
    let mut filled = 0;
    while filled < HEADER {
        match from.read(&mut bytes[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let header = Header::decode(bytes)?;
    let mut payload = vec![0; header.length];
    from.read_exact(&mut payload)?;
    Ok(Some((header, payload)))
}

/// Reads one control message, blocking. `Ok(None)` is a clean end between frames.
pub fn read_message<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, Error> {
    match read_frame(from)? {
        None => Ok(None),
        Some((header, payload)) if header.kind == Kind::Message => {
            Ok(Some(serde_json::from_slice(&payload)?))
        }
        Some((header, _)) => {
            Err(Error::Undefined { kind: header.kind as u8, channel: header.channel })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_wire() {
        let mut wire = Vec::new();
        write_message(&mut wire, &vec!["a", "b"]).unwrap();
        let back: Option<Vec<String>> = read_message(&mut wire.as_slice()).unwrap();
        assert_eq!(back.unwrap(), ["a", "b"]);
    }

    #[test]
    fn an_oversized_length_is_refused_before_it_is_allocated() {
        let mut bytes = Header { length: 0, channel: 7, kind: Kind::Data }.encode();
        bytes[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(Header::decode(bytes), Err(Error::TooLarge(_))));
    }

    #[test]
    fn control_carries_messages_only() {
        let bytes = Header { length: 0, channel: CONTROL, kind: Kind::Data }.encode();
        assert!(matches!(Header::decode(bytes), Err(Error::Undefined { .. })));
    }

    #[test]
    fn a_cut_frame_is_an_error_and_a_clean_end_is_not() {
        let wire = encode_message(&1).unwrap();
        assert!(read_frame(&mut &wire[..wire.len() - 1]).is_err());
        assert!(read_frame(&mut &[][..]).unwrap().is_none());
    }
}
