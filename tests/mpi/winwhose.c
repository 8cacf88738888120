/* SPDX-License-Identifier: BSD-3-Clause */
/* winwhose.c - which of Open MPI's components made a window of MPI_Win_allocate: that of
 * all ranks of one host is a file, mapped, with the component's name in its own.
 */
#include <mpi.h>
#include <stdio.h>
#include <string.h>

static const char *whose(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    const char *name = "nobody's";
    char line[4096];

    while (maps && fgets(line, sizeof line, maps)) {
        if (strstr(line, "/osc_sm.") || strstr(line, "osc_sm."))
            name = "osc/sm";
        else if (strstr(line, "osc_rdma."))
            name = "osc/rdma";
    }
    if (maps)
        fclose(maps);
    return name;
}

int main(int argc, char **argv)
{
    long *part, mine = 41, got = 0;
    int rank, size;
    MPI_Win win;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Win_allocate(sizeof *part, sizeof *part, MPI_INFO_NULL, MPI_COMM_WORLD, &part, &win);
    MPI_Win_lock_all(0, win);
    *part = 0;
    MPI_Win_sync(win);
    MPI_Barrier(MPI_COMM_WORLD);
    mine += rank;
    MPI_Put(&mine, 1, MPI_LONG, (rank + 1) % size, 0, 1, MPI_LONG, win);
    MPI_Win_flush((rank + 1) % size, win);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Get(&got, 1, MPI_LONG, rank, 0, 1, MPI_LONG, win);
    MPI_Win_flush(rank, win);
    MPI_Win_unlock_all(win);
    if (got != 41 + (rank + size - 1) % size) {
        printf("rank %d: %ld was put there\n", rank, got);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    printf("window: %s\n", whose());
    MPI_Win_free(&win);
    MPI_Finalize();
    return 0;
}
