# Removing what quickstart made. Sourced by deploy/quickstart.
# shellcheck shell=bash

ours() { docker "$1" ls ${2:+"$2"} -q --filter "label=$3" 2>/dev/null || true; }

# The id of the cluster made here: from its coordinator, else from what was kept of it. None where
# there never was one: then no container can be ours either.
our_cluster() {
  local id
  id=$(warren cluster status -o json --timeout 5s 2>/dev/null | field id || true)
  [ -n "$id" ] || id=$(field cluster <"$STATE/node/node.json" 2>/dev/null || true)
  [ -n "$id" ] || id=$(sed -n "/^\[contexts\.$CONTEXT\]/,/^\[/s/^cluster_id = \"\(.*\)\"/\1/p" \
    "$CONTEXTS/config.toml" 2>/dev/null || true)
  echo "$id"
} 2>/dev/null

take_down() {
  local yes=$1 answer containers networks cluster label
  # without it containers would stay behind, with their homes gone
  if [ -e "$STATE" ] && command -v docker >/dev/null 2>&1 && ! docker version >/dev/null 2>&1; then
    die "Docker does not answer: what it runs of ours could not be removed" "start it and run this again"
  fi
  containers='' networks=''
  cluster=$(our_cluster)
  for label in ${cluster:+"warren.cluster=$cluster"} warren.sample; do
    containers+=" $(ours container -a "$label")"
    networks+=" $(ours network '' "$label")"
  done
  containers=$(echo $containers) networks=$(echo $networks)
  echo "This removes for good:"
  list "containers" "$(for id in $containers; do docker inspect -f '{{slice .Name 1}}' "$id"; done)"
  list "networks" "$(for id in $networks; do docker network inspect -f '{{.Name}}' "$id"; done)"
  list "firewall" "$(our_walls)"
  list "images" "$(docker image ls -q warren-workspace | sed 's/^/warren-workspace /')"
  list "daemons" "$(for name in warren-node-agent warren-coordinator; do service_line "$name"; done)"
  [ ! -e "$STATE/made.dockerd" ] || list "engine" "dockerd, which quickstart started"
  list "folders" "$(existing "$STATE" "$ETC" "$RUN" "$LIB" "$LOGS" "$(our_contexts)")"
  list "cgroups" "$(our_cgroups)"
  [ ! -e "$STATE/made.base-image" ] || list "base image" "debian:bookworm-slim, where nothing else uses it"
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

# The folder of contexts, or of ours alone where it holds other clusters too.
our_contexts() {
  local other
  for other in "$CONTEXTS"/contexts/*/identity.pem; do
    [ -e "$other" ] && [ "$other" != "$CONTEXTS/contexts/$CONTEXT/identity.pem" ] || continue
    echo "$CONTEXTS/contexts/$CONTEXT"
    return
  done
  echo "$CONTEXTS"
}

remove_contexts() {
  local folder file=$CONTEXTS/config.toml
  folder=$(our_contexts)
  rm -rf "$folder"
  [ -f "$file" ] || return 0
  awk -v ours="$CONTEXT" '/^\[/ {skip = $0 == "[contexts." ours "]"}
    !skip && $0 != "current = \"" ours "\""' "$file" >"$file.new"
  chmod 600 "$file.new"
  mv -f "$file.new" "$file"
}

# The parents of our containers' cgroups, which the engine leaves behind (systemd's go by themselves).
our_cgroups() {
  local name
  name=$(sed -n 's/^name = "\(.*\)"/\1/p' "$ETC/node-agent.toml" 2>/dev/null || true)
  [ -z "$name" ] || find /sys/fs/cgroup -maxdepth 2 -type d -name "warren-$name" 2>/dev/null || true
}

# What the node agent leaves in force when it ends: its table, and a routing rule per bridge.
our_walls() {
  [ -e "$STATE/node" ] || return 0
  ! nft list table inet warren >/dev/null 2>&1 || echo "table inet warren"
  ip rule show 2>/dev/null | sed -n 's/.* iif \(wrn-[0-9a-f]*\) .*/routing rule of \1/p'
}

remove_walls() {
  local bridge
  [ -n "$(our_walls)" ] || return 0
  nft delete table inet warren 2>/dev/null || true
  ip rule show | sed -n 's/.* iif \(wrn-[0-9a-f]*\) .*/\1/p' | while read -r bridge; do
    ip rule del iif "$bridge" || true
  done
}

service_line() {
  if is_running "$1"; then echo "$1 (pid $(pid_of "$1"))"
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
  remove_walls
  docker image rm -f warren-workspace:latest >/dev/null 2>&1 || true
  [ ! -e "$STATE/made.base-image" ] || docker image rm debian:bookworm-slim >/dev/null 2>&1 || true
  our_cgroups | while read -r group; do find "$group" -depth -type d -exec rmdir {} + || true; done
  [ ! -e "$STATE/made.dockerd" ] || stop_service dockerd
  if [ -e "$STATE/made.daemon-json" ]; then
    rm -f /etc/docker/daemon.json
    ! has_systemd || systemctl reload docker || true
  fi
  unmount "$STATE"; unmount "$RUN"
  rm -f "$BIN/warren" "$BIN/warren-coordinator" "$BIN/warren-node-agent"
  remove_contexts
  rm -rf "$STATE" "$ETC" "$RUN" "$LIB" "$LOGS"
  # node agents of other installations keep theirs there
  rmdir /run/warren-locks 2>/dev/null || true
}

unmount() {
  local mount
  while read -r mount; do umount "$mount"; done \
    < <(awk -v at="$1/" 'index($2, at) == 1 {print $2}' /proc/self/mounts | sort -r)
}
