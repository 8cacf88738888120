/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_rest.c - a bound on open queue pairs: ways that rest, and begin anew when needed.
 *
 * Start at verbs_rest_tend(). A way that rests has no queue pair; its peers are up all the
 * same, and who sends to one has the way begin anew. Where there are as many queue pairs as
 * may be, the way that was used least recently is to rest:
 *
 *     a                                       b
 *     posts nothing more (PARTING),
 *     waits for what is under way
 *     REST: may we? ->                        has something to do: BUSY, and both go on
 *                                             else posts nothing more, waits for its own,
 *     destroys its queue pair      <- RESTED  and has destroyed its queue pair
 *
 * So when one is destroyed all that was sent by it has arrived, both ways. Small sends
 * tell nothing when they end: an empty one behind them does. REST is repeated until it is
 * answered; its number says which question it is, so that an answer to an older one changes
 * nothing, and a question that was refused stays refused when it comes once more. Two REST
 * that cross agree. An ASK for a new queue pair says RESTED, too.
 *
 * Who rests is asked by REST whether it lives, where a message would have a queue pair made.
 *
 * Who has no room for another's ASK says BUSY, and asks itself when it has. Where all have
 * filled their room with questions to each other (a asks b, b asks c, c asks a), the pair
 * with the highest rank, which is the same to both, has its way: the others take theirs back.
 */
#include <errno.h>

#include "verbs.h"
#include "pinwheel/clock.h"

static uint64_t rest_now_ms(void)
{
    return rdm_ms(pw_now_ns());
}

static uint64_t passed(uint64_t now, uint64_t since)
{
    return now > since ? now - since : 0;
}

/* Of numbers of questions, 24 bits. */
static bool later(uint32_t a, uint32_t b)
{
    return (int32_t)((a - b) << 8) > 0;
}

/* ---- who wants one ---- */

bool verbs_room(const struct verbs_nic *nic, uint64_t now)
{
    return nic->n_qps < nic->qps_most && passed(now, nic->refused_ms) >= VERBS_REFUSED_MS;
}

static bool lately(uint64_t at, uint64_t now)
{
    return at && passed(now, at) < VERBS_WANTED_MS;
}

/* By one of ours, or by the peer. */
static bool way_wanted(const struct verbs_way *way, uint64_t now)
{
    return lately(way->wanted_ms, now) || lately(way->called_ms, now);
}

/* at: of the way, when that was. */
static void way_want(struct verbs_way *way, uint64_t *at)
{
    struct verbs_nic *nic = way->nic;
    uint64_t now = rest_now_ms();

    if (!way_wanted(way, now))
        way->ticket = ++nic->uses;
    *at = now;
    if (way->state != VERBS_RESTING)
        return;
    if (nic->restless || verbs_way_start(way, now))
        nic->restless = true;
}

void verbs_way_want(struct verbs_way *way)
{
    way_want(way, &way->wanted_ms);
}

void verbs_way_called(struct verbs_way *way)
{
    way_want(way, &way->called_ms);
}

/* Has it something to do, of its own accord? One that was just made for somebody is to be
 * of use to them. */
static bool way_busy(const struct verbs_way *way, uint64_t now)
{
    return way->posted - way->retired > way->silent ||
           (lately(way->wanted_ms, now) && passed(now, way->since_ms) < VERBS_HOLD_MS);
}

/* ---- to rest ---- */

static void way_say(struct verbs_way *way, uint8_t what, uint64_t now)
{
    if (!verbs_letter_send(way, what))
        way->said_ms = now;
}

/* Nothing of it is under way. The peer of one that was never connected may still ask. */
static void way_rest(struct verbs_way *way)
{
    if (way->state == VERBS_ANSWERED)
        way->its_number = 0;
    verbs_way_state(way, VERBS_RESTING);
    verbs_qp_destroy(way);
    way->nic->restless = true;
}

