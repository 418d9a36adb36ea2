# shellcheck shell=bash
# A small Debian with cloud-init, OpenSSH and the guest agent as a disk image, made of packages: what the tests take for a
# publisher's cloud image. Nothing is mounted: the loader writes into a file (syslinux), and so does mke2fs. Sourced by
# setup.sh.

# shellcheck disable=SC2034 # for the files beside this one
DEBIAN_IMAGE_PACKAGES=(mmdebstrap fdisk syslinux syslinux-common mtools dosfstools e2fsprogs)
# net-tools: what cloud-init writes for ifupdown sets routes by route(8).
DEBIAN_IMAGE_CONTENT=linux-image-cloud-amd64,systemd-sysv,udev,dbus,cloud-init,cloud-guest-utils,openssh-server,qemu-guest-agent
DEBIAN_IMAGE_CONTENT+=,iproute2,net-tools,iputils-ping,isc-dhcp-client,netbase,ifupdown,e2fsprogs,kmod,procps,ca-certificates,wget
# The first partition holds the loader and the kernel, the second what is mounted as the root; it comes last, so that it grows.
DEBIAN_BOOT_MIB=64
DEBIAN_ROOT_MIB=1400

DEBIAN_IMAGE=${TESTBEDOS_DEBIAN_IMAGE:-/var/cache/testbedos/debian-12.qcow2}

# Debian trusts Debian's keys; another distribution would need them first.
makes_debian_image() { [[ $(distribution) = debian-* ]]; }

make_debian_image() {
    local file=$DEBIAN_IMAGE work
    if [[ -s $file ]] || ! makes_debian_image; then return 0; fi
    if dry_run; then echo "would make a Debian cloud image: $file"; return 0; fi
    make_dir "$(dirname "$file")"
    work=$(mktemp -d "$file.partial.XXXXXX")
    say "Making a Debian cloud image, a minute or two"
    if build_debian_image "$work"; then
        chmod 0644 "$work/disk.qcow2"
        mv -- "$work/disk.qcow2" "$file"
        rm -rf -- "$work"
        record trees "$file"
    else
        rm -rf -- "$work"
        warn "the Debian cloud image could not be made"
    fi
}

build_debian_image() { # FOLDER
    local work=$1 root=$1/root kernel
    quiet debian_root "$root" || return 1
    kernel=$(basename "$root"/boot/vmlinuz-*) || return 1
    quiet debian_disk "$work" "${kernel#vmlinuz-}" || return 1
    quiet qemu-img convert -c -O qcow2 "$work/disk.raw" "$work/disk.qcow2"
}

debian_root() { # FOLDER
    local root=$1 files
    files=$(mktemp -d) || return 1
    debian_files "$files"
    # What concerns the initial RAM disk must be there before the kernel is unpacked.
    # shellcheck disable=SC2016 # mmdebstrap says what $1 is
    mmdebstrap --quiet --mode=root --variant=minbase --include="$DEBIAN_IMAGE_CONTENT" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='force-confold' --aptopt='Acquire::Languages "none"' \
        --aptopt='Acquire::Retries "3"' --essential-hook="cp -a '$files'/. \"\$1\"/" \
        --customize-hook='chroot "$1" passwd --lock root' \
        bookworm "$root" || return 1
    rm -rf -- "$files"
    rm -rf -- "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/etc/ssh/ssh_host_*
    : >"$root/etc/machine-id"
}

debian_files() { # FOLDER: files that stand in the image
    local files=$1 unit
    mkdir -p "$files"/etc/{cloud/cloud.cfg.d,initramfs-tools/conf.d,systemd/system,systemd/journald.conf.d}
    printf 'LABEL=rootfs / ext4 defaults,noatime 0 1\n' >"$files/etc/fstab"
    # What a virtio root needs, and no more: it is unpacked by a processor that is translated.
    printf 'MODULES=list\nCOMPRESS=gzip\n' >"$files/etc/initramfs-tools/conf.d/small"
    printf 'virtio_pci\nvirtio_blk\nvirtio_scsi\nvirtio_net\next4\n' >"$files/etc/initramfs-tools/modules"
    printf '[Journal]\nStorage=volatile\n' >"$files/etc/systemd/journald.conf.d/volatile.conf"
    cat >"$files/etc/cloud/cloud.cfg.d/90-image.cfg" <<'END'
datasource_list: [NoCloud, None]
apt: {preserve_sources_list: true}
ssh_deletekeys: true
ssh_genkeytypes: [ed25519]
END
    for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
        dpkg-db-backup.timer systemd-timesyncd.service; do
        ln -sf /dev/null "$files/etc/systemd/system/$unit"
    done
}

debian_disk() { # FOLDER KERNEL
    local work=$1 kernel=$2 root=$1/root disk=$1/disk.raw boot=$1/boot.raw start=$((DEBIAN_BOOT_MIB + 1))
    truncate -s "$((start + DEBIAN_ROOT_MIB + 1))M" "$disk"
    printf 'label: dos\nstart=1MiB, size=%sMiB, type=c, bootable\nstart=%sMiB, size=%sMiB, type=83\n' \
        "$DEBIAN_BOOT_MIB" "$start" "$DEBIAN_ROOT_MIB" | sfdisk -q "$disk" || return 1
    truncate -s "${DEBIAN_BOOT_MIB}M" "$boot"
    mkfs.vfat -n BOOT "$boot" || return 1
    cat >"$work/syslinux.cfg" <<END
DEFAULT linux
PROMPT 0
TIMEOUT 0
LABEL linux
 LINUX /vmlinuz
 INITRD /initrd
 APPEND root=LABEL=rootfs ro console=ttyS0 quiet net.ifnames=0
END
    mcopy -i "$boot" "$work/syslinux.cfg" ::/syslinux.cfg || return 1
    mcopy -i "$boot" "$root/boot/vmlinuz-$kernel" ::/vmlinuz || return 1
    mcopy -i "$boot" "$root/boot/initrd.img-$kernel" ::/initrd || return 1
    syslinux --install "$boot" || return 1
    dd if="$boot" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none || return 1
    dd if=/usr/lib/syslinux/mbr/mbr.bin of="$disk" bs=440 count=1 conv=notrunc status=none || return 1
    mke2fs -q -t ext4 -L rootfs -O ^metadata_csum_seed -E "offset=$((start * 1048576))" -d "$root" "$disk" "${DEBIAN_ROOT_MIB}M"
}
