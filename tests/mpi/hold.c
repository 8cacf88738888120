/* SPDX-License-Identifier: BSD-3-Clause */
/* hold.c - registers memory and keeps it, so that others can look.
 *
 *     hold BYTES FILE
 *
 * Each rank makes a window of BYTES, prints "holds PID", or "refused PID" when it
 * cannot, and stays in MPI until there is a file of that name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "story.h"

int main(int argc, char **argv)
{
    size_t len = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    const char *until = argc > 2 ? argv[2] : "";
    MPI_Win win = MPI_WIN_NULL;
    int one = 1, flag;
    void *base;

    story_open(&one, &argv, MPI_THREAD_SINGLE, 200);
    story("hold %zu", len);
    base = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Win_create(base, (MPI_Aint)len, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
    printf("%s %d\n", win == MPI_WIN_NULL ? "refused" : "holds", (int)getpid());
    fflush(stdout);
    while (access(until, F_OK)) {
        MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
        nap(0.001);
    }
    if (win != MPI_WIN_NULL)
        MPI_Win_free(&win);
    return story_close();
}
