# SPDX-License-Identifier: BSD-3-Clause
# lib.sh - for the tests of libpinwheel-malloc: run a program with it preloaded.
#
# Sourced. Counts and reports by tests/build/tap.sh.

. "${PW_SRC:?run this by ./check or make check}/tests/build/tap.sh"

# Some abort on purpose, and writing the pool to a core takes a while.
ulimit -c 0

lib=$bld/.libs/libpinwheel-malloc.so
bin=$bld/tests/malloc
deny=$bld/tests/mpi/deny

# A sanitizer has a malloc of its own, which must come first.
if nm -D "$lib" 2>/dev/null | grep -Eq '__(asan|tsan)_init'; then
    echo "1..0 # SKIP a sanitizer's malloc has to come first"
    exit 0
fi

# Of 60 seconds at most, in an environment without settings of the caller's.
run() {                 # [NAME=VALUE...] PROGRAM ARGS...
    env -u PINWHEEL_MALLOC_THRESHOLD -u PINWHEEL_MALLOC_SIZE -u PINWHEEL_MALLOC_RETAIN \
        -u PINWHEEL_MALLOC_POPULATE -u PINWHEEL_MALLOC_VERBOSE -u PINWHEEL_MALLOC_FORK \
        -u OMPI_MCA_btl_pinwheel_pool_size -u OMPI_MCA_btl_pinwheel_pool_pages \
        timeout 60 env "${before[@]}" env LD_PRELOAD="$preload" "$@"
}
before=()               # a command that runs the program, such as deny
preload=$lib

# One story of a program is one result; its name is what is tested.
story() {               # PROGRAM STORY [NAME=VALUE...]
    local program=$1 story=$2 status
    shift 2
    tests=$((tests + 1))
    run "$@" "$bin/$program" "$story" </dev/null >"$tmp/output" 2>&1
    status=$?
    case $status in
    0)  echo "ok $tests - ${story//_/ }${*:+ ($*)}${where:+, $where}" ;;
    77) echo "ok $tests - ${story//_/ } # SKIP $(sed -n 's/^skip: //p' "$tmp/output")" ;;
    *)  tail -n 20 "$tmp/output" | sed 's/^/# /'
        echo "not ok $tests - ${story//_/ }${*:+ ($*)}${where:+, $where} (exit $status)" ;;
    esac
}
where=
