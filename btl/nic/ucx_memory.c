/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_memory.c - what is registered with UCX, its keys, reading by it.
 *
 * UCX packs a key as a map of memory domains, a kind of memory, and for each domain the length
 * and the bytes of its own key. A worker has one domain with a key, of 8 bytes: those go into
 * ours, and which domain that is stands in the worker's address. From both a packed key is
 * made again. UCX does not say that it looks so: what does not is not used (ucx_map), and
 * ucx_test.c reads by one before anybody gets any. Both sides have the same version.
 *
 * An unpacked key is memory of UCX's alone, and no call of the kernel: each read has its own,
 * so there is none that could outlive its region.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "ucx.h"

/* A key as UCX packs it, of one domain. */
struct ucx_packed {
    uint64_t domains;
    uint8_t kind;
    uint8_t len;
    uint64_t key;
} __attribute__((packed));

struct ucx_mr {
    uint64_t key;
    ucp_mem_h memory;           /* NULL: only a number by which peers name it */
};

/* What a context of rdm's is to UCX. */
struct ucx_read {
    struct ucx_read *next;      /* of the NIC: under way, or ended */
    struct ucx_nic *nic;
    struct ucx_way *way;
    ucp_rkey_h key;
    void *request;
};

_Static_assert(sizeof(struct ucx_read) <= sizeof(((struct rdm_context *)0)->room),
               "UCX's part of a context fits");

/* ---- keys ---- */

/* The one domain that has a key: not those whose keys are of no bytes. */
static int key_parse(const uint8_t *packed, size_t len, struct ucx_key *out)
{
    size_t at = offsetof(struct ucx_packed, len);
    uint64_t domains;
    int found = 0;

    if (len < at)
        return -EOPNOTSUPP;
    memcpy(&domains, packed, sizeof(domains));
    for (unsigned i = 0; i < 64; i++) {
        size_t n;

        if (!(domains >> i & 1))
            continue;
        n = at < len ? packed[at++] : len;
        if (n > len - at || (n && n != sizeof(out->key)))
            return -EOPNOTSUPP;
        if (n) {
            out->domain = i;
            memcpy(&out->key, packed + at, n);
            found++;
        }
        at += n;
    }
    return found == 1 && at == len ? 0 : -EOPNOTSUPP;
}

static int key_take(struct ucx_nic *nic, ucp_mem_h memory, struct ucx_key *out)
{
    void *packed;
    size_t len;
    int err;

    if (nic->lib->rkey_pack(nic->context, memory, &packed, &len) != UCS_OK)
        return -ENOMEM;
    err = key_parse(packed, len, out);
    nic->lib->rkey_release(packed);
    return err;
}

ucs_status_t ucx_key_unpack(const struct ucx_nic *nic, ucp_ep_h ep,
                            const struct ucx_key *key, ucp_rkey_h *out)
{
    struct ucx_packed packed = { .domains = UINT64_C(1) << key->domain,
                                 .kind = UCS_MEMORY_TYPE_HOST, .len = sizeof(key->key),
                                 .key = key->key };

    return nic->lib->rkey_unpack(ep, &packed, out);
}

/* ---- registered memory ---- */

/* UCX says no more than that it failed; the kernel's word is left in errno. */
int ucx_map(struct ucx_nic *nic, const void *addr, size_t len, ucp_mem_h *out,
            struct ucx_key *key)
{
    ucp_mem_map_params_t params = {
        .field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH |
                      UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE,
        .address = (void *)(uintptr_t)addr,
        .length = len,
        .memory_type = UCS_MEMORY_TYPE_HOST,
    };
    int err;

    errno = 0;
    if (nic->lib->mem_map(nic->context, &params, out) != UCS_OK)
        return errno == ENOMEM ? -ENOMEM : -EFAULT;
    err = key_take(nic, *out, key);
    if (err)
        nic->lib->mem_unmap(nic->context, *out);
    return err;
}

/* Memory that UCX would not have, as what may only be read, goes by messages. */
static int mr_fill(struct ucx_nic *nic, const void *addr, size_t len, struct ucx_mr *mr)
{
    struct ucx_key key;
    int err = nic->base.reads ? ucx_map(nic, addr, len, &mr->memory, &key) : -EOPNOTSUPP;

    if (!err && key.domain == nic->domain) {
        mr->key = key.key;
        return 0;
    }
    if (!err)
        nic->lib->mem_unmap(nic->context, mr->memory);
    mr->memory = NULL;
    if (err == -ENOMEM)
        return err;
    return getrandom(&mr->key, sizeof(mr->key), 0) == (ssize_t)sizeof(mr->key) ? 0 : -EIO;
}

