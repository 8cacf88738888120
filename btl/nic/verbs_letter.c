/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_letter.c - letters out and in; verbs_conn.c says what is in them.
 *
 * Anybody on the network may write to this queue pair who finds its Q_Key. So the first that
 * is looked at is whether a letter shows the secret that only our job knows, and the job.
 * Letters are lost at times: whoever wants an answer repeats them.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "verbs.h"
#include "pinwheel/clock.h"

_Static_assert(VERBS_GRH + sizeof(struct verbs_letter) <= VERBS_LETTER_ROOM, "it fits");
_Static_assert(sizeof(struct verbs_name) <= RDM_NAME_MAX, "a name fits");

static size_t letter_len(size_t name_len)
{
    return offsetof(struct verbs_letter, from.name) + name_len;
}

/* ---- what is right ---- */

static bool number_of_24_bits(uint32_t n)
{
    return n < UINT32_C(1) << 24;
}

bool verbs_name_right(const struct verbs_name *name, size_t len)
{
    return len == sizeof(*name) && name->link > VERBS_NOWHERE &&
           name->link <= VERBS_ROCE2_IPV6 && name->qpn && number_of_24_bits(name->qpn) &&
           !(name->q_key >> 31) && name->mtu >= IBV_MTU_256 && name->mtu <= IBV_MTU_4096 &&
           (name->lmc <= VERBS_LMC_MOST && (!name->lmc || name->link == VERBS_INFINIBAND)) &&
           !name->zero;
}

/* Who has our address with an error in it is to have no queue pair of ours, which would be
 * another one than that of who has it right. */
uint64_t verbs_address_sum(const struct rdm_address *a)
{
    return rdm_hash(RDM_HASH_BEGIN, a, sizeof(*a));
}

/* Same job, and it was told our address. Nothing else of it was looked at. */
static bool letter_ours(const struct rdm_address *own, const struct verbs_letter *letter)
{
    return letter->magic == VERBS_LETTER_MAGIC && letter->version == VERBS_VERSION &&
           !memcmp(letter->secret, own->secret, sizeof(letter->secret)) &&
           letter->job == own->job && letter->to == verbs_address_sum(own);
}

static bool letter_from_right(const struct rdm_address *own, const struct rdm_address *from,
                              uint32_t src_qpn)
{
    const struct verbs_name *name = verbs_name_of(from);

    return from->magic == own->magic && from->version == own->version &&
           from->protocol == own->protocol && from->format == own->format &&
           from->protocol_version == own->protocol_version && from->job == own->job &&
           verbs_name_right(name, from->name_len) && name->link == own->format &&
           name->qpn == src_qpn;
}

bool verbs_letter_read(const struct rdm_address *own, const void *bytes, size_t len,
                       uint32_t src_qpn, struct verbs_letter *out)
{
    memset(out, 0, sizeof(*out));
    if (len != letter_len(sizeof(struct verbs_name)))
        return false;
    memcpy(out, bytes, len);
    if (!letter_ours(own, out))
        return false;
    return out->what >= VERBS_ASK && out->what <= VERBS_BUSY && out->number &&
           (out->what >= VERBS_REST || out->qpn) &&
           (out->what == VERBS_ASK || out->what == VERBS_CLOSE || out->echo) &&
           number_of_24_bits(out->qpn) && number_of_24_bits(out->psn) &&
           out->mtu >= IBV_MTU_256 && out->mtu <= IBV_MTU_4096 &&
           letter_from_right(own, &out->from, src_qpn);
}

/* ---- in ---- */

static uint8_t *room_in(const struct verbs_nic *nic, unsigned i)
{
    return nic->letters + (size_t)i * VERBS_LETTER_ROOM;
}

int verbs_letter_post(struct verbs_nic *nic, unsigned i)
{
    struct ibv_sge sge = { .addr = (uintptr_t)room_in(nic, i), .length = VERBS_LETTER_ROOM,
                           .lkey = nic->letters_mr->lkey };
    struct ibv_recv_wr wr = { .wr_id = (uint64_t)i << 2 | VERBS_ID_LETTER_IN,
                              .sg_list = &sge, .num_sge = 1 }, *bad;
    int err = ibv_post_recv(nic->ud, &wr, &bad);

    nic->letter_in[i] = !err;
    return -err;
}

/* What is posted comes back, and then it is begun anew. */
static void letters_fail(struct verbs_nic *nic)
{
    struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };

    if (nic->letters_failed)
        return;
    nic->letters_failed = true;
    nic->letters_ms = rdm_ms(pw_now_ns());
    nic->lib->modify_qp(nic->ud, &attr, IBV_QP_STATE);
}

