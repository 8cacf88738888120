/* SPDX-License-Identifier: BSD-3-Clause */
/* told.h - for programs that run with libpinwheel-malloc preloaded: say what is
 * wrong, and what the library tells of itself. */
#ifndef PW_TEST_TOLD_H
#define PW_TEST_TOLD_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pinwheel/malloc.h"

#pragma weak pw_malloc_describe

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

/* In a child of fork() too: without the buffers of stdio. */
__attribute__((format(printf, 1, 2), noreturn))
static inline void die(const char *format, ...)
{
    char line[400];
    va_list ap;
    int n;

    va_start(ap, format);
    n = vsnprintf(line, sizeof line - 1, format, ap);
    va_end(ap);
    line[n++] = '\n';
    (void)!write(STDERR_FILENO, line, (size_t)n);
    _exit(1);
}

#define expect(what, ...) do { if (!(what)) die(__VA_ARGS__); } while (0)

static inline struct pw_malloc_info told(void)
{
    struct pw_malloc_info info;

    expect(pw_malloc_describe, "the library is not there");
    pw_malloc_describe(&info);
    return info;
}

/* A byte for each place and seed, other than the neighbours'. */
static inline unsigned char byte_of(uint64_t seed, size_t at)
{
    return (unsigned char)((at * 0x9e3779b97f4a7c15u + seed * 0xbf58476d1ce4e5b9u) >> 40);
}

static inline void fill(void *p, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++)
        ((unsigned char *)p)[i] = byte_of(seed, i);
}

static inline void same(const void *p, size_t len, uint64_t seed, const char *what)
{
    for (size_t i = 0; i < len; i++)
        if (((const unsigned char *)p)[i] != byte_of(seed, i))
            die("%s: byte %zu of %zu is %u, not %u", what, i, len,
                ((const unsigned char *)p)[i], byte_of(seed, i));
}

static inline void all_zero(const void *p, size_t len, const char *what)
{
    for (size_t i = 0; i < len; i++)
        expect(!((const unsigned char *)p)[i], "%s: byte %zu is not 0", what, i);
}

static inline uint64_t draw(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* KiB in /proc/self/status. */
static inline long status_kib(const char *name)
{
    char line[128];
    long kib = -1;
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
            kib = atol(line + strlen(name) + 1);
    if (f)
        fclose(f);
    return kib;
}

struct told_story {
    const char *name;
    void (*run)(void);
};

static inline int told_main(int argc, char **argv, const struct told_story *stories, size_t n)
{
    for (size_t i = 0; i < n && argc == 2; i++)
        if (!strcmp(argv[1], stories[i].name)) {
            stories[i].run();
            return 0;
        }
    fprintf(stderr, "which story?\n");
    return 2;
}

#endif
