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
#include "tests/vm/told.h"

#define MIB ((size_t)1 << 20)
#define UNIT (2 * MIB)
#define PAGE ((size_t)4096)

struct story {
    const char *tag, *name;
    void (*tell)(void);
};
extern const struct story stories[];    /* the last one has no name */

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

long smaps_kib(const void *p, const char *field);       /* of the mapping at p */

/* pinned_pins.c */
void copied_by_others(void);
void written_directly(void);
void registered_for_io(void);
void registered_with_a_nic(void);
void outlives_the_pool(void);

#endif