void verbs_letter_came(struct verbs_nic *nic, unsigned i, const struct ibv_wc *wc)
{
    struct verbs_letter letter;
    bool right;

    if (nic->closing || !nic->letter_in[i])
        return;
    nic->letter_in[i] = false;
    if (wc->status != IBV_WC_SUCCESS) {
        letters_fail(nic);
        return;
    }
    right = wc->byte_len >= VERBS_GRH && wc->byte_len <= VERBS_LETTER_ROOM &&
            verbs_letter_read(&nic->base.address, room_in(nic, i) + VERBS_GRH,
                              wc->byte_len - VERBS_GRH, wc->src_qp, &letter);
    if (verbs_letter_post(nic, i))
        letters_fail(nic);
    if (right)
        verbs_letter_heard(nic, &letter);
    else
        __atomic_fetch_add(&nic->base.base.counts.strangers, 1, __ATOMIC_RELAXED);
}

/* ---- out ---- */

static uint8_t *room_out(const struct verbs_nic *nic, unsigned i)
{
    return room_in(nic, VERBS_LETTERS_IN + i);
}

/* Questions whether a way may rest have numbers. */
static uint32_t letter_round(const struct verbs_way *way, uint8_t what)
{
    return what < VERBS_REST ? way->psn : what == VERBS_REST ? way->round : way->its_round;
}

static size_t letter_write(const struct verbs_way *way, uint8_t what, void *to)
{
    const struct verbs_nic *nic = way->nic;
    struct verbs_letter letter = {
        .magic = VERBS_LETTER_MAGIC, .version = VERBS_VERSION, .what = what,
        .mtu = (uint8_t)nic->found.attr.active_mtu, .reads = (uint8_t)nic->reads_served,
        .job = nic->base.address.job, .to = verbs_address_sum(&way->to), .number = way->number,
        .echo = what >= VERBS_RESTED ? way->its_heard : way->its_number, .qpn = way->qpn,
        .psn = letter_round(way, what),
        .from = nic->base.address,
    };

    memcpy(letter.secret, way->to.secret, sizeof(letter.secret));
    memcpy(to, &letter, letter_len(nic->base.address.name_len));
    return letter_len(nic->base.address.name_len);
}

int verbs_letter_send(struct verbs_way *way, uint8_t what)
{
    const struct verbs_name *name = verbs_name_of(&way->to);
    struct verbs_nic *nic = way->nic;
    struct ibv_sge sge = { .lkey = nic->letters_mr->lkey };
    struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND,
                              .send_flags = IBV_SEND_SIGNALED,
                              .wr.ud = { .ah = way->ah, .remote_qpn = name->qpn,
                                         .remote_qkey = name->q_key } }, *bad;
    unsigned i = 0;

    while (i < VERBS_LETTERS_OUT && nic->letter_of[i])
        i++;
    if (i == VERBS_LETTERS_OUT || !way->ah || nic->letters_failed)
        return -EAGAIN;
    sge.addr = (uintptr_t)room_out(nic, i);
    sge.length = (uint32_t)letter_write(way, what, room_out(nic, i));
    wr.wr_id = (uint64_t)i << 2 | VERBS_ID_LETTER_OUT;
    if (ibv_post_send(nic->ud, &wr, &bad))
        return -EAGAIN;
    nic->letter_of[i] = way;
    way->letters++;
    return 0;
}

static void letter_free(struct verbs_nic *nic, unsigned i)
{
    if (nic->letter_of[i])
        nic->letter_of[i]->letters--;
    nic->letter_of[i] = NULL;
}

void verbs_letter_left(struct verbs_nic *nic, unsigned i, const struct ibv_wc *wc)
{
    letter_free(nic, i);
    if (wc->status != IBV_WC_SUCCESS && !nic->closing)
        letters_fail(nic);
}

/* ---- failure ---- */

static bool letters_under_way(const struct verbs_nic *nic)
{
    for (unsigned i = 0; i < VERBS_LETTERS_IN; i++)
        if (nic->letter_in[i])
            return true;
    for (unsigned i = 0; i < VERBS_LETTERS_OUT; i++)
        if (nic->letter_of[i])
            return true;
    return false;
}

/* A device that cannot yet is asked again. */
void verbs_letters_tend(struct verbs_nic *nic, uint64_t now)
{
    struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RESET };

    if (!nic->letters_failed || nic->closing ||
        (letters_under_way(nic) && now < nic->letters_ms + VERBS_DRAIN_MS))
        return;
    for (unsigned i = 0; i < VERBS_LETTERS_OUT; i++)
        letter_free(nic, i);
    nic->letters_ms = now;
    nic->letters_failed = nic->lib->modify_qp(nic->ud, &attr, IBV_QP_STATE) ||
                          verbs_letters_begin(nic,
                                              verbs_name_of(&nic->base.address)->q_key);
}
