/* SPDX-License-Identifier: BSD-3-Clause */
/* pinned.h - what the stories about a driver's pool share: pinned.c tells them,
 * pinned_stories.c and pinned_pins.c are the stories.
 */
#ifndef TESTS_VM_PINNED_H
#define TESTS_VM_PINNED_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pinwheel/kdriver.h"

#define MIB ((size_t)1 << 20)
#define UNIT (2 * MIB)
#define PAGE ((size_t)4096)

struct story {
    const char *tag, *name;
    void (*tell)(void);
};
extern const struct story stories[];    /* the last one has no name */

/* A failure is counted, and the story goes on. */
#define expect(cond, ...) \
    do { \
        if (!(cond)) \
            fail(__FILE__, __LINE__, #cond, " " __VA_ARGS__); \
    } while (0)
void fail(const char *file, int line, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void give_up(const char *what) __attribute__((noreturn));   /* with errno's text */

/* A process of the story's, and its wait status. It exits 1 after failures. */
pid_t child(void (*run)(void *), void *arg);
int ended(pid_t pid);

int control(void);              /* this process's descriptor of the device */
int pool_make(size_t size);
char *pool_map(int fd, size_t size);
int fill(int fd, size_t offset, size_t len);
int fill_node(int fd, size_t offset, size_t len, int node);
int drain(int fd, size_t offset, size_t len);
size_t filled(int fd);          /* bytes */

/* Bytes that depend on seed and place; len is a multiple of 8. What is painted with s
 * is, from an offset o on, painted with s + o * STEP. */
#define STEP 0x9e3779b97f4a7c15u
void paint(char *p, size_t len, uint64_t seed);
bool painted(const char *p, size_t len, uint64_t seed);
bool zero(const char *p, size_t len);

long number_of(const char *path);
long counter(const char *name);                         /* the driver's */
long smaps_kib(const void *p, const char *field);       /* of the mapping at p */

/* pinned_pins.c */
void copied_by_others(void);
void written_directly(void);
void registered_for_io(void);
void registered_with_a_nic(void);
void outlives_the_pool(void);

#endif
