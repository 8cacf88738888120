/* SPDX-License-Identifier: BSD-3-Clause */
/* connect.c - two jobs, started by two mpiruns, that meet through a port.
 *
 *     connect accept FILE     makes the port, leaves its name in FILE
 *     connect connect FILE    waits for FILE
 *
 * They meet three times over the same port, each time with traffic both ways,
 * and part in good order. With a third argument the story is a sad one:
 *
 *     ... FILE dies       after traffic, all ranks of this job die at once
 *     ... FILE survives   the other job goes on among its own ranks
 */
#include "story.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LARGEST = 4 << 20, MEETINGS = 3 };

static const int lens[] = { 0, 8, 5000, 70000, 1 << 20, LARGEST };

static void write_port(const char *file, const char *port)
{
    char tmp[512];
    FILE *f;

    snprintf(tmp, sizeof tmp, "%s.new", file);
    f = fopen(tmp, "w");
    if (!f || fputs(port, f) < 0 || fclose(f) || rename(tmp, file)) {
        perror(file);
        MPI_Abort(MPI_COMM_WORLD, 4);
    }
}

static void read_port(const char *file, char *port)
{
    for (int i = 0; i < 300; i++) {
        FILE *f = fopen(file, "r");
        if (f && fgets(port, MPI_MAX_PORT_NAME, f)) {
            fclose(f);
            return;
        }
        nap(0.1);
    }
    fprintf(stderr, "no port in %s after 30 s\n", file);
    MPI_Abort(MPI_COMM_WORLD, 4);
}

static void traffic(MPI_Comm inter, bool accepts, enum mem mem)
{
    int others;
    char *s = mem_get(mem, LARGEST), *r = mem_get(mem, LARGEST);

    MPI_Comm_remote_size(inter, &others);
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        for (int o = 0; o < others; o++) {
            MPI_Request q[2];
            size_t len = (size_t)lens[i];

            fill(s, len, mix((uint64_t)(rank * 50 + o), accepts));
            memset(r, 0, len);
            MPI_Irecv(r, lens[i], MPI_CHAR, o, 6, inter, &q[0]);
            MPI_Isend(s, lens[i], MPI_CHAR, o, 6, inter, &q[1]);
            MPI_Waitall(2, q, MPI_STATUSES_IGNORE);
            same(r, len, mix((uint64_t)(o * 50 + rank), !accepts), "%d bytes between jobs, %s",
                 lens[i], mem_name(mem));
        }
    }
    mem_put(mem, s);
    mem_put(mem, r);
}

/* Traffic among our own ranks, for some seconds. */
static void own_traffic(double seconds)
{
    int left = (rank + size - 1) % size, right = (rank + 1) % size, go = 1, i = 0;
    char *s = malloc(LARGEST), *r = malloc(LARGEST);

    for (double end = now() + seconds; go; i++) {
        size_t n = sizeof lens / sizeof lens[0];
        int len = lens[(size_t)i % n];

        fill(s, (size_t)len, mix((uint64_t)rank, (uint64_t)i));
        MPI_Sendrecv(s, len, MPI_CHAR, right, 7, r, len, MPI_CHAR, left, 7, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
        same(r, (size_t)len, mix((uint64_t)left, (uint64_t)i), "own traffic, round %d", i);
        go = now() < end;
        MPI_Bcast(&go, 1, MPI_INT, 0, MPI_COMM_WORLD);
    }
    free(s);
    free(r);
}

int main(int argc, char **argv)
{
    char port[MPI_MAX_PORT_NAME] = "";
    const char *file = argc > 2 ? argv[2] : "", *fate = argc > 3 ? argv[3] : "";
    bool accepts = argc > 1 && strcmp(argv[1], "accept") == 0;
    int one = 1;

    story_open(&one, &argv, MPI_THREAD_SINGLE, 60);
    if (!*file)
        story_skip("connect wants accept or connect, and a file");
    if (accepts && rank == 0) {
        MPI_Open_port(MPI_INFO_NULL, port);
        write_port(file, port);
    } else if (rank == 0) {
        read_port(file, port);
    }
    for (int i = 0; i < MEETINGS; i++) {
        MPI_Comm inter;

        story("meeting %d", i + 1);
        if (accepts)
            MPI_Comm_accept(port, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &inter);
        else
            MPI_Comm_connect(port, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &inter);
        traffic(inter, accepts, MEM_MALLOC);
        traffic(inter, accepts, MEM_POOL);
        if (strcmp(fate, "dies") == 0) {
            MPI_Barrier(MPI_COMM_WORLD);
            nap(0.5);
            raise(SIGKILL);
        }
        if (strcmp(fate, "survives") == 0) {
            story("after the other job's death");
            own_traffic(4);
            /* The communicator cannot be disconnected any more, and MPI_Finalize
             * would wait for the dead: say how it went and leave. */
            MPI_Barrier(MPI_COMM_WORLD);
            if (rank == 0)
                printf("survived\n");
            fflush(stdout);
            return story_close();
        }
        MPI_Comm_disconnect(&inter);
    }
    if (accepts && rank == 0)
        MPI_Close_port(port);
    return story_close();
}
