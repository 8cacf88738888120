/* SPDX-License-Identifier: BSD-3-Clause */
/* datatypes.c - data that does not lie in one piece, on either side.
 *
 * A layout is an MPI datatype for n ints together with the byte offset of each
 * int, computed without MPI. Each layout is sent to each other one: element k
 * must arrive where the receiver's layout says, and no byte between may change.
 */
#include "story.h"

#include <stdlib.h>
#include <string.h>

struct layout {
    MPI_Datatype type;
    int count;          /* of type in one message */
    size_t *at;         /* offset of element k, from the buffer's start */
    size_t first;       /* where the address given to MPI lies in the buffer */
    size_t span;        /* bytes of the whole buffer */
};

struct kind {
    const char *name;
    void (*make)(struct layout *l, int n);  /* n is a multiple of 64 */
};

static void contig(struct layout *l, int n)
{
    for (int k = 0; k < n; k++)
        l->at[k] = (size_t)k * 4;
    MPI_Type_contiguous(n, MPI_INT, &l->type);
}

static void vector(struct layout *l, int n)
{
    for (int k = 0; k < n; k++)
        l->at[k] = (size_t)(k / 16 * 24 + k % 16) * 4;
    MPI_Type_vector(n / 16, 16, 24, MPI_INT, &l->type);
}

static void single_ints(struct layout *l, int n)
{
    for (int k = 0; k < n; k++)
        l->at[k] = (size_t)k * 12;
    MPI_Type_create_hvector(n, 1, 12, MPI_INT, &l->type);
}

static void backwards(struct layout *l, int n)
{
    l->first = (size_t)(n / 4 - 1) * 20;
    for (int k = 0; k < n; k++)
        l->at[k] = l->first - (size_t)(k / 4) * 20 + (size_t)(k % 4) * 4;
    MPI_Type_create_hvector(n / 4, 4, -20, MPI_INT, &l->type);
}

/* Blocks of 1, 2, 3, ... 7 ints with gaps that vary. */
static void indexed(struct layout *l, int n)
{
    int *len = malloc((size_t)n * sizeof *len), *at = malloc((size_t)n * sizeof *at);
    int blocks = 0, k = 0, place = 0;

    while (k < n) {
        int b = 1 + blocks % 7;
        b = b < n - k ? b : n - k;
        len[blocks] = b;
        at[blocks] = place;
        for (int i = 0; i < b; i++)
            l->at[k++] = (size_t)(place + i) * 4;
        place += b + blocks % 3;
        blocks++;
    }
    MPI_Type_indexed(blocks, len, at, MPI_INT, &l->type);
    free(len);
    free(at);
}

/* 64 large blocks in an order that is not the memory's. */
static void shuffled_blocks(struct layout *l, int n)
{
    int at[64], b = n / 64;

    for (int i = 0; i < 64; i++)
        at[i] = i * 37 % 64 * (b + 5);
    for (int k = 0; k < n; k++)
        l->at[k] = (size_t)(at[k / b] + k % b) * 4;
    MPI_Type_create_indexed_block(64, b, at, MPI_INT, &l->type);
}

/* An int, a gap, a vector inside a struct, a run. */
static void structure(struct layout *l, int n)
{
    int len[3] = { 1, 1, n / 2 - 1 }, half = n / 2;
    MPI_Aint at[3] = { 4, 16, 16 + (MPI_Aint)half * 8 + 8 };
    MPI_Datatype types[3] = { MPI_INT, MPI_DATATYPE_NULL, MPI_INT };

    MPI_Type_vector(half, 1, 2, MPI_INT, &types[1]);
    MPI_Type_create_struct(3, len, at, types, &l->type);
    MPI_Type_free(&types[1]);
    l->at[0] = 4;
    for (int k = 0; k < half; k++)
        l->at[1 + k] = 16 + (size_t)k * 8;
    for (int k = 0; k < half - 1; k++)
        l->at[1 + half + k] = (size_t)at[2] + (size_t)k * 4;
}

static void subarray(struct layout *l, int n)
{
    int rows = n / 32, full[3] = { rows + 3, 2, 24 }, part[3] = { rows, 2, 16 };
    int from[3] = { 2, 0, 5 };

    for (int k = 0; k < n; k++)
        l->at[k] = (size_t)((k / 32 + 2) * 48 + k / 16 % 2 * 24 + k % 16 + 5) * 4;
    MPI_Type_create_subarray(3, full, part, from, MPI_ORDER_C, MPI_INT, &l->type);
}

