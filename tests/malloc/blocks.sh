#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 900
# malloc and its kin keep their promises while large blocks come from the pool, or
# cannot, whatever the machine and other allocators are like.
# shellcheck disable=SC2034,SC2154  # shared with lib.sh
. "${PW_SRC:?}/tests/malloc/lib.sh"

for s in small_blocks_open_no_pool large_blocks_come_from_the_pool \
         blocks_of_all_kinds_keep_their_bytes threads_do_the_same_at_once \
         what_a_thread_takes_another_frees calloc_is_zero_after_dirty_reuse \
         realloc_crosses_the_threshold_both_ways a_block_grows_where_it_is \
         a_block_shrinks_where_it_is alignment_is_as_asked usable_bytes_can_be_used \
         absurd_sizes_are_refused free_keeps_errno what_is_kept_is_used_again; do
    story blocks $s
done
story blocks what_is_not_touched_takes_no_memory PINWHEEL_MALLOC_POPULATE=16M PINWHEEL_MALLOC_SIZE=16G
story blocks what_is_freed_goes_back_to_the_system PINWHEEL_MALLOC_RETAIN=32M
story blocks a_full_pool_is_no_end PINWHEEL_MALLOC_SIZE=32M

# What a program gets wrong ends it, with a sentence.
for s in free_of_what_is_no_block free_twice realloc_of_what_is_no_block; do
    ok "$s aborts" says 134 'pinwheel-malloc: (free|realloc)\(0x[0-9a-f]+\): invalid pointer' \
        run "$bin/blocks" $s
done

# ---- settings ----

story blocks the_threshold_is_what_was_set PINWHEEL_MALLOC_THRESHOLD=16k WANT=16384
story blocks the_threshold_is_what_was_set PINWHEEL_MALLOC_THRESHOLD=1M WANT=1048576
for setting in PINWHEEL_MALLOC_THRESHOLD=4096 PINWHEEL_MALLOC_POPULATE=0 \
               PINWHEEL_MALLOC_RETAIN=0 PINWHEEL_MALLOC_SIZE=16M \
               OMPI_MCA_btl_pinwheel_pool_pages=4k; do
    story blocks any_memory_serves $setting
    story blocks calloc_is_zero_after_dirty_reuse $setting
done
story blocks what_is_freed_goes_back_to_the_system PINWHEEL_MALLOC_RETAIN=32M \
    OMPI_MCA_btl_pinwheel_pool_pages=4k

refused() {             # SETTING SENTENCE
    says 0 "^pinwheel-malloc: $1: $2; the default holds$" run "$1" "$bin/blocks" \
        large_blocks_come_from_the_pool
    [ "$(wc -l <<< "$said")" = 1 ]
}
for bad in 64x -1 k "" 1 99999999999999999999 18446744073709551615G; do
    [ -n "$bad" ] || continue
    ok "a threshold of $bad is told of" \
        refused "PINWHEEL_MALLOC_THRESHOLD=$bad" "must be a number of bytes from 4096 on.*"
done
ok "so is a pool of 1 MiB" refused PINWHEEL_MALLOC_SIZE=1M "must be a number .* from 16777216 on.*"
ok "and a kind of fork" refused PINWHEEL_MALLOC_FORK=some "must be none or copy"
ok "and a word for verbose" refused PINWHEEL_MALLOC_VERBOSE=yes "must be 0 or 1"
ok "by one rank of a host" says 0 '^$' run PINWHEEL_MALLOC_THRESHOLD=x \
    OMPI_COMM_WORLD_LOCAL_RANK=1 "$bin/blocks" large_blocks_come_from_the_pool
ok "an empty value is none" says 0 '^$' run PINWHEEL_MALLOC_THRESHOLD= "$bin/blocks" \
    large_blocks_come_from_the_pool

