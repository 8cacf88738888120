/* SPDX-License-Identifier: BSD-3-Clause */
/* calls.c - what the driver's calls refuse, how many ranges it watches, and how watches
 * end: dropped, closed, with their process, with a child that still has the descriptor.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/vm/watched.h"

/* x86_64: an address that no process has, with any number of levels of page tables; and
 * one that a process may have, and never maps. */
#define BEYOND (1ul << 62)
#define UNMAPPED (void *)0x7fffffffe000ul

static int try_ioctl(unsigned long call, const void *arg)
{
    return ioctl(dev, call, arg) ? -errno : 0;
}

static int refused(const void *start, size_t len, unsigned access)
{
    struct pw_kd_watch w;

    return watch_try(start, len, access, &w);
}

/* ---- refusals ---- */

static void bad_ranges(void)
{
    char *p = anon(8 * PAGE);
    long watches = counter("watches");

    expect(refused(p, 0, BOTH) == -EINVAL);
    expect(refused(p, -PAGE, BOTH) == -EINVAL);
    expect(refused(p + 1, PAGE, BOTH) == -EINVAL);
    expect(refused(p, PAGE + 1, BOTH) == -EINVAL);
    expect(refused((void *)BEYOND, PAGE, BOTH) == -EINVAL);
    expect(refused(p, BEYOND, BOTH) == -EINVAL);
    expect(refused((void *)-PAGE, PAGE, BOTH) == -EINVAL);
    expect(refused(p, PAGE, 0) == -EINVAL);
    expect(refused(p, PAGE, PW_KD_WRITE) == -EINVAL);
    expect(refused(p, PAGE, BOTH | 4) == -EINVAL);
    expect(refused(NULL, PAGE, READ) == -ENOENT);
    expect(refused(UNMAPPED, PAGE, READ) == -ENOENT);

    munmap(p, PAGE);
    munmap(p + 3 * PAGE, PAGE);
    munmap(p + 6 * PAGE, 2 * PAGE);
    expect(refused(p, 2 * PAGE, READ) == -ENOENT, ": a hole first");
    expect(refused(p + PAGE, 4 * PAGE, READ) == -ENOENT, ": amid");
    expect(refused(p + 5 * PAGE, 2 * PAGE, READ) == -ENOENT, ": last");
    expect(refused(p, PAGE, READ) == -ENOENT, ": nothing else");

    mprotect(p + PAGE, PAGE, PROT_READ);
    mprotect(p + 5 * PAGE, PAGE, PROT_NONE);
    expect(refused(p + PAGE, 2 * PAGE, BOTH) == -EACCES);
    expect(refused(p + 4 * PAGE, 2 * PAGE, READ) == -EACCES);
    expect(refused(p + PAGE, 4 * PAGE, BOTH) == -ENOENT, ": a hole is worse");
    expect(refused(p + PAGE, 2 * PAGE, READ) == 0);
    expect(counter("watches") == watches + 1);
}

static void bad_arguments(void)
{
    char *p = anon(PAGE);
    struct pw_kd_watch *w = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long watches = counter("watches");

    for (unsigned i = 0; i < sizeof w->reserved; i++) {
        *w = (struct pw_kd_watch){ .start = (uintptr_t)p, .end = (uintptr_t)p + PAGE,
                                   .access = READ };
        ((char *)w->reserved)[i] = 1;
        expect(try_ioctl(PW_KD_WATCH, w) == -EINVAL, ": byte %u", i);
    }
    expect(try_ioctl(PW_KD_WATCH, NULL) == -EFAULT);
    expect(try_ioctl(PW_KD_SHARE, NULL) == -EFAULT && try_ioctl(PW_KD_POOL, NULL) == -EFAULT);
    expect(try_ioctl(PW_KD_SHARE, &(struct pw_kd_share){ .reserved = 1 }) == -EINVAL);
    expect(try_ioctl(PW_KD_POOL, &(struct pw_kd_pool){ .size = HUGE, .reserved = 1 }) == -EINVAL);
    for (unsigned i = 0; i < 2; i++) {
        struct pw_kd_pool pool = { .size = HUGE };

        pool.reserved2[i] = 1;
        expect(try_ioctl(PW_KD_POOL, &pool) == -EINVAL);
    }
    memset(w->reserved, 0, sizeof w->reserved);
    expect(try_ioctl(PW_KD_DROP, &(struct pw_kd_slot){ PW_KD_FIRST_SLOT, 1 }) == -EINVAL);
    expect(try_ioctl(PW_KD_DROP, NULL) == -EFAULT);
    for (unsigned i = 0; i <= PW_KD_FIRST_SLOT; i++)
        expect(drop_try(i) == -ENOENT, ": slot %u", i);
    expect(drop_try(~0u) == -ENOENT);
    expect(try_ioctl(PW_KD_INFO, NULL) == -EFAULT);
    expect(counter("watches") == watches);
}