/* Process 1's share when 4 processes deal out blocks of 4 ints. */
static void darray(struct layout *l, int n)
{
    int whole = 4 * n, how = MPI_DISTRIBUTE_CYCLIC, block = 4, procs = 4;

    for (int k = 0; k < n; k++)
        l->at[k] = (size_t)(k / 4 * 16 + 4 + k % 4) * 4;
    MPI_Type_create_darray(4, 1, 1, &whole, &how, &block, &procs, MPI_ORDER_C, MPI_INT,
                           &l->type);
}

static void resized(struct layout *l, int n)
{
    MPI_Datatype four;

    l->count = n / 4;
    for (int k = 0; k < n; k++)
        l->at[k] = (size_t)(k / 4) * 28 + (size_t)(k % 4) * 4;
    MPI_Type_contiguous(4, MPI_INT, &four);
    MPI_Type_create_resized(four, 0, 28, &l->type);
    MPI_Type_free(&four);
}

static void contig_of_vector(struct layout *l, int n)
{
    MPI_Datatype v;

    l->count = 2;
    for (int k = 0; k < n; k++)
        l->at[k] = (size_t)(k / 8 * 22 + k % 8 / 2 * 6 + k % 2) * 4 - (size_t)(k / 8) * 2 * 4;
    MPI_Type_vector(4, 2, 6, MPI_INT, &v);          /* extent: 20 ints */
    MPI_Type_contiguous(n / 16, v, &l->type);
    MPI_Type_free(&v);
}

