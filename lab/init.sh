#!/usr/bin/env bash
# The first process of one host of the lab, in fresh namespaces: gives the host a /dev, /proc, /sys and folders of its own,
# and then waits for ever, reaping the dead. When it ends, the kernel ends every process of the host. Run by hosts.sh.
#   init.sh LAB_DIR NAME
set -euo pipefail

LAB_DIR=$1 NAME=$2
# shellcheck source=lab/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Below LAB_DIR/NAME these have the same paths, so that they can be looked at from outside. All else is the machine's.
PRIVATE=(/etc/libvirt /etc/openvswitch /etc/ovn /etc/testbedos
    /var/lib/libvirt /var/lib/openvswitch /var/lib/ovn /var/lib/testbedos
    /var/cache/libvirt /var/cache/testbedos /var/log /run)
DISK=$LAB_DIR/$NAME

# This process's number outside: /proc is still the machine's.
write_pid() {
    local pid
    read -r pid _ </proc/self/stat
    echo "$pid" >"$STATE/$NAME.pid.new"
    mv -f -- "$STATE/$NAME.pid.new" "$STATE/$NAME.pid"
}

# What is only covered still stands in /proc/mounts, and libvirt would believe it.
off() { # FOLDER: no mount of the machine's at it or below
    awk -v at="$1" '$2 == at || index($2, at "/") == 1 { print $2 }' /proc/self/mounts | tac >"$STATE/$NAME.mounts"
    local at
    while read -r at; do umount --lazy "$at"; done <"$STATE/$NAME.mounts"
    rm -f -- "$STATE/$NAME.mounts"
}

# Without the machine's /dev there is no /dev/kvm: every host translates, wherever the lab runs.
own_dev() {
    local new=$DISK/dev node
    mkdir -p "$new"
    off /dev
    mount -t tmpfs -o mode=0755 dev "$new"
    mkdir "$new"/{pts,shm,net}
    for node in 'null c 1 3' 'zero c 1 5' 'full c 1 7' 'random c 1 8' 'urandom c 1 9' 'tty c 5 0' 'net/tun c 10 200'; do
        # shellcheck disable=SC2086 # name, kind and numbers
        mknod -m 0666 "$new"/$node
    done
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid="$(getent group tty | cut -d: -f3)" devpts "$new/pts"
    mount -t tmpfs -o mode=1777 shm "$new/shm"
    ln -s pts/ptmx "$new/ptmx"
    ln -s /proc/self/fd "$new/fd"
    ln -s fd/0 "$new/stdin"; ln -s fd/1 "$new/stdout"; ln -s fd/2 "$new/stderr"
    mount --move "$new" /dev
    rmdir "$new"
}

# No control groups: libvirt does without, and those of all hosts and of the machine would bear the same names.
own_sys() {
    off /sys
    mount -t sysfs sysfs /sys
    off /proc
    mount -t proc proc /proc
    if [[ -d /sys/fs/cgroup ]]; then mount -t tmpfs -o ro cgroup /sys/fs/cgroup; fi
}

own_folders() {
    local folder
    rm -rf -- "$DISK/run"
    off /run
    for folder in "${PRIVATE[@]}"; do
        mkdir -p -- "$DISK$folder" "$folder"
        mount --bind -- "$DISK$folder" "$folder"
    done
    mkdir -p /run/{lock,openvswitch,ovn,libvirt,netns,testbedos} /var/log/{openvswitch,ovn,libvirt/qemu}
    chmod 1777 /run/lock
}

put_file() { # PATH, the text on standard input: over the machine's file of that name
    [[ -e $1 ]] || return 0
    mkdir -p -- "$DISK$(dirname "$1")"
    cat >"$DISK$1"
    mount --bind -- "$DISK$1" "$1"
}

# A machine id for the host's life, a boot id for this boot.
own_identity() {
    hostname "$NAME"
    echo "$NAME" | put_file /etc/hostname
    hosts_file | put_file /etc/hosts
    if [[ ! -s $DISK/etc/id ]]; then tr -d - </proc/sys/kernel/random/uuid >"$DISK/etc/id"; fi
    put_file /etc/machine-id <"$DISK/etc/id"
    put_file /proc/sys/kernel/random/boot_id </proc/sys/kernel/random/uuid
}

# Two switches: what is plugged into one reaches all of one plane and nothing of the other.
make_switches() {
    local plane
    for plane in "${PLANES[@]}"; do
        ip link add "$plane" type bridge
        ip link set "$plane" up
    done
}

write_pid
ip link set lo up
if [[ $NAME = "$UNDERLAY" ]]; then
    make_switches
else
    own_dev
    own_folders
    own_sys
    own_identity
fi
touch -- "$STATE/$NAME.booted"
exec tini -- sleep infinity
