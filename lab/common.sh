# shellcheck shell=bash
# What the lab's scripts share: names and addresses, messages, bounded waits, and finding a host's first process. It knows
# nothing of what runs inside a host. Sourced, never run.
# shellcheck disable=SC2034 # some names are for the files that source this one

STATE=$LAB_DIR/state              # pid files, logs of the boots, the list of hosts, the lock
UNDERLAY=underlay                 # the namespace that plays switch and cable; not a host
PLANES=(mgmt data)
MARK=TESTBEDOS_LAB_HOST           # in the environment of a host's first process: pid numbers are used again, this is not

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The master's host is m; the others are h1, h2 and so on.
is_host_name() { [[ $1 = m || $1 =~ ^h[1-9][0-9]{0,2}$ ]]; }
host_names() { # COUNT
    local i
    echo m
    for ((i = 1; i < $1; i++)); do echo "h$i"; done
}
host_number() { if [[ $1 = m ]]; then echo 1; else echo $((10 + ${1#h})); fi; }
mgmt_address() { echo "10.98.0.$(host_number "$1")"; }
data_address() { echo "10.99.0.$(host_number "$1")"; }
# Fixed, so that a host that comes back is not shadowed by its neighbours' ARP caches.
mac_address() { # mgmt or data, HOST
    local byte=98
    if [[ $1 = data ]]; then byte=99; fi
    printf '02:%s:00:00:00:%02x\n' "$byte" "$(host_number "$2")"
}

# Without the underlay, in the order of their numbers.
known_hosts() { if [[ -f $STATE/hosts ]]; then cat -- "$STATE/hosts"; fi; }
hosts_file() { # every host by its name
    local host
    printf '127.0.0.1 localhost\n'
    while read -r host; do printf '%s %s\n' "$(mgmt_address "$host")" "$host"; done < <(known_hosts)
}
is_known() { known_hosts | grep -Fx -- "$1" >/dev/null; }

# wait_until SECONDS CONDITION COMMAND...: polls; a failure names the condition and the limit.
wait_until() {
    local limit=$1 condition=$2; shift 2
    local end=$((SECONDS + limit))
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= end)); then
            printf 'error: not within %s s: %s\n' "$limit" "$condition" >&2
            return 1
        fi
        sleep 0.05
    done
}

# The pid of a host's first process as seen from here; status 1 when the host is off.
init_pid() {
    local pid
    pid=$(cat -- "$STATE/$1.pid" 2>/dev/null) && [[ -n $pid ]] || return 1
    grep -zqFx -- "$MARK=$LAB_DIR/$1" "/proc/$pid/environ" 2>/dev/null || return 1
    echo "$pid"
}
is_off() { ! init_pid "$1" >/dev/null; }

# enter PID COMMAND...: COMMAND in every namespace of that process, in the same working directory where the host has it.
# It dies with its caller, as a program at a terminal does; what leaves to the background does not.
# shellcheck disable=SC2016 # for the inner shell
INSIDE='cd "$0" 2>/dev/null || cd /; exec "$@"'
enter() {
    local pid=$1; shift
    exec nsenter --target "$pid" --mount --uts --ipc --net --pid -- \
        setpriv --pdeathsig KILL -- sh -c "$INSIDE" "$PWD" "$@"
}
inside() { # HOST COMMAND...
    local name=$1 pid; shift
    pid=$(init_pid "$name") || { printf 'error: host %s is off\n' "$name" >&2; return 1; }
    (enter "$pid" "$@")
}
