# shellcheck shell=bash
# `setup.sh services start|stop|status`: the real parts (Open vSwitch, OVN, libvirt, Docker) with systemd or without it.
# What runs already is left alone, and only what was started here is stopped. Sourced by setup.sh and teardown.sh.

# shellcheck source=setup/daemons.sh
. "$ROOT/setup/daemons.sh"
# shellcheck source=setup/ovs.sh
. "$ROOT/setup/ovs.sh"

# What systemd starts, in order; "daemons" are the parts that must answer afterwards.
UNITS=(openvswitch-switch ovn-central ovn-host libvirtd docker)
unit_daemons() {
    case $1 in
        openvswitch-switch) echo ovsdb-server ovs-vswitchd ;;
        ovn-central) echo ovn-nb ovn-sb ovn-northd ;;
        ovn-host) echo ovn-controller ;;
        libvirtd) echo libvirtd ;;
        docker) echo dockerd ;;
    esac
}
unit_parts() { # what to stop: a socket left open would start its service again, and not every part stops with its whole
    case $1 in
        libvirtd) echo libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service ;;
        docker) echo docker.socket docker.service ;;
        openvswitch-switch) echo openvswitch-switch.service ovs-vswitchd.service ovsdb-server.service ;;
        *) echo "$1.service" ;;
    esac
}
unit_package() {
    case $1 in
        libvirtd) echo libvirt-daemon-system ;;
        docker) echo docker.io ;;
        *) echo "$1" ;;
    esac
}
unit_is_ours() { # started here, or by the installation of its package here
    [[ -e $SERVICES_DIR/$1.unit ]] || recorded packages "$(unit_package "$1")"
}
unit_answers() {
    local daemon
    for daemon in $(unit_daemons "$1"); do daemon_answers "$daemon" || return 1; done
}

# No kind of guest needs it yet: it is not installed for that, and started where it is there.
optional() { [[ $1 = docker || $1 = dockerd ]]; }

services_start() {
    if ! dry_run; then
        mkdir -p "$SERVICES_DIR" "$LOG_DIR" || die "cannot write below $RUN_DIR"
        exec 9>"$SERVICES_DIR/.lock"
        flock -w 120 9 || die "another setup.sh is starting or stopping services since more than 120 s"
    fi
    local tool
    for tool in ovs-vsctl ovn-nbctl ovn-controller virsh; do
        dry_run || have "$tool" || die "$tool is not installed: ./setup.sh, ./setup.sh demo and ./setup.sh test install it"
    done
    say "Starting services"
    if systemd_runs; then start_units; else start_daemons; fi
    wait_for_chassis
    if ! dry_run; then flock -u 9; exec 9>&-; fi
}

# --- with systemd ---

start_units() {
    local unit
    for unit in "${UNITS[@]}"; do
        start_unit "$unit"
        if [[ $unit = ovn-central ]]; then configure_ovs; fi # before ovn-controller: it makes the bridge as told here
    done
}

start_unit() {
    local unit=$1
    if unit_answers "$unit"; then note "$unit: already running"; return 0; fi
    if optional "$unit" && ! have dockerd; then return 0; fi
    if dry_run; then echo "would run: systemctl start $unit"; return 0; fi
    if ! quiet systemctl start "$unit"; then
        if optional "$unit"; then warn "$unit does not start, testbeds without containers do not need it"; return 0; fi
        # Its unit insists on a kernel module that this kernel lacks; the daemon does not.
        if [[ $unit = openvswitch-switch ]] && ! kernel_datapath; then start_vswitchd; else return 1; fi
    fi
    touch "$SERVICES_DIR/$unit.unit"
    if wait_until 30 "$unit answers (see: journalctl -u $unit)" unit_answers "$unit"; then
        note "$unit: started"
    elif optional "$unit"; then
        warn "going on without $unit, testbeds without containers do not need it"
    else
        return 1
    fi
}

stop_unit() {
    local unit=$1 parts
    if optional "$unit" && ! have dockerd; then return 0; fi
    unit_is_ours "$unit" || { note "$unit: not started by setup.sh, left alone"; return 0; }
    read -ra parts <<<"$(unit_parts "$unit")"
    run systemctl stop "${parts[@]}" || warn "$unit could not be stopped"
    run rm -f -- "$SERVICES_DIR/$unit.unit"
    dry_run || note "$unit: stopped"
}

# --- without systemd ---

