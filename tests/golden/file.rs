//! A golden file: named byte strings in hex, one after the other, as text that can be reviewed.
//!
//! `WARREN_GOLDEN=1` writes a file that is not there yet. One that is there is never written
//! again: it is what an older version left on disks and sent over wires.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::PathBuf};

/// Bytes on one line.
const LINE: usize = 48;
/// The most a golden file may have.
const LIMIT: usize = 64 * 1024;

/// The byte strings of one golden file by their names.
pub(crate) type Strings = BTreeMap<String, Vec<u8>>;

/// Returns what the golden file `name` holds; `today` is written where there is none and
/// `WARREN_GOLDEN` is set.
pub(crate) fn golden(name: &str, today: &Strings) -> Strings {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
    if !path.exists() && env::var_os("WARREN_GOLDEN").is_some() {
        let text = write(today);
        assert!(
            text.len() <= LIMIT,
            "{name} would have {} bytes, the limit is {LIMIT}",
            text.len()
        );
        fs::write(&path, text).expect("written");
    }
    let text = fs::read_to_string(&path);
    read(&text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn write(strings: &Strings) -> String {
    let mut text = String::new();
    for (name, bytes) in strings {
        writeln!(text, "{name}").expect("a String takes everything");
        for line in bytes.chunks(LINE) {
            text.push_str("  ");
            for byte in line {
                write!(text, "{byte:02x}").expect("a String takes everything");
            }
            text.push('\n');
        }
    }
    text
}

fn read(text: &str) -> Strings {
    let mut strings = Strings::new();
    let mut name = "";
    for line in text.lines() {
        let Some(hex) = line.strip_prefix("  ") else {
            name = line;
            strings.insert(name.to_owned(), Vec::new());
            continue;
        };
        let digits = hex.as_bytes().chunks(2).map(|pair| {
            let pair = str::from_utf8(pair).expect("hex is ASCII");
            u8::from_str_radix(pair, 16).unwrap_or_else(|error| panic!("{name}: {pair}: {error}"))
        });
        strings.get_mut(name).expect("a name comes first").extend(digits);
    }
    strings
}
