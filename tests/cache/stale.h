/* SPDX-License-Identifier: BSD-3-Clause */
/* stale.h - ways in which a program changes its memory behind a cache's back.
 *
 * A case makes a buffer; the runner (stale.c) gets it through the cache, so that
 * it is pinned and remembered; the case changes it and makes the memory there
 * again; the runner gets it once more and asks the oracle whether what is pinned
 * is what the program sees. What monitor is at work a case does not know.
 */
#ifndef PINWHEEL_TESTS_STALE_H
#define PINWHEEL_TESTS_STALE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { STALE_PAGE = 4096, STALE_PAGES = 16, STALE_LEN = STALE_PAGES * STALE_PAGE };

struct scene {
    unsigned char *addr;        /* the buffer, by make() */
    size_t len;
    unsigned char *part;        /* what of it change() changes: all of it, or some */
    size_t part_len;            /* pages in the middle */
    bool in_child;              /* change() forked, and this is the child */
    char why[160];              /* why the case cannot be tried here */
    int (*use)(struct scene *s);    /* get, ask the oracle, put: 0, -EIO if wrong */

    /* The cases' own. */
    int fd;
    void *object;
    unsigned char *other;
    pthread_t thread;
    int go[2], done[2];         /* pipes to and from a helper of the case */
    pid_t helper;
};

enum stale_trait {
    MOVES = 1 << 0,     /* other pages afterwards: a blind cache is caught by this */
    GONE = 1 << 1,      /* nothing is there afterwards: a get must refuse */
    WHOLE = 1 << 2,     /* cannot be done to a part of the buffer */
    FORKS = 1 << 3,     /* what follows happens in a child, which has one thread */
    PLAIN = 1 << 4,     /* private memory of a clean process: a monitor that sees
                         * anything must vouch for it before the change */
    FIRST = 1 << 5,     /* make() before there is any monitor */
};

/* make and change return 0, -errno, or 1 with s->why: cannot be tried here. */
struct stale_case {
    const char *id, *name;
    unsigned traits;
    int (*make)(struct scene *s);
    int (*change)(struct scene *s);
};

/* Each ends with one whose id is NULL. */
extern const struct stale_case stale_map_cases[], stale_advice_cases[],
    stale_heap_cases[], stale_file_cases[], stale_process_cases[], stale_raw_cases[],
    stale_odd_cases[];

/* A private anonymous buffer of STALE_LEN. */
int stale_make_private(struct scene *s);

/* Private anonymous memory, exactly there, where nothing may be. 0 or -errno. */
int stale_map_at(void *addr, size_t len);

/* The answer of a case that cannot be tried: 1. */
int stale_cannot(struct scene *s, const char *why);

/* dlopen an object that lies beside the program, into s->object. */
int stale_load(struct scene *s, const char *file);

/* A function of that object, to where a pointer to it is kept. */
int stale_find(struct scene *s, const char *name, void *function);

#endif
