/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_fuzz.h - what the bad one of rdm_fuzz.c says: its honest messages spoilt on their way,
 * and others that it makes up.
 */
#ifndef PW_RDM_FUZZ_H
#define PW_RDM_FUZZ_H

#include "fake_port.h"
#include "tests/unit/draw.h"

enum { FUZZ_KEYS = 6, FUZZ_KEPT = 16, FUZZ_LONGEST = RDM_MESSAGE_MAX };

enum fuzz_manner {
    FUZZ_WILD,          /* anything */
    FUZZ_LATE,          /* messages overtake each other */
    FUZZ_CHANGED,       /* what heads are followed by is changed */
    FUZZ_MANNERS,
};

struct fuzz_message {
    size_t len;
    uint8_t *bytes;
};

/* All from `state`, so that it is the same each time. */
struct fuzz_mouth {
    uint64_t state;
    struct rdm_nic *bad;            /* its messages are spoilt; NULL: nobody's are */
    struct rdm_peer *to;            /* as bad sees its victim */
    const struct rdm_peer *seen;    /* bad, as its victim sees it; NULL: not now */
    enum fuzz_manner manner;
    unsigned spoil_in;              /* one message of so many */
    struct pw_nic_key keys[FUZZ_KEYS];      /* of the victim's memory, not all for bad */
    struct fuzz_message kept[FUZZ_KEPT];    /* to come again, or late */
    struct fuzz_message late;
    unsigned spoilt;
};

static inline uint64_t fuzz_pick(struct fuzz_mouth *m, uint64_t n)
{
    return draw(&m->state) % n;
}

/* The one of which fuzz_wire() knows. */
extern struct fuzz_mouth mouth;

/* For fake_port_wire. */
void fuzz_wire(struct fake_port *from, struct fake_port *to, const void *bytes, size_t len);

/* A message that is made up, in order or not, its head right and the rest nearly so. */
void fuzz_make_up(struct fuzz_mouth *m);

/* What was kept is forgotten. */
void fuzz_forget(struct fuzz_mouth *m);

#endif
