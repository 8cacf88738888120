/* SPDX-License-Identifier: BSD-3-Clause */
/* patch.c - two bytes of code go elsewhere: tried on a function that is made here,
 * with padding behind it and the tables that an object has. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "regcache/frames.h"
#include "regcache/hooks_entry.h"
#include "regcache/patch.h"
#include "regcache/raw.h"

#ifdef __x86_64__

#define PAGE ((size_t)4096)

/* As laid out in the page: function, padding, a second function that is only its
 * start; then the header with two entries, the common part and two descriptions. */
enum {
    CALL = 5,                   /* where the syscall instruction is */
    ENDS = 8, NEXT = 32,
    HEADER = 1024, CIE = 1100, FDE = 1200, FDE_SIZE = 32, TABLE_BYTES = 12 + 16,
};

static char *page;
static struct pw_text text;

static void put32(int at, int32_t value)
{
    memcpy(page + at, &value, sizeof value);
}

static void describe(int number, int start, int size)
{
    int at = FDE + number * FDE_SIZE;

    put32(HEADER + 12 + 8 * number, start - HEADER);
    put32(HEADER + 16 + 8 * number, at - HEADER);
    put32(at, FDE_SIZE - 4);
    put32(at + 4, at + 4 - CIE);
    put32(at + 8, start - (at + 8));
    put32(at + 12, size);
}

/* mov $nr, %eax; syscall; ret; nops. In parts, so that nobody takes the constants of
 * this program for a call it makes. */
static void write_function(char nr)
{
    volatile char *code = page;

    memset(page, 0x90, NEXT);
    code[0] = (char)0xb8;
    code[1] = nr;
    code[2] = code[3] = code[4] = 0;
    code[CALL] = 0x0f;
    code[CALL + 1] = 5;
    code[CALL + 2] = (char)0xc3;
}

static void setup(void)
{
    static const unsigned char header[] = { 1, 0x1b, 0x03, 0x3b };
    static const unsigned char cie[] = { 1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b };

    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(ne(ptr, page, MAP_FAILED));
    write_function(SYS_getpid);
    memcpy(page + HEADER, header, sizeof header);
    put32(HEADER + 8, 2);
    put32(CIE, 24);
    memcpy(page + CIE + 8, cie, sizeof cie);
    describe(0, 0, ENDS);
    describe(1, NEXT, 16);
    cr_assert(zero(int, mprotect(page, PAGE, PROT_READ | PROT_EXEC)));
    text = (struct pw_text){ .start = (uintptr_t)page, .end = (uintptr_t)page + HEADER,
                             .prot = PROT_READ | PROT_EXEC };
    cr_assert(pw_frames_open(&text.frames, page + HEADER, TABLE_BYTES));
}

TestSuite(patch, .init = setup);

static void change(int at, unsigned char byte)
{
    mprotect(page, PAGE, PROT_READ | PROT_WRITE);
    page[at] = (char)byte;
    mprotect(page, PAGE, PROT_READ | PROT_EXEC);
}

static long call_it(void)
{
    long (*function)(void) = (__extension__ (long (*)(void))page);

    return function();
}

/* ---- where functions begin and end ---- */

Test(patch, functions_are_found_by_their_addresses)
{
    uintptr_t base = (uintptr_t)page;

    cr_expect(eq(long, pw_frames_find(&text.frames, base - 1), -1l));
    cr_expect(eq(long, pw_frames_find(&text.frames, base), 0l));
    cr_expect(eq(long, pw_frames_find(&text.frames, base + NEXT - 1), 0l));
    cr_expect(eq(long, pw_frames_find(&text.frames, base + NEXT), 1l));
    cr_expect(eq(ulong, pw_frames_start(&text.frames, 1), base + NEXT));
    cr_expect(eq(ulong, pw_frames_end(&text.frames, 0), base + ENDS));
}

static int find_ours(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct pw_frames *f = arg;

    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME)
            return pw_frames_open(f, (void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr),
                                  info->dlpi_phdr[i].p_memsz) ? 1 : -1;
    return -1;
}

Test(patch, tables_of_a_linker_are_read)
{
    uintptr_t start = (uintptr_t)find_ours, end;
    struct pw_frames f;
    long n;

    cr_assert(eq(int, dl_iterate_phdr(find_ours, &f), 1));
    n = pw_frames_find(&f, start);
    cr_assert(ge(long, n, 0l));
    end = pw_frames_end(&f, (size_t)n);
    cr_expect(eq(ulong, pw_frames_start(&f, (size_t)n), start));
    cr_expect(lt(ulong, start, end));
    cr_expect(lt(ulong, end, start + 4096));
}

Test(patch, tables_of_another_kind_are_not_read)
{
    unsigned char bad[TABLE_BYTES];
    struct pw_frames f;

    for (int i = 0; i < 4; i++) {
        memcpy(bad, page + HEADER, sizeof bad);
        bad[i] ^= 0x40;
        cr_expect(not(pw_frames_open(&f, bad, sizeof bad)), "byte %d", i);
    }
    memcpy(bad, page + HEADER, sizeof bad);
    cr_expect(not(pw_frames_open(&f, bad, 8)), "too short for a header");
    cr_expect(not(pw_frames_open(&f, bad, sizeof bad - 1)), "or for its table");
    memset(bad + 8, 0, 4);
    cr_expect(not(pw_frames_open(&f, bad, sizeof bad)), "empty");
}

