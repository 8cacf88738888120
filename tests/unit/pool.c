/* SPDX-License-Identifier: BSD-3-Clause */
/* pool.c - the shared pool on the kernel that runs the tests. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pinwheel/pool.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define PAGE (4 * KIB)

static struct pw_pool *pool_of(size_t size, enum pw_pages pages)
{
    struct pw_pool_config config = { .size = size, .pages = pages };
    struct pw_pool *pool;

    cr_assert(eq(int, pw_pool_open(&config, &pool), 0));
    return pool;
}

/* Transparent hugepages may be missing here; the rest is there always. */
static enum pw_pages best(void)
{
    struct pw_pool_info info;

    cr_assert(eq(int, pw_pool_probe(&info), 0));
    return info.pages;
}

static size_t used(struct pw_pool *pool)
{
    struct pw_pool_info info;

    pw_pool_describe(pool, &info);
    return info.used;
}

Test(pool, memory_is_handed_out_written_and_taken_back)
{
    struct pw_pool *pool = pool_of(16 * MIB, PW_PAGES_AUTO);
    char *a = pw_pool_alloc(pool, 10 * KIB, 0), *b = pw_pool_alloc(pool, 10 * KIB, 0);

    cr_assert(ne(ptr, a, NULL));
    cr_assert(ne(ptr, b, NULL));
    memset(a, 'a', 10 * KIB);
    memset(b, 'b', 10 * KIB);
    cr_expect(eq(chr, a[0], 'a'));
    cr_expect(eq(chr, a[10 * KIB - 1], 'a'));
    cr_expect(eq(sz, used(pool), 24 * KIB));

    cr_expect(eq(int, pw_pool_free(pool, a), 0));
    cr_expect(eq(int, pw_pool_free(pool, b), 0));
    cr_expect(eq(sz, used(pool), 0));
    pw_pool_close(pool);
}

/* What the system has given for it. */
static size_t memory_of(struct pw_pool *pool)
{
    struct stat st;

    cr_assert(eq(int, fstat(pw_pool_fd(pool), &st), 0));
    return (size_t)st.st_blocks * 512;
}

Test(pool, what_is_reserved_has_memory_when_it_is_asked_for)
{
    struct pw_pool *pool = pool_of(16 * MIB, PW_PAGES_4K);
    char *p = pw_pool_reserve(pool, 5 * MIB, 0);

    cr_assert(ne(ptr, p, NULL));
    cr_expect(eq(sz, used(pool), 5 * MIB));
    cr_expect(eq(sz, memory_of(pool), 0));
    cr_expect(eq(int, pw_pool_back(pool, p + 10, PAGE, true), 0));
    cr_expect(eq(sz, memory_of(pool), 2 * PAGE), "the pages that it touches");
    memset(p, 'x', 2 * PAGE);
    cr_expect(eq(int, pw_pool_back(pool, p, 3 * MIB, false), 0));
    cr_expect(eq(sz, memory_of(pool), 3 * MIB));
    cr_expect(eq(chr, p[2 * PAGE - 1], 'x'), "what is there stays");
    cr_expect(eq(int, pw_pool_free(pool, p), 0));
    cr_expect(eq(sz, used(pool), 0));
    pw_pool_close(pool);
}

static void extent_of(struct pw_pool *pool, const char *p, size_t len, size_t within,
                      uintptr_t *start, uintptr_t *end)
{
    *start = (uintptr_t)p;
    *end = *start + len;
    pw_pool_extent(pool, within, start, end);
    cr_expect(le(sz, *start, (uintptr_t)p));
    cr_expect(ge(sz, *end, (uintptr_t)p + len));
}

