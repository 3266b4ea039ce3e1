//! Who is at the other end of a workspace's socket.
//!
//! The folder with the socket is mounted into one container alone; the kernel's word on the
//! connecting process (`SO_PEERCRED`) against that container's cgroup is the second proof. Linux
//! names a container's cgroup after its id with every driver: `/parent/<id>` or
//! `/parent.slice/docker-<id>.scope`.

use std::{fs, io};

/// Why a connection is turned away.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The kernel could not name the process.
    #[error("the connecting process has no id here")]
    NoPid,
    /// It ended before it could be checked.
    #[error("the cgroup of process {pid} cannot be read")]
    Gone {
        /// Its id.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// It lives elsewhere.
    #[error("process {pid} is not in the workspace's container")]
    Stranger {
        /// Its id.
        pid: i32,
    },
    /// No container of the workspace is known to run.
    #[error("the workspace has no container that could connect")]
    NoContainer,
}

/// How connecting processes are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerCheck {
    /// Against the container's cgroup.
    Cgroup,
    /// Not at all: the fake engine has no containers.
    Off,
}

impl PeerCheck {
    /// Checks the process that connected against the container expected to.
    ///
    /// # Errors
    /// Says why it is turned away.
    pub fn admit(self, pid: Option<i32>, container: Option<&str>) -> Result<(), PeerError> {
        match self {
            Self::Off => Ok(()),
            Self::Cgroup => {
                let container = container.ok_or(PeerError::NoContainer)?;
                let pid = pid.filter(|&pid| pid > 0).ok_or(PeerError::NoPid)?;
                let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup"))
                    .map_err(|source| PeerError::Gone { pid, source })?;
                match is_in(&cgroups, container) {
                    true => Ok(()),
                    false => Err(PeerError::Stranger { pid }),
                }
            }
        }
    }
}

/// Returns whether any hierarchy of a `/proc/<pid>/cgroup` has a path component named after the
/// container.
fn is_in(cgroups: &str, container: &str) -> bool {
    if container.is_empty() {
        return false;
    }
    let scope = format!("-{container}.scope");
    let paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.flat_map(|path| path.split('/')).any(|part| part == container || part.ends_with(&scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_found_in_every_layout() {
        let id = "4f1c";
        assert!(is_in("12:memory:/warren-n1/4f1c\n0::/\n", id));
        assert!(is_in("0::/warren-n1.slice/docker-4f1c.scope\n", id));
        assert!(is_in("3:cpu:/docker/4f1c/init.scope\n", id), "a cgroup below it");
        for other in ["0::/docker/4f1c2\n", "0::/x-4f1c\n", "0::/\n", "", "name=4f1c:/a:/b\n"] {
            assert!(!is_in(other, id), "{other:?}");
        }
        assert!(!is_in("0::/\n", ""));
    }

    #[test]
    fn this_process_is_in_no_container_of_that_name() {
        let pid = i32::try_from(std::process::id()).ok();
        let refused = PeerCheck::Cgroup.admit(pid, Some("no-such-container"));
        assert!(matches!(refused, Err(PeerError::Stranger { .. })));
        assert!(matches!(PeerCheck::Cgroup.admit(pid, None), Err(PeerError::NoContainer)));
        assert!(PeerCheck::Off.admit(None, None).is_ok());
    }
}
