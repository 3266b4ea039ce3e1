//! What pages are made of: ours from this binary, noVNC and xterm.js from the image.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    Response, StatusCode,
    body::Frame,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
};
use warren_common::Limits;
use warren_proto::pb::inside::v1::ViewKind;

use super::{Answer, text, whole};
use crate::files;

/// One file of a page.
const FILE_BYTES: usize = 4 * 1024 * 1024;
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Answers with one file; what is not there is said with what to do about it.
pub(super) fn serve(kind: ViewKind, path: &str, modules: &Path) -> Answer {
    let (page, script) = match kind {
        ViewKind::Terminal => {
            (include_str!("page/terminal.html"), include_str!("page/terminal.js"))
        }
        ViewKind::Display | ViewKind::Editor | ViewKind::Unspecified => {
            (include_str!("page/display.html"), include_str!("page/display.js"))
        }
    };
    match path {
        "/" => ours(HTML, page),
        "/page.js" => ours(SCRIPT, script),
        "/page.css" => ours(STYLE, include_str!("page/page.css")),
        _ => match locate(path, modules) {
            Some((file_path, content)) => match files::open_plain(&file_path, FILE_BYTES) {
                Some(opened) => typed(content, in_pieces(opened)),
                None => {
                    let words = format!(
                        "{} is not in the image; build it on Warren's image with browsers",
                        file_path.display()
                    );
                    text(StatusCode::NOT_FOUND, &words)
                }
            },
            None => text(StatusCode::NOT_FOUND, "no such page"),
        },
    }
}

/// Returns where a file of a module is, and what it is; none for what is no part of a page.
fn locate(path: &str, modules: &Path) -> Option<(PathBuf, &'static str)> {
    let folders = [("/novnc/", "@novnc/novnc"), ("/xterm/", "@xterm/xterm")];
    let (rest, folder) = folders
        .iter()
        .find_map(|(prefix, folder)| path.strip_prefix(prefix).map(|rest| (rest, folder)))?;
    let content = match Path::new(rest).extension()?.to_str()? {
        "js" | "mjs" => SCRIPT,
        "css" => STYLE,
        _ => return None,
    };
    let plain = Path::new(rest).components().all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| (modules.join(folder).join(rest), content))
}

fn ours(content: &'static str, words: &'static str) -> Answer {
    typed(content, whole(Bytes::from_static(words.as_bytes())))
}

fn typed(content: &'static str, mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
    answer
}

/// Answers with a file that is read as the browser takes it: browsers that take nothing cost no more
/// than a piece each.
fn in_pieces((file, length): (File, usize)) -> Answer {
    let pieces = stream::iter(Pieces { file, left: length });
    let mut answer = Response::new(StreamBody::new(pieces).map_err(Into::into).boxed());
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    answer
}

struct Pieces {
    file: File,
    left: usize,
}

impl Iterator for Pieces {
    type Item = io::Result<Frame<Bytes>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let mut piece = BytesMut::zeroed(self.left.min(Limits::VIEW_PIECE_BYTES));
        let read = self.file.read(&mut piece).and_then(|count| match count {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        });
        Some(read.map(|count| {
            self.left -= count;
            piece.truncate(count);
            Frame::data(piece.freeze())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scripts_and_styles_of_the_two_modules_are_served() {
        let at = |path| locate(path, Path::new("/m")).map(|(path, _)| path);
        assert_eq!(at("/novnc/core/rfb.js"), Some("/m/@novnc/novnc/core/rfb.js".into()));
        assert_eq!(at("/xterm/css/xterm.css"), Some("/m/@xterm/xterm/css/xterm.css".into()));
        for odd in [
            "/novnc/../../x.js",
            "/novnc//etc/x.js",
            "/novnc/package.json",
            "/novnc/",
            "/etc/passwd",
            "/novnc/%2e%2e/x",
            "/other/x.js",
        ] {
            assert_eq!(at(odd), None, "{odd}");
        }
    }
}