static const struct kind kinds[] = {
    { "contiguous", contig }, { "vector", vector }, { "single ints", single_ints },
    { "backwards", backwards }, { "indexed", indexed },
    { "shuffled blocks", shuffled_blocks }, { "struct", structure },
    { "subarray", subarray }, { "darray", darray }, { "resized", resized },
    { "contiguous of vector", contig_of_vector },
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void layout_open(struct layout *l, const struct kind *kind, int n)
{
    memset(l, 0, sizeof *l);
    l->count = 1;
    l->at = malloc((size_t)n * sizeof *l->at);
    kind->make(l, n);
    MPI_Type_commit(&l->type);
    for (int k = 0; k < n; k++)
        if (l->at[k] + 4 > l->span)
            l->span = l->at[k] + 4;
    l->span += 64;      /* what lies behind must stay as it is */
}

static void layout_close(struct layout *l)
{
    MPI_Type_free(&l->type);
    free(l->at);
}

static int value(uint64_t seed, int k)
{
    return (int)mix(seed, (uint64_t)k);
}

static void scatter(const struct layout *l, char *buf, int n, uint64_t seed)
{
    memset(buf, 0xee, l->span);
    for (int k = 0; k < n; k++) {
        int v = value(seed, k);
        memcpy(buf + l->at[k], &v, 4);
    }
}

static void exchange(struct layout *s, struct layout *r, int n, enum mem mem, int peer,
                     const char *what)
{
    char *out = mem_get(mem, s->span), *in = mem_get(mem, r->span);
    char *want = malloc(r->span);
    uint64_t pair = (uint64_t)n;
    MPI_Request q;

    scatter(s, out, n, mix(pair, (uint64_t)rank));
    scatter(r, want, n, mix(pair, (uint64_t)peer));
    memset(in, 0xee, r->span);

    MPI_Irecv(in + r->first, r->count, r->type, peer, 1, MPI_COMM_WORLD, &q);
    MPI_Send(out + s->first, s->count, s->type, peer, 1, MPI_COMM_WORLD);
    MPI_Wait(&q, MPI_STATUS_IGNORE);

    size_t at = 0;
    while (at < r->span && in[at] == want[at])
        at++;
    expect(at == r->span, "%s, %d ints: byte %zu of %zu is wrong", what, n, at, r->span);
    mem_put(mem, out);
    mem_put(mem, in);
    free(want);
}

/* Every layout to every layout. The pair's ranks use the roles the other way
 * round, so that both directions are seen. */
static void all_to_all_layouts(int peer, int n, enum mem mem)
{
    struct layout a, b;
    char what[96];

    for (int i = 0; i < KINDS; i++) {
        for (int j = 0; j < KINDS; j++) {
            layout_open(&a, &kinds[i], n);
            layout_open(&b, &kinds[j], n);
            strcpy(what, kinds[i].name);
            strcat(strcat(what, " to "), kinds[j].name);
            exchange(&a, &b, n, mem, peer, what);
            layout_close(&a);
            layout_close(&b);
        }
    }
}

struct mixed {
    char c;
    double d;
    int i[3];
    short s;
};

struct wide {
    double gap0;
    char c;
    int gap1[5];
    double d;
    int i0, gap2, i1, gap3, i2;
    short gap4, s;
};

/* Structures of several types whose members lie elsewhere at the receiver. */
static void mixed_types(int peer, int n)
{
    MPI_Datatype narrow, wide, t;
    MPI_Datatype types[6] = { MPI_CHAR, MPI_DOUBLE, MPI_INT, MPI_INT, MPI_INT, MPI_SHORT };
    int len[6] = { 1, 1, 1, 1, 1, 1 }, bad = 0;
    MPI_Aint a[6] = { offsetof(struct mixed, c), offsetof(struct mixed, d),
                      offsetof(struct mixed, i), offsetof(struct mixed, i) + 4,
                      offsetof(struct mixed, i) + 8, offsetof(struct mixed, s) };
    MPI_Aint b[6] = { offsetof(struct wide, c), offsetof(struct wide, d),
                      offsetof(struct wide, i0), offsetof(struct wide, i1),
                      offsetof(struct wide, i2), offsetof(struct wide, s) };
    struct mixed *m = calloc((size_t)n, sizeof *m);
    struct wide *w = calloc((size_t)n, sizeof *w);

    MPI_Type_create_struct(6, len, a, types, &t);
    MPI_Type_create_resized(t, 0, sizeof *m, &narrow);
    MPI_Type_free(&t);
    MPI_Type_create_struct(6, len, b, types, &t);
    MPI_Type_create_resized(t, 0, sizeof *w, &wide);
    MPI_Type_free(&t);
    MPI_Type_commit(&narrow);
    MPI_Type_commit(&wide);

    for (int k = 0; k < n; k++)
        m[k] = (struct mixed){ (char)k, k * 0.5 + rank, { k, -k, k ^ rank }, (short)(k * 3) };
    MPI_Sendrecv(m, n, narrow, peer, 2, w, n, wide, peer, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (int k = 0; k < n; k++)
        bad += w[k].c != (char)k || w[k].d != k * 0.5 + peer || w[k].i0 != k || w[k].i1 != -k ||
               w[k].i2 != (k ^ peer) || w[k].s != (short)(k * 3) || w[k].gap0 != 0 ||
               w[k].gap2 != 0 || w[k].gap3 != 0 || w[k].gap4 != 0 || w[k].gap1[2] != 0;
    expect(bad == 0, "%d of %d structures are wrong", bad, n);
    MPI_Type_free(&narrow);
    MPI_Type_free(&wide);
    free(m);
    free(w);
}

/* Types of no bytes at all, and the message behind them. */
static void nothing(int peer)
{
    MPI_Datatype none, gap;
    MPI_Status st;
    int n = -1, out = rank + 1000, in = 0;

    MPI_Type_contiguous(0, MPI_INT, &none);
    MPI_Type_create_resized(none, 0, 64, &gap);
    MPI_Type_commit(&none);
    MPI_Type_commit(&gap);

    MPI_Sendrecv(&out, 5, none, peer, 3, &in, 7, gap, peer, 3, MPI_COMM_WORLD, &st);
    MPI_Get_elements(&st, gap, &n);
    expect(n == 0, "a message of nothing has %d elements", n);
    MPI_Sendrecv(&out, 1, none, peer, 3, &in, 1, MPI_INT, peer, 3, MPI_COMM_WORLD, &st);
    MPI_Get_count(&st, MPI_INT, &n);
    expect(n == 0 && in == 0, "a message of nothing fills an int (%d, %d)", n, in);
    MPI_Sendrecv(&out, 1, MPI_INT, peer, 3, &in, 1, MPI_INT, peer, 3, MPI_COMM_WORLD, &st);
    expect(in == peer + 1000, "the int behind is %d", in);
    MPI_Type_free(&none);
    MPI_Type_free(&gap);
}

int main(int argc, char **argv)
{
    static const int counts[] = { 64, 2048, 16384, 262144 };
    int peer;

    story_open(&argc, &argv, MPI_THREAD_SINGLE, 100);
    peer = rank ^ 1;
    if (peer < size) {
        for (int i = 0; i < 4; i++) {
            if (story("layouts malloc %d", counts[i]))
                all_to_all_layouts(peer, counts[i], MEM_MALLOC);
            if (story("layouts MPI_Alloc_mem %d", counts[i]))
                all_to_all_layouts(peer, counts[i], MEM_POOL);
        }
        if (story("mixed types"))
            for (int n = 1; n < 100000; n *= 7)
                mixed_types(peer, n);
        if (story("nothing"))
            nothing(peer);
    }
    return story_close();
}