ok "at the end it tells what it did, when asked" \
    says 0 'process [0-9]+: 9 blocks came from a pool of .* MiB \(.*\), 9 of 576 KiB are left; 0 requests' \
    run PINWHEEL_MALLOC_VERBOSE=1 "$bin/blocks" large_blocks_come_from_the_pool
ok "and what did not fit" says 0 'a pool of 32 MiB .* 7[0-9] requests \([0-9]+ KiB\) did not fit' \
    run PINWHEEL_MALLOC_VERBOSE=1 PINWHEEL_MALLOC_SIZE=32M "$bin/blocks" a_full_pool_is_no_end
ok "the transport's size of the pool holds too" says 0 'a pool of 48 MiB' \
    run PINWHEEL_MALLOC_VERBOSE=1 OMPI_MCA_btl_pinwheel_pool_size=48m "$bin/blocks" \
    large_blocks_come_from_the_pool
ok "and so does its kind of page" says 0 '\(4 KiB pages\)' \
    run PINWHEEL_MALLOC_VERBOSE=1 OMPI_MCA_btl_pinwheel_pool_pages=4k "$bin/blocks" \
    large_blocks_come_from_the_pool
ok "a program without large blocks opens no pool" says 0 ': 0 blocks .*not opened' \
    run PINWHEEL_MALLOC_VERBOSE=1 "$bin/blocks" small_blocks_open_no_pool

# ---- other allocators ----

for name in libjemalloc.so.2 libtcmalloc_minimal.so.4; do
    other=$(ldconfig -p | sed -n "s,^[[:space:]]*$name .*x86-64.* => ,,p" | head -n 1)
    [ -n "$other" ] || { skip "$name beside it" "it is not installed"; continue; }
    where="$name behind it" preload=$lib:$other
    story blocks large_blocks_come_from_the_pool
    story blocks any_memory_serves
    story blocks threads_do_the_same_at_once
    story forks forks_among_threads_that_allocate
    where="$name before it" preload=$other:$lib
    story blocks ordinary_memory_serves
    where='' preload=$lib
done

# ---- machines that lack or forbid something ----

if [ -x "$deny" ] && "$deny" userfaultfd:EPERM -- true 2>/dev/null; then
    before=("$deny" memfd_create:ENOSYS --) where="no memfd"
    story blocks any_memory_serves
    story blocks calloc_is_zero_after_dirty_reuse
    before=("$deny" madvise:EINVAL --) where="no madvise"
    story blocks ordinary_memory_serves
    story forks a_fork_without_a_pool_is_one
    if unshare --mount true 2>/dev/null; then
        # A file there would be too large at the first touch beyond: SIGBUS.
        before=("$deny" memfd_create:ENOSYS -- unshare --mount bash -c
                'mount -t tmpfs -o size=1m none /dev/shm && exec "$@"' in_shm)
        where="no memfd, /dev/shm is full"
        story blocks any_memory_serves
    else
        skip "a full /dev/shm" "a /dev/shm of one's own is not permitted here"
    fi
    before=() where=
else
    skip "calls that fail" "no seccomp filters here"
fi

story blocks without_descriptors_ordinary_memory_serves
before=(prlimit --fsize=10485760) where="small files"
story blocks any_memory_serves
before=(prlimit --as=300000000) where="300 MB of addresses"
story blocks any_memory_serves
before=() where=

# ---- programs that are not ours ----

sorts() {
    local sum
    seq 300000 | sort -R > "$tmp/lines"
    sum=$(run PINWHEEL_MALLOC_THRESHOLD=4096 sort -n "$tmp/lines" | md5sum)
    [ "$sum" = "$(seq 300000 | md5sum)" ]
}
ok "sort sorts" sorts
ok "a shell with pipes and subshells is one" \
    says 0 '^42 x$' run PINWHEEL_MALLOC_THRESHOLD=4096 bash -c \
    'big=$(printf "%0500000d" 7); echo $(( $(echo 6) * ${#big} / 500000 * 7 )) $(cat <(echo x))'
done_testing
