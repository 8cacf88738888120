/* SPDX-License-Identifier: BSD-3-Clause */
/* frames.h - where the functions of a loaded object begin and end.
 *
 * Read from what every object carries for unwinding its stack (.eh_frame_hdr). An
 * object must stay loaded meanwhile. Allocates nothing.
 */
#ifndef PINWHEEL_FRAMES_H
#define PINWHEEL_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pw_frames {
    const unsigned char *header;
    const int32_t *table;       /* pairs of start and description, as offsets */
    size_t count;
};

/* header, size: the object's PT_GNU_EH_FRAME, as loaded. false: not of the kind
 * that linkers for this machine write. */
bool pw_frames_open(struct pw_frames *f, const void *header, size_t size);

/* The number of the last function that starts at or before addr; -1: none. */
long pw_frames_find(const struct pw_frames *f, uintptr_t addr);

uintptr_t pw_frames_start(const struct pw_frames *f, size_t number);

/* Where it ends; 0 when that cannot be read. */
uintptr_t pw_frames_end(const struct pw_frames *f, size_t number);

#endif
