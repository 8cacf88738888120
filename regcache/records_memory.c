/* SPDX-License-Identifier: BSD-3-Clause */
/* records_memory.c - where records are kept: in memory that fork wipes.
 *
 * Apart from records.c, which runs inside of hooks and needs nothing of the C
 * library.
 */
#include "records.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

int pw_records_create(struct pw_records **out)
{
    struct pw_records *r = mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    *out = NULL;
    if (r == MAP_FAILED)
        return -ENOMEM;
    if (madvise(r, sizeof *r, MADV_WIPEONFORK)) {
        munmap(r, sizeof *r);
        return -ENODEV;
    }
    r->era = 1;
    *out = r;
    return 0;
}

void pw_records_destroy(struct pw_records *r)
{
    if (r)
        munmap(r, sizeof *r);
}
