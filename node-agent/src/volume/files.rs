//! Steps on files that every store of homes takes, each failing with what was being done.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, lchown},
    path::Path,
};

use super::{VolumeError, tree};

/// User and group that workspaces run as.
pub(super) const OWNER: (u32, u32) = (1000, 1000);
/// What a new home holds. Debian's `/etc/profile` sets the path anew, so it is mended here.
const SKELETON: [(&str, &str); 2] = [
    (
        ".profile",
        "# read by login shells\n\
         PATH=\"$HOME/.local/bin:$HOME/.cargo/bin:$PATH\"\n\
         if [ -n \"$BASH_VERSION\" ] && [ -f \"$HOME/.bashrc\" ]; then . \"$HOME/.bashrc\"; fi\n",
    ),
    (
        ".bashrc",
        "# read by interactive shells\n\
         case $- in *i*) ;; *) return ;; esac\n\
         HISTSIZE=10000\nHISTFILESIZE=20000\nHISTCONTROL=ignoreboth\n\
         shopt -s histappend checkwinsize\n\
         PS1='\\[\\e[1;32m\\]${WARREN_WORKSPACE:-\\h}\\[\\e[0m\\]:\\[\\e[1;34m\\]\\w\\[\\e[0m\\]\\$ '\n\
         alias ls='ls --color=auto' grep='grep --color=auto'\n",
    ),
];

/// Fills a new, empty home and gives it away.
pub(super) fn seed(home: &Path, owner: (u32, u32)) -> Result<(), VolumeError> {
    for (name, text) in SKELETON {
        let path = home.join(name);
        fs::write(&path, text).map_err(at("write", &path))?;
        give(&path, owner)?;
    }
    give(home, owner)?;
    sync(home)
}

/// Gives a file or folder away; a link is given itself.
pub(super) fn give(path: &Path, owner: (u32, u32)) -> Result<(), VolumeError> {
    lchown(path, Some(owner.0), Some(owner.1)).map_err(at("give away", path))
}

/// Returns a closure that names what was being done, and to what.
pub(super) fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            VolumeError::DiskFull { operation, path }
        }
        _ => VolumeError::Io { operation, path, source },
    }
}

/// Returns whether a folder is there; a link or a file in its place is an error, never followed.
pub(super) fn is_folder(path: &Path) -> Result<bool, VolumeError> {
    match fs::symlink_metadata(path) {
        Ok(facts) if facts.is_dir() => Ok(true),
        Ok(facts) => {
            let what = if facts.is_symlink() { "a symbolic link" } else { "not a folder" };
            Err(VolumeError::InTheWay { path: path.to_owned(), what })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at("look at", path)(error)),
    }
}

/// Makes one folder with exactly this mode, whatever the process's mask.
pub(super) fn make_folder(path: &Path, mode: u32) -> Result<(), VolumeError> {
    fs::create_dir(path).map_err(at("make", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at("open", path))
}

/// Removes a tree without following links; gone is fine.
pub(super) fn remove_all(path: &Path) -> Result<(), VolumeError> {
    tree::remove(path).map_err(at("remove", path))
}

pub(super) fn sync(folder: &Path) -> Result<(), VolumeError> {
    fs::File::open(folder).and_then(|file| file.sync_all()).map_err(at("sync", folder))
}
