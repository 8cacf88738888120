/* SPDX-License-Identifier: BSD-3-Clause */
/* win.c - put and get on every kind of window, under every kind of epoch.
 * Accumulates and atomics are in winops.c.
 *
 * A window holds one slot of SLOT bytes for each rank, so that all may write to
 * one target at once.
 */
#include "window.h"

#include <stdlib.h>
#include <string.h>

enum { SLOT = 96 << 10 };

static const int lens[] = { 1, 3, 8, 63, 64, 500, 4096, 4097, 30001, 65536, SLOT - 8 };
enum { LENS = sizeof lens / sizeof lens[0] };

static uint64_t seed_of(int from, int to, int i)
{
    return mix((uint64_t)(from * 100 + to), (uint64_t)i);
}

/* Where rank `from` writes in anybody's window; not aligned to anything when the
 * unit allows. */
static size_t slot(const struct window *w, int from, int i)
{
    return (size_t)from * SLOT + (w->unit == 1 ? (size_t)(i * 3 % 8) : 0);
}

static void put_one(struct window *w, char *out, int to, int i)
{
    fill(out, (size_t)lens[i], seed_of(rank, to, i));
    MPI_Put(out, lens[i], MPI_CHAR, to, window_at(w, to, slot(w, rank, i)), lens[i],
            MPI_CHAR, w->win);
}

static void get_one(struct window *w, char *in, int to, int i)
{
    MPI_Get(in, lens[i], MPI_CHAR, to, window_at(w, to, slot(w, rank, i)), lens[i],
            MPI_CHAR, w->win);
}

static void check_in(const char *in, int to, int i, const char *what)
{
    same(in, (size_t)lens[i], seed_of(rank, to, i), "%s, %d bytes from %d", what, lens[i], to);
}

/* What `from` wrote to us in step i. */
static void check_mine(struct window *w, int from, int i, const char *what)
{
    same(w->base + slot(w, from, i), (size_t)lens[i], seed_of(from, rank, i),
         "%s, %d bytes of %d", what, lens[i], from);
}

static void fence(struct window *w, char *s, char *r)
{
    int to = (rank + 1) % size, from = (rank + size - 1) % size;

    MPI_Win_fence(MPI_MODE_NOPRECEDE, w->win);
    for (int i = 0; i < LENS; i++) {
        put_one(w, s, to, i);
        MPI_Win_fence(0, w->win);
        check_mine(w, from, i, "put");
        get_one(w, r, to, i);
        MPI_Win_fence(i == LENS - 1 ? MPI_MODE_NOSUCCEED : 0, w->win);
        check_in(r, to, i, "get");
    }
}

static void pscw(struct window *w, char *s, char *r)
{
    int to = (rank + 1) % size, from = (rank + size - 1) % size;
    MPI_Group world, origins, targets;

    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_incl(world, 1, &from, &origins);
    MPI_Group_incl(world, 1, &to, &targets);
    for (int i = 0; i < LENS; i++) {
        MPI_Win_post(origins, 0, w->win);
        MPI_Win_start(targets, 0, w->win);
        put_one(w, s, to, i);
        MPI_Win_complete(w->win);
        MPI_Win_wait(w->win);
        check_mine(w, from, i, "put");

        MPI_Win_post(origins, 0, w->win);
        MPI_Win_start(targets, 0, w->win);
        get_one(w, r, to, i);
        MPI_Win_complete(w->win);
        int done = 0;
        while (!done)
            MPI_Win_test(w->win, &done);
        check_in(r, to, i, "get");
    }
    MPI_Group_free(&world);
    MPI_Group_free(&origins);
    MPI_Group_free(&targets);
}

/* One rank after the other locks; also our own window. */
static void lock(struct window *w, char *s, char *r)
{
    for (int k = 0; k < size; k++) {
        int to = (rank + k) % size, how = k % 2 ? MPI_LOCK_SHARED : MPI_LOCK_EXCLUSIVE;

        for (int i = k % 3; i < LENS; i += 3) {
            MPI_Win_lock(how, to, 0, w->win);
            put_one(w, s, to, i);
            MPI_Win_unlock(to, w->win);
            MPI_Win_lock(MPI_LOCK_SHARED, to, 0, w->win);
            get_one(w, r, to, i);
            MPI_Win_unlock(to, w->win);
            check_in(r, to, i, "under a lock");
        }
    }
}

