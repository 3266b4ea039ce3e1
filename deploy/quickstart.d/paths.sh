# Where quickstart puts things, and the two configurations. Sourced by deploy/quickstart.
# shellcheck shell=bash

ROOT=${WARREN_ROOT:-}
PROFILE=${WARREN_PROFILE:-release}
ETC=$ROOT/etc/warren
STATE=$ROOT/var/lib/warren
RUN=$ROOT/run/warren
BIN=$ROOT/usr/local/bin
LIB=$ROOT/usr/local/lib/warren
LOGS=$ROOT/var/log/warren
if [ -n "$ROOT" ]; then export WARREN_CONFIG_DIR=$ROOT/config; fi
CONTEXTS=${WARREN_CONFIG_DIR:-${XDG_CONFIG_HOME:-$HOME/.config}/warren}
CONTEXT=local

prepare_folders() {
  mkdir -p "$ETC" "$BIN" "$LIB" "$LOGS"
  install -d -m 700 "$STATE" "$RUN"
}

# Always the cluster made here, whichever context is current.
warren() { WARREN_CONTEXT=$CONTEXT "$BIN/warren" "$@"; }

# How a person types the command: the bare name where it is on the path.
shown() { if [ "$(type -P "$1" || true)" = "$BIN/$1" ]; then echo "$1"; else echo "$BIN/$1"; fi; }

# field NAME [NAME...]: the first of these string fields in the JSON on standard input.
field() {
  local json name value
  json=$(cat)
  for name in "$@"; do
    value=$(grep -o "\"$name\": *\"[^\"]*\"" <<<"$json" | head -n 1 | sed 's/.*: *"//; s/"$//')
    [ -z "$value" ] || { echo "$value"; return; }
  done
}

coordinator_config() {
  cat <<END
# Made by deploy/quickstart; deploy/config/coordinator.toml names every option.
[paths]
state = "$STATE/coordinator"
socket = "$RUN/coordinator.sock"
END
}

node_config() {
  local name
  name=$(hostname | tr '[:upper:]_.' '[:lower:]--' | tr -cd 'a-z0-9-' | cut -c1-40 | sed 's/^-*//; s/-*$//')
  cat <<END
# Made by deploy/quickstart; deploy/config/node-agent.toml names every option.
name = "${name:-node}"
state_dir = "$STATE/node"
runtime_dir = "$RUN"
inside_binary = "$LIB/warren-inside"

[engine]
socket = "$(docker_socket)"
END
  [ -z "${WARREN_POOL_SIZE:-}" ] || printf '\n[volumes]\nsize = "%s"\n' "$WARREN_POOL_SIZE"
}

docker_socket() {
  local host=${DOCKER_HOST:-unix:///var/run/docker.sock}
  echo "${host#unix://}"
}
