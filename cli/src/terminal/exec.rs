//! `exec`: a program in the workspace with our pipes or our terminal.

use warren_proto::pb::inside::v1::{Exec, open};

use super::{
    input::Input,
    pump::{End, OnSignal, Pump, Signals, exit_code, lost},
    raw::Raw,
    stream::{Repeat, Stream},
};
use crate::{
    api::Api,
    error::{Error, Outcome},
};

/// A program to run.
pub(crate) struct Program {
    /// Where.
    pub(crate) workspace: String,
    /// What.
    pub(crate) open: Exec,
    /// Whether stdin is passed on.
    pub(crate) stdin: bool,
}

/// Runs a program and returns its exit code.
///
/// # Errors
/// Where it could not be started, or the connection broke: it is killed then.
pub(crate) async fn run(api: &mut Api, program: Program) -> Outcome {
    let terminal = program.open.terminal.is_some();
    let what = (open::What::Exec(program.open), Repeat::Never);
    let mut stream = Stream::open(api, &program.workspace, what).await?;
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| Error::pipe(&what, &error)
    };
    let mut signals = Signals::catch()?;
    // without input the terminal stays as it is: Ctrl-C is a signal, which is forwarded
    let raw = match terminal && program.stdin {
        true => Some(Raw::enter().map_err(failed("taking over the terminal"))?),
        false => None,
    };
    let mut input = match program.stdin {
        true => Some(Input::begin().map_err(failed("reading stdin"))?),
        false => None,
    };
    let pump = Pump {
        stream: &mut stream,
        input: input.as_mut(),
        keys: None,
        raw: raw.as_ref(),
        mute: false,
        close: !terminal,
        on_signal: OnSignal::Forward,
    };
    let end = pump.run(&mut signals).await;
    drop(raw);
    match end? {
        End::Exited(code) => Ok(exit_code(code)),
        End::Detached | End::Left => Ok(0),
        End::Signal(number) => Ok(exit_code(128 + number)),
        End::Refused(error) => Err(error),
        End::Lost(why) => Err(lost(&program.workspace, why)
            .next("the program is killed when its caller is gone; run it again")),
    }
}
