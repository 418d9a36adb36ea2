# shellcheck shell=dash disable=SC1007,SC2015,SC2086,SC2154,SC3045 # one script in parts: variables of lib.sh and boot; busybox read has -t
# Starts the services that the seed names: lines of a name and a port.

# services_start FILE
services_start() {
    [ -f "$1" ] || return 0
    while read -r service port _ || [ -n "$service" ]; do
        case $service in '' | '#'*) continue ;; esac
        if ! only 0-9 "$port" || [ ${#port} -gt 5 ] || [ "$port" -lt 1 ] || [ "$port" -gt 65535 ]; then
            say "service $service: not a port: $port"
            continue
        fi
        case $service in
        http) mkdir -p /srv/www && httpd -p "$port" -h /srv/www || say "service http: port $port cannot be had" ;;
        echo) nc -ll -p "$port" -e cat </dev/null >/dev/null 2>&1 & ;;
        *) say "service $service: unknown; there are http and echo" ;;
        esac
    done <"$1"
}
