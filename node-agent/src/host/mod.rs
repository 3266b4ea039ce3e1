//! What this machine is and has, read from the kernel's own files.

/// Returns the parent cgroup of this node's workspaces in the form the engine's driver wants:
/// `/warren-<node>`, or a slice where systemd makes the cgroups.
pub fn cgroup_parent(node: &str, systemd: bool) -> String {
    match systemd {
        // a dash would nest slices
        true => format!("warren-{}.slice", node.replace('-', "_")),
        false => format!("/warren-{node}"),
    }
}
