/* SPDX-License-Identifier: BSD-3-Clause */
/* threads.c - MPI_THREAD_MULTIPLE: four threads of each rank at once, with
 * communicators of their own, with a shared one, with wildcards, and one-sided.
 */
#include "story.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, LARGEST = 300000 };

struct worker {
    int id;
    pthread_t thread;
    MPI_Comm comm;          /* its own, or one for all */
    int rounds;
    MPI_Win win;
    void (*work)(struct worker *w);
};

static int random_len(uint64_t *state)
{
    static const int top[] = { 16, 300, 5000, 70000, LARGEST };
    int limit = top[draw(state) % 5];

    return (int)(draw(state) % (unsigned)limit);
}

/* Each thread sends around the ring; the tag is the thread. Both ends draw the
 * same length from the same state. */
static void ring(struct worker *w)
{
    int right = (rank + 1) % size, left = (rank + size - 1) % size;
    enum mem mem = w->id % 2 ? MEM_POOL : MEM_MALLOC;
    char *s = mem_get(mem, LARGEST), *r = mem_get(mem, LARGEST);
    uint64_t state = mix((uint64_t)w->id, 77);

    for (int i = 0; i < w->rounds; i++) {
        int len = random_len(&state), n;
        MPI_Status st;
        MPI_Request q[2];

        fill(s, (size_t)len, mix(state, (uint64_t)rank));
        memset(r, 0, (size_t)len);
        if (i % 2) {
            MPI_Irecv(r, LARGEST, MPI_CHAR, left, w->id, w->comm, &q[0]);
            MPI_Isend(s, len, MPI_CHAR, right, w->id, w->comm, &q[1]);
            MPI_Wait(&q[1], MPI_STATUS_IGNORE);
            MPI_Wait(&q[0], &st);
        } else {
            MPI_Sendrecv(s, len, MPI_CHAR, right, w->id, r, LARGEST, MPI_CHAR, left, w->id,
                         w->comm, &st);
        }
        MPI_Get_count(&st, MPI_CHAR, &n);
        expect(n == len, "thread %d round %d: %d bytes, not %d", w->id, i, n, len);
        same(r, (size_t)len, mix(state, (uint64_t)left), "thread %d round %d", w->id, i);
    }
    mem_put(mem, s);
    mem_put(mem, r);
}

/* Every thread sends to the same-numbered thread of all ranks, which takes from
 * any source. The message says who sent it and its number. */
static void wildcard(struct worker *w)
{
    enum { HEAD = 2 * sizeof(int) };
    int *next = calloc((size_t)size, sizeof *next), total = w->rounds * size;
    char *s = malloc((size_t)w->rounds * (HEAD + 5000)), *r = malloc(HEAD + 5000);
    MPI_Request *q = malloc((size_t)total * sizeof *q);

    for (int i = 0; i < total; i++) {
        int round = i / size, head[2] = { rank, round }, len = round * 37 % 5000;
        char *m = s + (size_t)round * (HEAD + 5000);

        memcpy(m, head, HEAD);
        fill(m + HEAD, (size_t)len, mix((uint64_t)rank, (uint64_t)round));
        MPI_Isend(m, HEAD + len, MPI_CHAR, i % size, w->id, w->comm, &q[i]);
    }
    for (int i = 0; i < total; i++) {
        int head[2];
        MPI_Status st;

        MPI_Recv(r, HEAD + 5000, MPI_CHAR, MPI_ANY_SOURCE, w->id, w->comm, &st);
        memcpy(head, r, HEAD);
        expect(head[0] == st.MPI_SOURCE, "thread %d: from %d came a message of %d", w->id,
               st.MPI_SOURCE, head[0]);
        expect(head[1] == next[st.MPI_SOURCE], "thread %d: from %d came number %d, not %d",
               w->id, st.MPI_SOURCE, head[1], next[st.MPI_SOURCE]);
        next[st.MPI_SOURCE] = head[1] + 1;
        same(r + HEAD, (size_t)(head[1] * 37 % 5000),
             mix((uint64_t)head[0], (uint64_t)head[1]), "wildcard, thread %d", w->id);
    }
    MPI_Waitall(total, q, MPI_STATUSES_IGNORE);
    free(q);
    free(s);
    free(r);
    free(next);
}

