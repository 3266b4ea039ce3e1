//! The configuration of the workspace's tmux server.
//!
//! The prefix is Ctrl-], so that Ctrl-] d detaches and programs keep Ctrl-b for themselves.

use std::path::Path;

use crate::{config::Config, pty::known_term};

const TEXT: &str = r##"# Written by warren-inside at each start; changes here are lost.
set -g default-shell '@SHELL@'
set -g default-terminal @TERMINAL@
set -s exit-empty off
set -g destroy-unattached off
set -g remain-on-exit on
set -g remain-on-exit-format "#[dim]-- ended: #{?pane_dead_signal,signal #{pane_dead_signal},exit #{pane_dead_status}}; Ctrl-] R starts it again --"
set -g window-size latest
set -g default-size 160x48
set -g update-environment ""
set -g set-titles off
set -g allow-rename off
set -g automatic-rename off
set -g mouse on
set -g history-limit 20000
set -s escape-time 10
set -g assume-paste-time 0
set -s extended-keys on
set -s focus-events on
set -as terminal-features ",*256col*:RGB,xterm-kitty:RGB,xterm-ghostty:RGB,alacritty:RGB,wezterm:RGB,foot*:RGB"
set -as terminal-features ",xterm*:extkeys"

unbind C-b
set -g prefix C-]
bind C-] send-prefix
bind R respawn-pane

set -g status on
set -g status-interval 0
set -g status-style "fg=colour245,bg=default"
set -g status-left-length 140
set -g status-left " @WORKSPACE@#{session_name} "
set -g status-right "#{?#{==:#{session_attached},1},,#{session_attached} viewers }"
set -g window-status-format "#{?#{==:#{session_windows},1},,#I #W }"
set -g window-status-current-format "#{?#{==:#{session_windows},1},,#[bold]#I #W#[nobold] }"
set -g message-style "fg=colour250,bg=colour236"

@HOOKS@"##;

/// What changes the picture of the sessions, or what runs in them: each wakes the process that
/// polls.
const HOOKS: [&str; 8] = [
    "pane-died",
    "pane-exited",
    "after-new-window",
    "after-split-window",
    "session-created",
    "session-closed",
    "client-attached",
    "client-detached",
];

/// Returns the configuration for this workspace and this process; `shell` is what tmux runs for
/// one.
pub(super) fn text(config: &Config, shell: &Path) -> String {
    let terminal = known_term("tmux-256color", &config.home, "screen-256color");
    let workspace = config.workspace.as_ref().map(|name| format!("{name}/")).unwrap_or_default();
    let wake = |hook: &&str| {
        format!("set-hook -g {hook} 'run-shell -b \"kill -USR1 {}\"'\n", std::process::id())
    };
    let hooks: String = HOOKS.iter().map(wake).collect();
    TEXT.replace("@SHELL@", &shell.to_string_lossy())
        .replace("@TERMINAL@", &terminal)
        .replace("@WORKSPACE@", &workspace)
        .replace("@HOOKS@", &hooks)
}
