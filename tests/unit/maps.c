/* SPDX-License-Identifier: BSD-3-Clause */
/* maps.c - the kinds of memory behind a range. Each is asked both ways that the
 * kernel may offer: PROCMAP_QUERY and the text. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "regcache/maps.h"
#include "regcache/raw.h"

#define PAGE ((size_t)4096)

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d61
#define PR_SET_VMA_ANON_NAME 0
#endif

static struct pw_range range_of(const void *addr, size_t len)
{
    return (struct pw_range){ (uintptr_t)addr, (uintptr_t)addr + len };
}

/* The page that holds addr. */
static struct pw_range page_of(const void *addr)
{
    uintptr_t start = (uintptr_t)addr & ~(PAGE - 1);

    return (struct pw_range){ start, start + PAGE };
}

static int ask(int (*way)(int, struct pw_range, struct pw_maps_found *),
               struct pw_range r, struct pw_maps_found *found)
{
    int fd = open("/proc/self/maps", O_RDONLY), err;

    cr_assert(ge(int, fd, 0));
    *found = (struct pw_maps_found){ .kinds = 0 };
    err = way(fd, r, found);
    close(fd);
    return err;
}

static void expect_same(const struct pw_maps_found *a, const struct pw_maps_found *b)
{
    cr_expect(eq(uint, a->kinds, b->kinds));
    cr_expect(eq(ulong, a->whole.start, b->whole.start));
    cr_expect(eq(ulong, a->whole.end, b->whole.end));
}

/* What all ways must agree about: 0 or -errno. */
static int find(struct pw_range r, struct pw_maps_found *found)
{
    struct pw_maps_found other;
    int err = pw_maps_find(r, found);
    int query_err;

    cr_expect(eq(int, ask(pw_maps_by_reading, r, &other), err));
    if (!err)
        expect_same(found, &other);
    query_err = ask(pw_maps_by_query, r, &other);
    if (query_err == -ENOTTY)
        return err;
    cr_expect(eq(int, query_err, err));
    if (!err)
        expect_same(found, &other);
    return err;
}

/* The kinds, or -errno. */
static int kinds_of(struct pw_range r)
{
    struct pw_maps_found found;
    int err = find(r, &found);
    unsigned kinds = 0;

    cr_expect(eq(int, pw_maps_kinds(r, &kinds), err));
    if (err)
        return err;
    cr_expect(eq(uint, kinds, found.kinds));
    return (int)kinds;
}

static void *map(size_t pages, int flags, int fd)
{
    void *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

    cr_assert(ne(ptr, p, MAP_FAILED));
    return p;
}

static void *map_anonymous(size_t pages)
{
    return map(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static int file_of(size_t size)
{
    int fd = memfd_create("pinwheel-maps", MFD_CLOEXEC);

    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, ftruncate(fd, (off_t)size), 0));
    return fd;
}

Test(maps, anonymous_memory_is_private)
{
    void *p = map_anonymous(8);

    cr_expect(eq(int, kinds_of(range_of(p, 8 * PAGE)), PW_MEM_PRIVATE));
    munmap(p, 8 * PAGE);
}

Test(maps, the_heap_is_private)
{
    char *p = sbrk((intptr_t)PAGE);

    cr_expect(eq(int, kinds_of(page_of(p)), PW_MEM_PRIVATE));
}

Test(maps, the_stack_of_the_first_thread_is_private)
{
    char here;

    cr_expect(eq(int, kinds_of(page_of(&here)), PW_MEM_PRIVATE));
}

Test(maps, memory_with_a_name_given_by_the_program_is_private)
{
    static const char name[] = "a name that is as long as the kernel allows: eighty "
                               "characters, no more at a";
    void *p = map_anonymous(1);

    if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p, PAGE, name))
        cr_skip_test("this kernel names no anonymous memory");
    cr_expect(eq(int, kinds_of(range_of(p, PAGE)), PW_MEM_PRIVATE));
}

/* It is a file's to the kernel. NORESERVE: there need not be any huge page. */
Test(maps, private_huge_pages_are_private_and_shared_ones_are_not)
{
    size_t huge = 2 << 20;
    void *p = mmap(NULL, huge, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
                   MAP_NORESERVE, -1, 0);
    void *q = mmap(NULL, huge, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB |
                   MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED || q == MAP_FAILED)
        cr_skip_test("this kernel has no huge pages of 2 MiB");
    cr_expect(eq(int, kinds_of(range_of(p, huge)), PW_MEM_PRIVATE));
    cr_expect(eq(int, kinds_of(range_of(q, huge)), PW_MEM_SHARED));
}

