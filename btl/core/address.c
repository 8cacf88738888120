/* SPDX-License-Identifier: BSD-3-Clause */
/* address.c - the address of a process: those of its NICs, in few bytes.
 *
 * Start at pw_address_write(). Each process of a job has those of all others, so they are
 * to be short, and NICs of one process say much that is the same: job, host, network. Of a
 * part only that is written in which it differs from the part before, if that is of the
 * same backend, or from zeros. What comes out is what the NIC gave, byte for byte.
 *
 *     magic, version, number of parts; then of each
 *     length of the backend's name, and it; 0: that of the part before
 *     length of the NIC's address
 *     runs, until they are that long:  0 to 127    so many bytes and one, which follow
 *                                      128 to 255  127 less, as in the part before
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "address.h"

/* The version changes also with frames and keys; see doc/wire.md. */
enum { MAGIC = 0x70, VERSION = 4, HEAD = 3 };

enum { RUN_MOST = 128, WORTH = 3 };     /* a shorter run costs as much as its bytes */

static const struct pw_part nothing;

/* What is written so far; beyond the room it is only counted. */
struct writer {
    uint8_t *out;
    size_t at, room;
};

static void put(struct writer *w, const void *bytes, size_t len)
{
    if (len && w->at + len <= w->room)
        memcpy(w->out + w->at, bytes, len);
    w->at += len;
}

static void put_byte(struct writer *w, size_t value)
{
    uint8_t byte = (uint8_t)value;

    put(w, &byte, 1);
}

/* From `at` on, as many as are, or are not, as in the part before. */
static size_t run_of(const struct pw_part *p, const struct pw_part *like, size_t at,
                     bool same)
{
    size_t n = 0;

    while (at + n < p->len && n < RUN_MOST &&
           (p->addr[at + n] == like->addr[at + n]) == same)
        n++;
    return n;
}

static size_t same_run(const struct pw_part *p, const struct pw_part *like, size_t at)
{
    size_t n = run_of(p, like, at, true);

    return n >= WORTH || at + n == p->len ? n : 0;
}

static void runs_put(struct writer *w, const struct pw_part *p, const struct pw_part *like)
{
    for (size_t at = 0, n; at < p->len; at += n) {
        n = same_run(p, like, at);
        if (n) {
            put_byte(w, RUN_MOST - 1 + n);
            continue;
        }
        for (n = 1; at + n < p->len && n < RUN_MOST && !same_run(p, like, at + n); n++)
            ;
        put_byte(w, n - 1);
        put(w, p->addr + at, n);
    }
}

static bool same_name(const struct pw_part *a, const struct pw_part *b)
{
    return a->name_len == b->name_len && !memcmp(a->name, b->name, a->name_len);
}

int pw_address_write(const struct pw_part parts[], int n, void *out, size_t room)
{
    struct writer w = { .out = out, .room = room };

    put_byte(&w, MAGIC);
    put_byte(&w, VERSION);
    put_byte(&w, (size_t)n);
    for (int i = 0; i < n; i++) {
        bool again = i && same_name(&parts[i], &parts[i - 1]);

        put_byte(&w, again ? 0 : parts[i].name_len);
        put(&w, parts[i].name, again ? 0 : parts[i].name_len);
        put_byte(&w, parts[i].len);
        runs_put(&w, &parts[i], again ? &parts[i - 1] : &nothing);
    }
    return w.at <= room ? (int)w.at : -ENOSPC;
}

/* ---- reading; nothing is believed ---- */

struct reader {
    const uint8_t *at, *end;
};

/* NULL: there are not so many. */
static const uint8_t *take(struct reader *r, size_t len)
{
    const uint8_t *bytes = r->at;

    if ((size_t)(r->end - r->at) < len)
        return NULL;
    r->at += len;
    return bytes;
}

static bool name_read(struct reader *r, struct pw_part *p, const struct pw_part *before)
{
    const uint8_t *len = take(r, 1);

    if (!len)
        return false;
    p->name = *len ? take(r, *len) : before->name;
    p->name_len = *len ? *len : before->name_len;
    return p->name && p->name_len;
}

static bool runs_read(struct reader *r, struct pw_part *p, const struct pw_part *like)
{
    size_t at = 0;

    while (at < p->len) {
        const uint8_t *run = take(r, 1), *from;
        size_t n;

        if (!run)
            return false;
        n = *run < RUN_MOST ? *run + 1u : *run - (RUN_MOST - 1u);
        if (n > p->len - at)
            return false;
        from = *run < RUN_MOST ? take(r, n) : like->addr + at;
        if (!from)
            return false;
        memcpy(p->addr + at, from, n);
        at += n;
    }
    return true;
}

static bool part_read(struct reader *r, struct pw_part *p, const struct pw_part *before)
{
    bool again = r->at < r->end && !*r->at;
    const uint8_t *len;

    *p = nothing;
    if (!name_read(r, p, before) || !(len = take(r, 1)) || *len > PW_NIC_ADDRESS_MAX)
        return false;
    p->len = *len;
    return runs_read(r, p, again ? before : &nothing);
}

int pw_address_read(const void *addr, size_t len, struct pw_part parts[PW_KEY_NICS])
{
    struct reader r = { addr, (const uint8_t *)addr + len };
    const uint8_t *head = take(&r, HEAD);

    if (!head || head[0] != MAGIC || head[1] != VERSION || head[2] > PW_KEY_NICS)
        return -EINVAL;
    for (int i = 0; i < head[2]; i++)
        if (!part_read(&r, &parts[i], i ? &parts[i - 1] : &nothing))
            return -EINVAL;
    return r.at == r.end ? head[2] : -EINVAL;
}
