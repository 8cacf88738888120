/* SPDX-License-Identifier: BSD-3-Clause */
/* silent.c - a sender that computes does not hold up who receives.
 *
 * Rank 0 starts a long message and then stays outside of MPI until rank 1 has
 * received all of it; they speak of that by a word of shared memory. For ordinary
 * memory this takes the kernel's help, so where process_vm_readv is refused there is
 * nothing to test.
 */
#define _GNU_SOURCE
#include "story.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PATIENCE = 30, TIMES = 6 };

static volatile int *word;          /* how many messages have been received */

static void word_open(void)
{
    char name[64];
    int pid = getpid(), fd = -1;

    MPI_Bcast(&pid, 1, MPI_INT, 0, MPI_COMM_WORLD);
    snprintf(name, sizeof name, "/pinwheel-test-silent-%d", pid);
    if (rank == 0) {
        fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (fd < 0 || ftruncate(fd, 4096))
            MPI_Abort(MPI_COMM_WORLD, 3);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank != 0)
        fd = shm_open(name, O_RDWR, 0);
    word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0)
        shm_unlink(name);
    close(fd);
    if (word == MAP_FAILED)
        MPI_Abort(MPI_COMM_WORLD, 3);
}

static void need_the_kernel(void)
{
    struct { long pid, at; } theirs, mine = { getpid(), (long)(intptr_t)&rank };
    int copy, err = 0, worst;

    MPI_Sendrecv(&mine, 2, MPI_LONG, !rank, 9, &theirs, 2, MPI_LONG, !rank, 9, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    struct iovec to = { &copy, sizeof copy };
    struct iovec from = { (void *)(intptr_t)theirs.at, sizeof copy };
    if (process_vm_readv((pid_t)theirs.pid, &to, 1, &from, 1, 0) < 0)
        err = errno;
    MPI_Allreduce(&err, &worst, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (worst)
        story_skip("process_vm_readv between two ranks is refused here");
}

/* Some arithmetic, until the other one has received or patience is at an end. */
static bool compute_until(int count)
{
    volatile uint64_t x = 1;

    for (double end = now() + PATIENCE; *word < count;) {
        for (int i = 0; i < 1000; i++)
            x = x * 3 + 1;
        if (now() > end)
            return false;
    }
    return true;
}

static void send_and_compute(size_t len, int i)
{
    unsigned char *buf = malloc(len);
    MPI_Request r;

    fill(buf, len, len + (uint64_t)i);
    MPI_Isend(buf, (int)len, MPI_BYTE, 1, 1, MPI_COMM_WORLD, &r);
    expect(compute_until(i + 1), "message %d of %zu bytes waited for its sender", i, len);
    MPI_Wait(&r, MPI_STATUS_IGNORE);
    memset(buf, 0x5a, len);         /* nobody reads it any more */
    free(buf);
    MPI_Barrier(MPI_COMM_WORLD);
}

static void receive(size_t len, int i)
{
    unsigned char *buf = malloc(len);

    MPI_Recv(buf, (int)len, MPI_BYTE, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    same(buf, len, len + (uint64_t)i, "message %d of %zu bytes", i, len);
    *word = i + 1;
    MPI_Barrier(MPI_COMM_WORLD);
    same(buf, len, len + (uint64_t)i, "message %d of %zu bytes, later", i, len);
    free(buf);
}

static void messages(size_t len)
{
    for (int i = 0; i < TIMES; i++) {
        if (rank == 0)
            send_and_compute(len, i);
        else
            receive(len, i);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    *word = 0;
    MPI_Barrier(MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
    static const size_t lens[] = { 100000, 1 << 20, 9999999 };

    story_open(&argc, &argv, MPI_THREAD_SINGLE, 100);
    if (size != 2)
        story_skip("two ranks are needed");
    need_the_kernel();
    word_open();
    for (int i = 0; i < 3; i++)
        if (story("%zu bytes", lens[i]))
            messages(lens[i]);
    return story_close();
}
