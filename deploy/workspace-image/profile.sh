# Package managers install into the home: the root of a workspace is read-only.
export NPM_CONFIG_PREFIX="$HOME/.local"
export PNPM_HOME="$HOME/.local/share/pnpm"
export BUN_INSTALL="$HOME/.local"
export PIP_USER=1 PIP_BREAK_SYSTEM_PACKAGES=1
export CARGO_HOME="$HOME/.cargo" RUSTUP_HOME="$HOME/.rustup"
export PATH="$HOME/.local/bin:$HOME/.cargo/bin:$PNPM_HOME:$PATH"