Test(patch, a_description_of_another_kind_has_no_end)
{
    change(CIE + 8, 9);
    cr_expect(zero(ulong, pw_frames_end(&text.frames, 0)));
}

/* ---- laying and arming ---- */

Test(patch, a_patched_call_does_what_it_did)
{
    struct pw_site site;

    cr_assert(zero(int, pw_patch_lay(&text, (uintptr_t)page + CALL, PW_PATCH_SYSCALL, &site)));
    cr_expect(eq(long, call_it(), (long)getpid()), "before the first step");
    cr_expect(pw_patch_undone(&site));
    cr_expect(not(pw_patch_intact(&site)));
    cr_assert(zero(int, pw_patch_arm(&site)));
    cr_expect(pw_patch_intact(&site));
    cr_expect(not(pw_patch_undone(&site)));
    cr_expect(eq(long, call_it(), (long)getpid()), "and after");
    cr_expect(eq(int, (unsigned char)page[CALL], 0xeb));
}

Test(patch, a_patched_call_of_interest_is_told)
{
    struct pw_site site;
    struct pw_reader reader;
    struct pw_change c;
    long (*brk_of)(long) = (__extension__ (long (*)(long))page);
    long now = pw_raw3(SYS_brk, 0, 0, 0);

    change(1, SYS_brk);
    cr_assert(zero(int, pw_records_create(&pw_hooks.records)));
    pw_reader_init(&reader, pw_hooks.records);
    cr_assert(zero(int, pw_patch_lay(&text, (uintptr_t)page + CALL, PW_PATCH_SYSCALL, &site)));
    cr_assert(zero(int, pw_patch_arm(&site)));
    pw_hooks.numbers[0] = (uint64_t)1 << SYS_brk;
    /* Below where the heap starts: the kernel answers and does nothing. */
    cr_expect(eq(long, brk_of(4096), now));
    cr_assert(eq(int, pw_records_read(pw_hooks.records, &reader, &c, 1), 1));
    cr_expect(eq(uint, c.cause, PW_EV_BRK));
    cr_expect(eq(ulong, c.range.start, 4096ul));
}

Test(patch, what_somebody_else_wrote_is_neither_intact_nor_undone)
{
    struct pw_site site;

    cr_assert(zero(int, pw_patch_lay(&text, (uintptr_t)page + CALL, PW_PATCH_SYSCALL, &site)));
    cr_assert(zero(int, pw_patch_arm(&site)));
    change(CALL + 1, 0);
    cr_expect(not(pw_patch_intact(&site)));
    cr_expect(not(pw_patch_undone(&site)));
    change(CALL + 1, site.now[1]);
    change((int)(site.pad - (uintptr_t)page) + 1, 0);
    cr_expect(not(pw_patch_intact(&site)), "nor with the way gone");
}

Test(patch, two_ways_share_the_padding_until_it_is_full)
{
    struct pw_site sites[8];
    int n = 0;

    while (n < 8 && !pw_patch_lay(&text, (uintptr_t)page + CALL, PW_PATCH_SYSCALL,
                                  &sites[n]))
        n++;
    cr_expect(eq(int, n, (NEXT - ENDS) / 5));
    for (int i = 1; i < n; i++)
        cr_expect(eq(ulong, sites[i].pad, sites[i - 1].pad + 5));
    pw_patch_forget(&sites[0]);     /* as when the object is unloaded */
}

Test(patch, only_padding_is_padding)
{
    struct pw_site site;

    change(20, 0xc3);
    cr_expect(eq(int, pw_patch_lay(&text, (uintptr_t)page + CALL, PW_PATCH_SYSCALL, &site),
                 -ENOSPC));
}

Test(patch, without_tables_nothing_is_patched)
{
    struct pw_site site;

    text.frames.count = 0;
    cr_expect(eq(int, pw_patch_lay(&text, (uintptr_t)page + CALL, PW_PATCH_SYSCALL, &site),
                 -ENOSPC));
}

Test(patch, two_bytes_in_two_cache_lines_are_not_patched)
{
    struct pw_site site;

    cr_expect(eq(int, pw_patch_lay(&text, (uintptr_t)page + 63, PW_PATCH_SYSCALL, &site),
                 -ENOSPC));
}

static int lay_without(void *arg)
{
    const unsigned *call = arg;
    struct pw_site site;

    if (deny_call(call[0], call[1]))
        return 100;
    return -pw_patch_lay(&text, (uintptr_t)page + CALL, PW_PATCH_SYSCALL, &site) ==
           (int)call[2] ? 0 : 1;
}

Test(patch, code_that_may_not_be_written_is_not_patched)
{
    unsigned call[] = { SYS_mprotect, EACCES, EPERM };

    cr_expect(zero(int, in_child(lay_without, call)));
}

Test(patch, without_room_near_it_nothing_is_patched)
{
    unsigned call[] = { SYS_mmap, ENOMEM, ENOMEM };

    cr_expect(zero(int, in_child(lay_without, call)));
}

static int arm_without(void *arg)
{
    struct pw_site *site = arg;

    if (deny_call(SYS_mprotect, EACCES))
        return 100;
    return pw_patch_arm(site) == -EPERM ? 0 : 1;
}

Test(patch, the_first_step_may_be_refused)
{
    struct pw_site site;

    cr_assert(zero(int, pw_patch_lay(&text, (uintptr_t)page + CALL, PW_PATCH_SYSCALL, &site)));
    cr_expect(zero(int, in_child(arm_without, &site)));
}

#endif
