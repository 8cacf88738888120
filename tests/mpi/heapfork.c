/* SPDX-License-Identifier: BSD-3-Clause */
/* heapfork.c - a rank forks while its malloc()ed buffers travel: the child has
 * what the parent had at that moment, the peers get what they were sent, and
 * programs are started as ever.
 *
 * Meant for libpinwheel-malloc, where those buffers are memory that the peers have
 * mapped; true without it as well.
 */
#include "story.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LEN = 3 << 20 };
static char *out, *in;
static int right, left;

static void ended_well(pid_t pid, const char *who)
{
    int status = -1;

    expect(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "%s: pid %d, status %d",
           who, (int)pid, status);
}

static uint64_t seed_of(int r, int i)
{
    return mix((uint64_t)r, (uint64_t)i);
}

static void exchange(int i, MPI_Request q[2])
{
    MPI_Irecv(in, LEN, MPI_CHAR, left, i, MPI_COMM_WORLD, &q[0]);
    MPI_Isend(out, LEN, MPI_CHAR, right, i, MPI_COMM_WORLD, &q[1]);
}

/* The child looks when the parent's buffer is another one's long since. */
static void children_see_what_was(void)
{
    for (int i = 0; i < 6; i++) {
        int up[2];
        char c;
        MPI_Request q[2];
        pid_t pid;

        expect(!pipe(up), "pipe");
        fill(out, LEN, seed_of(rank, i));
        exchange(i, q);
        pid = fork();
        if (pid == 0) {
            close(up[1]);
            bool well = read(up[0], &c, 1) == 1 && same(out, LEN, seed_of(rank, i), "the child");
            memset(out, 1, LEN);
            _exit(!well);
        }
        MPI_Waitall(2, q, MPI_STATUSES_IGNORE);
        same(in, LEN, seed_of(left, i), "message %d", i);
        memset(out, 2, LEN);
        expect(write(up[1], "", 1) == 1, "the child is gone");
        ended_well(pid, "the child");
        expect(all_bytes(out, LEN, 2), "the child wrote to the parent's buffer");
        close(up[0]);
        close(up[1]);
    }
}

/* While peers copy out of the buffers. */
static void programs_are_started(void)
{
    for (int i = 0; i < 5; i++) {
        MPI_Request q[2];

        fill(out, LEN, seed_of(rank, 100 + i));
        exchange(i, q);
        expect(system("exit 3") >> 8 == 3, "system");
        FILE *f = popen("echo 42", "r");
        int n = 0;
        expect(f && fscanf(f, "%d", &n) == 1 && n == 42 && pclose(f) == 0, "popen");
        pid_t pid = fork();
        if (pid == 0) {
            execlp("true", "true", NULL);
            _exit(1);
        }
        ended_well(pid, "true");
        MPI_Waitall(2, q, MPI_STATUSES_IGNORE);
        same(in, LEN, seed_of(left, 100 + i), "message %d", i);
    }
}

/* Buffers are freed and others taken between messages. */
static void buffers_come_and_go(void)
{
    for (int i = 0; i < 40; i++) {
        size_t len = 20000 + (size_t)i * 50000;
        char *s = malloc(len), *r = calloc(1, len);
        MPI_Request q[2];

        fill(s, len, seed_of(rank, i));
        MPI_Irecv(r, (int)len, MPI_CHAR, left, 0, MPI_COMM_WORLD, &q[0]);
        MPI_Isend(s, (int)len, MPI_CHAR, right, 0, MPI_COMM_WORLD, &q[1]);
        MPI_Waitall(2, q, MPI_STATUSES_IGNORE);
        same(r, len, seed_of(left, i), "%zu bytes", len);
        r = realloc(r, 2 * len);
        same(r, len, seed_of(left, i), "%zu bytes, moved", len);
        free(s);
        free(r);
    }
}

static const struct { const char *name; void (*run)(void); } stories[] = {
    { "children_see_what_was", children_see_what_was },
    { "programs_are_started", programs_are_started },
    { "buffers_come_and_go", buffers_come_and_go },
};

int main(int argc, char **argv)
{
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 60);
    right = (rank + 1) % size;
    left = (rank + size - 1) % size;
    out = malloc(LEN);
    in = malloc(LEN);
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++)
        if (story("%s", stories[i].name))
            stories[i].run();
    free(out);
    free(in);
    return story_close();
}
