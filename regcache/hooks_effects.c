/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_effects.c - which memory a system call may change, told from its arguments.
 *
 * Start at pw_effects(). Sources: the manual pages of section 2, and Linux mm/ and
 * ipc/shm.c where those are silent: how lengths are rounded, and what fails before
 * anything changes.
 *
 * Pages that are pinned stay where they are when the kernel moves, merges,
 * collapses, swaps or ages pages by itself or on advice; it is the advice to drop
 * them that counts.
 */
#include "hooks_effects.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "raw.h"
#include "records.h"

#define PAGE ((uintptr_t)4096)
#define HUGE_2M ((uintptr_t)2 << 20)
#define HUGE_1G ((uintptr_t)1 << 30)

/* Newer than some headers; Linux include/uapi/linux/mman.h, mman-common.h. */
enum {
    REMAP_DONTUNMAP = 4, REMAP_KNOWN = 7,
    ADVICE_PAGEOUT = 21,
    IOVECS_AT_ONCE = 8,
};

/* Advices after which every page is what it was: NORMAL to WILLNEED, DONTFORK,
 * DOFORK, MERGEABLE, HUGEPAGE to COLD, POPULATE_READ, POPULATE_WRITE, COLLAPSE,
 * GUARD_REMOVE. Left out: UNMERGEABLE, which copies pages that were merged, and
 * PAGEOUT, which older kernels follow for pinned pages too. Unknown ones drop. */
static bool harmless(unsigned long advice)
{
    const unsigned long known = 0xful | 1ul << 10 | 1ul << 11 | 1ul << 12 | 0x7ful << 14 |
                                1ul << 22 | 1ul << 23 | 1ul << 25;

    _Static_assert(!((0x7ful << 14) & (1ul << ADVICE_PAGEOUT)), "14 to 20");
    if ((unsigned)advice == 103)
        return true;
    return (unsigned)advice < 64 && known >> (unsigned)advice & 1;
}

/* Bits 57 to 62 may be a tag (linear address masking), which the kernel drops. */
static uintptr_t untagged(unsigned long addr)
{
    return addr & ~((unsigned long)0x3f << 57);
}

static uintptr_t round_up(uintptr_t n, uintptr_t unit)
{
    return n > UINTPTR_MAX - unit + 1 ? PW_RANGE_ALL.end : (n + unit - 1) & ~(unit - 1);
}

static int put(struct pw_effect *out, uintptr_t start, uintptr_t end, unsigned cause)
{
    out->range = (struct pw_range){ start, end };
    out->cause = cause;
    return 1;
}

/* Pages that [addr, addr + len) touches, where an odd addr makes the call fail. */
static int pages(struct pw_effect *out, unsigned long addr, size_t len, uintptr_t unit,
                 unsigned cause)
{
    uintptr_t start = untagged(addr);

    if (start & (PAGE - 1) || !len)
        return 0;
    len = round_up(len, unit);
    return put(out, start, len > PW_RANGE_ALL.end - start ? PW_RANGE_ALL.end
                                                          : start + len, cause);
}

/* Hugepages, where there may be some, have the kernel round a length up to theirs.
 * They start where an address is a multiple. */
static uintptr_t unit_at(unsigned long addr)
{
    uintptr_t start = untagged(addr);

    return start % HUGE_1G == 0 ? HUGE_1G : start % HUGE_2M == 0 ? HUGE_2M : PAGE;
}

/* Of what mmap maps there. Transparent hugepages round nothing, and since Linux 6.7
 * large anonymous mappings begin where one may. */
static uintptr_t mmap_unit(const unsigned long a[6], unsigned long at)
{
    return a[3] & MAP_HUGETLB || !(a[3] & MAP_ANONYMOUS) ? unit_at(at) : PAGE;
}

static int of_mmap(const unsigned long a[6], struct pw_effect *out)
{
    if (!(a[3] & MAP_FIXED))    /* MAP_FIXED_NOREPLACE replaces nothing */
        return 0;
    return pages(out, a[0], a[1], mmap_unit(a, a[0]), PW_EV_MAP_OVER);
}

/* Hugepages move from where one may begin to where one may begin. */
static uintptr_t remap_unit(unsigned long from, unsigned long to)
{
    uintptr_t a = unit_at(from), b = unit_at(to);

    return a < b ? a : b;
}

/* What moves or may move, what is cut off at its end, and what it lands on. */
static int of_mremap(const unsigned long a[6], struct pw_effect *out)
{
    size_t old = round_up(a[1], PAGE), new = round_up(a[2], PAGE);
    unsigned flags = (unsigned)a[3];
    int n = 0;

    if (flags & MREMAP_FIXED || flags & ~REMAP_KNOWN) {
        n += pages(out, a[0], a[1], remap_unit(a[0], a[4]), PW_EV_REMAP);
        n += pages(out + n, a[4], a[2], remap_unit(a[0], a[4]), PW_EV_REMAP);
        return n;
    }
    if (flags & REMAP_DONTUNMAP || (flags & MREMAP_MAYMOVE && new > old))
        return pages(out, a[0], a[1], unit_at(a[0]), PW_EV_REMAP);
    if (new < old && new)
        return pages(out, a[0] + new, old - new, unit_at(a[0]), PW_EV_REMAP);
    return 0;
}

static int of_madvise(const unsigned long a[6], struct pw_effect *out)
{
    return harmless(a[2]) ? 0 : pages(out, a[0], a[1], PAGE, PW_EV_DISCARD);
}

