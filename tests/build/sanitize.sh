# SPDX-License-Identifier: BSD-3-Clause
# sanitize.sh - run the unit and nic suites in a sanitized build of their own,
# kept under the build tree so that only what changed is built again.

give_up() {             # LOG WHY
    tail -n 30 "$1"
    echo "Bail out! $2"
    exit 1
}

# The TAP of an inner run, each test named for its program.
retell() {              # TESTS...
    local t
    for t; do
        sed -n "s,^1\.\.0 # SKIP,ok - $t # SKIP,p" "$t.log" 2>/dev/null | grep . && continue
        grep -Eq '^(not )?ok' "$t.log" 2>/dev/null ||
            { echo "not ok - $t gave no result"; continue; }
        sed -E -e '/^(PASS|FAIL|SKIP|ERROR): /d' -e '/^(not )?ok/!{/^1\.\./d; s/^/# /}' \
            -e "s,^((not )?ok) ?[0-9]* *-? *,\1 - $t: ," "$t.log"
    done | awk '/^(not )?ok/ { n++ } { print } END { print "1.." n + 0 }'
}

sanitized() {           # SANITIZERS
    local dir=$PW_BUILD/sanitize-${1%%,*} tests programs t
    mkdir -p "$dir" && cd "$dir" || exit 1
    [ -e Makefile ] || "$PW_SRC/configure" --enable-sanitize="$1" CFLAGS="-O1 -g1" \
        >configure.out 2>&1 || give_up configure.out "configure --enable-sanitize=$1 failed"
    # The conformance suite, which takes longest, and the units: the others time things,
    # watch memory that a sanitizer has uses for, or preload. What a broken NIC makes of
    # the conformance suite is no business of theirs, and how soon a fault shows depends
    # on time, which they stretch.
    make -s show-tests >show-tests.out
    mapfile -t tests < <(grep '^tests/nic/' show-tests.out | grep -v suite_can_fail
                         grep -E '^tests/(unit|tools)/' show-tests.out)
    [ ${#tests[@]} != 0 ] || { echo "1..0 # SKIP no unit tests (Debian package libcriterion-dev)"; return; }
    # What runs, and nothing else.
    programs=(tests/nic/conformance hooks_object.la)
    for t in "${tests[@]}"; do [ ! -e "$PW_SRC/$t.c" ] || programs+=("$t"); done
    make -j2 config.h "${programs[@]}" >make.out 2>&1 ||
        give_up make.out "the build with -fsanitize=$1 failed"

    export UBSAN_OPTIONS=print_stacktrace=1
    # A process may end with a NIC open, and then one of its threads is not joined. What a
    # send(2) has read is noted when it has returned: the answer may be there by then, and
    # the memory be written to again, which is no race.
    local tsan=halt_on_error=1:second_deadlock_stack=1:report_thread_leaks=0:intercept_send=0
    export TSAN_OPTIONS=$tsan
    # libfabric and UCX are not instrumented, and take most of the time; tests/unit/ofi and
    # ucx run.
    export PW_TEST_WITHOUT_NIC=ofi,ucx
    # ThreadSanitizer refuses some layouts that the kernel picks at random.
    local fixed=
    ! setarch -R true 2>/dev/null || fixed="setarch -R"
    for t in "${tests[@]}"; do rm -f "$t.log"; done
    # By its inner target, with nothing to build first: "check" would build all programs.
    $fixed make -j2 -k check-TESTS check_PROGRAMS= check_LTLIBRARIES= TESTS="${tests[*]}" \
        >check.out 2>&1
    retell "${tests[@]}"
}
