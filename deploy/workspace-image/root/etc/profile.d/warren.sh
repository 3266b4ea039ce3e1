# Login shells start with Debian's plain PATH; what is installed into the home comes first again.
# First of all the tools that are logged in.
for folder in "$HOME/.cargo/bin" "$HOME/.local/bin" /run/tools/bin; do
  case ":$PATH:" in
    *":$folder:"*) ;;
    *) PATH="$folder:$PATH" ;;
  esac
done
unset folder
export PATH
export EDITOR="${EDITOR:-vi}" PAGER="${PAGER:-less}"
export NPM_CONFIG_PREFIX="${NPM_CONFIG_PREFIX:-$HOME/.local}"
export PNPM_HOME="${PNPM_HOME:-$HOME/.local/bin}"
export BUN_INSTALL="${BUN_INSTALL:-$HOME/.local}"
export PIP_USER="${PIP_USER:-1}" PIP_BREAK_SYSTEM_PACKAGES="${PIP_BREAK_SYSTEM_PACKAGES:-1}"
export CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" GOBIN="${GOBIN:-$HOME/.local/bin}"
