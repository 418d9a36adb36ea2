# shellcheck shell=bash
# What setup.sh and teardown.sh share: messages, --dry-run, the log, bounded waits, the record of what was done to this
# machine, and running things as the user who called sudo. Sourced, never run.
# shellcheck disable=SC2034 # the names below are for the files that source this one

STATE_DIR=/var/lib/testbedos-setup     # what setup.sh did; teardown.sh undoes exactly this
RUN_DIR=/run/testbedos                 # sockets; does not survive a boot
SERVICES_DIR=$RUN_DIR/services         # one pid file for each service that setup.sh started
LOG_DIR=/var/log/testbedos-setup
LOG=$LOG_DIR/setup.log
DATA_DIR=/var/lib/testbedos
SERVER_SOCKET=$RUN_DIR/testbedos.sock
SERVER_GROUP=testbed
DRY_RUN=${DRY_RUN:-no}

say() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

dry_run() { [[ $DRY_RUN = yes ]]; }
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [[ $(id -u) = 0 ]]; }

# The whole script runs as root: every step of it needs to be, except compiling, which `as_builder` does as the caller.
become_root() {
    is_root && return 0
    dry_run && return 0
    have sudo || die "this must run as root, and there is no sudo: run it as root"
    local keep=CARGO_TARGET_DIR,CARGO_HOME,RUSTUP_HOME,NO_COLOR,http_proxy,https_proxy,no_proxy
    keep+=,TESTBEDOS_MICRO_PACKAGES,TESTBEDOS_DEBIAN_IMAGE,TESTBEDOS_DATA_DIR
    say "Going on as root through sudo"
    exec sudo --preserve-env="$keep" -- "$BASH" "$@"
}

# Under sudo, the user who called it owns the source tree and the Rust toolchain.
builder() {
    if [[ -n ${SUDO_USER:-} && $SUDO_USER != root ]] && is_root; then echo "$SUDO_USER"; else id -un; fi
}
builder_home() { getent passwd "$(builder)" | cut -d: -f6; }
as_builder() {
    local user home
    user=$(builder) home=$(builder_home)
    if [[ $user = "$(id -un)" ]]; then
        run "$@"
    else
        run runuser -u "$user" -- env HOME="$home" PATH="$PATH" "$@"
    fi
}

# run COMMAND...: does it, or only says so.
run() {
    if dry_run; then
        printf 'would run:'; printf ' %q' "$@"; printf '\n'
    else
        "$@"
    fi
}

# quiet COMMAND...: the same with the output in the log, of which a failure shows the end.
quiet() {
    if dry_run; then run "$@"; return; fi
    start_log
    local status=0 before
    before=$([[ ! -f $LOG ]] || wc -l <"$LOG")
    { printf '\n%s $' "$(date -u +%Y%m%dT%H%M%SZ)"; printf ' %q' "$@"; printf '\n'; } >>"$LOG"
    "$@" >>"$LOG" 2>&1 </dev/null || status=$?
    if [[ $status != 0 ]]; then
        tail -n "+$((before + 3))" "$LOG" | tail -n 15 | sed 's/^/    | /' >&2
        printf 'error: %s failed with status %s; the whole output is in %s\n' "$1" "$status" "$LOG" >&2
    fi
    return "$status"
}

start_log() {
    [[ -d $LOG_DIR ]] || mkdir -p "$LOG_DIR"
}

# step TEXT COMMAND...: a headline, the command, and how long it took if that is worth saying.
step() {
    local text=$1 began=$SECONDS; shift
    say "$text"
    "$@"
    local took=$((SECONDS - began))
    if ! dry_run && [[ $took -ge 3 ]]; then note "took $took s"; fi
}

# wait_until SECONDS CONDITION COMMAND...: polls; a failure names the condition and the limit.
wait_until() {
    local limit=$1 condition=$2; shift 2
    local end=$((SECONDS + limit))
    until "$@" >/dev/null 2>&1; do
        if [[ $SECONDS -ge $end ]]; then
            printf 'error: not within %s s: %s\n' "$limit" "$condition" >&2
            return 1
        fi
        sleep 0.2
    done
}

systemd_runs() { [[ -d /run/systemd/system ]]; }

# --- the record of what was done ---

record() { # KIND VALUE: remembers it once
    dry_run && return 0
    recorded "$1" "$2" && return 0
    [[ -d $STATE_DIR ]] || mkdir -p "$STATE_DIR"
    printf '%s\n' "$2" >>"$STATE_DIR/$1"
}
recorded() { [[ -f $STATE_DIR/$1 ]] && grep -Fxq -- "$2" "$STATE_DIR/$1"; }
records() { if [[ -f $STATE_DIR/$1 ]]; then cat -- "$STATE_DIR/$1"; fi; }
forget() { # KIND VALUE
    [[ -f $STATE_DIR/$1 ]] || return 0
    local rest
    rest=$(grep -Fxv -- "$2" "$STATE_DIR/$1" || true)
    if [[ -n $rest ]]; then printf '%s\n' "$rest" >"$STATE_DIR/$1"; else rm -f -- "$STATE_DIR/$1"; fi
}

make_dir() { # creates a folder and its missing parents, remembering each that is new
    local dir=$1
    [[ -d $dir ]] && return 0
    make_dir "$(dirname "$dir")"
    run mkdir -m 0755 -- "$dir"
    record dirs "$dir"
}

# put_file MODE SOURCE TARGET: installs by rename (a running program keeps its old file); what was there before is kept
# aside and comes back with teardown.sh.
put_file() {
    local mode=$1 source=$2 target=$3
    make_dir "$(dirname "$target")"
    if dry_run; then echo "would write: $target"; return 0; fi
    if [[ -e $target ]] && ! records files | cut -f2 | grep -Fx -- "$target" >/dev/null; then
        mkdir -p "$STATE_DIR/saved$(dirname "$target")"
        cp -a -- "$target" "$STATE_DIR/saved$target"
        warn "$target was there already; it is kept in $STATE_DIR/saved and teardown.sh puts it back"
    fi
    install -m "$mode" -- "$source" "$target.new"
    mv -f -- "$target.new" "$target"
    local line
    line=$(records files | awk -F'\t' -v t="$target" '$2 == t')
    if [[ -n $line ]]; then forget files "$line"; fi
    record files "$(sha256sum -- "$target" | cut -d' ' -f1)	$target"
}

make_group() {
    getent group "$SERVER_GROUP" >/dev/null && return 0
    run groupadd --system "$SERVER_GROUP"
    record groups "$SERVER_GROUP"
}