Test(pool, all_memory_that_lies_together_is_an_extent)
{
    struct pw_pool *pool = pool_of(16 * MIB, PW_PAGES_4K);
    char *a = pw_pool_alloc(pool, 3 * PAGE, 0), *b = pw_pool_alloc(pool, 5 * PAGE, 0);
    char *gap = pw_pool_reserve(pool, PAGE, 0), *c = pw_pool_alloc(pool, 2 * PAGE, 0);
    uintptr_t start, end;

    cr_assert(b == a + 3 * PAGE && gap == b + 5 * PAGE && c == gap + PAGE);
    extent_of(pool, b + PAGE, PAGE, 2 * MIB, &start, &end);
    cr_expect(eq(sz, start, (uintptr_t)a));
    cr_expect(eq(sz, end, (uintptr_t)gap));
    extent_of(pool, c, PAGE, 2 * MIB, &start, &end);
    cr_expect(eq(sz, start, (uintptr_t)c));
    cr_expect(eq(sz, end, (uintptr_t)c + 2 * PAGE));
    extent_of(pool, b, 6 * PAGE, 2 * MIB, &start, &end);
    cr_expect(eq(sz, start, (uintptr_t)b), "part of it has no memory");
    cr_expect(eq(sz, end, (uintptr_t)c));
    pw_pool_close(pool);
}

Test(pool, an_extent_ends_where_it_is_told_to)
{
    struct pw_pool *pool = pool_of(16 * MIB, PW_PAGES_4K);
    char *all = pw_pool_alloc(pool, 12 * MIB, 0);
    uintptr_t start, end, at = (uintptr_t)all;

    extent_of(pool, all + 5 * MIB, PAGE, 4 * MIB, &start, &end);
    cr_expect(eq(sz, start, at + 4 * MIB));
    cr_expect(eq(sz, end, at + 8 * MIB));
    extent_of(pool, all + 5 * MIB, 4 * MIB, 4 * MIB, &start, &end);
    cr_expect(eq(sz, start, at + 4 * MIB));
    cr_expect(eq(sz, end, at + 12 * MIB));
    extent_of(pool, all + 11 * MIB, PAGE, 1024 * MIB, &start, &end);
    cr_expect(eq(sz, start, at));
    cr_expect(eq(sz, end, at + 12 * MIB));
    pw_pool_close(pool);
}

/* A few pages do not become a large one before all is asked for. */
Test(pool, little_takes_little_of_transparent_hugepages)
{
    struct pw_pool *pool;
    size_t before;
    char *p;

    if (best() != PW_PAGES_THP)
        cr_skip_test("no transparent hugepages");
    pool = pool_of(16 * MIB, PW_PAGES_THP);
    p = pw_pool_reserve(pool, 4 * MIB, 0);
    before = memory_of(pool);
    cr_assert(eq(int, pw_pool_back(pool, p, 2 * PAGE, true), 0));
    cr_expect(eq(sz, memory_of(pool), before + 2 * PAGE));
    memset(p, 'x', 2 * PAGE);
    cr_assert(eq(int, pw_pool_back(pool, p + PAGE, PAGE, false), 0));
    cr_expect(eq(sz, memory_of(pool), before + 2 * MIB));
    cr_expect(eq(chr, p[0], 'x'));
    cr_expect(eq(chr, p[2 * PAGE - 1], 'x'));
    cr_assert(eq(int, pw_pool_back(pool, p, PAGE, true), 0));
    cr_expect(eq(sz, memory_of(pool), before + 2 * MIB), "it is there already");
    pw_pool_close(pool);
}

Test(pool, only_its_own_can_be_backed)
{
    struct pw_pool *pool = pool_of(16 * MIB, PW_PAGES_4K);
    char *p = pw_pool_reserve(pool, PAGE, 0), *base = pw_pool_base(pool);

    cr_expect(eq(int, pw_pool_back(pool, p, 0, true), -EINVAL));
    cr_expect(eq(int, pw_pool_back(pool, base - 1, 2, true), -EINVAL));
    cr_expect(eq(int, pw_pool_back(pool, base + 16 * MIB - 1, 2, false), -EINVAL));
    cr_expect(eq(int, pw_pool_back(pool, &pool, 8, true), -EINVAL));
    cr_expect(eq(ptr, pw_pool_reserve(pool, 0, 0), NULL));
    cr_expect(eq(ptr, pw_pool_reserve(pool, 16 * MIB, 0), NULL), "it is in use");
    pw_pool_close(pool);
}

