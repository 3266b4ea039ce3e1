# Docker and Warren's daemons: systemd where it runs, else supervised processes with pidfiles and
# logs. Sourced by deploy/quickstart.
# shellcheck shell=bash

has_systemd() { [ "${WARREN_SUPERVISOR:-}" != plain ] && [ -z "$ROOT" ] && [ -d /run/systemd/system ]; }

start_docker() {
  if docker version >/dev/null 2>&1; then
    if live_restore_is_ours_to_set; then
      live_restore
      systemctl reload docker
    fi
    echo "state: unchanged ($(docker version -f '{{.Server.Version}}'))"
    return
  fi
  [ -z "${DOCKER_HOST:-}" ] || die "the engine at $DOCKER_HOST does not answer" "start it, or unset DOCKER_HOST"
  if has_systemd; then
    [ -e /etc/docker/daemon.json ] || live_restore
    systemctl enable --now docker
  elif ! is_supervised dockerd; then
    supervise dockerd dockerd --live-restore
    touch "$STATE/made.dockerd"
  fi
  wait_for 60 "Docker answers (see $LOGS/dockerd.log)" docker version
}

# The package starts Docker before anybody could configure it; where nobody has since, we do.
live_restore_is_ours_to_set() {
  has_systemd && [ -z "${DOCKER_HOST:-}" ] && [ ! -e /etc/docker/daemon.json ] \
    && [ "$(docker info -f '{{.LiveRestoreEnabled}} {{.Swarm.LocalNodeState}}')" = "false inactive" ]
}

# Containers outlive the engine's own restarts.
live_restore() {
  install -d /etc/docker
  echo '{"live-restore": true}' >/etc/docker/daemon.json
  touch "$STATE/made.daemon-json"
}

# supervise NAME COMMAND...
supervise() {
  local name=$1
  shift
  [ -x "$LIB/supervise" ] || install -D -m 755 deploy/supervise "$LIB/supervise"
  rm -f "$RUN/$name.pid"
  setsid "$LIB/supervise" "$name" "$RUN" "$LOGS/$name.log" "$@" </dev/null >/dev/null 2>&1 &
  wait_for 10 "$name has a pid" test -s "$RUN/$name.pid"
}

# runs PID WORDS: whether the process is there and is the one meant. A pid file may outlive its
# boot, and the pid be somebody else's by then.
runs() {
  local line
  [ -n "$1" ] && line=$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline") && [[ $line == *"$2"* ]]
} 2>/dev/null

pid_of() { cat "$RUN/$1.pid" 2>/dev/null || true; }
is_running() { runs "$(pid_of "$1")" "$1"; }
# Also while it pauses between two attempts to start the daemon.
is_supervised() { runs "$(pid_of "$1.supervisor")" "/supervise $1 "; }

# start_service NAME COMMAND...: starts it, restarts it where its binary changed, else leaves it.
start_service() {
  local name=$1 changed=''
  [ ! -e "$RUN/changed.$name" ] || changed=1
  if has_systemd; then
    install_unit "$name"
    if systemctl is-active --quiet "$name" && [ -z "$changed" ]; then
      echo "state: unchanged (pid $(systemctl show -p MainPID --value "$name"))"
    else
      systemctl enable "$name"
      systemctl restart "$name"
    fi
    return
  fi
  if is_running "$name" && [ -z "$changed" ]; then
    echo "state: unchanged (pid $(pid_of "$name"))"
    return
  fi
  if is_supervised "$name" || is_running "$name"; then
    stop_service "$name"
    echo "state: ${changed:+upgraded}"
  fi
  supervise "$@"
}

# install_unit NAME: sets the caller's $changed where the unit is new or another one.
install_unit() {
  cmp -s "deploy/systemd/$1.service" "/etc/systemd/system/$1.service" && return
  install -m 644 "deploy/systemd/$1.service" "/etc/systemd/system/$1.service"
  systemctl daemon-reload
  changed=1
}

stop_service() {
  local name=$1 pid='' supervisor=''
  if has_systemd && [ -e "/etc/systemd/system/$name.service" ]; then
    systemctl disable --now "$name"
    rm -f "/etc/systemd/system/$name.service"
    systemctl daemon-reload
    return
  fi
  ! is_supervised "$name" || supervisor=$(pid_of "$name.supervisor")
  ! is_running "$name" || pid=$(pid_of "$name")
  # the supervisor ends its daemon: a second signal would cut the daemon's orderly end short
  if [ -n "$supervisor" ]; then kill -TERM "$supervisor" 2>/dev/null || true
  elif [ -n "$pid" ]; then kill -TERM "$pid" 2>/dev/null || true; fi
  [ -z "$pid" ] || wait_for 30 "$name ends" gone "$pid"
  [ -z "$supervisor" ] || wait_for 30 "$name's supervisor ends" gone "$supervisor"
  rm -f "$RUN/$name.pid" "$RUN/$name.supervisor.pid"
}

# A zombie that nobody reaps has ended too.
gone() { [ ! -d "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status"; }
