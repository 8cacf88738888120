/* SPDX-License-Identifier: BSD-3-Clause */
/* costs_file.h - what was measured on this host, kept in a file: by pwbench calibrate, or
 * by the first job where that was never run.
 *
 * One file for each host and user, $XDG_CACHE_HOME/pinwheel/costs-HOST, or below
 * ~/.cache. Text: a first line with the format's version, a line for each thing
 * known (a word, then its numbers or text), and a last line with a sum over all before
 * it. Whoever reads it believes nothing: a file of another host or CPU, of another
 * version, cut or changed by hand is refused with a sentence, and the built-in costs
 * serve instead. It is replaced as a whole (rename(2)), so readers see the old one or
 * the new one; pwbench calibrate replaces any, a job only what is of no use.
 */
#ifndef PW_COSTS_FILE_H
#define PW_COSTS_FILE_H

#include <stdbool.h>

#include "costs.h"

enum {
    PW_CALIB_TEXT = 128, PW_CALIB_PATH = 4096, PW_CALIB_WHY = 320,
    PW_CALIB_CHUNKS = 5, PW_CALIB_QUEUES = 3, PW_CALIB_PAIRS = 1024,
};

#define PW_CALIB_BY_TOOL "pwbench calibrate"
#define PW_CALIB_BY_JOB "a job"

/* The sizes of the pieces and the queues in `ring`, in bytes. */
extern const uint64_t pw_calib_chunks[PW_CALIB_CHUNKS];
extern const uint64_t pw_calib_queues[PW_CALIB_QUEUES];

struct pw_calib_pair {
    uint64_t a, b, ns;          /* two CPUs; a cache line from one to the other */
};

/* Times in nanoseconds; 0: not known. */
struct pw_calibration {
    char host[PW_CALIB_TEXT], cpu[PW_CALIB_TEXT], kernel[PW_CALIB_TEXT];
    char taken[PW_CALIB_TEXT];  /* ISO 8601, UTC */
    char by[PW_CALIB_TEXT];     /* PW_CALIB_BY_JOB: the few things that a job measures */
    struct pw_costs costs;
    uint64_t chunk;             /* the best piece of a stream, bytes */
    uint64_t ring[PW_CALIB_QUEUES][PW_CALIB_CHUNKS];    /* 1 MiB streamed */
    /* memcpy and stores past the cache, of so many bytes as a curve's points: from
     * memory that this core has just written, that another one has, that none has. */
    struct pw_cost_curve copy_own, copy_other, copy_none;
    struct pw_cost_curve past_own, past_other, past_none;
    uint64_t wake;              /* a process that sleeps in futex(2) is woken */
    uint64_t map, touch;        /* 2 MiB of shared memory: mapped; touched first */
    uint64_t n_pairs;
    struct pw_calib_pair pairs[PW_CALIB_PAIRS];
};

/* Who we are: host, cpu and kernel of c; and taken: now. */
void pw_calib_identify(struct pw_calibration *c);
void pw_calib_stamp(struct pw_calibration *c);

/* Where this host's file is. 0, or -ENOENT: this user has no home directory;
 * -ENAMETOOLONG. */
int pw_calib_path(char out[PW_CALIB_PATH]);

/* 0; or why is a sentence about the file and
 *   -ENOENT   there is none
 *   -EBADMSG  it is damaged or no such file
 *   -ESTALE   it is of another host or CPU, or of an older version
 *   -ENOTSUP  it is of a newer version
 *   -errno    of reading it; -ENOMEM */
int pw_calib_read(const char *path, struct pw_calibration *out, char why[PW_CALIB_WHY]);

/* Makes the directory where it is missing (its parent too). 0, or -errno and a
 * sentence; what was there before is there still. */
int pw_calib_write(const char *path, const struct pw_calibration *c,
                   char why[PW_CALIB_WHY]);

/* Does what pw_calib_read() answered mean that a job may make it anew? */
bool pw_calib_is_replaceable(int err);

/* Could something be written there now? As pw_calib_write(), which it does but for the
 * writing. */
int pw_calib_probe(const char *path, char why[PW_CALIB_WHY]);

/* The same, but only where there is none, or one that is replaceable: however many do so
 * at once and whatever comes meanwhile, nothing of use is replaced. -EEXIST: there is one
 * of use, or what is there is no plain file. Does not wait for a disk: after a power
 * failure it may be damaged. */
int pw_calib_offer(const char *path, const struct pw_calibration *c,
                   char why[PW_CALIB_WHY]);

#endif