Test(pool, freed_memory_is_handed_out_again)
{
    struct pw_pool *pool = pool_of(16 * MIB, PW_PAGES_AUTO);
    const size_t sizes[] = { PAGE, MIB, 2 * MIB, 5 * MIB };

    for (size_t i = 0; i < 4; i++) {
        void *p = pw_pool_alloc(pool, sizes[i], 0);

        pw_pool_free(pool, p);
        cr_expect(eq(ptr, pw_pool_alloc(pool, sizes[i], 0), p));
    }
    pw_pool_close(pool);
}

Test(pool, alignment_is_a_page_or_what_was_asked)
{
    struct pw_pool *pool = pool_of(64 * MIB, PW_PAGES_4K);

    for (size_t align = 1; align <= 2 * MIB; align *= 2) {
        uintptr_t at = (uintptr_t)pw_pool_alloc(pool, 100, align);

        cr_assert(ne(u64, at, 0));
        cr_expect(eq(u64, at % (align > PAGE ? align : PAGE), 0), "align %zu", align);
    }
    cr_expect(eq(u64, (uintptr_t)pw_pool_alloc(pool, 2 * MIB, 0) % (2 * MIB), 0));
    cr_expect(eq(u64, (uintptr_t)pw_pool_alloc(pool, 3 * MIB + 1, 64) % (2 * MIB), 0));
    pw_pool_close(pool);
}

Test(pool, senseless_requests_get_null)
{
    struct pw_pool *pool = pool_of(16 * MIB, PW_PAGES_4K);

    cr_expect(eq(ptr, pw_pool_alloc(pool, 0, 0), NULL));
    cr_expect(eq(ptr, pw_pool_alloc(pool, SIZE_MAX, 0), NULL));
    cr_expect(eq(ptr, pw_pool_alloc(pool, 16 * MIB + 1, 0), NULL));
    cr_expect(eq(ptr, pw_pool_alloc(pool, PAGE, 4 * MIB), NULL), "align too big");
    cr_expect(eq(ptr, pw_pool_alloc(pool, PAGE, 3 * PAGE), NULL), "no power of two");
    cr_expect(eq(sz, used(pool), 0));
    pw_pool_close(pool);
}

Test(pool, what_is_not_a_live_allocation_is_not_freed)
{
    struct pw_pool *pool = pool_of(16 * MIB, PW_PAGES_4K);
    char *p = pw_pool_alloc(pool, 2 * PAGE, 0);
    char *base = pw_pool_base(pool);
    int elsewhere;

    cr_expect(eq(int, pw_pool_free(pool, NULL), 0), "as free()");
    cr_expect(eq(int, pw_pool_free(pool, &elsewhere), -EINVAL));
    cr_expect(eq(int, pw_pool_free(pool, p + 1), -EINVAL), "inside a page");
    cr_expect(eq(int, pw_pool_free(pool, p + PAGE), -EINVAL), "its second page");
    cr_expect(eq(int, pw_pool_free(pool, base + 16 * MIB), -EINVAL), "past the end");
    cr_expect(eq(int, pw_pool_free(pool, base - PAGE), -EINVAL), "before the start");
    cr_expect(eq(sz, used(pool), 2 * PAGE));

    cr_expect(eq(int, pw_pool_free(pool, p), 0));
    cr_expect(eq(int, pw_pool_free(pool, p), -EINVAL), "twice");
    pw_pool_close(pool);
}

Test(pool, usable_is_whole_pages_of_a_live_allocation)
{
    struct pw_pool *pool = pool_of(16 * MIB, PW_PAGES_4K);
    char *p = pw_pool_alloc(pool, PAGE + 1, 0);

    cr_expect(eq(sz, pw_pool_usable(pool, p), 2 * PAGE));
    cr_expect(eq(sz, pw_pool_usable(pool, p + PAGE), 0));
    cr_expect(eq(sz, pw_pool_usable(pool, NULL), 0));
    pw_pool_free(pool, p);
    cr_expect(eq(sz, pw_pool_usable(pool, p), 0));
    pw_pool_close(pool);
}