static void lock_all(struct window *w, char *s, char *r)
{
    MPI_Win_lock_all(0, w->win);
    for (int i = 0; i < LENS; i++) {
        for (int k = 0; k < size; k++) {
            int to = (rank + k) % size;

            put_one(w, s, to, i);
            if (k % 2) {
                MPI_Win_flush_local(to, w->win);
                memset(s, 0, (size_t)lens[i]);      /* ours again */
            }
            MPI_Win_flush(to, w->win);
            get_one(w, r, to, i);
            if (k % 2)
                MPI_Win_flush_local(to, w->win);
            else
                MPI_Win_flush_all(w->win);
            check_in(r, to, i, "after a flush");
        }
    }
    MPI_Win_unlock_all(w->win);
    window_settle(w);
    for (int from = 0; from < size; from++)
        check_mine(w, from, LENS - 1, "after unlock_all");
}

static void requests(struct window *w, char *s, char *r)
{
    MPI_Request q;

    MPI_Win_lock_all(0, w->win);
    for (int i = 0; i < LENS; i++) {
        int to = (rank + i) % size;
        MPI_Aint at = window_at(w, to, slot(w, rank, i));

        fill(s, (size_t)lens[i], seed_of(rank, to, i));
        MPI_Rput(s, lens[i], MPI_CHAR, to, at, lens[i], MPI_CHAR, w->win, &q);
        MPI_Wait(&q, MPI_STATUS_IGNORE);
        memset(s, 0, (size_t)lens[i]);
        MPI_Win_flush(to, w->win);
        MPI_Rget(r, lens[i], MPI_CHAR, to, at, lens[i], MPI_CHAR, w->win, &q);
        MPI_Wait(&q, MPI_STATUS_IGNORE);
        check_in(r, to, i, "rput, rget");
    }
    MPI_Win_unlock_all(w->win);
}

/* n ints packed here, every third int there; and a piece of it back into blocks
 * of two with a gap of one. */
static void noncontiguous(struct window *w, char *s, char *r)
{
    enum { N = 4096 };
    int to = (rank + 1) % size, from = (rank + size - 1) % size;
    int *a = (int *)s, *b = (int *)r, *mine = (int *)(w->base + (size_t)from * SLOT), bad = 0;
    MPI_Datatype thirds, twos;

    MPI_Type_vector(N, 1, 3, MPI_INT, &thirds);
    MPI_Type_vector(N / 2, 2, 3, MPI_INT, &twos);
    MPI_Type_commit(&thirds);
    MPI_Type_commit(&twos);
    memset(w->base, 0, w->bytes);
    for (int k = 0; k < N; k++)
        a[k] = rank * N + k;
    memset(b, 0xee, N * 2 * sizeof(int));

    MPI_Win_fence(0, w->win);
    MPI_Put(a, N, MPI_INT, to, window_at(w, to, (size_t)rank * SLOT), 1, thirds, w->win);
    MPI_Win_fence(0, w->win);
    for (int k = 0; k < 3 * N - 2; k++)
        bad += mine[k] != (k % 3 ? 0 : from * N + k / 3);
    expect(bad == 0, "put to a vector: %d of %d ints are wrong", bad, 3 * N);

    MPI_Get(b, 1, twos, to, window_at(w, to, (size_t)rank * SLOT), 1, thirds, w->win);
    MPI_Win_fence(0, w->win);
    bad = 0;
    for (int k = 0; k < N / 2 * 3 - 1; k++)
        bad += b[k] != (k % 3 == 2 ? (int)0xeeeeeeee : rank * N + k / 3 * 2 + k % 3);
    expect(bad == 0, "get from a vector to another: %d ints are wrong", bad);
    MPI_Type_free(&thirds);
    MPI_Type_free(&twos);
}

/* 16 MiB, or as long as asked for, from malloc'ed and pool memory, to a target that waits
 * in a barrier. */
