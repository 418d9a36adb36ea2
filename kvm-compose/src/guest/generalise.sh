#!/bin/sh
# Lets a golden guest forget who it is, so that each clone becomes somebody of its own at its first boot.
rm -f /etc/ssh/ssh_host_*
: >/etc/machine-id
[ -L /var/lib/dbus/machine-id ] || rm -f /var/lib/dbus/machine-id
rm -f /var/lib/systemd/random-seed /var/lib/urandom/random-seed
# cloud-init begins anew; what it wrote of this guest's network goes.
rm -rf /var/lib/cloud /var/log/cloud-init.log /var/log/cloud-init-output.log
rm -f /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init /etc/systemd/network/10-cloud-init-*
rm -f /etc/NetworkManager/system-connections/cloud-init-* /etc/udev/rules.d/70-persistent-net.rules
rm -f /var/lib/dhcp/*.leases /var/lib/systemd/network/*
# Marks of scripts that have run: clones run their own. What came from the project stays, and its mark.
own=/var/lib/testbedos-guest
for mark in "$own"/scripts/*; do
    [ "${mark##*/}" = "$(cat "$own/context" 2>/dev/null)" ] || rm -f "$mark"
done
rm -f /etc/testbedos/environment
: >/etc/hostname
command -v fstrim >/dev/null && fstrim -a 2>/dev/null
sync
exit 0
