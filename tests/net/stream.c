/* SPDX-License-Identifier: BSD-3-Clause */
/* stream.c - a job that would notice: messages both ways, puts, gets and atomics, each of
 * them numbered and checked, for so many seconds, whatever becomes of the network.
 *
 *     mpirun ... stream [SECONDS [KIND...]]       KIND: messages puts atomics; all
 *
 * Work goes in rounds. In each, every rank has with every other one
 *     messages  of four sizes both ways at once; bytes depend on sender, receiver, size
 *               and round, so what is lost, doubled or late does not match
 *     puts      into a place of its own in the other's window, read back by get; the
 *               owner finds the bytes of the last round
 *     atomics   fetch_and_add on a counter of the other; what each gets back grows, and
 *               the sum in the end is what was added: once each
 * Rank 0 decides which round is the last and says so in the first message of it. It
 * prints "moving" after the first round, and in the end how long the longest round took
 * and what pinwheel counted, the most of any rank. Where PW_STREAM_WHILE names a file, it
 * goes on while there is that file, too.
 */
#include "../mpi/counters.h"
#include "../mpi/story.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIZES = 4, PLACE = 64 * 1024, ADDS = 4 };

static const size_t sizes[SIZES] = { 64, 4096, 65536, 1 << 20 };
static bool messages = true, puts_too = true, atomics = true;

static char *out[SIZES], **in;      /* in[peer * SIZES + size] */
static char *place, *back;          /* our window: a place for each rank */
static uint64_t *added, *before;    /* our counters; what each other's held last */
static MPI_Win places, counters;
static int kinds;                   /* of sizes[] */
static uint64_t rounds, bytes;

static uint64_t seed(int from, int to, int size_no, uint64_t round)
{
    return mix(mix((uint64_t)from << 20 | (uint64_t)to << 4 | (uint64_t)size_no, round), 77);
}

static void *must(size_t len)
{
    void *p = calloc(1, len);

    if (!p)
        MPI_Abort(MPI_COMM_WORLD, 1);
    return p;
}

static void make_buffers(void)
{
    size_t n = (size_t)size;

    for (int s = 0; s < SIZES; s++)
        out[s] = must(n * sizes[s]);
    in = must(n * SIZES * sizeof *in);
    for (size_t i = 0; i < n * SIZES; i++)
        in[i] = must(sizes[i % SIZES]);
    back = must(PLACE);
    before = must(n * sizeof *before);
    if (puts_too)
        MPI_Win_allocate((MPI_Aint)n * PLACE, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &place,
                         &places);
    if (atomics) {
        MPI_Win_allocate(sizeof *added, sizeof *added, MPI_INFO_NULL, MPI_COMM_WORLD, &added,
                         &counters);
        *added = 0;
        MPI_Win_lock_all(0, counters);
    }
    if (puts_too)
        MPI_Win_lock_all(0, places);
    MPI_Barrier(MPI_COMM_WORLD);
}

/* The first eight bytes of the smallest one say whether this round is the last. */
static bool exchange(uint64_t round, bool last)
{
    MPI_Request r[2 * SIZES * 64];
    int n = 0;

    for (int p = 0; p < size; p++)
        for (int s = 0; p != rank && s < kinds; s++)
            MPI_Irecv(in[p * SIZES + s], (int)sizes[s], MPI_BYTE, p, s, MPI_COMM_WORLD,
                      &r[n++]);
    for (int p = 0; p < size; p++) {
        for (int s = 0; p != rank && s < kinds; s++) {
            char *buf = out[s] + (size_t)p * sizes[s];

            fill(buf, sizes[s], seed(rank, p, s, round));
            if (s == 0)
                memcpy(buf, &(uint64_t){ last }, 8);
            MPI_Isend(buf, (int)sizes[s], MPI_BYTE, p, s, MPI_COMM_WORLD, &r[n++]);
            bytes += sizes[s];
        }
    }
    MPI_Waitall(n, r, MPI_STATUSES_IGNORE);
    for (int p = 0; p < size; p++) {
        for (int s = 0; p != rank && s < kinds; s++) {
            char *want = out[s] + (size_t)p * sizes[s], *got = in[p * SIZES + s];
            uint64_t said;

            memcpy(&said, got, 8);
            fill(want, sizes[s], seed(p, rank, s, round));
            if (s == 0)
                memcpy(want, &said, 8);
            if (p == 0 && s == 0)
                last = said == 1;
            expect(!memcmp(got, want, sizes[s]), "round %llu: %zu bytes of rank %d are wrong",
                   (unsigned long long)round, sizes[s], p);
        }
    }
    return last;
}

