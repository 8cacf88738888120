/* SPDX-License-Identifier: BSD-3-Clause */
/* patch.c - make two bytes of running code go elsewhere.
 *
 *     0f 05      syscall       ->  eb xx            jmp  padding
 *     padding                  ->  e9 xx xx xx xx   jmp  stub
 *     stub                     ->  see write_syscall_stub()
 *
 * Start at pw_patch_lay(). Padding is what lies between the end of one function and
 * the start of the next, by the object's own tables, when it holds nothing but
 * instructions that do nothing.
 *
 * System calls are made raw: they concern the functions that are being patched.
 */
#include "patch.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/mman.h>

#include "hooks_entry.h"
#include "raw.h"

enum {
    LINE = 64, LONG_JUMP = 5, REACH_BACK = -128, REACH = 127,
    STUB_SIZE = 96, AREA_SIZE = 16384, AREAS = 16, PADS = 128, GAP_MAX = 64,
    NUMBERS = 512,
};
#define PAGE ((uintptr_t)4096)
#define NEAR_MAX (((uintptr_t)2 << 30) - ((uintptr_t)16 << 20))
#define NEAR_STEP ((uintptr_t)4 << 20)

struct area {
    uintptr_t base;
    unsigned used;
};

static struct area areas[AREAS];
static unsigned n_areas;
static uintptr_t pads[PADS];
static unsigned n_pads;

static int protect(uintptr_t addr, size_t len, int prot)
{
    uintptr_t start = addr & ~(PAGE - 1);
    long err = pw_raw3(SYS_mprotect, (long)start, (long)(addr + len - start), prot);

    return err ? -EPERM : 0;
}