Test(maps, a_program_and_its_libraries_are_private_files)
{
    static const char constant[] = "in the program's read-only data";

    cr_expect(eq(int, kinds_of(page_of(constant)), PW_MEM_PRIVATE_FILE));
    cr_expect(eq(int, kinds_of(page_of((const void *)(uintptr_t)&strtol)),
                 PW_MEM_PRIVATE_FILE));
}

Test(maps, a_private_mapping_of_a_file_is_a_private_file)
{
    int fd = file_of(PAGE);
    void *p = map(1, MAP_PRIVATE, fd);

    cr_expect(eq(int, kinds_of(range_of(p, PAGE)), PW_MEM_PRIVATE_FILE));
    close(fd);
}

Test(maps, shared_memory_of_every_making_is_shared)
{
    int fd = file_of(PAGE), id = shmget(IPC_PRIVATE, PAGE, 0600);
    void *anonymous = map(1, MAP_SHARED | MAP_ANONYMOUS, -1);
    void *file = map(1, MAP_SHARED, fd);

    cr_expect(eq(int, kinds_of(range_of(anonymous, PAGE)), PW_MEM_SHARED));
    cr_expect(eq(int, kinds_of(range_of(file, PAGE)), PW_MEM_SHARED));
    if (id >= 0) {
        void *segment = shmat(id, NULL, 0);

        shmctl(id, IPC_RMID, NULL);
        cr_assert(ne(ptr, segment, (void *)-1));
        cr_expect(eq(int, kinds_of(range_of(segment, PAGE)), PW_MEM_SHARED));
    }
    close(fd);
}

/* The kernel tells no more than 4096 bytes, and we keep less. */
Test(maps, a_file_with_a_very_long_name_is_a_file_like_others)
{
    char dir[] = "/tmp/pinwheel-maps-XXXXXX", name[251];
    unsigned depth = 0;
    void *p;
    int fd;

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    cr_assert(ne(ptr, mkdtemp(dir), NULL));
    cr_assert(eq(int, chdir(dir), 0));
    for (; depth < 12; depth++) {
        cr_assert(eq(int, mkdir(name, 0700), 0));
        cr_assert(eq(int, chdir(name), 0));
    }
    fd = open("file", O_RDWR | O_CREAT, 0600);
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, ftruncate(fd, (off_t)PAGE), 0));
    p = map(1, MAP_SHARED, fd);
    cr_expect(eq(int, kinds_of(range_of(p, PAGE)), PW_MEM_SHARED));
    cr_expect(eq(int, kinds_of(range_of(map(1, MAP_PRIVATE, fd), PAGE)),
                 PW_MEM_PRIVATE_FILE));

    unlink("file");
    for (; depth; depth--)
        cr_expect(eq(int, chdir("..") || rmdir(name), 0));
    rmdir(dir);
}

Test(maps, what_the_kernel_maps_is_special)
{
    void *vdso = (void *)getauxval(AT_SYSINFO_EHDR);

    cr_assert(ne(ptr, vdso, NULL));
    cr_expect(eq(int, kinds_of(page_of(vdso)), PW_MEM_SPECIAL));
}

Test(maps, the_queues_of_an_io_uring_are_special)
{
    uint32_t params[30] = { 0 };
    int fd = (int)pw_raw3(SYS_io_uring_setup, 1, (long)(uintptr_t)params, 0);
    void *p;

    if (fd < 0)
        cr_skip_test("no io_uring here");
    p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        cr_skip_test("its queues cannot be mapped here");
    cr_expect(eq(int, kinds_of(range_of(p, PAGE)), PW_MEM_SPECIAL));
    close(fd);
}

Test(maps, a_range_over_several_mappings_has_all_their_kinds)
{
    char *p = map_anonymous(4);
    int fd = file_of(4 * PAGE);

    cr_assert(eq(ptr, mmap(p + PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0),
                 p + PAGE));
    cr_assert(eq(ptr, mmap(p + 3 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd,
                           0), p + 3 * PAGE));

    cr_expect(eq(int, kinds_of(range_of(p, PAGE)), PW_MEM_PRIVATE));
    cr_expect(eq(int, kinds_of(range_of(p, 2 * PAGE)), PW_MEM_PRIVATE | PW_MEM_SHARED));
    cr_expect(eq(int, kinds_of(range_of(p, 4 * PAGE)),
                 PW_MEM_PRIVATE | PW_MEM_SHARED | PW_MEM_PRIVATE_FILE));
    cr_expect(eq(int, kinds_of(range_of(p + 2 * PAGE, PAGE)), PW_MEM_PRIVATE));
    close(fd);
}

