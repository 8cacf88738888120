/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_others.c - others who patch the same functions, and code that passes by:
 * joined where all is still heard, and no longer vouched for where it is not. */
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "hooks_ears.h"
#include "regcache/hooks_install.h"
#include "regcache/raw.h"

TestSuite(hooks_others);

static void expect_blind(const char *word)
{
    cr_expect(eq(int, watch(map(1), PAGE), -EOPNOTSUPP));
    cr_expect(eq(uint, ears->sees, (unsigned)PW_EV_LOST));
    cr_expect(ne(ptr, strstr(ears->note, word), NULL), "%s", ears->note);
}

/* One of everything that allocators do, heard by us. */
static void expect_all_heard(void)
{
    char *p = map(8), *q = malloc(64 << 20), *brk;
    uintptr_t at = (uintptr_t)q;

    hush();
    munmap(p, PAGE);
    expect_heard(p, PAGE, PW_EV_UNMAP);
    mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    expect_heard(p + PAGE, PAGE, PW_EV_MAP_OVER);
    madvise(p + 2 * PAGE, PAGE, MADV_DONTNEED);
    expect_heard(p + 2 * PAGE, PAGE, PW_EV_DISCARD);
    mremap(p + 3 * PAGE, 2 * PAGE, PAGE, 0);
    expect_heard(p + 4 * PAGE, PAGE, PW_EV_REMAP);
    brk = sbrk(4 * (intptr_t)PAGE);
    sbrk(-4 * (intptr_t)PAGE);
    listen_to(ears);
    cr_expect(heard_of(brk + PAGE, 3 * PAGE, PW_EV_BRK));
    free(q);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    listen_to(ears);
    cr_expect(heard_at(at, 64 << 20, PW_EV_UNMAP));
#endif
    (void)at;
}

/* ---- UCX's UCM and Open MPI's patcher ---- */

static int theirs;      /* events that they told of */

static void count_ucm(int type, void *event, void *arg)
{
    (void)type, (void)event, (void)arg;
    theirs++;
}

/* Its header need not be installed; from ucm/api/ucm.h: */
enum { UCM_EVENT_VM_MAPPED = 1 << 16, UCM_EVENT_VM_UNMAPPED = 1 << 17 };

static bool start_ucm(void)
{
    int (*handler)(int, int, void (*)(int, void *, void *), void *);
    void *ucs = dlopen("libucs.so.0", RTLD_NOW | RTLD_GLOBAL);
    void *ucm = dlopen("libucm.so.0", RTLD_NOW | RTLD_GLOBAL);

    if (!ucs || !ucm)
        return false;
    *(void **)&handler = dlsym(ucm, "ucm_set_event_handler");
    return handler && !handler(UCM_EVENT_VM_MAPPED | UCM_EVENT_VM_UNMAPPED, 1000, count_ucm,
                               NULL);
}

static void count_opal(void *buf, size_t len, void *arg, bool from_alloc)
{
    (void)buf, (void)len, (void)arg, (void)from_alloc;
    theirs++;
}

static void *opal;

static void *opal_symbol(const char *name)
{
    return opal ? dlsym(opal, name) : NULL;
}

static bool start_opal(void)
{
    int (*init)(int *, char ***), (*open_framework)(void *, unsigned);
    int (*listen_to_release)(void (*)(void *, size_t, void *, bool), void *);
    char **argv = NULL;
    int argc = 0;

    others_run = true;          /* Open MPI's threads, when they end, too */
    opal = dlopen("libopen-pal.so.40", RTLD_NOW | RTLD_GLOBAL);
    *(void **)&init = opal_symbol("opal_init");
    *(void **)&open_framework = opal_symbol("mca_base_framework_open");
    *(void **)&listen_to_release = opal_symbol("opal_mem_hooks_register_release");
    return init && open_framework && listen_to_release && !init(&argc, &argv) &&
           !open_framework(opal_symbol("opal_memory_base_framework"), 0) &&
           !listen_to_release(count_opal, NULL);
}

static void stop_opal(void)
{
    int (*close_framework)(void *), (*finalize)(void);

    *(void **)&close_framework = opal_symbol("mca_base_framework_close");
    *(void **)&finalize = opal_symbol("opal_finalize");
    cr_expect(zero(int, close_framework(opal_symbol("opal_memory_base_framework"))));
    finalize();
}

static void expect_both_hear(void)
{
    char *p = map(1);

    theirs = 0;
    expect_all_heard();
    cr_expect(lt(int, 0, theirs), "and so do they");
    munmap(p, PAGE);
}

