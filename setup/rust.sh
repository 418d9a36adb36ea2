# shellcheck shell=bash
# The Rust toolchain: used where it is there and new enough, installed through rustup where not. Sourced by setup.sh.

find_cargo() {
    local home
    home=${CARGO_HOME:-$(builder_home)/.cargo}
    case :$PATH: in
        *":$home/bin:"*) ;;
        *) if [[ -d $home/bin ]]; then PATH=$home/bin:$PATH; fi ;;
    esac
    export PATH
}

toolchain_channel() { sed -n 's/^channel *= *"\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml"; }
wanted_rust() { sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$ROOT/Cargo.toml"; }

cargo_usable() { # there, and not older than the workspace asks for
    find_cargo
    have cargo || return 1
    local version
    version=$(cargo_version | awk '{print $2}')
    [[ -n $version ]] || return 1
    [[ $(printf '%s\n%s\n' "$(wanted_rust)" "$version" | sort -V | sed -n 1p) = "$(wanted_rust)" ]]
}
# Asking must not install: rustup's cargo would fetch a toolchain that is not there, silently.
cargo_version() {
    if have rustup && ! as_builder_now rustup toolchain list 2>/dev/null | grep "^${RUSTUP_TOOLCHAIN:-$(toolchain_channel)}" >/dev/null; then
        return 0
    fi
    (cd "$ROOT" && as_builder_now cargo --version 2>/dev/null) || true
}
as_builder_now() { DRY_RUN=no as_builder "$@"; }

need_rust() {
    if cargo_usable; then
        say "Rust: $(cargo_version)"
    elif dry_run; then
        echo "would install: rustup and the Rust toolchain $(toolchain_channel)"
    else
        step "Installing the Rust toolchain $(toolchain_channel) through rustup" install_rust
    fi
}

install_rust() {
    start_log
    if ! have rustup; then
        if available rustup && ! installed cargo; then install_packages rustup; else install_rustup; fi
        find_cargo
    fi
    local channel home
    channel=$(toolchain_channel)
    home=${RUSTUP_HOME:-$(builder_home)/.rustup}
    [[ -d $home/toolchains ]] || record rust "$home"
    # Under a limit: rustup waits for a silent network without one.
    as_builder timeout 1800 rustup toolchain install "$channel" --profile minimal --component clippy \
        --component rustfmt >>"$LOG" 2>&1 \
        || rust_failed "the toolchain $channel could not be installed through rustup"
    find_cargo
    cargo_usable || rust_failed "cargo is missing or older than $(wanted_rust) even with the toolchain $channel"
}

rust_failed() { # WHAT
    tail -n 5 "$LOG" | sed 's/^/    | /' >&2
    local found
    found=$(cargo_version)
    if [[ -n $found ]]; then note "found: $found, $(command -v cargo)" >&2; fi
    die "$1; see $LOG. Install Rust $(wanted_rust) or newer (with clippy and rustfmt for the tests) and run this again"
}

# The installer itself, checked, instead of the script that would fetch it.
install_rustup() {
    local folder home path new url=https://static.rust-lang.org/rustup/dist/x86_64-unknown-linux-gnu/rustup-init
    folder=$(mktemp -d)
    if ! fetch "$url" "$folder/rustup-init" || ! fetch "$url.sha256" "$folder/sum" \
        || [[ $(cut -c 1-64 "$folder/sum") != $(sha256sum "$folder/rustup-init" | cut -c 1-64) ]]; then
        rm -rf -- "$folder"
        rust_failed "rustup could not be fetched, or not as it was published, from $url"
    fi
    chmod -R a+rx "$folder"
    home=${CARGO_HOME:-$(builder_home)/.cargo}
    if [[ -d $home ]]; then new=("$home/bin" "$home/env"); else new=("$home"); fi
    for path in "${new[@]}" "${RUSTUP_HOME:-$(builder_home)/.rustup}"; do
        [[ -e $path ]] || record rust "$path" # what was there holds things of the user's
    done
    if ! as_builder "$folder/rustup-init" -y --no-modify-path --profile minimal --default-toolchain none >>"$LOG" 2>&1; then
        rm -rf -- "$folder"
        rust_failed "rustup could not be installed for $(builder)"
    fi
    rm -rf -- "$folder"
}

fetch() { # URL FILE
    curl --proto '=https' --tlsv1.2 --retry 3 --connect-timeout 20 --max-time 300 -sSfL -o "$2" "$1" >>"$LOG" 2>&1
}

need_nextest() {
    find_cargo
    have cargo-nextest && return 0
    if dry_run; then echo "would build: cargo-nextest"; return 0; fi
    step "Building cargo-nextest (some minutes, once)" build_nextest
}

build_nextest() {
    as_builder cargo install --locked cargo-nextest --no-default-features --features default-no-update >>"$LOG" 2>&1 \
        || { tail -n 15 "$LOG" >&2; die "cargo-nextest could not be installed; see $LOG"; }
    record nextest "$(command -v cargo-nextest || echo "${CARGO_HOME:-$(builder_home)/.cargo}/bin/cargo-nextest")"
}
