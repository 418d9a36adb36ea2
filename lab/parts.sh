#!/usr/bin/env bash
# The real parts of one host: Open vSwitch, ovn-controller and libvirt, and on m also OVN's databases and northd. Runs
# inside the host's namespaces, where the usual paths are the host's own. Run by hosts.sh.
#   parts.sh start NAME    starts those that do not answer and waits until all do
#   parts.sh answer NAME   status 0 when all answer; else names those that do not
set -euo pipefail

LAB_DIR=${LAB_DIR:?}
# shellcheck source=lab/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

COMMAND=$1 NAME=$2
OVN_CTL=/usr/share/ovn/scripts/ovn-ctl
QUIET=(-vconsole:off -vsyslog:off -vfile:info --log-file --pidfile --detach)

parts() {
    echo ovsdb-server
    if [[ $NAME = m ]]; then echo ovn-central; fi
    echo ovs-vswitchd ovn-controller virtlogd libvirtd
}

# Asks the part itself: a pid file or a socket may be left over from something that died.
answers() {
    case $1 in
        ovsdb-server) vsctl get Open_vSwitch . _uuid ;;
        ovs-vswitchd) timeout 5 ovs-appctl -t ovs-vswitchd version && has_datapath ;;
        ovn-central)
            timeout 5 ovn-nbctl --no-leader-only show && timeout 5 ovn-sbctl --no-leader-only show \
                && timeout 5 ovn-appctl -t ovn-northd version
            ;;
        ovn-controller) timeout 5 ovn-appctl -t ovn-controller version ;;
        virtlogd) timeout 5 virt-admin -c virtlogd:///system daemon-log-filters ;;
        libvirtd) timeout 5 virsh -q -c qemu:///system version ;;
    esac >/dev/null 2>&1 </dev/null
}
vsctl() { ovs-vsctl --timeout=5 --no-wait "$@"; }
has_datapath() { [[ $(vsctl get bridge br-int datapath_id) != '[]' ]]; }

start() {
    case $1 in
        ovsdb-server) start_ovsdb ;;
        ovs-vswitchd) start_vswitchd ;;
        ovn-central) "$OVN_CTL" start_northd ;;
        ovn-controller) ovn-controller unix:/run/openvswitch/db.sock "${QUIET[@]}" --log-file=/var/log/ovn/ovn-controller.log ;;
        virtlogd) virtlogd --daemon ;;
        libvirtd) start_libvirtd ;;
    esac >>"/var/log/lab-$1.log" 2>&1 </dev/null
}

# By hand and not by ovs-ctl: that one would set a system-id, and a member gets its own from whoever it joins.
start_ovsdb() {
    local db=/etc/openvswitch/conf.db
    if [[ ! -s $db ]]; then ovsdb-tool create "$db" /usr/share/openvswitch/vswitch.ovsschema; fi
    ovsdb-server "$db" --remote=punix:/run/openvswitch/db.sock \
        --remote=db:Open_vSwitch,Open_vSwitch,manager_options \
        --private-key=db:Open_vSwitch,SSL,private_key --certificate=db:Open_vSwitch,SSL,certificate \
        --bootstrap-ca-cert=db:Open_vSwitch,SSL,ca_cert "${QUIET[@]}"
    vsctl init
    configure
}

# Userspace tunnels leave through the bridge that holds the tunnel's own address, so that is br-phy and not data0.
configure() {
    vsctl set Open_vSwitch . "external-ids:hostname=$NAME" external-ids:ovn-bridge-datapath-type=netdev \
        -- --may-exist add-br br-phy -- set bridge br-phy datapath_type=netdev \
        "other-config:hwaddr=\"$(mac_address data "$NAME")\"" \
        -- --may-exist add-port br-phy data0 \
        -- --may-exist add-br br-int -- set bridge br-int datapath_type=netdev fail-mode=secure \
        other-config:disable-in-band=true
    if [[ $NAME = m ]]; then
        vsctl set Open_vSwitch . external-ids:system-id=m external-ids:ovn-remote=unix:/run/ovn/ovnsb_db.sock \
            external-ids:ovn-encap-type=geneve "external-ids:ovn-encap-ip=$(data_address m)"
    fi
}

start_vswitchd() {
    ovs-vswitchd unix:/run/openvswitch/db.sock "${QUIET[@]}"
    wait_until 10 "br-phy is there" ip link show br-phy
    ip address replace "$(data_address "$NAME")/24" dev br-phy
    ip link set br-phy up
    ethtool -K br-phy tx off >/dev/null
}

start_libvirtd() {
    local id
    id=$(cat /etc/machine-id)
    printf '%s\n' 'auth_unix_rw = "none"' 'auth_unix_ro = "none"' 'unix_sock_group = "root"' \
        "host_uuid = \"${id:0:8}-${id:8:4}-${id:12:4}-${id:16:4}-${id:20}\"" >/etc/libvirt/libvirtd.conf
    # Hosts that share a machine's files must not fight over who owns them.
    printf '%s\n' 'user = "root"' 'group = "root"' 'dynamic_ownership = 0' 'remember_owner = 0' \
        'security_driver = "none"' >/etc/libvirt/qemu.conf
    mkdir -p /etc/libvirt/qemu /var/lib/libvirt/qemu
    libvirtd --daemon
}

start_all() {
    local part
    for part in $(parts); do
        if answers "$part"; then continue; fi
        if ! { start "$part" && wait_until 20 "$part of $NAME answers" answers "$part"; }; then
            printf 'error: %s of %s does not start; %s ends with:\n' "$part" "$NAME" "/var/log/lab-$part.log" >&2
            tail -n 5 "/var/log/lab-$part.log" | sed 's/^/    | /' >&2
            return 1
        fi
    done
}

all_answer() {
    local part status=0
    for part in $(parts); do
        answers "$part" || { printf 'error: %s of %s does not answer\n' "$part" "$NAME" >&2; status=1; }
    done
    return "$status"
}

case $COMMAND in
    start) start_all ;;
    answer) all_answer ;;
esac
