# shellcheck shell=bash
# What the scripts of the test cluster share. Sourced, never run.
# shellcheck disable=SC2034 # each script uses some of the names

HARNESS=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LIBEXEC=$HARNESS/libexec
CACHE=${TIDEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate}
PROGRAM=tests/cluster/$(basename "$0")
MARKER=.tidegate-test-cluster         # a directory that holds this file is the state of a cluster

# ---- versions: the cluster's Kubernetes is chosen in kube/go.mod
KUBERNETES_VERSION=$(sed -n 's|^\tk8s.io/kubernetes \(v[0-9.]*\)$|\1|p' "$HARNESS/kube/go.mod")
HELM_VERSION=v4.3.1
KUBE_PROGRAMS=(etcd kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubectl kubelet)

# ---- addresses: the same in every cluster, for each lives in a network namespace of its own
CONTROL_PLANE_IP=10.200.0.1
NODE_NET=10.200.0                     # node N is .10+N (libexec/load-balancer knows these too)
CLIENT_IPS=(10.200.0.100 10.200.0.101 10.200.0.102 10.200.0.103)
POD_NET=10.244                        # pods of node N are in .N.0/24
SERVICE_CIDR=10.96.0.0/16
KUBERNETES_SERVICE_IP=10.96.0.1
LOAD_BALANCER_NET=10.201.0            # external addresses of Services, .1 to .254
MAX_NODES=9

say() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }
die() { say "$*"; exit 1; }
now() { local t=$EPOCHREALTIME; printf '%s\n' "${t/[.,]/}"; }      # microseconds
since() { local t=$(( ($(now) - $1) / 100000 )); printf '%d.%d s\n' $((t / 10)) $((t % 10)); }

# within SECONDS WHAT COMMAND…: polls COMMAND until it succeeds; says what did not happen when the time is over
within() {
  local seconds=$1 what=$2 end; shift 2
  end=$(( $(now) + seconds * 1000000 ))
  until "$@" >/dev/null 2>&1; do
    if (( $(now) >= end )); then
      say "waited $seconds s in vain for: $what"
      return 1
    fi
    sleep 0.1
  done
}

# api_ready, in a cluster whose certificates are in $pki
# shellcheck disable=SC2154
api_ready() { curl -fsS --max-time 5 --cacert "$pki/ca.crt" "https://$CONTROL_PLANE_IP:6443/readyz"; }

# ---- what setup has built: one directory per version of its inputs
inputs_hash() { # FILES… : of the files' contents and of all else that the builds depend on
  { printf '%s\n' "$KUBERNETES_VERSION" "$HELM_VERSION" "$(go version)"; cat "$@"; } | sha256sum | cut -c1-16
}
kube_dir() {
  local sources
  mapfile -t sources < <(find "$HARNESS/kube" -type f | LC_ALL=C sort)
  printf '%s/cluster/kube-%s-%s\n' "$CACHE" "$KUBERNETES_VERSION" \
    "$(inputs_hash "$LIBEXEC/build.bash" "$LIBEXEC/mkimage.py" "${sources[@]}")"
}
helm_dir() {
  printf '%s/cluster/helm-%s-%s\n' "$CACHE" "$HELM_VERSION" "$(inputs_hash "$LIBEXEC/build.bash")"
}
need_setup() {
  command -v go >/dev/null || die "Go is not on PATH; run tests/cluster/setup, which says what is missing"
  KUBE=$(kube_dir) HELM=$(helm_dir)
  [[ -e $KUBE/complete && -e $HELM/complete ]] || die "the cluster's programs are not built; run tests/cluster/setup"
}
need_root() { [[ $(id -u) == 0 ]] || die "run this as root: it makes namespaces, mounts and cgroups"; }

