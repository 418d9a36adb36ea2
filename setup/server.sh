# shellcheck shell=bash
# Building TestbedOS, and starting and stopping its server by hand. Sourced by setup.sh and teardown.sh.

BUILD_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
if [[ $BUILD_DIR != /* ]]; then BUILD_DIR=$ROOT/$BUILD_DIR; fi
SERVER_PID=$SERVICES_DIR/testbedos-server.pid
SERVER_LOG=$LOG_DIR/testbedos-server.log

build_release() {
    (cd "$ROOT" && as_builder cargo build --release --locked --workspace)
}

server_answers() {
    [[ -S $SERVER_SOCKET ]] || return 1
    curl --silent --fail --max-time 5 --output /dev/null --unix-socket "$SERVER_SOCKET" http://localhost/api/version
}

server_answers_or_died() {
    local pid
    server_answers && return 0
    pid=$(cut -d' ' -f1 "$SERVER_PID" 2>/dev/null) && [[ -n $pid ]] && ! start_time "$pid" >/dev/null
}

# With its installed units the service is systemd's; without systemd, or before installation, the server is ours.
start_server() { # BINARY
    local binary=$1 pid
    if pid=$(our_pid testbedos-server); then
        if server_answers && [[ $SERVER_PID -nt $binary ]]; then
            note "the server already runs, pid $pid"
            return 0
        fi
        if dry_run; then echo "would restart: the server (pid $pid)"; return 0; fi
        note "restarting the server (pid $pid): it is older than the build"
        stop_server
    elif server_answers; then
        note "a server that setup.sh did not start answers on $SERVER_SOCKET; using that one"
        return 0
    fi
    if dry_run; then echo "would start: $binary master, data in $DATA_DIR, socket $SERVER_SOCKET"; return 0; fi
    export TESTBEDOS_MICRO_PACKAGES=$MICRO_PACKAGES
    start_detached testbedos-server "$binary" master --data-dir "$DATA_DIR" --socket "$SERVER_SOCKET" --log-to-stdout
    if ! wait_until 30 "the server answers on $SERVER_SOCKET (see $SERVER_LOG)" server_answers_or_died \
        || ! server_answers; then
        printf 'error: the server did not start; %s ends with:\n' "$SERVER_LOG" >&2
        tail -n 15 "$SERVER_LOG" | sed 's/^/    | /' >&2
        rm -f -- "$SERVER_PID"
        return 1
    fi
    remember_pid testbedos-server || die "the server died right after its start; see $SERVER_LOG"
    note "the server runs, pid $(our_pid testbedos-server), log $SERVER_LOG"
}

stop_server() { # the one started by hand
    local pid began
    pid=$(our_pid testbedos-server) || { run rm -f -- "$SERVER_PID"; return 0; }
    if dry_run; then echo "would stop: the server (pid $pid)"; return 0; fi
    began=$(start_time "$pid")
    kill -TERM "$pid"
    if ! wait_until 45 "the server (pid $pid) has stopped" gone "$pid" "$began"; then
        kill -KILL "$pid"
        wait_until 10 "the server (pid $pid) is gone after SIGKILL" gone "$pid" "$began"
    fi
    rm -f -- "$SERVER_PID"
}

has_micro_image() { # TESTBED
    "$1" --host "unix:$SERVER_SOCKET" image list -o json | jq -es '[.. | objects | select(.name? == "micro")] | length > 0' >/dev/null
}

build_micro_image() { # TESTBED
    if dry_run; then echo "would run: testbed image build micro, if it is not there"; return 0; fi
    if has_micro_image "$1"; then note "the micro image is there"; return 0; fi
    "$1" --host "unix:$SERVER_SOCKET" image build micro
}