Test(maps, a_hole_at_the_start_the_middle_or_the_end_is_a_fault)
{
    char *p = map_anonymous(5);

    /* The first question maps a page, for which a hole would do. */
    cr_expect(eq(int, kinds_of(range_of(p, 5 * PAGE)), PW_MEM_PRIVATE));
    munmap(p, PAGE);
    munmap(p + 2 * PAGE, PAGE);
    munmap(p + 4 * PAGE, PAGE);
    cr_expect(eq(int, kinds_of(range_of(p, 2 * PAGE)), -EFAULT));
    cr_expect(eq(int, kinds_of(range_of(p + PAGE, 3 * PAGE)), -EFAULT));
    cr_expect(eq(int, kinds_of(range_of(p + 3 * PAGE, 2 * PAGE)), -EFAULT));
    cr_expect(eq(int, kinds_of(range_of(p + 3 * PAGE, PAGE)), PW_MEM_PRIVATE));
}

Test(maps, beyond_all_addresses_is_a_fault)
{
    struct pw_range r = { UINTPTR_MAX - 2 * PAGE + 1, UINTPTR_MAX - PAGE + 1 };

    cr_expect(eq(int, kinds_of(r), -EFAULT));
}

Test(maps, a_mapping_is_found_whole_from_any_part_of_it)
{
    struct pw_maps_found found;
    char *p = map_anonymous(9);

    mprotect(p, PAGE, PROT_NONE);
    mprotect(p + 4 * PAGE, PAGE, PROT_READ);
    mprotect(p + 8 * PAGE, PAGE, PROT_NONE);

    cr_expect(eq(int, find(range_of(p + 2 * PAGE, PAGE), &found), 0));
    cr_expect(eq(ptr, (void *)found.whole.start, p + PAGE));
    cr_expect(eq(ptr, (void *)found.whole.end, p + 4 * PAGE));
    cr_expect(eq(int, find(range_of(p + 3 * PAGE, 3 * PAGE), &found), 0));
    cr_expect(eq(ptr, (void *)found.whole.start, p + PAGE));
    cr_expect(eq(ptr, (void *)found.whole.end, p + 8 * PAGE));
}

struct visits {
    struct pw_range shared;
    int times, all;
    bool ascending;
    uintptr_t last;
};

static void visit(struct pw_range r, enum pw_memory kind, void *arg)
{
    struct visits *v = arg;

    v->all++;
    v->ascending &= r.start >= v->last;
    v->last = r.end;
    if (r.start == v->shared.start && r.end == v->shared.end)
        v->times += kind == PW_MEM_SHARED;
}

Test(maps, all_mappings_are_visited_once_in_order)
{
    struct visits v = { .ascending = true };
    void *p = map(3, MAP_SHARED | MAP_ANONYMOUS, -1);

    v.shared = range_of(p, 3 * PAGE);
    cr_expect(eq(int, pw_maps_each(visit, &v), 0));
    cr_expect(eq(int, v.times, 1));
    cr_expect(lt(int, 5, v.all));
    cr_expect(v.ascending);
}

/* Many mappings: the text is read in many pieces. */
Test(maps, the_last_of_a_thousand_mappings_is_found)
{
    enum { PAGES = 2000 };
    char *p = map_anonymous(PAGES);

    for (size_t i = 0; i < PAGES; i += 2)
        cr_assert(eq(int, mprotect(p + i * PAGE, PAGE, PROT_READ), 0));
    cr_expect(eq(int, kinds_of(range_of(p, PAGES * PAGE)), PW_MEM_PRIVATE));
    cr_expect(eq(int, kinds_of(range_of(p + (PAGES - 1) * PAGE, PAGE)),
                 PW_MEM_PRIVATE));
    munmap(p + (PAGES - 1) * PAGE, PAGE);
    cr_expect(eq(int, kinds_of(range_of(p, PAGES * PAGE)), -EFAULT));
}

/* Children. Their answers are exit statuses: 0 is good. */

static int without_the_query(void *p)
{
    unsigned kinds = 0;

    if (deny_call(SYS_ioctl, ENOTTY))
        return 2;
    return pw_maps_kinds(range_of(p, PAGE), &kinds) || kinds != PW_MEM_PRIVATE;
}

Test(maps, where_the_kernel_has_no_query_the_text_is_read)
{
    cr_expect(eq(int, in_child(without_the_query, map_anonymous(1)), 0));
}