# ---- state of a cluster
# state_dir DIR: its absolute name, which must not lie in this checkout (its disks would be copied along and searched)
state_dir() {
  local checkout state
  checkout=$(cd "$HARNESS/../.." && pwd -P)
  state=$(realpath -m -- "$1")
  [[ $state != / ]] || die "STATE must be a directory of the cluster's own, not /"
  [[ $state/ != "$checkout"/* ]] || die "STATE must lie outside the checkout: $state does not"
  printf '%s\n' "$state"
}
cgroup_name() { printf 'tidegate-test-%s\n' "$(printf %s "$1" | sha256sum | cut -c1-12)"; }

# is_init PID STATE: whether PID is the first process of the cluster of STATE. A number alone would not do: after the
# cluster's end the same number may be another process.
is_init() {
  local -a args inner
  mapfile -d '' -t args <"/proc/$1/cmdline" || return 1
  [[ ${args[1]:-} == "$LIBEXEC/control-plane" && ${args[2]:-} == "$2" ]] || return 1
  read -ra inner < <(grep ^NSpid: "/proc/$1/status")
  [[ ${inner[-1]} == 1 ]]
} 2>/dev/null
init_pid() { # STATE
  local pid
  pid=$(cat "$1/init.pid" 2>/dev/null) && [[ -n $pid ]] && is_init "$pid" "$1" && printf '%s\n' "$pid"
}
# is_launcher PID STATE: whether PID is the `unshare` that waits for that first process
is_launcher() {
  local -a args
  mapfile -d '' -t args <"/proc/$1/cmdline" || return 1
  [[ ${args[0]:-} == unshare && ${args[-3]:-} == "$LIBEXEC/control-plane" && ${args[-2]:-} == "$2" ]]
} 2>/dev/null
# started_at PID: when it was started, in the machine's ticks; nothing when it has ended, be it that nobody has asked yet
started_at() {
  local stat
  local -a fields
  stat=$(<"/proc/$1/stat") || return 1
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != Z ]] && printf '%s\n' "${fields[19]}"
} 2>/dev/null
# only_child PID: of `unshare --fork`, so the first process of the namespaces that it has made
only_child() {
  local -a children
  read -ra children <"/proc/$1/task/$1/children" || true      # the file has no end of line
  [[ -n ${children[0]:-} ]] && printf '%s\n' "${children[0]}"
} 2>/dev/null
# inside STATE: whether this process already runs in the cluster's namespaces (control-plane leaves this file in their /run)
inside() { [[ $(cat /run/tidegate-test-cluster 2>/dev/null) == "$1" ]]; }

# every directory in which a cgroup of our own is to be made: one per v1 hierarchy, or the one of v2
cgroup_roots() {
  if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
    echo /sys/fs/cgroup
  else
    local d
    for d in /sys/fs/cgroup/*/; do
      [[ ! -e $d/cgroup.procs ]] || echo "${d%/}"
    done
  fi
}

# own_sys DIR: in a fresh mount and network namespace: a /sys that shows this network's interfaces, with the machine's
# cgroups in it (a plain `mount -t sysfs` hides them), and mounts that pods may share
own_sys() {
  mkdir -p "$1"
  mount --make-rprivate /
  mount --rbind /sys/fs/cgroup "$1"
  mount -t sysfs sysfs /sys
  mount --rbind "$1" /sys/fs/cgroup
  umount -l "$1"
  rmdir "$1"
  mount --make-rshared /
}

# start_logged NAME COMMAND…: in the background, its output in $LOGS/NAME.log; its number and the command go into $LOGS,
# where `part` finds them
start_logged() {
  local name=$1; shift
  printf '%s\0' "$@" >"$LOGS/$name.command"
  setsid "$@" >>"$LOGS/$name.log" 2>&1 </dev/null &      # a session of its own, for `part` may be interrupted
  printf '%s\n' $! >"$LOGS/$name.pid"
}
# launch_node STATE N: a machine is switched on. In namespaces of its own on the cluster's wire, to be called in the network
# namespace of the control plane; its first process is killed to switch it off.
launch_node() {
  local state=$1 n=$2 launcher first
  mkdir -p "$state/node$n/log"
  setsid unshare --net --mount --pid --uts --fork --kill-child --mount-proc --propagation private \
    "$LIBEXEC/node" "$state" "$n" >>"$state/log/node$n.log" 2>&1 </dev/null &
  launcher=$!
  within 10 "the first process of node$n" only_child "$launcher"
  first=$(only_child "$launcher")
  printf '%s\n' "$first" >"$state/node$n/init.pid"
  # the same hardware address each time: others have it in their tables
  ip link add "node$n" type veth peer name eth0 address "02:00:0a:c8:00:0$n" netns "$first"
  ip link set "node$n" master nodes up
}
# show_logs STATE: the end of every log, for a failure
show_logs() {
  local log
  while IFS= read -r log; do
    [[ -s $log ]] || continue
    printf '\n--- last lines of %s\n' "$log" >&2
    tail -n 8 "$log" | cut -c1-300 >&2
  done < <(find "$1" -path "$1*/log/*.log" | LC_ALL=C sort)
}
