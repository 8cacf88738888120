/* SPDX-License-Identifier: BSD-3-Clause */
/* blocks.c - what a program may expect of malloc and its kin, one story a run.
 *
 * Run by tests/malloc/blocks.sh with libpinwheel-malloc preloaded.
 */
#include "told.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/resource.h>

/* The compiler is not to know that a block is freed at once or that a size is absurd. */
static void *volatile sink;
static volatile size_t absurd;

static bool in_pool(void *p)
{
    static uint64_t before;
    struct pw_malloc_info i = told();
    bool more = i.heap.taken != before;

    (void)p;
    before = i.heap.taken;
    return more;
}

static void small_blocks_open_no_pool(void)
{
    for (int i = 0; i < 10000; i++)
        free(sink = malloc((size_t)i % (64 * KIB - 1)));
    expect(!told().open, "a pool was opened");
}

static void large_blocks_come_from_the_pool(void)
{
    expect(told().threshold == 64 * KIB, "threshold %zu", told().threshold);
    sink = malloc(64 * KIB - 1);
    expect(!in_pool(sink), "64 KiB - 1 is in the pool");
    sink = malloc(64 * KIB);
    expect(in_pool(sink), "malloc of 64 KiB is not");
    expect((uintptr_t)sink % 4096 == 0, "not on a page");
    sink = calloc(64, KIB);
    expect(in_pool(sink), "calloc is not");
    sink = realloc(NULL, 64 * KIB);
    expect(in_pool(sink), "realloc is not");
    sink = aligned_alloc(64, 64 * KIB);
    expect(in_pool(sink), "aligned_alloc is not");
    sink = memalign(64, 64 * KIB);
    expect(in_pool(sink), "memalign is not");
    sink = valloc(64 * KIB);
    expect(in_pool(sink), "valloc is not");
    sink = pvalloc(64 * KIB);
    expect(in_pool(sink), "pvalloc is not");
    sink = reallocarray(NULL, 64, KIB);
    expect(in_pool(sink), "reallocarray is not");
    expect(!posix_memalign((void **)&sink, 64, 64 * KIB) && in_pool(sink),
           "posix_memalign is not");
    expect(told().heap.blocks == 9, "%zu blocks live", (size_t)told().heap.blocks);
}

static void the_threshold_is_what_was_set(void)
{
    size_t want = strtoul(getenv("WANT"), NULL, 10);

    expect(told().threshold == want, "it is %zu", told().threshold);
    sink = malloc(want - 1);
    expect(!in_pool(sink), "%zu bytes come from the pool", want - 1);
    sink = malloc(want);
    expect(in_pool(sink), "%zu bytes do not come from the pool", want);
}

/* ---- many blocks of all kinds ---- */

enum { SLOTS = 64 };
struct slot {
    char *p;
    size_t len;
    uint64_t seed;
};

static size_t some_size(uint64_t *state)
{
    static const size_t around[] = { 100, 5000, 60 * 1024, 70 * 1024, 300 * 1024,
                                     3 * 1024 * 1024 };
    size_t mid = around[draw(state) % 6];

    return mid / 2 + draw(state) % mid;
}

static void *some_block(uint64_t *state, size_t len)
{
    size_t align = (size_t)8 << draw(state) % 15;
    void *p = NULL;

    switch (draw(state) % 6) {
    case 0:
        p = calloc(1, len);
        all_zero(p, len, "calloc");
        return p;
    case 1:
        expect(!posix_memalign(&p, align, len), "posix_memalign(%zu, %zu)", align, len);
        expect((uintptr_t)p % align == 0, "posix_memalign gave %p for %zu", p, align);
        return p;
    case 2:
        p = aligned_alloc(align, len);
        expect((uintptr_t)p % align == 0, "aligned_alloc gave %p for %zu", p, align);
        return p;
    default:
        return malloc(len);
    }
}

static void slot_turn(struct slot *s, uint64_t *state)
{
    size_t len = some_size(state), kept;

    if (s->p) {
        same(s->p, s->len, s->seed, "a block");
        expect(malloc_usable_size(s->p) >= s->len, "usable_size");
    }
    if (s->p && draw(state) % 3 == 0) {
        kept = len < s->len ? len : s->len;
        s->p = realloc(s->p, len);
        expect(s->p, "realloc(%zu)", len);
        same(s->p, kept, s->seed, "after realloc");
    } else {
        free(s->p);
        s->p = draw(state) % 4 ? some_block(state, len) : NULL;
    }
    s->len = s->p ? len : 0;
    s->seed = draw(state);
    fill(s->p, s->len, s->seed);
}

