/* SPDX-License-Identifier: BSD-3-Clause */
/* layout.c - the regions that are cached, and the buffers that are looked up.
 *
 * Nothing here is random: lengths and order come from a generator with a fixed seed,
 * so each cache gets the same ones.
 */
#include <stdlib.h>

#include "bench.h"

enum { PART_MAX = 64 << 10 };   /* what the pattern inside looks up at most */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void bench_lay_out(struct bench *b)
{
    unsigned span = b->pattern->log2_max - b->pattern->log2_min + 1;
    uint64_t state = 1;
    size_t bytes = 0;
    char *at;

    b->region = calloc(b->regions + 1, sizeof *b->region);
    if (!b->region)
        bench_stop(DRIVER_FAILED, "no memory for a list of %zu regions", b->regions);
    for (size_t i = 0; i < b->regions; i++) {
        b->region[i].len = (size_t)1 << (b->pattern->log2_min + next_random(&state) % span);
        bytes += b->region[i].len + BENCH_PAGE;
    }
    at = bench_reserve(bytes + BENCH_PAGE, 0);
    for (size_t i = 0; i < b->regions; i++) {
        b->region[i].addr = at;
        at += b->region[i].len + BENCH_PAGE;
    }
}

static struct driver_use part_of(const struct driver_use *region, uint64_t *state)
{
    size_t len = 1 + next_random(state) % PART_MAX;

    return (struct driver_use){
        (char *)region->addr + next_random(state) % (region->len - len + 1), len,
    };
}

/* All regions once in random order, then again in another, until the list is full. */
void bench_choose_uses(struct bench *b)
{
    struct driver_use *uses = b->uses;
    uint64_t state = 2;

    for (size_t i = 0, n = b->regions; i < BENCH_USES && n; i++) {
        size_t round = i / n * n, other = round + next_random(&state) % (i - round + 1);

        uses[i] = uses[other];
        uses[other] = b->region[b->pattern->one ? n / 2 : i % n];
    }
    for (int i = 0; i < BENCH_USES && b->pattern->inside; i++)
        uses[i] = part_of(&uses[i], &state);
}

void bench_use(struct bench *b, void *addr, size_t len)
{
    void *region;

    if (driver.get(b->cache, addr, len, &region))
        bench_stop(DRIVER_FAILED, "a get of %zu bytes failed", len);
    driver.put(b->cache, region);
}

void bench_cache_all(struct bench *b)
{
    uint64_t before = pins_pinned(&b->pins), lost = pins_unpinned(&b->pins);

    for (size_t i = 0; i < b->regions; i++)
        bench_use(b, b->region[i].addr, b->region[i].len);
    if (pins_pinned(&b->pins) - before != b->regions || pins_unpinned(&b->pins) != lost)
        bench_stop(DRIVER_FAILED,
                   "%zu regions were to be cached, and %zu pins were made, %zu undone",
                   b->regions, (size_t)(pins_pinned(&b->pins) - before),
                   (size_t)(pins_unpinned(&b->pins) - lost));
}
