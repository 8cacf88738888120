/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_check.c - is what arrives what was sent?
 *
 * Every message carries a pattern of its own, made from the iteration, the
 * sender and its place in the window: data that is late, swapped, or left from
 * the iteration before is wrong data. The receiver's memory is filled with
 * something else first, PW_GUARD bytes behind the message included.
 *
 * Not timed: the tests in pwbench_tests.c send the same bytes over and over.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "pwbench_tests.h"

enum {
    TAG_CHECK = 3, TAG_TURN = 4,
    ROUNDS_SMALL = 50, ROUNDS_LARGE = 10, LARGE = 64 * 1024,
    SLOT_BYTES = 32 * 1024 * 1024,  /* memory that the windows may take */
    ATOMICS = 16,                   /* in a round */
};

int pw_check_slots(const struct pw_single_options *o, size_t size)
{
    size_t fit = SLOT_BYTES / (size + 1);

    if (!pw_test_info[o->test].windowed)
        return 1;
    if (fit < 2)
        fit = 2;
    return (size_t)o->window < fit ? o->window : (int)fit;
}

size_t pw_check_stride(size_t size)
{
    return (size + PW_GUARD + 63) / 64 * 64;
}

void pw_bench_wrong(struct pw_bench *b, size_t size, const struct pw_place *p,
                    const struct pw_wrong *wrong)
{
    if (b->wrong)
        return;
    b->wrong = true;
    fprintf(stderr,
            "pwbench: wrong data: %s, %zu bytes, rank %d, round %d, message %d: "
            "byte %zu is 0x%02x, not 0x%02x%s\n",
            pw_test_info[b->o->test].name, size, b->rank, p->round, p->slot, wrong->at,
            wrong->is, wrong->wanted,
            wrong->at < size ? "" : ", behind the end of the message");
}

static void verify(struct pw_bench *b, const char *mem, size_t size,
                   const struct pw_place *p)
{
    struct pw_wrong wrong;

    if (!pw_pattern_verify(mem, size, p, &wrong) || !pw_guard_verify(mem, size, &wrong))
        pw_bench_wrong(b, size, p, &wrong);
}

static void verify_number(struct pw_bench *b, const void *mem, int64_t wanted,
                          const struct pw_place *p)
{
    unsigned char is[8], should[8];

    memcpy(is, mem, 8);
    memcpy(should, &wanted, 8);
    for (size_t at = 0; at < 8; at++) {
        if (is[at] != should[at]) {
            struct pw_wrong wrong = { at, is[at], should[at] };

            pw_bench_wrong(b, 8, p, &wrong);
            return;
        }
    }
}

/* ---- one round of each test ---- */

static void turn_give(struct pw_bench *b)
{
    MPI_Send(NULL, 0, MPI_CHAR, b->other, TAG_TURN, MPI_COMM_WORLD);
}