static void slots_churn(uint64_t state, int turns)
{
    struct slot slot[SLOTS] = { { 0 } };

    for (int i = 0; i < turns; i++)
        slot_turn(&slot[draw(&state) % SLOTS], &state);
    for (int i = 0; i < SLOTS; i++) {
        if (slot[i].p)
            same(slot[i].p, slot[i].len, slot[i].seed, "at the end");
        free(slot[i].p);
    }
}

static void blocks_of_all_kinds_keep_their_bytes(void)
{
    slots_churn(88172645463325252u, 1000);
    expect(told().heap.taken > 150, "%zu were large", (size_t)told().heap.taken);
    expect(told().heap.blocks == 0, "%zu large blocks left", (size_t)told().heap.blocks);
}

static void *churn_thread(void *seed)
{
    slots_churn((uint64_t)(uintptr_t)seed, 200);
    return NULL;
}

static void threads_do_the_same_at_once(void)
{
    pthread_t t[6];

    for (uintptr_t i = 0; i < 6; i++)
        pthread_create(&t[i], NULL, churn_thread, (void *)(i * 7919 + 1));
    for (int i = 0; i < 6; i++)
        pthread_join(t[i], NULL);
    expect(told().heap.blocks == 0, "%zu large blocks left", (size_t)told().heap.blocks);
}

/* What one thread takes another frees. */
static void *_Atomic passed[16];
static void *pass_thread(void *stop)
{
    uint64_t state = (uint64_t)(uintptr_t)&state;

    for (int i = 0; i < 20000; i++) {
        char *p = malloc(64 * KIB + draw(&state) % (256 * KIB));

        p[0] = p[64 * KIB - 1] = 1;
        free(__atomic_exchange_n((void **)&passed[draw(&state) % 16], p, __ATOMIC_ACQ_REL));
    }
    return stop;
}

static void what_a_thread_takes_another_frees(void)
{
    pthread_t t[4];

    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, pass_thread, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < 16; i++)
        free(passed[i]);
    expect(told().heap.blocks == 0, "%zu blocks left", (size_t)told().heap.blocks);
}

/* ---- single promises ---- */

static void calloc_is_zero_after_dirty_reuse(void)
{
    for (size_t len = 64 * KIB; len <= 64 * MIB; len *= 4) {
        void *p = malloc(len), *q;

        memset(p, 0xff, len);
        free(p);
        sink = malloc(len / 2 + 4096);      /* not all of it is used before */
        q = calloc(1, 2 * len);
        all_zero(q, 2 * len, "calloc");
        free(q);
        free(sink);
    }
}

static void realloc_crosses_the_threshold_both_ways(void)
{
    static const size_t lens[] = { 10, 70000, 30, 65536, 65535, 5000000, 66000, 1, 9000000,
                                   100000, 64 };
    size_t len = 1;
    char *p = malloc(1);

    fill(p, 1, 5);
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        p = realloc(p, lens[i]);
        expect(p, "realloc");
        same(p, len < lens[i] ? len : lens[i], 5, "realloc");
        len = lens[i];
        fill(p, len, 5);
        expect((told().heap.blocks == 1) == (len >= 64 * KIB), "%zu bytes are on the wrong side",
               len);
    }
    expect(!realloc(realloc(p, MIB), 0), "realloc to nothing");
    expect(told().heap.blocks == 0, "freed");
}

/* A vector that grows is not copied each time. */
static void a_block_grows_where_it_is(void)
{
    char *p = malloc(64 * KIB), *q;
    int moves = 0;

    for (size_t len = 64 * KIB; len < 64 * MIB; len += 64 * KIB) {
        p[len - 1] = (char)(len >> 16);
        q = realloc(p, len + 64 * KIB);
        moves += q != p;
        p = q;
    }
    for (size_t len = 64 * KIB; len < 64 * MIB; len += 64 * KIB)
        expect(p[len - 1] == (char)(len >> 16), "byte %zu", len - 1);
    expect(moves < 30, "moved %d times", moves);
    free(p);
}

static void a_block_shrinks_where_it_is(void)
{
    char *p = malloc(64 * MIB);

    fill(p, 64 * KIB, 3);
    expect(realloc(p, 64 * KIB) == p, "it moved");
    same(p, 64 * KIB, 3, "shrunk");
    expect(told().heap.bytes == 64 * KIB, "%zu bytes live", (size_t)told().heap.bytes);
}

