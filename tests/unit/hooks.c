/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks.c - every call that changes memory is heard, with its pages and its cause,
 * and does what it did before: results, errno, registers. */
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "hooks_ears.h"
#include "regcache/raw.h"

TestSuite(hooks, .init = ears_open, .fini = ears_close);

/* ---- calls of the program ---- */

Test(hooks, munmap_is_heard)
{
    char *p = map(3);

    hush();
    cr_expect(zero(int, munmap(p + PAGE, PAGE)));
    expect_heard(p + PAGE, PAGE, PW_EV_UNMAP);
}

Test(hooks, the_word_has_moved_when_the_call_returns)
{
    char *p = map(1);
    uint64_t before = *ears->word;

    munmap(p, PAGE);
    cr_expect(EXACT ? *ears->word == before + 1 : *ears->word > before);
}

Test(hooks, munmap_that_fails_says_so_and_changes_nothing)
{
    uint64_t before = *ears->word;

    errno = 0;
    cr_expect(eq(int, munmap((void *)1, PAGE), -1));
    cr_expect(eq(int, errno, EINVAL));
    expect_silence(before);
}

Test(hooks, mmap_over_is_heard)
{
    char *p = map(3);

    hush();
    cr_expect(eq(ptr, mmap(p, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                           -1, 0), p));
    expect_heard(p, 2 * PAGE, PW_EV_MAP_OVER);
}

Test(hooks, mmap_that_fails_says_so)
{
    errno = 0;
    cr_expect(eq(ptr, mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                 MAP_FAILED));
    cr_expect(eq(int, errno, EINVAL));
    errno = 0;
    cr_expect(eq(ptr, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0), MAP_FAILED));
    cr_expect(eq(int, errno, EBADF));
}

Test(hooks, mremap_passes_on_its_fifth_argument)
{
    char *from = map(2), *to = map(2);

    from[PAGE] = 42;
    hush();
    cr_expect(eq(ptr, mremap(from, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to),
                 to));
    listen_to(ears);
    cr_expect(eq(int, n_heard, 2));
    cr_expect(heard_of(from, 2 * PAGE, PW_EV_REMAP));
    cr_expect(heard_of(to, 2 * PAGE, PW_EV_REMAP));
    cr_expect(eq(int, to[PAGE], 42));
}

Test(hooks, mremap_that_fails_says_so)
{
    errno = 0;
    cr_expect(eq(ptr, mremap((void *)PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE), MAP_FAILED));
    cr_expect(eq(int, errno, EFAULT));
}

Test(hooks, madvise_that_drops_pages_is_heard)
{
    char *p = map(3);

    hush();
    cr_expect(zero(int, madvise(p + PAGE, PAGE, MADV_DONTNEED)));
    expect_heard(p + PAGE, PAGE, PW_EV_DISCARD);
    cr_expect(zero(int, p[PAGE]), "it has dropped it");
    madvise(p, PAGE, 102);      /* MADV_GUARD_INSTALL, which old kernels refuse */
    expect_heard(p, PAGE, PW_EV_DISCARD);
}

/* What posix_madvise does not know, it passes on. */
Test(hooks, posix_madvise_is_heard)
{
    char *p = map(1);

    hush();
    cr_expect(zero(int, posix_madvise(p, PAGE, MADV_FREE)));
    expect_heard(p, PAGE, PW_EV_DISCARD);
    cr_expect(eq(int, posix_madvise(p + 1, PAGE, MADV_FREE), EINVAL));
}

Test(hooks, process_madvise_is_heard)
{
    ssize_t (*advise)(int, const struct iovec *, size_t, int, unsigned);
    char *p = map(2);
    struct iovec v = { p, PAGE };
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

    *(void **)&advise = dlsym(RTLD_DEFAULT, "process_madvise");
    if (!advise)
        cr_skip_test("this C library has none");
    hush();
    advise(fd, &v, 1, MADV_DONTNEED, 0);
    expect_heard(p, PAGE, PW_EV_DISCARD);
    errno = 0;
    cr_expect(eq(int, (int)advise(-1, &v, 1, MADV_DONTNEED, 0), -1));
    cr_expect(eq(int, errno, EBADF));
}

