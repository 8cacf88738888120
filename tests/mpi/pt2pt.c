/* SPDX-License-Identifier: BSD-3-Clause */
/* pt2pt.c - every way to send one message, at every size where a protocol may
 * change, between every kind of buffer.
 *
 * Ranks work in pairs (0 and 1, 2 and 3, ...); in each pair both directions are
 * used. The receive buffer has guard bytes on both sides.
 */
#include "story.h"

#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, SLACK = 32, LARGEST = 16 << 20, TAG = 17 };

static int largest;     /* LARGEST, unless the run is to be a short one */

struct pair {
    int peer;
    bool lower;
    enum mem smem, rmem;
    char *sraw, *rraw;      /* GUARD + SLACK + largest + GUARD each */
    char *s, *r;            /* this message: unaligned starts in them */
    int len;
    uint64_t out, in;       /* seeds of what we send and of what must come */
};

struct mode {
    const char *name;
    int max;                /* largest message worth the time */
    void (*run)(struct pair *p);
};

static void message_begin(struct pair *p, uint64_t seed)
{
    unsigned shift = (unsigned)(seed % SLACK);

    p->s = p->sraw + GUARD + shift;
    p->r = p->rraw + GUARD + (shift * 7 + 3) % SLACK;
    p->out = mix(seed, (uint64_t)rank);
    p->in = mix(seed, (uint64_t)p->peer);
    fill(p->s, (size_t)p->len, p->out);
    memset(p->r - GUARD / 2, 0xa5, (size_t)p->len + GUARD);
}

static void message_check(struct pair *p, const char *mode)
{
    if (!same(p->r, (size_t)p->len, p->in, "%s, %d bytes, %s to %s", mode, p->len,
              mem_name(p->smem), mem_name(p->rmem)))
        return;
    expect(all_bytes(p->r - GUARD / 2, GUARD / 2, 0xa5), "%s, %d bytes: written before "
           "the buffer", mode, p->len);
    expect(all_bytes(p->r + p->len, GUARD / 2, 0xa5), "%s, %d bytes: written behind the "
           "buffer", mode, p->len);
}

static void status_check(struct pair *p, MPI_Status *st)
{
    int n = -1;

    MPI_Get_count(st, MPI_CHAR, &n);
    expect(n == p->len, "count is %d, not %d", n, p->len);
    expect(st->MPI_SOURCE == p->peer, "source is %d, not %d", st->MPI_SOURCE, p->peer);
    expect(st->MPI_TAG == TAG, "tag is %d, not %d", st->MPI_TAG, TAG);
}

/* Both directions, one after the other. */
static void in_turns(struct pair *p, void (*send)(struct pair *), void (*recv)(struct pair *))
{
    if (p->lower) {
        send(p);
        recv(p);
    } else {
        recv(p);
        send(p);
    }
}

static void plain_send(struct pair *p)
{
    MPI_Send(p->s, p->len, MPI_CHAR, p->peer, TAG, MPI_COMM_WORLD);
}

static void plain_recv(struct pair *p)
{
    MPI_Status st;

    MPI_Recv(p->r, p->len, MPI_CHAR, p->peer, TAG, MPI_COMM_WORLD, &st);
    status_check(p, &st);
}

static void blocking(struct pair *p)
{
    in_turns(p, plain_send, plain_recv);
}

static void nonblocking(struct pair *p)
{
    MPI_Request q[2];

    MPI_Irecv(p->r, p->len, MPI_CHAR, p->peer, TAG, MPI_COMM_WORLD, &q[0]);
    MPI_Isend(p->s, p->len, MPI_CHAR, p->peer, TAG, MPI_COMM_WORLD, &q[1]);
    MPI_Waitall(2, q, MPI_STATUSES_IGNORE);
}

static void sendrecv(struct pair *p)
{
    MPI_Status st;

    MPI_Sendrecv(p->s, p->len, MPI_CHAR, p->peer, TAG, p->r, p->len, MPI_CHAR, p->peer,
                 TAG, MPI_COMM_WORLD, &st);
    status_check(p, &st);
}

static void sync_send(struct pair *p)
{
    MPI_Ssend(p->s, p->len, MPI_CHAR, p->peer, TAG, MPI_COMM_WORLD);
}

static void ssend(struct pair *p)
{
    in_turns(p, sync_send, plain_recv);
}

