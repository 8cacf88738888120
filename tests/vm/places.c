/* SPDX-License-Identifier: BSD-3-Clause */
/* places.c - on which NUMA nodes a rank's memory lies: what MPI_Alloc_mem gives, its
 * queues, and with libpinwheel-malloc preloaded the blocks of malloc().
 *
 * Each rank is bound to a core. One argument for each tells what it is to find:
 *
 *     local    pages are on its own node
 *     on0      on that one: where the kernel cuts a node in two, each core says which
 *              it is on, but gets memory of the first
 *     bind0, bind1
 *              it may have memory of that node only (set_mempolicy before MPI_Init,
 *              as numactl --membind does): there they are
 *     spread   of all nodes in turn (numactl --interleave): each has a share
 */
#define _GNU_SOURCE
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/mpi/story.h"

enum { NODES = 2, PAGE = 4096, ANY = -1 };

static const size_t MiB = (size_t)1 << 20;

/* Of a range: pages on each node, pages without memory. */
struct places {
    size_t on[NODES], none;
};

static char still[1 << 20];     /* not in any pool */
static const char *wish;
static int mine;                /* the node that this rank runs on */

static void policy(int mode, unsigned long nodes)
{
    if (syscall(SYS_set_mempolicy, mode, nodes ? &nodes : NULL, nodes ? 64L : 0L)) {
        perror("set_mempolicy");
        exit(1);
    }
}

static void policy_by(const char *name)
{
    if (!strcmp(name, "spread"))
        policy(MPOL_INTERLEAVE, (1ul << NODES) - 1);
    else if (!strncmp(name, "bind", 4))
        policy(MPOL_BIND, 1ul << atoi(name + 4));
}

/* The node that is to hold our pages, or ANY when each is to have some. */
static int wanted_node(void)
{
    if (!strcmp(wish, "spread"))
        return ANY;
    return strcmp(wish, "local") ? wish[strlen(wish) - 1] - '0' : mine;
}

static struct places places_of(char *start, size_t len)
{
    enum { AT_ONCE = 512 };
    struct places p = { 0 };
    void *page[AT_ONCE];
    int node[AT_ONCE];

    for (size_t at = 0, n; at < len; at += n * PAGE) {
        n = (len - at) / PAGE;
        if (n > AT_ONCE)
            n = AT_ONCE;
        for (size_t i = 0; i < n; i++)
            page[i] = start + at + i * PAGE;
        if (syscall(SYS_move_pages, 0, n, page, NULL, node, 0)) {
            perror("move_pages");
            exit(1);
        }
        for (size_t i = 0; i < n; i++)
            if (node[i] >= 0 && node[i] < NODES)
                p.on[node[i]]++;
            else
                p.none++;
    }
    return p;
}

/* Are the pages of that range that have memory where they are to be? */
static void expect_places(const char *what, void *start, size_t len, int node)
{
    struct places p = places_of(start, len);
    size_t all = p.on[0] + p.on[1];

    printf("rank %d on node %d, %s: %zu pages on node 0, %zu on node 1\n", rank, mine, what,
           p.on[0], p.on[1]);
    expect(all, "%s: no page has memory", what);
    if (node == ANY)
        expect(p.on[0] >= all / 4 && p.on[1] >= all / 4,
               "%s: %zu and %zu pages are not spread", what, p.on[0], p.on[1]);
    else
        expect(p.on[node] == all, "%s: %zu of %zu pages are not on node %d", what,
               all - p.on[node], all, node);
}

/* The mapping that addr lies in. */
static bool mapping_of(const void *addr, char **start, size_t *len)
{
    FILE *f = fopen("/proc/self/maps", "re");
    unsigned long from, to, at = (unsigned long)(uintptr_t)addr;
    char line[512];
    bool found = false;

    while (f && !found && fgets(line, sizeof line, f))
        found = sscanf(line, "%lx-%lx", &from, &to) == 2 && from <= at && at < to &&
                strstr(line, "pinwheel-pool");
    if (f)
        fclose(f);
    *start = found ? (char *)(uintptr_t)from : NULL;
    *len = found ? to - from : 0;
    return found;
}

/* ---- what the transport gives ---- */

/* So that all queues are there. */
static void greet(void)
{
    int byte = rank;

    for (int i = 0; i < size; i++)
        MPI_Bcast(&byte, 1, MPI_INT, i, MPI_COMM_WORLD);
    MPI_Barrier(MPI_COMM_WORLD);
}

static void queues(void)
{
    char *p = mem_get(MEM_POOL, 1), *start;
    size_t len;

    story("queues");
    greet();
    expect(mapping_of(p, &start, &len), "MPI_Alloc_mem gave memory of no pool");
    /* A few huge pages at most: one alone need not be on the node whose turn it is. */
    if (start && wanted_node() != ANY)
        expect_places("the pool so far", start, len, wanted_node());
    mem_put(MEM_POOL, p);
}

