# shellcheck shell=bash
# What Open vSwitch must know so that this machine becomes a chassis of the OVN beside it. Values that are set already
# are kept: somebody else may depend on them. Sourced by services.sh.

INTEGRATION_BRIDGE=br-int

kernel_datapath() {
    [[ -d /sys/module/openvswitch ]] && return 0
    dry_run && { modprobe --dry-run openvswitch 2>/dev/null; return; }
    modprobe openvswitch 2>/dev/null
}

# ovs-ctl sets an id at every start, so it has to be told the one that counts.
chosen_system_id() {
    local id='' db=/etc/openvswitch/conf.db
    if [[ -s /etc/openvswitch/system-id.conf ]]; then echo random; return 0; fi # ovs-ctl's word for: the one in there
    if [[ -s $db ]]; then
        id=$(ovsdb-tool query "$db" \
            '["Open_vSwitch",{"op":"select","table":"Open_vSwitch","where":[],"columns":["external_ids"]}]' 2>/dev/null \
            | jq -r '.[0].rows[0].external_ids[1][]? | select(.[0] == "system-id") | .[1]') || id=''
    fi
    echo "${id:-none}"
}

get_ovs_id() { vsctl --if-exists get Open_vSwitch . "external-ids:$1" 2>/dev/null | tr -d '"'; }

keep_or_set_ovs_id() { # KEY VALUE
    local present
    present=$(get_ovs_id "$1" || true)
    if [[ -n $present ]]; then
        if [[ $present != "$2" ]]; then note "Open vSwitch $1 stays $present"; fi
        return 0
    fi
    if dry_run; then echo "would set: Open vSwitch external-ids:$1=$2"; return 0; fi
    vsctl set Open_vSwitch . "external-ids:$1=\"$2\""
    record ovs-ids "$1=$2"
}

configure_ovs() {
    keep_or_set_ovs_id system-id main
    keep_or_set_ovs_id hostname "$(hostname)"
    keep_or_set_ovs_id ovn-remote "unix:$(ovn_socket sb)"
    keep_or_set_ovs_id ovn-encap-type geneve
    keep_or_set_ovs_id ovn-encap-ip 127.0.0.1
    local datapath=''
    if ! kernel_datapath; then
        datapath=netdev
        keep_or_set_ovs_id ovn-bridge-datapath-type netdev
    fi
    make_integration_bridge "$datapath"
}

make_integration_bridge() { # DATAPATH: netdev, or empty for the kernel's
    local type=$1
    if vsctl br-exists "$INTEGRATION_BRIDGE" 2>/dev/null; then
        # Without the kernel's datapath a bridge that asks for it carries nothing, so this takes nothing away.
        if [[ $type = netdev && $(vsctl get bridge "$INTEGRATION_BRIDGE" datapath_type | tr -d '"') != netdev ]]; then
            run ovs-vsctl --timeout=5 --no-wait set bridge "$INTEGRATION_BRIDGE" datapath_type=netdev
        fi
        return 0
    fi
    if dry_run; then echo "would create: bridge $INTEGRATION_BRIDGE ${type:+(datapath $type)}"; return 0; fi
    vsctl add-br "$INTEGRATION_BRIDGE" -- set bridge "$INTEGRATION_BRIDGE" fail-mode=secure \
        other-config:disable-in-band=true ${type:+"datapath_type=$type"}
    record bridges "$INTEGRATION_BRIDGE"
}

chassis_registered() { [[ -n $(sbctl --bare --columns=name find chassis "name=$(get_ovs_id system-id)") ]]; }
bridge_in_use() { [[ $(vsctl get bridge "$INTEGRATION_BRIDGE" datapath_id) != '[]' ]]; }

wait_for_chassis() {
    dry_run && return 0
    local remote
    remote=$(get_ovs_id ovn-remote)
    wait_until 15 "Open vSwitch has brought up the bridge $INTEGRATION_BRIDGE (see $(daemon_log ovs-vswitchd))" bridge_in_use
    case $remote in
        unix:*) ;;
        *)
            warn "this machine's ovn-remote is $remote, not the OVN here; it is left so, and testbeds need it to be ours"
            return 0
            ;;
    esac
    wait_until 30 "chassis $(get_ovs_id system-id) is in OVN's southbound database (see $(daemon_log ovn-controller))" \
        chassis_registered
}

