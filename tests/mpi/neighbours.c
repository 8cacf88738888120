/* SPDX-License-Identifier: BSD-3-Clause */
/* neighbours.c - messages that lie side by side, at odd addresses.
 *
 * Many short and long messages of one array, each beginning where the last one ends,
 * so that neighbours share a cache line and a page; all are sent and received at once,
 * in both directions, from and into the same two arrays. Who copies a line or a page
 * more than the message, or pins and unpins what a neighbour still uses, spoils another.
 */
#include "story.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Around the sizes at which a transport changes its ways, and Open MPI does. */
static const int around[] = {
    1, 8, 56, 64, 120, 256, 2048, 4096, 8192, 16384, 32704, 65536, 131072, 524288,
};
static const int beside[] = { -57, -9, -1, 0, 1, 7, 63 };
enum { AROUND = sizeof around / sizeof *around, BESIDE = sizeof beside / sizeof *beside,
       MESSAGES = AROUND * BESIDE, EDGE = 4096, GUARD = 0x5a };

static int length_of(int i)
{
    int len = around[i / BESIDE] + beside[i % BESIDE];

    return len > 0 ? len : 0;
}

/* All in an order that puts long and short ones side by side. */
static int nth(int i)
{
    return (int)((unsigned)i * 37u % MESSAGES);
}

static size_t total(void)
{
    size_t sum = 0;

    for (int i = 0; i < MESSAGES; i++)
        sum += (size_t)length_of(i);
    return sum;
}

struct row {
    enum mem mem;
    char *memory, *first;
    size_t len;
};

/* It begins at an odd place and has an edge at both ends that is nobody's. */
static struct row row_get(enum mem mem, int odd)
{
    struct row r = { .mem = mem, .len = total() };

    r.memory = mem_get(mem, r.len + 2 * EDGE);
    memset(r.memory, GUARD, r.len + 2 * EDGE);
    r.first = r.memory + EDGE / 2 + odd;
    return r;
}

static void row_put(struct row *r)
{
    size_t before = (size_t)(r->first - r->memory);

    expect(all_bytes(r->memory, before, GUARD), "bytes before the first message");
    expect(all_bytes(r->first + r->len, 2 * EDGE - before, GUARD),
           "bytes behind the last message");
    mem_put(r->mem, r->memory);
}

static uint64_t seed_of(int from, int round, int i)
{
    return mix((uint64_t)from * 1000 + (uint64_t)round, (uint64_t)i);
}

/* Ranks meet in pairs. Every other message is received into place before it is sent,
 * the others arrive when nobody expects them. */
static void exchange(struct row *out, struct row *in, int round)
{
    MPI_Request q[2 * MESSAGES];
    int peer = rank ^ 1, n = 0;
    size_t at = 0;

    for (int i = 0; i < MESSAGES; at += (size_t)length_of(nth(i++)))
        fill(out->first + at, (size_t)length_of(nth(i)), seed_of(rank, round, i));
    memset(in->first, 0xee, in->len);
    for (int early = 1; early >= 0; early--) {
        at = 0;
        for (int i = 0; i < MESSAGES; at += (size_t)length_of(nth(i++)))
            if (i % 2 == early)
                MPI_Irecv(in->first + at, length_of(nth(i)), MPI_CHAR, peer, i,
                          MPI_COMM_WORLD, &q[n++]);
        at = 0;
        if (early)
            MPI_Sendrecv(NULL, 0, MPI_CHAR, peer, MESSAGES, NULL, 0, MPI_CHAR, peer,
                         MESSAGES, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        for (int i = 0; early && i < MESSAGES; at += (size_t)length_of(nth(i++)))
            MPI_Isend(out->first + at, length_of(nth(i)), MPI_CHAR, peer, i,
                      MPI_COMM_WORLD, &q[n++]);
    }
    MPI_Waitall(n, q, MPI_STATUSES_IGNORE);
    at = 0;
    for (int i = 0; i < MESSAGES; at += (size_t)length_of(nth(i++))) {
        size_t len = (size_t)length_of(nth(i));
        same(in->first + at, len, seed_of(peer, round, i), "message %d, %zu bytes at %zu",
             i, len, at);
        same(out->first + at, len, seed_of(rank, round, i), "what was sent as %d, %zu bytes",
             i, len);
    }
}

static void side_by_side(enum mem from, enum mem to)
{
    static const int odds[] = { 0, 1, 3, 63, 17 };

    for (int round = 0; round < (int)(sizeof odds / sizeof *odds); round++) {
        struct row out = row_get(from, odds[round]);
        struct row in = row_get(to, odds[(round + 2) % 5]);

        exchange(&out, &in, round);
        row_put(&in);
        row_put(&out);
    }
}

/* One line that two ranks fill, half of it each, again and again: what is sent of it
 * and what is received into it are neighbours too. */
static void halves_of_a_line(enum mem mem)
{
    enum { LINE = 64, ROUNDS = 2000 };
    char *line = mem_get(mem, 2 * LINE);
    int peer = rank ^ 1;

    for (int i = 0; i < ROUNDS; i++) {
        int mine = 1 + i % (LINE - 1);      /* so much is mine, from the start */
        MPI_Request q[2];

        memset(line, rank * 16 + i % 16, (size_t)mine);
        MPI_Irecv(line + mine, 2 * LINE - mine, MPI_CHAR, peer, 1, MPI_COMM_WORLD, &q[0]);
        MPI_Isend(line, mine, MPI_CHAR, peer, 1, MPI_COMM_WORLD, &q[1]);
        MPI_Waitall(2, q, MPI_STATUSES_IGNORE);
        expect(all_bytes(line, (size_t)mine, (unsigned char)(rank * 16 + i % 16)) &&
               all_bytes(line + mine, (size_t)mine, (unsigned char)(peer * 16 + i % 16)),
               "round %d, %d bytes each", i, mine);
    }
    mem_put(mem, line);
}

int main(int argc, char **argv)
{
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 100);
    if (size % 2)
        story_skip("needs an even number of ranks");
    for (int c = 0; c < 4; c++)
        if (story("side by side %s-%s", mem_name(c & 1), mem_name(c >> 1)))
            side_by_side(c & 1, c >> 1);
    for (int m = 0; m < 2; m++)
        if (story("halves of a line %s", mem_name(m)))
            halves_of_a_line(m);
    return story_close();
}
