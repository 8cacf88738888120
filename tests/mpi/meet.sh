# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: BSD-3-Clause
# meet.sh - two jobs that find each other by a server and meet through a port (connect.c).
# Sourced behind lib.sh. Who wants them elsewhere than here sets server_on, a command that
# runs another, and makes first_job and second_job anew.

server_on=()
first_job() { job_args "$@"; }      # RANKS OPTIONS...
second_job() { job_args "$@"; }

server_start() {
    rm -f "$tmp/uri"
    setsid "${server_on[@]}" "$(dirname "$(command -v "$mpirun")")/ompi-server" \
        --no-daemonize -r "$tmp/uri" </dev/null >"$tmp/server" 2>&1 &
    server=$!
    for _ in $(seq $((600 * slow))); do
        [ -s "$tmp/uri" ] && return
        sleep 0.1
    done
    cat "$tmp/server"
    return 1
}

# Both jobs' outputs; fails when either does. FATE of the accepting and of the
# connecting job, see connect.c.
meet() {                    # RANKS RANKS FATE FATE
    local a b first=0 second=0
    rm -f "$tmp/port"
    first_job "$1" --ompi-server "file:$tmp/uri" "${options[@]}"
    setsid "${job[@]}" "$bin/connect" accept "$tmp/port" $3 </dev/null >"$tmp/a" 2>&1 &
    a=$!
    second_job "$2" --ompi-server "file:$tmp/uri" "${options[@]}"
    setsid "${job[@]}" "$bin/connect" connect "$tmp/port" $4 </dev/null >"$tmp/b" 2>&1 &
    b=$!
    await 70 $b >"$tmp/b.end" || second=$?
    await 30 $a >"$tmp/a.end" || first=$?
    all_gone $a || first=125
    all_gone $b || second=125
    echo "accepting: exit $first"
    cat "$tmp/a" "$tmp/a.end"
    echo "connecting: exit $second"
    cat "$tmp/b" "$tmp/b.end"
    status_a=$first status_b=$second
}

both_end_well() { meet "$@"; [ $status_a = 0 ] && [ $status_b = 0 ]; }