Test(hooks, mprotect_to_nothing_is_heard)
{
    char *p = map(2);

    hush();
    cr_expect(zero(int, mprotect(p, PAGE, PROT_NONE)));
    expect_heard(p, PAGE, PW_EV_PROTECT);
    cr_expect(zero(int, pkey_mprotect(p + PAGE, PAGE, PROT_NONE, -1)));
    expect_heard(p + PAGE, PAGE, PW_EV_PROTECT);
    errno = 0;
    cr_expect(eq(int, mprotect((void *)PAGE, PAGE, PROT_NONE), -1));
    cr_expect(eq(int, errno, ENOMEM));
}

Test(hooks, the_break_is_heard_when_it_goes_down)
{
    char *start = sbrk(0);

    cr_assert(ne(ptr, sbrk(64 * (intptr_t)PAGE), (void *)-1));
    hush();
    cr_expect(eq(ptr, sbrk(-64 * (intptr_t)PAGE), start + 64 * PAGE));
    listen_to(ears);
    cr_expect(eq(int, n_heard, 1));
    cr_expect(heard_of(start + PAGE, 63 * PAGE, PW_EV_BRK));
    cr_expect(eq(ptr, sbrk(0), start), "the C library knows where it is");
}

Test(hooks, brk_is_heard_and_the_c_library_keeps_track)
{
    char *start = sbrk(0);

    cr_expect(zero(int, brk(start + 16 * PAGE)));
    cr_expect(eq(ptr, sbrk(0), start + 16 * PAGE));
    hush();
    cr_expect(zero(int, brk(start)));
    cr_expect(eq(ptr, sbrk(0), start));
    cr_expect(eq(int, listen_to(ears), 1));
    errno = 0;
    cr_expect(eq(int, brk((void *)(UINTPTR_MAX / 2)), -1));
    cr_expect(eq(int, errno, ENOMEM));
    cr_expect(eq(ptr, sbrk(0), start));
}

Test(hooks, attaching_over_memory_and_detaching_are_heard)
{
    char *p = map(3);
    int id = shmget(IPC_PRIVATE, 2 * PAGE, IPC_CREAT | 0600);

    cr_assert(ge(int, id, 0));
    hush();
    cr_expect(eq(ptr, shmat(id, p, SHM_REMAP), p));
    expect_heard(p, 2 * PAGE, PW_EV_SHM);
    cr_expect(zero(int, shmdt(p)));
    expect_heard(p, 0, PW_EV_SHM);
    shmctl(id, IPC_RMID, NULL);
    errno = 0;
    cr_expect(eq(int, shmdt((void *)PAGE), -1));
    cr_expect(eq(int, errno, EINVAL));
}

Test(hooks, files_cut_and_punched_are_heard)
{
    char name[] = "/tmp/pinwheel-hooks-XXXXXX";
    int fd = mkstemp(name);

    cr_assert(ge(int, fd, 0));
    hush();
    cr_expect(zero(int, ftruncate(fd, 3 * PAGE)));
    expect_heard(NULL, 0, PW_EV_TRUNCATE);
    cr_expect(eq(int, (int)lseek(fd, 0, SEEK_END), (int)(3 * PAGE)));
    cr_expect(zero(int, truncate(name, PAGE)));
    expect_heard(NULL, 0, PW_EV_TRUNCATE);
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE);
    expect_heard(NULL, 0, PW_EV_TRUNCATE);
    unlink(name);
    close(fd);
    errno = 0;
    cr_expect(eq(int, ftruncate(-1, 0), -1));
    cr_expect(eq(int, errno, EBADF));
}

