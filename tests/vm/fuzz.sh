# SPDX-License-Identifier: BSD-3-Clause
# fuzz.sh - what a machine does to fuzz the driver, and looks at before and after.
#
# Sourced after boot.sh.

cat >> "$tmp/jobs" <<'EOF_JOBS'
fuzz() {                # SECONDS [SEED] [OPTIONS...]
    "$PW_BUILD/tests/vm/fuzz_kdriver" --seconds "$1" ${2:+--seed "$2"} "${@:3}"
}

# Pages that were pinned and not unpinned; by all of the kernel.
still_pinned() {
    cat /proc/sys/vm/stat_refresh
    awk '/^nr_foll_pin_acquired/ { n += $2 } /^nr_foll_pin_released/ { n -= $2 }
         END { print n }' /proc/vmstat
}
# In KiB, without what only makes files faster, and with what each processor keeps of free
# pages for itself: of huge ones many, from 6.7 on.
available() {
    sync
    echo 3 > /proc/sys/vm/drop_caches
    awk '/^MemAvailable/ { n += $2 } $1 == "count:" { n += 4 * $2 } END { print n }' \
        /proc/meminfo /proc/zoneinfo
}
# In use, whether or not somebody runs in it.
images() { awk '$1 == "mm_struct" { print $2 }' /proc/slabinfo; }

look_before() {
    pinned_before=$(still_pinned)
    available_before=$(available)
    images_before=$(images)
}
all_unpinned() {
    for _ in $(seq 600); do
        [ "$(still_pinned)" -le "$pinned_before" ] && return
        sleep 0.1
    done
    echo "$(still_pinned) pages are pinned, before it were $pinned_before"
    return 1
}
# Slabs and the like keep some; what thousands of calls had lost would be more.
memory_is_back() {
    local now
    now=$(available)
    echo "$available_before KiB were available, now $now"
    [ "$now" -gt $((available_before - 48 * 1024)) ]
}
# Those that are about to be freed are counted, too, and there are some per processor.
no_image_is_kept() {
    echo "$images_before process images before, now $(images)"
    [ "$(images)" -lt $((images_before + 150)) ]
}
unloads() {
    for _ in $(seq 600); do
        rmmod pinwheel 2>/dev/null && return
        sleep 0.1
    done
    return 1
}

# What fuzz_kdriver says when all is well is worth a line.
fuzz_all() {            # SECONDS [SEED] [OPTIONS...]
    chmod 666 /dev/pinwheel
    look_before
    check "random calls of several users are answered as they should be, nothing is left" \
        fuzz "$@"
    check "every page is unpinned" all_unpinned
    check "the module can be unloaded" unloads
    check "the memory is available again" memory_is_back
    check "no process image is kept" no_image_is_kept
}
EOF_JOBS
