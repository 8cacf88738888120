# SPDX-License-Identifier: BSD-3-Clause
# tap.sh - for tests written in bash: count, report, and clean up behind.
#
# Sourced. Gives `src` and `bld` (source and build tree), `tmp` (a folder that is
# removed at the end), and the functions below. End with `done_testing`.

src=${PW_SRC:?run this by ./check or make check}
bld=${PW_BUILD:?run this by ./check or make check}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/pinwheel-test.XXXXXX")
trap 'chmod -R u+w "$tmp" 2>/dev/null; rm -rf "$tmp"' EXIT
tests=0
# Jobs of tests do not measure the host, nor write into a home.
export OMPI_MCA_btl_pinwheel_calibrate_ms=0

# Does COMMAND succeed? Where not, what it said follows as comments.
ok() {                  # WHAT COMMAND...
    local what=$1
    shift
    tests=$((tests + 1))
    if "$@" </dev/null >"$tmp/output" 2>&1; then
        echo "ok $tests - $what"
    else
        tail -n 30 "$tmp/output" | sed 's/^/# /'
        echo "not ok $tests - $what"
        return 1
    fi
}

skip() {                # WHAT WHY
    tests=$((tests + 1))
    echo "ok $tests - $1 # SKIP $2"
}

fails() { ! "$@"; }

# Does COMMAND exit with STATUS and print a match of PATTERN?
says() {                # STATUS PATTERN COMMAND...
    local want=$1 pattern=$2 got said
    shift 2
    said=$("$@" 2>&1)
    got=$?
    [ "$got" = "$want" ] && grep -Eq -- "$pattern" <<< "$said" && return
    echo "$said"
    echo "exit status $got, wanted $want and: $pattern"
    return 1
}

done_testing() { echo "1..$tests"; }
