/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_init.c - how long MPI takes to start and to end.
 *
 * Start at pw_init_run(). Each rank times its MPI_Init and its MPI_Finalize; the
 * largest sum counts. MPI cannot gather them, for it has ended by then: rank 0 listens
 * on a datagram socket, whose name is made of what the ranks of one host have in
 * common before any MPI: the process that started them.
 */
#include <errno.h>
#include <mpi.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "pwbench_tests.h"

enum { TAG_RING = 5, PATIENCE_S = 10 };

/* An abstract name leaves no file behind; unix(7). */
static socklen_t address_of_job(struct sockaddr_un *a)
{
    int len;

    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    len = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "pwbench-init-%ld",
                   (long)getppid());
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
}

/* A socket, or -errno. */
static int ear_open(void)
{
    struct timeval patience = { PATIENCE_S, 0 };
    struct sockaddr_un name;
    socklen_t len = address_of_job(&name);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), err;

    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) ||
        bind(fd, (struct sockaddr *)&name, len)) {
        err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

/* Rank 0: what the others took. How many of them spoke; the largest in *most. */
static int hear(int ear, int others, double *most)
{
    double took;
    int n = 0;

    while (n < others && recv(ear, &took, sizeof took, 0) == sizeof took) {
        n++;
        if (took > *most)
            *most = took;
    }
    return n;
}

/* MPI_Finalize may return before rank 0 has come to ear_open(). */
static int tell(double took)
{
    struct timeval patience = { PATIENCE_S, 0 };
    struct timespec pause = { 0, 5 * 1000 * 1000 };
    struct sockaddr_un name;
    socklen_t len = address_of_job(&name);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), err;
    double until = pw_clock_s() + PATIENCE_S;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    do {
        err = sendto(fd, &took, sizeof took, 0, (struct sockaddr *)&name, len) < 0 ? -errno
                                                                                  : 0;
        if (err == -ECONNREFUSED)
            nanosleep(&pause, NULL);
    } while (err == -ECONNREFUSED && pw_clock_s() < until);
    close(fd);
    return err;
}

/* A number goes round and each rank adds one: is there a way to each neighbour? */
static bool ring_works(int rank, int ranks)
{
    int number = 1, next = (rank + 1) % ranks, before = (rank + ranks - 1) % ranks;

    if (ranks == 1)
        return true;
    if (rank == 0)
        MPI_Send(&number, 1, MPI_INT, next, TAG_RING, MPI_COMM_WORLD);
    MPI_Recv(&number, 1, MPI_INT, before, TAG_RING, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (rank == 0)
        return number == ranks;
    number++;
    MPI_Send(&number, 1, MPI_INT, next, TAG_RING, MPI_COMM_WORLD);
    return true;
}

static void print_result(double seconds, bool checked)
{
    const struct pw_test_info *t = &pw_test_info[PW_INIT];

    printf("# pwbench %s Test\n", t->title);
    if (checked)
        puts("# Data verified");
    printf("%-10s%18s\n%-10d%18.2f\n", "# Size", t->column, 0, seconds * 1e3);
    fflush(stdout);
}

/* After MPI_Finalize. The exit code. */
static int report(int rank, int ranks, int ear, double took, bool checked)
{
    int err, heard;

    if (rank != 0) {
        err = tell(took);
        if (err)
            fprintf(stderr, "pwbench: init: rank %d cannot tell its time to rank 0, with "
                    "which it must share a host and the process that started both: %s\n",
                    rank, strerror(-err));
        return err ? PW_BENCH_FAILED : 0;
    }
    heard = hear(ear, ranks - 1, &took);
    close(ear);
    if (heard < ranks - 1) {
        fprintf(stderr,
                "pwbench: init: only %d of %d ranks told their time; all must share "
                "a host and the process that started them\n",
                heard + 1, ranks);
        return PW_BENCH_FAILED;
    }
    print_result(took, checked);
    return 0;
}

int pw_init_run(const struct pw_single_options *o)
{
    double start = pw_clock_s(), took;
    int rank, ranks, ear = -1;
    bool works = true;

    MPI_Init(NULL, NULL);
    took = pw_clock_s() - start;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (rank == 0 && (ear = ear_open()) < 0) {
        fprintf(stderr, "pwbench: init: no socket: %s\n", strerror(-ear));
        MPI_Abort(MPI_COMM_WORLD, PW_BENCH_FAILED);
    }
    if (!pw_require(o, rank)) {
        MPI_Finalize();
        return PW_BENCH_USAGE;
    }
    if (o->check)
        works = ring_works(rank, ranks);
    if (!works) {
        fprintf(stderr, "pwbench: wrong data: init: a number did not go round %d ranks\n",
                ranks);
        MPI_Abort(MPI_COMM_WORLD, PW_BENCH_FAILED);
    }

    start = pw_clock_s();
    MPI_Finalize();
    took += pw_clock_s() - start;
    return report(rank, ranks, ear, took, o->check);
}