static int without_files(void *p)
{
    unsigned kinds;

    if (deny_call(SYS_openat, EACCES))
        return 2;
    errno = 77;
    return pw_maps_kinds(range_of(p, PAGE), &kinds) != -EACCES || errno != 77 ||
           pw_maps_each(visit, NULL) != -EACCES;
}

Test(maps, a_file_that_does_not_open_is_an_error_and_errno_stays)
{
    cr_expect(eq(int, in_child(without_files, map_anonymous(1)), 0));
}

static int without_reading(void *p)
{
    unsigned kinds;

    if (deny_call(SYS_ioctl, ENOTTY) || deny_call(SYS_read, EPERM))
        return 2;
    return pw_maps_kinds(range_of(p, PAGE), &kinds) != -EPERM ||
           pw_maps_each(visit, NULL) != -EPERM;
}

Test(maps, a_file_that_does_not_read_is_an_error)
{
    cr_expect(eq(int, in_child(without_reading, map_anonymous(1)), 0));
}

static int as_nobody(void *p)
{
    unsigned kinds = 0;

    if (become_nobody() || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
        return 2;
    return pw_maps_kinds(range_of(p, PAGE), &kinds) || kinds != PW_MEM_PRIVATE;
}

Test(maps, a_process_that_nobody_may_look_into_looks_at_itself)
{
    if (getuid() != 0)
        cr_skip_test("needs root to become another user");
    cr_expect(eq(int, in_child(as_nobody, map_anonymous(1)), 0));
}

static int own_memory_after_fork(void *p)
{
    unsigned kinds = 0;

    munmap(p, PAGE);
    return pw_maps_kinds(range_of(p, PAGE), &kinds) != -EFAULT;
}

Test(maps, a_forked_child_sees_its_own_memory)
{
    void *p = map_anonymous(1);

    cr_assert(eq(int, kinds_of(range_of(p, PAGE)), PW_MEM_PRIVATE));
    cr_expect(eq(int, in_child(own_memory_after_fork, p), 0));
    cr_expect(eq(int, kinds_of(range_of(p, PAGE)), PW_MEM_PRIVATE));
}

/* Its file is empty, or does not open, once it has ended. */
static void first_thread_await_end(void)
{
    char c;
    int fd, got;

    do {
        usleep(1000);
        fd = open("/proc/self/maps", O_RDONLY);
        got = fd < 0 ? 0 : (int)read(fd, &c, 1);
        close(fd);
    } while (got == 1);
}

static void *last_thread(void *p)
{
    unsigned kinds = 0;

    first_thread_await_end();
    _exit(pw_maps_kinds(range_of(p, PAGE), &kinds) || kinds != PW_MEM_PRIVATE);
}

/* Not by pthread_exit(), which sanitizers cannot do without a first thread. */
static int leave_it_to_a_thread(void *p)
{
    pthread_t t;

    alarm(20);
    if (pthread_create(&t, NULL, last_thread, p))
        return 2;
    pw_raw3(SYS_exit, 0, 0, 0);
    return 3;
}

Test(maps, a_process_whose_first_thread_has_ended_is_seen)
{
    cr_expect(eq(int, in_child(leave_it_to_a_thread, map_anonymous(1)), 0));
}

/* The file stays open. */

/* Our descriptors: how many, and one of them. */
static int kept_open(int *fd)
{
    int n = 0;

    for (int i = 800; i < 1024; i++)
        if (fcntl(i, F_GETFD) >= 0) {
            *fd = i;
            n++;
        }
    return n;
}

static int asked_again(void *p)
{
    unsigned kinds = 0;

    if (pw_maps_kinds(range_of(p, PAGE), &kinds) || deny_call(SYS_openat, EACCES))
        return 2;
    return pw_maps_kinds(range_of(p, PAGE), &kinds) || kinds != PW_MEM_PRIVATE;
}

Test(maps, a_second_question_opens_nothing)
{
    struct pw_maps_found found;
    void *p = map_anonymous(1);
    int fd = -1;

    if (ask(pw_maps_by_query, range_of(p, PAGE), &found) == -ENOTTY)
        cr_skip_test("this kernel has no PROCMAP_QUERY");
    cr_expect(eq(int, kinds_of(range_of(p, PAGE)), PW_MEM_PRIVATE));
    cr_expect(eq(int, kept_open(&fd), 1));
    cr_expect(ne(int, fcntl(fd, F_GETFD) & FD_CLOEXEC, 0));
    cr_expect(eq(int, in_child(asked_again, p), 0));
}

static int grandchildren(void *arg)
{
    int *generation = arg, fd;
    unsigned kinds;

    if (pw_maps_kinds(page_of(arg), &kinds) || kept_open(&fd) > 1)
        return 1;
    return --*generation ? in_child(grandchildren, arg) : 0;
}

Test(maps, children_of_children_gather_no_descriptors)
{
    int generation = 5;

    cr_expect(eq(int, in_child(grandchildren, &generation), 0));
}

/* The number is given to the file of another process, where p is not mapped. */
static int other_file_in_its_place(void *arg)
{
    char name[64];
    unsigned kinds = 0;
    int fd = -1, other;
    void *p;

    p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pw_maps_kinds(range_of(p, PAGE), &kinds) || kept_open(&fd) != 1)
        return 1;
    snprintf(name, sizeof name, "/proc/%d/maps", (int)getppid());
    other = open(name, O_RDONLY);
    if (other < 0 || dup2(other, fd) != fd)
        return 2;
    (void)arg;
    return pw_maps_kinds(range_of(p, PAGE), &kinds) || kinds != PW_MEM_PRIVATE ||
           fcntl(fd, F_GETFD) < 0;
}

