//! What pages are made of: ours from this binary, noVNC and xterm.js from the image.

use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use warren_proto::pb::inside::v1::ViewKind;

use super::{Answer, text};
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
        "/" => file(HTML, page),
        "/page.js" => file(SCRIPT, script),
        "/page.css" => file(STYLE, include_str!("page/page.css")),
        _ => match locate(path, modules) {
            Some((file_path, content)) => match files::read(&file_path, FILE_BYTES) {
                Some(bytes) => file(content, bytes),
                None => {
                    let words = format!(
                        "{} is not in the image; build it on Warren's full image",
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

fn file(content: &'static str, bytes: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(bytes.into()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
    answer
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
