# Removing what quickstart made. Sourced by deploy/quickstart.
# shellcheck shell=bash

ours() { docker "$1" ls ${2:+"$2"} -q --filter "label=$3" 2>/dev/null || true; }

take_down() {
  local yes=$1 answer containers networks cluster label
  containers='' networks=''
  cluster=$(warren cluster status -o json 2>/dev/null | field cluster_id id || true)
  for label in ${cluster:+"warren.cluster=$cluster"} warren.sample; do
    containers+=" $(ours container -a "$label")"
    networks+=" $(ours network '' "$label")"
  done
  # a cluster that does not answer any more is named by its own node's identity, or not at all
  if [ -z "$cluster" ]; then
    containers+=" $(ours container -a warren.cluster)"
    networks+=" $(ours network '' warren.cluster)"
  fi
  containers=$(echo $containers) networks=$(echo $networks)
  echo "This removes for good:"
  list "containers" "$(for id in $containers; do docker inspect -f '{{slice .Name 1}}' "$id"; done)"
  list "networks" "$(for id in $networks; do docker network inspect -f '{{.Name}}' "$id"; done)"
  list "images" "$(docker image ls -q warren-workspace | sed 's/^/warren-workspace /')"
  list "daemons" "$(for name in warren-node-agent warren-coordinator; do service_line "$name"; done)"
  [ ! -e "$STATE/made.dockerd" ] || list "engine" "dockerd, which quickstart started"
  list "folders" "$(existing "$STATE" "$ETC" "$RUN" "$LIB" "$LOGS" "$CONTEXTS")"
  list "programs" "$(existing "$BIN/warren" "$BIN/warren-coordinator" "$BIN/warren-node-agent")"
  echo "The homes of all workspaces are among them. Packages (git, Docker, build tools, mmdebstrap),"
  echo "the Rust toolchain, Docker's own folder and the build in target/ stay."
  if [ -z "$yes" ]; then
    [ -t 0 ] || die "nobody is here to say yes" "./deploy/quickstart --down --yes"
    read -rp "Remove all of it? [y/N] " answer
    [[ $answer == [yY]* ]] || die "nothing was removed"
  fi
  remove
  echo "Removed."
}

list() {
  local title=$1 lines=$2
  [ -n "$lines" ] || return 0
  printf '  %s\n' "$title"
  printf '%s\n' "$lines" | sed 's/^/    /'
}

existing() { local path; for path in "$@"; do [ ! -e "$path" ] || echo "$path"; done; }

service_line() {
  if is_running "$1"; then echo "$1 (pid $(cat "$RUN/$1.pid"))"
  elif [ -e "/etc/systemd/system/$1.service" ] && [ -z "$ROOT" ]; then echo "$1"; fi
}

remove() {
  # the agent first, or it would bring back what is removed
  stop_service warren-node-agent
  stop_service warren-coordinator
  # shellcheck disable=SC2086
  [ -z "$containers" ] || docker rm -f -v $containers >/dev/null
  # shellcheck disable=SC2086
  [ -z "$networks" ] || docker network rm $networks >/dev/null
  docker image rm -f warren-workspace:latest >/dev/null 2>&1 || true
  [ ! -e "$STATE/made.base-image" ] || docker image rm debian:bookworm-slim >/dev/null 2>&1 || true
  [ ! -e "$STATE/made.dockerd" ] || stop_service dockerd
  if [ -e "$STATE/made.daemon-json" ]; then rm -f /etc/docker/daemon.json; fi
  unmount "$STATE"; unmount "$RUN"
  rm -f "$BIN/warren" "$BIN/warren-coordinator" "$BIN/warren-node-agent"
  rm -rf "$STATE" "$ETC" "$RUN" "$LIB" "$LOGS" "$CONTEXTS"
}

unmount() {
  local mount
  while read -r mount; do umount "$mount"; done \
    < <(awk -v at="$1/" 'index($2, at) == 1 {print $2}' /proc/self/mounts | sort -r)
}
