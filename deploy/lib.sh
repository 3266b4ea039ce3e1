# What quickstart, install and test share. Sourced, never run.
# shellcheck shell=bash

MIN_RUST=1.91

say() { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }

# die WHAT [NEXT]
die() {
  printf 'error: %s\n' "$1" >&2
  [ -z "${2:-}" ] || printf '  next: %s\n' "$2" >&2
  exit 1
}

need_root() {
  [ "$(id -u)" -eq 0 ] || die "this needs root for $1" "run it again with sudo"
}

# wait_for SECONDS WHAT COMMAND...: polls the command until it succeeds.
wait_for() {
  local limit=$1 what=$2 until
  shift 2
  until=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || die "$what: not within $limit s"
    sleep 0.2
  done
}

# ensure_packages PROGRAM[:PACKAGE]...: installs the package of each program that is missing. With
# an empty package name ("procps:") the word is a package and asked of dpkg.
ensure_packages() {
  local word program package missing=()
  for word in "$@"; do
    program=${word%%:*}
    package=${word#*:}
    if [ "$word" = "$program:" ]; then
      dpkg-query -W -f '${Status}' "$program" 2>/dev/null | grep -q 'ok installed' || missing+=("$program")
      continue
    fi
    command -v "$program" >/dev/null 2>&1 || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null 2>&1 || die "missing: ${missing[*]}, and there is no apt-get here" "install them and run this again"
  say "installing ${missing[*]}"
  apt-get update -qq >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Debian 13 and later keep the command `docker` in a package of its own.
ensure_docker_package() {
  ensure_packages dockerd:docker.io
  command -v docker >/dev/null 2>&1 || ensure_packages docker:docker-cli
}

# Whether cargo is there and new enough.
rust_is_enough() {
  local have
  have=$(cargo --version 2>/dev/null | awk '{print $2}') || return 1
  [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$MIN_RUST" "$have" | sort -V | head -n 1)" = "$MIN_RUST" ]
}

ensure_rust() {
  [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
  rust_is_enough && return 0
  say "installing Rust through rustup.rs (there is no cargo $MIN_RUST or newer here)"
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal \
    -c clippy -c rustfmt >/dev/null \
    || die "rustup could not be installed" "install Rust $MIN_RUST or newer (https://rustup.rs) and run this again"
  . "$HOME/.cargo/env"
}