static void alloc_mem(void)
{
    char *p;

    story("MPI_Alloc_mem");
    for (int i = 0; i < 2; i++) {
        p = mem_get(MEM_POOL, 32 * MiB);
        expect_places(i ? "MPI_Alloc_mem again" : "MPI_Alloc_mem", p, 32 * MiB, wanted_node());
        mem_put(MEM_POOL, p);
    }
}

/* The policy of the moment counts. */
static void policy_later(void)
{
    char *p, *q;

    story("a policy that is set later");
    p = mem_get(MEM_POOL, 32 * MiB);
    policy(MPOL_BIND, 1ul << !mine);
    q = mem_get(MEM_POOL, 8 * MiB);
    expect_places("bound to the other node by now", q, 8 * MiB, !mine);
    policy(MPOL_DEFAULT, 0);
    policy_by(wish);
    mem_put(MEM_POOL, q);
    mem_put(MEM_POOL, p);
}

/* Runs on the other node. */
static void *other_thread(void *arg)
{
    char **p = arg;
    unsigned cpu, node;
    cpu_set_t set;

    for (int i = 0; i < CPU_SETSIZE; i++) {
        CPU_ZERO(&set);
        CPU_SET(i, &set);
        if (sched_setaffinity(0, sizeof set, &set) == 0 && getcpu(&cpu, &node) == 0 &&
            (int)node == !mine) {
            *p = mem_get(MEM_POOL, 8 * MiB);
            return NULL;
        }
    }
    return NULL;
}

static void other_node(void)
{
    pthread_t thread;
    char *hold, *p = NULL;

    story("a thread of another node");
    hold = mem_get(MEM_POOL, 48 * MiB);
    pthread_create(&thread, NULL, other_thread, &p);
    pthread_join(thread, NULL);
    if (p) {
        expect_places("a thread of the other node asked", p, 8 * MiB,
                      strcmp(wish, "local") ? wanted_node() : !mine);
        mem_put(MEM_POOL, p);
    }
    mem_put(MEM_POOL, hold);
}

/* ---- what malloc gives, with libpinwheel-malloc ---- */

static void blocks(void)
{
    char *p = malloc(8 * MiB);

    story("malloc");
    fill(p, 8 * MiB, 1);
    expect_places("malloc", p, 8 * MiB, wanted_node());
    free(p);
}

/* A message from memory outside of pools is written by its sender, on the other node,
 * straight into the receiver's pool. Nobody has touched the buffer before. */
static void landing(void)
{
    char *p = malloc(16 * MiB), *start;
    size_t len;

    story("a message into memory that nobody touched");
    expect(mapping_of(p, &start, &len), "malloc gave memory of no pool");
    for (int from = 0; from < 2; from++)
        for (int i = 0; i < 8; i++)
            if (rank == from) {
                fill(still, MiB, mix(7, (uint64_t)i));
                MPI_Send(still, (int)MiB, MPI_CHAR, !from, i, MPI_COMM_WORLD);
            } else if (rank == !from) {
                MPI_Recv(p + (size_t)(2 * i) * MiB, (int)MiB, MPI_CHAR, from, i,
                         MPI_COMM_WORLD, MPI_STATUS_IGNORE);
                same(p + (size_t)(2 * i) * MiB, MiB, mix(7, (uint64_t)i), "message %d", i);
            }
    if (rank < 2)
        expect_places("received", p, 16 * MiB, wanted_node());
    free(p);
}

/* ---- bytes ---- */

static void messages(enum mem from, enum mem to)
{
    char *out = mem_get(from, MiB), *in = mem_get(to, MiB);
    int peer = rank ^ 1;

    story("messages from %s to %s", mem_name(from), mem_name(to));
    for (size_t len = 1; len <= MiB && peer < size; len *= 32) {
        fill(out, len, mix(len, (uint64_t)rank));
        memset(in, 0, len);
        MPI_Sendrecv(out, (int)len, MPI_CHAR, peer, 0, in, (int)len, MPI_CHAR, peer, 0,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        same(in, len, mix(len, (uint64_t)peer), "%zu bytes", len);
    }
    mem_put(from, out);
    mem_put(to, in);
}

int main(int argc, char **argv)
{
    const char *number = getenv("OMPI_COMM_WORLD_RANK");
    int which = number ? atoi(number) : 0, none = 1;
    unsigned cpu, node;

    if (argc <= which + 1) {
        fprintf(stderr, "usage: mpirun -n N places WISH... (of each rank)\n");
        return 2;
    }
    wish = argv[which + 1];
    policy_by(wish);
    story_open(&none, &argv, MPI_THREAD_SERIALIZED, 150);
    getcpu(&cpu, &node);
    mine = (int)node;

    queues();
    alloc_mem();
    policy_later();
    other_node();
    for (enum mem m = MEM_MALLOC; m <= MEM_POOL; m++) {
        messages(m, MEM_MALLOC);
        messages(m, MEM_POOL);
    }
    if (getenv("LD_PRELOAD")) {
        blocks();
        landing();
    }
    return story_close();
}
