//! The system calls that have no safe door: packet sockets (packet(7)) and TAP devices (Linux's tuntap.rst).
//!
//! The only place of the project with `unsafe`. Each function is safe to call: what it hands to the kernel lives on its own
//! stack or in slices that it borrows. Must not know what frames are for.
#![expect(unsafe_code, reason = "no library of ours opens packet sockets or TAP devices")]

use std::{
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

/// Frames that one call receives or sends at most.
pub const BATCH: usize = 32;
/// The longest frame: what a guest may send that was told to leave segmentation to others.
pub const LONGEST_FRAME: usize = 65_600;
/// Where a VLAN tag stands in a frame.
const TAG_AT: usize = 12;
/// linux/if_packet.h.
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn option<T>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is borrowed for the call, and its length is its own.
    let set =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(value).cast(), mem::size_of::<T>() as libc::socklen_t) };
    check(set).map(|_| ())
}

/// A socket that receives every frame that enters by a device, and sends by it. Needs CAP_NET_RAW.
pub fn open_packet(index: u32) -> io::Result<OwnedFd> {
    // What we send ourselves must not come back.
    bind_packet(index, |socket| option(socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &ON))
}

/// A socket that receives every frame that enters or leaves by a device, with the time of each. Needs CAP_NET_RAW.
pub fn open_listener(index: u32) -> io::Result<OwnedFd> {
    bind_packet(index, |socket| option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &ON))
}

/// How many frames a socket has dropped since it was asked last, for want of room (packet(7), PACKET_STATISTICS).
pub fn dropped(socket: &OwnedFd) -> io::Result<u32> {
    // SAFETY: plain data for which all zero is a value.
    let mut counts: libc::tpacket_stats = unsafe { mem::zeroed() };
    let mut length = mem::size_of_val(&counts) as libc::socklen_t;
    let to = ptr::from_mut(&mut counts).cast();
    // SAFETY: `counts` and `length` are borrowed for the call, and `length` is that of `counts`.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, to, &mut length) })?;
    Ok(counts.tp_drops)
}

const ON: libc::c_int = 1;

fn bind_packet(index: u32, prepare: impl FnOnce(&OwnedFd) -> io::Result<()>) -> io::Result<OwnedFd> {
    // With protocol 0 nothing is received before the socket is bound to its device.
    // SAFETY: no pointers are passed.
    let socket = check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    prepare(&socket)?;
    // The kernel takes VLAN tags out of frames and tells them beside.
    option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &ON)?;
    let buffer: libc::c_int = 8 << 20;
    option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &buffer)?;
    option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &buffer)?;
    // SAFETY: both are plain data for which all zero is a value.
    let (mut address, mut member): (libc::sockaddr_ll, libc::packet_mreq) = unsafe { (mem::zeroed(), mem::zeroed()) };
    let device = libc::c_int::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
    member.mr_ifindex = device;
    member.mr_type = libc::PACKET_MR_PROMISC as libc::c_ushort;
    option(&socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &member)?;
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = device;
    // SAFETY: the address is borrowed for the call, and its length is its own.
    let bound =
        unsafe { libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t) };
    check(bound)?;
    Ok(socket)
}