Test(hooks, remap_file_pages_is_heard)
{
    int fd = memfd_create("hooks", 0);
    char *p;

    cr_assert(zero(int, ftruncate(fd, 2 * PAGE)));
    p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert(ne(ptr, p, MAP_FAILED));
    hush();
    remap_file_pages(p, PAGE, 0, 1, 0);
    expect_heard(p, PAGE, PW_EV_MAP_OVER);
}

/* ---- syscall() ---- */

Test(hooks, syscall_with_any_number_is_heard)
{
    char *p = map(2);

    hush();
    cr_expect(zero(int, (int)syscall(SYS_munmap, p, PAGE)));
    expect_heard(p, PAGE, PW_EV_UNMAP);
    cr_expect(eq(ptr, (void *)syscall(SYS_mmap, p + PAGE, PAGE, PROT_READ,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                 p + PAGE), "all six arguments");
    expect_heard(p + PAGE, PAGE, PW_EV_MAP_OVER);
}

Test(hooks, syscall_of_other_calls_is_as_ever)
{
    uint64_t before = *ears->word;

    cr_expect(eq(int, (int)syscall(SYS_getpid), getpid()));
    errno = 0;
    cr_expect(eq(int, (int)syscall(5000), -1));
    cr_expect(eq(int, errno, ENOSYS));
    errno = 0;
    cr_expect(eq(int, (int)syscall(SYS_close, -1), -1));
    cr_expect(eq(int, errno, EBADF));
    expect_silence(before);
}

Test(hooks, syscall_can_fork)
{
    int status = 0;
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

    if (!pid)
        _exit(7);
    waitpid(pid, &status, 0);
    cr_expect(eq(int, WEXITSTATUS(status), 7));
}

/* ---- calls inside the C library ---- */

Test(hooks, free_of_a_large_block_is_heard)
{
    char *p = malloc(64 << 20);
    uintptr_t at = (uintptr_t)p;

    memset(p, 1, 64 << 20);
    hush();
    free(p);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    listen_to(ears);
    cr_expect(eq(int, n_heard, 1));
    cr_expect(heard_at(at, 64 << 20, PW_EV_UNMAP));
#else
    (void)at;
#endif
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
Test(hooks, realloc_of_a_large_block_is_heard)
{
    char *p = malloc(8 << 20), *q;
    uintptr_t at = (uintptr_t)p;

    memset(p, 1, 8 << 20);
    hush();
    q = realloc(p, 64 << 20);
    memset(q, 1, 64 << 20);
    listen_to(ears);
    cr_expect(heard_at(at, 8 << 20, PW_EV_REMAP));
    free(q);
}

Test(hooks, trimming_the_heap_is_heard)
{
    char *blocks[64];
    uintptr_t last;

    for (int i = 0; i < 64; i++)
        memset(blocks[i] = malloc(100000), 1, 100000);
    last = (uintptr_t)blocks[63];
    hush();
    for (int i = 0; i < 64; i++)
        free(blocks[i]);
    malloc_trim(0);
    listen_to(ears);
    cr_expect(heard_at(last, PAGE, PW_EV_BRK), "from the top");
}

static uintptr_t in_arena;

static void *use_an_arena(void *arg)
{
    char *blocks[64];

    (void)arg;
    for (int i = 0; i < 64; i++)
        memset(blocks[i] = malloc(100000), 1, 100000);
    in_arena = (uintptr_t)blocks[63];
    for (int i = 0; i < 64; i++)
        free(blocks[i]);
    return NULL;
}

Test(hooks, trimming_another_threads_heap_is_heard)
{
    pthread_t t;

    hush();
    cr_assert(zero(int, pthread_create(&t, NULL, use_an_arena, NULL)));
    pthread_join(t, NULL);
    listen_to(ears);
    cr_expect(heard_at(in_arena, PAGE, PW_EV_DISCARD) ||
              heard_at(in_arena, PAGE, PW_EV_UNMAP) ||
              heard_at(in_arena, PAGE, PW_EV_MAP_OVER));
}
#endif

/* A small one that comes with the C library and that nothing here needs. */
#define SMALL_OBJECT "libBrokenLocale.so.1"

Test(hooks, unloading_an_object_is_heard)
{
    void *object = dlopen(SMALL_OBJECT, RTLD_NOW);
    void *inside = object ? dlsym(object, "__ctype_get_mb_cur_max") : NULL;

    if (!inside)
        cr_skip_test("no " SMALL_OBJECT);
    hush();
    cr_expect(zero(int, dlclose(object)));
    listen_to(ears);
    cr_expect(heard_of(inside, 1, PW_EV_DLCLOSE));
}

/* ---- what changes nothing ---- */

Test(hooks, harmless_calls_leave_the_word_alone)
{
    char *p = map(4);
    uint64_t before = *ears->word;

    mprotect(p, PAGE, PROT_READ);
    mprotect(p, PAGE, PROT_READ | PROT_WRITE);
    madvise(p, PAGE, MADV_WILLNEED);
    madvise(p, PAGE, MADV_HUGEPAGE);
    mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sbrk((intptr_t)PAGE);
    mremap(p, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE);
    expect_silence(before);
}

/* ---- other processes, signals, threads ---- */

static char *shared_page;
static char stack[1 << 16];

static int unmap_it(void *arg)
{
    (void)arg;
    return munmap(shared_page, PAGE);
}

Test(hooks, a_process_with_the_same_memory_is_heard)
{
    int status = 1;
    pid_t pid;

#ifdef __SANITIZE_THREAD__
    cr_skip_test("ThreadSanitizer takes the process for a thread it knows");
#endif
    shared_page = map(1);
    hush();
    pid = clone(unmap_it, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
    cr_assert(lt(int, 0, pid));
    waitpid(pid, &status, 0);
    cr_expect(zero(int, status));
    listen_to(ears);
    cr_expect(heard_of(shared_page, PAGE, PW_EV_UNMAP));
}

Test(hooks, a_child_of_vfork_is_heard)
{
    int status = 1;
    pid_t pid;

#ifdef __SANITIZE_THREAD__
    cr_skip_test("ThreadSanitizer makes fork of vfork");
#endif
    shared_page = map(1);
    hush();
    pid = vfork();
    if (!pid) {
        munmap(shared_page, PAGE);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    listen_to(ears);
    cr_expect(heard_of(shared_page, PAGE, PW_EV_UNMAP));
}

static int hear_in_the_child(void *arg)
{
    (void)arg;
    listen_to(ears);
    if (heard[0].cause != PW_EV_LOST)
        return 1;
    munmap(shared_page, PAGE);
    listen_to(ears);
    if (!heard_of(shared_page, PAGE, PW_EV_UNMAP))
        return 2;
    shared_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                       0);
    return watch(shared_page, PAGE) ? 3 : 0;
}

Test(hooks, a_forked_child_hears_its_own_and_the_parent_does_not)
{
    uint64_t before;

    shared_page = map(1);
    hush();
    before = *ears->word;
    cr_expect(zero(int, in_child(hear_in_the_child, NULL)));
    expect_silence(before);
}

static int watch_after_load(void *arg)
{
    (void)arg;
    listen_to(ears);
    if (watch(shared_page, PAGE))
        return 1;
    if (!dlopen("libBrokenLocale.so.1", RTLD_NOW))
        return 0;
    listen_to(ears);
    return watch(shared_page, PAGE) == -EOPNOTSUPP ? 0 : 2;
}

static void *stand_by(void *arg)
{
    pthread_barrier_wait(arg);
    pthread_barrier_wait(arg);
    return NULL;
}

/* Another thread of the parent may have held the dynamic linker's lock. So a child
 * does not ask it: it goes by what the parent knew, as long as that is enough. */
Test(hooks, a_child_forked_beside_threads_does_not_ask_the_dynamic_linker)
{
    pthread_barrier_t step;
    pthread_t t;

    shared_page = map(1);
    cr_assert(zero(int, watch(shared_page, PAGE)));
    pthread_barrier_init(&step, NULL, 2);
    cr_assert(zero(int, pthread_create(&t, NULL, stand_by, &step)));
    pthread_barrier_wait(&step);
    cr_expect(zero(int, in_child(watch_after_load, NULL)));
    pthread_barrier_wait(&step);
    pthread_join(t, NULL);
}

static void unmap_in_handler(int sig)
{
    (void)sig;
    munmap(shared_page, PAGE);
}

Test(hooks, a_signal_handler_is_heard)
{
    shared_page = map(1);
    signal(SIGUSR1, unmap_in_handler);
    hush();
    raise(SIGUSR1);
    listen_to(ears);
    cr_expect(heard_of(shared_page, PAGE, PW_EV_UNMAP));
}

/* ---- what a hook leaves as it was ---- */

#ifdef __x86_64__
struct registers {
    uint64_t general[8];        /* rdi, rsi, rdx, r8, r9, r10, rbx, r12 */
    unsigned char vector[16][16];
};

/* munmap as the C library has it touches none of these. */
static void call_munmap(struct registers *in, struct registers *out)
{
    __asm__ volatile(
        "push %%rbp\n\t push %%rbx\n\t push %%r12\n\t"
        "push %[out]\n\t sub $8, %%rsp\n\t mov %[call], %%r11\n\t mov %[in], %%rax\n\t"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n\t"
        "movdqu 64 + 16 * \\n(%%rax), %%xmm\\n\n\t"
        ".endr\n\t"
        "mov (%%rax), %%rdi\n\t mov 8(%%rax), %%rsi\n\t mov 16(%%rax), %%rdx\n\t"
        "mov 24(%%rax), %%r8\n\t mov 32(%%rax), %%r9\n\t mov 40(%%rax), %%r10\n\t"
        "mov 48(%%rax), %%rbx\n\t mov 56(%%rax), %%r12\n\t"
        "call *%%r11\n\t"
        "add $8, %%rsp\n\t pop %%rax\n\t"
        "mov %%rdi, (%%rax)\n\t mov %%rsi, 8(%%rax)\n\t mov %%rdx, 16(%%rax)\n\t"
        "mov %%r8, 24(%%rax)\n\t mov %%r9, 32(%%rax)\n\t mov %%r10, 40(%%rax)\n\t"
        "mov %%rbx, 48(%%rax)\n\t mov %%r12, 56(%%rax)\n\t"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n\t"
        "movdqu %%xmm\\n, 64 + 16 * \\n(%%rax)\n\t"
        ".endr\n\t"
        "pop %%r12\n\t pop %%rbx\n\t pop %%rbp"
        : : [in] "r"(in), [out] "r"(out), [call] "r"(dlsym(RTLD_DEFAULT, "munmap"))
        : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc",
          "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
          "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

Test(hooks, all_registers_are_kept)
{
    struct registers in, out;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    cr_skip_test("a sanitizer's munmap uses registers");
#endif
    memset(&out, 0, sizeof out);
    for (size_t i = 0; i < sizeof in; i++)
        ((unsigned char *)&in)[i] = (unsigned char)(i * 7 + 1);
    in.general[0] = (uintptr_t)map(1);
    in.general[1] = PAGE;
    hush();
    call_munmap(&in, &out);
    expect_heard((void *)in.general[0], PAGE, PW_EV_UNMAP);
    for (int i = 0; i < 8; i++)
        cr_expect(eq(u64, out.general[i], in.general[i]), "general register %d", i);
    for (int i = 0; i < 16; i++)
        cr_expect(zero(int, memcmp(out.vector[i], in.vector[i], 16)), "xmm%d", i);
}
#endif

static void *frames[64];
static int n_frames;

static void look_back(int depth)
{
    if (depth > 0)
        n_frames = backtrace(frames, 64);
}

static __attribute__((noinline)) void unmap_and_more(char *p)
{
    munmap(p, PAGE);
    *(volatile char *)(p + PAGE) = 1;
}

/* As a debugger does, or the cancellation of a thread. */
Test(hooks, the_stack_can_be_walked_from_inside_a_hook)
{
    uintptr_t caller = (uintptr_t)unmap_and_more;
    char *p = map(2);
    bool found = false;

    backtrace(frames, 64);      /* which loads what it needs */
    __atomic_store_n(&pw_hooks.witness, look_back, __ATOMIC_RELAXED);
    unmap_and_more(p);
    __atomic_store_n(&pw_hooks.witness, NULL, __ATOMIC_RELAXED);
    for (int i = 0; i < n_frames; i++)
        found |= (uintptr_t)frames[i] - caller < 256;
    cr_expect(found);
}

/* ---- what is vouched for ---- */

Test(hooks, private_memory_is_watched)
{
    cr_expect(zero(int, watch(map(4), 4 * PAGE)));
}

Test(hooks, memory_that_others_can_change_is_not)
{
    int fd = memfd_create("hooks", 0);
    char *p, *q;

    cr_assert(zero(int, ftruncate(fd, PAGE)));
    p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    cr_expect(eq(int, watch(p, PAGE), -EOPNOTSUPP));
    cr_expect(eq(int, watch(q, PAGE), -EOPNOTSUPP));
}

Test(hooks, what_is_not_mapped_is_not)
{
    char *p = map(2);

    munmap(p + PAGE, PAGE);
    cr_expect(eq(int, watch(p, 2 * PAGE), -EFAULT));
}

Test(hooks, what_is_being_changed_is_not)
{
    char *p = map(2);
    struct pw_range r = { (uintptr_t)p, (uintptr_t)p + PAGE };
    struct pw_mark mark = pw_records_begin(pw_hooks.records, r, PW_EV_UNMAP);

    cr_expect(eq(int, watch(p, 2 * PAGE), -EAGAIN));
    pw_records_end(pw_hooks.records, mark);
    cr_expect(zero(int, watch(p, 2 * PAGE)));
}

Test(hooks, a_watch_is_fresh_until_the_pages_change)
{
    char *p = map(2), *q = map(1);
    struct pw_range r = { (uintptr_t)p, (uintptr_t)p + 2 * PAGE };
    struct pw_watch w;

    cr_assert(zero(int, pw_hooks_monitor.watch(ears, r, &w)));
    munmap(q, PAGE);
    cr_expect(pw_hooks_monitor.fresh(ears, r, &w));
    madvise(p + PAGE, PAGE, MADV_DONTNEED);
    cr_expect(not(pw_hooks_monitor.fresh(ears, r, &w)));
    pw_hooks_monitor.unwatch(ears, r, &w);
}

Test(hooks, it_declares_what_it_sees)
{
    cr_expect(eq(uint, ears->sees, (unsigned)(PW_EV_ALL & ~PW_EV_RAW & ~PW_EV_OTHERS)));
    cr_expect(ne(str, ears->note, (char *)""));
}

/* ---- several monitors, one after the other ---- */

Test(hooks, two_monitors_hear_the_same)
{
    struct pw_monitor *second = ears_another();
    char *p = map(2);

    hush();
    listen_to(second);
    munmap(p, PAGE);
    expect_heard(p, PAGE, PW_EV_UNMAP);
    listen_to(second);
    cr_expect(heard_of(p, PAGE, PW_EV_UNMAP));
    pw_hooks_monitor.close(second);
    munmap(p + PAGE, PAGE);
    expect_heard(p + PAGE, PAGE, PW_EV_UNMAP);
}

Test(hooks, after_the_last_is_closed_calls_are_not_recorded)
{
    const uint64_t *word = ears->word;
    char *p = map(2);
    uint64_t before;

    pw_hooks_monitor.close(ears);
    before = *word;
    cr_expect(zero(int, munmap(p, PAGE)));
    cr_expect(eq(u64, *word, before));
    ears_open();
    munmap(p + PAGE, PAGE);
    expect_heard(p + PAGE, PAGE, PW_EV_UNMAP);
}
