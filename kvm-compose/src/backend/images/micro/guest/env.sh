#!/bin/sh
# shellcheck disable=SC1007,SC1090,SC1091,SC2015,SC2086,SC2154,SC3045 # parts of one script, for busybox ash
# env.sh KEY : prints the value of a variable of the testbed file, exactly. Status 1 when it has none.
case $1 in '' | [0-9]* | *[!A-Za-z0-9_]*)
    echo "usage: $0 KEY" >&2
    exit 2
    ;;
esac
unset "$1"
[ -r /etc/testbedos/environment ] && . /etc/testbedos/environment
eval "[ \"\${$1+set}\" ]" || exit 1
eval "printf %s \"\${$1}\""
