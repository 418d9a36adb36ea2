# shellcheck shell=bash
# The real parts one by one, for machines without systemd: does it answer, how it starts, how it stops. Each is started
# in a session of its own, detached from the terminal, and only what was started here is stopped. Sourced by services.sh.

# shellcheck disable=SC2034 # used by services.sh
DAEMONS=(ovsdb-server ovs-vswitchd ovn-nb ovn-sb ovn-northd ovn-controller virtlogd libvirtd dockerd)
OVS_CTL=/usr/share/openvswitch/scripts/ovs-ctl
OVN_CTL=/usr/share/ovn/scripts/ovn-ctl

ovn_socket() { # nb or sb: where this distribution puts it
    local path
    for path in "/run/ovn/ovn$1_db.sock" "/run/openvswitch/ovn$1_db.sock"; do
        if [[ -S $path ]]; then echo "$path"; return 0; fi
    done
    echo "/run/ovn/ovn$1_db.sock"
}
nbctl() { ovn-nbctl --timeout=5 --db="unix:$(ovn_socket nb)" "$@"; }
sbctl() { ovn-sbctl --timeout=5 --db="unix:$(ovn_socket sb)" "$@"; }
vsctl() { ovs-vsctl --timeout=5 --no-wait "$@"; }

# Asks the part itself: a pid file or a socket may be left over from something that died.
daemon_answers() {
    case $1 in
        ovsdb-server) vsctl get Open_vSwitch . _uuid ;;
        ovs-vswitchd) timeout 5 ovs-appctl -t ovs-vswitchd version ;;
        ovn-nb) nbctl get-connection ;;
        ovn-sb) sbctl get-connection ;;
        ovn-northd) timeout 5 ovn-appctl -t ovn-northd version ;;
        ovn-controller) timeout 5 ovn-appctl -t ovn-controller version ;;
        virtlogd) timeout 5 virt-admin -c virtlogd:///system daemon-log-filters ;;
        libvirtd) timeout 5 virsh -q -c qemu:///system version ;;
        dockerd) timeout 5 docker version ;;
    esac >/dev/null 2>&1 </dev/null
}

daemon_pid() { # of the running one
    case $1 in
        ovsdb-server | ovs-vswitchd) cat "/run/openvswitch/$1.pid" ;;
        ovn-nb | ovn-sb) cat "/run/ovn/${1/-/}_db.pid" 2>/dev/null || cat "/run/openvswitch/${1/-/}_db.pid" ;;
        ovn-northd | ovn-controller) cat "/run/ovn/$1.pid" 2>/dev/null || cat "/run/openvswitch/$1.pid" ;;
        *) cut -d' ' -f1 "$SERVICES_DIR/$1.pid" ;;
    esac 2>/dev/null
}

daemon_start() {
    case $1 in
        ovsdb-server) start_ovsdb ;;
        ovs-vswitchd) start_vswitchd ;;
        ovn-nb) start_quietly "$OVN_CTL" start_nb_ovsdb ;;
        ovn-sb) start_quietly "$OVN_CTL" start_sb_ovsdb ;;
        ovn-northd) start_quietly "$OVN_CTL" start_northd --ovn-manage-ovsdb=no ;;
        ovn-controller) start_quietly "$OVN_CTL" start_controller ;;
        virtlogd) start_detached virtlogd "${REAPER[@]}" virtlogd ;;
        libvirtd) start_detached libvirtd "${REAPER[@]}" libvirtd ;;
        dockerd) start_dockerd ;;
    esac
}

# A daemon that keeps a pipe of whoever called setup.sh open would keep that caller waiting for its end.
# shellcheck disable=SC2016
ALONE='for fd in /proc/$$/fd/*; do fd=${fd##*/}; if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi; done
    if [ -n "$0" ]; then echo $$ >"$0"; fi
    exec "$@"'

# Daemons that leave to the background by themselves.
start_quietly() { quiet setsid --wait bash -c "$ALONE" '' "$@"; }

# Daemons that stay in the foreground: the shell that writes the pid file becomes the daemon.
start_detached() { # NAME COMMAND...
    local name=$1; shift
    setsid bash -c "$ALONE" "$SERVICES_DIR/$name.pid" "$@" </dev/null >>"$LOG_DIR/$name.log" 2>&1 &
}

