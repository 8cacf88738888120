/* SPDX-License-Identifier: BSD-3-Clause */
/* pinned.c - what a pool of /dev/pinwheel does, told story by story, inside a guest.
 *
 *     pinned [STORY...]       all of them without arguments
 *     pinned --hold descriptor, pinned --hold mapping
 *                             have nothing but that of a pool, say so, and wait
 *
 * Each story is a process of its own; "RIGHT name" or "WRONG name" on stdout tells how
 * it went, lines before it what was wrong. A story that crashes or hangs is wrong, and
 * so is one after which the driver still has a pool, a page of one or a byte on a
 * user's account.
 */
#define _GNU_SOURCE
#include "pinned.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int control(void)
{
    static int fd = -1;

    if (fd < 0)
        fd = open(PW_KD_PATH, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        give_up(PW_KD_PATH);
    return fd;
}

int pool_make(size_t size)
{
    struct pw_kd_pool pool = { .size = size };

    if (ioctl(control(), PW_KD_POOL, &pool))
        give_up("PW_KD_POOL");
    return pool.fd;
}

char *pool_map(int fd, size_t size)
{
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED)
        give_up("mmap");
    return p;
}

int fill_node(int fd, size_t offset, size_t len, int node)
{
    struct pw_kd_part part = { .offset = offset, .len = len, .node = node };

    return ioctl(fd, PW_KD_FILL, &part) ? -errno : 0;
}

int fill(int fd, size_t offset, size_t len)
{
    return fill_node(fd, offset, len, -1);
}

int drain(int fd, size_t offset, size_t len)
{
    struct pw_kd_part part = { .offset = offset, .len = len };

    return ioctl(fd, PW_KD_DRAIN, &part) ? -errno : 0;
}

size_t filled(int fd)
{
    struct pw_kd_pool_info info;

    if (ioctl(fd, PW_KD_POOL_INFO, &info))
        give_up("PW_KD_POOL_INFO");
    return info.filled;
}

void paint(char *p, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i += sizeof seed)
        *(uint64_t *)(p + i) = seed + i * STEP;
}

bool painted(const char *p, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i += sizeof seed)
        if (*(const uint64_t *)(p + i) != seed + i * STEP)
            return false;
    return true;
}

bool zero(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i += sizeof(uint64_t))
        if (*(const uint64_t *)(p + i))
            return false;
    return true;
}

/* Of the mapping that starts there. */
long smaps_kib(const void *p, const char *field)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512];
    bool here = false;
    unsigned long start;
    long kib = -1;
    int at;

    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%*x %n", &start, &at) == 1 && line[0] <= 'f' && strchr(line, '-') &&
            strchr(line, '-') < strchr(line, ' '))
            here = start == (unsigned long)p;
        else if (here && !strncmp(line, field, strlen(field)) && line[strlen(field)] == ':')
            kib = strtol(line + strlen(field) + 1, NULL, 10);
    }
    if (f)
        fclose(f);
    return kib;
}

/* The last descriptor of a process that was killed may be closed after it was waited
 * for. */
static bool nothing_left(void)
{
    for (int tries = 0; tries < 600; tries++) {
        if (!counter("pools") && !counter("pool_pages") && !counter("controls"))
            return true;
        usleep(100000);
    }
    printf("left: %ld pools, %ld pages, %ld control descriptors\n", counter("pools"),
           counter("pool_pages"), counter("controls"));
    return false;
}

static uint64_t on_account(void)
{
    struct pw_kd_info info;
    int fd = open(PW_KD_PATH, O_RDWR | O_CLOEXEC);

    if (fd < 0 || ioctl(fd, PW_KD_INFO, &info))
        give_up("PW_KD_INFO");
    close(fd);
    return info.user_bytes;
}

static void tell(void *arg)
{
    const struct story *s = arg;

    s->tell();
}

static bool right(const struct story *s)
{
    int status = ended(child(tell, (void *)s));

    if (WIFSIGNALED(status))
        printf("ended by signal %d\n", WTERMSIG(status));
    if (status || !nothing_left())
        return false;
    if (on_account())
        printf("%llu bytes on the account\n", (unsigned long long)on_account());
    return !on_account();
}

static int hold(const char *what)
{
    int fd = pool_make(4 * UNIT);

    if (fill(fd, 0, 4 * UNIT))
        give_up("PW_KD_FILL");
    if (!strcmp(what, "mapping")) {
        paint(pool_map(fd, 4 * UNIT), 4 * UNIT, 1);
        close(fd);
    }
    close(control());
    printf("%s\n", what);
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    int wrong = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3 && !strcmp(argv[1], "--hold"))
        return hold(argv[2]);
    for (const struct story *s = stories; s->name; s++) {
        bool wanted = argc < 2;

        for (int i = 1; i < argc; i++)
            wanted |= !strcmp(argv[i], s->tag);
        if (!wanted)
            continue;
        if (right(s)) {
            printf("RIGHT %s\n", s->name);
        } else {
            printf("WRONG %s\n", s->name);
            wrong++;
        }
    }
    return wrong != 0;
}
