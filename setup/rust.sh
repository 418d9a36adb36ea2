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

cargo_usable() { # there, with clippy and rustfmt, and not older than the workspace asks for
    find_cargo
    have cargo || return 1
    local version
    version=$(cd "$ROOT" && as_builder_now cargo --version 2>/dev/null | awk '{print $2}') || return 1
    [[ -n $version ]] || return 1
    [[ $(printf '%s\n%s\n' "$(wanted_rust)" "$version" | sort -V | sed -n 1p) = "$(wanted_rust)" ]]
}
as_builder_now() { DRY_RUN=no as_builder "$@"; }

need_rust() {
    if cargo_usable; then
        say "Rust: $(cd "$ROOT" && as_builder_now cargo --version)"
    elif dry_run; then
        echo "would install: rustup and the Rust toolchain $(toolchain_channel)"
    else
        step "Installing the Rust toolchain $(toolchain_channel) through rustup" install_rust
    fi
}

install_rust() {
    if ! have rustup; then
        if available rustup && ! installed cargo; then install_packages rustup; else install_rustup_by_script; fi
        find_cargo
    fi
    local channel home
    channel=$(toolchain_channel)
    home=${RUSTUP_HOME:-$(builder_home)/.rustup}
    [[ -d $home/toolchains ]] || record rust "$home"
    as_builder rustup toolchain install "$channel" --profile minimal --component clippy --component rustfmt >>"$LOG" 2>&1 \
        || { tail -n 15 "$LOG" >&2; die "the toolchain $channel could not be installed; see $LOG"; }
    find_cargo
    cargo_usable || die "cargo is missing or older than $(wanted_rust) even after installing the toolchain $channel"
}

install_rustup_by_script() {
    local script user
    script=$(mktemp)
    user=$(builder)
    quiet curl --proto '=https' --tlsv1.2 --retry 3 -sSfL -o "$script" https://sh.rustup.rs \
        || die "rustup could not be fetched; install Rust $(wanted_rust) or newer and run this again"
    chmod 0644 "$script"
    record rust "${CARGO_HOME:-$(builder_home)/.cargo}"
    record rust "${RUSTUP_HOME:-$(builder_home)/.rustup}"
    as_builder sh "$script" -y --no-modify-path --profile minimal --default-toolchain none >>"$LOG" 2>&1 \
        || die "rustup could not be installed for $user; see $LOG"
    rm -f -- "$script"
}

need_nextest() {
    find_cargo
    have cargo-nextest && return 0
    if dry_run; then echo "would run: cargo install --locked cargo-nextest"; return 0; fi
    step "Building cargo-nextest (some minutes, once)" build_nextest
}

build_nextest() {
    as_builder cargo install --locked cargo-nextest >>"$LOG" 2>&1 \
        || { tail -n 15 "$LOG" >&2; die "cargo-nextest could not be installed; see $LOG"; }
    record nextest "$(command -v cargo-nextest || echo "${CARGO_HOME:-$(builder_home)/.cargo}/bin/cargo-nextest")"
}
