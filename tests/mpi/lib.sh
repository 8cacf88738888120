# SPDX-License-Identifier: BSD-3-Clause
# lib.sh - for the tests that run MPI jobs: start one, bound its time, look at it
# when it hangs, and see that nothing of it stays behind.
#
# Sourced. Counts and reports by tests/build/tap.sh. PW_TEST_BTL names the
# transport (pinwheel,self), so that the tests themselves can be tested with
# another, as in PW_TEST_BTL=vader,self ./check tests/mpi/programs.

. "${PW_SRC:?run this by ./check or make check}/tests/build/tap.sh"

btl=${PW_TEST_BTL:-pinwheel,self}
bin=$bld/tests/mpi
mpirun=${PW_MPIRUN:-mpirun}
slow=${PW_TEST_SLOW:-1}     # factor for all time limits
export TMPDIR=$tmp          # session directories: short-lived and ours
unset DISPLAY

# Jobs run as root only in tests; a cluster's user does not.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

pids_of_session() { ps -o pid= -s "$1"; }
running_in_session() {
    ps -o pid=,stat= -s "$1" | awk '$2 !~ /^Z/ { print $1 }'
}

end_session() {             # SID
    local p
    for p in $(running_in_session "$1"); do kill -CONT "$p"; kill -TERM "$p"; done 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -n "$(running_in_session "$1")" ] || return 0
        sleep 0.2
    done
    for p in $(running_in_session "$1"); do kill -KILL "$p" 2>/dev/null; done
}

# Where is it? Of the first programs, not of mpirun.
show_stacks() {             # SID
    local p shown=0
    for p in $(running_in_session "$1"); do
        case $(readlink "/proc/$p/exe") in "$bin"/*) ;; *) continue ;; esac
        echo "process $p, rank $(tr '\0' '\n' < "/proc/$p/environ" |
            sed -n 's/^OMPI_COMM_WORLD_RANK=//p'):"
        if command -v gdb >/dev/null; then
            timeout 20 gdb -p "$p" -batch -ex 'thread apply all bt 16' 2>/dev/null | grep '^#'
        else
            cat "/proc/$p/wchan"; echo
        fi
        shown=$((shown + 1))
        [ $shown -lt 2 ] || break
    done
}

# Wait for what runs as a session of its own. Its status, or 124 when it was
# still there after that many seconds.
await() {                   # SECONDS SID
    local end=$((SECONDS + $1 * slow))
    while kill -0 "$2" 2>/dev/null; do
        if [ $SECONDS -ge $end ]; then
            echo "still running after $(($1 * slow)) s"
            show_stacks "$2"
            end_session "$2"
            wait "$2" 2>/dev/null
            return 124
        fi
        sleep 0.05
    done
    wait "$2"
}

# Is all gone that the session started? Some time is allowed to the last ones.
all_gone() {                # SID
    local p
    for _ in $(seq $((200 * slow))); do
        [ -n "$(running_in_session "$1")" ] || return 0
        sleep 0.1
    done
    for p in $(running_in_session "$1"); do
        echo "left behind: $p $(tr '\0' ' ' < "/proc/$p/cmdline")"
    done
    end_session "$1"
    return 1
}

# A session of its own: what it starts can be found and ended, and nobody else's.
limited() {                 # SECONDS COMMAND...
    local limit=$1 sid status
    shift
    setsid "$@" </dev/null &
    sid=$!
    await "$limit" $sid
    status=$?
    all_gone $sid || status=125
    return $status
}

# The arguments of each job, in the array `job`: ranks and more for mpirun.
job_args() {                # RANKS OPTIONS...
    local n=$1
    shift
    job=("$mpirun" -n "$n" --oversubscribe --mca pml ob1 --mca btl "$btl" "$@")
}

run_job() {                 # SECONDS RANKS PROGRAM ARGS...
    local limit=$1 n=$2
    shift 2
    job_args "$n" "${options[@]}"
    limited "$limit" "${wrap[@]}" "${job[@]}" "$@"
}
options=()                  # more options of mpirun, for the tests that follow
wrap=()                     # a command that runs mpirun, such as deny or taskset

# One result for one program, which tells failures, or why it skips.
story() {                   # WHAT SECONDS RANKS PROGRAM ARGS...
    local what=$1 status why
    shift
    tests=$((tests + 1))
    run_job "$1" "$2" "$bin/$3" "${@:4}" >"$tmp/output" 2>&1
    status=$?
    why=$(sed -n 's/^skip: //p' "$tmp/output" | head -n 1)
    if [ $status = 77 ] || { [ -n "$why" ] && [ $status != 124 ]; }; then
        echo "ok $tests - $what # SKIP ${why:-it says}"
    elif [ $status = 0 ]; then
        echo "ok $tests - $what"
    else
        tail -n 60 "$tmp/output" | sed 's/^/# /'
        echo "not ok $tests - $what (exit $status)"
        return 1
    fi
}

# Makes `wrap` run jobs with a /dev/shm of their own of that size, after SETUP (a
# piece of bash) was done to it. Its listing afterwards is in $tmp/shm.
wrap_in_shm() {             # SIZE [SETUP]
    local user=()
    [ "$(id -u)" = 0 ] || user=(--map-root-user)
    wrap=(unshare "${user[@]}" --mount bash -c '
        mount -t tmpfs -o "size=$1" none /dev/shm || exit 126
        eval "$2"
        list=$3
        shift 3
        "$@"
        status=$?
        ls -A /dev/shm > "$list"
        exit $status' in_shm "$1" "${2-}" "$tmp/shm")
}
may_wrap_in_shm() {
    wrap_in_shm 4k
    "${wrap[@]}" true 2>/dev/null
    local status=$?
    wrap=()
    return $status
}

nothing_left() {
    local left
    left=$(cat "$tmp/shm"; find "$tmp" -mindepth 1 -name '*pinwheel*')
    [ -z "$left" ] || { echo "left behind: $left"; return 1; }
}

# The first N processors that we may use, as taskset wants them.
processors() {
    taskset -cp $$ | sed 's/.*: //' | tr ',' '\n' |
        awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2); i++) print i }' |
        head -n "$1" | paste -sd,
}
