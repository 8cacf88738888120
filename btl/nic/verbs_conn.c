/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_conn.c - ways: one connected queue pair to each process.
 *
 *     a                                   b
 *     peer_open: ASK(a's queue pair) ->   b makes one and connects it to a's
 *     connects its own to b's    <- ANSWER(b's queue pair)
 *     sends                 READY ->      sends
 *
 * An ASK that crosses another brings what is needed too: each side has one queue pair for the
 * other, connects it to that of the letter, and answers. A message that comes says as much as
 * READY. ASK and ANSWER are repeated until that is known.
 *
 * A queue pair has a number; who makes another one for the same process gives it a higher
 * one. So an ASK of a higher number says that the last one is gone, and one of a lower number
 * has come late.
 *
 * What fails goes to the error state: the device gives back what was posted and says that it
 * takes no more buffers to receive with, and only then, or when it takes too long, is the queue
 * pair destroyed. A way stays when the last peer that used it has gone, for the next connection
 * with the same process; not for long, since that may have ended. Who closes one tells the
 * other side. One that is not needed may have no queue pair (verbs_rest.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "verbs.h"
#include "pinwheel/clock.h"

_Static_assert((int)VERBS_DRAIN_MS < (int)RDM_FLUSH_MS, "who waits for so long sees it end");

static uint64_t conn_now_ms(void)
{
    return rdm_ms(pw_now_ns());
}

/* 0 too where it happened after somebody looked at the clock. */
static uint64_t passed(uint64_t now, uint64_t since)
{
    return now > since ? now - since : 0;
}

static unsigned lesser(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static uint64_t greater(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- the queue pair ---- */

static struct ibv_qp *qp_make(struct verbs_nic *nic, struct verbs_way *way,
                              unsigned inline_most)
{
    struct ibv_qp_init_attr attr = {
        .qp_context = way, .send_cq = nic->cq, .recv_cq = nic->cq, .srq = nic->srq,
        .qp_type = IBV_QPT_RC,
        .cap = { .max_send_wr = VERBS_SENDS, .max_send_sge = 1,
                 .max_inline_data = inline_most },
    };

    errno = 0;
    return nic->lib->create_qp(nic->pd, &attr);
}

int verbs_inline_try(struct verbs_nic *nic)
{
    for (unsigned most = VERBS_INLINE;; most /= 2) {
        struct ibv_qp *qp = qp_make(nic, NULL, most);

        if (qp) {
            nic->lib->destroy_qp(qp);
            nic->inline_most = most;
            return 0;
        }
        if (!most)
            return errno ? -errno : -EIO;
    }
}

static void qps_count(struct verbs_nic *nic, int n)
{
    nic->n_qps += (unsigned)n;
    __atomic_store_n(&nic->base.base.counts.queue_pairs, nic->n_qps, __ATOMIC_RELAXED);
}

void verbs_qp_destroy(struct verbs_way *way)
{
    if (!way->qp)
        return;
    way->nic->lib->destroy_qp(way->qp);
    way->qp = NULL;
    qps_count(way->nic, -1);
}

/* Peers may read what they have a key for, and nothing else. -EBUSY: the device has no more
 * now. */
static int qp_begin(struct verbs_way *way)
{
    struct verbs_nic *nic = way->nic;
    struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT, .port_num = nic->found.port,
                                .pkey_index = (uint16_t)verbs_settings.pkey_index,
                                .qp_access_flags = IBV_ACCESS_REMOTE_READ };

    way->qp = qp_make(nic, way, nic->inline_most);
    if (!way->qp)
        return errno == EIO || errno == ENODEV ? -errno : -EBUSY;
    way->qpn = way->qp->qp_num;
    qps_count(nic, 1);
    return -nic->lib->modify_qp(way->qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX |
                                IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
}

/* To the one that the letter names. From here on the peer may send. */
static int qp_connect(struct verbs_way *way, const struct verbs_letter *letter)
{
    struct verbs_nic *nic = way->nic;
    struct ibv_qp_attr attr = {
        .qp_state = IBV_QPS_RTR, .dest_qp_num = letter->qpn, .rq_psn = letter->psn,
        .path_mtu = (enum ibv_mtu)lesser(nic->found.attr.active_mtu, letter->mtu),
        .max_dest_rd_atomic = (uint8_t)nic->reads_served, .min_rnr_timer = VERBS_RNR_TIMER,
        .sq_psn = way->psn, .timeout = (uint8_t)verbs_settings.timeout,
        .retry_cnt = (uint8_t)verbs_settings.retries,
        .rnr_retry = (uint8_t)verbs_settings.rnr_retries,
        .max_rd_atomic = (uint8_t)lesser(nic->reads_most, letter->reads),
    };
    int err;

    verbs_route_fill(nic, &way->to, &attr.ah_attr);
    err = nic->lib->modify_qp(way->qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
                              IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
                              IBV_QP_MIN_RNR_TIMER);
    attr.qp_state = IBV_QPS_RTS;
    if (!err)
        err = nic->lib->modify_qp(way->qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT |
                                  IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
                                  IBV_QP_MAX_QP_RD_ATOMIC);
    return -err;
}

/* ---- ways ---- */

static struct verbs_way *way_find(const struct verbs_nic *nic, const struct rdm_address *a)
{
    struct verbs_way *way = nic->ways;

    while (way && (way->state == VERBS_FAILED || memcmp(&way->to, a, sizeof(*a)) != 0))
        way = way->next;
    return way;
}

static void way_say(struct verbs_way *way, uint8_t what, uint64_t now)
{
    if (!verbs_letter_send(way, what))
        way->said_ms = now;
}

/* Later ones have higher numbers, also in a NIC that is opened anew by this process. */
static uint64_t number_next(struct verbs_nic *nic)
{
    uint64_t now = pw_now_ns();

    nic->numbers = now > nic->numbers ? now : nic->numbers + 1;
    return nic->numbers;
}

/* To one that has just written, so the kernel need not wait for an answer of its host. */
static int route_make(struct verbs_way *way)
{
    struct verbs_nic *nic = way->nic;
    struct ibv_ah_attr route;

    verbs_route_fill(nic, &way->to, &route);
    errno = 0;
    way->ah = nic->lib->create_ah(nic->pd, &route);
    if (way->ah)
        return 0;
    return errno == ENOMEM ? -ENOMEM : -EHOSTUNREACH;
}

static void way_destroy(struct verbs_way *way)
{
    verbs_route_forget(way);
    verbs_qp_destroy(way);
    if (way->ah)
        way->nic->lib->destroy_ah(way->ah);
    way->ah = NULL;
    way->closed = true;
}

/* A queue pair for it, which has another number than those before. -EBUSY: there is no
 * room. */
static int way_begin(struct verbs_way *way, uint64_t now)
{
    struct verbs_nic *nic = way->nic;
    int err;

    if (nic->closing || nic->fatal)
        return -EHOSTUNREACH;
    if (!verbs_room(nic, now))
        return -EBUSY;
    if (getrandom(&way->psn, sizeof(way->psn), 0) != (ssize_t)sizeof(way->psn))
        return -EIO;
    way->psn &= 0xffffff;
    err = qp_begin(way);
    if (err) {
        nic->refused_ms = now;
        verbs_qp_destroy(way);
        return err;
    }
    way->number = number_next(nic);
    way->its_last = greater(way->its_last, way->its_number);
    way->its_number = 0;
    way->round = way->its_round = 0;
    verbs_way_state(way, VERBS_ASKING);
    return 0;
}

int verbs_way_start(struct verbs_way *way, uint64_t now)
{
    int err = way_begin(way, now);

    if (!err)
        way_say(way, VERBS_ASK, now);
    else if (err != -EBUSY)
        verbs_way_fail(way, -err);
    return err;
}

/* The same to both sides. */
static uint64_t rank_of(const struct verbs_nic *nic, const struct rdm_address *to)
{
    uint64_t own = verbs_address_sum(&nic->base.address), its = verbs_address_sum(to);
    uint64_t both[2] = { own < its ? own : its, own < its ? its : own };

    return rdm_hash(RDM_HASH_BEGIN, both, sizeof(both));
}

/* heard: it has written to us. One for which there is no room rests. */
static int way_open(struct verbs_nic *nic, const struct rdm_address *to, bool heard,
                    struct verbs_way **out)
{
    struct verbs_way *way = calloc(1, sizeof(*way));
    uint64_t now = conn_now_ms();
    int err;

    if (!way)
        return -ENOMEM;
    way->nic = nic;
    way->to = *to;
    way->rank = rank_of(nic, to);
    way->number = number_next(nic);
    way->since_ms = way->idle_ms = now;
    way->gap_ms = VERBS_ASK_MS;
    err = way_begin(way, now);
    if (!err || err == -EBUSY)
        err = heard ? route_make(way) : verbs_route_want(way);
    if (err) {
        way_destroy(way);
        free(way);
        return err == -ENOMEM ? err : -EHOSTUNREACH;
    }
    way->next = nic->ways;
    nic->ways = way;
    if (way->state == VERBS_RESTING)
        verbs_way_want(way);
    *out = way;
    return 0;
}

/* The way to that process; a new one asks when it is known where that is. */
static int way_get(struct verbs_nic *nic, const struct rdm_address *to,
                   struct verbs_way **out)
{
    *out = way_find(nic, to);
    return *out ? 0 : way_open(nic, to, false, out);
}

static void way_release(struct verbs_way *way)
{
    if (!--way->users)
        way->idle_ms = conn_now_ms();
}

void verbs_way_state(struct verbs_way *way, enum verbs_state state)
{
    struct verbs_nic *nic = way->nic;

    nic->n_answered += (state == VERBS_ANSWERED) - (way->state == VERBS_ANSWERED);
    nic->n_failed += state == VERBS_FAILED;
    way->state = state;
    way->since_ms = conn_now_ms();
    way->gap_ms = VERBS_ASK_MS;
}

/* Hellos wait for that. */
void verbs_way_connected(struct verbs_way *way)
{
    struct rdm_nic *nic = &way->nic->base;

    way->used = ++way->nic->uses;
    way->called_ms = 0;
    verbs_way_state(way, VERBS_CONNECTED);
    for (struct rdm_peer *peer = nic->peers; peer; peer = peer->next)
        if (peer->there && peer->to.pointer == way)
            rdm_pay(peer);
}

void verbs_way_heard(struct verbs_nic *nic, uint32_t qpn)
{
    for (struct verbs_way *way = nic->ways; way; way = way->next)
        if (way->state == VERBS_ANSWERED && way->qp->qp_num == qpn) {
            verbs_way_connected(way);
            return;
        }
}

void verbs_way_fail(struct verbs_way *way, int err)
{
    struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };

    if (way->state == VERBS_FAILED)
        return;
    verbs_way_state(way, VERBS_FAILED);
    way->failed_ms = way->since_ms;
    way->err = err;
    way->rings = way->its_number != 0;
    if (way->qp)
        way->nic->lib->modify_qp(way->qp, &attr, IBV_QP_STATE);
}

void verbs_ways_fail(struct verbs_nic *nic, int err)
{
    for (struct verbs_way *way = nic->ways; way; way = way->next)
        verbs_way_fail(way, err);
}

/* ---- letters ---- */

static bool way_connect(struct verbs_way *way, const struct verbs_letter *letter)
{
    int err = qp_connect(way, letter);

    way->its_number = letter->number;
    if (err)
        verbs_way_fail(way, -err);
    return !err;
}

/* The queue pair that is to be connected to that of the letter. */
static int way_for_ask(struct verbs_nic *nic, const struct rdm_address *from,
                       struct verbs_way **way)
{
    if (*way && (*way)->its_number && !verbs_way_renewed(*way)) {
        verbs_way_fail(*way, ECONNRESET);
        (*way)->rings = false;      /* it knows */
        *way = NULL;
    }
    if (!*way)
        return way_open(nic, from, true, way);
    if ((*way)->state != VERBS_RESTING)
        return 0;
    return nic->restless ? -EBUSY : way_begin(*way, conn_now_ms());
}

/* It is asked for later, by us. */
static void ask_wait(struct verbs_way *way)
{
    verbs_way_called(way);
    if (way->state == VERBS_RESTING)
        way_say(way, VERBS_BUSY, way->called_ms);
}

static void ask_heard(struct verbs_nic *nic, struct verbs_way *way,
                      const struct verbs_letter *letter)
{
    uint64_t last = way ? greater(way->its_number, way->its_last) : 0;
    int err;

    if (letter->number < last)
        return;
    if (way)
        verbs_peers_heard(way);
    if (letter->number == last) {
        if (way->state == VERBS_ANSWERED)
            way_say(way, VERBS_ANSWER, conn_now_ms());
        return;
    }
    err = way_for_ask(nic, &letter->from, &way);
    if (!way || (err && err != -EBUSY))
        return;                 /* it asks again */
    way->its_heard = letter->number;
    if (way->state == VERBS_RESTING) {
        ask_wait(way);
        return;
    }
    if (!way_connect(way, letter))
        return;
    verbs_way_state(way, VERBS_ANSWERED);
    way_say(way, VERBS_ANSWER, conn_now_ms());
}

static void answer_heard(struct verbs_way *way, const struct verbs_letter *letter)
{
    if (letter->echo != way->number ||
        (way->its_number && way->its_number != letter->number))
        return;
    if (way->state == VERBS_ASKING && !way_connect(way, letter))
        return;
    if (letter->what == VERBS_ANSWER)
        way_say(way, VERBS_READY, conn_now_ms());
    if (way->state == VERBS_ASKING || way->state == VERBS_ANSWERED)
        verbs_way_connected(way);
}

static void close_heard(struct verbs_way *way, const struct verbs_letter *letter)
{
    if (way->its_number != letter->number || letter->echo != way->number)
        return;
    verbs_way_fail(way, ECONNRESET);
    way->rings = false;
}

void verbs_letter_heard(struct verbs_nic *nic, const struct verbs_letter *letter)
{
    struct verbs_way *way = way_find(nic, &letter->from);

    if (letter->what == VERBS_ASK)
        ask_heard(nic, way, letter);
    else if (way && letter->what == VERBS_CLOSE)
        close_heard(way, letter);
    else if (way && letter->what == VERBS_REST)
        verbs_rest_heard(way, letter);
    else if (way && letter->what == VERBS_RESTED)
        verbs_rested_heard(way, letter);
    else if (way && letter->what == VERBS_BUSY)
        verbs_busy_heard(way, letter);
    else if (way)
        answer_heard(way, letter);
}

/* ---- peers ---- */

int verbs_peer_open(struct rdm_peer *peer)
{
    struct verbs_way *way;
    int err = way_get(verbs_of(rdm_nic_of(peer)), &peer->address, &way);

    if (err)
        return err;
    way->users++;
    peer->to.pointer = way;
    return 0;
}

void verbs_peer_close(struct rdm_peer *peer)
{
    way_release(peer->to.pointer);
}

/* One that is not connected has nothing under way. */
void verbs_peer_drop(struct rdm_peer *peer)
{
    struct verbs_way *way = peer->to.pointer;

    if (way->state == VERBS_RESTING || way->state == VERBS_ASKING ||
        way->state == VERBS_FAILED)
        return;
    verbs_way_fail(way, ECONNABORTED);
    __atomic_fetch_add(&rdm_nic_of(peer)->base.counts.reconnects, 1, __ATOMIC_RELAXED);
}

/* One that calls goes on with another way, but not at once: the peer's host may be out of
 * reach. */
static void peer_move(struct rdm_peer *peer, struct verbs_way *from)
{
    struct verbs_nic *nic = from->nic;
    uint64_t now = conn_now_ms();
    struct verbs_way *to;

    if (passed(now, from->since_ms) < VERBS_ASK_MOST_MS && !way_find(nic, &from->to))
        return;
    if (way_get(nic, &peer->address, &to)) {
        from->since_ms = now;
        return;
    }
    to->users++;
    peer->to.pointer = to;
    way_release(from);
}

int verbs_peer_way(struct rdm_peer *peer, struct verbs_way **out)
{
    struct verbs_way *way = peer->to.pointer;

    *out = way;
    if (way->state == VERBS_CONNECTED)
        return 0;
    if (way->state != VERBS_FAILED) {
        verbs_way_want(way);
        return -EAGAIN;
    }
    if (peer->state != RDM_CALLING)
        return -ECONNRESET;
    peer_move(peer, way);
    return -EAGAIN;
}

/* ---- what is to be done from time to time ---- */

static void peers_tell(struct verbs_way *way)
{
    struct rdm_nic *nic = &way->nic->base;

    way->told = true;
    for (struct rdm_peer *peer = nic->peers; peer && way->err; peer = peer->next)
        if (peer->there && peer->to.pointer == way)
            rdm_peer_failed(peer, way->err == EACCES ? ECONNABORTED : way->err);
}

/* What the device did not give back: from here on it touches none of it. */
static void works_end(struct verbs_way *way)
{
    uint32_t end = way->posted;

    way->dirty = way->posted != way->retired || way->letters;
    for (uint32_t seq = way->retired; seq != end; seq++) {
        struct verbs_work *work = &way->works[seq % VERBS_SENDS];

        if (work->c)
            rdm_ended(&way->nic->base, work->c, 0, ECONNABORTED);
    }
    verbs_way_retire(way, end);
}

/* What has come by it and was not polled goes with it on some devices (mlx5_cq_clean() of
 * rdma-core), and with that buffers of the shared queue, of which nobody is told; so does the
 * one that a message was coming into. So it is to have said that it takes no more, and then
 * all is polled (ibv_get_async_event(3): IBV_EVENT_QP_LAST_WQE_REACHED). */
static bool buffers_back(const struct verbs_way *way, bool late)
{
    const struct verbs_nic *nic = way->nic;

    return nic->closing || nic->fatal || ((way->last || late) && nic->drained);
}

static void failed_tend(struct verbs_way *way, uint64_t now)
{
    bool late = passed(now, way->failed_ms) >= VERBS_DRAIN_MS;

    if (way->rings && !way->nic->fatal && !verbs_letter_send(way, VERBS_CLOSE))
        way->rings = false;
    if ((way->posted != way->retired || way->letters || way->rings) && !late)
        return;
    if (!buffers_back(way, late))
        return;
    way_destroy(way);
    works_end(way);
    way->nic->n_failed--;
}

static void way_insist(struct verbs_way *way, uint64_t now)
{
    if (way->state == VERBS_ASKING)
        way_say(way, VERBS_ASK, now);
    else if (way->state == VERBS_ANSWERED)
        way_say(way, VERBS_ANSWER, now);
    else if (way->state == VERBS_PARTING && way->asked)
        way_say(way, VERBS_REST, now);
}

void verbs_way_routed(struct verbs_way *way, struct ibv_ah *ah, int err)
{
    way->ah = ah;
    if (err)
        verbs_way_fail(way, err);
    else
        way_insist(way, conn_now_ms());
}

static void waiting_tend(struct verbs_way *way, uint64_t now)
{
    if (way->state == VERBS_RESTING || way->state == VERBS_CONNECTED || !way->ah ||
        passed(now, way->said_ms) < way->gap_ms)
        return;
    way_insist(way, now);
    way->gap_ms = lesser(2 * way->gap_ms, VERBS_ASK_MOST_MS);
}

/* The device may still say that something of it has ended. */
static void way_remove(struct verbs_nic *nic, struct verbs_way *way)
{
    struct verbs_way **at = &nic->ways;

    while (*at != way)
        at = &(*at)->next;
    *at = way->next;
    if (way->dirty) {
        way->next = nic->lost;
        nic->lost = way;
    } else {
        free(way);
    }
}

void verbs_ways_tend(struct verbs_nic *nic, uint64_t now)
{
    for (struct verbs_way *way = nic->ways, *next; way; way = next) {
        next = way->next;
        if (way->state != VERBS_FAILED && !way->users &&
            passed(now, way->idle_ms) > VERBS_IDLE_MS)
            verbs_way_fail(way, 0);
        if (way->state != VERBS_FAILED)
            waiting_tend(way, now);
        else if (!way->told)
            peers_tell(way);
        if (way->state == VERBS_FAILED && !way->closed)
            failed_tend(way, now);
        if (way->closed && !way->users)
            way_remove(nic, way);
    }
}

void verbs_ways_forget(struct verbs_nic *nic)
{
    struct verbs_way **at = &nic->lost;

    while (*at) {
        struct verbs_way *way = *at;

        if (way->letters) {
            at = &way->next;
            continue;
        }
        *at = way->next;
        free(way);
    }
}

static void list_free(struct verbs_way **list)
{
    while (*list) {
        struct verbs_way *way = *list;

        *list = way->next;
        way_destroy(way);
        works_end(way);
        free(way);
    }
}

void verbs_ways_free(struct verbs_nic *nic)
{
    list_free(&nic->ways);
    list_free(&nic->lost);
    nic->n_answered = nic->n_failed = 0;
}