start_daemons() {
    local daemon
    set_reaper
    for daemon in "${DAEMONS[@]}"; do
        start_daemon "$daemon"
        if [[ $daemon = ovn-northd ]]; then configure_ovs; fi
    done
}

start_daemon() {
    local daemon=$1 limit
    limit=$(daemon_limit "$daemon")
    if daemon_answers "$daemon"; then note "$daemon: already running"; return 0; fi
    if optional "$daemon" && ! have "$daemon"; then return 0; fi
    if dry_run; then echo "would start: $daemon"; return 0; fi
    rm -f -- "$SERVICES_DIR/$daemon.pid"
    if daemon_start "$daemon" 9>&- \
        && wait_until "$limit" "$daemon answers (see $(daemon_log "$daemon"))" answers_or_died "$daemon" \
        && daemon_answers "$daemon"; then
        remember_pid "$daemon" || warn "$daemon: its process id is not known, so it will not be stopped"
        note "$daemon: started, pid $(cut -d' ' -f1 "$SERVICES_DIR/$daemon.pid")"
    else
        give_up "$daemon"
        optional "$daemon" || return 1
        warn "going on without $daemon, testbeds without containers do not need it"
    fi
}

answers_or_died() { # no need to wait for what is gone
    local pid
    daemon_answers "$1" && return 0
    pid=$(cut -d' ' -f1 "$SERVICES_DIR/$1.pid" 2>/dev/null) && [[ -n $pid ]] && ! start_time "$pid" >/dev/null
}

give_up() { # says why, and leaves nothing half started
    local daemon=$1
    printf 'error: %s did not start\n' "$daemon" >&2
    if [[ -f $(daemon_log "$daemon") ]]; then
        printf '%s ends with:\n' "$(daemon_log "$daemon")" >&2
        tail -n 5 "$(daemon_log "$daemon")" | sed 's/^/    | /' >&2
    fi
    if [[ -s $SERVICES_DIR/$daemon.pid ]]; then
        kill -TERM "$(cut -d' ' -f1 "$SERVICES_DIR/$daemon.pid")" 2>/dev/null || true
        rm -f -- "$SERVICES_DIR/$daemon.pid"
    fi
}

stop_daemon() {
    local daemon=$1 pid began
    if ! pid=$(our_pid "$daemon"); then
        if dry_run; then return 0; fi
        rm -f -- "$SERVICES_DIR/$daemon.pid"
        if ! systemd_runs && daemon_answers "$daemon"; then note "$daemon: not started by setup.sh, left alone"; fi
        return 0
    fi
    if dry_run; then echo "would stop: $daemon (pid $pid)"; return 0; fi
    began=$(start_time "$pid")
    daemon_stop "$daemon" "$pid" || true
    if ! wait_until "$(daemon_limit "$daemon")" "$daemon (pid $pid) has stopped" gone "$pid" "$began"; then
        warn "$daemon does not stop, killing it"
        daemon_kill "$pid"
        wait_until 10 "$daemon (pid $pid) is gone after SIGKILL" gone "$pid" "$began" || return 1
    fi
    rm -f -- "$SERVICES_DIR/$daemon.pid"
    note "$daemon: stopped"
}

services_stop() {
    local i
    say "Stopping the services that setup.sh started"
    if systemd_runs; then
        for ((i = ${#UNITS[@]} - 1; i >= 0; i--)); do stop_unit "${UNITS[i]}"; done
    fi
    for ((i = ${#DAEMONS[@]} - 1; i >= 0; i--)); do stop_daemon "${DAEMONS[i]}"; done
}

services_status() { # status 3, as systemctl's, when a part that is needed does not answer
    local daemon origin status=0
    for daemon in "${DAEMONS[@]}"; do
        [[ $daemon = virtlogd ]] && systemd_runs && continue # started on demand
        if daemon_answers "$daemon"; then
            origin='not by setup.sh'
            if systemd_runs; then origin='by systemd'; fi
            if our_pid "$daemon" >/dev/null; then origin="by setup.sh, pid $(our_pid "$daemon")"; fi
            printf '%-15s running, started %s\n' "$daemon" "$origin"
        elif optional "$daemon"; then
            if have "$daemon"; then printf '%-15s not running (optional)\n' "$daemon"; fi
        else
            printf '%-15s not running\n' "$daemon"
            status=3
        fi
    done
    if daemon_answers ovsdb-server && daemon_answers ovn-sb; then
        if chassis_registered; then echo "chassis         $(get_ovs_id system-id), registered"; else
            echo "chassis         not registered"
            status=3
        fi
    fi
    return "$status"
}
