/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_verbs.h - RDMA devices that live in this process, as libibverbs would show them.
 *
 * Their queue pairs reach each other, whatever context they are of. Work is done when
 * somebody polls a completion queue, on behalf of all; so what is posted stays where it is
 * until then, and for as long as a test holds it. What is not registered, or not for that, is
 * not touched. All that was opened is counted.
 */
#ifndef PW_FAKE_VERBS_H
#define PW_FAKE_VERBS_H

#include "btl/nic/rdm_ports.h"
#include "btl/nic/verbs.h"

enum { FAKE_DEVICES = 4, FAKE_PORTS = 2, FAKE_GIDS = 4 };

/* While a NIC is open: between fake_verbs_lock() and unlock(). */
struct fake_rdma {
    /* What there is; a test changes it before it opens. */
    unsigned n_devices;
    struct ibv_device device[FAKE_DEVICES];
    struct ibv_device_attr limits[FAKE_DEVICES];
    struct ibv_port_attr port[FAKE_DEVICES][FAKE_PORTS];
    struct ibv_gid_entry gid[FAKE_GIDS];    /* of every device */
    unsigned n_gids;

    /* What fails, and how. */
    const char *refused;        /* that function; errno is to say refused_errno */
    int refused_errno;
    unsigned inline_most;
    bool hold_reads;            /* they stay under way */
    int strict;                 /* IBV_ACCESS_RELAXED_ORDERING fails with that errno */
    size_t lockable;            /* bytes that may be registered at a time; 0: all */
    bool no_buffers;            /* whoever is sent something has none to receive it with */
    unsigned rnr_ends;          /* so many sends give up for that reason */
    bool hold_flush;            /* and so does what is posted when its queue pair fails */
    bool forgets;               /* what has ended by a queue pair and was not polled goes with
                                 * it when it is destroyed, as with mlx4 and mlx5 */
    bool never_last;            /* who has failed does not say that it takes no more buffers
                                 * from a shared queue, as rxe of older kernels */
    bool hold_routes;           /* who asks for an address handle waits for a second, as
                                 * where nobody answers ARP, and has none */
    unsigned routes_waited;     /* so many have */
    bool (*letter)(const struct verbs_letter *letter);  /* false: it is lost. NULL: none is */
    unsigned qps;               /* so many reliable queue pairs of one context; 0: any */
    unsigned letters_twice;     /* so many arrive twice */
    unsigned letters_fail;      /* so many fail, and with them their queue pair */

    /* What was done. */
    unsigned opened;            /* objects that were not destroyed */
    unsigned qps_most;          /* reliable queue pairs of one context at a time */
    unsigned forks;
    unsigned refusals;          /* calls that failed by fake_verbs_refuse() */
    unsigned registered;        /* calls of reg_mr that were not refused */
    unsigned relaxed_tries;     /* calls that asked for relaxed ordering */
    unsigned silent;            /* sends that ended and told nothing */
    struct ibv_qp_attr last;    /* of the last modify_qp to RTS */
    size_t locked;              /* registered now */
    int rights;                 /* of all that was registered, and of queue pairs */
    int pkey_letters, pkey_ways;    /* partition key of the last queue pair of each */
};

extern struct fake_rdma rdma;
void fake_verbs_lock(void);
void fake_verbs_unlock(void);

/* That function fails from here on; NULL: none does. */
void fake_verbs_refuse(const char *what, int err);

/* One device, "fake0", one port of RoCE v2, and the library's functions are ours. */
void fake_verbs_install(void);
void fake_verbs_remove(void);

/* Tell all that have opened the device. qp: NULL, or its context says whose. */
void fake_verbs_event(enum ibv_event_type type, struct ibv_qp *qp);

/* So often somebody has not heard of it yet. */
unsigned fake_verbs_events_unread(void);

/* Hold is over, and what was held is done now. */
void fake_verbs_go_on(void);

/* So many are posted to that NIC's shared queue. */
unsigned fake_verbs_buffers(struct pw_nic *nic);

/* As a process that is killed: all queue pairs of that NIC are gone. */
void fake_verbs_cut(struct pw_nic *nic);

#endif