/* What has been done is undone then. */
static void unwritable_answers(void)
{
    union {
        struct pw_kd_watch watch;
        struct pw_kd_share share;
        struct pw_kd_pool pool;
    } *arg = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static const unsigned long calls[] = { PW_KD_WATCH, PW_KD_EXPORT, PW_KD_SHARE, PW_KD_POOL };
    char *p = anon(PAGE);
    long watches = counter("watches"), exports = counter("exports"), pools = counter("pools");
    int next = dup(dev);

    close(next);
    for (unsigned i = 0; i < 4; i++) {
        mprotect(arg, PAGE, PROT_READ | PROT_WRITE);
        memset(arg, 0, sizeof *arg);
        if (i < 2)
            arg->watch = (struct pw_kd_watch){ .start = (uintptr_t)p, .access = READ,
                                               .end = (uintptr_t)p + PAGE };
        if (i == 3)
            arg->pool.size = HUGE;
        mprotect(arg, PAGE, PROT_READ);
        expect(try_ioctl(calls[i], arg) == -EFAULT, ": call %u", i);
    }
    expect(try_ioctl(PW_KD_INFO, arg) == -EFAULT);
    expect(counter("watches") == watches && counter("exports") == exports);
    expect(counter_becomes("pools", pools));
    expect(fcntl(next, F_GETFD) == -1, ": a descriptor is left");
    munmap(arg, PAGE);
}

static void no_such_calls(void)
{
    char arg[256] = { 0 };

    expect(try_ioctl(_IO(PW_KD_IOC, 0), arg) == -ENOTTY);
    expect(try_ioctl(_IOWR(PW_KD_IOC, 6, long), arg) == -ENOTTY);
    expect(try_ioctl(_IOW(PW_KD_IOC, 1, struct pw_kd_watch), arg) == -ENOTTY);
    expect(try_ioctl(PW_KD_FILL, arg) == -ENOTTY, ": of a pool descriptor");
    expect(try_ioctl(PW_KD_POOL_INFO, arg) == -ENOTTY);
    expect(try_ioctl(_IO(PW_KD_IOC, 0x20), arg) == -ENOTTY);
    expect(try_ioctl(0x5413, arg) == -ENOTTY, ": a terminal's");
    expect(read(dev, arg, 1) == -1 && write(dev, arg, 1) == -1 && lseek(dev, 0, SEEK_SET) == -1);
}

static void info(void)
{
    struct pw_kd_info a, b;
    struct pw_kd_watch w;
    char *p = anon(PAGE);
    int other = open(PW_KD_PATH, O_RDWR | O_CLOEXEC), mine = dev;

    expect(info_get(&a) == 0);
    expect(a.version == PW_KD_VERSION);
    expect(a.services & PW_KD_SERVICE_WATCH);
    expect(!(a.services & PW_KD_SERVICE_NIC));
    expect(a.words_bytes % PAGE == 0 && a.words_bytes / 8 > PW_KD_FIRST_SLOT);
    expect(a.user_bytes <= a.user_bytes_max);
    for (unsigned i = 0; i < sizeof a.reserved / sizeof *a.reserved; i++)
        expect(a.reserved[i] == 0);
    expect(a.id);
    expect(watch_try(p, PAGE, READ, &w) == 0 && w.id == a.id && w.offset == 0);
    dev = other;
    expect(info_get(&b) == 0 && b.id && b.id != a.id);
    dev = mine;
    close(other);
}

static int map_refused(int prot, int flags, size_t len, off_t offset)
{
    void *p = mmap(NULL, len, prot, flags, dev, offset);

    if (p == MAP_FAILED)
        return -errno;
    munmap(p, len);
    return 0;
}