static void they_come_first(bool (*start)(void), const char *who)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    cr_skip_test("they patch what a sanitizer intercepts");
#endif
    if (!start())
        cr_skip_test("no %s", who);
    ears_open();
    cr_expect(zero(int, watch(map(1), PAGE)));
    expect_both_hear();
}

static void we_come_first(bool (*start)(void), const char *who)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    cr_skip_test("they patch what a sanitizer intercepts");
#endif
    ears_open();
    if (!start())
        cr_skip_test("no %s", who);
    hush();
    cr_expect(zero(int, watch(map(1), PAGE)));
    expect_both_hear();
}

Test(hooks_others, ucm_before_us)
{
    they_come_first(start_ucm, "UCX");
}

Test(hooks_others, ucm_after_us)
{
    we_come_first(start_ucm, "UCX");
}

Test(hooks_others, open_mpis_patcher_before_us)
{
    they_come_first(start_opal, "Open MPI");
    stop_opal();                /* which puts back what was there before us */
    hush();
    cr_expect(zero(int, watch(map(1), PAGE)));
    expect_all_heard();
}

Test(hooks_others, open_mpis_patcher_after_us)
{
    we_come_first(start_opal, "Open MPI");
    stop_opal();
    hush();
    cr_expect(zero(int, watch(map(1), PAGE)));
    expect_all_heard();
}

Test(hooks_others, ucm_and_open_mpi_and_we)
{
    if (!start_ucm())
        cr_skip_test("no UCX");
    we_come_first(start_opal, "Open MPI");
}

/* ---- a patcher of our own ---- */

enum { JUMP = 13 };
static unsigned char *victim, before_jump[JUMP];

static void write_text(const void *bytes)
{
    char *page = (char *)((uintptr_t)victim & ~(PAGE - 1));

    cr_assert(zero(int, mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC)));
    memcpy(victim, bytes, JUMP);
    cr_assert(zero(int, mprotect(page, 2 * PAGE, PROT_READ | PROT_EXEC)));
}

/* movabs $to, %r11; jmp *%r11 */
static void patch_munmap(void *to)
{
    unsigned char jump[JUMP] = { 0x49, 0xbb };
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);

    memcpy(jump + 2, &to, sizeof to);
    memcpy(jump + 10, "\x41\xff\xe3", 3);
    victim = dlsym(libc, "munmap");
    memcpy(before_jump, victim, JUMP);
    write_text(jump);
}

static int munmap_that_passes_on(void *addr, size_t len)
{
    return (int)syscall(SYS_munmap, addr, len);
}

static int munmap_that_does_not(void *addr, size_t len)
{
    return (int)pw_raw3(SYS_munmap, (long)(uintptr_t)addr, (long)len, 0);
}

Test(hooks_others, to_be_patched_is_to_have_lost_everything)
{
    ears_open();
    hush();
    patch_munmap((void *)munmap_that_passes_on);
    listen_to(ears);
    cr_expect(heard_a_loss());
}

Test(hooks_others, a_patcher_that_passes_calls_on_is_joined)
{
    char *p = map(1);

    ears_open();
    patch_munmap((void *)munmap_that_passes_on);
    cr_expect(zero(int, watch(p, PAGE)));
    expect_all_heard();
    write_text(before_jump);
    cr_expect(zero(int, watch(p, PAGE)));
    expect_all_heard();
}

Test(hooks_others, a_patcher_that_does_not_ends_it)
{
    ears_open();
    patch_munmap((void *)munmap_that_does_not);
    expect_blind("munmap()");
    pw_hooks_monitor.close(ears);
}

Test(hooks_others, a_patcher_that_does_not_and_was_first_is_named)
{
    char why[PW_MONITOR_WHY_MAX] = "";
    struct pw_monitor *m;

    patch_munmap((void *)munmap_that_does_not);
    cr_expect(eq(int, pw_hooks_monitor.open(&m, why), -ENODEV));
    cr_expect(eq(ptr, m, NULL));
    cr_expect(ne(ptr, strstr(why, "munmap()"), NULL), "%s", why);
    cr_expect(eq(int, pw_hooks_open_under(&m, why), -ENODEV), "nor for another monitor");
}

Test(hooks_others, while_the_code_is_writable_nothing_is_vouched_for)
{
    char *page, *p = map(1);

    ears_open();
    page = (char *)((uintptr_t)dlsym(RTLD_DEFAULT, "madvise") & ~(PAGE - 1));
    mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    cr_expect(eq(int, watch(p, PAGE), -EOPNOTSUPP));
    mprotect(page, 2 * PAGE, PROT_READ | PROT_EXEC);
    cr_expect(zero(int, watch(p, PAGE)));
}