/* Collectives at the same time in communicators of their own. */
static void collective(struct worker *w)
{
    long v, sum, want = (long)size * (size + 1) / 2;

    for (int i = 0; i < w->rounds; i++) {
        v = (rank + 1) * (i + 1L);
        MPI_Allreduce(&v, &sum, 1, MPI_LONG, MPI_SUM, w->comm);
        expect(sum == want * (i + 1), "thread %d: sum is %ld", w->id, sum);
    }
}

enum { SLOT = 8192, COUNTERS = 64 };

/* A window has COUNTERS longs, then a slot for each thread of each rank. */
static void one_sided(struct worker *w)
{
    long one = 1, old;
    char out[SLOT], in[SLOT];

    for (int i = 0; i < w->rounds; i++) {
        int to = (rank + i) % size;
        int len = 1 + i * 131 % SLOT;
        MPI_Aint at = COUNTERS * 8 + (MPI_Aint)(rank * THREADS + w->id) * SLOT;

        MPI_Fetch_and_op(&one, &old, MPI_LONG, to, 0, MPI_SUM, w->win);
        MPI_Accumulate(&one, 1, MPI_LONG, to, 8, 1, MPI_LONG, MPI_SUM, w->win);
        fill(out, (size_t)len, mix((uint64_t)w->id, (uint64_t)i));
        MPI_Put(out, len, MPI_CHAR, to, at, len, MPI_CHAR, w->win);
        MPI_Win_flush(to, w->win);
        MPI_Get(in, len, MPI_CHAR, to, at, len, MPI_CHAR, w->win);
        MPI_Win_flush(to, w->win);
        same(in, (size_t)len, mix((uint64_t)w->id, (uint64_t)i), "put and get, thread %d",
             w->id);
    }
}

static void *start(void *arg)
{
    struct worker *w = arg;

    w->work(w);
    return NULL;
}

static void run(void (*work)(struct worker *), int rounds, bool own_comm, MPI_Win win)
{
    struct worker w[THREADS] = { 0 };

    for (int i = 0; i < THREADS; i++) {
        w[i] = (struct worker){ .id = i, .comm = MPI_COMM_WORLD, .rounds = rounds,
                                .win = win, .work = work };
        if (own_comm)
            MPI_Comm_dup(MPI_COMM_WORLD, &w[i].comm);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_create(&w[i].thread, NULL, start, &w[i]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(w[i].thread, NULL);
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0; own_comm && i < THREADS; i++)
        MPI_Comm_free(&w[i].comm);
}

static void windows(enum mem mem, int rounds)
{
    size_t bytes = COUNTERS * 8 + (size_t)size * THREADS * SLOT;
    long *base = mem_get(mem, bytes), want = 0;
    MPI_Win win;

    memset(base, 0, bytes);
    for (int i = 0; i < rounds; i++)
        for (int r = 0; r < size; r++)
            want += (r + i) % size == rank ? THREADS : 0;
    MPI_Win_create(base, (MPI_Aint)bytes, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_lock_all(0, win);
    run(one_sided, rounds, false, win);
    MPI_Win_unlock_all(win);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_lock(MPI_LOCK_EXCLUSIVE, rank, 0, win);
    expect(base[0] == want, "fetch_and_op: %ld, not %ld", base[0], want);
    expect(base[1] == want, "accumulate: %ld, not %ld", base[1], want);
    MPI_Win_unlock(rank, win);
    MPI_Win_free(&win);
    mem_put(mem, base);
}

int main(int argc, char **argv)
{
    int rounds;

    story_open(&argc, &argv, MPI_THREAD_MULTIPLE, 100);
    rounds = story_rounds(1600) / size;
    if (story("ring, own communicators"))
        run(ring, rounds, true, MPI_WIN_NULL);
    if (story("ring, one communicator"))
        run(ring, rounds, false, MPI_WIN_NULL);
    if (story("wildcards"))
        run(wildcard, rounds / 2, true, MPI_WIN_NULL);
    if (story("collectives"))
        run(collective, rounds / 2, true, MPI_WIN_NULL);
    if (story("one-sided malloc"))
        windows(MEM_MALLOC, rounds);
    if (story("one-sided MPI_Alloc_mem"))
        windows(MEM_POOL, rounds);
    return story_close();
}