/// The other side of a TAP device that is there: what is read was sent into it, what is written enters by it. Needs
/// CAP_NET_ADMIN; fails with `EBUSY` while somebody else has it.
pub fn open_tap(name: &str) -> io::Result<OwnedFd> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: plain data for which all zero is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` is no device's name")));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request is borrowed for the call and of the type that TUNSETIFF takes.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, ptr::from_mut(&mut request)) })?;
    let tap = OwnedFd::from(file);
    let flags = rustix::fs::fcntl_getfl(&tap)?;
    rustix::fs::fcntl_setfl(&tap, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok(tap)
}

/// From now on this thread runs before all that only compute (sched(7), the lowest real-time priority): a frame that is to
/// leave in 25 ms leaves in 25 ms also where guests keep every processor busy. Needs CAP_SYS_NICE.
pub fn run_first() -> io::Result<()> {
    // SAFETY: plain data for which all zero is a value.
    let mut how: libc::sched_param = unsafe { mem::zeroed() };
    how.sched_priority = 1;
    // SAFETY: the parameter is borrowed for the call.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &how) }).map(|_| ())
}

/// Room for one batch of received frames.
pub struct Inbox {
    frames: Vec<u8>,
    control: Vec<u64>,
}

/// `u64`s of room for one message's control data.
const CONTROL: usize = 12;

impl Default for Inbox {
    fn default() -> Self {
        Inbox { frames: vec![0; BATCH * LONGEST_FRAME], control: vec![0; BATCH * CONTROL] }
    }
}

impl Inbox {
    /// Receives what is there, at most [`BATCH`] frames, and hands each to `take`, with the VLAN tag that the kernel took out.
    /// Nothing there is `WouldBlock`.
    pub fn receive(&mut self, socket: &OwnedFd, mut take: impl FnMut(&[u8], Option<[u8; 4]>)) -> io::Result<usize> {
        self.receive_stamped(socket, |frame, beside| take(frame, beside.tag))
    }

    /// The same, with the time at which the kernel saw the frame where the socket was opened by [`open_listener`].
    pub fn receive_stamped(&mut self, socket: &OwnedFd, mut take: impl FnMut(&[u8], Beside)) -> io::Result<usize> {
        // SAFETY: plain data for which all zero is a value.
        let mut parts: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let frames = self.frames.chunks_exact_mut(LONGEST_FRAME).zip(self.control.chunks_exact_mut(CONTROL));
        for ((part, message), (frame, control)) in parts.iter_mut().zip(&mut messages).zip(frames) {
            part.iov_base = frame.as_mut_ptr().cast();
            part.iov_len = frame.len();
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = mem::size_of_val(control) as _;
        }
        // SAFETY: every message points to its own part of buffers that `self` holds, which nobody else uses meanwhile.
        let received = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), BATCH as libc::c_uint, libc::MSG_DONTWAIT, ptr::null_mut())
        };
        let received = check(received)? as usize;
        for (message, frame) in messages[..received].iter().zip(self.frames.chunks_exact(LONGEST_FRAME)) {
            // SAFETY: the kernel has filled this header in, and the buffers that it points to are still ours.
            let beside = unsafe { beside(&message.msg_hdr) };
            take(&frame[..(message.msg_len as usize).min(LONGEST_FRAME)], beside);
        }
        Ok(received)
    }
}

/// What the kernel tells beside a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beside {
    /// The VLAN tag that it took out.
    pub tag: Option<[u8; 4]>,
    /// When it saw the frame: seconds since 1970 and nanoseconds.
    pub at: Option<(u64, u32)>,
}

/// What stands in the control data of a message.
///
/// # Safety
/// The header must have been filled in by `recvmmsg`, and its control buffer must live.
unsafe fn beside(header: &libc::msghdr) -> Beside {
    let mut beside = Beside::default();
    // SAFETY: what the caller promises.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: not null, so it lies within the control buffer.
        let control = unsafe { &*next };
        match (control.cmsg_level, control.cmsg_type) {
            (libc::SOL_PACKET, libc::PACKET_AUXDATA) => {
                // SAFETY: the kernel writes a whole `tpacket_auxdata` behind a header of this kind.
                beside.tag = tag_of(&unsafe { ptr::read_unaligned(libc::CMSG_DATA(next).cast()) });
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                // SAFETY: the kernel writes a whole `timespec` behind a header of this kind.
                let at: libc::timespec = unsafe { ptr::read_unaligned(libc::CMSG_DATA(next).cast()) };
                beside.at = u64::try_from(at.tv_sec).ok().zip(u32::try_from(at.tv_nsec).ok());
            }
            _ => {}
        }
        // SAFETY: as for the first one.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    beside
}

fn tag_of(data: &libc::tpacket_auxdata) -> Option<[u8; 4]> {
    if data.tp_status & TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let kind = if data.tp_status & TP_STATUS_VLAN_TPID_VALID == 0 { 0x8100 } else { data.tp_vlan_tpid };
    let ([a, b], [c, d]) = (kind.to_be_bytes(), data.tp_vlan_tci.to_be_bytes());
    Some([a, b, c, d])
}

/// A frame with the tag that was taken out of it, in `into`.
pub fn whole(frame: &[u8], tag: Option<[u8; 4]>, into: &mut Vec<u8>) {
    into.clear();
    match tag {
        Some(tag) if frame.len() >= TAG_AT => {
            into.extend_from_slice(&frame[..TAG_AT]);
            into.extend_from_slice(&tag);
            into.extend_from_slice(&frame[TAG_AT..]);
        }
        _ => into.extend_from_slice(frame),
    }
}

/// Sends frames by the socket's device, at most [`BATCH`]; how many it took.
pub fn send_many(socket: &OwnedFd, frames: &[&[u8]]) -> io::Result<usize> {
    // SAFETY: plain data for which all zero is a value.
    let mut parts: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
    let count = frames.len().min(BATCH);
    for ((part, message), frame) in parts.iter_mut().zip(&mut messages).zip(frames) {
        part.iov_base = frame.as_ptr().cast_mut().cast();
        part.iov_len = frame.len();
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: the messages point to slices that are borrowed for the call, and sending only reads them.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count as libc::c_uint, libc::MSG_DONTWAIT) };
    check(sent).map(|sent| sent as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_back_to_its_place() {
        let frame: Vec<u8> = (0..20).collect();
        let mut out = Vec::new();
        whole(&frame, None, &mut out);
        assert_eq!(out, frame);
        whole(&frame, Some([0x81, 0, 0, 7]), &mut out);
        assert_eq!((&out[..12], &out[12..16], &out[16..]), (&frame[..12], &[0x81, 0, 0, 7][..], &frame[12..]));
        whole(&[1, 2], Some([0x81, 0, 0, 7]), &mut out);
        assert_eq!(out, [1, 2]);
    }

    #[test]
    fn devices_that_are_not_there_are_errors() {
        assert!(open_packet(0x7fff_fff0).is_err());
        for name in ["", "a-name-that-is-far-too-long"] {
            assert!(open_tap(name).is_err());
        }
    }
}