static void sync_cores(void)
{
    pw_raw3(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
    pw_raw3(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
}

/* Two bytes as one store; more only where nobody runs. */
static int write_code(uintptr_t at, const unsigned char *bytes, size_t n, int prot)
{
    int err = protect(at, n, prot | PROT_WRITE);
    uint16_t two;

    if (err)
        return err;
    if (n == sizeof two) {
        memcpy(&two, bytes, sizeof two);
        __asm__ volatile("movw %1, %0" : "=m"(*(uint16_t *)at) : "r"(two) : "memory");
    } else {
        memcpy((void *)at, bytes, n);
    }
    return protect(at, n, prot);
}

/* ---- padding ---- */

/* The length of the instruction at p when it does nothing, as compilers and
 * assemblers fill with; 0: another one. Source: Intel's manual, NOP, with any
 * number of size prefixes before. */
static size_t nothing(const unsigned char *p, const unsigned char *end)
{
    const unsigned char *q = p;
    size_t len;

    if (p < end && (*p == 0xcc || *p == 0x90))
        return 1;
    while (q < end && (*q == 0x66 || *q == 0x2e))
        q++;
    if (q < end && *q == 0x90)
        return (size_t)(q + 1 - p);
    if (end - q < 3 || q[0] != 0x0f || q[1] != 0x1f)
        return 0;
    switch (q[2]) {
    case 0x00: len = 3; break;      /* (%rax) */
    case 0x40: len = 4; break;      /* 8 bits of offset */
    case 0x44: len = 5; break;      /* and an index */
    case 0x80: len = 7; break;      /* 32 bits of offset */
    case 0x84: len = 8; break;
    default: return 0;
    }
    return (size_t)(end - q) < len ? 0 : (size_t)(q - p) + len;
}

static bool does_nothing(uintptr_t from, uintptr_t to)
{
    const unsigned char *p = (const unsigned char *)from, *end = (const unsigned char *)to;

    while (p < end) {
        size_t n = nothing(p, end);

        if (!n)
            return false;
        p += n;
    }
    return true;
}

static bool is_pad(uintptr_t at)
{
    for (unsigned i = 0; i < n_pads; i++)
        if (pads[i] == at)
            return *(const unsigned char *)at == 0xe9;
    return false;
}

/* Room for a long jump behind function number n, in reach of `at`; 0: none. */
static uintptr_t room_behind(const struct pw_text *t, size_t n, uintptr_t at)
{
    uintptr_t end = pw_frames_end(&t->frames, n), p = end, next;
    intptr_t far;

    if (!end || n + 1 >= t->frames.count)
        return 0;
    next = pw_frames_start(&t->frames, n + 1);
    if (next < end || next - end > GAP_MAX || next > t->end || end < t->start)
        return 0;
    if (at < end && end < at + 2)
        p = at + 2;         /* the second byte is padding itself */
    while (p + LONG_JUMP <= next && is_pad(p))
        p += LONG_JUMP;
    if (p + LONG_JUMP > next || (!is_pad(p - LONG_JUMP) && !does_nothing(end, next)))
        return 0;
    far = (intptr_t)(p - (at + 2));
    return far >= REACH_BACK && far <= REACH ? p : 0;
}

static uintptr_t find_pad(const struct pw_text *t, uintptr_t at)
{
    long here = pw_frames_find(&t->frames, at);
    uintptr_t pad;

    if (here < 0)
        return 0;
    for (size_t n = (size_t)here; n + 1 < t->frames.count &&
         pw_frames_start(&t->frames, n) <= at + REACH; n++)
        if ((pad = room_behind(t, n, at)))
            return pad;
    for (size_t n = (size_t)here; n-- > 0 &&
         pw_frames_start(&t->frames, n + 1) + REACH >= at; )
        if ((pad = room_behind(t, n, at)))
            return pad;
    return 0;
}

/* ---- stubs ---- */

static bool near(uintptr_t area, const struct pw_text *t)
{
    uintptr_t low = area < t->start ? area : t->start;
    uintptr_t high = area + AREA_SIZE > t->end ? area + AREA_SIZE : t->end;

    return high - low < NEAR_MAX;
}

static bool map_at(uintptr_t at)
{
    long got = pw_raw6(SYS_mmap, (long)at, AREA_SIZE, PROT_READ | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    /* Before Linux 4.17 it is a mere hint. */
    if (got >= 0 && (uintptr_t)got != at)
        pw_raw3(SYS_munmap, got, AREA_SIZE, 0);
    return got >= 0 && (uintptr_t)got == at;
}

static struct area *new_area(const struct pw_text *t)
{
    struct area *a = &areas[n_areas];

    if (n_areas == AREAS)
        return NULL;
    for (uintptr_t far = NEAR_STEP; far < NEAR_MAX; far += NEAR_STEP) {
        uintptr_t below = (t->start & ~(PAGE - 1)) - far;
        uintptr_t above = (t->end & ~(PAGE - 1)) + far;

        a->base = below;
        if (below < t->start && below > NEAR_STEP && near(below, t) && map_at(below))
            break;
        a->base = above;
        if (near(above, t) && map_at(above))
            break;
        a->base = 0;
    }
    if (!a->base)
        return NULL;
    a->used = 0;
    n_areas++;
    return a;
}

static uintptr_t new_stub(const struct pw_text *t)
{
    struct area *a = NULL;

    for (unsigned i = 0; i < n_areas && !a; i++)
        if (near(areas[i].base, t) && areas[i].used + STUB_SIZE <= AREA_SIZE)
            a = &areas[i];
    if (!a)
        a = new_area(t);
    if (!a)
        return 0;
    a->used += STUB_SIZE;
    return a->base + a->used - STUB_SIZE;
}

static int write_jump(uintptr_t at, uintptr_t to, int prot)
{
    unsigned char code[LONG_JUMP] = { 0xe9 };
    int32_t distance = (int32_t)(intptr_t)(to - (at + LONG_JUMP));

    memcpy(code + 1, &distance, sizeof distance);
    return write_code(at, code, sizeof code, prot);
}

/* rcx and r11 are the stub's to use, for the kernel overwrites them. A call that
 * is of no interest touches no stack, so that vfork works. Numbers in the comments
 * are offsets. */
static int write_syscall_stub(uintptr_t stub, uintptr_t after)
{
    unsigned char code[STUB_SIZE] = {
        0x89, 0xc1,                                 /*  0 mov %eax, %ecx */
        0x81, 0xe1, 0xff, 0xff, 0xff, 0xbf,         /*  2 and $~x32, %ecx */
        0x81, 0xf9, NUMBERS & 0xff, NUMBERS >> 8, 0, 0, /*  8 cmp $512, %ecx */
        0x73, 0x22,                                 /* 14 jae plain */
        0x4c, 0x8b, 0x1d, 41, 0, 0, 0,              /* 16 mov numbers, %r11 */
        0x49, 0x0f, 0xa3, 0x0b,                     /* 23 bt %rcx, (%r11) */
        0x73, 0x15,                                 /* 27 jnc plain */
        0x48, 0x8d, 0x64, 0x24, 0x80,               /* 29 lea -128(%rsp), %rsp */
        0xff, 0x35, 32, 0, 0, 0,                    /* 34 push after */
        0xff, 0x25, 34, 0, 0, 0,                    /* 40 jmp *enter */
        0x90, 0x90, 0x90, 0x90,                     /* 46 */
        0x0f, 0x05,                                 /* 50 plain: syscall */
        0xff, 0x25, 14, 0, 0, 0,                    /* 52 jmp *after */
        /* 58 free, 64 numbers, 72 after, 80 enter */
    };
    const uint64_t words[3] = { (uintptr_t)pw_hooks.numbers, after,
                                (uintptr_t)pw_hooks_enter };

    memcpy(code + 64, words, sizeof words);
    return write_code(stub, code, sizeof code, PROT_READ | PROT_EXEC);
}

static int write_notice_stub(uintptr_t stub)
{
    unsigned char code[STUB_SIZE] = { 0xff, 0x25, 58, 0, 0, 0 };    /* jmp *64 */
    uint64_t to = (uintptr_t)pw_hooks_objects_changed;

    memcpy(code + 64, &to, sizeof to);
    return write_code(stub, code, sizeof code, PROT_READ | PROT_EXEC);
}

int pw_patch_lay(const struct pw_text *t, uintptr_t at, enum pw_patch_kind kind,
                 struct pw_site *site)
{
    int err;

    if (at % LINE == LINE - 1 || n_pads == PADS)
        return -ENOSPC;
    *site = (struct pw_site){ .at = at, .prot = t->prot, .pad = find_pad(t, at) };
    if (!site->pad)
        return -ENOSPC;
    site->stub = new_stub(t);
    if (!site->stub)
        return -ENOMEM;
    memcpy(site->was, (const void *)at, sizeof site->was);
    site->now[0] = 0xeb;
    site->now[1] = (unsigned char)(site->pad - (at + 2));
    if (kind == PW_PATCH_SYSCALL)
        err = write_syscall_stub(site->stub, at + 2);
    else
        err = write_notice_stub(site->stub);
    if (!err)
        err = write_jump(site->pad, site->stub, t->prot);
    if (!err)
        pads[n_pads++] = site->pad;
    return err;
}

int pw_patch_arm(const struct pw_site *site)
{
    int err;

    sync_cores();
    err = write_code(site->at, site->now, sizeof site->now, site->prot);
    sync_cores();
    return err;
}

static bool way_is_there(const struct pw_site *site)
{
    const unsigned char *p = (const unsigned char *)site->pad;
    int32_t distance;

    memcpy(&distance, p + 1, sizeof distance);
    return *p == 0xe9 &&
           site->pad + LONG_JUMP + (uintptr_t)(intptr_t)distance == site->stub;
}

bool pw_patch_intact(const struct pw_site *site)
{
    return !memcmp((const void *)site->at, site->now, sizeof site->now) &&
           way_is_there(site);
}

bool pw_patch_undone(const struct pw_site *site)
{
    return !memcmp((const void *)site->at, site->was, sizeof site->was) &&
           way_is_there(site);
}

void pw_patch_forget(const struct pw_site *site)
{
    for (unsigned i = 0; i < n_pads; i++)
        if (pads[i] == site->pad)
            pads[i] = pads[--n_pads];
}
