/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_wire.h - the fake NIC's queues: frames from one connection to another.
 *
 * A stream is written by one connection and read by at most one. It outlives
 * either end: what was sent before the writer left is still read, what was sent
 * before a reader came waits for it. No locks here; the fake NIC has one.
 */
#ifndef PW_FAKE_WIRE_H
#define PW_FAKE_WIRE_H

#include "fake_nic.h"

struct fake_frame {
    struct fake_frame *next;
    uint64_t due;           /* visible when the stream's ticks are past it */
    uint32_t imm;
    size_t len;
    uint8_t data[];
};

struct fake_stream {
    struct fake_stream *next;       /* among those that nobody reads yet */
    uint64_t from, to;              /* NIC numbers */
    void *writer;                   /* its connection, NULL when it has left */
    unsigned refs;
    struct fake_frame *head, *tail;
    size_t bytes;                   /* queued, with their overhead */
    unsigned frames;                /* queued */
    uint64_t ticks;                 /* looks of the reader */
    uint64_t told;                  /* the NIC's tick, of its last caller upcall */
    uint64_t sent;                  /* counts for the faults */
    bool ended;                     /* no more frames come, see cause */
    bool unread;                    /* no reader comes or stays, see cause */
    int cause;
};

struct fake_stream *fake_stream_new(uint64_t from, uint64_t to, void *writer);
void fake_stream_ref(struct fake_stream *s);
void fake_stream_unref(struct fake_stream *s);

/* Is there room for one more frame of that size? An empty queue has. */
bool fake_stream_room(const struct fake_stream *s, size_t len, size_t limit);

/* Queue a frame, with what the faults make of it. first: before all others.
 * 0 or -ENOMEM. */
int fake_stream_push(struct fake_stream *s, const struct fake_nic_faults *faults,
                     uint32_t imm, const struct pw_iov *iov, int n, bool first);

/* The next frame that may be seen, or NULL. The caller frees it. */
struct fake_frame *fake_stream_pop(struct fake_stream *s);

void fake_stream_lose_delayed(struct fake_stream *s);
void fake_stream_lose_all(struct fake_stream *s);

/* The first cause given stays. */
void fake_stream_end(struct fake_stream *s, int cause);
void fake_stream_abandon(struct fake_stream *s, int cause);

#endif
