# shellcheck shell=bash
# `setup.sh demo`: from a bare machine to two guests that reach each other through a router. Its exit status is 0 only if
# they do. Running it again is fine. Sourced by setup.sh.

QUICKSTART=$ROOT/examples/quickstart/kvm-compose.yaml
WEB_ADDRESS=10.0.2.10

demo_testbed() { "$BUILD_DIR/release/testbed" --host "unix:$SERVER_SOCKET" "$@"; }
in_guest() { demo_testbed -p quickstart exec "$1" -- "${@:2}"; }

demo() {
    install_packages "${VIRT_PACKAGES[@]}" "${BASE_PACKAGES[@]}"
    need_rust
    fetch_micro_packages
    step "Building TestbedOS (release)" build_release
    services_start
    make_group
    step "Starting the server" start_server "$BUILD_DIR/release/testbedos-server"
    step "Making the micro image" build_micro_image "$BUILD_DIR/release/testbed"
    if dry_run; then
        echo "would bring up: $QUICKSTART, then show ping and wget between its guests"
        return 0
    fi
    step "Bringing up examples/quickstart" demo_testbed -f "$QUICKSTART" up
    show_quickstart
    what_next
}

show() { # a command as the reader would type it, then what it says
    printf '\n$ %s\n' "$*"
}

# A network's first packets may be lost while addresses are learnt; a second failure is a failure.
twice() { "$@" || { sleep 2; "$@"; }; }

show_quickstart() {
    local client page
    say "Two guests, one router, for real"
    show virsh -c qemu:///system list
    setsid --wait virsh -c qemu:///system list </dev/null # alone, it looks for no agent that could ask for a password
    show testbed -p quickstart ps
    demo_testbed -p quickstart ps
    show testbed -p quickstart exec client -- ping -c 3 "$WEB_ADDRESS"
    twice in_guest client ping -c 3 "$WEB_ADDRESS" || die "guest client does not reach guest web at $WEB_ADDRESS"
    client=$(client_address)
    [[ -n $client ]] || die "guest client has no address in 10.0.1.0/24, so DHCP did not work"
    show testbed -p quickstart exec web -- ping -c 3 "$client"
    twice in_guest web ping -c 3 "$client" || die "guest web does not reach guest client at $client"
    show testbed -p quickstart exec client -- wget -q -O - "http://$WEB_ADDRESS/"
    page=$(twice in_guest client wget -q -O - "http://$WEB_ADDRESS/") || die "the page of guest web cannot be fetched"
    [[ -n $page ]] || die "the page of guest web is empty"
    printf '%s\n' "$page"
}

client_address() {
    in_guest client ip -4 addr show | sed -n 's/.*inet \(10\.0\.1\.[0-9]*\).*/\1/p' | sed -n 1p
}

what_next() {
    local testbed=$BUILD_DIR/release/testbed
    printf '\n'
    say "It works: guests ping each other and the page arrives, through router r1"
    cat <<END
Try next:
  $testbed -p quickstart ps                        guests, addresses, state
  $testbed -p quickstart exec client -- ip route   a command in a guest
  $testbed -p quickstart logs                      what was done, action by action
  $testbed -f examples/quickstart/kvm-compose.yaml down       take it down
  ./setup.sh                                       install TestbedOS as a service
  ./teardown.sh                                    undo everything
END
}
