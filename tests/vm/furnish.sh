# SPDX-License-Identifier: BSD-3-Clause
# furnish.sh - what the stories of watched ranges, of exported memory and of pools need of
# their machine: swap, huge pages, a disk, a RAM disk, a NIC, a memory cgroup.
#
# Sourced after boot.sh.

cat >> "$tmp/jobs" <<'EOF_JOBS'
# For changes, cycles and calls: swap, and huge pages for who asks for them, soon. NUMA
# balancing moves pages: it is on only where a story is about it.
furnish_watched() {
    local thp=/sys/kernel/mm/transparent_hugepage
    modprobe zram && echo 64M > /sys/block/zram0/disksize && mkswap /dev/zram0 &&
        swapon /dev/zram0 && echo madvise > $thp/enabled &&
        echo 10 > $thp/khugepaged/scan_sleep_millisecs &&
        echo 0 > /proc/sys/kernel/numa_balancing
}

# For attached: the device is open to all, huge pages are reserved, and files have a disk.
furnish_users() {
    chmod 666 /dev/pinwheel && echo 80 > /proc/sys/vm/nr_hugepages
}
furnish_disk() {
    modprobe loop && modprobe ext4 && truncate -s 8M /tmp/disk.image &&
        mke2fs -F /tmp/disk.image && mkdir /tmp/disk &&
        mount -t ext4 -o loop /tmp/disk.image /tmp/disk
}

# For pinned.
furnish_pinned() {
    modprobe brd rd_nr=1 rd_size=16384 &&
        ip link add fabric0 type dummy && ip link set fabric0 up &&
        ip addr add 10.9.0.1/24 dev fabric0 &&
        modprobe rdma_rxe && modprobe ib_uverbs &&
        rdma link add rxe0 type rxe netdev fabric0 &&
        mkdir -p /run/cgroup && mount -t cgroup2 none /run/cgroup &&
        echo +memory > /run/cgroup/cgroup.subtree_control &&
        mkdir /run/cgroup/small && echo 36M > /run/cgroup/small/memory.max
}
EOF_JOBS
