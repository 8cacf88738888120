/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_fuzz_wire.c - see rdm_fuzz.h. */
#include "rdm_fuzz.h"

#include <stdlib.h>
#include <string.h>

struct fuzz_mouth mouth;

/* ---- what is said is spoilt ---- */

static void keep(struct fuzz_message *k, const void *bytes, size_t len)
{
    free(k->bytes);
    k->bytes = malloc(len + 1);
    if (!k->bytes)
        abort();
    k->len = len;
    memcpy(k->bytes, bytes, len);
}

void fuzz_forget(struct fuzz_mouth *m)
{
    free(m->late.bytes);
    m->late = (struct fuzz_message){ 0 };
    for (int i = 0; i < FUZZ_KEPT; i++) {
        free(m->kept[i].bytes);
        m->kept[i] = (struct fuzz_message){ 0 };
    }
}

static struct rdm_key some_key(struct fuzz_mouth *m)
{
    struct rdm_key key;

    memcpy(&key, &m->keys[fuzz_pick(m, FUZZ_KEYS)], sizeof(key));
    return key;
}

/* A place in some memory, or a little outside of it. */
static uint64_t some_place(struct fuzz_mouth *m, const struct rdm_key *key)
{
    uint64_t x = fuzz_pick(m, 8);

    if (x == 0)
        return key->base - 1 - fuzz_pick(m, 16);
    if (x == 1)
        return key->base + key->len - fuzz_pick(m, 16);
    return x == 2 ? draw(&m->state) : key->base + fuzz_pick(m, key->len + 1);
}

static uint64_t some_word(struct fuzz_mouth *m)
{
    struct rdm_key key = some_key(m);
    uint64_t x = fuzz_pick(m, 8);

    switch (x) {
    case 0: return draw(&m->state);
    case 1: return fuzz_pick(m, 3) - 1;
    case 2: return key.key;
    case 3: return key.len + fuzz_pick(m, 3) - 1;
    case 4: return UINT64_C(1) << fuzz_pick(m, 64);
    case 5: return key.place;
    default: return some_place(m, &key);
    }
}

static void word_spoil(struct fuzz_mouth *m, uint8_t *bytes, size_t len)
{
    size_t size = fuzz_pick(m, 2) ? 4 : 8, head = len < 96 ? len : 96;
    uint64_t word = some_word(m);

    if (head >= size)
        memcpy(bytes + fuzz_pick(m, head / size) * size, &word, size);
}

/* Behind the next one. */
static void arrive_late(struct fuzz_mouth *m, struct fake_port *to, const void *bytes,
                        size_t len)
{
    if (!m->late.bytes) {
        keep(&m->late, bytes, len);
        return;
    }
    fake_port_arrives(to, bytes, len);
    fake_port_arrives(to, m->late.bytes, m->late.len);
    free(m->late.bytes);
    m->late.bytes = NULL;
}

static void arrive_changed(struct fuzz_mouth *m, struct fake_port *to, const void *bytes,
                           size_t len)
{
    static uint8_t copy[FUZZ_LONGEST];
    const size_t head = sizeof(struct rdm_head);

    memcpy(copy, bytes, len);
    if (len > head)
        word_spoil(m, copy + head, len - head);
    fake_port_arrives(to, copy, len);
}

static void arrive_spoilt(struct fuzz_mouth *m, struct fake_port *to, const void *bytes,
                          size_t len)
{
    static uint8_t copy[FUZZ_LONGEST + 64];
    struct fuzz_message *k = &m->kept[fuzz_pick(m, FUZZ_KEPT)];
    uint64_t x = fuzz_pick(m, 10);

    memcpy(copy, bytes, len);
    switch (x) {
    case 0:
        keep(k, bytes, len);                    /* lost, or late */
        return;
    case 1:
        fake_port_arrives(to, bytes, len);      /* twice */
        break;
    case 2:
        len = fuzz_pick(m, len + 1);
        break;
    case 3:
        len += fuzz_pick(m, FUZZ_LONGEST - len + 1 < 64 ? FUZZ_LONGEST - len + 1 : 64);
        break;
    case 4:
        if (k->bytes)
            fake_port_arrives(to, k->bytes, k->len);
        break;
    case 5:
        for (size_t i = 0; i < len && i < 64; i++)
            copy[i] = (uint8_t)draw(&m->state);
        break;
    case 6:
    case 7:
        if (len)
            copy[fuzz_pick(m, len < 96 ? len : 96)] ^= (uint8_t)(1u << fuzz_pick(m, 8));
        break;
    default:
        word_spoil(m, copy, len);
        break;
    }
    fake_port_arrives(to, copy, len);
}

void fuzz_wire(struct fake_port *from, struct fake_port *to, const void *bytes, size_t len)
{
    struct fuzz_mouth *m = &mouth;

    if ((struct rdm_nic *)from != m->bad || fuzz_pick(m, m->spoil_in)) {
        fake_port_arrives(to, bytes, len);
        return;
    }
    m->spoilt++;
    switch (m->manner) {
    case FUZZ_LATE:
        arrive_late(m, to, bytes, len);
        break;
    case FUZZ_CHANGED:
        arrive_changed(m, to, bytes, len);
        break;
    default:
        arrive_spoilt(m, to, bytes, len);
        break;
    }
}