Test(pool, a_full_pool_gives_null_and_recovers)
{
    struct pw_pool *pool = pool_of(8 * MIB, PW_PAGES_4K);
    void *p[9];

    for (int i = 0; i < 8; i++) {
        p[i] = pw_pool_alloc(pool, MIB, 0);
        cr_assert(ne(ptr, p[i], NULL));
    }
    cr_expect(eq(ptr, pw_pool_alloc(pool, PAGE, 0), NULL));
    cr_expect(eq(ptr, pw_pool_alloc(pool, 8 * MIB, 0), NULL));

    pw_pool_free(pool, p[3]);
    p[3] = pw_pool_alloc(pool, MIB, 0);
    cr_expect(ne(ptr, p[3], NULL));

    for (int i = 0; i < 8; i++)
        cr_expect(eq(int, pw_pool_free(pool, p[i]), 0));
    cr_expect(ne(ptr, pw_pool_alloc(pool, 8 * MIB, 0), NULL), "in one piece again");
    pw_pool_close(pool);
}

/* The sanitizers' own memory would fault on every access they check. */
__attribute__((no_sanitize_address, no_sanitize_thread, noinline))
static long faults_of_touching(volatile char *p, size_t len)
{
    struct rusage before, after;

    getrusage(RUSAGE_SELF, &before);
    for (size_t i = 0; i < len; i += PAGE)
        p[i] = 1;
    getrusage(RUSAGE_SELF, &after);
    return after.ru_minflt - before.ru_minflt;
}

static void expect_no_faults(enum pw_pages pages)
{
    struct pw_pool *pool = pool_of(64 * MIB, pages);
    const size_t sizes[] = { PAGE, 300 * KIB, MIB, 2 * MIB, 17 * MIB };

    faults_of_touching((volatile char[1]){ 0 }, 1);     /* the function's own */
    for (size_t i = 0; i < 5; i++) {
        char *p = pw_pool_alloc(pool, sizes[i], 0);

        cr_assert(ne(ptr, p, NULL));
        cr_expect(eq(long, faults_of_touching(p, sizes[i]), 0), "%zu bytes", sizes[i]);
    }
    pw_pool_close(pool);
}

Test(pool, a_first_touch_takes_no_page_fault)
{
    expect_no_faults(PW_PAGES_4K);
    expect_no_faults(PW_PAGES_AUTO);
}

/* Kilobytes of the mapping at base under this name in smaps. */
static long smaps_kib(const void *base, const char *name)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    unsigned long start;
    long kib = -1;
    bool ours = false;
    char line[512];

    cr_assert(ne(ptr, f, NULL));
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%*x ", &start) == 1 && strchr(line, '-'))
            ours = start == (uintptr_t)base;
        else if (ours && strncmp(line, name, strlen(name)) == 0)
            kib = strtol(line + strlen(name), NULL, 10);
    }
    fclose(f);
    return kib;
}

/* Half of them: others may have used up the contiguous memory meanwhile. */
Test(pool, transparent_hugepages_are_huge_here_and_at_the_peer)
{
    struct pw_pool *pool;
    void *peer;
    long huge;

    if (best() != PW_PAGES_THP)
        cr_skip_test("no transparent hugepages for shared memory here");
    pool = pool_of(64 * MIB, PW_PAGES_THP);
    cr_assert(ne(ptr, pw_pool_alloc(pool, 64 * MIB, 0), NULL));
    huge = smaps_kib(pw_pool_base(pool), "ShmemPmdMapped:");
    cr_expect(ge(long, huge, 32 * 1024));

    cr_assert(eq(int, pw_pool_map(pw_pool_fd(pool), 64 * MIB, &peer), 0));
    faults_of_touching(peer, 64 * MIB);
    cr_expect(eq(long, smaps_kib(peer, "ShmemPmdMapped:"), huge));
    pw_pool_unmap(peer, 64 * MIB);
    pw_pool_close(pool);
}

Test(pool, an_unused_pool_takes_next_to_no_memory)
{
    struct pw_pool *pool = pool_of(1024 * MIB, PW_PAGES_4K);
    struct stat st;

    cr_assert(eq(int, fstat(pw_pool_fd(pool), &st), 0));
    cr_expect(eq(long, (long)st.st_size, (long)(1024 * MIB)));
    cr_expect(eq(long, (long)st.st_blocks, 0));
    pw_pool_close(pool);
}

