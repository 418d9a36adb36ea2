# shellcheck shell=dash disable=SC1007,SC2015,SC2086,SC2154,SC3045,SC3060 # one script in parts: variables of lib.sh and boot; busybox has read -t and replaces in strings
# Applies the seed's network-config (version 2, in the one layout that the server writes). Without one: DHCP everywhere.

leases=$run/leases
asked=0
aside=0

# link_of MAC : the interface with this address, in $link; empty when there is none.
link_of() {
    link=
    for link_path in /sys/class/net/*; do
        read -r link_mac <"$link_path/address"
        [ "$link_mac" = "$1" ] && link=${link_path##*/} && return 0
    done
    return 1
}

# link_rename MAC NAME : gives the interface its name; one that has it already steps aside and is renamed later by its own MAC.
link_rename() {
    rename_to=$2
    only '0-9a-f:' "$1" && is_link "$rename_to" || { say "network-config: not an interface: $1 $2"; return 0; }
    link_of "$1" || { say "network-config: no interface has the address $1"; return 0; }
    [ "$link" = "$rename_to" ] && return 0
    if [ -e "/sys/class/net/$rename_to" ]; then
        aside=$((aside + 1))
        ip link set dev "$rename_to" down
        ip link set dev "$rename_to" name "aside$aside"
    fi
    ip link set dev "$link" down
    ip link set dev "$link" name "$rename_to"
}

# dhcp LINK : asks for an address for ever, in the background.
dhcp() {
    asked=$((asked + 1))
    ip link set dev "$1" up
    (
        while :; do
            udhcpc -f -i "$1" -t 4 -T 1 -A 1 -s /etc/testbedos/dhcp -x "hostname:$host" -O mtu -O staticroutes
            sleep 1
        done
    ) </dev/null >/dev/null 2>&1 &
    echo "$!" >"$run/dhcp.$1"
}

# dhcp6 LINK : asks for an IPv6 address for ever, in the background.
dhcp6() {
    if ! command -v dhcp6c >/dev/null; then
        say "network-config: $1: this image has no DHCPv6 client"
        return 0
    fi
    asked=$((asked + 1))
    ip link set dev "$1" up
    # dhcp6c starts its script with an environment of its own, which does not name the interface.
    printf '#!/bin/sh\nexec /etc/testbedos/dhcp6 %s\n' "$1" >"$run/dhcp6.$1" && chmod 755 "$run/dhcp6.$1"
    printf 'interface %s { send ia-na 1; request domain-name-servers; script "%s"; };\nid-assoc na 1 { };\n' \
        "$1" "$run/dhcp6.$1" >"$run/dhcp6.$1.conf"
    (
        while :; do
            dhcp6c -f -c "$run/dhcp6.$1.conf" -p "$run/dhcp6.$1.pid" "$1"
            sleep 1
        done </dev/null >/dev/null 2>&1
    ) &
}

# advertised LINK : notes in the background when the interface made its address of a router's advertisement.
advertised() {
    asked=$((asked + 1))
    (
        for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do
            while read -r _ _ _ ra_scope _ ra_link; do
                [ "$ra_link $ra_scope" = "$1 00" ] || continue
                [ -p "$leases" ] && echo "$1" 1<>"$leases"
                exit 0
            done </proc/net/if_inet6
            usleep 200000
        done
    ) </dev/null >/dev/null 2>&1 &
}

# network_names FILE : the interfaces' names, and whether they listen to routers, which they ask as soon as they are up.
network_names() {
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        '      macaddress: '*) scalar "$line" && mac=$value ;;
        '    set-name: '*) scalar "$line" && named=$value && link_rename "$mac" "$value" ;;
        '    accept-ra: '*)
            scalar "$line"
            case $value in true) value=1 ;; *) value=0 ;; esac
            is_link "$named" && [ -e "/sys/class/net/$named" ] && echo "$value" >"/proc/sys/net/ipv6/conf/$named/accept_ra"
            ;;
        esac
    done <"$1"
}

# network_apply FILE : addresses, routes, MTU, resolvers, line by line.
network_apply() {
    link= section= servers=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        '  '[!\ ]*) link= servers= ;;
        '    set-name: '*)
            scalar "$line"
            is_link "$value" && [ -e "/sys/class/net/$value" ] && link=$value || continue
            echo 0 >"/proc/sys/net/ipv6/conf/$link/accept_dad"
            ip link set dev "$link" up
            ;;
        '    mtu: '*) scalar "$line" && only 0-9 "$value" && apply link set dev "$link" mtu "$value" ;;
        '    dhcp4: true') [ -n "$link" ] && dhcp "$link" ;;
        '    dhcp6: true') [ -n "$link" ] && dhcp6 "$link" ;;
        '    ipv6-address-generation: eui64') [ -n "$link" ] && advertised "$link" ;;
        '    '[a-z]*:) section=${line#    } ;;
        '      - to: '*) scalar "${line#*to}" && to=$value ;;
        '        scope: link') [ -n "$link" ] && route "$to" link ;;
        '        via: '*) scalar "$line" && is_address "$value" && route "$to" "$value" ;;
        '      - '*) scalar "$line" && [ "$section" = addresses: ] && is_address "$value" && apply addr add "$value" dev "$link" ;;
        '        - '*)
            scalar "$line"
            [ "$section" = nameservers: ] && [ -n "$link" ] && servers="$servers $value" && resolver "$link" $servers
            ;;
        esac
    done <"$1"
}

# apply WORDS... : one `ip` command for $link; a failure is told, and the rest goes on.
apply() {
    [ -n "$link" ] || return 0
    apply_error=$(ip "$@" 2>&1) || say "network-config: ip $*: $apply_error"
}

# route TO VIA : one route of $link; VIA may be `link`, for what is on it.
route() {
    [ "$1" = default ] || is_address "$1" || return 0
    case $2 in
    link) apply route add "$1" dev "$link" scope link ;;
    *:*) apply -6 route add "$1" via "$2" dev "$link" ;;
    *) apply route add "$1" via "$2" dev "$link" ;;
    esac
}

# network_start FILE : applies what is static and starts to ask for the rest.
network_start() {
    mkfifo "$leases"
    exec 3<>"$leases"
    ip link set dev lo up
    if [ -f "$1" ]; then
        network_names "$1"
        network_apply "$1"
    else
        for link_path in /sys/class/net/*; do
            [ -e "$link_path/device" ] && dhcp "${link_path##*/}"
        done
    fi
}

# network_wait : waits for the first lease of each interface that asked for one, at most 5 s in all.
network_wait() {
    read -r up _ </proc/uptime
    limit=$((${up%%.*} + 5))
    while [ "$asked" -gt 0 ] && [ "$limit" -gt "${up%%.*}" ]; do
        read -r -t $((limit - ${up%%.*})) _ <&3 && asked=$((asked - 1))
        read -r up _ </proc/uptime
    done
    [ "$asked" = 0 ] || say "$asked interfaces have no lease yet and go on asking"
    rm "$leases"
    exec 3<&-
}