# libvirt waits until a destroyed QEMU is gone from the process table. QEMU is nobody's child by then, so on a machine
# whose first process collects the dead only now and then, every stop of a guest would wait for that.
set_reaper() {
    REAPER=()
    if have tini; then REAPER=(tini -s --); elif ! dry_run; then warn "tini is not installed: stopping guests may be slow"; fi
}

start_ovsdb() {
    local id
    id=$(chosen_system_id)
    if [[ $id = none ]]; then
        id=main
        record ovs-ids "system-id=$id"
    fi
    start_quietly "$OVS_CTL" --no-ovs-vswitchd --no-monitor --no-record-hostname --system-id="$id" start
}

# ovs-ctl insists on the kernel module wherever modules can be loaded at all; the userspace datapath does without. A monitor
# starts it anew when it crashes, as systemd would: the userspace datapath of 3.1 now and then fails an assertion of its own
# (conn_update_state, lib/conntrack.c), and every guest would be cut off.
start_vswitchd() {
    if kernel_datapath; then
        start_quietly "$OVS_CTL" --no-ovsdb-server --no-record-hostname --system-id=random start
    else
        start_quietly ovs-vswitchd unix:/run/openvswitch/db.sock -vconsole:emer -vsyslog:err -vfile:info \
            --log-file --pidfile --detach --monitor --mlockall
    fi
}

# Docker's defaults want a bridge and NAT rules. TestbedOS needs neither: it plugs containers into its own network.
start_dockerd() {
    local limits=()
    if ! iptables -t nat -nL >/dev/null 2>&1; then limits=(--bridge=none --iptables=false); fi
    start_detached dockerd dockerd "${limits[@]}"
}

daemon_stop() { # graceful first; the caller waits and insists
    case $1 in
        ovsdb-server) start_quietly "$OVS_CTL" --no-ovs-vswitchd stop ;;
        ovs-vswitchd) start_quietly "$OVS_CTL" --no-ovsdb-server stop ;;
        ovn-nb) start_quietly "$OVN_CTL" stop_nb_ovsdb ;;
        ovn-sb) start_quietly "$OVN_CTL" stop_sb_ovsdb ;;
        ovn-northd) start_quietly "$OVN_CTL" stop_northd --ovn-manage-ovsdb=no ;;
        ovn-controller) start_quietly "$OVN_CTL" stop_controller ;; # takes the chassis out of the southbound database
        *) kill -TERM "$2" ;;
    esac
}

daemon_kill() { # and what it was started under or watches over; guests are in sessions of their own
    pkill -KILL -s "$1" || true
}

# libvirtd gives what still runs in it 30 s when it ends.
daemon_limit() {
    case $1 in
        libvirtd) echo 45 ;;
        dockerd) echo 30 ;;
        *) echo 20 ;;
    esac
}

daemon_log() {
    case $1 in
        ovs*) echo "/var/log/openvswitch/$1.log" ;;
        ovn-nb | ovn-sb) echo "/var/log/ovn/ovsdb-server-${1#ovn-}.log" ;;
        ovn*) echo "/var/log/ovn/$1.log" ;;
        *) echo "$LOG_DIR/$1.log" ;;
    esac
}

# --- pid files: "PID STARTTIME", so that a number used again by another program is not taken for ours ---

start_time() { # in clock ticks since boot; the name in field 2 may hold blanks; a dead one not yet collected has none
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    stat=${stat##*) }
    [[ $stat != Z* ]] || return 1
    cut -d' ' -f20 <<<"$stat"
}

# Each was started as the leader of a session: that is the daemon itself or what watches over it and starts it again.
remember_pid() {
    local pid
    pid=$(daemon_pid "$1") || return 1
    pid=$(ps -o sid= -p "$pid" | tr -d ' ')
    [[ -n $pid ]] || return 1
    echo "$pid $(start_time "$pid")" >"$SERVICES_DIR/$1.pid"
}

our_pid() { # prints the pid if the process we started is alive
    local pid began
    [[ -f $SERVICES_DIR/$1.pid ]] || return 1
    read -r pid began <"$SERVICES_DIR/$1.pid" || return 1
    [[ -n $pid && $(start_time "$pid") = "$began" ]] || return 1
    echo "$pid"
}
gone() { [[ $(start_time "$1" || true) != "$2" ]]; }
