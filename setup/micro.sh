# shellcheck shell=bash
# The packages from which the micro guest image is made: a kernel and its modules, unpacked into a folder and not
# installed, because installing a kernel would change what this machine boots. Sourced by setup.sh.

MICRO_PACKAGES=${TESTBEDOS_MICRO_PACKAGES:-/var/cache/testbedos/micro-packages}

micro_packages_ready() {
    compgen -G "$MICRO_PACKAGES/boot/vmlinuz-*" >/dev/null || return 1
    compgen -G "$MICRO_PACKAGES/lib/modules/*" >/dev/null \
        || compgen -G "$MICRO_PACKAGES/usr/lib/modules/*" >/dev/null || return 1
    [[ -e $MICRO_PACKAGES/bin/busybox || -e $MICRO_PACKAGES/usr/bin/busybox ]] || installed busybox-static
}

kernel_meta_package() {
    case $(distribution) in
        ubuntu-*) echo linux-image-virtual ;;
        *) echo linux-image-cloud-amd64 ;;
    esac
}

# The meta package names the kernel of the day; Ubuntu's modules are in packages of their own.
kernel_packages() {
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
        "$(kernel_meta_package)" 2>/dev/null | grep -E '^linux-(image|modules)-[0-9]' | sort -u
}

# The DHCPv6 client for the guest and its library, which no host needs: unpacked like the kernel.
DHCP6_PACKAGES=(wide-dhcpv6-client libfl2)

fetch_micro_packages() {
    fetch_micro_kernel
    [[ -e $MICRO_PACKAGES/usr/sbin/dhcp6c ]] && return 0
    if dry_run; then
        echo "would unpack into $MICRO_PACKAGES: ${DHCP6_PACKAGES[*]}"
    else
        step "Unpacking for the micro guest: ${DHCP6_PACKAGES[*]}" unpack_dhcp6_client
    fi
}

unpack_dhcp6_client() { # an image without it lacks DHCPv6 and nothing else
    local beside
    beside=$(mktemp -d "$MICRO_PACKAGES.partial.XXXXXX")
    mkdir "$beside/debs" "$beside/root"
    if download_and_unpack "$beside" "${DHCP6_PACKAGES[@]}"; then
        mkdir -p "$MICRO_PACKAGES/usr/sbin"
        cp -a "$beside/root/usr/lib" "$MICRO_PACKAGES/usr/"
        mv "$beside/root/usr/sbin/dhcp6c" "$MICRO_PACKAGES/usr/sbin/dhcp6c"
        chmod -R a+rX "$MICRO_PACKAGES/usr"
    else
        echo "no configured apt source has ${DHCP6_PACKAGES[*]}: micro guests will have no DHCPv6" >&2
    fi
    rm -rf -- "$beside"
}

fetch_micro_kernel() {
    if micro_packages_ready; then return 0; fi
    local packages
    mapfile -t packages < <(kernel_packages)
    if [[ ${#packages[@]} = 0 ]]; then
        apt_update
        mapfile -t packages < <(kernel_packages)
    fi
    if dry_run; then
        echo "would unpack into $MICRO_PACKAGES: ${packages[*]:-what $(kernel_meta_package) depends on}"
        return 0
    fi
    [[ ${#packages[@]} -gt 0 ]] || die "no configured apt source has $(kernel_meta_package), the micro guest's kernel"
    installed busybox-static || packages+=(busybox-static)
    step "Unpacking for the micro guest: ${packages[*]}" unpack_micro_packages "${packages[@]}"
}

unpack_micro_packages() {
    if [[ -d $MICRO_PACKAGES ]]; then
        rmdir -- "$MICRO_PACKAGES" 2>/dev/null \
            || die "$MICRO_PACKAGES exists but holds no kernel with modules: remove it, or set TESTBEDOS_MICRO_PACKAGES"
    fi
    make_dir "$(dirname "$MICRO_PACKAGES")"
    local beside
    beside=$(mktemp -d "$MICRO_PACKAGES.partial.XXXXXX")
    chmod 0755 "$beside"
    mkdir "$beside/debs" "$beside/root"
    download_and_unpack "$beside" "$@" || { rm -rf -- "$beside"; die "the micro guest's packages could not be unpacked"; }
    # Ubuntu keeps kernels readable for root alone; the image is no secret and may be built by another user.
    chmod -R a+rX "$beside/root"
    mv -T -- "$beside/root" "$MICRO_PACKAGES"
    rm -rf -- "$beside"
    micro_packages_ready || die "$MICRO_PACKAGES lacks boot/vmlinuz-* or lib/modules after unpacking $*"
    record trees "$MICRO_PACKAGES"
}

download_and_unpack() { # runs in a condition, where set -e does not hold
    local beside=$1 deb; shift
    if ! (cd "$beside/debs" && apt_quiet apt-get download -o Acquire::Retries=3 "$@"); then
        # The lists may be older than what the mirror holds.
        apt_update
        (cd "$beside/debs" && apt_quiet apt-get download -o Acquire::Retries=3 "$@") || return 1
    fi
    for deb in "$beside"/debs/*.deb; do
        quiet dpkg -x "$deb" "$beside/root" || return 1
    done
}
