//! The terminal's mode: raw while a session is shown, as it was on every way out.
//!
//! What to restore is kept in one place for the whole process, because a panic's message must not
//! be written into a raw terminal either. Only SIGKILL gets past it.

use std::{
    io::{self, Write as _},
    panic,
    sync::{Mutex, Once, PoisonError},
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::modes::Modes;

/// The terminal before it was raw, and what the program has switched on since.
struct Before {
    termios: Termios,
    modes: Modes,
}

static BEFORE: Mutex<Option<Before>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// The terminal is raw while this lives.
pub(super) struct Raw(());

impl Raw {
    /// Makes the terminal that stdin is raw.
    ///
    /// # Errors
    /// Where stdin is no terminal.
    pub(super) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let termios = tcgetattr(&stdin)?;
        let mut raw = termios.clone();
        raw.make_raw();
        HOOK.call_once(|| {
            let previous = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                restore();
                previous(info);
            }));
        });
        let before = Before { termios, modes: Modes::default() };
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        match tcsetattr(&stdin, OptionalActions::Drain, &raw) {
            Ok(()) => Ok(Self(())),
            Err(error) => {
                restore();
                Err(error.into())
            }
        }
    }

    /// Notes output on its way to the terminal.
    #[expect(clippy::unused_self, reason = "only while the terminal is raw")]
    pub(super) fn watch(&self, output: &[u8]) {
        if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            before.modes.watch(output);
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal, once.
fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // nobody is left to be told; late mouse reports must not become the shell's input
        let mut out = io::stdout().lock();
        let _ = out.write_all(before.modes.reset().as_bytes()).and_then(|()| out.flush());
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &before.termios);
    }
}
