# shellcheck shell=bash
# The steps of teardown.sh, each of which undoes one kind of thing that setup.sh recorded. Sourced by teardown.sh.

OTHER_GUESTS=()
KEPT=() # kinds of records that a later teardown still needs
DELETE_DATA=no
DATA_IN_USE=no
SERVICE_UNITS=(testbedos-server.service testbedos-server.socket testbedos-server-http.socket)

find_testbed() {
    local binary
    for binary in /usr/local/bin/testbed "$BUILD_DIR/release/testbed"; do
        if [[ -x $binary ]]; then echo "$binary"; return 0; fi
    done
    return 1
}

TESTBEDS=()

start_installed_server() { # BINARY
    if systemd_runs && [[ -e /etc/systemd/system/testbedos-server.service ]]; then
        quiet systemctl start testbedos-server.service
    else
        make_group && start_server "$1"
    fi
}

# Only the server knows how to take a testbed down, and it needs the services for that.
wake_server() { # BINARY
    local tool
    for tool in ovs-vsctl ovn-nbctl virsh; do have "$tool" || return 0; done
    (
        services_start || exit
        if ! server_answers && [[ -x $1 ]]; then start_installed_server "$1"; fi
    ) || true # what came of it is asked afterwards
}

guests_of_testbeds() { pgrep -f "^[^ ]*qemu-system.*$DATA_DIR/" >/dev/null; }

take_testbeds_down() {
    local testbed name
    compgen -G "$DATA_DIR/deployments/*" >/dev/null || return 0
    testbed=$(find_testbed) || testbed=''
    wake_server "${testbed}os-server"
    if [[ -n $testbed ]] && server_answers; then
        mapfile -t TESTBEDS < <("$testbed" --host "unix:$SERVER_SOCKET" list -o json </dev/null \
            | jq -r '.. | objects | select(has("name")) | .name')
        for name in "${TESTBEDS[@]}"; do
            say "Taking the testbed $name down"
            run timeout 300 "$testbed" --host "unix:$SERVER_SOCKET" -p "$name" down </dev/null \
                || warn "$name did not go down wholly; what is left of it stays"
        done
    elif ! dry_run; then
        warn "no server answers: what testbeds may have in OVN's databases stays there"
    fi
    if ! dry_run && guests_of_testbeds; then
        die "guests of testbeds still run, and need all the rest. \`./setup.sh demo\` and \`testbed doctor\` tell what is broken"
    fi
}

