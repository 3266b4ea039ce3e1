//! Titles of a browser's windows on the display, for when its DevTools cannot be looked at.
//!
//! The windows are those that the window manager lists; without one, what stands right below the root.
//! The display is a program of the workspace like any other: what it says is bounded, and whoever asks
//! sets a deadline.

use std::{borrow::Cow, fmt, io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{Instant, timeout},
};
use warren_common::browser::Target;
use x11rb_protocol::{
    connect::Connect,
    protocol::xproto::{
        AtomEnum, GetPropertyReply, GetPropertyRequest, InternAtomReply, InternAtomRequest,
        QueryTreeReply, QueryTreeRequest, Window,
    },
    x11_utils::TryParse,
};

use crate::service::socket_of;

/// Between two looks, and between two attempts to reach the display.
const LOOK: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(5);
/// What one look may take.
const ANSWER: Duration = Duration::from_secs(1);
/// Windows of all programs that are looked at, at most.
const WINDOWS: usize = 64;
/// An answer is 32 bytes and as much as it says beyond; no more of that than this.
const HEAD_BYTES: usize = 32;
const MORE_BYTES: usize = 64 * 1024;
/// Events that are read past before an answer; none was asked for.
const EVENTS: u32 = 64;
/// Of a title, words of four bytes.
const TITLE_WORDS: u32 = 512;

/// What is asked for by name, in the order of [`Atoms`].
const NAMES: [&str; 4] = ["_NET_CLIENT_LIST", "_NET_WM_PID", "_NET_WM_NAME", "UTF8_STRING"];

/// The windows of one browser.
#[derive(Debug)]
pub(super) struct Windows {
    pid: u32,
    /// The display they are on; none where there is none of this workspace.
    display: Option<u16>,
    open: Option<Display>,
    /// When they are looked at again.
    again: Instant,
    /// What was seen last.
    seen: Option<Vec<Target>>,
}

/// A conversation with the display.
struct Display {
    stream: UnixStream,
    root: Window,
    atoms: Atoms,
}

/// The display's own numbers for [`NAMES`]; 0 for what no program has named yet.
#[derive(Debug, Clone, Copy, Default)]
struct Atoms {
    list: u32,
    pid: u32,
    name: u32,
    utf8: u32,
}

impl fmt::Debug for Display {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Display").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Windows {
    /// Returns those of a process on a display of this name; nothing is asked yet.
    pub(super) fn new(pid: u32, display: &str) -> Self {
        Self { pid, display: number(display), open: None, again: Instant::now(), seen: None }
    }

    /// Has the next look tell everything again.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }

    /// Looks where it is time to; returns what changed since it was last told. Never waits for more than
    /// [`ANSWER`].
    pub(super) async fn look(&mut self) -> Option<Vec<Target>> {
        let number = self.display.filter(|_| self.again <= Instant::now())?;
        let open = self.open.take();
        let asking = async {
            let mut open = match open {
                Some(open) => open,
                None => Display::open(number).await?,
            };
            let windows = open.windows(self.pid).await?;
            Ok::<_, io::Error>((open, windows))
        };
        let windows = match timeout(ANSWER, asking).await {
            Ok(Ok((open, windows))) => {
                (self.open, self.again) = (Some(open), Instant::now() + LOOK);
                windows
            }
            // what it showed is gone with it
            Ok(Err(_)) | Err(_) => {
                self.again = Instant::now() + PAUSE;
                Vec::new()
            }
        };
        let news = self.seen.as_ref().is_none_or(|seen| *seen != windows);
        self.seen = Some(windows.clone());
        news.then_some(windows)
    }
}

/// Returns the number of a display of this workspace that is named like `:99` or `:99.0`.
fn number(name: &str) -> Option<u16> {
    let (host, rest) = name.split_once(':')?;
    let number = rest.split_once('.').map_or(rest, |(number, _)| number);
    number.parse().ok().filter(|_| host.is_empty())
}