ovs_is_ours() { recorded packages openvswitch-switch; }

# The userspace datapath's device outlives its daemon.
remove_datapath_device() {
    if ! ovs_is_ours || [[ ! -d /sys/class/net/ovs-netdev ]] || daemon_answers ovs-vswitchd; then return 0; fi
    run ip link delete ovs-netdev || warn "the network device ovs-netdev could not be deleted; it goes with the next boot"
}

set_or_remove_ovs_id() { # KEY VALUE
    run ovs-vsctl --timeout=5 --no-wait remove Open_vSwitch . external-ids "$1"
    if [[ -n $2 ]]; then run ovs-vsctl --timeout=5 --no-wait set Open_vSwitch . "external-ids:$1=\"$2\""; fi
}

# For teardown.sh: the bridges that testbeds lead outside by (docs/outside.md), by the marks that they carry.
remove_uplinks() {
    local bridge port kept=() mapping ours rest='' staying=''
    have ovs-vsctl && daemon_answers ovsdb-server || return 0
    while read -r bridge; do
        [[ -n $bridge ]] || continue
        for port in $(vsctl list-ports "$bridge"); do
            # ovn-controller's own patch ports go with the mapping.
            if [[ $(vsctl get Interface "$port" type | tr -d '"') != patch ]]; then kept+=("$bridge"); fi
        done
        if [[ " ${kept[*]} " = *" $bridge "* ]]; then
            warn "the bridge $bridge stays: somebody has put $(vsctl list-ports "$bridge" | paste -sd' ') on it"
        else
            run ovs-vsctl --timeout=5 --if-exists del-br "$bridge" || warn "the bridge $bridge could not be deleted"
        fi
    done < <(vsctl --bare --columns=name find Bridge 'external_ids:testbedos-installation!=""')
    ours=$(get_ovs_id testbedos-bridge-mappings || true)
    if [[ -n $ours ]]; then
        for mapping in $(get_ovs_id ovn-bridge-mappings | tr , ' '); do
            if [[ ,$ours, != *",$mapping,"* ]]; then rest+=,$mapping
            elif [[ " ${kept[*]} " = *" ${mapping#*:} "* ]]; then rest+=,$mapping staying+=,$mapping; fi
        done
        set_or_remove_ovs_id ovn-bridge-mappings "${rest#,}"
        set_or_remove_ovs_id testbedos-bridge-mappings "${staying#,}"
    fi
    if have nft && nft list table ip testbedos >/dev/null 2>&1; then run nft delete table ip testbedos; fi
    if [[ $(get_ovs_id testbedos-ip-forward || true) = 0 ]]; then
        if compgen -G '/sys/class/net/docker*' >/dev/null || compgen -G '/sys/class/net/virbr*' >/dev/null; then
            note "net.ipv4.ip_forward stays 1: networks of Docker or libvirt need it"
        else
            run sysctl -q net.ipv4.ip_forward=0
        fi
        run ovs-vsctl --timeout=5 --no-wait remove Open_vSwitch . external-ids testbedos-ip-forward
    fi
}

# For teardown.sh: takes back what is still as it was set.
unconfigure_ovs() {
    local line key bridge
    [[ -s $STATE_DIR/ovs-ids || -s $STATE_DIR/bridges ]] || ovs_is_ours || return 0
    if ! have ovs-vsctl || ! daemon_answers ovsdb-server; then
        warn "Open vSwitch does not run: its settings made here go only with its package"
        return 0
    fi
    while read -r bridge; do
        run ovs-vsctl --timeout=5 --if-exists del-br "$bridge" || warn "the bridge $bridge could not be deleted"
    done < <(records bridges; if ovs_is_ours; then echo "$INTEGRATION_BRIDGE"; fi)
    while read -r line; do
        key=${line%%=*}
        if [[ $(get_ovs_id "$key") = "${line#*=}" ]]; then
            run ovs-vsctl --timeout=5 --no-wait remove Open_vSwitch . external-ids "$key"
        fi
    done < <(records ovs-ids)
}
