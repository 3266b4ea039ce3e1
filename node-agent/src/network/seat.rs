//! One agent to a network: two would each take the other's table for a damaged one.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    sync::{Mutex, PoisonError},
};

use super::NetworkError;

/// A name in the network namespace itself: it goes with the process that holds it.
const NAME: &str = "warren-walls";

/// The right to keep the table of a network namespace.
#[derive(Debug, Default)]
pub(super) struct Seat(Mutex<Option<UnixListener>>);

impl Seat {
    /// Takes it, where it is not held yet.
    pub(super) fn take(&self) -> Result<(), NetworkError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(());
        }
        let bound = SocketAddr::from_abstract_name(NAME)
            .and_then(|address| UnixListener::bind_addr(&address));
        match bound {
            Ok(listener) => {
                *held = Some(listener);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(NetworkError::Taken),
            Err(error) => Err(NetworkError::Differs(error.to_string())),
        }
    }
}
