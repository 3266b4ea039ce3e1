//! Hears from the kernel that a firewall, a device or a routing rule changed.
//!
//! Which one and how is not read: whoever is told looks. What was missed counts as a change.

use std::{io, os::unix::net};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, Protocol, SocketFlags, SocketType, bind,
        netlink::{self, SocketAddrNetlink},
        socket_with,
    },
};
use tokio::net::UnixDatagram;

/// `NFNLGRP_NFTABLES`, as a bit.
const NFTABLES: u32 = 1 << 6;
/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV4_RULE`.
const ROUTING: u32 = 0x1 | 0x10 | 0x80;

/// A subscription to one kind of changes, in the network namespace where it was opened.
#[derive(Debug)]
pub(super) struct Monitor {
    /// A netlink socket: messages are received from it as from any socket that keeps them apart.
    socket: UnixDatagram,
}

impl Monitor {
    /// Subscribes to changes of any firewall table.
    ///
    /// # Errors
    /// The kernel says no, as it does without `CAP_NET_ADMIN`.
    pub(super) fn of_tables() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER), NFTABLES)
    }

    /// Subscribes to changes of devices, their addresses, and routing rules.
    ///
    /// # Errors
    /// The kernel says no.
    pub(super) fn of_routing() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0
        Self::open(None, ROUTING)
    }

    fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { socket: UnixDatagram::from_std(net::UnixDatagram::from(socket))? })
    }

    /// Waits for changes, and takes all that were told until now as one. Cancel safe.
    ///
    /// # Errors
    /// The socket broke; open another.
    pub(super) async fn changed(&self) -> io::Result<()> {
        let mut buffer = [0_u8; 4096];
        let mut heard = false;
        while !heard {
            self.socket.readable().await?;
            loop {
                match self.socket.try_recv(&mut buffer) {
                    Ok(_) => heard = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // overrun: some were lost, and this one says so
                    Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                        heard = true;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}