Test(hooks_others, what_failed_to_make_the_code_writable_did_not)
{
    char *page, *p = map(1);

    ears_open();
    page = (char *)((uintptr_t)dlsym(RTLD_DEFAULT, "madvise") & ~(PAGE - 1));
    errno = 0;
    cr_assert(eq(int, mprotect(page - PAGE + 1, 4 * PAGE, PROT_READ | PROT_WRITE), -1));
    cr_expect(eq(int, errno, EINVAL));
    cr_expect(zero(int, watch(p, PAGE)));
}

/* The kernel changes pages one after the other, up to the first that is not there. */
Test(hooks_others, what_failed_at_a_hole_made_the_code_before_it_writable)
{
    char *page, *p = map(1);

    ears_open();
    page = (char *)((uintptr_t)dlsym(RTLD_DEFAULT, "madvise") & ~(PAGE - 1));
    cr_assert(eq(int, mprotect(page, (size_t)1 << 46, PROT_READ | PROT_WRITE | PROT_EXEC),
                 -1));
    cr_expect(eq(int, watch(p, PAGE), -EOPNOTSUPP));
}

/* ---- code that passes by ---- */

static char *raw_object(void)
{
    static char path[4096];

    snprintf(path, sizeof path, "%s/.libs/hooks_object.so",
             getenv("PW_BUILD") ? getenv("PW_BUILD") : ".");
    return path;
}

Test(hooks_others, an_object_with_calls_of_its_own_ends_it)
{
    char *p = map(1);

    ears_open();
    cr_assert(zero(int, watch(p, PAGE)));
    hush();
    cr_assert(ne(ptr, dlopen(raw_object(), RTLD_NOW), NULL), "%s", dlerror());
    listen_to(ears);
    cr_expect(heard_a_loss(), "before it can do anything");
    expect_blind("hooks_object.so");
    cr_expect(ne(ptr, strstr(ears->note, "munmap"), NULL));
}

Test(hooks_others, an_object_with_calls_of_its_own_is_a_reason_not_to_open)
{
    char why[PW_MONITOR_WHY_MAX] = "";
    struct pw_monitor *m;

    cr_assert(ne(ptr, dlopen(raw_object(), RTLD_NOW), NULL), "%s", dlerror());
    cr_expect(eq(int, pw_hooks_monitor.open(&m, why), -ENODEV));
    cr_expect(ne(ptr, strstr(why, "hooks_object.so"), NULL), "%s", why);
    cr_expect(zero(int, pw_hooks_open_under(&m, why)), "but for who sees such calls");
    pw_hooks_monitor.close(m);
}

Test(hooks_others, a_ring_of_io_uring_ends_it_for_all)
{
    struct pw_monitor *second;
    char why[PW_MONITOR_WHY_MAX], params[120] = { 0 };

    ears_open();
    second = ears_another();
    hush();
    syscall(SYS_io_uring_setup, 1, params);
    listen_to(second);
    cr_expect(heard_a_loss());
    expect_blind("io_uring");
    listen_to(ears);
    cr_expect(heard_a_loss());
    cr_expect(eq(int, pw_hooks_monitor.open(&second, why), -ENODEV));
}

#ifdef __x86_64__
/* mov $nr, %eax; syscall; ret. Not in one piece, or the compiler may leave it whole
 * among this program's own code, where it is found as well. */
static void make_code(char *p, char nr)
{
    static const char parts[] = { 0x0f, 0, 0, 0, 0, 0x05, (char)0xb8, (char)0xc3 };
    volatile char *to = p + 100;

    memset(p, 0x90, PAGE);
    to[0] = parts[6];
    to[1] = nr;
    to[2] = to[3] = to[4] = 0;
    to[5] = parts[0];
    to[6] = parts[5];
    to[7] = parts[7];
    cr_assert(zero(int, mprotect(p, PAGE, PROT_READ | PROT_EXEC)));
}

Test(hooks_others, code_made_at_run_time_with_such_calls_ends_it)
{
    ears_open();
    hush();
    make_code(map(1), SYS_munmap);
    listen_to(ears);
    cr_expect(heard_a_loss());
    expect_blind("made at run time");
}

Test(hooks_others, code_made_at_run_time_without_does_not)
{
    ears_open();
    hush();
    make_code(map(1), SYS_getpid);
    listen_to(ears);
    cr_expect(not(heard_a_loss()));
    cr_expect(zero(int, watch(map(1), PAGE)));
}

