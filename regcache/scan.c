/* SPDX-License-Identifier: BSD-3-Clause */
/* scan.c - where machine code makes system calls by itself.
 *
 * Start at pw_scan(). It looks for the two bytes of a syscall instruction, or of
 * int $0x80, and before them for an instruction that loads a constant into eax.
 * Instructions are not decoded from the start of functions: the two bytes may be part
 * of others. That is why what may be an unseen munmap is only a reason not to cache,
 * and only what is certain is patched.
 *
 * Counted in all objects of a Debian 12 (March 2024) with Open MPI, UCX, libfabric,
 * sanitizers and compilers: the C library, the dynamic linker, sanitizers, liburing,
 * libgomp's futex and libucm's brk are found, and statically linked run times of
 * languages; no library is found that makes no such call.
 */
#include "scan.h"

#include <string.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

enum {
    BEFORE = 40,            /* bytes in which the constant is looked for */
    NUMBERS = 1024,         /* no system call has a larger number */
    VECTOR = 16,
};

/* The constant that an instruction at p loads into eax or rax, and its length. */
static int constant(const unsigned char *p, size_t room, unsigned *len)
{
    uint32_t nr;

    if (room >= 5 && p[0] == 0xb8) {                                /* mov $, %eax */
        *len = 5;
        memcpy(&nr, p + 1, sizeof nr);
    } else if (room >= 7 && p[0] == 0x48 && p[1] == 0xc7 && p[2] == 0xc0) {
        *len = 7;                                                   /* mov $, %rax */
        memcpy(&nr, p + 3, sizeof nr);
    } else if (room >= 3 && p[0] == 0x6a && p[2] == 0x58) {         /* push $; pop %rax */
        *len = 3;
        nr = p[1];
    } else {
        return -1;
    }
    return nr < NUMBERS ? (int)nr : -1;
}

/* What comes after a call in the C library and its like: a look whether it failed,
 * or the end of the function. */
static bool call_ends(const unsigned char *p, const unsigned char *end)
{
    while (p < end && ((*p >= 0x58 && *p <= 0x5f) ||
                       (*p == 0x41 && p + 1 < end && p[1] >= 0x58 && p[1] <= 0x5f)))
        p += *p == 0x41 ? 2 : 1;
    if (p < end && *p == 0xc3)
        return true;
    if (p < end && *p == 0x48)
        p++;
    return end - p >= 5 && p[0] == 0x3d && (p[2] & 0xf0) == 0xf0 && p[3] == 0xff &&
           p[4] == 0xff;
}

/* The 32-bit entry, int $0x80, has numbers of its own: arch/x86/entry/syscalls/
 * syscall_32.tbl. It reaches addresses below 4 GiB in 64-bit programs too. Without a
 * number its two bytes are found by chance (libLLVM-14), and are not counted. */
static bool dangerous_32(int nr)
{
    static const short numbers[] = {
        45 /* brk */, 90 /* mmap */, 91 /* munmap */, 117 /* ipc: shmat */,
        163 /* mremap */, 192 /* mmap2 */, 219 /* madvise */, 257 /* remap_file_pages */,
        397 /* shmat */, 425 /* io_uring_setup */, 440 /* process_madvise */,
    };

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i] == nr)
            return true;
    return false;
}

static void consider(const unsigned char *start, const unsigned char *at,
                     const unsigned char *end,
                     void (*visit)(void *ctx, const struct pw_raw_call *call), void *ctx)
{
    struct pw_raw_call call = { .at = at, .nr = -1 };
    size_t room = (size_t)(at - start) < BEFORE ? (size_t)(at - start) : BEFORE;

    for (size_t back = 3; back <= room && call.nr < 0; back++) {
        unsigned len = 0;
        bool extended = back < (size_t)(at - start) && at[-(long)back - 1] == 0x41;

        if (extended && at[-(long)back] == 0xb8)
            continue;                   /* it is r8 that is loaded */
        call.nr = constant(at - back, back, &len);
        call.apart = (unsigned)back - len;
    }
    if (*at == 0xcd) {
        call.certain = dangerous_32(call.nr);
        call.nr = -1;
    } else {
        call.certain = (call.nr >= 0 && !call.apart) || call_ends(at + 2, end);
    }
    visit(ctx, &call);
}

void pw_scan(const void *code, size_t size,
             void (*visit)(void *ctx, const struct pw_raw_call *call), void *ctx)
{
    const unsigned char *start = code, *p = start, *end = start + size;

#if defined(__x86_64__)
    const __m128i first = _mm_set1_epi8(0x0f), second = _mm_set1_epi8(0x05);
    const __m128i first_32 = _mm_set1_epi8((char)0xcd);
    const __m128i second_32 = _mm_set1_epi8((char)0x80);

    for (; end - p > VECTOR; p += VECTOR) {
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(p + 1));
        unsigned found = (unsigned)_mm_movemask_epi8(_mm_or_si128(
            _mm_and_si128(_mm_cmpeq_epi8(a, first), _mm_cmpeq_epi8(b, second)),
            _mm_and_si128(_mm_cmpeq_epi8(a, first_32), _mm_cmpeq_epi8(b, second_32))));

        for (; found; found &= found - 1)
            consider(start, p + __builtin_ctz(found), end, visit, ctx);
    }
#endif
    for (; end - p >= 2; p++)
        if ((p[0] == 0x0f && p[1] == 0x05) || (p[0] == 0xcd && p[1] == 0x80))
            consider(start, p, end, visit, ctx);
}

/* mmap is harmless without MAP_FIXED, and common; it counts where it is certain. So
 * does a call whose number is not known: what makes any call can make these. */
bool pw_scan_dangerous(const struct pw_raw_call *call)
{
    switch (call->nr) {
    case SYS_munmap:
    case SYS_mremap:
    case SYS_madvise:
    case SYS_brk:
    case SYS_shmat:
    case SYS_process_madvise:
    case SYS_io_uring_setup:
        return true;
    case SYS_mmap:
        return !call->apart;
    case -1:
        return call->certain;
    }
    return false;
}

bool pw_scan_untold(const struct pw_raw_call *call)
{
    return ((call->nr < 0 || call->nr == SYS_mmap) && call->certain) ||
           call->nr == SYS_mremap || call->nr == SYS_madvise ||
           call->nr == SYS_process_madvise || call->nr == SYS_shmat ||
           call->nr == SYS_io_uring_setup;
}
