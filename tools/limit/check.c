/* SPDX-License-Identifier: BSD-3-Clause */
/* check.c - is what arrives what was sent?
 *
 * Messages that all differ, in either direction and in both at once, and what lies behind
 * each. A way that reads them where they lie has one under way at a time.
 */
#include <errno.h>
#include <stdio.h>

#include "limit.h"
#include "tools/pwbench_pattern.h"

enum { ROUNDS = 4, MESSAGES = 4 };

static int verify(struct limit_side *s, const struct limit_order *o,
                  const struct pw_place *p)
{
    struct pw_wrong w;

    if (pw_pattern_verify(s->recv, o->size, p, &w) && pw_guard_verify(s->recv, o->size, &w))
        return 0;
    snprintf(s->why, PW_PAIR_WHY, "wrong data: %s, %zu bytes, side %d: byte %zu is 0x%02x, "
             "not 0x%02x", o->way->name, o->size, s->side, w.at, w.is, w.wanted);
    return -EBADMSG;
}

static int send_one(struct limit_side *s, const struct limit_order *o, struct pw_place p)
{
    int err;

    p.sender = s->side;
    pw_pattern_fill(s->send, o->size, &p);
    err = o->way->move(s, o->size, 1, 0);
    if (!err && o->way->lent)
        limit_await(&s->board->taken[1 - s->side], ++s->awaited_taken);
    return err;
}

static int receive_one(struct limit_side *s, const struct limit_order *o, struct pw_place p)
{
    int err;

    p.sender = 1 - s->side;
    pw_poison(s->recv, o->size);
    err = o->way->move(s, o->size, 0, 1);
    if (!err)
        err = verify(s, o, &p);
    if (!err && o->way->lent)
        limit_raise(&s->board->taken[s->side]);
    return err;
}

static int exchange_one(struct limit_side *s, const struct limit_order *o,
                        struct pw_place p)
{
    int err;

    p.sender = s->side;
    pw_pattern_fill(s->send, o->size, &p);
    pw_poison(s->recv, o->size);
    err = o->way->move(s, o->size, 1, 1);
    p.sender = 1 - s->side;
    if (!err)
        err = verify(s, o, &p);
    limit_raise(&s->board->taken[s->side]);
    limit_await(&s->board->taken[1 - s->side], ++s->awaited_taken);
    return err;
}

int limit_check(struct limit_side *s, const struct limit_order *o)
{
    int err = 0;

    for (int round = 0; round < ROUNDS; round++) {
        for (int slot = 0; !err && slot < MESSAGES; slot++) {
            struct pw_place p = { round, 0, slot };

            err = round % 2 == s->side ? send_one(s, o, p) : receive_one(s, o, p);
        }
    }
    for (int slot = 0; !err && slot < MESSAGES; slot++)
        err = exchange_one(s, o, (struct pw_place){ ROUNDS, 0, slot });
    return err;
}