static void buffered_send(struct pair *p)
{
    MPI_Bsend(p->s, p->len, MPI_CHAR, p->peer, TAG, MPI_COMM_WORLD);
    memset(p->s, 0, (size_t)p->len);     /* the buffer is ours again */
}

static void bsend(struct pair *p)
{
    int room = p->len + MPI_BSEND_OVERHEAD;
    void *space = malloc((size_t)room);

    MPI_Buffer_attach(space, room);
    in_turns(p, buffered_send, plain_recv);
    MPI_Buffer_detach(&space, &room);
    free(space);
}

static void ready_send(struct pair *p)
{
    MPI_Recv(NULL, 0, MPI_CHAR, p->peer, TAG + 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Rsend(p->s, p->len, MPI_CHAR, p->peer, TAG, MPI_COMM_WORLD);
}

static void ready_recv(struct pair *p)
{
    MPI_Request q;
    MPI_Status st;

    MPI_Irecv(p->r, p->len, MPI_CHAR, p->peer, TAG, MPI_COMM_WORLD, &q);
    MPI_Send(NULL, 0, MPI_CHAR, p->peer, TAG + 1, MPI_COMM_WORLD);
    MPI_Wait(&q, &st);
    status_check(p, &st);
}

static void rsend(struct pair *p)
{
    in_turns(p, ready_send, ready_recv);
}

static void persistent(struct pair *p)
{
    MPI_Request q[2];

    MPI_Recv_init(p->r, p->len, MPI_CHAR, p->peer, TAG, MPI_COMM_WORLD, &q[0]);
    MPI_Send_init(p->s, p->len, MPI_CHAR, p->peer, TAG, MPI_COMM_WORLD, &q[1]);
    for (uint64_t round = 0; round < 3; round++) {
        p->out = mix(p->out, round);
        p->in = mix(p->in, round);
        fill(p->s, (size_t)p->len, p->out);
        memset(p->r, 0xa5, (size_t)p->len);
        MPI_Startall(2, q);
        MPI_Waitall(2, q, MPI_STATUSES_IGNORE);
        if (round < 2)
            message_check(p, "persistent, early round");
    }
    MPI_Request_free(&q[0]);
    MPI_Request_free(&q[1]);
}

static void probing_recv(struct pair *p)
{
    MPI_Status st;

    MPI_Probe(p->peer, MPI_ANY_TAG, MPI_COMM_WORLD, &st);
    status_check(p, &st);
    plain_recv(p);
}

static void probe(struct pair *p)
{
    in_turns(p, plain_send, probing_recv);
}

static void matched_recv(struct pair *p)
{
    MPI_Status st;
    MPI_Message m;
    MPI_Request q;
    int here = 0;

    if (p->len % 2) {
        MPI_Mprobe(p->peer, TAG, MPI_COMM_WORLD, &m, &st);
        status_check(p, &st);
        MPI_Mrecv(p->r, p->len, MPI_CHAR, &m, &st);
    } else {
        while (!here)
            MPI_Improbe(p->peer, TAG, MPI_COMM_WORLD, &here, &m, &st);
        MPI_Imrecv(p->r, p->len, MPI_CHAR, &m, &q);
        MPI_Wait(&q, &st);
    }
    status_check(p, &st);
}

static void mprobe(struct pair *p)
{
    in_turns(p, plain_send, matched_recv);
}

static const struct mode modes[] = {
    { "blocking", LARGEST, blocking },
    { "nonblocking", LARGEST, nonblocking },
    { "sendrecv", 4 << 20, sendrecv },
    { "ssend", 1 << 20, ssend },
    { "bsend", 1 << 20, bsend },
    { "rsend", 1 << 20, rsend },
    { "persistent", 1 << 20, persistent },
    { "probe", 1 << 20, probe },
    { "mprobe", 1 << 20, mprobe },
};

/* 0, and each power of two up to 256 KiB with its neighbours, and some beyond. */
static int sizes[80], nsizes;

static void sizes_make(void)
{
    sizes[nsizes++] = 0;
    for (int p = 1; p <= 256 << 10; p *= 2)
        for (int d = -1; d <= 1; d++)
            if (p + d > sizes[nsizes - 1])
                sizes[nsizes++] = p + d;
    for (int len = 1 << 20; len <= largest; len *= 4)
        sizes[nsizes++] = len;
}

static void run_mode(struct pair *p, const struct mode *m)
{
    for (int i = 0; i < nsizes && sizes[i] <= m->max; i++) {
        p->len = sizes[i];
        message_begin(p, mix((uint64_t)i, 5));
        m->run(p);
        message_check(p, m->name);
    }
}

/* The sender is done before the receiver looks: all that came unexpected must
 * wait, in order, whatever its size. */
static void late_receiver(struct pair *p)
{
    MPI_Request q[80];
    char **bufs = malloc((size_t)nsizes * sizeof *bufs);
    int n = nsizes - 1;

    for (int i = 0; i < n; i++) {
        bufs[i] = mem_get(p->smem, (size_t)sizes[i]);
        fill(bufs[i], (size_t)sizes[i], mix((uint64_t)i, (uint64_t)rank));
        MPI_Isend(bufs[i], sizes[i], MPI_CHAR, p->peer, TAG, MPI_COMM_WORLD, &q[i]);
    }
    MPI_Sendrecv(NULL, 0, MPI_CHAR, p->peer, TAG + 2, NULL, 0, MPI_CHAR, p->peer, TAG + 2,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (int i = 0; i < n; i++) {
        p->len = sizes[i];
        p->r = p->rraw + GUARD;
        memset(p->r, 0, (size_t)p->len);
        plain_recv(p);
        same(p->r, (size_t)p->len, mix((uint64_t)i, (uint64_t)p->peer),
             "unexpected, %d bytes", p->len);
    }
    MPI_Waitall(n, q, MPI_STATUSES_IGNORE);
    for (int i = 0; i < n; i++)
        mem_put(p->smem, bufs[i]);
    free(bufs);
}

static void cancel_receive(struct pair *p)
{
    MPI_Request q;
    MPI_Status st;
    int cancelled = 0;

    MPI_Irecv(p->rraw, 100, MPI_CHAR, p->peer, TAG + 3, MPI_COMM_WORLD, &q);
    MPI_Cancel(&q);
    MPI_Wait(&q, &st);
    MPI_Test_cancelled(&st, &cancelled);
    expect(cancelled, "a receive nobody sends to can be cancelled");

    /* The cancelled one must not swallow what comes now. */
    MPI_Sendrecv(NULL, 0, MPI_CHAR, p->peer, TAG + 2, NULL, 0, MPI_CHAR, p->peer, TAG + 2,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    p->len = 100;
    message_begin(p, 99);
    MPI_Sendrecv(p->s, 100, MPI_CHAR, p->peer, TAG + 3, p->r, 100, MPI_CHAR, p->peer,
                 TAG + 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    message_check(p, "after cancel");
}

enum { ANY_EACH = 60, ANY_MAX = 70000 };

static int any_len(int source, int i)
{
    static const int lens[] = { 0, 8, 300, 4097, 20000, ANY_MAX };

    return lens[(source + i) % 6];
}

/* Rank 0 takes what comes from anybody with any tag; per source it is in order. */
static void any_source(void)
{
    char *buf = mem_get(MEM_MALLOC, ANY_MAX);
    int *next = calloc((size_t)size, sizeof *next);

    for (int i = 0; rank && i < ANY_EACH; i++) {
        fill(buf, (size_t)any_len(rank, i), mix((uint64_t)rank, (uint64_t)i));
        MPI_Send(buf, any_len(rank, i), MPI_CHAR, 0, i, MPI_COMM_WORLD);
    }
    for (int i = 0; rank == 0 && i < ANY_EACH * (size - 1); i++) {
        MPI_Status st;
        int n, from;

        MPI_Recv(buf, ANY_MAX, MPI_CHAR, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &st);
        MPI_Get_count(&st, MPI_CHAR, &n);
        from = st.MPI_SOURCE;
        expect(st.MPI_TAG == next[from], "from %d came tag %d, not %d", from, st.MPI_TAG,
               next[from]);
        next[from] = st.MPI_TAG + 1;
        expect(n == any_len(from, st.MPI_TAG), "from %d came %d bytes", from, n);
        same(buf, (size_t)n, mix((uint64_t)from, (uint64_t)st.MPI_TAG), "any source");
    }
    free(next);
    mem_put(MEM_MALLOC, buf);
    MPI_Barrier(MPI_COMM_WORLD);    /* rank 0 would take the next story's messages */
}

/* Everybody receives from everybody and takes what completes first. */
static void wait_any(enum mem mem)
{
    enum { LEN = 40000, EACH = 4 };
    int n = size * EACH, i;
    MPI_Request *q = malloc(2 * (size_t)n * sizeof *q);
    char *r = mem_get(mem, (size_t)n * LEN), *s = mem_get(mem, (size_t)n * LEN);

    for (i = 0; i < n; i++)
        MPI_Irecv(r + (size_t)i * LEN, LEN, MPI_CHAR, i / EACH, i % EACH, MPI_COMM_WORLD, &q[i]);
    for (i = 0; i < n; i++) {
        int to = i / EACH, len = 1 + LEN / 4 * (i % EACH);
        fill(s + (size_t)i * LEN, (size_t)len, mix((uint64_t)rank, (uint64_t)(to * EACH + i % EACH)));
        MPI_Isend(s + (size_t)i * LEN, len, MPI_CHAR, to, i % EACH, MPI_COMM_WORLD, &q[n + i]);
    }
    for (int k = 0; k < n; k++) {
        MPI_Status st;
        int count;

        MPI_Waitany(n, q, &i, &st);
        expect(i >= 0 && i < n, "waitany gave index %d", i);
        if (i < 0 || i >= n)
            break;
        MPI_Get_count(&st, MPI_CHAR, &count);
        expect(count == 1 + LEN / 4 * (i % EACH), "message %d has %d bytes", i, count);
        same(r + (size_t)i * LEN, (size_t)count,
             mix((uint64_t)(i / EACH), (uint64_t)(rank * EACH + i % EACH)), "wait any");
    }
    MPI_Waitall(n, q + n, MPI_STATUSES_IGNORE);
    mem_put(mem, r);
    mem_put(mem, s);
    free(q);
}

/* One tag, sizes that take different protocols, posted at once: MPI's order. */
static void order(struct pair *p)
{
    enum { N = 300 };
    static const int lens[] = { 3, 100000, 0, 64, 5000, 40, 300000, 4096 };
    MPI_Request q[N];
    char *s = p->sraw, *r = p->rraw;

    fill(s, 300000, 1);
    for (int i = 0; i < N; i++) {
        int len = lens[i % 8];
        if (p->lower)
            MPI_Isend(s, len, MPI_CHAR, p->peer, TAG, MPI_COMM_WORLD, &q[i]);
        else {
            MPI_Status st;
            int n;
            memset(r, 0, 300000);
            MPI_Recv(r, 300000, MPI_CHAR, p->peer, TAG, MPI_COMM_WORLD, &st);
            MPI_Get_count(&st, MPI_CHAR, &n);
            expect(n == len, "message %d has %d bytes, not %d: overtaken", i, n, len);
            same(r, (size_t)n, 1, "order, message %d", i);
        }
    }
    if (p->lower)
        MPI_Waitall(N, q, MPI_STATUSES_IGNORE);
}

static void pair_stories(struct pair *p)
{
    for (int c = 0; c < 4; c++) {
        size_t room = 2 * GUARD + SLACK + (size_t)largest;

        p->smem = c & 1 ? MEM_POOL : MEM_MALLOC;
        p->rmem = c & 2 ? MEM_POOL : MEM_MALLOC;
        /* The peer has the same c: sender's and receiver's kind are smem, rmem. */
        p->sraw = mem_get(p->smem, room);
        p->rraw = mem_get(p->rmem, room);
        for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++)
            if (story("%s %s-%s", modes[m].name, mem_name(p->smem), mem_name(p->rmem)))
                run_mode(p, &modes[m]);
        if (story("late %s-%s", mem_name(p->smem), mem_name(p->rmem)))
            late_receiver(p);
        if (story("order %s-%s", mem_name(p->smem), mem_name(p->rmem)))
            order(p);
        if (story("cancel %s-%s", mem_name(p->smem), mem_name(p->rmem)))
            cancel_receive(p);
        mem_put(p->smem, p->sraw);
        mem_put(p->rmem, p->rraw);
    }
}

int main(int argc, char **argv)
{
    struct pair p = { 0 };

    story_open(&argc, &argv, MPI_THREAD_SINGLE, 100);
    largest = story_largest(LARGEST);
    sizes_make();
    p.peer = rank ^ 1;
    p.lower = !(rank & 1);
    if (p.peer < size)
        pair_stories(&p);
    if (story("any source"))
        any_source();
    if (story("wait any malloc"))
        wait_any(MEM_MALLOC);
    if (story("wait any MPI_Alloc_mem"))
        wait_any(MEM_POOL);
    return story_close();
}
