/* SPDX-License-Identifier: BSD-3-Clause */
/* buffers.c - buffers that come and go under a transport that remembers them.
 *
 * Ranks work in pairs: one sends, the other checks the bytes, then the other way
 * round. What the sender's transport remembers is read through MPI_T. The
 * environment says what to expect:
 *
 *     PW_TEST_MONITOR   kdriver, hooks, uffd: memory is remembered, changes are seen
 *                       none: each registration pins anew
 *                       unneeded: there is no cache at all
 *     PW_TEST_REFUSED   less may be pinned than one of our buffers
 *     PW_TEST_TWICE     to another host by a NIC that takes pinned memory of its own side:
 *                       who sends is asked for it by both modules (btl/far.c), and who
 *                       receives needs it for itself, too
 *     PW_TEST_MIXED     that is so for some ranks only: nothing is counted
 *     PW_TEST_BEFORE, PW_TEST_AFTER
 *                       whose hooks are put in beside, before or after MPI_Init:
 *                       ucm (UCX), opal (Open MPI)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "counters.h"
#include "story.h"

enum { LEN = 1 << 20 };

static char *landing;
static const char *monitor;
static bool refused, mixed;
static unsigned n_rounds;
static unsigned each = 1;           /* gets of each buffer */
static uint64_t seed;
static unsigned sent, received;     /* by this rank, in this story */

static bool has_cache(void)
{
    return strcmp(monitor, "unneeded") != 0;
}

static bool remembers(void)
{
    return strcmp(monitor, "none") && has_cache() && !refused && !mixed;
}

/* ---- counters since the story's start ---- */

struct counts {
    unsigned long long hits, misses, uncached, refused, gone, munmap, mremap, madvise,
                       map_over, pinned;
};

static struct counts counts_now(void)
{
    return (struct counts){
        .hits = counter("btl_pinwheel_cache_hits"),
        .misses = counter("btl_pinwheel_cache_misses"),
        .uncached = counter("btl_pinwheel_cache_uncached"),
        .refused = counter("btl_pinwheel_cache_refused"),
        .munmap = counter("btl_pinwheel_cache_invalidated_munmap"),
        .mremap = counter("btl_pinwheel_cache_invalidated_mremap"),
        .madvise = counter("btl_pinwheel_cache_invalidated_madvise"),
        .map_over = counter("btl_pinwheel_cache_invalidated_map_over"),
        .pinned = counter("btl_pinwheel_cache_pinned_bytes"),
    };
}

static struct counts start;

static void begin(void)
{
    sent = received = 0;
    start = counts_now();
}

/* What must hold whatever happened. */
static struct counts since(void)
{
    struct counts now = counts_now(), d = {
        .hits = now.hits - start.hits, .misses = now.misses - start.misses,
        .uncached = now.uncached - start.uncached, .refused = now.refused - start.refused,
        .munmap = now.munmap - start.munmap, .mremap = now.mremap - start.mremap,
        .madvise = now.madvise - start.madvise, .map_over = now.map_over - start.map_over,
        .pinned = now.pinned,
    };

    if (mixed)
        return d;
    if (!has_cache())
        expect(!now.hits && !now.misses && !now.pinned, "a cache nobody needs is at work");
    else if (refused)           /* then the sender copies, and nobody registers more */
        expect(d.misses == sent && d.refused == sent && !d.hits,
               "%u sends: %llu hits, %llu misses, %llu refused", sent, d.hits, d.misses,
               d.refused);
    else
        expect(d.hits + d.misses == each * (sent + received) && !d.refused,
               "%u sent, %u received: %llu hits, %llu misses, %llu refused", sent, received,
               d.hits, d.misses, d.refused);
    if (has_cache() && !remembers() && !refused)
        expect(!d.hits && d.misses == d.uncached,
               "without a monitor %llu of %llu registrations were remembered", d.hits,
               d.hits + d.misses);
    return d;
}

/* ---- messages ---- */

/* One message to the partner when it is our turn, else one from it. Both ranks
 * register their buffers, for the message is long. */