int ucx_mr_open(struct rdm_nic *nic, const void *addr, size_t len, unsigned access,
                void **out)
{
    struct ucx_mr *mr = calloc(1, sizeof(*mr));
    int err = mr ? mr_fill(ucx_of(nic), addr, len, mr) : -ENOMEM;

    (void)access;               /* rdm's files see to that; UCX 1.13 gives all rights */
    if (err) {
        free(mr);
        mr = NULL;
    }
    *out = mr;
    return err;
}

void ucx_mr_close(struct rdm_nic *base, void *opaque)
{
    struct ucx_nic *nic = ucx_of(base);
    struct ucx_mr *mr = opaque;

    if (mr->memory)
        nic->lib->mem_unmap(nic->context, mr->memory);
    free(mr);
}

uint64_t ucx_mr_key(void *mr)
{
    return ((const struct ucx_mr *)mr)->key;
}

bool ucx_mr_reads(void *mr)
{
    return ((const struct ucx_mr *)mr)->memory != NULL;
}

/* ---- reading ---- */

static const struct ucx_name *name_of(const struct rdm_peer *peer)
{
    return (const void *)peer->address.name;
}

bool ucx_peer_reads(const struct rdm_peer *peer)
{
    return name_of(peer)->domain != 0;
}

static struct ucx_read *read_of(struct rdm_context *c)
{
    return (struct ucx_read *)(void *)c->room;
}

static struct rdm_context *context_of(struct ucx_read *read)
{
    return (struct rdm_context *)((char *)read - offsetof(struct rdm_context, room));
}

static void read_over(struct ucx_read *read, ucs_status_t status)
{
    struct ucx_nic *nic = read->nic;
    struct ucx_way *way = read->way;

    nic->lib->rkey_destroy(read->key);
    rdm_ended(&nic->base, context_of(read), 0, ucx_errno(status));
    ucx_way_read(nic, way);
}

static void read_ended(void *request, ucs_status_t status, void *user_data)
{
    struct ucx_read *read = user_data, **at = &read->nic->reads;

    while (*at != read)
        at = &(*at)->next;
    *at = read->next;
    read->nic->lib->request_free(request);
    read_over(read, status);
}

int ucx_reads_tell(struct ucx_nic *nic)
{
    int n = 0;

    while (nic->ended) {
        struct ucx_read *read = nic->ended;

        nic->ended = read->next;
        if (!nic->ended)
            nic->ended_end = &nic->ended;
        read_over(read, UCS_OK);
        n++;
    }
    return n;
}

void ucx_reads_forget(struct ucx_nic *nic)
{
    for (struct ucx_read *read = nic->reads; read; read = read->next) {
        nic->lib->rkey_destroy(read->key);
        nic->lib->request_free(read->request);      /* and read_ended() is not called */
    }
    for (struct ucx_read *read = nic->ended; read; read = read->next)
        nic->lib->rkey_destroy(read->key);
    nic->reads = nic->ended = NULL;
    nic->ended_end = &nic->ended;
}

/* UCX has it: it is under way, or was done at once. */
static void read_begun(struct ucx_read *read, ucs_status_ptr_t got)
{
    struct ucx_nic *nic = read->nic;

    read->way->reads++;
    read->request = got;
    if (got) {
        read->next = nic->reads;
        nic->reads = read;
    } else {
        read->next = NULL;
        *nic->ended_end = read;
        nic->ended_end = &read->next;
    }
}

/* Short ones come through memory of UCX's. An error of IO without one of the way's is that
 * UCX cannot register `to`, which it has to only where it is long. */
int ucx_read(struct rdm_peer *peer, struct rdm_context *c, void *to, size_t len, void *mr,
             uint64_t from, uint64_t number)
{
    struct ucx_nic *nic = ucx_of(rdm_nic_of(peer));
    struct ucx_key key = { .domain = name_of(peer)->domain - 1u, .key = number };
    struct ucx_read *read = read_of(c);
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
        .cb.send = read_ended,
        .user_data = read,
    };
    ucs_status_ptr_t got;

    (void)mr;
    *read = (struct ucx_read){ .nic = nic, .way = peer->to.pointer };
    if (read->way->failed)
        return -ECONNRESET;
    if (ucx_key_unpack(nic, read->way->ep, &key, &read->key) != UCS_OK)
        return -EAGAIN;
    got = nic->lib->get(read->way->ep, to, len, from, read->key, &param);
    if (UCS_PTR_IS_ERR(got)) {
        nic->lib->rkey_destroy(read->key);
        return UCS_PTR_STATUS(got) == UCS_ERR_IO_ERROR ? -ENOMEM
                                                       : -ucx_errno(UCS_PTR_STATUS(got));
    }
    read_begun(read, got);
    if (len < UCX_ZCOPY)
        __atomic_fetch_add(&nic->base.base.counts.wire_copied, len, __ATOMIC_RELAXED);
    return 0;
}