impl Display {
    /// Begins a conversation.
    ///
    /// # Errors
    /// Nothing listens there, or it is no display that lets this user in.
    async fn open(number: u16) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket_of(number)).await?;
        let (mut connect, request) = Connect::with_authorization(Vec::new(), Vec::new());
        stream.write_all(&request).await?;
        loop {
            let count = stream.read(connect.buffer()).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if connect.advance(count) {
                break;
            }
        }
        let setup = connect.into_setup().map_err(nonsense)?;
        let root = setup.roots.first().map(|screen| screen.root);
        let root = root.ok_or_else(|| nonsense("it has no screen"))?;
        Ok(Self { stream, root, atoms: Atoms::default() })
    }

    /// Returns the windows of a process with their titles, those that were opened first first.
    ///
    /// # Errors
    /// The display went away, or says what no display says.
    async fn windows(&mut self, pid: u32) -> io::Result<Vec<Target>> {
        // what is named already keeps its number for as long as the display runs
        let Atoms { list, pid: owner, name, utf8 } = self.atoms;
        if [list, owner, name, utf8].contains(&0) {
            let mut atoms = [0; NAMES.len()];
            for (atom, name) in atoms.iter_mut().zip(NAMES) {
                *atom = self.atom(name).await?;
            }
            let [list, pid, name, utf8] = atoms;
            self.atoms = Atoms { list, pid, name, utf8 };
        }
        let mut windows = Vec::new();
        for window in self.all().await? {
            if self.owner(window).await? != Some(pid) {
                continue;
            }
            let title = self.title(window).await?;
            windows.push(Target { id: format!("{window:#x}"), url: String::new(), title });
        }
        Ok(windows)
    }

    async fn all(&mut self) -> io::Result<Vec<Window>> {
        let root = self.root;
        let (kind, words) = (AtomEnum::WINDOW.into(), u32::try_from(WINDOWS).unwrap_or(u32::MAX));
        let listed = self.property((root, self.atoms.list), (kind, words)).await?;
        let listed = listed.as_ref().and_then(GetPropertyReply::value32).map(Iterator::collect);
        let windows: Vec<Window> = match listed {
            Some(windows) => windows,
            None => {
                let asked = QueryTreeRequest { window: root }.serialize();
                let tree: Option<QueryTreeReply> = self.ask(&asked.0).await?;
                tree.map(|tree| tree.children).unwrap_or_default()
            }
        };
        Ok(windows.into_iter().take(WINDOWS).collect())
    }

    /// Returns the process that says that a window is its own.
    async fn owner(&mut self, window: Window) -> io::Result<Option<u32>> {
        let kind = AtomEnum::CARDINAL.into();
        let said = self.property((window, self.atoms.pid), (kind, 1)).await?;
        Ok(said.and_then(|said| said.value32()?.next()))
    }

    async fn title(&mut self, window: Window) -> io::Result<String> {
        let kind = (self.atoms.utf8, TITLE_WORDS);
        if let Some(said) = self.property((window, self.atoms.name), kind).await? {
            return Ok(String::from_utf8_lossy(&said.value).into_owned());
        }
        let old = (window, AtomEnum::WM_NAME.into());
        let said = self.property(old, (AtomEnum::STRING.into(), TITLE_WORDS)).await?;
        // its letters are those that Unicode begins with
        Ok(said.map(|said| said.value.into_iter().map(char::from).collect()).unwrap_or_default())
    }

    async fn atom(&mut self, name: &'static str) -> io::Result<u32> {
        let name = Cow::Borrowed(name.as_bytes());
        let asked = InternAtomRequest { only_if_exists: true, name }.serialize();
        let answer: Option<InternAtomReply> = self.ask(&asked.0).await?;
        Ok(answer.map_or(0, |answer| answer.atom))
    }

    /// Returns a property of a window; none where it has no such of that kind.
    async fn property(
        &mut self,
        (window, property): (Window, u32),
        (type_, long_length): (u32, u32),
    ) -> io::Result<Option<GetPropertyReply>> {
        if property == 0 {
            return Ok(None);
        }
        let asked = GetPropertyRequest {
            delete: false,
            window,
            property,
            type_,
            long_offset: 0,
            long_length,
        };
        let answer: Option<GetPropertyReply> = self.ask(&asked.serialize().0).await?;
        Ok(answer.filter(|answer| answer.type_ == type_ && type_ != 0))
    }

    /// Asks one thing and returns the answer; none where the display says that it cannot be asked, of a
    /// window that is there no more.
    async fn ask<A: TryParse>(&mut self, pieces: &[Cow<'_, [u8]>]) -> io::Result<Option<A>> {
        self.stream.write_all(&pieces.concat()).await?;
        for _ in 0..EVENTS {
            let mut head = [0; HEAD_BYTES];
            self.stream.read_exact(&mut head).await?;
            let [kind, _, _, _, a, b, c, d, ..] = head;
            match kind {
                0 => return Ok(None),
                1 => {
                    let words = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok();
                    let more = words.and_then(|words| words.checked_mul(4));
                    let more = more.filter(|more| *more <= MORE_BYTES);
                    let more = more.ok_or_else(|| nonsense("it says too much"))?;
                    let mut answer = head.to_vec();
                    answer.resize(HEAD_BYTES + more, 0);
                    self.stream.read_exact(&mut answer[HEAD_BYTES..]).await?;
                    return A::try_parse(&answer).map(|(answer, _)| Some(answer)).map_err(nonsense);
                }
                _ => {}
            }
        }
        Err(nonsense("it does not answer"))
    }
}

fn nonsense(why: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_displays_of_this_workspace_have_a_number() {
        assert_eq!([number(":99"), number(":7.1")], [Some(99), Some(7)]);
        for other in ["", "99", "host:99", "unix:1", ":", ":x", ":-1", ":70000", ":1/../2"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
