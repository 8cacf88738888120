/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_library.h - a library that is loaded when it is first needed.
 *
 * A machine without it lacks a backend and nothing else. Once loaded it stays: libraries of
 * this kind do not all survive being unloaded.
 */
#ifndef PW_RDM_LIBRARY_H
#define PW_RDM_LIBRARY_H

#include <pthread.h>
#include <stddef.h>

#include "pinwheel/nic.h"

struct rdm_symbol {
    const char *name;       /* NULL ends the list */
    size_t at;              /* of the pointer to it, in `functions` */
};

struct rdm_library {
    pthread_mutex_t lock;
    const char *file;
    const char *name;       /* for people */
    const char *package;    /* of Debian's, that has it */
    const struct rdm_symbol *symbols;
    void *functions;        /* filled when it is loaded */
    void (*prepare)(void);  /* before that */
    void (*settle)(void);   /* behind that; NULL: nothing is to be done */
    const char *use;        /* this file instead; NULL none */
    void *handle;
};

/* The functions, or NULL and a sentence. Any thread. */
void *rdm_library_load(struct rdm_library *library, char why[PW_NIC_WHY_MAX]);

/* For tests: that file (NULL: its own), from the next load on. */
void rdm_library_use(struct rdm_library *library, const char *file);

#endif
