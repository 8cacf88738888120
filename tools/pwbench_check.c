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
    POISON = 0xa5,
};

int pw_check_slots(const struct pw_single_options *o, size_t size)
{
    size_t fit = SLOT_BYTES / (size + 1);

    if (o->test != PW_BW && o->test != PW_BIBW)
        return 1;
    if (fit < 2)
        fit = 2;
    return (size_t)o->window < fit ? o->window : (int)fit;
}

size_t pw_check_stride(size_t size)
{
    return (size + PW_GUARD + 63) / 64 * 64;
}

/* ---- patterns ---- */

struct place {
    int round, sender, slot;
};

/* Word i of a message: a multiplicative hash, different in all bytes for
 * neighbours in any of the four numbers. */
static uint64_t word_at(const struct place *p, size_t i)
{
    uint64_t x = i + 1;

    x = x * 0x9e3779b97f4a7c15u + (uint64_t)p->round;
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9u + (uint64_t)p->slot;
    x = (x ^ x >> 32) * 0x94d049bb133111ebu + (uint64_t)p->sender;
    return x ^ x >> 31;
}

static void pattern_fill(char *mem, size_t size, const struct place *p)
{
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = word_at(p, at / 8);
        memcpy(mem + at, &word, size - at < 8 ? size - at : 8);
    }
}

static unsigned char pattern_byte(const struct place *p, size_t at)
{
    unsigned char bytes[8];
    uint64_t word = word_at(p, at / 8);

    memcpy(bytes, &word, 8);
    return bytes[at % 8];
}

static void poison(char *mem, size_t size)
{
    memset(mem, POISON, size + PW_GUARD);
}

static void tell(struct pw_bench *b, size_t size, const struct place *p, size_t at,
                 unsigned char is, unsigned char wanted)
{
    if (b->wrong)
        return;
    b->wrong = true;
    fprintf(stderr,
            "pwbench: wrong data: %s, %zu bytes, rank %d, round %d, message %d: "
            "byte %zu is 0x%02x, not 0x%02x%s\n",
            pw_test_info[b->o->test].name, size, b->rank, p->round, p->slot, at, is,
            wanted, at < size ? "" : ", behind the end of the message");
}

static void pattern_verify(struct pw_bench *b, const char *mem, size_t size,
                           const struct place *p)
{
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = word_at(p, at / 8);

        if (!memcmp(mem + at, &word, size - at < 8 ? size - at : 8))
            continue;
        while (at < size && (unsigned char)mem[at] == pattern_byte(p, at))
            at++;
        tell(b, size, p, at, (unsigned char)mem[at], pattern_byte(p, at));
        return;
    }
    for (size_t at = size; at < size + PW_GUARD; at++) {
        if ((unsigned char)mem[at] != POISON) {
            tell(b, size, p, at, (unsigned char)mem[at], POISON);
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
    struct place mine = { round, b->rank, 0 }, theirs = { round, b->other, 0 };

    pattern_fill(b->send, size, &mine);
    poison(b->recv, size);
    if (b->rank == 0)
        MPI_Send(b->send, (int)size, MPI_CHAR, 1, TAG_CHECK, MPI_COMM_WORLD);
    MPI_Recv(b->recv, (int)size, MPI_CHAR, b->other, TAG_CHECK, MPI_COMM_WORLD,
             MPI_STATUS_IGNORE);
    if (b->rank == 1)
        MPI_Send(b->send, (int)size, MPI_CHAR, 0, TAG_CHECK, MPI_COMM_WORLD);
    pattern_verify(b, b->recv, size, &theirs);
}

/* bw and bibw. A window of distinct messages from each rank that sends. */
static void check_window(struct pw_bench *b, size_t size, int round)
{
    int slots = pw_check_slots(b->o, size), n = 0;
    size_t stride = pw_check_stride(size);
    bool both = b->o->test == PW_BIBW;
    bool sends = both || b->rank == 0, receives = both || b->rank == 1;

    for (int s = 0; receives && s < slots; s++) {
        char *mem = b->recv + (size_t)s * stride;

        poison(mem, size);
        MPI_Irecv(mem, (int)size, MPI_CHAR, b->other, TAG_CHECK, MPI_COMM_WORLD,
                  &b->request[n++]);
    }
    for (int s = 0; sends && s < slots; s++) {
        struct place mine = { round, b->rank, s };
        char *mem = b->send + (size_t)s * stride;

        pattern_fill(mem, size, &mine);
        MPI_Isend(mem, (int)size, MPI_CHAR, b->other, TAG_CHECK, MPI_COMM_WORLD,
                  &b->request[n++]);
    }
    MPI_Waitall(n, b->request, MPI_STATUSES_IGNORE);
    for (int s = 0; receives && s < slots; s++) {
        struct place theirs = { round, b->other, s };

        pattern_verify(b, b->recv + (size_t)s * stride, size, &theirs);
    }
}

static void check_put(struct pw_bench *b, size_t size, int round)
{
    struct place p = { round, 0, 0 };

    if (b->rank == 0) {
        pattern_fill(b->send, size, &p);
        turn_await(b);
        MPI_Put(b->send, (int)size, MPI_CHAR, 1, b->win_at, (int)size, MPI_CHAR, b->win);
        MPI_Win_flush(1, b->win);
        turn_give(b);
    } else {
        poison(b->win_mem, size);
        MPI_Win_sync(b->win);
        turn_give(b);
        turn_await(b);
        MPI_Win_sync(b->win);
        pattern_verify(b, b->win_mem, size, &p);
    }
}

static void check_get(struct pw_bench *b, size_t size, int round)
{
    struct place p = { round, 1, 0 };

    if (b->rank == 0) {
        poison(b->recv, size);
        turn_await(b);
        MPI_Get(b->recv, (int)size, MPI_CHAR, 1, b->win_at, (int)size, MPI_CHAR, b->win);
        MPI_Win_flush(1, b->win);
        pattern_verify(b, b->recv, size, &p);
        turn_give(b);
    } else {
        pattern_fill(b->win_mem, size, &p);
        MPI_Win_sync(b->win);
        turn_give(b);
        turn_await(b);
    }
}

void pw_bench_check(struct pw_bench *b, size_t size)
{
    static void (*const check[PW_TESTS])(struct pw_bench *, size_t, int) = {
        [PW_LATENCY] = check_latency,
        [PW_BW] = check_window,
        [PW_BIBW] = check_window,
        [PW_PUT] = check_put,
        [PW_GET] = check_get,
    };
    int rounds = size < LARGE ? ROUNDS_SMALL : ROUNDS_LARGE;

    for (int round = 0; round < rounds; round++)
        check[b->o->test](b, size, round);
}