Test(pool, contains_means_wholly_inside)
{
    struct pw_pool *pool = pool_of(4 * MIB, PW_PAGES_4K);
    char *base = pw_pool_base(pool);

    cr_expect(pw_pool_contains(pool, base, 4 * MIB));
    cr_expect(pw_pool_contains(pool, base + 4 * MIB - 1, 1));
    cr_expect(pw_pool_contains(pool, base + 100, 0));
    cr_expect(not(pw_pool_contains(pool, base, 4 * MIB + 1)));
    cr_expect(not(pw_pool_contains(pool, base - 1, 2)));
    cr_expect(not(pw_pool_contains(pool, base + 4 * MIB, 0)));
    cr_expect(not(pw_pool_contains(pool, base + 1, SIZE_MAX)), "length wraps");
    cr_expect(not(pw_pool_contains(pool, NULL, 1)));
    pw_pool_close(pool);
}

Test(pool, the_segment_is_nameless_sealed_and_closed_on_exec)
{
    struct pw_pool *pool = pool_of(4 * MIB, PW_PAGES_AUTO);
    int fd = pw_pool_fd(pool);
    struct stat st;

    cr_assert(eq(int, fstat(fd, &st), 0));
    cr_expect(eq(long, (long)st.st_nlink, 0), "goes with its last user");
    cr_expect(ne(int, fcntl(fd, F_GETFD) & FD_CLOEXEC, 0));
    cr_expect(eq(int, ftruncate(fd, 0), -1), "a peer cannot shrink it");
    cr_expect(eq(int, ftruncate(fd, (off_t)(8 * MIB)), -1));
    cr_expect(eq(u64, (uintptr_t)pw_pool_base(pool) % (2 * MIB), 0));
    pw_pool_close(pool);
}

Test(pool, sizes_are_rounded_up_to_2_mib)
{
    struct pw_pool *pool = pool_of(5 * MIB, PW_PAGES_4K);

    cr_expect(eq(sz, pw_pool_size(pool), 6 * MIB));
    pw_pool_close(pool);
}

Test(pool, senseless_configurations_are_refused)
{
    struct pw_pool_config config = { .size = SIZE_MAX };
    struct pw_pool *pool = (struct pw_pool *)&config;

    cr_expect(eq(int, pw_pool_open(&config, &pool), -EINVAL));
    cr_expect(eq(ptr, pool, NULL));
    config = (struct pw_pool_config){ .pages = (enum pw_pages)17 };
    cr_expect(eq(int, pw_pool_open(&config, &pool), -EINVAL));
    pw_pool_close(NULL);
}

/* ftruncate() beyond the limit would raise SIGXFSZ, and that kills. */
Test(pool, a_file_size_limit_is_kept)
{
    struct rlimit lim = { 16 * MIB, 16 * MIB };
    struct pw_pool_config config = { .size = 64 * MIB, .pages = PW_PAGES_4K };
    struct pw_pool *pool;

    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &lim), 0));
    cr_expect(eq(int, pw_pool_open(&config, &pool), -EFBIG));
    config.size = 0;
    cr_assert(eq(int, pw_pool_open(&config, &pool), 0));
    cr_expect(eq(sz, pw_pool_size(pool), 16 * MIB));
    pw_pool_close(pool);
}

Test(pool, the_probe_names_a_kind_and_says_why_not_a_better_one)
{
    struct pw_pool_info info;

    cr_assert(eq(int, pw_pool_probe(&info), 0));
    cr_expect(ne(int, info.pages, PW_PAGES_AUTO));
    cr_expect(eq(int, info.why[0] == '\0', info.pages == PW_PAGES_2M ||
                                         info.pages == PW_PAGES_KDRIVER));
    cr_expect(le(sz, info.size, info.pages == PW_PAGES_1G ? 1024 * MIB : 2 * MIB));
}

