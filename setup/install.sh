# shellcheck shell=bash
# `setup.sh` without a command: installs TestbedOS as a service. Sourced by setup.sh.

UNIT_DIR=/etc/systemd/system
SOCKET_UNITS=(testbedos-server.socket testbedos-server-http.socket)

install_service() { # ENABLE: yes or no
    install_packages "${VIRT_PACKAGES[@]}" "${BASE_PACKAGES[@]}"
    need_rust
    fetch_micro_packages
    step "Building TestbedOS (release)" build_release
    services_start
    make_group
    say "Installing binaries, units, completions and the man page"
    put_file 0755 "$BUILD_DIR/release/testbedos-server" /usr/local/bin/testbedos-server
    put_file 0755 "$BUILD_DIR/release/testbedos-relay" /usr/local/bin/testbedos-relay
    put_file 0755 "$BUILD_DIR/release/testbed" /usr/local/bin/testbed
    put_output /usr/local/share/bash-completion/completions/testbed completion bash
    put_output /usr/local/share/zsh/site-functions/_testbed completion zsh
    put_output /usr/local/share/fish/vendor_completions.d/testbed.fish completion fish
    put_output /usr/local/share/man/man1/testbed.1 man
    # Without systemd they are installed as well, for the day this disk boots with it.
    put_file 0644 "$ROOT/packaging/systemd/testbedos-server.service" "$UNIT_DIR/testbedos-server.service"
    local socket
    for socket in "${SOCKET_UNITS[@]}"; do put_file 0644 "$ROOT/packaging/systemd/$socket" "$UNIT_DIR/$socket"; done
    if systemd_runs; then start_with_systemd "$1"; else start_without_systemd "$1"; fi
    step "Making the micro image" build_micro_image /usr/local/bin/testbed
    dry_run || installed_message
}

put_output() { # TARGET ARGUMENTS...: what `testbed ARGUMENTS` prints
    local target=$1 text; shift
    if dry_run; then echo "would write: $target"; return 0; fi
    text=$(mktemp)
    "$BUILD_DIR/release/testbed" "$@" >"$text"
    put_file 0644 "$text" "$target"
    rm -f -- "$text"
}

start_with_systemd() {
    stop_server # one started by hand, by the demo, holds the socket
    put_micro_packages_variable
    run systemctl daemon-reload
    # Sockets are handed over at the start of the service: it has to be down while they come up.
    run systemctl stop testbedos-server.service "${SOCKET_UNITS[@]}"
    run systemctl start testbedos-server.socket
    run systemctl start testbedos-server-http.socket \
        || warn "127.0.0.1:3355 is taken: the server is reached through its Unix socket only"
    run systemctl start testbedos-server.service \
        || die "the service does not start; see: journalctl -u testbedos-server"
    if [[ $1 = yes ]]; then
        quiet systemctl enable testbedos-server.service
        record enabled testbedos-server.service
    fi
    dry_run || wait_until 30 "the server answers on $SERVER_SOCKET (see: journalctl -u testbedos-server)" server_answers
}

put_micro_packages_variable() { # only where it is not the place the server looks in by itself
    [[ -n ${TESTBEDOS_MICRO_PACKAGES:-} && ! -e /etc/default/testbedos-server ]] || return 0
    local text
    text=$(mktemp)
    printf '# Written by setup.sh of TestbedOS\nTESTBEDOS_MICRO_PACKAGES=%s\n' "$MICRO_PACKAGES" >"$text"
    put_file 0644 "$text" /etc/default/testbedos-server
    rm -f -- "$text"
}

start_without_systemd() {
    if [[ $1 = yes ]]; then warn "systemd does not run here, so --enable has no effect"; fi
    step "Starting the server" start_server /usr/local/bin/testbedos-server
}

installed_message() {
    say "Installed. The server answers on $SERVER_SOCKET"
    if [[ $(builder) != root ]]; then
        note "give yourself access (from your next login on): sudo adduser $(builder) $SERVER_GROUP"
    fi
    note "bring up the example: testbed -f $ROOT/examples/quickstart/kvm-compose.yaml up"
    note "check this machine:   testbed doctor"
}
