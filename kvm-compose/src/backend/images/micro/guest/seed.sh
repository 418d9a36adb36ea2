# shellcheck shell=dash disable=SC1007,SC2015,SC2086,SC2154,SC3045,SC3060 # one script in parts: variables of lib.sh and boot; busybox has read -t and replaces in strings
# Reads the NoCloud seed: an ISO 9660 volume with meta-data, network-config, user-data, environment, services.

seed=$run/seed
host=micro

# seed_mount : mounts the first volume that holds a seed.
seed_mount() {
    for seed_device in /dev/vd[a-z] /dev/sr[0-9]; do
        [ -b "$seed_device" ] && mount -t iso9660 -o ro "$seed_device" "$seed" 2>/dev/null || continue
        [ -f "$seed/meta-data" ] && return 0
        umount "$seed"
    done
    return 1
}

# seed_open : finds the seed. A SCSI drive is found a moment after its driver was loaded: wait for it, at most 2 s.
seed_open() {
    seed_mount && return 0
    seed_scsi=
    for seed_device in /sys/bus/virtio/devices/*; do
        [ -e "$seed_device/device" ] && read -r seed_id <"$seed_device/device" && [ "$seed_id" = 0x0008 ] && seed_scsi=1
    done
    if [ -n "$seed_scsi" ] && modprobe -a virtio_scsi sr_mod; then
        for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            seed_mount && return 0
            usleep 100000
        done
    fi
    say 'no seed was found: the name is "micro" and every interface asks for DHCP'
    return 1
}

# seed_close : gives the seed's device back.
seed_close() {
    umount "$seed" 2>/dev/null
}

# seed_name : the host's name.
seed_name() {
    if [ -f "$seed/meta-data" ]; then
        while IFS= read -r line || [ -n "$line" ]; do
            case $line in
            'local-hostname: '*)
                scalar "$line"
                if is_name "$value" && [ ${#value} -le 63 ]; then host=$value; else say 'the seed has no usable local-hostname'; fi
                ;;
            'instance-id: '*) scalar "$line" && printf '%s\n' "$value" >"$run/instance-id" ;;
            esac
        done <"$seed/meta-data"
    fi
    echo "$host" >/proc/sys/kernel/hostname
    echo "$host" >/etc/hostname
    printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$host" >/etc/hosts
}

# seed_environment : the variables of the testbed file. Made by the server, values in single quotes.
seed_environment() {
    [ -f "$seed/environment" ] && (umask 077 && cat "$seed/environment" >/etc/testbedos/environment)
}

# user_list KEY : prints the items of a top-level list of user-data, one a line.
user_list() {
    user_in=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        "$1:") user_in=1 ;;
        '' | '#'*) ;;
        *'- '*)
            [ -n "$user_in" ] || continue
            case ${line%%-*} in *[!\ ]*) user_in= && continue ;; esac
            line=${line#*- }
            case $line in
            '"'*'"')
                # YAML's double quotes: a backslash and a quote become octal escapes first, printf knows the others.
                line=${line#?} line=${line%?}
                line=${line//\\\\/\\0134}
                printf '%b\n' "${line//\\\"/\\0042}"
                ;;
            "'"*"'") line=${line#?} && printf '%s\n' "${line%?}" ;;
            *) printf '%s\n' "$line" ;;
            esac
            ;;
        *) user_in= ;;
        esac
    done <"$seed/user-data"
}

# seed_keys : who may log in over SSH.
seed_keys() {
    [ -f "$seed/user-data" ] || return 0
    (umask 077 && user_list ssh_authorized_keys >>/root/.ssh/authorized_keys)
}

# seed_user_data : runs the seed's script or commands beside everything else; readiness does not wait for them.
seed_user_data() {
    [ -f "$seed/user-data" ] || return 0
    IFS= read -r user_first <"$seed/user-data"
    case $user_first in
    '#!'*) cp "$seed/user-data" "$run/user-data" ;;
    *) user_list runcmd >"$run/user-data" ;;
    esac
    [ -s "$run/user-data" ] || return 0
    (
        case $user_first in
        '#!'*) chmod 700 "$run/user-data" && "$run/user-data" ;;
        *) sh "$run/user-data" ;;
        esac >/var/log/user-data.log 2>&1 </dev/null
        user_status=$?
        echo "$user_status" >"$run/user-data.status"
        [ "$user_status" = 0 ] || say "user-data ended with status $user_status, see /var/log/user-data.log"
    ) &
}
