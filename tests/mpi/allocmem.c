/* SPDX-License-Identifier: BSD-3-Clause */
/* allocmem.c - what MPI_Alloc_mem gives: aligned to the page, all of it usable,
 * apart from all else, returned by MPI_Free_mem and used again; and when a pool
 * has no more, other memory, aligned all the same.
 */
#include "story.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECES = 200 };

static void alignment(void)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    for (size_t len = 1; len <= (size_t)64 << 20; len = len * 3 + 1) {
        char *p = mem_get(MEM_POOL, len);
        expect((uintptr_t)p % page == 0, "%zu bytes at %p: not at the start of a page", len,
               (void *)p);
        mem_put(MEM_POOL, p);
    }
}

static void sizes(void)
{
    static const size_t odd[] = { 1, 3, 4095, 4097, 100000, (2 << 20) + 1 };
    size_t top = size > 2 ? (size_t)64 << 20 : (size_t)512 << 20;

    for (size_t len = 1; len <= top; len *= 4) {
        char *p = mem_get(MEM_POOL, len);
        fill(p, len, len);
        same(p, len, len, "%zu bytes", len);
        mem_put(MEM_POOL, p);
    }
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        char *p = mem_get(MEM_POOL, odd[i]);
        fill(p, odd[i], i);
        same(p, odd[i], i, "%zu bytes", odd[i]);
        mem_put(MEM_POOL, p);
    }
}

/* Many at once, given back in another order and taken anew: none may share a
 * byte with another. */
static void apart(void)
{
    char *p[PIECES];
    size_t len[PIECES];
    uint64_t state = 1;

    for (int i = 0; i < PIECES; i++) {
        len[i] = 1 + draw(&state) % (i % 10 ? 9000 : 1000000);
        p[i] = mem_get(MEM_POOL, len[i]);
        fill(p[i], len[i], (uint64_t)i);
    }
    for (int k = 0; k < 3 * PIECES; k++) {
        int i = (int)(draw(&state) % PIECES);
        same(p[i], len[i], (uint64_t)i, "piece %d", i);
        mem_put(MEM_POOL, p[i]);
        len[i] = 1 + draw(&state) % (k % 10 ? 9000 : 1000000);
        p[i] = mem_get(MEM_POOL, len[i]);
        fill(p[i], len[i], (uint64_t)i);
    }
    for (int i = 0; i < PIECES; i++) {
        same(p[i], len[i], (uint64_t)i, "piece %d", i);
        mem_put(MEM_POOL, p[i]);
    }
}

/* A thousand times the same does not take more than once. */
static void reuse(void)
{
    enum { LEN = 3 << 20, TIMES = 1000 };
    long before;
    char *p;

    for (int i = 0; i < 5; i++) {
        p = mem_get(MEM_POOL, LEN);
        memset(p, i, LEN);
        mem_put(MEM_POOL, p);
    }
    before = status_kib("VmRSS");
    for (int i = 0; i < TIMES; i++) {
        p = mem_get(MEM_POOL, LEN);
        p[0] = p[LEN - 1] = (char)i;
        p[LEN / 2] = 1;
        mem_put(MEM_POOL, p);
    }
    long more = status_kib("VmRSS") - before;
    expect(more < 4 * LEN / 1024, "%d times %d bytes took %ld KiB more", TIMES, LEN, more);
}

/* More than a small pool holds. All of it is sent, from all pieces at once. */
static void plenty(void)
{
    enum { LEN = 3 << 20, MANY = 24 };
    int right = (rank + 1) % size, left = (rank + size - 1) % size;
    char *s[MANY], *r[MANY];
    MPI_Request q[2 * MANY];

    for (int i = 0; i < MANY; i++) {
        s[i] = mem_get(MEM_POOL, LEN);
        r[i] = mem_get(MEM_POOL, LEN);
        fill(s[i], LEN, mix((uint64_t)rank, (uint64_t)i));
        memset(r[i], 0, LEN);
    }
    for (int i = 0; i < MANY; i++) {
        MPI_Irecv(r[i], LEN, MPI_CHAR, left, i, MPI_COMM_WORLD, &q[i]);
        MPI_Isend(s[i], LEN, MPI_CHAR, right, i, MPI_COMM_WORLD, &q[MANY + i]);
    }
    MPI_Waitall(2 * MANY, q, MPI_STATUSES_IGNORE);
    for (int i = 0; i < MANY; i++) {
        same(r[i], LEN, mix((uint64_t)left, (uint64_t)i), "piece %d", i);
        same(s[i], LEN, mix((uint64_t)rank, (uint64_t)i), "piece %d, after it was sent", i);
        mem_put(MEM_POOL, s[i]);
        mem_put(MEM_POOL, r[i]);
    }
}

/* Given back while a neighbour's pieces are windows, and taken again. */
static void windows(void)
{
    enum { LEN = 1 << 20 };
    int to = (rank + 1) % size;

    for (int i = 0; i < 10; i++) {
        MPI_Win win;
        char *base = mem_get(MEM_POOL, LEN), *s = mem_get(MEM_POOL, LEN);

        memset(base, 0, LEN);
        fill(s, LEN, mix((uint64_t)rank, (uint64_t)i));
        MPI_Win_create(base, LEN, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
        MPI_Win_fence(0, win);
        MPI_Put(s, LEN, MPI_CHAR, to, 0, LEN, MPI_CHAR, win);
        MPI_Win_fence(0, win);
        same(base, LEN, mix((uint64_t)((rank + size - 1) % size), (uint64_t)i), "window %d", i);
        MPI_Win_free(&win);
        mem_put(MEM_POOL, s);
        mem_put(MEM_POOL, base);
    }
}

static const struct { const char *name; void (*run)(void); } stories[] = {
    { "alignment", alignment }, { "sizes", sizes }, { "apart", apart }, { "reuse", reuse },
    { "plenty", plenty }, { "windows", windows },
};

int main(int argc, char **argv)
{
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 60);
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++)
        if (story("%s", stories[i].name))
            stories[i].run();
    return story_close();
}