static void alignment_is_as_asked(void)
{
    for (size_t align = 8; align <= 16 * MIB; align *= 2)
        for (size_t len = 1; len <= 4 * MIB; len *= 16) {
            void *p = NULL;

            expect(!posix_memalign(&p, align, len) && p, "posix_memalign %zu", align);
            expect((uintptr_t)p % align == 0, "%p is not at %zu", p, align);
            memset(p, 1, len);
            free(p);
            p = memalign(align, len);
            expect(p && (uintptr_t)p % align == 0, "memalign %zu: %p", align, p);
            free(p);
        }
    for (size_t len = 1; len <= 4 * MIB; len *= 16) {
        expect((uintptr_t)(sink = valloc(len)) % 4096 == 0, "valloc");
        expect((uintptr_t)(sink = pvalloc(len)) % 4096 == 0, "pvalloc");
        expect(malloc_usable_size(sink) >= ((len + 4095) & ~(size_t)4095), "pvalloc rounds up");
    }
    absurd = 3;
    expect(posix_memalign((void **)&sink, absurd, MIB) == EINVAL, "3 is no alignment");
    absurd = 4;
    expect(posix_memalign((void **)&sink, absurd, MIB) == EINVAL, "4 is none for it");
}

static void usable_bytes_can_be_used(void)
{
    for (size_t len = 60 * KIB; len < 5 * MIB; len += 77777) {
        char *p = malloc(len), *q = malloc(len);
        size_t usable = malloc_usable_size(p);

        expect(usable >= len, "%zu usable of %zu", usable, len);
        fill(q, len, 1);
        fill(p, usable, 2);
        same(q, len, 1, "its neighbour");
        free(p);
        free(q);
    }
    expect(malloc_usable_size(NULL) == 0, "of NULL");
}

static void absurd_sizes_are_refused(void)
{
    static const size_t sizes[] = { SIZE_MAX, SIZE_MAX - 4096, SIZE_MAX / 2 + 1,
                                    (size_t)1 << 60 };
    char *p = malloc(MIB);

    fill(p, MIB, 9);
    for (size_t i = 0; i < 4; i++) {
        absurd = sizes[i];
        errno = 0;
        expect(!malloc(absurd) && errno == ENOMEM, "malloc(%zx), errno %d", absurd, errno);
        errno = 0;
        expect(!calloc(absurd, 1) && errno == ENOMEM, "calloc");
        errno = 0;
        expect(!realloc(p, absurd) && errno == ENOMEM, "realloc");
        expect(posix_memalign((void **)&sink, 64, absurd) == ENOMEM, "posix_memalign");
        expect(!aligned_alloc(64, absurd), "aligned_alloc");
    }
    absurd = SIZE_MAX / 2 + 2;
    errno = 0;
    expect(!calloc(absurd, 2) && errno == ENOMEM, "calloc that wraps");
    errno = 0;
    expect(!reallocarray(p, absurd, 2) && errno == ENOMEM, "reallocarray that wraps");
    same(p, MIB, 9, "after all that");
    expect(malloc(0), "malloc(0)");
}

static void free_keeps_errno(void)
{
    errno = 4711;
    free(sink = malloc(512 * MIB));
    free(sink = malloc(100));
    free(NULL);
    expect(errno == 4711, "it is %d", errno);
}

/* ---- memory ---- */

/* With PINWHEEL_MALLOC_POPULATE=16M. */
static void what_is_not_touched_takes_no_memory(void)
{
    long before;
    char *p;

    free(malloc(64 * KIB));
    before = status_kib("VmRSS");
    p = malloc(6 * GIB);
    expect(p && in_pool(p), "6 GiB are not from the pool");
    p[0] = p[3 * GIB] = p[6 * GIB - 1] = 1;
    expect(status_kib("VmRSS") - before < 64 << 10, "it took %ld KiB more",
           status_kib("VmRSS") - before);
    p = calloc(1, GIB);
    expect(p && !p[GIB / 2], "calloc");
    expect(status_kib("VmRSS") - before < 64 << 10, "calloc took %ld KiB",
           status_kib("VmRSS") - before);
}

/* With PINWHEEL_MALLOC_RETAIN=32M. */
static void what_is_freed_goes_back_to_the_system(void)
{
    enum { N = 400 };
    char *p[N];
    long before, full;

    free(malloc(64 * KIB));
    before = status_kib("VmRSS");
    for (int i = 0; i < N; i++)
        memset(p[i] = malloc(MIB), 1, MIB);
    full = status_kib("VmRSS") - before;
    for (int i = 0; i < N; i++)
        free(p[(i * 7) % N]);
    expect(full > 390 << 10, "400 MiB are %ld KiB", full);
    expect(status_kib("VmRSS") - before < 48 << 10, "%ld KiB are kept of 32 MiB",
           status_kib("VmRSS") - before);
    expect(told().heap.dropped_bytes > 300 * MIB, "%zu went", (size_t)told().heap.dropped_bytes);
    p[0] = calloc(400, MIB);
    all_zero(p[0], 400 * MIB, "after it went");
}

