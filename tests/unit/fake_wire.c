/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_wire.c - the queues of the fake NIC and what faults do to frames.
 *
 * Start at fake_stream_push(). Always true: tail is the last frame of head's
 * list, bytes and frames count that list.
 */
#include "fake_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FRAME_COST = 64 };   /* so that empty frames fill a queue too */

struct fake_stream *fake_stream_new(uint64_t from, uint64_t to, void *writer)
{
    struct fake_stream *s = calloc(1, sizeof *s);

    if (s) {
        s->from = from;
        s->to = to;
        s->writer = writer;
        s->refs = 1;
    }
    return s;
}

void fake_stream_ref(struct fake_stream *s)
{
    s->refs++;
}

void fake_stream_unref(struct fake_stream *s)
{
    if (--s->refs)
        return;
    fake_stream_lose_all(s);
    free(s);
}

bool fake_stream_room(const struct fake_stream *s, size_t len, size_t limit)
{
    return !s->head || s->bytes + len + FRAME_COST <= limit;
}

static void put_first(struct fake_stream *s, struct fake_frame *f)
{
    f->next = s->head;
    s->head = f;
    if (!s->tail)
        s->tail = f;
}

static void put_last(struct fake_stream *s, struct fake_frame *f)
{
    f->next = NULL;
    if (s->tail)
        s->tail->next = f;
    else
        s->head = f;
    s->tail = f;
}

static void put_last_but_one(struct fake_stream *s, struct fake_frame *f)
{
    struct fake_frame *before = s->head;

    if (!before || before == s->tail) {
        put_first(s, f);
        return;
    }
    while (before->next != s->tail)
        before = before->next;
    f->next = s->tail;
    before->next = f;
}

static struct fake_frame *frame_new(uint32_t imm, const struct pw_iov *iov, int n)
{
    struct fake_frame *f;
    size_t len = 0, at = 0;

    for (int i = 0; i < n; i++)
        len += iov[i].len;
    f = malloc(sizeof *f + len);
    if (!f)
        return NULL;
    f->imm = imm;
    f->len = len;
    for (int i = 0; i < n; i++) {
        if (iov[i].len)
            memcpy(f->data + at, iov[i].base, iov[i].len);
        at += iov[i].len;
    }
    return f;
}

static bool hits(uint64_t count, unsigned every)
{
    return every && count % every == 0;
}

static void frame_corrupt(struct fake_frame *f, uint64_t count)
{
    if (f->len)
        f->data[count % f->len] ^= (uint8_t)(1 << count % 8);
    else
        f->imm ^= 1;
}

static void stream_add(struct fake_stream *s, struct fake_frame *f)
{
    s->bytes += f->len + FRAME_COST;
    s->frames++;
}

int fake_stream_push(struct fake_stream *s, const struct fake_nic_faults *faults,
                     uint32_t imm, const struct pw_iov *iov, int n, bool first)
{
    uint64_t count = s->sent + 1;
    struct fake_frame *f, *twin = NULL;

    f = frame_new(imm, iov, n);
    if (f && hits(count, faults->duplicate_every)) {
        twin = frame_new(imm, iov, n);
        if (!twin) {
            free(f);
            f = NULL;
        }
    }
    if (!f)
        return -ENOMEM;

    s->sent = count;
    if (hits(count, faults->drop_every)) {
        free(f);
        free(twin);
        return 0;
    }
    if (hits(count, faults->corrupt_every))
        frame_corrupt(f, count);
    f->due = s->ticks + faults->delay;
    stream_add(s, f);
    if (first)
        put_first(s, f);
    else if (hits(count, faults->swap_every))
        put_last_but_one(s, f);
    else
        put_last(s, f);
    if (twin) {
        twin->due = f->due;
        stream_add(s, twin);
        put_last(s, twin);
    }
    return 0;
}

static struct fake_frame *stream_take(struct fake_stream *s)
{
    struct fake_frame *f = s->head;

    s->head = f->next;
    if (!s->head)
        s->tail = NULL;
    s->bytes -= f->len + FRAME_COST;
    s->frames--;
    return f;
}

struct fake_frame *fake_stream_pop(struct fake_stream *s)
{
    return s->head && s->head->due < s->ticks ? stream_take(s) : NULL;
}

void fake_stream_lose_all(struct fake_stream *s)
{
    while (s->head)
        free(stream_take(s));
}

/* A frame that would be seen at the next look has arrived. */
void fake_stream_lose_delayed(struct fake_stream *s)
{
    struct fake_frame *kept = NULL, *kept_tail = NULL;

    while (s->head && s->head->due <= s->ticks) {
        struct fake_frame *f = stream_take(s);

        f->next = NULL;
        if (kept_tail)
            kept_tail->next = f;
        else
            kept = f;
        kept_tail = f;
    }
    fake_stream_lose_all(s);
    while (kept) {
        struct fake_frame *f = kept;

        kept = f->next;
        stream_add(s, f);
        put_last(s, f);
    }
}

void fake_stream_end(struct fake_stream *s, int cause)
{
    if (!s->ended && !s->unread)
        s->cause = cause;
    s->ended = true;
}

void fake_stream_abandon(struct fake_stream *s, int cause)
{
    if (!s->ended && !s->unread)
        s->cause = cause;
    s->unread = true;
}
