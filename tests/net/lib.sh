# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: BSD-3-Clause
# lib.sh - for the tests that run MPI jobs over several hosts: tests/mpi/lib.sh, whose
# jobs now begin in h1 and go over all hosts (hosts.sh).
#
# PW_TEST_BTL names the transport and PW_TEST_NICS what pinwheel may use, so that
#     PW_TEST_BTL=tcp,self ./check tests/net/faults
# shows how Open MPI's own does.

. "${PW_SRC:?run this by ./check or make check}/tests/mpi/lib.sh"
. "$src/tests/net/hosts.sh"

nics=${PW_TEST_NICS:-}      # btl_pinwheel_nics; "": what it chooses by itself
osc=^ucx                    # what serves windows: not a transport of its own
[ "${btl%%,*}" != tcp ] || osc=pt2pt
only=                       # interfaces that the job may use; "": all rails
watched=(1 2)               # hosts with processes of jobs
trap 'stop_changes; hosts_remove; chmod -R u+w "$tmp" 2>/dev/null; rm -rf "$tmp"' EXIT

need_hosts() {
    local why
    why=$(hosts_impossible)
    [ -z "$why" ] || { echo "1..0 # SKIP $why"; exit 0; }
}

# Other hosts than before. What follows in a test file stands on them.
new_hosts() {               # HOSTS RAILS [MTU]
    hosts_remove
    hosts_make "$@" || { echo "Bail out! hosts cannot be made"; exit 1; }
    mapfile -t watched < <(seq "$1")
}

# Beside what setsid started here, all that runs in the hosts is of the job.
running_in_session() {      # SID
    local h
    ps -o pid=,stat= -s "$1" | awk '$2 !~ /^Z/ { print $1 }'
    for h in "${watched[@]}"; do
        [ -z "${host_init[$h]}" ] || host_pids "$h"
    done
}

# Which of the networks the job may use: the rails.
transport_options() {
    case $btl in
    *tcp*) echo --mca btl_tcp_if_include "${only:-$(seq -f 'r%g' -s, 0 $((rails - 1)))}" ;;
    pinwheel*)
        if [ -n "$only" ]; then echo --mca btl_pinwheel_if_include "$only"
        elif [ -z "$direct" ]; then echo --mca btl_pinwheel_if_exclude m0; fi
        [ -z "$nics" ] || echo --mca btl_pinwheel_nics "$nics"
        ;;
    esac
}

job_args() {                # RANKS OPTIONS...
    local n=$1
    shift
    # shellcheck disable=SC2046,SC2207  # words
    job=("$PW_NET_HOST" run "$PW_NET_DIR/h1" "$mpirun" -n "$n" --host "$(host_list)"
         --map-by node --bind-to none --mca pml ob1 --mca btl "$btl" --mca osc "$osc"
         $(transport_options) "$@")
}

# A job in the background, so that things can happen to its hosts meanwhile. Its output
# goes to $tmp/said.
job_start() {               # RANKS PROGRAM ARGS...
    local n=$1
    shift
    job_args "$n" "${options[@]}"
    : > "$tmp/said"         # not what the last one said
    setsid "${job[@]}" "$@" </dev/null >>"$tmp/said" 2>&1 &
    job_sid=$!
}

# Until its output has a match of PATTERN; fails after 60 s, or when it has ended before.
job_says() {                # PATTERN
    for _ in $(seq $((600 * slow))); do
        grep -Eq -- "$1" "$tmp/said" && return 0
        kill -0 "$job_sid" 2>/dev/null || break
        sleep 0.1
    done
    grep -Eq -- "$1" "$tmp/said"
}

# A stream that goes on until stream_end, so that what is to happen meanwhile has the time
# that it takes here.
stream_start() {            # RANKS ARGS...
    : > "$tmp/going"
    PW_STREAM_WHILE=$tmp/going job_start "$1" "$bld/tests/net/stream" "${@:2}"
    job_says '^moving' || { stream_end; return 1; }
}
stream_end() {
    rm -f "$tmp/going"
    job_end 90
}

# Its exit status; 124 when it was still running after so long, 125 when something was
# left of it. What it said is printed.
job_end() {                 # SECONDS
    local status
    await "$1" "$job_sid"
    status=$?
    all_gone "$job_sid" || status=125
    cat "$tmp/said"
    return $status
}

# The ranks that run there, as seen from here.
rank_pids() {               # HOST
    local p
    for p in $(host_pids "$1"); do
        tr '\0' '\n' 2>/dev/null < "/proc/$p/environ" | grep -q '^OMPI_COMM_WORLD_RANK=' &&
            echo "$p"
    done
}

# In the background, until stop_changes or the end of the script: COMMAND again and again.
changes=
change_on() {               # COMMAND...
    while "$@"; do :; done </dev/null >/dev/null 2>&1 &
    changes=$!
}
stop_changes() {
    [ -n "$changes" ] || return 0
    kill "$changes" 2>/dev/null
    wait "$changes" 2>/dev/null
    changes=
}

# Which of these backends of pinwheel's can run here, as pwinfo has them.
backends() {                # NAMES...
    local name
    [ "${btl%%,*}" = pinwheel ] || { echo "${btl%%,*}"; return; }
    [ -z "${PW_TEST_NICS:-}" ] || { echo "$PW_TEST_NICS"; return; }
    for name in "$@"; do
        "$bld/tools/pwinfo" --json | tr -d ' \n' | grep -q "\"name\":\"$name\",\"usable\":true" &&
            echo "shm,$name"
    done
}
