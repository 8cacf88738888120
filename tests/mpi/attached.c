/* SPDX-License-Identifier: BSD-3-Clause */
/* attached.c - with the kernel driver, what goes between memory of malloc is copied once,
 * by attaching: told by counters, with the data checked.
 *
 * Ranks work in pairs. The environment says what to expect:
 *
 *     PW_TEST_ATTACH    all: each long message and each access to a window is attached
 *                       some: those of regions that are not refused; right is all that
 *                             all have to be
 *                       none: nothing is
 *     PW_TEST_LOWER     a file: in mid-job 1 is written there, and from then on a user
 *                       may have so many MiB pinned
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "counters.h"
#include "story.h"

enum { LEN = 1 << 20, ROUNDS = 8 };

static const char *expected;
static uint64_t seed;

struct moved {
    unsigned long long attach, kernel, push, stream, attached, atomics, frames, refused;
};

static struct moved moved_now(void)
{
    return (struct moved){
        .attach = counter("btl_pinwheel_attach_bytes"),
        .kernel = counter("btl_pinwheel_kernel_bytes"),
        .push = counter("btl_pinwheel_push_bytes"),
        .stream = counter("btl_pinwheel_stream_bytes"),
        .attached = counter("btl_pinwheel_attached"),
        .atomics = counter("btl_pinwheel_atomics_direct"),
        .frames = counter("btl_pinwheel_atomics_frame"),
        .refused = counter("btl_pinwheel_cache_refused"),
    };
}

static struct moved start;

static void begin(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
    start = moved_now();
}

/* This rank has asked for so many bytes of memory outside of pools. */
static struct moved since(unsigned long long bytes)
{
    struct moved now = moved_now(), d = {
        .attach = now.attach - start.attach, .kernel = now.kernel - start.kernel,
        .push = now.push - start.push, .stream = now.stream - start.stream,
        .attached = now.attached - start.attached, .atomics = now.atomics - start.atomics,
        .frames = now.frames - start.frames, .refused = now.refused - start.refused,
    };

    if (!strcmp(expected, "all")) {
        expect(d.attach == bytes, "%llu of %llu bytes were attached", d.attach, bytes);
        expect(!d.kernel && !d.stream && !d.push,
               "%llu bytes by the kernel, %llu streamed, %llu pushed", d.kernel, d.stream,
               d.push);
    } else if (!strcmp(expected, "none")) {
        expect(!d.attach && !d.attached, "%llu bytes were attached", d.attach);
    }
    return d;
}

