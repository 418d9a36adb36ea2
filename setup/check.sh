# shellcheck shell=bash
# `setup.sh test`: everything that must hold before a change is taken. One check that fails does not hide the others: all
# run, and the last lines say how the tests went. Sourced by setup.sh.

FAILED=()

check_everything() {
    exec </dev/null
    prepare_tests
    check "Shell scripts" check_shell_scripts
    check "Format" as_builder cargo fmt --all -- --check
    check "Lints" check_lints
    check_dependencies
    check "Documentation tests" as_builder cargo test --doc --workspace --locked
    step "Building the tests" as_builder cargo nextest run --workspace --locked --profile ci --no-run
    check "Tests" run_tests
    if [[ ${#FAILED[@]} -gt 0 ]]; then
        printf 'error: failed: %s\n' "$(IFS=,; echo "${FAILED[*]}")" >&2
        return 1
    fi
    dry_run || say "Every check and every test passed in $SECONDS s"
}

prepare_tests() { # packages, toolchain, services, the programs and the micro image
    local packages=("${VIRT_PACKAGES[@]}" "${BASE_PACKAGES[@]}" "${TEST_PACKAGES[@]}")
    if has_browser_packages; then packages+=("${BROWSER_PACKAGES[@]}"); fi
    if makes_debian_image; then packages+=("${DEBIAN_IMAGE_PACKAGES[@]}"); fi
    install_packages "${packages[@]}"
    need_rust
    need_nextest
    fetch_micro_packages
    services_start
    cd "$ROOT" || exit
    trap give_back_target EXIT
    step "Building" as_builder cargo build --workspace --locked
    make_test_image
    make_debian_image
}

# Pictures of every page, in two sizes and two colour schemes.
take_screenshots() { # FOLDER
    local folder
    has_browser_packages || die "Chromium is not among the packages of $(distribution)"
    folder=$(realpath -m -- "$1")
    exec </dev/null
    prepare_tests
    run_nextest env TESTBEDOS_SCREENSHOTS="$folder" -- -p testbed --test real_browser every_page
    dry_run || say "The pictures are in $folder"
}

check() { # NAME COMMAND...
    local name=$1 began=$SECONDS; shift
    say "$name"
    if "$@"; then
        dry_run || note "passed, $((SECONDS - began)) s"
    else
        FAILED+=("$name")
        printf 'error: %s failed\n' "$name" >&2
    fi
}

shell_scripts() { # by name or by first line, without what is built
    local file first
    while IFS= read -r -d '' file; do
        if [[ $file != *.sh ]]; then
            IFS= read -r first <"$file" 2>/dev/null || continue
            [[ $first =~ ^#!.*[/\ ](ba|da)?sh([[:space:]]|$) ]] || continue
        fi
        printf '%s\n' "$file"
    done < <(find . \( -name target -o -name .git -o -name node_modules \) -prune -o -type f -print0 2>/dev/null | sort -z) 2>/dev/null
}

check_shell_scripts() {
    local scripts
    mapfile -t scripts < <(shell_scripts)
    if dry_run; then echo "would run: shellcheck -x on ${#scripts[@]} files"; return 0; fi
    shellcheck -x "${scripts[@]}"
}

# The toolchain is the stable one of the day. What a newer one warns of is shown; it says nothing about a change here.
NEWEST_LINTS=1.99
check_lints() {
    local version level=-D
    version=$(cargo_version | awk '{print $2}')
    if [[ $(printf '%s\n%s.999\n' "$version" "$NEWEST_LINTS" | sort -V | tail -n 1) = "$version" ]]; then
        note "clippy $version is newer than the newest used so far ($NEWEST_LINTS.x): its warnings do not count"
        level=-W
    fi
    as_builder cargo clippy --workspace --all-targets --locked --keep-going -- "$level" warnings
}

# Built by the program itself, so that no server has to run; every test run uses the same one. Not below the checkout:
# QEMU runs as a user of its own, for whom a home folder is closed.
make_test_image() {
    export TESTBEDOS_MICRO_PACKAGES=$MICRO_PACKAGES
    export TESTBEDOS_IMAGES_DIR=/var/cache/testbedos/test-images
    export TESTBEDOS_MICRO_EXTRA=/usr/bin/iperf3 # rates are measured from inside guests
    make_dir "$(dirname "$TESTBEDOS_IMAGES_DIR")"
    record trees "$TESTBEDOS_IMAGES_DIR"
    step "Making the micro image" run "$BUILD_DIR/debug/testbedos-server" build-image micro --images-dir "$TESTBEDOS_IMAGES_DIR"
}

# The tests drive libvirt, Open vSwitch and network namespaces: they run as root, with the caller's toolchain.
run_tests() {
    local without=()
    if ! has_browser_packages; then
        note "the pages are not tested in a browser: Chromium is not among the packages of $(distribution)"
        without+=(real_browser real_hostile)
    fi
    if ! dry_run && [[ ! -s $DEBIAN_IMAGE ]]; then
        note "cloud images are not booted: there is no Debian image"
        without+=(real_cloud)
    fi
    local left_out=() # a filter that names no test at all would be refused
    if ((${#without[@]})); then left_out=(-E "not binary(/^($(IFS='|'; echo "${without[*]}"))\$/)"); fi
    run_nextest env TESTBEDOS_DEBIAN_IMAGE="$DEBIAN_IMAGE" -- --workspace "${left_out[@]}"
}

run_nextest() { # COMMAND... -- ARGUMENTS...
    local home command=()
    while [[ $1 != -- ]]; do command+=("$1"); shift; done
    shift
    home=$(builder_home)
    run "${command[@]}" CARGO_HOME="${CARGO_HOME:-$home/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}" \
        cargo nextest run --locked --profile ci "$@"
}

give_back_target() { # what root wrote below target/ belongs to who builds there
    if [[ $(builder) != "$(id -un)" && -d $BUILD_DIR ]] && ! dry_run; then chown -R "$(builder)" "$BUILD_DIR"; fi
}

# Licences and advisories need tools and a database that a machine without the internet lacks.
check_dependencies() {
    if [[ -f $ROOT/deny.toml ]] && have cargo-deny; then
        check "Licences" as_builder cargo deny --offline check licenses bans sources
    else
        note "licences are not checked: $([[ -f $ROOT/deny.toml ]] && echo cargo-deny || echo deny.toml) is not there"
    fi
    if ! have cargo-audit; then
        note "advisories are not checked: cargo-audit is not there"
    elif ! dry_run && ! as_builder cargo audit --quiet >>"$LOG" 2>&1; then
        if as_builder cargo audit --no-fetch --quiet >/dev/null 2>&1; then
            note "advisories: the database could not be renewed, the copy here knows none"
        elif [[ -d ${CARGO_HOME:-$(builder_home)/.cargo}/advisory-db ]]; then
            check "Advisories" as_builder cargo audit --no-fetch
        else
            note "advisories are not checked: their database cannot be fetched"
        fi
    fi
}
