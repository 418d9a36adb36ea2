# shellcheck shell=bash
# The lab's cables: a management and a data cable from each host to the two switches of the underlay, cut and healed one by
# one. Every interface is made inside a namespace of the lab, so no name can meet one of the machine. Sourced by hosts.sh.

# in_underlay COMMAND...: the underlay's network, but this machine's pids, for `netns PID`.
in_underlay() {
    local pid
    pid=$(init_pid "$UNDERLAY") || { printf 'error: the underlay does not run\n' >&2; return 1; }
    nsenter --target "$pid" --net -- "$@"
}
in_network() { # HOST COMMAND...
    local pid
    pid=$(init_pid "$1") || { printf 'error: host %s is off\n' "$1" >&2; return 1; }
    shift
    nsenter --target "$pid" --net -- "$@"
}

plug() { # HOST: both cables, and the management address; the data address is for Open vSwitch's bridge
    local host=$1
    plug_cable "$host" mgmt || return 1
    plug_cable "$host" data || return 1
    in_network "$host" ip address replace "$(mgmt_address "$host")/24" dev mgmt0
}

plug_cable() { # HOST PLANE
    local host=$1 plane=$2 pid mac
    if has_cable "$host" "$plane"; then return 0; fi
    pid=$(init_pid "$host") || return 1
    mac=$(mac_address "$plane" "$host")
    unplug_cable "$host" "$plane"
    in_underlay ip link add "$host-$plane" type veth peer name "${plane}0" netns "$pid" \
        && in_underlay ip link set "$host-$plane" master "$plane" up \
        && if [[ $plane = mgmt ]]; then in_network "$host" ip link set mgmt0 address "$mac"; fi \
        && in_network "$host" ip link set "${plane}0" up \
        && offloads_off in_network "$host" "${plane}0"
}
has_cable() { in_underlay ip link show "$1-$2" >/dev/null 2>&1 && in_network "$1" ip link show "$2""0" >/dev/null 2>&1; }
unplug_cable() { in_underlay ip link delete "$1-$2" 2>/dev/null || true; }
unplug() { local plane; for plane in "${PLANES[@]}"; do unplug_cable "$1" "$plane"; done; }

# Nothing here fills in a checksum that a sender left to its network card: ping would work and TCP would not connect.
offloads_off() { "${@:1:$#-1}" ethtool -K "${@: -1}" tx off tso off gso off gro off >/dev/null 2>&1; }

planes_of() { # mgmt, data, all or nothing
    case ${1:-all} in
        all) printf '%s\n' "${PLANES[@]}" ;;
        mgmt | data) echo "$1" ;;
        *) return 1 ;;
    esac
}
switch_cables() { # up or down, HOST, [mgmt|data|all]
    local direction=$1 host=$2 plane chosen
    chosen=$(planes_of "${3:-}") || die "a plane is mgmt, data or all, not $3"
    for plane in $chosen; do
        in_underlay ip link set "$host-$plane" "$direction" || die "the $plane cable of $host cannot be set $direction"
    done
}
