# shellcheck shell=dash disable=SC2015,SC2034,SC2086,SC2154,SC3045 # one script in parts: it stands behind lib.sh and network.sh
# Lets a running guest take up a network configuration. The server sends it behind lib.sh and network.sh, the code that a micro
# guest boots with, so it works in guests of any age; and, as far as ip(8) goes, in systems that are no micro guests.

read -r host </etc/hostname

# The server reads what is said.
say() {
    echo "$*"
}

if [ ! -e /etc/testbedos/dhcp ]; then
    # Another system: its own DHCP client is asked, its own resolver is left alone.
    mkdir -p "$run"
    dhcp() {
        ip link set dev "$1" up
        if command -v dhclient >/dev/null; then
            dhclient -nw "$1" </dev/null >/dev/null 2>&1 || say "$1: dhclient failed"
        elif command -v udhcpc >/dev/null; then
            udhcpc -b -i "$1" </dev/null >/dev/null 2>&1 || say "$1: udhcpc failed"
        else
            say "$1: no DHCP client is known here (dhclient, udhcpc): the guest has to ask for an address by itself"
        fi
    }
    resolver() { :; }
fi

# link_drop LINK : ends what asks for addresses on a link, takes away what it has, and sets it down.
link_drop() {
    # The loop around the client first, or it starts the client again.
    [ -s "$run/dhcp.$1" ] && read -r drop_loop <"$run/dhcp.$1" && kill "$drop_loop" 2>/dev/null
    for drop_process in /proc/[0-9]*; do
        drop_line=
        IFS= read -r drop_line <"$drop_process/cmdline"
        case $drop_line in
        "udhcpc-f-i$1-t"*)
            read -r _ _ _ drop_loop _ <"$drop_process/stat" && [ "$drop_loop" -gt 1 ] && kill "$drop_loop"
            kill "${drop_process##*/}"
            ;;
        "dhclient-nw$1" | "udhcpc-b-i$1") kill "${drop_process##*/}" ;;
        esac
    done 2>/dev/null
    rm -f "$run/dhcp.$1" "$run/lease.$1"
    resolver "$1"
    [ -e "/sys/class/net/$1" ] || return 0
    ip addr flush dev "$1" scope global
    ip link set dev "$1" down
}

# part_of FILE LINK : the lines of a file that are about a link.
part_of() {
    part_in=
    while IFS= read -r line; do
        case $line in '  '[!\ ]*)
            part_in=${line#  }
            part_in=${part_in%:}
            ;;
        esac
        [ "$part_in" = "$2" ] && printf '%s\n' "$line"
    done <"$1"
}

# link_keeps FILE LINK : true when a link has exactly the fixed IPv4 addresses and the default route that the file gives it, and
# nothing else does: then it need not be taken down, and no packet is lost.
link_keeps() {
    [ -e "/sys/class/net/$2" ] && [ ! -e "$run/lease.$2" ] && [ ! -e "$run/dhcp.$2" ] || return 1
    keeps_file=$1.keeps keeps_have='' keeps_want='' keeps_route=''
    part_of "$1" "$2" >"$keeps_file"
    while IFS= read -r line; do
        case $line in
        '      macaddress: '*)
            read -r keeps_mac <"/sys/class/net/$2/address"
            scalar "$line" && [ "$value" = "$keeps_mac" ] || return 1
            ;;
        '    dhcp'* | '    accept-ra'* | '      - "'*:*) return 1 ;;
        '      - to: '*) ;;
        '      - '*) scalar "$line" && keeps_want="$keeps_want $value" ;;
        '        via: '*) scalar "$line" && keeps_route=$value ;;
        esac
    done <"$keeps_file"
    rm -f "$keeps_file"
    for keeps_have in $(ip -4 -o addr show dev "$2" scope global | while read -r _ _ _ keeps_address _; do echo "$keeps_address"; done); do
        case "$keeps_want " in *" $keeps_have "*) keeps_want="${keeps_want%% "$keeps_have"*} ${keeps_want#* "$keeps_have"}" ;; *) return 1 ;; esac
    done
    case $keeps_want in *[!\ ]*) return 1 ;; esac
    keeps_have=$(ip route show default dev "$2")
    case $keeps_have in
    '') [ -z "$keeps_route" ] ;;
    *"via $keeps_route "* | *"via $keeps_route") [ -n "$keeps_route" ] ;;
    *) return 1 ;;
    esac
}

# links_wait FILE : waits until every interface that the file names is there, at most 10 s: plugging takes a moment.
links_wait() {
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        wait_for=
        while IFS= read -r line; do
            case $line in '      macaddress: '*) scalar "$line" && link_of "$value" || wait_for="$wait_for $value" ;; esac
        done <"$1"
        [ -n "$wait_for" ] || return 0
        sleep 0.5
    done
    say "no interface with the address$wait_for appeared within 10 s"
    return 1
}

# network_change FILE LINK... : makes the links what the file says; a link that the file does not have gets nothing.
network_change() {
    change_file=$1
    change_failed=0 change_kept=
    shift
    for change_link in "$@"; do
        is_link "$change_link" || continue
        if link_keeps "$change_file" "$change_link"; then
            change_kept="$change_kept $change_link"
            resolver "$change_link"
            # It may have other neighbours now.
            ip neigh flush dev "$change_link" 2>/dev/null
        else
            link_drop "$change_link"
        fi
    done
    links_wait "$change_file" || change_failed=1
    network_names "$change_file"
    for change_link in "$@"; do
        case "$change_kept " in
        *" $change_link "*)
            part_of "$change_file" "$change_link" | while IFS= read -r line; do
                case $line in '    addresses:' | '    routes:' | '      - '* | '        via: '*) ;; *) printf '%s\n' "$line" ;; esac
            done
            ;;
        *) part_of "$change_file" "$change_link" ;;
        esac
    done >"$change_file.part"
    rm -f "$leases"
    mkfifo "$leases"
    exec 3<>"$leases"
    network_apply "$change_file.part"
    # Neighbours learn who has an address now.
    change_link=
    while IFS= read -r line; do
        case $line in
        '    set-name: '*) scalar "$line" && change_link=$value ;;
        '      - "'*.*/*)
            scalar "$line"
            command -v arping >/dev/null && arping -U -c 1 -I "$change_link" "${value%/*}" </dev/null >/dev/null 2>&1 &
            ;;
        esac
    done <"$change_file.part"
    network_wait
    page
    rm -f "$change_file" "$change_file.part"
    return $change_failed
}

network_change "$@"
