/* SPDX-License-Identifier: BSD-3-Clause */
/* monitor.h - who notices that the pages behind an address have changed.
 *
 * A monitor keeps one word that counts changes. Equal to what one saw before
 * means: nothing has changed since. Not equal means: look closer, with changes().
 *
 * The promise: the word moves before a change that the monitor sees becomes
 * visible to whoever asked for it, and before the addresses can be used again by
 * anybody. It may move without a change; it never stays when there was one. What
 * a monitor does not see is missing from `sees`, and memory that only an unseen
 * event could change is refused by watch(): it is then not cached.
 *
 * Nothing in a monitor calls back. Whoever changes memory writes a record and
 * moves the word, no more: no lock, no malloc, no free.
 *
 * fork: a child has a copy whose word starts anew. Who caches drops what it has and
 * asks changes() until there are no more. A monitor that cannot go on in a child
 * refuses to watch there (-EOPNOTSUPP).
 *
 * Threads: open and close one at a time; watch, unwatch, fresh: any thread;
 * changes: one at a time. None may be called from a signal handler.
 */
#ifndef PINWHEEL_MONITOR_H
#define PINWHEEL_MONITOR_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

struct pw_monitor;

/* Addresses [start, end), both on 4 KiB pages. */
struct pw_range {
    uintptr_t start, end;
};

/* What can happen to memory. A change names one; a monitor declares those it
 * sees. */
enum pw_event {
    PW_EV_UNMAP    = 1 << 0,    /* munmap, by the program or inside free() */
    PW_EV_REMAP    = 1 << 1,    /* mremap: where it was, and what it landed on */
    PW_EV_MAP_OVER = 1 << 2,    /* mmap(MAP_FIXED), remap_file_pages */
    PW_EV_DISCARD  = 1 << 3,    /* madvise and its kin that drop pages */
    PW_EV_BRK      = 1 << 4,    /* brk, sbrk downwards */
    PW_EV_SHM      = 1 << 5,    /* shmdt, shmat(SHM_REMAP) */
    PW_EV_TRUNCATE = 1 << 6,    /* a mapped file cut or punched by this process */
    PW_EV_PROTECT  = 1 << 7,    /* mprotect to PROT_NONE */
    PW_EV_DLCLOSE  = 1 << 8,    /* the dynamic linker unmaps an object */
    PW_EV_RAW      = 1 << 9,    /* any of these, by a system call that does not
                                 * pass through the C library */
    PW_EV_OTHERS   = 1 << 10,   /* another process cuts or punches a shared file */
    PW_EV_LOST     = 1 << 11,   /* records overran: everything may have changed */
    PW_EV_ALL      = (1 << 12) - 1,
};

struct pw_change {
    struct pw_range range;      /* LOST: all addresses */
    unsigned cause;             /* one enum pw_event */
};

/* Fixed when it is opened, but for sees and note: they may lose events while the
 * program runs (it starts to use io_uring, say). Then the word moves, and
 * changes() reports everything once. */
struct pw_monitor {
    const struct pw_monitor_ops *ops;
    const uint64_t *word;       /* read with __atomic_load_n(, ACQUIRE) */
    unsigned sees;              /* enum pw_event */
    char note[256];             /* what it cannot see here, a sentence; "" none */
};

/* Since when a range is watched. */
struct pw_watch {
    uint64_t since;
};

enum { PW_MONITOR_WHY_MAX = 256 };

struct pw_monitor_ops {
    const char *name;           /* a value of the parameter "monitor" */
    const char *what;           /* one line for people */

    /* 0; else *out is NULL and why says what is missing and what would mend it:
     * -ENODEV this machine cannot run it, -EPERM no privilege, -ENOMEM. */
    int (*open)(struct pw_monitor **out, char why[PW_MONITOR_WHY_MAX]);
    void (*close)(struct pw_monitor *m);

    /* Call before pinning. 0; or
     * -EAGAIN      a change of this range is going on in another thread
     * -EOPNOTSUPP  this memory could change unseen: do not cache it
     * -EFAULT      (part of) the range is not mapped
     * -ENOMEM      the kernel's or our tables are full */
    int (*watch)(struct pw_monitor *m, struct pw_range r, struct pw_watch *w);

    /* Nobody needs the range watched any more (another watch may overlap it). */
    void (*unwatch)(struct pw_monitor *m, struct pw_range r, struct pw_watch *w);

    /* Has nothing happened to r since watch(), and is nothing happening now?
     * Call after pinning. May say false for no reason, never true wrongly. */
    int (*fresh)(struct pw_monitor *m, struct pw_range r, const struct pw_watch *w);

    /* What has changed since the last call, oldest first: at most n, returns how
     * many. *upto is what the word was when the last of them had been told: when
     * the word still equals it, there is no more. Fewer than n: no more now. */
    int (*changes)(struct pw_monitor *m, struct pw_change *out, int n, uint64_t *upto);
};

/* Built in, best first, NULL at the end: kdriver, hooks, uffd, none. */
extern const struct pw_monitor_ops *const pw_monitors[];

/* What pw_monitor_open() did and why, for people. */
struct pw_monitor_report {
    const char *name;           /* of the monitor that was opened */
    char why_not[512];          /* the better ones that were passed over, a
                                 * sentence each; "" when the best was taken */
};

/* Open the monitor of that name, or with NULL or "auto" the best that this
 * machine runs. Each is tried on pages of its own first (self-test): one that
 * does not notice what it declares is not used.
 * 0, or -EINVAL  no such name; report->why_not lists the names
 *       -errno   as open(), or -EIO when the self-test failed: why_not says more
 * report may be NULL. "none" always works, so "auto" fails for -ENOMEM only. */
int pw_monitor_open(const char *name, struct pw_monitor **out,
                    struct pw_monitor_report *report);
void pw_monitor_close(struct pw_monitor *m);    /* NULL is fine */

/* "munmap", "mremap", ... for a single event; "" for none known. */
const char *pw_event_name(unsigned event);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