static void large(enum window_kind kind)
{
    int len = story_largest(16 << 20);
    size_t bytes = (size_t)len;
    struct window w;

    window_open(&w, kind, bytes, 1);
    for (int mem = 0; mem < 2; mem++) {
        char *buf = mem_get(mem, bytes);

        for (int turn = 0; turn < size; turn++) {
            if (rank == turn) {
                int to = (rank + 1) % size;
                fill(buf, bytes, mix((uint64_t)turn, (uint64_t)mem));
                MPI_Win_lock(MPI_LOCK_EXCLUSIVE, to, 0, w.win);
                MPI_Put(buf, len, MPI_CHAR, to, window_at(&w, to, 0), len, MPI_CHAR, w.win);
                MPI_Win_unlock(to, w.win);
                memset(buf, 0, bytes);
                MPI_Win_lock(MPI_LOCK_SHARED, to, 0, w.win);
                MPI_Get(buf, len, MPI_CHAR, to, window_at(&w, to, 0), len, MPI_CHAR, w.win);
                MPI_Win_unlock(to, w.win);
                same(buf, bytes, mix((uint64_t)turn, (uint64_t)mem), "get of %d bytes", len);
            }
            MPI_Barrier(MPI_COMM_WORLD);
        }
        window_settle(&w);
        same(w.base, bytes, mix((uint64_t)((rank + size - 1) % size), (uint64_t)mem),
             "put of %d bytes", len);
        MPI_Barrier(MPI_COMM_WORLD);    /* the next round writes over it */
        mem_put(mem, buf);
    }
    window_close(&w);
}

/* The target computes and makes no MPI call for a while. */
static void busy_target(struct window *w, char *s, char *r)
{
    if (rank == 0) {
        for (double end = now() + 0.5; now() < end;)
            ;
    } else {
        for (int i = 0; i < LENS; i++) {
            MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, w->win);
            put_one(w, s, 0, i);
            MPI_Win_flush(0, w->win);
            get_one(w, r, 0, i);
            MPI_Win_unlock(0, w->win);
            check_in(r, 0, i, "target computing");
        }
    }
    window_settle(w);
    for (int from = 1; rank == 0 && from < size; from++)
        check_mine(w, from, LENS - 1, "target computing");
}

static const struct {
    const char *name;
    void (*run)(struct window *w, char *s, char *r);
} stories[] = {
    { "fence", fence }, { "pscw", pscw }, { "lock", lock }, { "lockall", lock_all },
    { "requests", requests }, { "noncontiguous", noncontiguous }, { "busy", busy_target },
};

static void all_stories(enum window_kind kind, int unit, enum mem mem)
{
    char *s = mem_get(mem, SLOT), *r = mem_get(mem, SLOT);

    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        struct window w;

        if (!story("%s %s, unit %d, origin %s", stories[i].name, window_name(kind), unit,
                   mem_name(mem)))
            continue;
        window_open(&w, kind, (size_t)size * SLOT, unit);
        stories[i].run(&w, s, r);
        window_close(&w);
    }
    mem_put(mem, s);
    mem_put(mem, r);
}

static int class_of(int rc)
{
    int class = MPI_SUCCESS;

    MPI_Error_class(rc, &class);
    return class;
}

/* Bytes are attached once, and detached by where they begin. */
static void attached_once(void)
{
    char *memory = malloc(3 * 4096);
    MPI_Win win;

    MPI_Win_create_dynamic(MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
    expect(MPI_Win_attach(win, memory + 4096, 4096) == MPI_SUCCESS, "attaching");
    expect(class_of(MPI_Win_attach(win, memory + 5000, 8)) == MPI_ERR_RMA_ATTACH,
           "attaching what is attached");
    expect(MPI_Win_attach(win, memory, 4096) == MPI_SUCCESS, "attaching its neighbour");
    expect(MPI_Win_detach(win, memory + 5000) != MPI_SUCCESS, "detaching from its middle");
    expect(MPI_Win_detach(win, memory + 4096) == MPI_SUCCESS, "detaching");
    expect(MPI_Win_detach(win, memory + 4096) != MPI_SUCCESS, "detaching once more");
    expect(MPI_Win_attach(win, memory + 4096, 8) == MPI_SUCCESS, "attaching it again");
    expect(MPI_Win_attach(win, memory + 8192, 0) == MPI_SUCCESS, "attaching nothing");
    expect(MPI_Win_detach(win, memory + 8192) == MPI_SUCCESS, "detaching nothing");
    MPI_Win_detach(win, memory);
    MPI_Win_detach(win, memory + 4096);
    MPI_Win_free(&win);
    free(memory);
}

int main(int argc, char **argv)
{
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 100);
    for (enum window_kind k = 0; k < WINDOW_KINDS; k++) {
        if (!window_possible(k))
            continue;
        all_stories(k, 1, MEM_MALLOC);
        all_stories(k, 8, MEM_POOL);
        if (story("large %s", window_name(k)))
            large(k);
    }
    if (story("what cannot be attached"))
        attached_once();
    return story_close();
}
