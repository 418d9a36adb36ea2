# shellcheck shell=bash
# Packages: which ones each distribution needs, and installing only those that are missing, so that they can be removed
# again. Sourced by setup.sh.
# shellcheck disable=SC2034 # the lists are for the files beside this one

VIRT_PACKAGES=(qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients libvirt-dev)
BASE_PACKAGES=(openvswitch-switch ovn-central ovn-host busybox-static dropbear-bin qemu-guest-agent
    ethtool iproute2 tini kmod jq pkg-config gcc libc6-dev curl ca-certificates)
TEST_PACKAGES=(shellcheck genisoimage openssl iperf3 tshark docker.io)
BROWSER_PACKAGES=(chromium chromium-driver fonts-dejavu-core)
BACKPORTS_SOURCE=/etc/apt/sources.list.d/testbedos-backports.sources
APT_OPTIONS=(-y --no-install-recommends --no-remove -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3
    -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold)

distribution() { # e.g. debian-12
    # shellcheck disable=SC1091
    (. /etc/os-release && printf '%s-%s\n' "${ID:-unknown}" "${VERSION_ID:-}")
}

has_browser_packages() { [[ $(distribution) != ubuntu-* ]]; } # Ubuntu has Chromium as a snap only

check_distribution() {
    have apt-get || die "only Debian 12 and 13 and Ubuntu 22.04 and 24.04 are supported: there is no apt-get here"
    [[ $(dpkg --print-architecture) = amd64 ]] || die "only amd64 machines are supported, this is $(dpkg --print-architecture)"
    case $(distribution) in
        debian-12 | debian-13 | ubuntu-22.04 | ubuntu-24.04) ;;
        *) warn "$(distribution) is not among the supported distributions; trying the package names of Debian 13" ;;
    esac
}

# Names that differ from the lists above, for one distribution.
package_name() {
    case $(distribution):$1 in
        debian-13:pkg-config) echo pkgconf ;;
        *) echo "$1" ;;
    esac
}

installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) = installed ]]; }
available() { apt-cache policy "$1" 2>/dev/null | grep '^  Candidate: [^(]' >/dev/null; }

missing_packages() { # of the names given, those not installed, one a line
    local package
    for package in "$@"; do
        package=$(package_name "$package")
        # They conflict, and the user's busybox is the user's: the micro packages bring a static one then.
        if [[ $package = busybox-static ]] && installed busybox; then continue; fi
        # Docker may come from elsewhere, and Debian's would want to replace it.
        if [[ $package = docker.io ]] && have dockerd; then continue; fi
        installed "$package" || echo "$package"
    done
}

apt_quiet() { DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 quiet "$@"; }

APT_UPDATED=no
apt_update() {
    [[ $APT_UPDATED = yes ]] && return 0
    APT_UPDATED=yes
    apt_quiet apt-get update -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 \
        || warn "not every package list could be fetched; going on with those there are"
}

# Bookworm's own QEMU and libvirt are old; those of its backports suite are what the project is developed on. Where
# older ones are installed already they stay, and what is missing beside them comes from the same suite.
wants_backports() {
    [[ $(distribution) = debian-12 ]] || return 1
    local package
    for package in "${VIRT_PACKAGES[@]}" libvirt0; do
        installed "$package" || continue
        [[ $(dpkg-query -W -f '${Version}' "$package") = *bpo12* ]] || return 1
    done
}

add_backports() {
    # Not by a package's versions: one that was removed and not purged still counts as a source of its own.
    apt-cache policy | grep -F 'n=bookworm-backports,' >/dev/null && return 0
    local mirror text
    # shellcheck disable=SC2016 # apt's own variable
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
        'Origin: Debian' 'Codename: bookworm' | sed -n 1p)
    # Before the first `apt-get update` no mirror is known by its suite, and a dry run fetches nothing.
    if [[ -z $mirror ]] && dry_run; then echo "would write: $BACKPORTS_SOURCE"; return 0; fi
    [[ -n $mirror ]] || die "no apt source for bookworm is configured, so the mirror for its backports is not known"
    say "Adding the suite bookworm-backports of $mirror ($BACKPORTS_SOURCE)"
    text=$(mktemp)
    printf '# Written by setup.sh of TestbedOS, removed by its teardown.sh\nTypes: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
        "$mirror" bookworm-backports /usr/share/keyrings/debian-archive-keyring.gpg >"$text"
    put_file 0644 "$text" "$BACKPORTS_SOURCE"
    rm -f -- "$text"
    APT_UPDATED=no
    apt_update
}

# Backports are for QEMU and libvirt alone: `-t bookworm-backports` would bring their systemd along. What is built from the
# same source as something that came from there earlier has to come from there too.
write_preferences() { # FILE: ours, then the machine's own
    local sources
    sources=$(dpkg-query -W -f '${db:Status-Status} ${source:Package} ${Version}\n' \
        | awk '$1 == "installed" && $3 ~ /~bpo1[0-9]/ {print "src:" $2}' | sort -u | paste -sd' ')
    printf 'Package: src:qemu src:libvirt src:seabios %s\nPin: release n=bookworm-backports\nPin-Priority: 990\n\n' \
        "$sources" >"$1"
    if [[ -r /etc/apt/preferences ]]; then cat /etc/apt/preferences >>"$1"; fi
}

apt_install() { # apt options and package names; remembers every package that is new, dependencies too
    if dry_run; then run apt-get install "$@"; return 0; fi
    local before after status=0
    before=$(mktemp) after=$(mktemp)
    dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' | sort >"$before"
    apt_quiet apt-get install "${APT_OPTIONS[@]}" "$@" || status=$?
    dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' | sort >"$after"
    local package version
    while read -r package version; do
        if grep -q "^installed $package " "$before"; then
            record upgraded "$package $version"
        else
            record packages "$package"
        fi
    done < <(comm -13 "$before" "$after" | sed -n 's/^installed //p')
    rm -f -- "$before" "$after"
    [[ $status = 0 ]] || die "the packages could not be installed ($*)"
}

install_packages() { # names
    check_distribution
    local missing options=()
    mapfile -t missing < <(missing_packages "$@")
    if [[ ${#missing[@]} = 0 ]]; then say "Packages: all $# installed"; return 0; fi
    step "Fetching the package lists" apt_update
    if wants_backports; then
        if [[ $(missing_packages "${VIRT_PACKAGES[@]}") ]]; then add_backports; fi
        if ! dry_run; then
            mkdir -p "$STATE_DIR"
            write_preferences "$STATE_DIR/preferences"
            options=(-o "Dir::Etc::preferences=$STATE_DIR/preferences")
        fi
    fi
    check_available "${missing[@]}"
    step "Installing ${#missing[@]} packages: ${missing[*]}" apt_install "${options[@]}" "${missing[@]}"
}

check_available() {
    dry_run && return 0
    local package lacking=()
    for package in "$@"; do available "$package" || lacking+=("$package"); done
    [[ ${#lacking[@]} = 0 ]] && return 0
    die "no configured apt source has: ${lacking[*]} (on Ubuntu: add-apt-repository universe)"
}
