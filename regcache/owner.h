/* SPDX-License-Identifier: BSD-3-Clause */
/* owner.h - is this the process that opened it, or a child that fork() made?
 *
 * A page that the kernel clears in children says so, in one load. A process ID
 * would not do: a grandchild may have been given the first one's. vfork() and
 * posix_spawn() share the memory, and count as the same process.
 */
#ifndef PINWHEEL_OWNER_H
#define PINWHEEL_OWNER_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>

struct pw_owner {
    unsigned char *mark;
};

enum { PW_OWNER_SIZE = 4096 };

/* 0, or -ENOMEM; -ENODEV before Linux 4.14. */
static inline int pw_owner_init(struct pw_owner *o)
{
    void *page = mmap(NULL, PW_OWNER_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    o->mark = NULL;
    if (page == MAP_FAILED)
        return -ENOMEM;
    if (madvise(page, PW_OWNER_SIZE, MADV_WIPEONFORK)) {
        munmap(page, PW_OWNER_SIZE);
        return -ENODEV;
    }
    o->mark = page;
    *o->mark = 1;
    return 0;
}

static inline bool pw_owner_is_here(const struct pw_owner *o)
{
    /* Pairs with settle. */
    return __atomic_load_n(o->mark, __ATOMIC_ACQUIRE);
}

/* In a child: true for the first thread that asks. It makes what is missing there and
 * calls settle, after which pw_owner_is_here() says yes; the others wait for that. */
static inline bool pw_owner_claim(const struct pw_owner *o)
{
    return !__atomic_exchange_n(&o->mark[1], 1, __ATOMIC_ACQ_REL);
}

static inline void pw_owner_settle(const struct pw_owner *o)
{
    __atomic_store_n(&o->mark[0], 1, __ATOMIC_RELEASE);
}

/* In either. What init refused is fine. */
static inline void pw_owner_fini(struct pw_owner *o)
{
    if (o->mark)
        munmap(o->mark, PW_OWNER_SIZE);
    o->mark = NULL;
}

#endif
