#!/usr/bin/env bash
# A lab of several hypervisor hosts on one machine, for tests of what needs more than one: each host has its own network,
# mount, PID, UTS and IPC namespace, its own libvirt, Open vSwitch and ovn-controller; the first, m, has OVN's databases.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MOST_HOSTS=100

usage() {
    cat <<'END'
Usage: LAB_DIR=/absolute/folder lab/hosts.sh COMMAND

Commands
  up N                           have N hosts, m h1 h2 ...; one line for each when its parts answer
  down [--keep]                  end all of it and remove it; --keep leaves the hosts' files and logs
  exec HOST COMMAND...           run COMMAND inside HOST; it dies with this one
  cut HOST [mgmt|data|all]       cut HOST's cables
  heal HOST [mgmt|data|all]      mend them
  poweroff HOST                  kill every process of HOST at once
  poweron HOST                   start it again, with the same disk
  status                         one line for each host, separated by tabs: name, management address, data address,
                                 pid of its first process (- when it is off), path of libvirt's socket

Below LAB_DIR/HOST are the host's own /run, /var/log, /var/lib/testbedos and the like. It runs as root.
END
}
wrong_use() { printf 'error: %s\n\n' "$1" >&2; usage >&2; exit 2; }

case ${1:-} in -h | --help | help) usage; exit 0 ;; esac
: "${LAB_DIR:=}"
[[ $LAB_DIR =~ ^/[A-Za-z0-9/._-]+$ ]] || wrong_use "LAB_DIR must be an absolute path of letters, digits and / . _ -"
LAB_DIR=$(realpath --canonicalize-missing -- "$LAB_DIR")
export LAB_DIR
# A Unix socket's path has 107 characters, and the longest here is HOST/run/libvirt/libvirt-admin-sock.
((${#LAB_DIR} <= 66)) || wrong_use "LAB_DIR is too long for the sockets below it: at most 66 characters"
[[ ! $LAB_DIR/ =~ ^/(run|var/run|var/log|dev|proc|sys|etc|var/lib|var/cache)/ ]] \
    || wrong_use "LAB_DIR must not be below a folder that the hosts have of their own"

# shellcheck source=lab/common.sh
. "$HERE/common.sh"
# shellcheck source=lab/wires.sh
. "$HERE/wires.sh"

# What changes the lab waits for whatever else does. No process of the lab holds this: it would hold it for ever.
take_lock() {
    mkdir -p -- "$STATE"
    exec 9>"$STATE/lock"
    flock -w 120 9 || die "another $0 is changing $LAB_DIR since more than 120 s"
}

# --- one host ---

boot() { # HOST or the underlay: its namespaces and its first process
    local name=$1 kinds=()
    rm -f -- "$STATE/$name.booted" "$STATE/$name.pid"
    if [[ $name != "$UNDERLAY" ]]; then
        kinds=(--mount --uts --ipc)
        mkdir -p -- "$LAB_DIR/$name"
    fi
    setsid env "$MARK=$LAB_DIR/$name" unshare --fork --kill-child --pid --net "${kinds[@]}" -- \
        bash "$HERE/init.sh" "$LAB_DIR" "$name" </dev/null >"$STATE/$name.log" 2>&1 9>&- &
    wait_until 10 "$name boots" booted_or_dead "$name" $! && [[ -e $STATE/$name.booted ]] && return 0
    printf 'error: %s does not boot; %s ends with:\n' "$name" "$STATE/$name.log" >&2
    tail -n 5 -- "$STATE/$name.log" | sed 's/^/    | /' >&2
    return 1
}
booted_or_dead() { [[ -e $STATE/$1.booted ]] || ! kill -0 "$2"; }

start_host() { # HOST: what runs already is left alone
    local host=$1
    if is_off "$host"; then boot "$host" || return 1; fi
    plug "$host" || return 1
    inside "$host" env -i "PATH=$PATH" HOME=/root LANG=C.UTF-8 "LAB_DIR=$LAB_DIR" \
        bash "$HERE/parts.sh" start "$host" 9>&- </dev/null || return 1
    say "$host up: management $(mgmt_address "$host"), data $(data_address "$host"), pid $(init_pid "$host")"
}

# What started a host, by its arguments: a pid file may be missing where `up` was killed.
starter_pids() {
    pgrep -f -- "^(setsid|env|unshare) .*/init\.sh ${LAB_DIR//./\\.} ${1:-[a-z0-9]+}\$" || true
}
DOOMED=()
kill_host() { # HOST, or none for everything; the kernel kills all of a PID namespace with its first process
    local host pid starter
    for host in ${1:-$UNDERLAY $(known_hosts)}; do
        pid=$(init_pid "$host") || continue
        DOOMED+=("$pid")
        kill -KILL "$pid" 2>/dev/null || true
    done
    for starter in $(starter_pids "${1:-}"); do
        pkill -KILL -P "$starter" 2>/dev/null || kill -KILL "$starter" 2>/dev/null || true
    done
}
all_gone() { # [HOST]
    local pid state
    [[ -z $(starter_pids "${1:-}") ]] || return 1
    for pid in "${DOOMED[@]}"; do
        # A first process becomes a zombie only when the others of its namespace have ended.
        state=$(sed -n 's/^.*) \(.\).*/\1/p' "/proc/$pid/stat" 2>/dev/null) || continue
        [[ $state = Z || $state = X ]] || return 1
    done
}

# --- the commands ---

up() {
    local count=$1 host failed=no pid pids=()
    if [[ ! $count =~ ^[1-9][0-9]{0,3}$ ]] || ((count > MOST_HOSTS)); then
        wrong_use "up takes a number of hosts, 1 to $MOST_HOSTS"
    fi
    [[ $(id -u) = 0 ]] || die "namespaces, libvirt and Open vSwitch need root"
    take_lock
    for host in $(host_names "$count"); do
        is_known "$host" || [[ ! -e $LAB_DIR/$host ]] || die "$LAB_DIR/$host is there and not the lab's: choose another LAB_DIR"
    done
    { known_hosts; host_names "$count"; } | awk '!seen[$0]++' | sort -s -k 1.2,1n >"$STATE/hosts.new"
    mv -f -- "$STATE/hosts.new" "$STATE/hosts"
    if is_off "$UNDERLAY"; then boot "$UNDERLAY" || exit 1; fi
    for host in $(host_names "$count"); do
        start_host "$host" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=yes; done
    for host in $(known_hosts); do # in place: a running host has this very file mounted
        if [[ -e $LAB_DIR/$host/etc/hosts ]]; then hosts_file >"$LAB_DIR/$host/etc/hosts"; fi
    done
    [[ $failed = no ]] || die "not every host is up; \`down\` removes what is"
}

down() {
    local host keep=no
    case ${1:-} in '') ;; --keep) keep=yes ;; *) wrong_use "down takes nothing but --keep" ;; esac
    [[ -d $STATE ]] || { kill_host; return 0; }
    kill_host     # first, so that an `up` whose shell was killed gives up and lets go of the lock
    take_lock
    kill_host
    wait_until 20 "every process of the lab has ended" all_gone || exit 1
    [[ $keep = no ]] || return 0
    while read -r host; do
        wait_until 10 "$LAB_DIR/$host can be removed" rm -rf -- "${LAB_DIR:?}/$host" || exit 1
    done < <(known_hosts)
    rm -rf -- "$STATE"
    rmdir --ignore-fail-on-non-empty -- "$LAB_DIR"
}

