#!/bin/sh
# Makes a clone somebody of its own: its name, and what a golden image does not have.
name='{hostname}'
if [ "$(cat /proc/sys/kernel/hostname)" != "$name" ]; then
    echo "$name" >/etc/hostname
    echo "$name" >/proc/sys/kernel/hostname
fi
grep -qw -e "$name" /etc/hosts 2>/dev/null || echo "127.0.1.1 $name" >>/etc/hosts
if ! grep -Eq '^[0-9a-f]{32}$' /etc/machine-id 2>/dev/null; then
    if command -v systemd-machine-id-setup >/dev/null; then
        systemd-machine-id-setup
    else
        tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
    fi
fi
if command -v ssh-keygen >/dev/null && [ -d /etc/ssh ] && ! ls /etc/ssh/ssh_host_*_key >/dev/null 2>&1; then
    ssh-keygen -A
    for unit in ssh sshd; do
        command -v systemctl >/dev/null && systemctl try-restart "$unit" 2>/dev/null
    done
fi
exit 0
