/* SPDX-License-Identifier: BSD-3-Clause */
/* hold.c - registers memory and keeps it, so that others can look.
 *
 *     hold BYTES FILE
 *
 * Each rank makes a window of BYTES, prints "holds PID", or "refused PID" when it is not
 * pinned in all of them, and stays in MPI until there is a file of that name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "counters.h"
#include "story.h"

int main(int argc, char **argv)
{
    size_t len = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    const char *until = argc > 2 ? argv[2] : "";
    int one = 1, flag, pinned;
    MPI_Win win;
    void *base;

    story_open(&one, &argv, MPI_THREAD_SINGLE, 200);
    story("hold %zu", len);
    base = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MPI_Win_create(base, (MPI_Aint)len, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    pinned = counter("btl_pinwheel_cache_pinned_bytes") >= len;
    MPI_Allreduce(MPI_IN_PLACE, &pinned, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    printf("%s %d\n", pinned ? "holds" : "refused", (int)getpid());
    fflush(stdout);
    while (access(until, F_OK)) {
        MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
        nap(0.001);
    }
    MPI_Win_free(&win);
    return story_close();
}
