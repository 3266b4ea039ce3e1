//! Stdin as a bounded queue: a thread of its own reads it, because a read of a terminal cannot be
//! taken back. The thread ends with the process, or with stdin.

use std::{
    io::{self, Read as _},
    thread,
};

use tokio::sync::mpsc;
use tonic::codegen::Bytes;
use warren_common::Limits;

/// What stdin gives; ends where stdin ends.
pub(super) struct Input(mpsc::Receiver<Bytes>);

impl Input {
    /// Begins to read stdin. Once per process: two readers would share the bytes between them.
    ///
    /// # Errors
    /// Where no thread can be made.
    pub(super) fn begin() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(Limits::STREAM_QUEUE);
        thread::Builder::new().name("stdin".to_owned()).spawn(move || read(&sender))?;
        Ok(Self(receiver))
    }

    /// Returns the next bytes; none at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}

fn read(sender: &mpsc::Sender<Bytes>) {
    let mut buffer = vec![0; Limits::FRAME_BYTES];
    let mut stdin = io::stdin().lock();
    loop {
        let size = match stdin.read(&mut buffer) {
            Ok(0) => return,
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if sender.blocking_send(Bytes::copy_from_slice(&buffer[..size])).is_err() {
            return;
        }
    }
}
