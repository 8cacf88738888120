/* SPDX-License-Identifier: BSD-3-Clause */
/* maps.h - what kinds of memory lie behind a range of addresses. */
#ifndef PINWHEEL_MAPS_H
#define PINWHEEL_MAPS_H

#include "pinwheel/monitor.h"

enum pw_memory {
    PW_MEM_PRIVATE = 1 << 0,        /* anonymous, this process's alone */
    PW_MEM_PRIVATE_FILE = 1 << 1,   /* MAP_PRIVATE of a file: a program's data */
    PW_MEM_SHARED = 1 << 2,         /* MAP_SHARED of any kind, SysV segments */
    PW_MEM_SPECIAL = 1 << 3,        /* devices, vdso, what cannot be pinned */
};

/* The kinds of all mappings that r touches, in *kinds. One system call where the
 * kernel has PROCMAP_QUERY (Linux 6.11), else /proc/self/maps is read.
 * 0, or -EFAULT when part of r is not mapped, or -errno of open and read.
 * Any thread, errno is left alone. Allocates nothing; the first call maps a page, and
 * a descriptor stays open, 800 or above, close-on-exec. */
int pw_maps_kinds(struct pw_range r, unsigned *kinds);

/* The same, with the mappings' own bounds: from where the first one starts to where
 * the last one ends. */
struct pw_maps_found {
    unsigned kinds;
    struct pw_range whole;
};
int pw_maps_find(struct pw_range r, struct pw_maps_found *out);

/* All mappings in turn, from the text. 0, or -errno of open and read. */
int pw_maps_each(void (*visit)(struct pw_range r, enum pw_memory kind, void *arg),
                 void *arg);

/* The two ways, each alone, on an open /proc/PID/maps. by_query: -ENOTTY where the
 * kernel has none. by_reading: the descriptor is at its start. */
int pw_maps_by_query(int fd, struct pw_range r, struct pw_maps_found *out);
int pw_maps_by_reading(int fd, struct pw_range r, struct pw_maps_found *out);

#endif