Test(pool, kinds_have_names)
{
    cr_expect(eq(str, (char *)pw_pages_name(PW_PAGES_AUTO), "auto"));
    cr_expect(eq(str, (char *)pw_pages_name(PW_PAGES_2M), "2 MiB hugepages"));
    cr_expect(eq(str, (char *)pw_pages_name(PW_PAGES_THP), "transparent hugepages"));
    cr_expect(eq(str, (char *)pw_pages_name(PW_PAGES_4K), "4 KiB pages"));
    cr_expect(eq(str, (char *)pw_pages_name(PW_PAGES_KDRIVER),
                 "pinned hugepages of /dev/pinwheel"));
    cr_expect(eq(str, (char *)pw_pages_name(PW_PAGES_1G), "1 GiB hugepages"));
    cr_expect(eq(str, (char *)pw_pages_name((enum pw_pages)17), "unknown"));
}

Test(pool, a_file_smaller_than_its_peer_says_is_not_mapped)
{
    struct pw_pool *pool = pool_of(4 * MIB, PW_PAGES_4K);
    void *base;
    int sv[2];

    cr_expect(eq(int, pw_pool_map(pw_pool_fd(pool), 4 * MIB + 1, &base), -EINVAL));
    cr_expect(eq(int, pw_pool_map(pw_pool_fd(pool), SIZE_MAX, &base), -EINVAL));
    cr_expect(eq(int, pw_pool_map(pw_pool_fd(pool), 0, &base), -EINVAL));
    cr_expect(eq(int, pw_pool_map(-1, 4 * MIB, &base), -EBADF));
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0));
    cr_expect(eq(int, pw_pool_map(sv[0], MIB, &base), -EINVAL), "a socket has no size");
    pw_pool_close(pool);
}

static int fd_send(int sock, int fd, size_t offset)
{
    char control[CMSG_SPACE(sizeof fd)] __attribute__((aligned(8))) = { 0 };
    struct iovec iov = { &offset, sizeof offset };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
                          .msg_controllen = sizeof control };
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    return sendmsg(sock, &msg, 0) == sizeof offset ? 0 : -1;
}

static int fd_receive(int sock, size_t *offset)
{
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct iovec iov = { offset, sizeof *offset };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
                          .msg_controllen = sizeof control };
    int fd = -1;

    if (recvmsg(sock, &msg, 0) == sizeof *offset && CMSG_FIRSTHDR(&msg))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof fd);
    return fd;
}

/* Exit status: which step failed. */
static int peer_read_and_answer(int sock)
{
    size_t offset;
    int fd = fd_receive(sock, &offset);
    void *base;

    if (fd < 0)
        return 1;
    if (pw_pool_map(fd, 64 * MIB, &base))
        return 2;
    if ((uintptr_t)base % (2 * MIB))
        return 3;
    if (strcmp((char *)base + offset, "from the owner"))
        return 4;
    strcpy((char *)base + offset, "from the peer");
    pw_pool_unmap(base, 64 * MIB);
    return 0;
}

/* The peer exists before the pool does: it inherits nothing. */
Test(pool, a_peer_maps_the_descriptor_and_both_see_the_data)
{
    struct pw_pool *pool;
    int sv[2], status;
    char *p;
    pid_t pid;

    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0));
    pid = fork();
    if (pid == 0)
        _exit(peer_read_and_answer(sv[1]));

    pool = pool_of(64 * MIB, PW_PAGES_AUTO);
    p = pw_pool_alloc(pool, 3 * MIB, 0);
    cr_assert(ne(ptr, p, NULL));
    strcpy(p, "from the owner");
    fd_send(sv[0], pw_pool_fd(pool), (size_t)(p - (char *)pw_pool_base(pool)));
    cr_assert(eq(int, waitpid(pid, &status, 0), pid));
    cr_expect(eq(int, status, 0));
    cr_expect(eq(str, p, "from the peer"));
    pw_pool_close(pool);
}

