# SPDX-License-Identifier: BSD-3-Clause
# tap.sh - what the scripts in tests/tools share; sourced by them.
#
# A test is a function whose name tells the story. `story NAME ARGS` runs it and
# prints one result; inside it, a failed `want` says what was wanted.

# What crashes here is meant to, and a core would say so once more on stderr.
ulimit -c 0

# Jobs of tests do not measure the host, nor write into a home.
export OMPI_MCA_btl_pinwheel_calibrate_ms=0

count=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
pwbench=$PW_BUILD/tools/pwbench
pwinfo=$PW_BUILD/tools/pwinfo

story() {
    local name="$*"
    count=$((count + 1))
    failed=
    "$@"
    [ -z "$failed" ] || printf 'not '
    echo "ok $count - ${name//_/ }${failed:+: wanted: $failed}"
}

# want WHAT COMMAND...: the command succeeds.
want() {
    local what=$1
    shift
    "$@" && return
    failed=${failed:-$what}
    echo "# wanted: $what"
    echo "# failed: $*"
    sed 's/^/# stdout: /' "$tmp/out" 2>/dev/null | head -n 40
    sed 's/^/# stderr: /' "$tmp/err" 2>/dev/null | head -n 40
}

skip() {
    count=$((count + 1))
    echo "ok $count - ${1//_/ } # SKIP $2"
}

# run COMMAND...: keeps stdout, stderr and the exit code.
run() {
    "$@" >"$tmp/out" 2>"$tmp/err"
    code=$?
}

says() {                # FILE REGEX
    grep -Eq -- "$2" "$tmp/$1"
}

is() {                  # ACTUAL WANTED
    [ "$1" = "$2" ] || { echo "# got: $1"; return 1; }
}

# Does that process end? One that was told to may be seen for a moment.
gone() {                # PID
    for _ in $(seq 200); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    return 1
}

finish() {
    echo "1..$count"
}