/* mov %edi, %eax; syscall; ret. */
static void make_any(char *p)
{
    static const char parts[] = { 0x0f, (char)0x89, (char)0xf8, 0x05, (char)0xc3 };
    volatile char *to = p + 100;

    memset(p, 0x90, PAGE);
    to[0] = parts[1];
    to[1] = parts[2];
    to[2] = parts[0];
    to[3] = parts[3];
    to[4] = parts[4];
    cr_assert(zero(int, mprotect(p, PAGE, PROT_READ | PROT_EXEC)));
}

Test(hooks_others, code_that_can_make_any_call_ends_it)
{
    ears_open();
    hush();
    make_any(map(1));
    listen_to(ears);
    cr_expect(heard_a_loss());
    expect_blind("any call");
    cr_expect(ne(ptr, (void *)pw_hooks_untold(), NULL));
}

/* mov $91, %eax; int $0x80; nop: munmap by the 32-bit entry. */
static void make_32(char *p)
{
    static const char parts[] = { (char)0xcd, (char)0xb8, (char)0x80, 91 };
    volatile char *to = p + 100;

    memset(p, 0x90, PAGE);
    to[0] = parts[1];
    to[1] = parts[3];
    to[2] = to[3] = to[4] = 0;
    to[7] = parts[0];
    to[8] = parts[2];
    cr_assert(zero(int, mprotect(p, PAGE, PROT_READ | PROT_EXEC)));
}

Test(hooks_others, code_that_unmaps_by_the_32_bit_entry_ends_it)
{
    ears_open();
    hush();
    make_32(map(1));
    listen_to(ears);
    cr_expect(heard_a_loss());
    expect_blind("any call");
}

Test(hooks_others, what_userfaultfd_tells_of_is_told_from_what_it_does_not)
{
    ears_open();
    make_code(map(1), SYS_munmap);
    listen_to(ears);
    cr_expect(eq(ptr, (void *)pw_hooks_untold(), NULL));
    make_code(map(1), SYS_madvise);
    listen_to(ears);
    cr_assert(ne(ptr, (void *)pw_hooks_untold(), NULL));
    cr_expect(ne(ptr, strstr(pw_hooks_untold(), "madvise"), NULL));
}

Test(hooks_others, code_that_is_gone_again_is_not_looked_at)
{
    char *p = map(1);

    ears_open();
    hush();
    make_code(p, SYS_munmap);
    munmap(p, PAGE);
    expect_heard(p, PAGE, PW_EV_UNMAP);
    cr_expect(zero(int, watch(map(1), PAGE)));
}
#endif

Test(hooks_others, a_second_c_library_ends_it)
{
    ears_open();
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    cr_skip_test("not with a sanitizer");
#endif
    if (!dlmopen(LM_ID_NEWLM, "libBrokenLocale.so.1", RTLD_NOW))
        cr_skip_test("no dlmopen: %s", dlerror());
    expect_blind("dlmopen");
}

Test(hooks_others, harmless_objects_come_and_go)
{
    char *p = map(1);

    ears_open();
    for (int i = 0; i < 3; i++) {
        void *object = dlopen("libBrokenLocale.so.1", RTLD_NOW);

        cr_expect(zero(int, watch(p, PAGE)));
        if (object)
            dlclose(object);
        cr_expect(zero(int, watch(p, PAGE)));
    }
    expect_all_heard();
}

/* ---- what open refuses, in processes that are denied something ---- */

static int open_without(void *arg)
{
    const unsigned *call = arg;     /* number, error, what open is to return */
    char why[PW_MONITOR_WHY_MAX] = "";
    struct pw_monitor *m;

    if (deny_call(call[0], call[1]))
        return 100;
    if (pw_hooks_monitor.open(&m, why) != -(int)call[2])
        return 1;
    return m || !*why ? 2 : 0;
}

Test(hooks_others, code_that_may_not_be_changed_is_a_reason_not_to_open)
{
    unsigned call[] = { SYS_mprotect, EACCES, EPERM };

    cr_expect(zero(int, in_child(open_without, call)));
}

Test(hooks_others, a_kernel_that_cannot_wipe_memory_is_one)
{
    unsigned call[] = { SYS_madvise, EINVAL, ENODEV };

    cr_expect(zero(int, in_child(open_without, call)));
}

Test(hooks_others, no_memory_is_one)
{
#ifdef __SANITIZE_THREAD__
    cr_skip_test("ThreadSanitizer ends the process");
#endif
    unsigned call[] = { SYS_mmap, ENOMEM, ENOMEM };

    cr_expect(zero(int, in_child(open_without, call)));
}
