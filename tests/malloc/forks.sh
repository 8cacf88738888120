#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 900
# fork() keeps its meaning while the heap is in memory that peers share.
# shellcheck disable=SC2034,SC2154  # shared with lib.sh
. "${PW_SRC:?}/tests/malloc/lib.sh"

stories() {             # [NAME=VALUE...]
    local s
    for s in each_sees_its_own_writes_only what_was_not_touched_is_zero_in_the_child \
             a_child_frees_and_resizes_what_it_inherited \
             a_child_and_its_child_have_heaps_of_their_own \
             forks_among_threads_that_allocate programs_are_started_without_a_copy \
             a_program_may_close_all_descriptors; do
        story forks $s "$@"
    done
}

stories
for s in a_fork_with_an_empty_heap_copies_nothing daemon_keeps_the_heap \
         a_raw_fork_cannot_write_to_its_parent a_coroutine_forks_on_a_stack_from_malloc \
         a_thread_on_a_stack_from_malloc_may_not_fork without_memory_fork_fails \
         copies_are_of_one_moment signals_come_before_or_after; do
    story forks $s
done
story forks children_that_only_exec_need_no_copy PINWHEEL_MALLOC_FORK=none
where="pages of 4 KiB"
stories OMPI_MCA_btl_pinwheel_pool_pages=4k
story forks copies_are_of_one_moment OMPI_MCA_btl_pinwheel_pool_pages=4k

if [ "$(id -u)" = 0 ] && setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null; then
    mkdir "$tmp/open" && cp "$bin/forks" "$lib" "$bld"/.libs/libpinwheel.so.0 "$tmp/open/"
    chmod 755 "$tmp" "$tmp/open"
    before=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all env -C /
            "LD_LIBRARY_PATH=$tmp/open")
    preload=$tmp/open/libpinwheel-malloc.so bin=$tmp/open where="a user without privilege"
    stories
    story forks signals_come_before_or_after
else
    skip "a user without privilege" "we are one already"
fi
done_testing