static void put_and_get(uint64_t round)
{
    for (int p = 0; p < size; p++) {
        char *from = out[2];

        if (p == rank)
            continue;
        fill(from, PLACE, seed(rank, p, SIZES, round));
        MPI_Put(from, PLACE, MPI_BYTE, p, (MPI_Aint)rank * PLACE, PLACE, MPI_BYTE, places);
        MPI_Win_flush(p, places);
        memset(back, 0, PLACE);
        MPI_Get(back, PLACE, MPI_BYTE, p, (MPI_Aint)rank * PLACE, PLACE, MPI_BYTE, places);
        MPI_Win_flush(p, places);
        expect(!memcmp(back, from, PLACE), "round %llu: what was put at rank %d is not there",
               (unsigned long long)round, p);
        bytes += 2 * PLACE;
    }
}

static void add(void)
{
    for (int p = 0; p < size; p++) {
        for (int i = 0; p != rank && i < ADDS; i++) {
            uint64_t one = 1, was = 0;

            MPI_Fetch_and_op(&one, &was, MPI_UINT64_T, p, 0, MPI_SUM, counters);
            MPI_Win_flush(p, counters);
            expect(was + 1 > before[p], "an addition at rank %d found %llu after %llu", p,
                   (unsigned long long)was, (unsigned long long)before[p]);
            before[p] = was + 1;
        }
    }
}

/* After the last round of all: nothing is missing and nothing is there twice. */
static void settle(void)
{
    if (puts_too)
        MPI_Win_unlock_all(places);
    if (atomics)
        MPI_Win_unlock_all(counters);
    MPI_Barrier(MPI_COMM_WORLD);
    if (atomics)
        expect(*added == rounds * ADDS * (uint64_t)(size - 1),
               "%llu additions came, %llu were made", (unsigned long long)*added,
               (unsigned long long)(rounds * ADDS * (uint64_t)(size - 1)));
    for (int p = 0; puts_too && p < size; p++) {
        if (p == rank)
            continue;
        same(place + (size_t)p * PLACE, PLACE, seed(p, rank, SIZES, rounds - 1),
             "the last put of rank %d", p);
    }
    if (puts_too)
        MPI_Win_free(&places);
    if (atomics)
        MPI_Win_free(&counters);
}

/* What pinwheel counts; other transports do not. They count from the first look on. */
static const char *const told[] = { "reconnects", "strangers", "striped", "striped_again",
                                    "rail0_bytes", "rail1_bytes", "doubted" };
enum { TOLD = sizeof told / sizeof *told };

static void look(unsigned long long now[TOLD])
{
    for (int i = 0; i < TOLD; i++) {
        char name[64];

        snprintf(name, sizeof name, "btl_pinwheel_%s", told[i]);
        now[i] = counters_named(name) ? counter(name) : 0;
    }
}

static void tell(double took, double longest)
{
    unsigned long long mine[TOLD], most[TOLD] = { 0 };

    look(mine);
    MPI_Reduce(mine, most, TOLD, MPI_UNSIGNED_LONG_LONG, MPI_MAX, 0, MPI_COMM_WORLD);
    if (rank != 0)
        return;
    printf("rounds %llu, MB %.1f, seconds %.2f, longest round %.2f\n",
           (unsigned long long)rounds, (double)bytes / 1e6, took, longest);
    printf("reconnects %llu, strangers %llu\n", most[0], most[1]);
    printf("doubted %llu\n", most[6]);
    printf("striped %llu, again %llu, by rails %llu %llu\n", most[2], most[3], most[4],
           most[5]);
}

static void choose(int argc, char **argv)
{
    if (argc <= 2)
        return;
    messages = puts_too = atomics = false;
    for (int i = 2; i < argc; i++) {
        messages = messages || !strcmp(argv[i], "messages");
        puts_too = puts_too || !strcmp(argv[i], "puts");
        atomics = atomics || !strcmp(argv[i], "atomics");
    }
}

static bool enough(double took, double seconds)
{
    const char *file = getenv("PW_STREAM_WHILE");

    return took >= seconds && (!file || access(file, F_OK));
}

int main(int argc, char **argv)
{
    double begin, longest = 0, seconds;
    unsigned long long first[TOLD];
    bool last = false;

    story_open(&argc, &argv, MPI_THREAD_SINGLE, 280);
    if (size < 2 || size > 64)
        story_skip("2 to 64 ranks are wanted");
    seconds = argc > 1 ? atof(argv[1]) : 2;
    choose(argc, argv);
    kinds = messages ? SIZES : 1;
    make_buffers();
    look(first);
    begin = now();
    while (!last) {
        double t = now();

        last = exchange(rounds, rank == 0 && enough(t - begin, seconds));
        if (puts_too)
            put_and_get(rounds);
        if (atomics)
            add();
        rounds++;
        t = now() - t;
        longest = t > longest ? t : longest;
        if (rank == 0 && rounds == 1) {
            printf("moving\n");
            fflush(stdout);
        }
    }
    settle();
    tell(now() - begin, longest);
    return story_close();
}
