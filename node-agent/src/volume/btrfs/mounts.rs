//! What is mounted where, and which loop devices hold which file: read from the kernel's files.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use uuid::Uuid;

/// One line of `/proc/self/mountinfo` (proc(5)), as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    /// The device, or what stands for it.
    pub(super) source: String,
    /// Its kind, such as `btrfs`.
    pub(super) kind: String,
    /// The mount or the whole filesystem is read-only.
    pub(super) read_only: bool,
    /// Programs there run with their owner's rights, or devices work.
    pub(super) open: bool,
}

/// Returns what is mounted at exactly this path; the topmost where there are several.
///
/// # Errors
/// Where the kernel does not tell its mounts.
pub(super) fn at(path: &Path) -> io::Result<Option<Mounted>> {
    Ok(parse(&fs::read_to_string("/proc/self/mountinfo")?, path))
}

/// Returns the mount that holds a path, which must have no links in it.
///
/// # Errors
/// Where the kernel does not tell its mounts.
pub(super) fn holding(path: &Path) -> io::Result<Option<Mounted>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(path.ancestors().find_map(|above| parse(&text, above)))
}

/// Returns the id of the btrfs filesystem on a device, as the kernel has it.
///
/// # Errors
/// The device is not there.
pub(super) fn filesystem_on(device: &str) -> io::Result<Option<Uuid>> {
    let device = fs::canonicalize(device)?;
    let Some(name) = device.file_name() else { return Ok(None) };
    for entry in fs::read_dir("/sys/fs/btrfs")?.flatten() {
        if entry.path().join("devices").join(name).exists() {
            return Ok(entry.file_name().to_string_lossy().parse().ok());
        }
    }
    Ok(None)
}

fn parse(text: &str, path: &Path) -> Option<Mounted> {
    let line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        let after: Vec<&str> = after.split(' ').collect();
        let (point, options) = (before.get(4)?, before.get(5)?);
        let (kind, source, whole) = (after.first()?, after.get(1)?, after.get(2)?);
        if Path::new(&plain(point)) != path {
            return None;
        }
        let has = |options: &str, name: &str| options.split(',').any(|one| one == name);
        Some(Mounted {
            source: plain(source),
            kind: (*kind).to_owned(),
            read_only: has(options, "ro") || has(whole, "ro"),
            open: !has(options, "nosuid") || !has(options, "nodev"),
        })
    };
    text.lines().rev().find_map(line)
}

/// Undoes the kernel's octal escapes for blanks, tabs, line ends and backslashes.
fn plain(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Returns the loop devices that hold this file, such as `/dev/loop3`, by number of device.
///
/// # Errors
/// The file is not there.
pub(super) fn loops_of(file: &Path) -> io::Result<Vec<String>> {
    let ours = fs::metadata(file)?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(backing) = fs::read_to_string(entry.path().join("loop/backing_file")) else {
            continue;
        };
        // by file and not by name: it may be reached by several
        let theirs = fs::metadata(backing.trim_end_matches('\n'));
        if theirs.is_ok_and(|other| (other.dev(), other.ino()) == (ours.dev(), ours.ino())) {
            found.push(format!("/dev/{name}"));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_path_and_read_only_ones_are_told() {
        let text = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
44 27 0:39 / /a\\040b rw,nosuid,nodev,noatime - btrfs /dev/loop0 rw,space_cache=v2\n\
45 27 0:40 / /c ro,nosuid,nodev - btrfs /dev/loop1 rw\n\
46 27 0:41 /x /d rw shared:1 - btrfs /dev/loop2 ro,subvolid=5\n\
47 44 0:42 / /a\\040b rw,nosuid,nodev - tmpfs over rw\n";
        let one = parse(text, Path::new("/c")).expect("mounted");
        assert_eq!((one.kind.as_str(), one.read_only, one.open), ("btrfs", true, false));
        let one = parse(text, Path::new("/d")).expect("mounted");
        assert_eq!((one.source.as_str(), one.read_only, one.open), ("/dev/loop2", true, true));
        assert_eq!(parse(text, Path::new("/a b")).expect("mounted").source, "over");
        assert_eq!(parse(text, Path::new("/a")), None);
    }

    #[test]
    fn this_machine_has_a_root_and_no_loop_of_a_fresh_file() {
        assert!(at(Path::new("/")).expect("mounts").is_some());
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert_eq!(loops_of(file.path()).expect("asked"), Vec::<String>::new());
        assert!(loops_of(Path::new("/no/such/file")).is_err());
    }
}
