#!/usr/bin/env bash
# Sets TestbedOS up on Debian 12 or 13, Ubuntu 22.04 or 24.04: packages, the services it stands on, the build, and then
# a demonstration, the tests, or an installed service. Everything it does to the machine is written down in
# /var/lib/testbedos-setup, and ./teardown.sh takes exactly that back.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ARGUMENTS=("$@")
# shellcheck source=setup/lib.sh
. "$ROOT/setup/lib.sh"
# shellcheck source=setup/packages.sh
. "$ROOT/setup/packages.sh"
# shellcheck source=setup/micro.sh
. "$ROOT/setup/micro.sh"
# shellcheck source=setup/debian_image.sh
. "$ROOT/setup/debian_image.sh"
# shellcheck source=setup/rust.sh
. "$ROOT/setup/rust.sh"
# shellcheck source=setup/services.sh
. "$ROOT/setup/services.sh"
# shellcheck source=setup/server.sh
. "$ROOT/setup/server.sh"
# shellcheck source=setup/demo.sh
. "$ROOT/setup/demo.sh"
# shellcheck source=setup/check.sh
. "$ROOT/setup/check.sh"
# shellcheck source=setup/install.sh
. "$ROOT/setup/install.sh"

usage() {
    cat <<'END'
Usage: ./setup.sh [COMMAND] [--dry-run]

Commands
  (none)            install as a service: binaries in /usr/local/bin, systemd units, group testbed, completions, man page
  demo              install what is missing, build, start everything, bring up examples/quickstart and show that it works
  test              install what the tests need and run every check and every test
  screenshots DIR   pictures of every page in the browser, put into DIR
  services start    start the real parts (Open vSwitch, OVN, libvirt; Docker if it is there) that are not running
  services stop     stop those that setup.sh started
  services status   say which are running; exit status 3 when one that is needed is not

Options
  --enable          with no command: start the service at boot as well
  --dry-run         say what would be done and change nothing
  -h, --help        this text

Environment
  TESTBEDOS_MICRO_PACKAGES   folder for the micro guest's kernel packages (default /var/cache/testbedos/micro-packages)
  TESTBEDOS_DEBIAN_IMAGE     the tests' Debian cloud image, made when it is not there
                             (default /var/cache/testbedos/debian-12.qcow2)
  CARGO_TARGET_DIR           where to build (default target/)

It runs as root or through sudo. What it does is recorded in /var/lib/testbedos-setup; ./teardown.sh undoes it.
END
}

wrong_use() { printf 'error: %s\n\n' "$1" >&2; usage >&2; exit 2; }

parse() {
    COMMAND='' ENABLE=no
    local word
    for word in "$@"; do
        case $word in
            --dry-run) DRY_RUN=yes ;;
            --enable) ENABLE=yes ;;
            -h | --help) usage; exit 0 ;;
            -*) wrong_use "unknown option $word" ;;
            *) COMMAND+=${COMMAND:+ }$word ;;
        esac
    done
    if [[ $ENABLE = yes && -n $COMMAND ]]; then wrong_use "--enable goes only with the installation as a service"; fi
}

main() {
    parse "$@"
    case $COMMAND in
        '' | demo | test | 'screenshots '* | 'services start' | 'services stop') become_root "$ROOT/setup.sh" "${ARGUMENTS[@]}" ;;
    esac
    case $COMMAND in
        '') install_service "$ENABLE" ;;
        demo) demo ;;
        test) check_everything ;;
        'screenshots '*) take_screenshots "${COMMAND#screenshots }" ;;
        'services start') services_start ;;
        'services stop') services_stop ;;
        'services status') services_status ;;
        *) wrong_use "unknown command: $COMMAND" ;;
    esac
}

main "$@"