static void turn_await(struct pw_bench *b)
{
    MPI_Recv(NULL, 0, MPI_CHAR, b->other, TAG_TURN, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static void check_latency(struct pw_bench *b, size_t size, int round)
{
    struct pw_place mine = { round, b->rank, 0 }, theirs = { round, b->other, 0 };

    pw_pattern_fill(b->send, size, &mine);
    pw_poison(b->recv, size);
    if (b->side == 0)
        MPI_Send(b->send, (int)size, MPI_CHAR, b->other, TAG_CHECK, MPI_COMM_WORLD);
    MPI_Recv(b->recv, (int)size, MPI_CHAR, b->other, TAG_CHECK, MPI_COMM_WORLD,
             MPI_STATUS_IGNORE);
    if (b->side == 1)
        MPI_Send(b->send, (int)size, MPI_CHAR, b->other, TAG_CHECK, MPI_COMM_WORLD);
    verify(b, b->recv, size, &theirs);
}

/* bw, bibw and rate. A window of distinct messages from each rank that sends. */
static void check_window(struct pw_bench *b, size_t size, int round)
{
    int slots = pw_check_slots(b->o, size), n = 0;
    size_t stride = pw_check_stride(size);
    bool both = b->o->test == PW_BIBW;
    bool sends = both || b->side == 0, receives = both || b->side == 1;

    for (int s = 0; receives && s < slots; s++) {
        char *mem = b->recv + (size_t)s * stride;

        pw_poison(mem, size);
        MPI_Irecv(mem, (int)size, MPI_CHAR, b->other, TAG_CHECK, MPI_COMM_WORLD,
                  &b->request[n++]);
    }
    for (int s = 0; sends && s < slots; s++) {
        struct pw_place mine = { round, b->rank, s };
        char *mem = b->send + (size_t)s * stride;

        pw_pattern_fill(mem, size, &mine);
        MPI_Isend(mem, (int)size, MPI_CHAR, b->other, TAG_CHECK, MPI_COMM_WORLD,
                  &b->request[n++]);
    }
    MPI_Waitall(n, b->request, MPI_STATUSES_IGNORE);
    for (int s = 0; receives && s < slots; s++) {
        struct pw_place theirs = { round, b->other, s };

        verify(b, b->recv + (size_t)s * stride, size, &theirs);
    }
}

static void check_put(struct pw_bench *b, size_t size, int round)
{
    struct pw_place p = { round, 0, 0 };

    if (b->rank == 0) {
        pw_pattern_fill(b->send, size, &p);
        turn_await(b);
        MPI_Put(b->send, (int)size, MPI_CHAR, 1, b->win_at, (int)size, MPI_CHAR, b->win);
        MPI_Win_flush(1, b->win);
        turn_give(b);
    } else {
        pw_poison(b->win_mem, size);
        MPI_Win_sync(b->win);
        turn_give(b);
        turn_await(b);
        MPI_Win_sync(b->win);
        verify(b, b->win_mem, size, &p);
    }
}

static void check_get(struct pw_bench *b, size_t size, int round)
{
    struct pw_place p = { round, 1, 0 };

    if (b->rank == 0) {
        pw_poison(b->recv, size);
        turn_await(b);
        MPI_Get(b->recv, (int)size, MPI_CHAR, 1, b->win_at, (int)size, MPI_CHAR, b->win);
        MPI_Win_flush(1, b->win);
        verify(b, b->recv, size, &p);
        turn_give(b);
    } else {
        pw_pattern_fill(b->win_mem, size, &p);
        MPI_Win_sync(b->win);
        turn_give(b);
        turn_await(b);
    }
}

/* Both directions at once, and work before the wait. */
static void check_overlap(struct pw_bench *b, size_t size, int round)
{
    struct pw_place mine = { round, b->rank, 0 }, theirs = { round, b->other, 0 };
    MPI_Request request[2];

    pw_pattern_fill(b->send, size, &mine);
    pw_poison(b->recv, size);
    MPI_Irecv(b->recv, (int)size, MPI_CHAR, b->other, TAG_CHECK, MPI_COMM_WORLD,
              &request[0]);
    MPI_Isend(b->send, (int)size, MPI_CHAR, b->other, TAG_CHECK, MPI_COMM_WORLD,
              &request[1]);
    pw_compute(1000);
    MPI_Waitall(2, request, MPI_STATUSES_IGNORE);
    verify(b, b->recv, size, &theirs);
}

/* A number that is different in each round, message and byte. */
static int64_t number_at(int round, int slot)
{
    struct pw_place p = { round, 0, slot };
    int64_t number;

    pw_pattern_fill((char *)&number, sizeof number, &p);
    return number;
}

/* Wraps around, as the operation does. */
static int64_t add(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

/* Rank 1 sets a number, rank 0 works on it, rank 1 looks at what became of it. */
static void check_atomic(struct pw_bench *b, int round,
                         int64_t (*work)(struct pw_bench *, int, int64_t))
{
    struct pw_place end = { round, 0, ATOMICS };
    struct pw_wrong wrong;
    int64_t value = number_at(round, ATOMICS + 1);

    if (b->rank == 0) {
        turn_await(b);
        value = work(b, round, value);
        MPI_Send(&value, 1, MPI_INT64_T, 1, TAG_CHECK, MPI_COMM_WORLD);
        turn_await(b);
    } else {
        pw_poison(b->win_mem, 8);
        memcpy(b->win_mem, &value, 8);
        MPI_Win_sync(b->win);
        turn_give(b);
        MPI_Recv(&value, 1, MPI_INT64_T, 0, TAG_CHECK, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Win_sync(b->win);
        verify_number(b, b->win_mem, value, &end);
        if (!pw_guard_verify(b->win_mem, 8, &wrong))
            pw_bench_wrong(b, 8, &end, &wrong);
        turn_give(b);
    }
}

static int64_t work_fadd(struct pw_bench *b, int round, int64_t value)
{
    for (int i = 0; i < ATOMICS; i++) {
        int64_t amount = number_at(round, i);
        struct pw_place p = { round, 0, i };

        memcpy(b->send, &amount, 8);
        pw_poison(b->recv, 8);
        MPI_Fetch_and_op(b->send, b->recv, MPI_INT64_T, 1, b->win_at, MPI_SUM, b->win);
        MPI_Win_flush(1, b->win);
        verify_number(b, b->recv, value, &p);
        value = add(value, amount);
    }
    return value;
}

/* Every other one expects what is not there, and must leave it. */
static int64_t work_cas(struct pw_bench *b, int round, int64_t value)
{
    for (int i = 0; i < ATOMICS; i++) {
        int64_t expected = i % 2 ? add(value, 1 + i) : value, next = number_at(round, i);
        struct pw_place p = { round, 0, i };

        memcpy(b->send, &next, 8);
        pw_poison(b->recv, 8);
        MPI_Compare_and_swap(b->send, &expected, b->recv, MPI_INT64_T, 1, b->win_at,
                             b->win);
        MPI_Win_flush(1, b->win);
        verify_number(b, b->recv, value, &p);
        if (expected == value)
            value = next;
    }
    return value;
}

static void check_fadd(struct pw_bench *b, size_t size, int round)
{
    (void)size;
    check_atomic(b, round, work_fadd);
}

static void check_cas(struct pw_bench *b, size_t size, int round)
{
    (void)size;
    check_atomic(b, round, work_cas);
}

void pw_bench_check(struct pw_bench *b, size_t size)
{
    static void (*const check[PW_TESTS])(struct pw_bench *, size_t, int) = {
        [PW_LATENCY] = check_latency,
        [PW_BW] = check_window,
        [PW_BIBW] = check_window,
        [PW_RATE] = check_window,
        [PW_OVERLAP] = check_overlap,
        [PW_PUT] = check_put,
        [PW_GET] = check_get,
        [PW_FADD] = check_fadd,
        [PW_CAS] = check_cas,
        [PW_ALLTOALL] = pw_alltoall_check,
        [PW_ALLREDUCE] = pw_allreduce_check,
        [PW_BARRIER] = pw_barrier_check,
    };
    int rounds = size < LARGE ? ROUNDS_SMALL : ROUNDS_LARGE;

    for (int round = 0; round < rounds; round++)
        check[b->o->test](b, size, round);
}