/* ---- what is made up ---- */

/* Of something that the victim has asked for, or of nothing. */
static uint32_t some_id(struct fuzz_mouth *m)
{
    const struct rdm_op *op = m->seen ? m->seen->ops : NULL;
    uint64_t skip = fuzz_pick(m, 4);

    for (; op && op->next && skip; skip--)
        op = op->next;
    return op && fuzz_pick(m, 8) ? op->id : (uint32_t)fuzz_pick(m, 5);
}

static struct rdm_put_head some_target(struct fuzz_mouth *m)
{
    struct rdm_key key = some_key(m), other = some_key(m);
    bool mixed = !fuzz_pick(m, 6);

    return (struct rdm_put_head){
        .addr = some_place(m, &key), .id = (uint32_t)draw(&m->state),
        .place = key.place, .key = mixed ? other.key : key.key,
    };
}

/* Where the victim stands with that get, mostly; always where it is not to be nonsense. */
static struct rdm_get_data some_data(struct fuzz_mouth *m)
{
    const struct rdm_op *op = m->seen ? m->seen->ops : NULL;
    struct rdm_get_data data = { .id = some_id(m) };

    while (op && op->id != data.id)
        op = op->next;
    data.at = op && (m->manner != FUZZ_WILD || fuzz_pick(m, 4)) ? op->landed
                                                               : fuzz_pick(m, 100);
    data.status = fuzz_pick(m, 6) ? 0 : (int32_t)fuzz_pick(m, 300) - 200;
    return data;
}

static void make_up_ordered(struct fuzz_mouth *m)
{
    static const uint8_t zeros[FUZZ_LONGEST];
    struct rdm_fetch_head fetch = { .to = some_target(m), .len = fuzz_pick(m, 200000),
                                    .from = some_word(m), .from_key = some_word(m) };
    struct rdm_get_data data = some_data(m);
    unsigned kinds = m->manner == FUZZ_WILD || m->bad->streams ? 4 : 3;
    struct rdm_head head = { .kind = (uint16_t)(RDM_DATA + fuzz_pick(m, kinds)),
                             .imm = (uint32_t)draw(&m->state) };
    size_t more = fuzz_pick(m, 6) ? fuzz_pick(m, 300) : fuzz_pick(m, FUZZ_LONGEST - 128);
    struct pw_iov iov[2] = { { zeros, 0 }, { zeros, more } };

    if (head.kind == RDM_PUT)
        iov[0] = (struct pw_iov){ &fetch.to, sizeof(fetch.to) };
    if (head.kind == RDM_FETCH)
        iov[0] = (struct pw_iov){ &fetch, sizeof(fetch) };
    if (head.kind == RDM_GET_DATA)
        iov[0] = (struct pw_iov){ &data, sizeof(data) };
    if (head.kind == RDM_FETCH && (m->manner != FUZZ_WILD || fuzz_pick(m, 20)))
        iov[1].len = 0;
    if (head.kind == RDM_GET_DATA && m->manner != FUZZ_WILD)
        iov[1].len = 1;
    rdm_ordered_now(m->to, &head, iov, 2);
}

static void make_up_control(struct fuzz_mouth *m)
{
    struct rdm_key key = some_key(m), other = some_key(m);
    struct rdm_get get = {
        .head = rdm_control(m->to, RDM_GET), .addr = some_place(m, &key),
        .len = fuzz_pick(m, 8) ? 1 + fuzz_pick(m, 200) : draw(&m->state) % (2 * key.len),
        .key = fuzz_pick(m, 6) ? key.key : other.key, .id = (uint32_t)fuzz_pick(m, 9),
        .place = key.place,
    };
    struct rdm_head head = rdm_control(m->to, (uint16_t)(RDM_ACK + fuzz_pick(m, 3)));

    if (m->manner != FUZZ_WILD && !get.len)
        get.len = 1;
    if ((m->manner == FUZZ_WILD || m->bad->streams) && fuzz_pick(m, 2))
        rdm_message(m->to, &get, sizeof(get));
    else if (m->manner == FUZZ_WILD && fuzz_pick(m, 2))
        rdm_put_answer(m->to, some_id(m), fuzz_pick(m, 3) ? 0 : -5);
    else
        rdm_message(m->to, &head, sizeof(head));
}

/* One that comes before others, again and again. */
static void make_up_early(struct fuzz_mouth *m)
{
    struct rdm_head head = rdm_control(m->to, RDM_DATA);

    head.seq += 1 + (uint32_t)fuzz_pick(m, 8);
    for (int i = 0; i < 2 * RDM_WINDOW; i++)
        rdm_message(m->to, &head, sizeof(head));
}

void fuzz_make_up(struct fuzz_mouth *m)
{
    rdm_lock(&m->bad->guard);
    if (m->to->state == RDM_UP && m->manner == FUZZ_WILD && !fuzz_pick(m, 6))
        make_up_early(m);
    else if (m->to->state == RDM_UP && fuzz_pick(m, 3))
        make_up_ordered(m);
    else if (m->to->state == RDM_UP)
        make_up_control(m);
    rdm_unlock(&m->bad->guard);
}
