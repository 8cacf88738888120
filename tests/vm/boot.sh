# SPDX-License-Identifier: BSD-3-Clause
# boot.sh - one machine, many tests: each job that runs in it is a line of TAP.
#
# Sourced after tests/build/tap.sh, as in
#
#     boot_what="machines with two nodes"
#     boot --cpus 4 --module -- '
#     check "this is so" COMMAND...
#     '
#
# What stands in $tmp/jobs, functions that all of a test's machines use, comes before.
# A machine fails, too, when the kernel complains. Where there can be none the test is
# skipped as a whole.

# In the machine. One line for each job: RIGHT or WRONG and what it is about; what the
# job said stands before it, and is in /run/out; what the one before it said in /run/last.
cat > "$tmp/boot" <<'EOF_BOOT'
export TMPDIR=/tmp      # the guest's own

check() {               # WHAT COMMAND...
    local what=$1 right=WRONG
    shift
    touch /run/out && mv /run/out /run/last
    "$@" > /run/out 2>&1 && right=RIGHT
    cat /run/out
    echo "$right $what"
}
EOF_BOOT
touch "$tmp/jobs"
boot_what="a virtual machine"
boot_by=run             # pair: two machines, the jobs in the first

# The last job is said in any case, so that none is missed. Programs may print lines of
# RIGHT and WRONG themselves: each is a test; so is "SKIPPED this because of that".
boot() {                # OPTIONS-OF-RUN... -- JOBS
    local options=() status line all=
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    { cat "$tmp/boot" "$tmp/jobs"; echo "$2"; echo 'echo "RIGHT all jobs have run"'; } > "$tmp/script"
    "$src/tests/vm/$boot_by" "${options[@]}" --clean bash "$tmp/script" > "$tmp/said" 2>&1
    status=$?
    if [ $status = 77 ]; then
        skip "$boot_what" "$(sed 's/^run: //' "$tmp/said")"
        done_testing
        exit
    fi
    while IFS= read -r line; do
        case $line in
        "RIGHT all jobs have run") all=1 ;;
        "RIGHT "*|"WRONG "*)
            tests=$((tests + 1))
            [ "${line%% *}" = RIGHT ] || printf 'not '
            echo "ok $tests - ${line#* }" ;;
        "SKIPPED "*" because "*)
            line=${line#* }
            skip "${line%% because *}" "${line#* because }" ;;
        *)  echo "# $line" ;;
        esac
    done < "$tmp/said"
    ok "all of that, and the kernel had nothing to complain of" [ "$status$all" = 01 ]
}