/* Who wants it now says so again, behind those who wait. */
static void way_rested(struct verbs_way *way)
{
    way_rest(way);
    way->wanted_ms = way->called_ms = 0;
    __atomic_fetch_add(&way->nic->base.base.counts.rested, 1, __ATOMIC_RELAXED);
}

/* What waits to be acknowledged would have it begin anew at once. */
static void acks_pay(struct verbs_way *way)
{
    struct rdm_nic *nic = &way->nic->base;

    for (struct rdm_peer *peer = nic->peers; peer; peer = peer->next)
        if (peer->there && peer->to.pointer == way && peer->consumed != peer->told) {
            peer->owe_ack = true;
            rdm_pay(peer);
        }
}

/* agrees: the peer has asked. */
static void way_part(struct verbs_way *way, bool agrees)
{
    acks_pay(way);
    if (way->state != VERBS_CONNECTED)
        return;                 /* it has failed */
    verbs_way_state(way, VERBS_PARTING);
    way->agrees = agrees;
    way->asked = way->flushed = false;
    way->round = (way->round + !agrees) & 0xffffff;
    way->nic->restless = true;
}

static void parting_tend(struct verbs_way *way, uint64_t now)
{
    if (way->posted != way->retired) {
        if (!way->flushed)
            way->flushed = !verbs_flush(way);
    } else if (way->agrees) {
        way_rested(way);
        way_say(way, VERBS_RESTED, now);
    } else if (!way->asked && !verbs_letter_send(way, VERBS_REST)) {
        way->asked = true;
        way->said_ms = now;
    }
}

/* ---- letters ---- */

void verbs_peers_heard(struct verbs_way *way)
{
    struct rdm_nic *nic = &way->nic->base;

    for (struct rdm_peer *peer = nic->peers; peer; peer = peer->next)
        if (peer->there && peer->to.pointer == way)
            peer->heard_ms = nic->tick_ms;
}

static void connected_rest_heard(struct verbs_way *way, uint32_t round, uint64_t now)
{
    if (later(way->its_round, round))
        return;
    if (round == way->its_round) {
        way_say(way, VERBS_BUSY, now);
        return;
    }
    way->its_round = round;
    if (way_busy(way, now))
        way_say(way, VERBS_BUSY, now);
    else
        way_part(way, true);
}

void verbs_rest_heard(struct verbs_way *way, const struct verbs_letter *letter)
{
    uint64_t now = rest_now_ms();

    if (letter->echo != way->number || letter->number != way->its_number)
        return;
    verbs_peers_heard(way);
    way->its_heard = letter->number;
    if (way->state == VERBS_ANSWERED)
        verbs_way_connected(way);
    if (way->state == VERBS_CONNECTED) {
        connected_rest_heard(way, letter->psn, now);
        return;
    }
    if (way->state == VERBS_PARTING && !way->asked) {
        way->agrees = true;
        way->its_round = letter->psn;
        return;
    }
    if (way->state == VERBS_PARTING)
        way_rested(way);
    if (way->state != VERBS_RESTING || !way->users)
        return;                 /* who is nobody's does not say that it lives */
    way->its_round = letter->psn;
    way_say(way, VERBS_RESTED, now);
}

void verbs_rested_heard(struct verbs_way *way, const struct verbs_letter *letter)
{
    if (letter->echo != way->number || letter->number != way->its_number)
        return;
    verbs_peers_heard(way);
    if (way->state == VERBS_PARTING && way->asked && letter->psn == way->round)
        way_rested(way);
}

void verbs_busy_heard(struct verbs_way *way, const struct verbs_letter *letter)
{
    if (letter->echo != way->number)
        return;
    verbs_peers_heard(way);
    if (way->state != VERBS_PARTING || !way->asked || letter->psn != way->round)
        return;
    way->busy_ms = rest_now_ms();
    way->used = ++way->nic->uses;
    verbs_way_connected(way);
}

