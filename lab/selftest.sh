#!/usr/bin/env bash
# Checks what the tests rely on of the lab, one fact after the other, on a lab of its own; under a minute. It ends with
# "N passed, M failed" and status 1 if one failed.
set -uo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SCRATCH=$(mktemp -d /tmp/lab-selftest.XXXXXX)
export LAB_DIR=$SCRATCH/lab
# shellcheck source=lab/common.sh
. "$HERE/common.sh"
# shellcheck source=lab/selftest-net.sh
. "$HERE/selftest-net.sh"
PASSED=0 FAILED=0

lab() { "$HERE/hosts.sh" "$@"; }
on() { lab exec "$@"; }

check() { # WHAT COMMAND...
    local what=$1 began=$EPOCHREALTIME verdict=ok; shift
    if "$@" >"$SCRATCH/out" 2>&1 </dev/null; then
        PASSED=$((PASSED + 1))
    else
        verdict=FAILED FAILED=$((FAILED + 1))
    fi
    printf '%-6s %6d ms  %s\n' "$verdict" "$(((${EPOCHREALTIME/./} - ${began/./}) / 1000))" "$what"
    if [[ $verdict = FAILED ]]; then tail -n 12 "$SCRATCH/out" | sed 's/^/    | /'; fi
}
not() { ! "$@"; }
alone() { ("$@"); } # with variables of its own
each() { local host; for host in m h1; do "$1" "$host" || return 1; done; } # a check of every host
differ() { [[ -n $1 && -n $2 && $1 != "$2" ]]; }
same() { [[ -n $1 && $1 = "$2" ]]; }

# --- a host is a host ---

own_names() {
    [[ $(on m hostname) = m && $(on h1 hostname) = h1 ]] \
        && differ "$(on m cat /etc/machine-id)" "$(on h1 cat /etc/machine-id)" \
        && differ "$(on m cat /proc/sys/kernel/random/boot_id)" "$(cat /proc/sys/kernel/random/boot_id)" \
        && differ "$(on m virsh sysinfo; host_uuid m)" "$(host_uuid h1)"
}
host_uuid() { on "$1" virsh capabilities | sed -n 's/ *<uuid>\(.*\)<.uuid>/\1/p'; }
own_processes() { [[ $(on "$1" ps -e | wc -l) -lt 40 && $(on "$1" cat /proc/1/comm) = tini ]]; }
no_kvm() { on "$1" test ! -e /dev/kvm && on "$1" virsh capabilities | grep "domain type='qemu'" && ! on "$1" virsh capabilities | grep "domain type='kvm'"; }
own_sockets() {
    on "$1" test -S /run/libvirt/libvirt-sock -a -S /run/openvswitch/db.sock \
        && on "$1" sh -c 'touch /var/lib/testbedos/here /run/testbedos/here' \
        && [[ -f $LAB_DIR/$1/var/lib/testbedos/here && ! -e /var/lib/testbedos/here ]]
}
central_on_m_only() {
    on m test -S /run/ovn/ovnnb_db.sock -a -S /run/ovn/ovnsb_db.sock && on h1 test ! -e /run/ovn/ovnnb_db.sock
}
bridge() {
    [[ $(on "$1" ovs-vsctl get bridge br-int datapath_type fail_mode | xargs) = "netdev secure" ]] \
        && on "$1" ip address show dev br-phy | grep " $(data_address "$1")/24 "
}
member_is_unjoined() { ! on h1 ovs-vsctl get Open_vSwitch . external_ids | grep -E 'ovn-remote|ovn-encap|system-id'; }
m_is_chassis() { wait_until 10 "m is a chassis" is_chassis m; }
is_chassis() { [[ -n $(on m ovn-sbctl --bare --columns=name find chassis "name=$1") ]]; }
socket_from_outside() {
    local socket
    socket=$(lab status | awk -F'\t' '$1 == "h1" { print $5 }')
    virsh -q -c "qemu+unix:///system?socket=$socket" hostname | grep -Fx h1
}
exit_status() { on h1 sh -c 'exit 7'; [[ $? = 7 ]]; }
dies_with_caller() {
    "$HERE/hosts.sh" exec h1 sleep 4711 & local caller=$!
    wait_until 5 "it runs" on h1 pgrep -fx 'sleep 4711' && kill -KILL "$caller" \
        && wait_until 5 "it has ended" not on h1 pgrep -fx 'sleep 4711'
}

# --- libvirt: an empty machine is enough to see that it starts and stops ---

define_guest() {
    printf '%s\n' "<domain type='qemu'><name>probe</name><memory unit='MiB'>16</memory>" \
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>" \
        "<serial type='pty'><log file='/var/log/libvirt/qemu/probe-serial.log'/></serial></devices></domain>" \
        >"$SCRATCH/probe.xml"
    on "$1" virsh define "$SCRATCH/probe.xml"
}
guest_runs_on_both() { # of the same name: the hosts must not meet anywhere
    define_guest m && define_guest h1 && on m virsh start probe && on h1 virsh start probe \
        && [[ $(on h1 virsh domstate probe | xargs) = running ]]
}
# Where nobody reaps QEMU at once it takes two seconds. The quicker of two: a busy machine is no fault of the lab.
destroy_is_quick() {
    local host began quick=no
    for host in m h1; do
        began=$EPOCHREALTIME
        on "$host" virsh destroy probe || return 1
        if ((${EPOCHREALTIME/./} - ${began/./} < 1000000)); then quick=yes; fi
    done
    [[ $quick = yes ]] && on h1 virsh start probe # to be killed with h1
}

# --- cables and power ---

