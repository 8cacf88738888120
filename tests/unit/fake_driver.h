/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_driver.h - /dev/pinwheel as a test wants it: what pinwheel/kdriver.h says of
 * control descriptors and watches, in this process. What changes memory is said by
 * fake_driver_change(); what goes wrong, by the fields. */
#ifndef PW_FAKE_DRIVER_H
#define PW_FAKE_DRIVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pinwheel/kdriver.h"
#include "regcache/kdriver.h"

enum { FAKE_SLOTS = 4096 * 2, FAKE_CONTROLS = 8 };

struct fake_watch {
    bool taken;
    struct pw_kd_watch arg;
};

/* Open while fd >= 0. */
struct fake_control {
    int fd;
    pid_t owner;                /* in other processes it is a copy of no effect */
    uint64_t id;
    uint64_t *words;
    struct fake_watch watch[FAKE_SLOTS];
};

struct fake_driver {
    struct fake_control control[FAKE_CONTROLS];
    pthread_mutex_t lock;
    uint64_t ids;

    int open_error, info_error, map_error;      /* of all that follow */
    int watch_error, watch_errors;              /* so many times */
    int watch_interrupts;
    bool read_only;             /* who asks for WRITE is answered EACCES */
    uint32_t version, services;
    uint64_t words_bytes;       /* as PW_KD_INFO says it */
    uint32_t answers_slot;      /* not 0: WATCH does */
    int opens, closes, watches, drops, foreign;
};

extern struct fake_driver fake_driver;
extern const struct pw_kdriver_sys fake_driver_sys;

void fake_driver_reset(void);

/* Somewhere, all of it or part of it changes: every slot that overlaps moves. */
void fake_driver_change(uintptr_t start, uintptr_t end, enum pw_kd_event event);

/* The program closes a descriptor that is not its own. */
void fake_driver_close(int fd);

/* The last one opened, or NULL. */
struct fake_control *fake_driver_control(void);

#endif