/* It asks for a new queue pair: has it agreed to part with this one? */
bool verbs_way_renewed(struct verbs_way *way)
{
    if (way->state == VERBS_ANSWERED ||
        (way->state == VERBS_PARTING && way->posted == way->retired))
        way_rest(way);
    return way->state == VERBS_RESTING;
}

int verbs_peer_ask(struct rdm_peer *peer)
{
    struct verbs_way *way = peer->to.pointer;

    if (way->state == VERBS_CONNECTED || way->state == VERBS_FAILED ||
        (way->state == VERBS_RESTING && !way->its_number))
        return -ENOTCONN;
    if (way->state == VERBS_RESTING)
        way_say(way, VERBS_REST, rest_now_ms());
    return 0;
}

/* ---- room ---- */

static bool waits(const struct verbs_way *way, uint64_t now)
{
    return way->state == VERBS_RESTING && way_wanted(way, now);
}

/* The one that has waited longest. */
static struct verbs_way *waiting_first(const struct verbs_nic *nic, uint64_t now)
{
    struct verbs_way *first = NULL;

    for (struct verbs_way *way = nic->ways; way; way = way->next)
        if (waits(way, now) && (!first || way->ticket < first->ticket))
            first = way;
    return first;
}

/* Used least recently, of those with nothing under way that tells when it has ended. */
static struct verbs_way *evict_choose(const struct verbs_nic *nic, uint64_t now)
{
    struct verbs_way *least = NULL;

    for (struct verbs_way *way = nic->ways; way; way = way->next)
        if (way->state == VERBS_CONNECTED && !way_busy(way, now) &&
            passed(now, way->busy_ms) >= VERBS_BUSY_MS && (!least || way->used < least->used))
            least = way;
    return least;
}

/* It has no answer yet, and may be asked again later. */
static bool may_yield(const struct verbs_way *way, const struct verbs_way *to, uint64_t now)
{
    uint64_t since = passed(now, way->since_ms);

    if (way->state != VERBS_ASKING && way->state != VERBS_ANSWERED)
        return false;
    if (since >= VERBS_YIELD_MS || (way->state == VERBS_ASKING && !way_wanted(way, now)))
        return true;
    return way->state == VERBS_ASKING && since >= VERBS_ASK_MS && way->rank < to->rank &&
           lately(to->called_ms, now);
}

/* One of those that wait has another's queue pair. */
static void yield(struct verbs_nic *nic, uint64_t now)
{
    for (struct verbs_way *to = nic->ways; to; to = to->next)
        for (struct verbs_way *way = nic->ways; waits(to, now) && way; way = way->next)
            if (way != to && may_yield(way, to, now)) {
                way_rest(way);
                way->ticket = ++nic->uses;
                nic->refused_ms = 0;
                verbs_way_start(to, now);
                return;
            }
}

/* So many are to part, for so many wait. */
static void make_room(struct verbs_nic *nic, uint64_t now)
{
    int n = -(int)nic->n_failed;

    for (const struct verbs_way *way = nic->ways; way; way = way->next)
        n += waits(way, now) - (way->state == VERBS_PARTING &&
                                passed(now, way->since_ms) < VERBS_YIELD_MS);
    for (; n > 0; n--) {
        struct verbs_way *way = evict_choose(nic, now);

        if (!way) {
            yield(nic, now);
            return;
        }
        way_part(way, false);
        parting_tend(way, now);
    }
}

void verbs_rest_tend(struct verbs_nic *nic, uint64_t now)
{
    struct verbs_way *first;

    if (!nic->restless)
        return;
    nic->restless = false;
    for (struct verbs_way *way = nic->ways; way; way = way->next)
        if (way->state == VERBS_PARTING) {
            nic->restless = true;
            parting_tend(way, now);
        }
    while (verbs_room(nic, now) && (first = waiting_first(nic, now)))
        if (verbs_way_start(first, now))
            break;
    if (waiting_first(nic, now)) {
        nic->restless = true;
        make_room(nic, now);
    }
}
