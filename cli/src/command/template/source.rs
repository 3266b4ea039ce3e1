//! Where a template's document comes from: a folder, a file, or stdin.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use warren_common::{Limits, TemplateName};

use crate::error::Error;

/// The document's name in a folder.
const FILE: &str = "template.toml";

/// Reads a document and says which template it is of.
///
/// # Errors
/// Usage: it cannot be read, is too long, or nobody says its name.
pub(super) fn read(
    from: &str,
    name: Option<&TemplateName>,
) -> Result<(TemplateName, String), Error> {
    let unreadable = |what: &str, error: io::Error| {
        Error::usage(format!("{what} cannot be read")).why(error.to_string())
    };
    let limit = u64::try_from(Limits::TEMPLATE_BYTES).unwrap_or(u64::MAX) + 1;
    let mut bytes = Vec::new();
    let mut called = None;
    if from == "-" {
        let read = io::stdin().lock().take(limit).read_to_end(&mut bytes);
        read.map_err(|error| unreadable("stdin", error))?;
    } else {
        let given = Path::new(from);
        let path = if given.is_dir() { given.join(FILE) } else { given.to_owned() };
        let shown = path.display().to_string();
        let read = fs::File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
        read.map_err(|error| unreadable(&shown, error))?;
        called = named_after(&path);
    }
    if bytes.len() > Limits::TEMPLATE_BYTES {
        let limit = Limits::TEMPLATE_BYTES;
        return Err(Error::usage(format!("the document has more than {limit} bytes"))
            .next("have the setup script fetch what is long"));
    }
    let document = String::from_utf8(bytes)
        .map_err(|_| Error::usage("the document is not UTF-8").next("save it as UTF-8 text"))?;
    match name.cloned().or(called) {
        Some(name) => Ok((name, document)),
        None => Err(Error::usage("the template has no name").next("give it one: --name NAME")),
    }
}

/// Returns the name that a path gives: the folder's of `template.toml`, else the file's own.
fn named_after(path: &Path) -> Option<TemplateName> {
    let whole = fs::canonicalize(path).ok()?;
    let named = match whole.file_name()?.to_str()? {
        FILE => whole.parent()?.file_name()?,
        _ => whole.file_stem()?,
    };
    named.to_str()?.parse().ok()
}