poweroff() {
    take_lock
    kill_host "$1"
    wait_until 20 "every process of $1 has ended" all_gone "$1" || exit 1
    unplug "$1"
}

poweron() { take_lock; start_host "$1"; }

status() {
    local host pid
    while read -r host; do
        pid=$(init_pid "$host") || pid=-
        printf '%s\t%s\t%s\t%s\t%s\n' "$host" "$(mgmt_address "$host")" "$(data_address "$host")" "$pid" \
            "$LAB_DIR/$host/run/libvirt/libvirt-sock"
    done < <(known_hosts)
}

need_host() {
    is_host_name "${1:-}" || wrong_use "which host? m, h1, h2 ..."
    is_known "$1" || die "the lab in $LAB_DIR has no host $1"
}

COMMAND=${1:-}
shift || true
case $COMMAND in
    up) up "${1:-2}" ;;
    down) down "$@" ;;
    exec)
        need_host "${1:-}"
        [[ $# -ge 2 ]] || wrong_use "exec HOST COMMAND..."
        pid=$(init_pid "$1") || die "host $1 is off"
        shift
        enter "$pid" "$@"
        ;;
    cut) need_host "${1:-}"; switch_cables down "$@" ;;
    heal) need_host "${1:-}"; switch_cables up "$@" ;;
    poweroff) need_host "${1:-}"; poweroff "$1" ;;
    poweron) need_host "${1:-}"; poweron "$1" ;;
    status) status ;;
    '') wrong_use "what shall I do?" ;;
    *) wrong_use "unknown command: $COMMAND" ;;
esac
