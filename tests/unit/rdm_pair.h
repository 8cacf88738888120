/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_pair.h - two NICs of one process over the loopback, for the backends of rdm.h. */
#ifndef PW_TEST_RDM_PAIR_H
#define PW_TEST_RDM_PAIR_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "btl/nic/rdm.h"
#include "pinwheel/clock.h"

struct end {
    struct pw_nic *nic;
    struct pw_nic_peer *peer;
    unsigned frames, downs, done;
    int cause, status;
    char why[PW_NIC_WHY_MAX];   /* of the last down */
};

extern struct end a, b;
extern const struct pw_nic_ops *ops;    /* of both; set before anything else */

int end_open(struct end *end);
extern const char *end_device;            /* of both */
extern char end_why[PW_NIC_WHY_MAX];    /* what it said when it failed */
void connect_to(struct end *from, struct end *to);

/* Both, with a frame that has come from a to b. */
void pair_open(void);
void pair_close(void);

void look(void);

#define SOON(cond)                                                                     \
    do {                                                                               \
        uint64_t until = pw_now_ns() + UINT64_C(30000000000);                          \
        bool came;                                                                     \
        while (!(came = (cond)) && pw_now_ns() < until)                                \
            look();                                                                    \
        cr_assert(eq(int, came, 1), "%s", #cond);                                      \
    } while (0)

enum { BYTES = 300000 };

extern char *source, *target;
void memory_make(void);

/* By a, from or to the other of source and target, which b has pinned. */
void move(bool put, size_t len, const struct pw_nic_key *key);
void move_all_sizes(void);

/* Stories that are the same for all of them. */
void put_to_read_only_memory(void);

/* a asks for so much of b's source, which was pinned and is not any more. */
void get_unpinned(size_t len);
void strangers(struct rdm_hello *hello);
void stopped_for_long(void);
void called_for_long(void);
void numbers_wrap(void);

/* As many frames to the other end as it lets us have unread. */
void fill(struct end *from);

#endif