static void owner_until_killed(int sock)
{
    struct pw_pool_config config = { .size = 64 * MIB };
    struct pw_pool *pool;
    char *p;

    if (pw_pool_open(&config, &pool))
        _exit(1);
    p = pw_pool_alloc(pool, MIB, 0);
    strcpy(p, "last words");
    fd_send(sock, pw_pool_fd(pool), (size_t)(p - (char *)pw_pool_base(pool)));
    for (;;)
        pause();
}

/* We see the same file before and after; it has no name and we hold the last
 * descriptor, so with our close it is gone. */
Test(pool, an_owner_killed_leaves_readable_memory_and_no_file)
{
    int sv[2], fd, status;
    size_t offset;
    void *base;
    struct stat st;
    pid_t pid;

    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0));
    pid = fork();
    if (pid == 0)
        owner_until_killed(sv[1]);
    fd = fd_receive(sv[0], &offset);
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, pw_pool_map(fd, 64 * MIB, &base), 0));

    kill(pid, SIGKILL);
    cr_assert(eq(int, waitpid(pid, &status, 0), pid));
    cr_expect(eq(str, (char *)base + offset, "last words"));
    cr_assert(eq(int, fstat(fd, &st), 0));
    cr_expect(eq(long, (long)st.st_nlink, 0));
    pw_pool_unmap(base, 64 * MIB);
    close(fd);
}

/* After fork() the segment is shared, and the child's exit takes nothing away. */
Test(pool, a_forked_child_shares_the_memory_and_exits_without_harm)
{
    struct pw_pool *pool = pool_of(16 * MIB, PW_PAGES_AUTO);
    char *p = pw_pool_alloc(pool, MIB, 0);
    int status;
    pid_t pid;

    strcpy(p, "parent");
    pid = fork();
    if (pid == 0) {
        int same = strcmp(p, "parent") == 0;

        strcpy(p, "child");
        pw_pool_close(pool);
        _exit(same ? 0 : 1);
    }
    cr_assert(eq(int, waitpid(pid, &status, 0), pid));
    cr_expect(eq(int, status, 0));
    cr_expect(eq(str, p, "child"));
    cr_expect(eq(sz, pw_pool_usable(pool, p), MIB));
    cr_expect(eq(int, pw_pool_free(pool, p), 0));
    pw_pool_close(pool);
}

#define THREADS 4
#define ROUNDS 3000
#define HELD 16

struct hammer {
    struct pw_pool *pool;
    unsigned id;
    int torn;
};

/* Each holds a few runs marked with its number at both ends: a run given to two
 * threads would lose a mark. */
static void *hammer_run(void *arg)
{
    struct hammer *h = arg;
    struct { unsigned *first, *last; } held[HELD] = { 0 };
    unsigned seed = h->id;

    for (int i = 0; i < ROUNDS + HELD; i++) {
        int slot = i % HELD;

        if (held[slot].first) {
            h->torn += *held[slot].first != h->id || *held[slot].last != h->id;
            h->torn += pw_pool_free(h->pool, held[slot].first) != 0;
            held[slot].first = NULL;
        }
        if (i < ROUNDS) {
            size_t pages = (size_t)rand_r(&seed) % 600 + 1;
            unsigned *p = pw_pool_alloc(h->pool, pages * PAGE, 0);

            if (!p)
                continue;
            held[slot].first = p;
            held[slot].last = p + pages * PAGE / sizeof *p - 1;
            *held[slot].first = *held[slot].last = h->id;
        }
    }
    return NULL;
}

Test(pool, threads_never_get_the_same_page)
{
    struct pw_pool *pool = pool_of(64 * MIB, PW_PAGES_AUTO);
    struct hammer h[THREADS];
    pthread_t thread[THREADS];

    for (unsigned i = 0; i < THREADS; i++) {
        h[i] = (struct hammer){ .pool = pool, .id = i + 1 };
        cr_assert(eq(int, pthread_create(&thread[i], NULL, hammer_run, &h[i]), 0));
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        cr_expect(eq(int, h[i].torn, 0));
    }
    cr_expect(eq(sz, used(pool), 0));
    cr_expect(ne(ptr, pw_pool_alloc(pool, 64 * MIB, 0), NULL), "in one piece again");
    pw_pool_close(pool);
}
