# shellcheck shell=dash disable=SC1007,SC2015,SC2086,SC2154,SC3045 # one script in parts: variables of lib.sh and boot; busybox read has -t
# What the guest's scripts share. Everything read from the seed or from DHCP is hostile text: it is checked or quoted,
# never evaluated. Builtins are preferred: under emulation each new process costs several milliseconds.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=vt102
umask 022
run=/run/testbedos

# say WORDS... : one line on the console.
say() {
    printf 'testbed guest: %s\n' "$*" >/dev/console
}

# only CHARACTERS TEXT : true when the text is not empty and has no other characters (a bracket expression's inside).
only() {
    case $2 in '' | *[!$1]*) return 1 ;; esac
}

# is_name TEXT : true for what may be a host's name.
is_name() {
    only 'A-Za-z0-9.-' "$1" && case $1 in [.-]*) return 1 ;; esac
}

# is_link TEXT : true for what may be an interface's name.
is_link() {
    only 'A-Za-z0-9_.-' "$1" && [ ${#1} -le 15 ] && case $1 in . | .. | -*) return 1 ;; esac
}

# is_address TEXT : true for what looks like an address or a prefix.
is_address() {
    only '0-9a-fA-F:./' "$1"
}

# scalar LINE : the value behind the first `: ` or `- ` of a line, without its double quotes, in $value.
scalar() {
    value=${1#*[:-] }
    case $value in '"'*'"') value=${value#?} value=${value%?} ;; esac
}

# resolver LINK WORD... : remembers the lines of a link for resolv.conf and writes the file anew. No words: forgets them.
resolver() {
    dns_link=$1
    shift
    : >"$run/dns.$dns_link"
    for dns_word in "$@"; do
        case $dns_word in
        search=*) is_name "${dns_word#search=}" && echo "search ${dns_word#search=}" >>"$run/dns.$dns_link" ;;
        *) is_address "$dns_word" && echo "nameserver $dns_word" >>"$run/dns.$dns_link" ;;
        esac
    done
    {
        for dns_file in "$run"/dns.*; do
            while read -r dns_line; do echo "$dns_line"; done <"$dns_file"
        done
        # Names that nobody knows may get no answer at all.
        echo 'options timeout:1 attempts:2'
    } >/etc/resolv.conf.new
    mv /etc/resolv.conf.new /etc/resolv.conf
}

# page : writes the test page, unless someone put another one there.
page() {
    [ -d /srv/www ] || return 0
    [ ! -e /srv/www/index.html ] || cmp -s /srv/www/index.html "$run/page" || return 0
    {
        read -r page_host </etc/hostname
        printf '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>%s</title></head>\n' "$page_host"
        printf '<body>\n<h1>%s</h1>\n<p>A guest of a testbed.</p>\n<ul>\n' "$page_host"
        ip -o addr show scope global | while read -r _ page_link _ page_address _; do
            printf '<li>%s %s</li>\n' "$page_link" "$page_address"
        done
        printf '</ul>\n</body>\n</html>\n'
    } >"$run/page.new"
    mv "$run/page.new" "$run/page"
    cp "$run/page" /srv/www/index.html
}