/* The program's own array may be unreadable: then the call fails with EFAULT, and
 * so it must when we had read it first. */
static bool read_iovecs(struct iovec *to, unsigned long from, size_t n)
{
    struct iovec local = { to, n * sizeof *to };
    struct iovec remote = { (void *)from, n * sizeof *to };
    long pid = pw_raw3(SYS_getpid, 0, 0, 0);

    return pw_raw6(SYS_process_vm_readv, pid, (long)&local, 1, (long)&remote, 1, 0) ==
           (long)local.iov_len;
}

/* Whose memory it is, ours or another process's, the descriptor does not say. Up
 * to eight ranges one by one, more as everything. */
static int of_process_madvise(const unsigned long a[6], struct pw_effect *out)
{
    struct iovec v[IOVECS_AT_ONCE];
    int n = 0;

    if (harmless(a[3]) || !a[2])
        return 0;
    if (a[2] > IOVECS_AT_ONCE || !read_iovecs(v, a[1], a[2]))
        return put(out, PW_RANGE_ALL.start, PW_RANGE_ALL.end, PW_EV_DISCARD);
    for (size_t i = 0; i < a[2]; i++)
        n += pages(out + n, (unsigned long)v[i].iov_base, v[i].iov_len, PAGE,
                   PW_EV_DISCARD);
    return n;
}

static int of_brk(const unsigned long a[6], struct pw_effect *out)
{
    uintptr_t now, end = round_up(a[0], PAGE);

    if (!a[0])
        return 0;
    now = round_up((uintptr_t)pw_raw3(SYS_brk, 0, 0, 0), PAGE);
    return end < now ? put(out, end, now, PW_EV_BRK) : 0;
}

static int of_shmat(const unsigned long a[6], struct pw_effect *out)
{
    uintptr_t at = untagged(a[1]) & ~(PAGE - 1);
    struct shmid_ds seg;

    if (!(a[2] & SHM_REMAP) || !a[1])
        return 0;
    if (pw_raw3(SYS_shmctl, (long)a[0], IPC_STAT, (long)&seg))
        return put(out, at, PW_RANGE_ALL.end, PW_EV_SHM);
    return pages(out, at, seg.shm_segsz, unit_at(at), PW_EV_SHM);
}

static int of_fallocate(const unsigned long a[6], struct pw_effect *out)
{
    return a[1] & ~(unsigned long)FALLOC_FL_KEEP_SIZE ? put(out, 0, 0, PW_EV_TRUNCATE) : 0;
}

/* PROT_GROWSDOWN: from wherever the mapping starts. */
static int of_mprotect(const unsigned long a[6], struct pw_effect *out)
{
    int n;

    if (a[2] & (PROT_READ | PROT_WRITE | PROT_EXEC))
        return 0;
    n = pages(out, a[0], a[1], PAGE, PW_EV_PROTECT);
    if (n && a[2] & PROT_GROWSDOWN)
        out->range.start = 0;
    if (n && a[2] & PROT_GROWSUP)
        out->range.end = PW_RANGE_ALL.end;
    return n;
}

const unsigned short pw_effect_numbers[] = {
    SYS_munmap, SYS_mmap, SYS_mremap, SYS_madvise, SYS_process_madvise, SYS_brk,
    SYS_shmat, SYS_shmdt, SYS_truncate, SYS_ftruncate, SYS_fallocate, SYS_mprotect,
    SYS_pkey_mprotect, SYS_remap_file_pages, 0
};

int pw_effects(const struct pw_call *c, struct pw_effect out[PW_EFFECTS_MAX])
{
    const unsigned long *a = c->arg;

    switch (pw_call_nr(c)) {
    case SYS_munmap:            return pages(out, a[0], a[1], PAGE, PW_EV_UNMAP);
    case SYS_mmap:              return of_mmap(a, out);
    case SYS_mremap:            return of_mremap(a, out);
    case SYS_madvise:           return of_madvise(a, out);
    case SYS_process_madvise:   return of_process_madvise(a, out);
    case SYS_brk:               return of_brk(a, out);
    case SYS_shmat:             return of_shmat(a, out);
    case SYS_shmdt:             return put(out, untagged(a[0]), untagged(a[0]), PW_EV_SHM);
    case SYS_truncate:
    case SYS_ftruncate:         return put(out, 0, 0, PW_EV_TRUNCATE);
    case SYS_fallocate:         return of_fallocate(a, out);
    case SYS_mprotect:
    case SYS_pkey_mprotect:     return of_mprotect(a, out);
    case SYS_remap_file_pages:
        return pages(out, a[0] & ~(PAGE - 1), a[1], PAGE, PW_EV_MAP_OVER);
    }
    return 0;
}

/* shmat is rare: everything, rather than asking for the segment's size. */
bool pw_effects_new(const struct pw_call *c, long result, struct pw_effect *out)
{
    const unsigned long *a = c->arg;
    unsigned long at = (unsigned long)result;

    if (at > -4096ul)
        return false;
    switch (pw_call_nr(c)) {
    case SYS_mmap:      return pages(out, at, a[1], mmap_unit(a, at), PW_EV_MAP_OVER);
    case SYS_mremap:    return pages(out, at, a[2], remap_unit(a[0], at), PW_EV_REMAP);
    case SYS_shmat:     return put(out, 0, PW_RANGE_ALL.end, PW_EV_SHM);
    }
    return false;
}