static void words_are_read_only(void)
{
    struct pw_kd_info i;

    info_get(&i);
    expect(map_refused(PROT_READ | PROT_WRITE, MAP_SHARED, PAGE, 0) == -EACCES);
    expect(map_refused(PROT_READ | PROT_EXEC, MAP_SHARED, PAGE, 0) == -EACCES);
    expect(map_refused(PROT_READ, MAP_PRIVATE, PAGE, 0) == -EINVAL);
    expect(map_refused(PROT_READ, MAP_SHARED, i.words_bytes + PAGE, 0) == -EINVAL);
    expect(map_refused(PROT_READ, MAP_SHARED, PAGE, (off_t)i.words_bytes) == -EINVAL);
    expect(map_refused(PROT_READ, MAP_SHARED, PAGE, (off_t)PW_KD_EXPORTS) == -EINVAL);
    expect(map_refused(PROT_READ, MAP_SHARED, PAGE, (off_t)(i.words_bytes - PAGE)) == 0);
    expect(mprotect((void *)words, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
    expect(mprotect((void *)words, PAGE, PROT_READ | PROT_EXEC) == -1 && errno == EACCES);
}

/* ---- who may call ---- */

static void calls_of_a_child(void *p)
{
    struct pw_kd_info i;
    struct pw_kd_share share = { 0 };
    struct pw_kd_pool pool = { .size = HUGE };

    expect(info_get(&i) == 0);
    expect(refused(p, PAGE, READ) == -EXDEV);
    expect(drop_try(PW_KD_FIRST_SLOT) == -EXDEV);
    expect(try_ioctl(PW_KD_EXPORT, p) == -EXDEV);
    expect(try_ioctl(PW_KD_SHARE, &share) == -EXDEV);
    expect(try_ioctl(PW_KD_POOL, &pool) == -EXDEV);
}

static void watch_of_a_clone(void *p)
{
    struct slot s = watch(p, PAGE, READ);

    drop(&s);
}

static void child_and_clone(void)
{
    char *p = anon(PAGE);
    struct slot s = watch(p, PAGE, READ);

    expect(ended(child(calls_of_a_child, p)) == 0);
    moved(&s, 0, 0);
    in_cloned_vm(watch_of_a_clone, p);
    drop(&s);
}

/* ---- a call that waits ---- */

static struct pw_kd_watch *slow;        /* an argument that the kernel may read, and waits to write */
static int slow_answer = 1, quick_answer = 1;

static void *watch_slowly(void *unused)
{
    slow_answer = try_ioctl(PW_KD_WATCH, slow);
    return unused;
}

static void *watch_meanwhile(void *p)
{
    __atomic_store_n(&quick_answer, refused(p, PAGE, READ), __ATOMIC_SEQ_CST);
    return NULL;
}

static void nothing(int signal)
{
    (void)signal;
}

static int protect(int fd, unsigned mode)
{
    struct uffdio_writeprotect w = { .range = { (uintptr_t)slow, PAGE }, .mode = mode };

    return ioctl(fd, UFFDIO_WRITEPROTECT, &w);
}

static int slow_make(char *p)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
    struct uffdio_register r = { .mode = UFFDIO_REGISTER_MODE_WP };

    slow = (void *)anon(PAGE);
    *slow = (struct pw_kd_watch){ .start = (uintptr_t)p, .end = (uintptr_t)p + PAGE,
                                  .access = READ };
    r.range = (struct uffdio_range){ (uintptr_t)slow, PAGE };
    if (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &r) ||
        protect(fd, UFFDIO_WRITEPROTECT_MODE_WP))
        give_up("userfaultfd");
    return fd;
}

/* One thread's call has the descriptor's lock while its answer is being written; the
 * other one waits for that, until a signal comes.
 */
static void interrupted(void)
{
    struct sigaction action = { .sa_handler = nothing };
    char *p = anon(PAGE);
    int fd = slow_make(p);
    struct uffd_msg fault;
    pthread_t first, second;

    sigaction(SIGUSR1, &action, NULL);
    pthread_create(&first, NULL, watch_slowly, NULL);
    expect(read(fd, &fault, sizeof fault) == sizeof fault && fault.event == UFFD_EVENT_PAGEFAULT);
    pthread_create(&second, NULL, watch_meanwhile, p);
    while (__atomic_load_n(&quick_answer, __ATOMIC_SEQ_CST) == 1) {
        pthread_kill(second, SIGUSR1);
        usleep(2000);
    }
    pthread_join(second, NULL);
    expect(quick_answer == -EINTR, ": %d", quick_answer);
    expect(protect(fd, 0) == 0);
    pthread_join(first, NULL);
    expect(slow_answer == 0, ": %d", slow_answer);
    expect(drop_try(slow->slot) == 0);
    close(fd);
}

