//! The folder that Warren's own images are built from, as it was when this program was.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

/// What stands at a path.
enum Held {
    File(&'static str),
    Program(&'static str),
    Link(&'static str),
}

macro_rules! text {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/workspace-image/", $path))
    };
}

/// Everything in it but its description.
const FILES: [(&str, Held); 13] = [
    (".dockerignore", Held::File(text!(".dockerignore"))),
    ("Dockerfile", Held::File(text!("Dockerfile"))),
    ("base", Held::Program(text!("base"))),
    ("build/node", Held::File(text!("build/node"))),
    ("build/npm", Held::File(text!("build/npm"))),
    ("build/tool", Held::File(text!("build/tool"))),
    ("root/etc/profile.d/warren.sh", Held::File(text!("root/etc/profile.d/warren.sh"))),
    ("root/usr/local/bin/apt", Held::Link("apt-get")),
    ("root/usr/local/bin/apt-get", Held::Program(text!("root/usr/local/bin/apt-get"))),
    ("root/usr/local/bin/sudo", Held::Program(text!("root/usr/local/bin/sudo"))),
    (
        "root-browsers/etc/chromium.d/warren",
        Held::File(text!("root-browsers/etc/chromium.d/warren")),
    ),
    (
        "root-browsers/opt/warren/browser.cjs",
        Held::File(text!("root-browsers/opt/warren/browser.cjs")),
    ),
    ("versions", Held::File(text!("versions"))),
];

/// The folder, laid out; gone when it is dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Lays it out below the machine's folder for such things.
    ///
    /// # Errors
    /// Fails where that cannot be written.
    pub(super) fn lay() -> io::Result<Self> {
        let name = format!("warren-image-{}", uuid::Uuid::now_v7().simple());
        let folder = Self(std::env::temp_dir().join(name));
        make(&folder.0)?;
        for (path, held) in &FILES {
            folder.lay_one(Path::new(path), held)?;
        }
        Ok(folder)
    }

    /// Lays one out. Its modes are the image's too, so the umask has no say in them.
    fn lay_one(&self, path: &Path, held: &Held) -> io::Result<()> {
        let mut parent = self.0.clone();
        for name in path.parent().into_iter().flatten() {
            parent.push(name);
            make(&parent)?;
        }
        let path = self.0.join(path);
        let (text, mode) = match held {
            Held::Link(to) => return symlink(to, path),
            Held::File(text) => (text, 0o644),
            Held::Program(text) => (text, 0o755),
        };
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(mode))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(folder: &Path, below: &Path, all: &mut Vec<(String, u32, Vec<u8>)>) {
        for entry in fs::read_dir(below).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(folder).expect("below").to_string_lossy().into_owned();
            let kind = fs::symlink_metadata(&path).expect("there");
            if kind.is_dir() {
                found(folder, &path, all);
            } else if kind.is_symlink() {
                let to = fs::read_link(&path).expect("a link");
                all.push((name, 0, to.into_os_string().into_encoded_bytes()));
            } else if name != "README.md" {
                let program = u32::from(kind.permissions().mode() & 0o111 != 0);
                all.push((name, program, fs::read(&path).expect("a file")));
            }
        }
        all.sort();
    }

    #[test]
    fn what_is_laid_out_is_what_the_images_are_built_from() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/workspace-image");
        let folder = Folder::lay().expect("laid out");
        let (mut there, mut here) = (Vec::new(), Vec::new());
        found(&source, &source, &mut there);
        found(folder.path(), folder.path(), &mut here);
        assert_eq!(here.len(), FILES.len());
        assert_eq!(here, there);
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }
}
