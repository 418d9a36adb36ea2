//! Frames of guests' ports as one pcapng file (draft-ietf-opsawg-pcapng), block by block.
//!
//! Pure. Little-endian, times in nanoseconds, one interface per port. A file that ends after any block is whole.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::names::{GuestName, HostName};

/// `LINKTYPE_ETHERNET`.
const ETHERNET: u16 = 1;
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const STATISTICS: u32 = 5;

/// A port whose frames are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The guest.
    pub guest: GuestName,
    /// Its interface, such as `eth0`.
    pub interface: String,
    /// The host it stands on.
    pub host: HostName,
    /// What is said of it beside its name, such as its switch and addresses.
    pub comment: String,
}

/// A frame as it passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which port, counted from 0 in the order of the file's interfaces.
    pub port: usize,
    /// When, since 1970.
    pub at: Duration,
    /// Its length, in bytes.
    pub length: u32,
    /// Its first bytes.
    pub bytes: Vec<u8>,
}

/// What became of the frames of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Frames that are in the file.
    pub captured: u64,
    /// Frames that passed and are not, for want of time.
    pub dropped: u64,
}

/// The blocks before the first frame: the section, and each port as an interface. Of frames `snap` bytes are kept at most.
pub fn beginning(ports: &[Port], snap: u32) -> Vec<u8> {
    let mut body = Vec::new();
    // The byte-order magic, version 1.0, and a length that is not known.
    body.extend(0x1a2b_3c4d_u32.to_le_bytes());
    body.extend(1_u16.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    body.extend(u64::MAX.to_le_bytes());
    option(&mut body, 4, concat!("testbedos ", env!("CARGO_PKG_VERSION")).as_bytes());
    option(&mut body, 0, &[]);
    let mut file = block(SECTION, &body);
    for port in ports {
        let mut body = Vec::new();
        body.extend(ETHERNET.to_le_bytes());
        body.extend(0_u16.to_le_bytes());
        body.extend(snap.to_le_bytes());
        option(&mut body, 2, format!("{}:{}", port.guest, port.interface).as_bytes());
        option(&mut body, 1, port.comment.as_bytes());
        option(&mut body, 3, format!("guest {} on host {}", port.guest, port.host).as_bytes());
        // Nanoseconds.
        option(&mut body, 9, &[9]);
        option(&mut body, 0, &[]);
        file.extend(block(INTERFACE, &body));
    }
    file
}

/// A frame's block.
pub fn packet(frame: &Frame) -> Vec<u8> {
    let mut body = head(frame.port, frame.at);
    body.extend((frame.bytes.len() as u32).to_le_bytes());
    body.extend(frame.length.to_le_bytes());
    padded(&mut body, &frame.bytes);
    block(PACKET, &body)
}

/// The blocks after the last frame: what was captured of each port, and what was not.
pub fn end(counts: &[Counts], at: Duration) -> Vec<u8> {
    let of_port = |(port, counts): (usize, &Counts)| {
        let mut body = head(port, at);
        option(&mut body, 4, &(counts.captured + counts.dropped).to_le_bytes());
        option(&mut body, 5, &counts.dropped.to_le_bytes());
        option(&mut body, 0, &[]);
        block(STATISTICS, &body)
    };
    counts.iter().enumerate().flat_map(of_port).collect()
}

/// Where blocks end: the lengths of the whole blocks at the beginning of `bytes`, and how many of them are frames.
///
/// # Errors
///
/// When this is not what [`beginning`], [`packet`] and [`end`] make.
pub fn whole_blocks(bytes: &[u8]) -> Result<(usize, u64), String> {
    let (mut at, mut frames) = (0, 0);
    while let Some(&[a, b, c, d, e, f, g, h]) = bytes.get(at..at + 8).and_then(|head| head.first_chunk()) {
        let (kind, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]) as usize);
        if length < 12 || length % 4 != 0 || length > LONGEST_BLOCK {
            return Err(format!("a block of {length} bytes is no block of ours"));
        }
        if at + length > bytes.len() {
            break;
        }
        at += length;
        frames += u64::from(kind == PACKET);
    }
    Ok((at, frames))
}

/// A frame as [`packet`] wrote it, from a whole block; nothing when the block is another one.
pub fn read_packet(block: &[u8]) -> Option<Frame> {
    let number = |at: usize| Some(u32::from_le_bytes(*block.get(at..)?.first_chunk()?));
    if number(0)? != PACKET {
        return None;
    }
    let nanoseconds = u64::from(number(12)?) << 32 | u64::from(number(16)?);
    let (kept, length) = (number(20)? as usize, number(24)?);
    let bytes = block.get(28..28 + kept)?.to_vec();
    Some(Frame { port: number(8)? as usize, at: Duration::from_nanos(nanoseconds), length, bytes })
}

/// Longer than any block: a frame of 64 KiB, or an interface with its comment.
const LONGEST_BLOCK: usize = 1 << 20;

fn head(port: usize, at: Duration) -> Vec<u8> {
    let nanoseconds = at.as_nanos() as u64;
    let mut body = Vec::new();
    body.extend((port as u32).to_le_bytes());
    // The upper half stands first, whatever the byte order.
    body.extend(((nanoseconds >> 32) as u32).to_le_bytes());
    body.extend((nanoseconds as u32).to_le_bytes());
    body
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 12).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, body, &length].concat()
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    padded(body, value);
}

fn padded(body: &mut Vec<u8>, value: &[u8]) {
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> Port {
        Port {
            guest: GuestName::new("web").expect("a name"),
            interface: "eth0".to_string(),
            host: HostName::new("main").expect("a name"),
            comment: "on lan, 10.0.0.2/24".to_string(),
        }
    }

    #[test]
    fn a_file_is_made_of_whole_blocks() {
        let frame = Frame { port: 0, at: Duration::new(1_700_000_000, 5), length: 99, bytes: vec![7; 61] };
        let mut file = beginning(&[port(), port()], 1 << 18);
        let head = file.len();
        file.extend(packet(&frame));
        file.extend(end(&[Counts { captured: 1, dropped: 2 }, Counts::default()], frame.at));
        assert_eq!(file.len() % 4, 0);
        assert_eq!(whole_blocks(&file), Ok((file.len(), 1)));
        for cut in 0..file.len() {
            let (whole, _) = whole_blocks(&file[..cut]).expect("blocks");
            assert!(whole <= cut && (cut < head || whole >= head), "{cut}");
        }
        assert!(whole_blocks(&[1; 40]).is_err());
        let packet = &file[head..];
        assert_eq!(read_packet(packet), Some(frame));
        assert_eq!(read_packet(&file), None);
        assert_eq!(packet[..4], [6, 0, 0, 0]);
        let nanoseconds = 1_700_000_000_000_000_005_u64;
        assert_eq!(packet[12..16], ((nanoseconds >> 32) as u32).to_le_bytes());
        assert_eq!(packet[16..20], (nanoseconds as u32).to_le_bytes());
        assert_eq!((packet[20], packet[24], &packet[28..89]), (61, 99, &[7; 61][..]));
    }
}