/* ---- many ---- */

static void thousands(void)
{
    enum { N = 5000u };
    char *p = anon(N * PAGE);
    static struct slot s[N];
    unsigned wrong = 0;

    for (unsigned i = 0; i < N; i++)
        s[i] = watch(p + i * PAGE, PAGE, BOTH);
    expect(counter("watches") >= N);
    for (unsigned i = 0; i < N; i += 2)
        madvise(p + i * PAGE, PAGE, MADV_DONTNEED);
    for (unsigned i = 0; i < N; i++)
        wrong += moves(&s[i]) != (i % 2 == 0);
    expect(wrong == 0, ": %u slots after dropping every other page", wrong);
    munmap(p, N * PAGE);
    for (unsigned i = 0; i < N; i++)
        wrong += moves(&s[i]) != 1;
    expect(wrong == 0, ": %u slots after unmapping all", wrong);
    for (unsigned i = 0; i < N; i++)
        drop(&s[i]);
}

/* One more than there are is refused; one that is dropped makes place, and goes on. */
static void full(void)
{
    struct pw_kd_info i;
    struct pw_kd_watch w;
    char *p = anon(PAGE);
    long refusals = counter("refused");
    unsigned n = 0, again;
    uint64_t before, zero;

    info_get(&i);
    while (watch_try(p, PAGE, READ, &w) == 0)
        n++;
    expect(n == i.words_bytes / 8 - PW_KD_FIRST_SLOT, ": %u", n);
    expect(refused(p, PAGE, READ) == -ENOSPC);
    expect(counter("refused") == refusals + 2);

    again = PW_KD_FIRST_SLOT + n / 2;
    before = words[again];
    zero = words[0];
    expect(drop_try(again) == 0);
    expect(words[again] >> 8 == (before >> 8) + 1 && (words[again] & 0xff) == PW_KD_DROPPED);
    expect(words[0] == zero, ": a drop is nobody else's business");
    expect(watch_try(p, PAGE, READ, &w) == 0 && w.slot == again && w.word == words[again]);
    expect(w.word > before);
    expect(refused(p, PAGE, READ) == -ENOSPC);
    munmap(p, PAGE);
    for (unsigned s = PW_KD_FIRST_SLOT; s < i.words_bytes / 8; s++)
        expect((words[s] & 0xff) == PW_KD_UNMAP, ": slot %u", s);
}

static void slots_go_on(void)
{
    char *p = anon(PAGE);
    struct slot s = watch(p, PAGE, READ);

    drop(&s);
    moved(&s, 1, PW_KD_DROPPED);
    madvise(p, PAGE, MADV_DONTNEED);
    moved(&s, 0, 0);
    expect(drop_try(s.number) == -ENOENT);
}

/* ---- how they end ---- */

static void closed(void)
{
    char *p = anon(2 * PAGE);
    struct slot a = watch(p, PAGE, READ), b = watch(p + PAGE, PAGE, BOTH);
    uint64_t zero = words[0];
    const volatile uint64_t *old = words;
    long watches = counter("watches");

    close(dev);
    expect(counter_becomes("watches", watches - 2), ": the mapped words keep it");
    moved(&a, 1, PW_KD_DROPPED);
    moved(&b, 1, PW_KD_DROPPED);
    expect(words[0] > zero && (words[0] & 0xff) == PW_KD_DROPPED);
    munmap(p, 2 * PAGE);
    moved(&a, 0, 0);
    control_open();
    munmap((void *)old, PAGE);
}

static void duplicated(void)
{
    char *p = anon(PAGE);
    struct slot s = watch(p, PAGE, READ);
    int copy = dup(dev);

    close(dev);
    dev = copy;
    moved(&s, 0, 0);
    munmap(p, PAGE);
    moved(&s, 1, PW_KD_UNMAP);
}

