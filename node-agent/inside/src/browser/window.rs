//! Titles of a browser's windows on the display, for when its DevTools cannot be looked at.
//!
//! The windows are those that the window manager lists; without one, what is shown right below the
//! root. The display is a program of the workspace like any other: what it says is bounded, what is
//! kept of it is small, and each look has a deadline.

use std::{borrow::Cow, fmt, io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UnixStream,
    sync::Mutex,
    time::{Instant, timeout},
};
use warren_common::{Limits, browser::Target};
use x11rb_protocol::{
    connect::Connect,
    protocol::xproto::{
        AtomEnum, GetPropertyReply, GetPropertyRequest, GetWindowAttributesReply,
        GetWindowAttributesRequest, InternAtomReply, InternAtomRequest, MapState, QueryTreeReply,
        QueryTreeRequest, Window,
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
/// Of a title, words of four bytes. It is cut to less before it is told.
const TITLE_WORDS: u32 = 256;

/// What is asked for by name, in the order of [`Atoms`].
const NAMES: [&str; 4] = ["_NET_CLIENT_LIST", "_NET_WM_PID", "_NET_WM_NAME", "UTF8_STRING"];

/// The windows of one browser.
#[derive(Debug)]
pub(super) struct Windows {
    pid: u32,
    /// Number and screen of the display they are on; none where it is none of this workspace.
    display: Option<(u16, usize)>,
    open: Option<Display>,
    /// When they are looked at again.
    again: Instant,
    /// What was seen last.
    seen: Option<Vec<Target>>,
}

/// A conversation with the display.
struct Display<S = UnixStream> {
    stream: S,
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

impl Windows {
    /// Returns those of a process on a display of this name; nothing is asked yet.
    pub(super) fn new(pid: u32, display: &str) -> Self {
        Self { pid, display: place(display), open: None, again: Instant::now(), seen: None }
    }

    /// Ends the conversation, where there is one, and has the next look tell everything.
    pub(super) fn forget(&mut self) {
        (self.open, self.seen) = (None, None);
    }

    /// Looks where it is time to; returns what there is where that has changed, nothing where the
    /// display does not answer within [`ANSWER`]. Whoever holds `glance` looks alone.
    pub(super) async fn look(&mut self, glance: &Mutex<()>) -> Option<Vec<Target>> {
        let (number, screen) = self.display.filter(|_| self.again <= Instant::now())?;
        let alone = glance.lock().await;
        let (open, pid) = (self.open.take(), self.pid);
        let asking = async {
            let mut open = match open {
                Some(open) => open,
                None => Display::begin(connect(number).await?, screen).await?,
            };
            let windows = open.windows(pid).await?;
            Ok::<_, io::Error>((open, windows))
        };
        let asked = timeout(ANSWER, asking).await;
        drop(alone);
        let windows = match asked {
            Ok(Ok((open, windows))) => {
                (self.open, self.again) = (Some(open), Instant::now() + LOOK);
                windows
            }
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

/// Reads a display's name, such as `:99` or `:99.0`: its number and its screen. None where it is on
/// another machine.
fn place(name: &str) -> Option<(u16, usize)> {
    let rest = name.strip_prefix(':')?;
    let (number, screen) = rest.split_once('.').unwrap_or((rest, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits(number) && digits(screen);
    Some((number.parse().ok().filter(|_| plain)?, screen.parse().ok()?))
}

async fn connect(number: u16) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket_of(number)).await?;
    // anybody in the workspace may put a socket there
    if stream.peer_cred()?.uid() != rustix::process::geteuid().as_raw() {
        return Err(nonsense("somebody else listens there"));
    }
    Ok(stream)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Display<S> {
    /// Begins a conversation.
    ///
    /// # Errors
    /// It is no display, or one that does not let this user in.
    async fn begin(mut stream: S, screen: usize) -> io::Result<Self> {
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
        let root = setup.roots.get(screen).map(|screen| screen.root);
        let root = root.ok_or_else(|| nonsense("it has no such screen"))?;
        Ok(Self { stream, root, atoms: Atoms::default() })
    }

    /// Returns the windows of a process with their titles, in the order that the display has them.
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
        let (all, managed) = self.all().await?;
        let mut windows = Vec::new();
        for window in all {
            if windows.len() == Limits::PAGES {
                break;
            }
            if self.owner(window).await? != Some(pid) {
                continue;
            }
            // menus, and what programs keep to themselves, have no title or are not shown
            let title = self.title(window).await?;
            if !title.is_empty() && (managed || self.is_shown(window).await?) {
                windows.push(Target { id: format!("{window:x}"), url: String::new(), title });
            }
        }
        Ok(windows)
    }

    /// Returns the windows of all programs, and whether a window manager said which those are.
    async fn all(&mut self) -> io::Result<(Vec<Window>, bool)> {
        let root = self.root;
        let (kind, words) = (AtomEnum::WINDOW.into(), u32::try_from(WINDOWS).unwrap_or(u32::MAX));
        let listed = self.property((root, self.atoms.list), (kind, words)).await?;
        let listed = listed.as_ref().and_then(GetPropertyReply::value32);
        if let Some(listed) = listed {
            return Ok((listed.take(WINDOWS).collect(), true));
        }
        let asked = QueryTreeRequest { window: root }.serialize();
        let tree: Option<QueryTreeReply> = self.ask(&asked.0).await?;
        let mut windows = tree.map(|tree| tree.children).unwrap_or_default();
        // what lies on top comes last there, and changes places all the time
        windows.sort_unstable();
        windows.truncate(WINDOWS);
        Ok((windows, false))
    }

    /// Returns the process that says that a window is its own.
    async fn owner(&mut self, window: Window) -> io::Result<Option<u32>> {
        let kind = AtomEnum::CARDINAL.into();
        let said = self.property((window, self.atoms.pid), (kind, 1)).await?;
        Ok(said.and_then(|said| said.value32()?.next()))
    }

    async fn title(&mut self, window: Window) -> io::Result<String> {
        let most = usize::try_from(TITLE_WORDS).unwrap_or(usize::MAX).saturating_mul(4);
        let kind = (self.atoms.utf8, TITLE_WORDS);
        if let Some(said) = self.property((window, self.atoms.name), kind).await? {
            let said = said.value.get(..most).unwrap_or(&said.value);
            return Ok(String::from_utf8_lossy(said).into_owned());
        }
        let old = (window, AtomEnum::WM_NAME.into());
        let said = self.property(old, (AtomEnum::STRING.into(), TITLE_WORDS)).await?;
        let said = said.map(|said| said.value).unwrap_or_default();
        // its letters are those that Unicode begins with
        Ok(said.into_iter().take(most).map(char::from).collect())
    }

    async fn is_shown(&mut self, window: Window) -> io::Result<bool> {
        let asked = GetWindowAttributesRequest { window }.serialize();
        let answer: Option<GetWindowAttributesReply> = self.ask(&asked.0).await?;
        let shown = |one: GetWindowAttributesReply| {
            one.map_state == MapState::VIEWABLE && !one.override_redirect
        };
        Ok(answer.is_some_and(shown))
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
        if property == 0 || type_ == 0 {
            return Ok(None);
        }
        let (delete, long_offset) = (false, 0);
        let asked =
            GetPropertyRequest { delete, window, property, type_, long_offset, long_length };
        let answer: Option<GetPropertyReply> = self.ask(&asked.serialize().0).await?;
        Ok(answer.filter(|answer| answer.type_ == type_))
    }

    /// Asks one thing and returns the answer; none where the display says that it cannot be asked, of
    /// a window that is there no more.
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

impl fmt::Debug for Display {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Display").field("root", &self.root).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use x11rb_protocol::{
        protocol::xproto::{Screen, Setup},
        x11_utils::Serialize as _,
    };

    use super::*;

    const PID: u32 = 4711;

    #[test]
    fn only_displays_of_this_workspace_have_a_place() {
        assert_eq!([place(":99"), place(":7.1")], [Some((99, 0)), Some((7, 1))]);
        for other in ["", "99", "host:99", "unix:1", ":", ":x", ":-1", ":+5", ":70000", ":1/../2"] {
            assert_eq!(place(other), None, "{other}");
        }
    }

    /// What a display answers to all that it is asked.
    #[derive(Debug, Clone, Copy)]
    enum Manner {
        /// Nothing more than that it is one.
        Leaves,
        /// That the answer is so long, in words, and then as much.
        Says(u32),
        /// Events and no answer.
        Babbles,
        /// A list without end of windows, all of them this process's, with a title without end.
        Boasts,
    }

    async fn forged(mut stream: DuplexStream, manner: Manner) -> io::Result<()> {
        let mut request = [0; 12];
        stream.read_exact(&mut request).await?;
        let screen = Screen { root: 1, ..Screen::default() };
        let mut setup = Setup { status: 1, roots: vec![screen], ..Setup::default() }.serialize();
        let words = u16::try_from((setup.len() - 8) / 4).expect("short");
        setup[6..8].copy_from_slice(&words.to_ne_bytes());
        stream.write_all(&setup).await?;
        loop {
            let mut head = [0; 4];
            stream.read_exact(&mut head).await?;
            let [opcode, _, length @ ..] = head;
            let rest = usize::from(u16::from_ne_bytes(length)) * 4 - 4;
            let mut rest = vec![0; rest];
            stream.read_exact(&mut rest).await?;
            let mut answer = vec![1, 0];
            answer.resize(HEAD_BYTES, 0);
            match (manner, opcode) {
                (Manner::Leaves, _) => return Ok(()),
                (Manner::Babbles, _) => {
                    for _ in 0..=EVENTS {
                        stream.write_all(&[22; HEAD_BYTES]).await?;
                    }
                    continue;
                }
                (Manner::Says(words), _) => {
                    answer[4..8].copy_from_slice(&words.to_ne_bytes());
                    let more = usize::try_from(words).expect("it fits").saturating_mul(4);
                    answer.resize(HEAD_BYTES + more.min(MORE_BYTES), 0);
                }
                // every name has the number 9
                (Manner::Boasts, 16) => answer[8] = 9,
                (Manner::Boasts, _) => {
                    let kind = u32::from_ne_bytes(rest[8..12].try_into().expect("four bytes"));
                    let title = kind == 9;
                    let words = u32::try_from(MORE_BYTES / 4).expect("it fits");
                    answer[1] = if title { 8 } else { 32 };
                    answer[4..8].copy_from_slice(&words.to_ne_bytes());
                    answer[8..12].copy_from_slice(&kind.to_ne_bytes());
                    let count = if title { words * 4 } else { words };
                    answer[16..20].copy_from_slice(&count.to_ne_bytes());
                    let value = if title { [0xff; 4] } else { PID.to_ne_bytes() };
                    (0..words).for_each(|_| answer.extend(value));
                }
            }
            stream.write_all(&answer).await?;
        }
    }

    async fn ask(manner: Manner) -> io::Result<Vec<Target>> {
        let (near, far) = duplex(1 << 20);
        let display = tokio::spawn(forged(far, manner));
        let windows = async { Display::begin(near, 0).await?.windows(PID).await };
        let windows = timeout(10 * ANSWER, windows).await.expect("an end");
        display.abort();
        windows
    }

    #[tokio::test]
    async fn what_a_forged_display_says_is_bounded() {
        let kind = |done: io::Result<Vec<Target>>| done.expect_err("no display").kind();
        assert_eq!(kind(ask(Manner::Leaves).await), io::ErrorKind::UnexpectedEof);
        for manner in [Manner::Says(u32::MAX), Manner::Says(1 << 20), Manner::Babbles] {
            assert_eq!(kind(ask(manner).await), io::ErrorKind::InvalidData, "{manner:?}");
        }
        assert_eq!(ask(Manner::Says(0)).await.expect("it knows of nothing"), []);
        let windows = ask(Manner::Boasts).await.expect("windows");
        assert_eq!(windows.len(), Limits::PAGES);
        let most = 4 * TITLE_WORDS as usize * char::REPLACEMENT_CHARACTER.len_utf8();
        assert!(windows.iter().all(|one| one.title.len() <= most), "{}", windows[0].title.len());
    }
}