static void pass(int turn, char *buf, size_t len)
{
    int partner = rank ^ 1;
    uint64_t s = mix(++seed, (uint64_t)(rank & ~1));

    if (turn == (rank & 1)) {
        fill(buf, len, s);
        MPI_Ssend(buf, (int)len, MPI_CHAR, partner, 1, MPI_COMM_WORLD);
        sent++;
    } else {
        memset(landing, 0x5a, len);
        MPI_Recv(landing, (int)len, MPI_CHAR, partner, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        same(landing, len, s, "%zu bytes", len);
        received++;
    }
}

static char *map(void *at, size_t len, int flags)
{
    char *p = mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

    expect(p != MAP_FAILED, "no memory");
    if (p == MAP_FAILED)
        MPI_Abort(MPI_COMM_WORLD, 4);
    return p;
}

/* ---- stories; each rank sends in its turn ---- */

static void same_buffer_again(int turn)
{
    char *buf = map(NULL, LEN, 0);
    struct counts d;

    begin();
    for (unsigned i = 0; i < n_rounds; i++)
        pass(turn, buf, LEN);
    d = since();
    if (remembers() && sent) {
        expect(d.misses == 1 + d.uncached && d.hits == each * n_rounds - d.misses,
               "%llu misses", d.misses);
        expect(d.pinned >= LEN, "%llu bytes are pinned", d.pinned);
    }
    munmap(buf, LEN);
}

static void parts_of_a_buffer(int turn)
{
    char *buf = map(NULL, 4 * LEN, 0);
    struct counts d;

    begin();
    pass(turn, buf, 4 * LEN);
    for (unsigned i = 0; i < n_rounds; i++)
        pass(turn, buf + i * 100001, LEN + (size_t)i * 777);
    d = since();
    if (remembers() && sent)
        expect(d.misses == 1 + d.uncached, "%llu misses", d.misses);
    munmap(buf, 4 * LEN);
}

/* The second get of a buffer hits what the first one has pinned. */
static bool hits_of_old(const struct counts *d)
{
    return d->hits > (each - 1) * sent;
}

/* What was not remembered could not be taken back: on a busy machine a change may still
 * be going on when the buffer is pinned again. But most of them must have been. */
static bool taken_back(unsigned long long seen, const struct counts *d)
{
    return seen + d->uncached >= n_rounds - 1 && d->uncached <= n_rounds / 2;
}

/* The same address, other pages: what today's caches fall for. */
static void unmapped_and_mapped_again(int turn)
{
    char *buf = map(NULL, LEN, 0);
    struct counts d;

    begin();
    for (unsigned i = 0; i < n_rounds; i++) {
        pass(turn, buf, LEN);
        munmap(buf, LEN);
        expect(map(buf, LEN, MAP_FIXED_NOREPLACE) == buf, "the address is taken");
    }
    d = since();
    if (remembers() && sent) {
        expect(!hits_of_old(&d), "%llu sends hit memory that was gone", d.hits);
        expect(taken_back(d.munmap, &d), "%llu munmaps seen", d.munmap);
    }
    munmap(buf, LEN);
}

static void mapped_over(int turn)
{
    char *buf = map(NULL, LEN, 0);
    struct counts d;

    begin();
    for (unsigned i = 0; i < n_rounds; i++) {
        pass(turn, buf, LEN);
        map(buf, LEN, MAP_FIXED);
    }
    d = since();
    if (remembers() && sent)
        expect(!hits_of_old(&d) && taken_back(d.map_over + d.munmap, &d),
               "%llu hits, %llu seen", d.hits, d.map_over + d.munmap);
    munmap(buf, LEN);
}

static void discarded(int turn)
{
    char *buf = map(NULL, LEN, 0);
    struct counts d;

    begin();
    for (unsigned i = 0; i < n_rounds; i++) {
        pass(turn, buf, LEN);
        madvise(buf + LEN / 2, LEN / 4, MADV_DONTNEED);
    }
    d = since();
    if (remembers() && sent)
        expect(!hits_of_old(&d) && taken_back(d.madvise, &d), "%llu hits, %llu seen",
               d.hits, d.madvise);
    munmap(buf, LEN);
}

static void grown_and_moved(int turn)
{
    size_t len = LEN;
    char *buf = map(NULL, len, 0);
    struct counts d;

    begin();
    for (int i = 0; i < 6; i++) {
        char *block;

        pass(turn, buf, LEN);
        block = map(buf + len, 4096, 0);        /* in the way */
        buf = mremap(buf, len, len + LEN / 2, MREMAP_MAYMOVE);
        len += LEN / 2;
        munmap(block, 4096);
    }
    d = since();
    if (remembers() && sent)
        expect(d.mremap + d.munmap >= 1, "no mremap was seen");
    munmap(buf, len);
}

static void malloc_and_free(int turn)
{
    uint64_t state = 7;
    char *keep[4] = { 0 };

    begin();
    for (unsigned i = 0; i < 4 * n_rounds; i++) {
        size_t len = 100000 + draw(&state) % (3 * LEN);
        int k = (int)(draw(&state) % 4);

        keep[k] = realloc(keep[k], len);
        pass(turn, keep[k], len);
        if (i % 3 == 0) {
            free(keep[k]);
            keep[k] = NULL;
        }
    }
    for (int k = 0; k < 4; k++)
        free(keep[k]);
    since();
}

/* The child has a memory of its own, in which it may do as it likes. */
static void fork_between(int turn)
{
    char *buf = map(NULL, LEN, 0);
    struct counts d;

    begin();
    for (int i = 0; i < 4; i++) {
        int status = -1;
        pid_t pid;

        pass(turn, buf, LEN);
        pid = fork();
        if (pid == 0) {
            memset(buf, i, LEN);
            munmap(buf, LEN);
            free(malloc(LEN));
            _exit(0);
        }
        waitpid(pid, &status, 0);
        expect(status == 0, "the child died of %d", status);
    }
    d = since();
    if (!strcmp(monitor, "hooks") && remembers() && sent)
        expect(d.misses == 1 + d.uncached, "what was pinned stays pinned: %llu misses",
               d.misses);
    munmap(buf, LEN);
}

/* Another process may cut the file, and nobody but the kernel would know. */
static void file_that_others_may_cut(int turn)
{
    char path[] = "/tmp/pwcacheXXXXXX", *buf;
    int fd = mkstemp(path);
    struct counts d;

    unlink(path);
    expect(fd >= 0 && !ftruncate(fd, LEN), "no file");
    buf = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    begin();
    for (int i = 0; i < 4; i++)
        pass(turn, buf, LEN);
    d = since();
    if (!strcmp(monitor, "hooks") && remembers() && sent)
        expect(d.uncached == 4 * each, "%llu of 4 were not remembered", d.uncached);
    if (!strcmp(monitor, "kdriver") && remembers())
        expect(d.uncached == 0, "%llu were not remembered", d.uncached);
    munmap(buf, LEN);
    close(fd);
}

static void windows(int turn)
{
    char *base = map(NULL, LEN, 0), *mine = map(NULL, LEN, 0);
    int right = (rank + 1) % size, left = (rank + size - 1) % size;
    MPI_Win win;

    (void)turn;
    MPI_Win_create(base, LEN, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    if (has_cache() && !mixed)
        expect((counts_now().pinned >= LEN) == !refused, "%llu bytes are pinned",
               counts_now().pinned);
    fill(mine, LEN, mix(9, (uint64_t)rank));
    MPI_Win_lock_all(0, win);
    MPI_Put(mine, LEN, MPI_CHAR, right, 0, LEN, MPI_CHAR, win);
    MPI_Win_flush(right, win);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_unlock_all(win);
    same(base, LEN, mix(9, (uint64_t)left), "put");
    MPI_Win_free(&win);
    munmap(base, LEN);
    munmap(mine, LEN);
}

/* Unmapped memory does not stay pinned although nobody registers anything. */
static void nothing_stays_pinned(int turn)
{
    char *buf = map(NULL, LEN, 0);
    double end = now() + 20;
    unsigned long long before;
    int flag;

    begin();
    pass(turn, buf, LEN);
    before = counts_now().pinned;
    munmap(buf, LEN);
    if (remembers() && sent) {
        while (counts_now().pinned >= before && now() < end)
            MPI_Iprobe(MPI_ANY_SOURCE, 99, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
        expect(counts_now().pinned < before, "%llu bytes are still pinned", before);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

/* ---- other people's hooks ---- */

static int releases;

static void ucm_event(int type, void *event, void *arg)
{
    (void)type;
    (void)event;
    (void)arg;
    releases++;
}

static void opal_release(void *start_, size_t len, void *arg, bool from_alloc)
{
    (void)start_;
    (void)len;
    (void)arg;
    (void)from_alloc;
    releases++;
}

/* ucm/api/ucm.h: UCM_EVENT_VM_UNMAPPED is 1 << 17. libucm calls into libucs, which
 * sets it up. */
static bool ucm_hooks(void)
{
    void *ucs = dlopen("libucs.so.0", RTLD_NOW | RTLD_GLOBAL);
    void *lib = dlopen("libucm.so.0", RTLD_NOW | RTLD_GLOBAL);
    int (*set)(int, int, void (*)(int, void *, void *), void *) = NULL;

    if (ucs && lib)
        *(void **)&set = dlsym(lib, "ucm_set_event_handler");
    return set && !set(1 << 17, 0, ucm_event, NULL);
}

/* opal/mca/base/mca_base_framework.h, opal/memoryhooks/memory.h. */
static bool opal_hooks(void)
{
    int (*open)(void *, int) = NULL;
    int (*watch)(void (*)(void *, size_t, void *, bool), void *) = NULL;
    void *framework = dlsym(RTLD_DEFAULT, "opal_memory_base_framework");

    *(void **)&open = dlsym(RTLD_DEFAULT, "mca_base_framework_open");
    *(void **)&watch = dlsym(RTLD_DEFAULT, "opal_mem_hooks_register_release");
    return framework && open && watch && !open(framework, 0) && !watch(opal_release, NULL);
}

static void put_in_hooks(const char *list)
{
    if (list && strstr(list, "ucm") && !ucm_hooks())
        story_skip("there is no libucm to put in its hooks");
    if (list && strstr(list, "opal") && !opal_hooks())
        story_skip("Open MPI's hooks cannot be put in");
}

static void other_hooks_still_work(int turn)
{
    int before = releases;

    (void)turn;
    for (int i = 0; i < 3; i++)
        munmap(map(NULL, LEN, 0), LEN);
    expect(releases >= before + 3, "they saw %d of 3 munmaps", releases - before);
}

static void tell(const char *name, void (*how)(int turn))
{
    for (int turn = 0; turn < 2; turn++)
        if (story("%s, rank %d sends", name, turn)) {
            how(turn);
            MPI_Barrier(MPI_COMM_WORLD);
        }
}

int main(int argc, char **argv)
{
    const char *after = getenv("PW_TEST_AFTER"), *before = getenv("PW_TEST_BEFORE");

    monitor = getenv("PW_TEST_MONITOR");
    if (!monitor)
        monitor = "unneeded";
    refused = getenv("PW_TEST_REFUSED") != NULL;
    mixed = getenv("PW_TEST_MIXED") != NULL;
    each = getenv("PW_TEST_TWICE") ? 2 : 1;
    n_rounds = (unsigned)story_rounds(20);
    if (before && !ucm_hooks())
        before = "missing";
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 100);
    if (before && !strcmp(before, "missing"))
        story_skip("there is no libucm to put in its hooks");
    if (size % 2)
        story_skip("the ranks make pairs");
    put_in_hooks(after);
    landing = map(NULL, 4 * LEN, 0);

    if (story("every counter can be read"))
        expect(counters_named("btl_pinwheel_") == 51, "%d counters",
               counters_named("btl_pinwheel_"));
    tell("the same buffer again", same_buffer_again);
    tell("parts of a buffer", parts_of_a_buffer);
    tell("unmapped and mapped again", unmapped_and_mapped_again);
    tell("mapped over", mapped_over);
    tell("discarded", discarded);
    tell("grown and moved", grown_and_moved);
    tell("malloc and free", malloc_and_free);
    tell("fork between messages", fork_between);
    tell("a file that others may cut", file_that_others_may_cut);
    tell("windows", windows);
    tell("nothing stays pinned", nothing_stays_pinned);
    if (before || after)
        tell("other hooks still work", other_hooks_still_work);
    return story_close();
}
