#!/usr/bin/env bash
# Undoes what setup.sh did to this machine, and nothing else: it goes by the record in /var/lib/testbedos-setup. What was
# there before, what was changed since and what others need stays. Data is deleted only after asking.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ARGUMENTS=("$@")
# shellcheck source=setup/lib.sh
. "$ROOT/setup/lib.sh"
# shellcheck source=setup/packages.sh
. "$ROOT/setup/packages.sh"
# shellcheck source=setup/micro.sh
. "$ROOT/setup/micro.sh"
# shellcheck source=setup/services.sh
. "$ROOT/setup/services.sh"
# shellcheck source=setup/server.sh
. "$ROOT/setup/server.sh"
# shellcheck source=setup/remove.sh
. "$ROOT/setup/remove.sh"

usage() {
    cat <<'END'
Usage: ./teardown.sh [--yes] [--dry-run]

Takes testbeds down, stops the server and the services that setup.sh started, and removes what setup.sh installed:
binaries, units, group, settings of Open vSwitch, packages, apt source, Rust toolchain. It asks before it deletes data.

Options
  --yes        answer every question with yes, also those about data
  --dry-run    say what would be done and change nothing
  -h, --help   this text

Without a terminal and without --yes, data stays.
END
}

parse() {
    YES=no
    local word
    for word in "$@"; do
        case $word in
            --yes | -y) YES=yes ;;
            --dry-run) DRY_RUN=yes ;;
            -h | --help) usage; exit 0 ;;
            *) printf 'error: unknown argument %s\n\n' "$word" >&2; usage >&2; exit 2 ;;
        esac
    done
}

ask() { # QUESTION; its default is no
    if [[ $YES = yes ]]; then note "$1 yes (--yes)"; return 0; fi
    if dry_run; then echo "would ask: $1"; return 0; fi
    if [[ ! -t 0 ]]; then note "$1 no (nobody to ask; --yes would do it)"; return 1; fi
    local answer
    read -r -p "    $1 [y/N] " answer || return 1
    [[ $answer = [yY]* ]]
}

main() {
    parse "$@"
    become_root "$ROOT/teardown.sh" "${ARGUMENTS[@]}"
    if [[ ! -d $STATE_DIR && ! -d $SERVICES_DIR ]]; then
        say "Nothing to undo: setup.sh has left no record in $STATE_DIR"
        return 0
    fi
    take_testbeds_down
    find_other_guests
    say "Stopping the server"
    remove_systemd_service
    stop_server
    say "Taking settings of Open vSwitch back"
    remove_uplinks
    stop_ovn_controller
    unconfigure_ovs
    services_stop
    remove_datapath_device
    say "Removing files"
    remove_files
    remove_data
    remove_caches
    remove_rust
    remove_packages
    remove_apt_source
    remove_groups
    forget_everything
    dry_run || say "Done"
}

main "$@"