cut_data_only() {
    lab cut h1 data
    wait_until 10 "no guest traffic" not guests_meet && management_meets
    local status=$?
    lab heal h1 data
    [[ $status = 0 ]] && wait_until 20 "guest traffic again" guests_meet
}
cut_mgmt_only() {
    lab cut h1 mgmt
    not management_meets && guests_meet
    local status=$?
    lab heal h1 mgmt
    [[ $status = 0 ]] && wait_until 20 "management again" management_meets && wait_until 60 "OVN follows" ovn_follows
}
management_meets() { on h1 busybox ping -c 1 -W 1 "$(mgmt_address m)" && on m busybox ping -c 1 -W 1 h1; }
lives_in() { [[ $(readlink /proc/[0-9]*/ns/pid) = *"$1"* ]]; } # any process at all
power_off_kills_all() { # also the guest
    local pid space
    pid=$(lab status | awk -F'\t' '$1 == "h1" { print $4 }')
    space=$(readlink "/proc/$pid/ns/pid")
    [[ $(on h1 virsh domstate probe | xargs) = running ]] && lives_in "$space" || return 1
    lab poweroff h1
    not lives_in "$space" && not on h1 true && lab status | grep -P '^h1\t.*\t-\t'
}
power_on_finds_the_disk() {
    local id
    id=$(cat "$LAB_DIR/h1/etc/machine-id")
    same "$BOOT" "$(cat "$LAB_DIR/h1/proc/sys/kernel/random/boot_id")" && lab poweron h1 \
        && same "$id" "$(on h1 cat /etc/machine-id)" && differ "$BOOT" "$(on h1 cat /proc/sys/kernel/random/boot_id)" \
        && [[ $(on h1 virsh domstate probe | xargs) = "shut off" ]] \
        && plug_guest h1 g2 && wait_until 20 "the guests meet again" guests_meet
}

# --- up and down, whatever is killed ---

other_lab() {
    LAB_DIR=$SCRATCH/other lab up 1 && [[ $(LAB_DIR=$SCRATCH/other lab exec m virsh list --all --name | xargs) = '' ]] \
        && on m virsh domstate probe && LAB_DIR=$SCRATCH/other lab down && on m virsh domstate probe
}
down_after_kills() { # of one host's first process, of a daemon, of what started a host, of the underlay
    LAB_DIR=$SCRATCH/killed STATE=$SCRATCH/killed/state
    lab up 2 && kill -KILL "$(init_pid h1)" "$(init_pid underlay)" && on m pkill -KILL libvirtd \
        && pkill -KILL -f -- "init.sh $LAB_DIR m\$" && lab down && gone
}
down_after_half_an_up() {
    LAB_DIR=$SCRATCH/half STATE=$SCRATCH/half/state
    local up
    setsid "$HERE/hosts.sh" up 3 & up=$!
    wait_until 10 "h2 has begun to boot" test -e "$STATE/h2.log" || return 1
    kill -KILL "$up" && lab down && gone
}
up_again() { on h1 pkill -KILL -x ovs-vswitchd && lab up 2 && on h1 ovs-appctl -t ovs-vswitchd version && guests_met_again; }
guests_met_again() { wait_until 20 "guests meet after the restart" guests_meet; }
gone() { [[ ! -e $LAB_DIR ]] && not pgrep -f -- "init.sh $LAB_DIR "; }
machine() { # what would show that a lab leaks: its names among the machine's, its mounts, its guests
    ip -o link | grep -oE ' ([mh][0-9]*-(mgmt|data)|(mgmt|data)0?|br-phy|g[12]-tap)[@:]' | sort
    grep -F " $SCRATCH" /proc/mounts
    virsh -q list --all --name 2>/dev/null | grep -Fx probe
    ovs-vsctl --timeout=2 list-br 2>/dev/null | grep -Fx br-phy
    return 0
}
as_before() { diff "$SCRATCH/machine" <(machine); }

finish() {
    local left
    for left in "$SCRATCH"/*/state; do
        if [[ -d $left ]]; then LAB_DIR=$(dirname "$left") lab down; fi
    done
    rm -rf -- "$SCRATCH"
}
trap finish EXIT

machine >"$SCRATCH/machine"
check "up 2" lab up 2
check "hosts have names, ids and boots of their own" own_names
check "hosts have processes of their own" each own_processes
check "/dev/kvm is hidden, QEMU translates" each no_kvm
check "sockets and folders at their usual paths are the host's" each own_sockets
check "OVN's databases are on m only" central_on_m_only
check "br-int: netdev, secure; the data address is on br-phy" each bridge
check "h1's ovn-controller runs and knows of no master" member_is_unjoined
check "m is a chassis" m_is_chassis
check "management network" wait_until 5 "hosts meet" management_meets
check "libvirt's socket from outside" socket_from_outside
check "exec gives the command's status" exit_status
check "what exec runs dies with it" dies_with_caller
check "a guest of the same name on both hosts" guest_runs_on_both
check "virsh destroy takes less than a second" destroy_is_quick
check "OVN southbound over TLS" serve_tls
check "h1 joins over TLS without a restart" join_tls h1
check "guests on two hosts reach each other (Geneve)" guests_across
check "TCP: 5 MB across, unharmed" tcp_across
check "role: h1 may not remove m's chassis" role_holds
check "nothing of it is among the machine's own" as_before
check "cut data: management stays" cut_data_only
check "cut management: data stays" cut_mgmt_only
check "up again restarts what was killed" up_again
BOOT=$(on h1 cat /proc/sys/kernel/random/boot_id)
check "power off kills all of h1" power_off_kills_all
check "power on: another boot, the same disk" power_on_finds_the_disk
check "a second lab beside this one" other_lab
check "down after kills" alone down_after_kills
check "down after half an up" alone down_after_half_an_up
check "down" lab down
check "the machine is as before" as_before
printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
[[ $FAILED = 0 ]]