static void pass(int turn, char *buf, char *landing, size_t len)
{
    uint64_t s = mix(++seed, (uint64_t)(rank & ~1));

    if (turn == (rank & 1)) {
        fill(buf, len, s);
        MPI_Ssend(buf, (int)len, MPI_CHAR, rank ^ 1, 1, MPI_COMM_WORLD);
    } else {
        memset(landing, 0x5a, len);
        MPI_Recv(landing, (int)len, MPI_CHAR, rank ^ 1, 1, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
        same(landing, len, s, "%zu bytes", len);
    }
}

static void same_buffer(int turn, size_t len)
{
    char *buf = malloc(len), *landing = malloc(len);
    bool asks = turn != (rank & 1);
    struct moved d;

    begin();
    for (int i = 0; i < ROUNDS; i++)
        pass(turn, buf, landing, len);
    d = since(asks ? (unsigned long long)ROUNDS * len : 0);
    if (!strcmp(expected, "all") && asks)
        expect(d.attached == 1, "%llu regions were attached for one", d.attached);
    MPI_Barrier(MPI_COMM_WORLD);
    free(buf);
    free(landing);
}

/* Its address comes again, its pages do not. */
static void new_each_time(int turn)
{
    char *landing = malloc(LEN);

    begin();
    for (int i = 0; i < ROUNDS; i++) {
        char *buf = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        pass(turn, buf, landing, LEN);
        munmap(buf, LEN);
    }
    since(turn != (rank & 1) ? (unsigned long long)ROUNDS * LEN : 0);
    free(landing);
}

/* First by whatever else there is, then attached. */
static void short_ones(int turn)
{
    enum { SHORT = 128 << 10 };
    char *buf = malloc(SHORT), *landing = malloc(SHORT);

    pass(turn, buf, landing, SHORT);
    begin();
    for (int i = 0; i < ROUNDS; i++)
        pass(turn, buf, landing, SHORT);
    since(turn != (rank & 1) ? (unsigned long long)ROUNDS * SHORT : 0);
    free(buf);
    free(landing);
}

static void window(int turn)
{
    int partner = rank ^ 1;
    char *base = malloc(LEN), *mine = malloc(LEN);
    uint64_t *sum = (uint64_t *)(void *)base, one = 1, got = 7;
    struct moved d;
    MPI_Win win;

    (void)turn;
    fill(mine, LEN, mix(5, (uint64_t)rank));
    memset(base, 0, LEN);
    MPI_Win_create(base, LEN, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_lock_all(0, win);
    begin();
    for (int i = 0; i < ROUNDS; i++)
        MPI_Fetch_and_op(&one, &got, MPI_UINT64_T, partner, 0, MPI_SUM, win);
    MPI_Win_flush(partner, win);
    d = since(0);
    if (!strcmp(expected, "all"))
        expect(d.atomics >= ROUNDS && !d.frames, "%llu atomics at once, %llu by frames",
               d.atomics, d.frames);
    MPI_Barrier(MPI_COMM_WORLD);
    expect(*sum == ROUNDS, "the sum is %llu", (unsigned long long)*sum);
    begin();
    MPI_Put(mine, LEN, MPI_CHAR, partner, 0, LEN, MPI_CHAR, win);
    MPI_Win_flush(partner, win);
    since(LEN);
    MPI_Barrier(MPI_COMM_WORLD);
    same(base, LEN, mix(5, (uint64_t)partner), "put");
    memset(mine, 0, LEN);
    begin();
    MPI_Get(mine, LEN, MPI_CHAR, partner, 0, LEN, MPI_CHAR, win);
    MPI_Win_flush(partner, win);
    since(LEN);
    same(mine, LEN, mix(5, (uint64_t)rank), "get");
    MPI_Win_unlock_all(win);
    MPI_Win_free(&win);
    free(base);
    free(mine);
}

/* Unpinning what is idle does not help: one buffer alone is above the limit. */
static void refused_in_mid_job(int turn)
{
    const char *file = getenv("PW_TEST_LOWER");
    char *old = malloc(2 * LEN), *landing = malloc(2 * LEN);
    struct moved d;

    begin();
    for (int i = 0; i < ROUNDS; i++)
        pass(turn, old, landing, 2 * LEN);
    d = since(0);
    expect(!d.attach == (turn == (rank & 1)), "%llu bytes were attached before", d.attach);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        int fd = open(file, O_WRONLY);
        expect(fd >= 0 && write(fd, "1\n", 2) == 2, "%s cannot be written", file);
        close(fd);
    }
    begin();
    for (int i = 0; i < ROUNDS; i++) {
        char *buf = mmap(NULL, 2 * LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                         -1, 0);
        pass(turn, buf, landing, 2 * LEN);
        munmap(buf, 2 * LEN);
    }
    d = since(0);
    expect(!d.attach, "%llu bytes were attached beyond the limit", d.attach);
    if (turn == (rank & 1))
        expect(d.refused >= ROUNDS, "%llu refusals of %d", d.refused, ROUNDS);
    MPI_Barrier(MPI_COMM_WORLD);
    free(old);
    free(landing);
}

static void tell(const char *name, void (*how)(int turn))
{
    for (int turn = 0; turn < 2; turn++)
        if (story("%s, rank %d sends", name, turn)) {
            how(turn);
            MPI_Barrier(MPI_COMM_WORLD);
        }
}

int main(int argc, char **argv)
{
    expected = getenv("PW_TEST_ATTACH");
    if (!expected)
        expected = "none";
    story_open(&argc, &argv, MPI_THREAD_SINGLE, 200);
    if (size % 2)
        story_skip("the ranks make pairs");
    if (getenv("PW_TEST_LOWER")) {
        if (story("refused in mid-job"))
            refused_in_mid_job(0);
        return story_close();
    }
    for (int turn = 0; turn < 2; turn++)
        if (story("1 MiB from one buffer, rank %d sends", turn))
            same_buffer(turn, LEN);
    for (int turn = 0; turn < 2; turn++)
        if (story("9 MiB from one buffer, rank %d sends", turn))
            same_buffer(turn, 9 * LEN + 4711);
    tell("1 MiB from memory that is always new", new_each_time);
    tell("128 KiB from the second time on", short_ones);
    tell("a window", window);
    return story_close();
}