static void what_is_kept_is_used_again(void)
{
    long before;

    memset(sink = malloc(16 * MIB), 1, 16 * MIB);
    free(sink);
    before = status_kib("VmRSS");
    for (int i = 0; i < 100; i++) {
        memset(sink = malloc(16 * MIB), i, 16 * MIB);
        free(sink);
    }
    expect(status_kib("VmRSS") - before < 8 << 10, "%ld KiB more", status_kib("VmRSS") - before);
    expect(told().heap.dropped_bytes == 0, "it went");
}

/* With PINWHEEL_MALLOC_SIZE=32M. */
static void a_full_pool_is_no_end(void)
{
    char *p[100];

    for (uint64_t i = 0; i < 100; i++) {
        p[i] = malloc(MIB);
        expect(p[i], "block %zu", (size_t)i);
        fill(p[i], MIB, i);
    }
    expect(told().heap.blocks == 28, "%zu fit, 4 MiB are others'", (size_t)told().heap.blocks);
    expect(told().heap.full == 72, "%zu did not", (size_t)told().heap.full);
    for (uint64_t i = 0; i < 100; i++) {
        p[i] = realloc(p[i], MIB + i * 1000);
        same(p[i], MIB, i, "a block");
        free(p[i]);
    }
    expect(told().heap.blocks == 0, "all are free");
    expect(malloc(20 * MIB) && told().heap.blocks == 1, "and there is room again");
}

/* Where no pool is to be had. */
static void ordinary_memory_serves(void)
{
    slots_churn(88172645463325252u, 400);
    expect(!told().open || told().heap.taken == 0, "a block came from a pool");
}

static void without_descriptors_ordinary_memory_serves(void)
{
    struct rlimit none = { 3, 3 };

    expect(!setrlimit(RLIMIT_NOFILE, &none), "setrlimit");
    ordinary_memory_serves();
}

static void any_memory_serves(void)
{
    slots_churn(88172645463325252u, 400);
}

static void free_of_what_is_no_block(void)
{
    char *p = sink = malloc(MIB);

    free(p + 4096);
}

static void free_twice(void)
{
    void *p = sink = malloc(MIB);

    free(p);
    free(sink);
}

static void realloc_of_what_is_no_block(void)
{
    char *p = sink = malloc(MIB);

    sink = realloc(p + 4096, 10);
}

static const struct told_story stories[] = {
    { "small_blocks_open_no_pool", small_blocks_open_no_pool },
    { "large_blocks_come_from_the_pool", large_blocks_come_from_the_pool },
    { "the_threshold_is_what_was_set", the_threshold_is_what_was_set },
    { "blocks_of_all_kinds_keep_their_bytes", blocks_of_all_kinds_keep_their_bytes },
    { "threads_do_the_same_at_once", threads_do_the_same_at_once },
    { "what_a_thread_takes_another_frees", what_a_thread_takes_another_frees },
    { "calloc_is_zero_after_dirty_reuse", calloc_is_zero_after_dirty_reuse },
    { "realloc_crosses_the_threshold_both_ways", realloc_crosses_the_threshold_both_ways },
    { "a_block_grows_where_it_is", a_block_grows_where_it_is },
    { "a_block_shrinks_where_it_is", a_block_shrinks_where_it_is },
    { "alignment_is_as_asked", alignment_is_as_asked },
    { "usable_bytes_can_be_used", usable_bytes_can_be_used },
    { "absurd_sizes_are_refused", absurd_sizes_are_refused },
    { "free_keeps_errno", free_keeps_errno },
    { "what_is_not_touched_takes_no_memory", what_is_not_touched_takes_no_memory },
    { "what_is_freed_goes_back_to_the_system", what_is_freed_goes_back_to_the_system },
    { "what_is_kept_is_used_again", what_is_kept_is_used_again },
    { "a_full_pool_is_no_end", a_full_pool_is_no_end },
    { "ordinary_memory_serves", ordinary_memory_serves },
    { "without_descriptors_ordinary_memory_serves",
      without_descriptors_ordinary_memory_serves },
    { "any_memory_serves", any_memory_serves },
    { "free_of_what_is_no_block", free_of_what_is_no_block },
    { "free_twice", free_twice },
    { "realloc_of_what_is_no_block", realloc_of_what_is_no_block },
};

int main(int argc, char **argv)
{
    return told_main(argc, argv, stories, sizeof stories / sizeof *stories);
}
