/* SPDX-License-Identifier: BSD-3-Clause */
/* usage.c - what memory a transport takes for its peers; run by the script beside it.
 *
 * Start at main(). malloc and its kin are defined here, so every call of every library
 * comes by: a table holds the blocks that are live and who asked for them, and those that
 * the transport's plugin asked for are summed up. What Open MPI's own libraries take for a
 * rank is not in it. The pool is a file without a name: the system tells how much memory
 * it has given for it.
 *
 * Rank 0 prints a line: ranks, then for four moments (after MPI_Init; it has sent a byte
 * to each other and got one; so 1000 messages of up to 1 KiB; so some of up to 64 KiB)
 * the bytes that the plugin has, those of the pool, and open descriptors.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
#include <mpi.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCKS = 1 << 20, LONG = 65536, SHORT_MOST = 1024, SHORTS = 1000 };

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void __libc_free(void *p);

/* ---- every block ---- */

static struct { void *block, *caller; } blocks[BLOCKS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static size_t place(const void *p)
{
    return ((uintptr_t)p >> 4) * 2654435761u % BLOCKS;
}

/* Open addressing; a place that was left keeps its caller NULL and its block 1. */
static void *note(void *p, void *caller)
{
    size_t at = place(p);

    if (!p)
        return p;
    pthread_mutex_lock(&lock);
    while ((uintptr_t)blocks[at].block > 1)
        at = (at + 1) % BLOCKS;
    blocks[at].block = p;
    blocks[at].caller = caller;
    pthread_mutex_unlock(&lock);
    return p;
}

static void forget(const void *p)
{
    size_t at = place(p);

    if (!p)
        return;
    pthread_mutex_lock(&lock);
    while (blocks[at].block && blocks[at].block != p)
        at = (at + 1) % BLOCKS;
    if (blocks[at].block)
        blocks[at].block = (void *)1;
    pthread_mutex_unlock(&lock);
}

/* Seen by all libraries. */
#pragma GCC visibility push(default)
void *malloc(size_t size)
{
    return note(__libc_malloc(size), __builtin_return_address(0));
}

void *calloc(size_t n, size_t size)
{
    return note(__libc_calloc(n, size), __builtin_return_address(0));
}

void *aligned_alloc(size_t align, size_t size)
{
    return note(__libc_memalign(align, size), __builtin_return_address(0));
}

void *realloc(void *p, size_t size)
{
    forget(p);
    return note(__libc_realloc(p, size), __builtin_return_address(0));
}

void free(void *p)
{
    forget(p);
    __libc_free(p);
}
#pragma GCC visibility pop

/* With the word that malloc keeps in front of each. */
static size_t plugin_bytes(const char *plugin)
{
    size_t sum = 0;

    for (size_t i = 0; i < BLOCKS; i++) {
        Dl_info of;

        if ((uintptr_t)blocks[i].block > 1 && dladdr(blocks[i].caller, &of) &&
            of.dli_fname && strstr(of.dli_fname, plugin))
            sum += malloc_usable_size(blocks[i].block) + sizeof(size_t);
    }
    return sum;
}

/* ---- descriptors, and the pool among them ---- */

static size_t descriptors(size_t *pool)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *e;
    size_t n = 0;

    *pool = 0;
    while (dir && (e = readdir(dir))) {
        char to[256] = "";
        struct stat st;

        if (readlinkat(dirfd(dir), e->d_name, to, sizeof to - 1) < 0)
            continue;
        n++;
        if (strstr(to, "pinwheel-pool") && !fstatat(dirfd(dir), e->d_name, &st, 0) &&
            !*pool)
            *pool = (size_t)st.st_blocks * 512;
    }
    if (dir)
        closedir(dir);
    return n - 1;       /* not that of the directory */
}

static void tell(const char *plugin)
{
    size_t pool, fds = descriptors(&pool);

    printf(" %zu %zu %zu", plugin_bytes(plugin), pool, fds);
}

/* ---- messages ---- */

static int rank, size;
static char *in, *out;

static void half(int peer, int len, bool sends)
{
    if (sends)
        MPI_Send(out, len, MPI_CHAR, peer, 0, MPI_COMM_WORLD);
    else
        MPI_Recv(in, LONG, MPI_CHAR, peer, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

/* Rank 0 with each other one, question and answer. */
static void talk(int messages, int most)
{
    for (int i = 0; i < messages; i++)
        for (int peer = rank ? rank : 1; peer < (rank ? rank + 1 : size); peer++) {
            int len = 1 + (int)((long)(most - 1) * i / messages);

            half(rank ? 0 : peer, len, rank == 0);
            half(rank ? 0 : peer, len, rank != 0);
        }
}

int main(int argc, char **argv)
{
    const char *plugin = argc > 1 ? argv[1] : "pinwheel.so";     /* two links, one file */
    const struct { int messages, most; } acts[] = {
        { 1, 1 }, { SHORTS, SHORT_MOST }, { 20, LONG },
    };

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    in = calloc(1, LONG);
    out = calloc(1, LONG);
    if (rank == 0) {
        printf("%d", size);
        tell(plugin);
    }
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        talk(acts[i].messages, acts[i].most);
        MPI_Barrier(MPI_COMM_WORLD);
        if (rank == 0)
            tell(plugin);
    }
    if (rank == 0)
        printf("\n");
    MPI_Finalize();
    return 0;
}