struct family {
    int ready[2], go[2];
    bool exec;
};

/* Has its parent's words, and sees the parent end. Lives on with the descriptor. */
static void orphan(struct family *f, struct slot *s)
{
    char seen;

    close(f->go[1]);
    seen = moves_at_last(s) && refused(NULL, PAGE, READ) == -EXDEV ? (char)last_event(s) : -1;
    expect(write(f->ready[1], &seen, 1) == 1);
    expect(read(f->go[0], &seen, 1) == 0);
    close(dev);
}

static void parent(void *arg)
{
    struct family *f = arg;
    char *p = anon(PAGE);
    struct slot s;

    close(dev);
    control_open();
    fcntl(dev, F_SETFD, 0);
    s = watch(p, PAGE, BOTH);
    if (fork() == 0) {
        orphan(f, &s);
        _exit(0);
    }
    close(f->go[1]);
    if (f->exec)
        execl("/bin/true", "true", (char *)NULL);
}

static void parent_first(bool exec)
{
    struct family f = { .exec = exec };
    long watches = counter("watches");
    char byte;

    if (pipe(f.ready) || pipe(f.go))
        give_up("pipe");
    expect(ended(child(parent, &f)) == 0);
    close(f.ready[1]);
    close(f.go[0]);
    expect(read(f.ready[0], &byte, 1) == 1 && byte == PW_KD_GONE, ": it sees %d", byte);
    expect(counter("watches") == watches + 1, ": the orphan keeps what is of no use");
    close(f.go[1]);
    expect(counter_becomes("watches", watches));
    close(f.ready[0]);
}

static void parent_exits(void) { parent_first(false); }
static void parent_execs(void) { parent_first(true); }

static void watch_and_wait(void *ready)
{
    char *p = anon(1000 * PAGE);

    close(dev);
    control_open();
    for (size_t i = 0; i < 1000; i++)
        watch(p + i * PAGE, PAGE, BOTH);
    expect(write(*(int *)ready, "x", 1) == 1);
    pause();
}

/* The kernel's own count of address spaces. */
static long address_spaces(void)
{
    FILE *f = fopen("/proc/slabinfo", "r");
    char line[512];
    long n = -1;

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "mm_struct %ld", &n) == 1)
            break;
    if (f)
        fclose(f);
    return n;
}

static void killed(void)
{
    enum { TIMES = 60, NOISE = 40 };
    long watches = counter("watches"), before = address_spaces();
    int pipes[2];
    char byte;

    if (pipe(pipes))
        give_up("pipe");
    for (int i = 0; i < TIMES; i++) {
        pid_t pid = child(watch_and_wait, &pipes[1]);
        int status;

        expect(read(pipes[0], &byte, 1) == 1);
        kill(pid, SIGKILL);
        status = ended(pid);
        expect(WIFSIGNALED(status));
    }
    expect(counter_becomes("watches", watches), ": %ld", counter("watches"));
    expect(before > 0 && address_spaces() < before + NOISE, ": of %ld address spaces %ld", before,
           address_spaces());
    close(pipes[0]);
    close(pipes[1]);
}

static const struct story stories[] = {
    { "ranges that are refused", bad_ranges },
    { "arguments that are refused", bad_arguments },
    { "answers that cannot be written", unwritable_answers },
    { "calls that do not exist", no_such_calls },
    { "what the driver says of itself", info },
    { "words are mapped read-only", words_are_read_only },
    { "a child may not call, one that shares all memory may", child_and_clone },
    { "a call that waits for another is interrupted", interrupted },
    { "5000 ranges, and each change is told to its own", thousands },
    { "all slots taken, and one given out again", full },
    { "a dropped slot moves once more, and then no more", slots_go_on },
    { "a closed descriptor ends all watches, though its words are mapped", closed },
    { "a copy of the descriptor keeps them", duplicated },
    { "a child that outlives its parent sees it end", parent_exits },
    { "or execute another program", parent_execs },
    { "killed processes leave no watch and no address space", killed },
    { NULL, NULL }
};

/* Of a descriptor that is closed, only the mapped words are left. */
static void hold_words(void)
{
    control_open();
    close(dev);
    puts("held");
    fflush(stdout);
    pause();
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--hold"))
        hold_words();
    stories_tell(stories, argc > 1 ? argv[1] : NULL);
}
