# What the first workspace clones: a public repository, or, where the internet is out of reach, a
# sample served over HTTP from a container on a network of its own. Sourced by deploy/quickstart.
# shellcheck shell=bash

PUBLIC_REPO=https://github.com/octocat/Hello-World.git
SAMPLE=warren-sample

# choose_repository [URL]: sets REPO, and SAMPLE_NEEDED where the sample must be served.
choose_repository() {
  SAMPLE_NEEDED=''
  REPO=$1
  [ -z "$REPO" ] || return 0
  REPO=$PUBLIC_REPO
  GIT_TERMINAL_PROMPT=0 timeout 15 git ls-remote --exit-code "$REPO" HEAD >/dev/null 2>&1 && return 0
  echo "the internet is not reachable: the sample repository is served from a container"
  REPO=http://$SAMPLE:8080/hello.git
  SAMPLE_NEEDED=1
  start_sample
}

start_sample() {
  docker network inspect "$SAMPLE" >/dev/null 2>&1 \
    || docker network create --label warren.sample=1 --internal "$SAMPLE" >/dev/null
  docker container inspect "$SAMPLE" >/dev/null 2>&1 && { docker start "$SAMPLE"; return; }
  docker run -d --name "$SAMPLE" --network "$SAMPLE" --label warren.sample=1 --read-only \
    --cap-drop ALL --security-opt no-new-privileges --memory 128m --pids-limit 64 \
    --tmpfs /srv:uid=1000,gid=1000 --user 1000:1000 -e HOME=/srv --entrypoint /bin/bash \
    -v "$PWD/deploy/quickstart.d/serve-sample:/serve-sample:ro" warren-workspace:latest /serve-sample
}

# with_sample_server COMMAND...: while the command makes the workspace, its network, and no other
# workspace's, is joined by the sample's container as soon as it is there; the workspace's clone
# tries again until then.
with_sample_server() {
  local joiner code=0 others
  [ -n "$SAMPLE_NEEDED" ] || { "$@"; return; }
  others=" $(workspace_networks | tr '\n' ' ')"
  join_sample "$others" &
  joiner=$!
  "$@" || code=$?
  kill "$joiner" 2>/dev/null || true
  wait "$joiner" 2>/dev/null || true
  return "$code"
}

workspace_networks() { docker network ls -q --filter label=warren.workspace; }

# join_sample OTHERS: Ctrl-C does not reach a background job, so it looks for quickstart itself.
join_sample() {
  local network
  while [ -d "/proc/$$" ]; do
    for network in $(workspace_networks); do
      [[ $1 != *" $network "* ]] || continue
      docker network connect --alias "$SAMPLE" "$network" "$SAMPLE" 2>/dev/null || true
    done
    sleep 0.3
  done
}