# Without a terminal of its own virsh looks for no agent that could ask for a password.
virsh_alone() { setsid --wait timeout 30 virsh -q -c qemu:///system "$@" </dev/null; }

# Virtual machines depend on the packages, whoever installed those, and on the data if it is their disks.
find_other_guests() {
    local guest
    have virsh && daemon_answers libvirtd || return 0
    while IFS= read -r guest; do
        [[ -n $guest ]] || continue
        if dry_run && [[ " ${TESTBEDS[*]} " = *" ${guest%%.*} "* ]]; then continue; fi # would be down by now
        OTHER_GUESTS+=("$guest")
        if virsh_alone dumpxml "$guest" | grep -F "$DATA_DIR/" >/dev/null; then DATA_IN_USE=yes; fi
    done < <(virsh_alone list --all --name)
}

remove_systemd_service() {
    local unit
    systemd_runs || return 0
    for unit in "${SERVICE_UNITS[@]}"; do
        records files | cut -f2 | grep -Fx -- "/etc/systemd/system/$unit" >/dev/null || continue
        if recorded enabled testbedos-server.service; then quiet systemctl disable --now "$unit"; else
            run systemctl stop "$unit"
        fi
    done
}

# ovn-controller would make its bridge again, and without its settings could not take its chassis out.
stop_ovn_controller() {
    if ! systemd_runs; then stop_daemon ovn-controller; return 0; fi
    if recorded packages ovn-host && have ovn-controller; then
        run systemctl stop ovn-host || warn "ovn-host could not be stopped"
    else
        stop_unit ovn-host
    fi
}

remove_files() {
    local sum path
    while IFS=$'\t' read -r sum path; do
        if [[ $path = "$BACKPORTS_SOURCE" ]]; then continue; fi # its packages go first
        remove_file "$sum" "$path"
    done < <(records files)
    if systemd_runs; then run systemctl daemon-reload; fi
}

remove_file() { # SUM PATH: unless somebody has changed it since
    local sum=$1 path=$2
    [[ -e $path ]] || return 0
    if [[ $(sha256sum -- "$path" | cut -d' ' -f1) != "$sum" ]]; then
        warn "$path was changed since setup.sh wrote it, so it stays"
        return 0
    fi
    run rm -f -- "$path"
    if [[ -e $STATE_DIR/saved$path ]]; then run cp -a -- "$STATE_DIR/saved$path" "$path"; fi
}

remove_data() {
    if [[ $DATA_IN_USE = yes ]]; then warn "$DATA_DIR stays: virtual machines use it (${OTHER_GUESTS[*]})"; return 0; fi
    if [[ -d $DATA_DIR || -s $STATE_DIR/packages ]] \
        && ask "Delete all data: $DATA_DIR, and the configuration and databases of the packages that are removed?"; then
        DELETE_DATA=yes
        run rm -rf -- "$DATA_DIR"
    elif [[ -d $DATA_DIR ]]; then
        note "$DATA_DIR stays"
    fi
}

remove_caches() {
    local tree
    while IFS= read -r tree; do
        run rm -rf -- "$tree"
    done < <(records trees)
}

remove_rust() {
    local path
    while IFS= read -r path; do run rm -f -- "$path"; done < <(records nextest)
    [[ -s $STATE_DIR/rust ]] || return 0
    if ask "Delete the Rust toolchain that setup.sh installed ($(records rust | paste -sd' '), with what was added there since)?"; then
        while IFS= read -r path; do run rm -rf -- "$path"; done < <(records rust)
    else
        KEPT+=(rust)
    fi
}

remove_packages() {
    local packages=()
    mapfile -t packages < <(removable_packages)
    if [[ -s $STATE_DIR/upgraded ]]; then
        note "newer than before setup.sh, and left so: $(records upgraded | cut -d' ' -f1 | paste -sd' ')"
    fi
    [[ ${#packages[@]} -gt 0 ]] || return 0
    if [[ ${#OTHER_GUESTS[@]} -gt 0 ]]; then
        warn "the packages stay, because virtual machines need them: ${OTHER_GUESTS[*]}"
        KEPT+=(packages)
        return 0
    fi
    local verb=remove
    if [[ $DELETE_DATA = yes ]]; then verb=purge; fi
    step "Removing ${#packages[@]} packages that setup.sh installed" \
        apt_quiet apt-get "$verb" -y -o DPkg::Lock::Timeout=300 "${packages[@]}"
    remove_network_data
}

# Of the recorded packages those that are installed and that nothing installed later depends on.
removable_packages() {
    local ours package others packages
    ours=$(mktemp)
    while IFS= read -r package; do
        if installed "$package"; then echo "$package"; fi
    done < <(records packages) | sort -u >"$ours"
    while [[ -s $ours ]]; do
        mapfile -t packages <"$ours"
        mapfile -t others < <(apt-get -s remove "${packages[@]}" 2>/dev/null \
            | awk '$1 == "Remv" {print $2}' | sort -u | grep -Fxv -f <(printf '%s\n' "${packages[@]}"))
        [[ ${#others[@]} -gt 0 ]] || break
        warn "in use by packages that came later (${others[*]}): what these need stays"
        keep_needed_by "$ours" "${others[@]}"
    done
    cat "$ours"
    rm -f -- "$ours"
}

keep_needed_by() { # FILE PACKAGES...: takes what they depend on out of the list
    local file=$1 before; shift
    before=$(wc -l <"$file")
    apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "$@" | sed -n 's/^\([a-z0-9]\)/\1/p' | sort -u | comm -13 - "$file" >"$file.kept"
    mv -- "$file.kept" "$file"
    # A dependency that this does not see must not keep the loop going.
    if [[ $(wc -l <"$file") = "$before" ]]; then : >"$file"; fi
}

remove_network_data() { # which the packages' own removal leaves behind
    [[ $DELETE_DATA = yes ]] || return 0
    if recorded packages ovn-central; then run rm -rf -- /var/lib/ovn /var/log/ovn; fi
    if recorded packages libvirt-daemon-system; then
        run find /var/lib/libvirt /etc/libvirt -depth -type d -empty -delete 2>/dev/null || true
    fi
    if recorded packages openvswitch-switch; then run rm -rf -- /var/lib/openvswitch /var/log/openvswitch /etc/openvswitch; fi
}

remove_apt_source() {
    local sum path
    while IFS=$'\t' read -r sum path; do
        [[ $path = "$BACKPORTS_SOURCE" ]] || continue
        remove_file "$sum" "$path"
        apt_update
    done < <(records files)
}

remove_groups() {
    local group
    while IFS= read -r group; do
        if getent group "$group" >/dev/null; then run groupdel "$group"; fi
    done < <(records groups)
}

forget_everything() {
    local dir
    while IFS= read -r dir; do # deepest first, and only what is empty
        if [[ -d $dir ]]; then run rmdir --ignore-fail-on-non-empty -- "$dir"; fi
    done < <(records dirs | sort -r)
    run rm -rf -- "$RUN_DIR" "$LOG_DIR"
    forget_state
}

forget_state() {
    local kind
    if [[ ${#KEPT[@]} = 0 ]]; then run rm -rf -- "$STATE_DIR"; return 0; fi
    for kind in "$STATE_DIR"/*; do
        [[ " ${KEPT[*]} " = *" ${kind##*/} "* ]] || run rm -rf -- "$kind"
    done
    note "$STATE_DIR keeps the record of what stays (${KEPT[*]}), for another ./teardown.sh"
}
