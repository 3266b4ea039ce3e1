# Docker and Warren's daemons: systemd where it runs, else supervised processes with pidfiles and
# logs. Sourced by deploy/quickstart.
# shellcheck shell=bash

has_systemd() { [ "${WARREN_SUPERVISOR:-}" != plain ] && [ -z "$ROOT" ] && [ -d /run/systemd/system ]; }

start_docker() {
  if docker version >/dev/null 2>&1; then
    echo "state: unchanged ($(docker version -f '{{.Server.Version}}'))"
    return
  fi
  [ -z "${DOCKER_HOST:-}" ] || die "the engine at $DOCKER_HOST does not answer" "start it, or unset DOCKER_HOST"
  if has_systemd; then
    # containers outlive the engine's own restarts
    if [ ! -e /etc/docker/daemon.json ]; then
      install -d /etc/docker
      echo '{"live-restore": true}' >/etc/docker/daemon.json
      touch "$STATE/made.daemon-json"
    fi
    systemctl enable --now docker
  else
    supervise dockerd dockerd --live-restore
    touch "$STATE/made.dockerd"
  fi
  wait_for 60 "Docker answers (see $LOGS/dockerd.log)" docker version
}

# supervise NAME COMMAND...
supervise() {
  local name=$1
  shift
  [ -x "$LIB/supervise" ] || install -D -m 755 deploy/supervise "$LIB/supervise"
  setsid "$LIB/supervise" "$name" "$RUN" "$LOGS/$name.log" "$@" </dev/null >/dev/null 2>&1 &
  wait_for 10 "$name has a pid" test -s "$RUN/$name.pid"
}

is_running() { [ -s "$RUN/$1.pid" ] && kill -0 "$(cat "$RUN/$1.pid")" 2>/dev/null; }

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
  if is_running "$name"; then
    [ -n "$changed" ] || { echo "state: unchanged (pid $(cat "$RUN/$name.pid"))"; return; }
    stop_service "$name"
    echo "state: upgraded"
  fi
  supervise "$@"
}

install_unit() {
  cmp -s "deploy/systemd/$1.service" "/etc/systemd/system/$1.service" && return
  install -m 644 "deploy/systemd/$1.service" "/etc/systemd/system/$1.service"
  sed -i "s|/usr/local/bin|$BIN|" "/etc/systemd/system/$1.service"
  systemctl daemon-reload
}

stop_service() {
  local name=$1 pid supervisor
  if has_systemd && [ -e "/etc/systemd/system/$name.service" ]; then
    systemctl disable --now "$name"
    rm -f "/etc/systemd/system/$name.service"
    systemctl daemon-reload
    return
  fi
  supervisor=$(cat "$RUN/$name.supervisor.pid" 2>/dev/null || true)
  pid=$(cat "$RUN/$name.pid" 2>/dev/null || true)
  [ -z "$supervisor" ] || kill -TERM "$supervisor" 2>/dev/null || true
  [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null || true
  [ -z "$pid" ] || wait_for 30 "$name ends" gone "$pid"
  [ -z "$supervisor" ] || wait_for 10 "$name's supervisor ends" gone "$supervisor"
  rm -f "$RUN/$name.pid" "$RUN/$name.supervisor.pid"
}

# A zombie that nobody reaps has ended too.
gone() { [ ! -d "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status"; }
