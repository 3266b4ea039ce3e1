//! No walls: for the engine that runs nothing.

use std::net::Ipv4Addr;

use futures_util::FutureExt as _;
use tokio::sync::watch;

use super::{Answer, View, Walls};

/// Walls around nothing.
#[derive(Debug, Default)]
pub struct NoWalls {
    view: watch::Sender<View>,
}

impl Walls for NoWalls {
    fn prepare<'a>(&'a self, _bridge: &'a str) -> Answer<'a, ()> {
        async { Ok(()) }.boxed()
    }

    fn open<'a>(&'a self, _bridge: &'a str) -> Answer<'a, ()> {
        async { Ok(()) }.boxed()
    }

    fn gateway(&self, _bridge: &str) -> Option<Ipv4Addr> {
        None
    }

    fn look(&self) {}

    fn view(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }
}