Test(maps, a_descriptor_that_has_become_another_file_is_not_asked_and_not_closed)
{
    struct pw_maps_found found;
    void *p = map_anonymous(1);

    if (ask(pw_maps_by_query, range_of(p, PAGE), &found) == -ENOTTY)
        cr_skip_test("this kernel has no PROCMAP_QUERY");
    cr_expect(eq(int, in_child(other_file_in_its_place, NULL), 0));
}

static int few_descriptors(void *p)
{
    struct rlimit few = { 100, 100 };
    unsigned kinds = 0;
    int next, after;

    if (setrlimit(RLIMIT_NOFILE, &few))
        return 2;
    next = dup(0);
    close(next);
    for (int i = 0; i < 3; i++)
        if (pw_maps_kinds(range_of(p, PAGE), &kinds) || kinds != PW_MEM_PRIVATE)
            return 1;
    after = dup(0);
    return after != next;
}

Test(maps, with_no_room_for_a_high_descriptor_none_is_kept)
{
    cr_expect(eq(int, in_child(few_descriptors, map_anonymous(1)), 0));
}

static int no_page_to_keep_it_in(void *p)
{
    unsigned kinds = 0;
    int fd;

    if (deny_call(SYS_madvise, EINVAL))
        return 2;
    errno = 77;
    for (int i = 0; i < 3; i++)
        if (pw_maps_kinds(range_of(p, PAGE), &kinds) || kinds != PW_MEM_PRIVATE)
            return 1;
    if (errno != 77)
        return 3;
    return kept_open(&fd);
}

Test(maps, with_no_memory_that_fork_wipes_none_is_kept)
{
    cr_expect(eq(int, in_child(no_page_to_keep_it_in, map_anonymous(1)), 0));
}

static void *ask_for_a_while(void *arg)
{
    long wrong = 0;

    (void)arg;
    for (int i = 0; i < 2000; i++) {
        unsigned kinds = 0;
        char *p = mmap(NULL, 3 * PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        wrong += pw_maps_kinds(range_of(p + PAGE, PAGE), &kinds) ||
                 kinds != PW_MEM_SHARED;
        munmap(p + PAGE, PAGE);
        wrong += pw_maps_kinds(range_of(p, 3 * PAGE), &kinds) != -EFAULT &&
                 !(kinds & PW_MEM_PRIVATE);     /* another thread's, come into the hole */
        munmap(p, PAGE);
        munmap(p + 2 * PAGE, PAGE);
    }
    return (void *)wrong;
}

Test(maps, threads_that_ask_at_once_get_their_own_answers)
{
    pthread_t t[4];

    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, pthread_create(&t[i], NULL, ask_for_a_while, NULL), 0));
    for (int i = 0; i < 4; i++) {
        void *wrong;

        pthread_join(t[i], &wrong);
        cr_expect(eq(ptr, wrong, NULL));
    }
}

static int out_of_descriptors(void *p)
{
    struct rlimit none = { 0, 0 };
    unsigned kinds;

    if (setrlimit(RLIMIT_NOFILE, &none))
        return 2;
    return pw_maps_kinds(range_of(p, PAGE), &kinds) != -EMFILE;
}

Test(maps, no_descriptor_left_is_an_error)
{
    cr_expect(eq(int, in_child(out_of_descriptors, map_anonymous(1)), 0));
}
