/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_reads.c - over a device that reads its peers' memory by itself, by UCX.
 *
 * UCX is the real one and talks over the loopback, which does not read. So what it would do
 * with memory is done here: keys as it packs them, and reads of this process's memory that
 * end when somebody looks at what has come.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "btl/nic/ucx.h"
#include "rdm_pair.h"

extern const struct pw_nic_ops pw_nic_ucx;

__attribute__((constructor)) static void ops_set(void)
{
    ops = &pw_nic_ucx;
}

/* ---- a device ---- */

enum shape { ONE, TWO, LONGER, NONE, CUT };

enum reading {
    LATER,              /* done when the reader looks next */
    AT_ONCE,
    PEER,               /* not before the worker looks that was made last */
    HELD,               /* not before the endpoint is closed */
    LOST,               /* not even then */
};

struct memory {
    struct memory *next;
    const uint8_t *addr;
    size_t len;
    uint64_t key;
};

struct ucp_rkey {
    uint64_t key;
};

struct request {
    struct request *next;           /* of all that UCX has */
    bool under_way;
    ucp_worker_h worker;
    ucp_ep_h ep;
    void *to;
    size_t len;
    uint64_t from, key;
    ucp_send_nbx_callback_t cb;
    void *user_data;
    ucp_worker_h newest;
    bool newest_looked, canceled;
};

static struct {
    pthread_mutex_t lock;
    enum shape shape;
    enum reading reading;
    int map_errno;                  /* nothing can be registered; -1: no word of the kernel's */
    size_t register_most;           /* what is read into can be registered up to there */
    struct memory *memories;
    struct request *requests;
    ucp_worker_h newest;
    uint64_t keys;                  /* made; the next one's number */
    unsigned unpacked;              /* and not destroyed */
    unsigned reads;
    unsigned released;              /* requests that were given up */
} device = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct ucx_library real;

enum { ENDPOINTS = 256 };
static struct {
    ucp_ep_h ep;
    ucp_worker_h worker;
} endpoints[ENDPOINTS];
static int n_endpoints;

static void locked(void)
{
    pthread_mutex_lock(&device.lock);
}

static void unlocked(void)
{
    pthread_mutex_unlock(&device.lock);
}

/* What it has, while threads go on. */
static struct now { bool requests, memories; unsigned reads; } now(void)
{
    struct now n;

    locked();
    n = (struct now){ device.requests != NULL, device.memories != NULL, device.reads };
    unlocked();
    return n;
}

static ucs_status_t device_map(ucp_context_h context, const ucp_mem_map_params_t *params,
                               ucp_mem_h *out)
{
    struct memory *m;

    (void)context;
    if (device.map_errno) {
        errno = device.map_errno > 0 ? device.map_errno : 0;
        return UCS_ERR_IO_ERROR;
    }
    m = calloc(1, sizeof(*m));
    m->addr = params->address;
    m->len = params->length;
    locked();
    m->key = UINT64_C(0x1234567800000000) | ++device.keys;
    m->next = device.memories;
    device.memories = m;
    unlocked();
    *out = (ucp_mem_h)m;
    return UCS_OK;
}

static ucs_status_t device_unmap(ucp_context_h context, ucp_mem_h memory)
{
    struct memory **at = &device.memories;

    (void)context;
    locked();
    while (*at != (struct memory *)memory)
        at = &(*at)->next;
    *at = (*at)->next;
    unlocked();
    free(memory);
    return UCS_OK;
}

static uint8_t *domain_pack(uint8_t *at, const void *key, size_t len)
{
    *at++ = (uint8_t)len;
    memcpy(at, key, len);
    return at + len;
}

/* Of domain 3; one before it has a key of no bytes. */
static ucs_status_t device_pack(ucp_context_h context, ucp_mem_h memory, void **out,
                                size_t *len)
{
    const struct memory *m = (struct memory *)memory;
    uint64_t domains = device.shape == NONE ? 0 : device.shape == TWO ? 0x18 : 0xa;
    uint64_t key[2] = { m->key, 0 };
    uint8_t *packed = calloc(1, 64), *at = packed + 9;

    (void)context;
    memcpy(packed, &domains, sizeof(domains));
    if (device.shape == ONE || device.shape == LONGER || device.shape == CUT)
        at = domain_pack(at, key, 0);
    if (device.shape != NONE)
        at = domain_pack(at, key, device.shape == LONGER ? 16 : 8);
    if (device.shape == TWO)
        at = domain_pack(at, key, 8);
    *out = packed;
    *len = (size_t)(at - packed) - (device.shape == CUT);
    return UCS_OK;
}

static ucs_status_t device_unpack(ucp_ep_h ep, const void *packed, ucp_rkey_h *out)
{
    const uint8_t *p = packed;

    (void)ep;
    cr_assert(p[0] == 8 && p[8] == UCS_MEMORY_TYPE_HOST && p[9] == 8);
    *out = calloc(1, sizeof(**out));
    memcpy(&(*out)->key, p + 10, 8);
    locked();
    device.unpacked++;
    unlocked();
    return UCS_OK;
}

static void device_destroy(ucp_rkey_h key)
{
    locked();
    device.unpacked--;
    unlocked();
    free(key);
}

/* Is that memory registered by that key? */
static bool memory_there(uint64_t key, uint64_t from, size_t len)
{
    for (const struct memory *m = device.memories; m; m = m->next)
        if (m->key == key && from >= (uintptr_t)m->addr &&
            from + len <= (uintptr_t)m->addr + m->len)
            return true;
    return false;
}

static ucs_status_ptr_t device_get(ucp_ep_h ep, void *buffer, size_t count, uint64_t remote,
                                   ucp_rkey_h key, const ucp_request_param_t *param)
{
    struct request *r;

    if (device.register_most && count > device.register_most)
        return UCS_STATUS_PTR(UCS_ERR_IO_ERROR);
    locked();
    device.reads++;
    if (device.reading == AT_ONCE && memory_there(key->key, remote, count)) {
        memcpy(buffer, (void *)(uintptr_t)remote, count);
        unlocked();
        return NULL;
    }
    r = calloc(1, sizeof(*r));
    *r = (struct request){ .next = device.requests, .under_way = true, .ep = ep, .to = buffer,
                           .len = count, .from = remote, .key = key->key, .cb = param->cb.send,
                           .user_data = param->user_data, .newest = device.newest };
    for (int i = 0; i < n_endpoints; i++)
        if (endpoints[i].ep == ep)
            r->worker = endpoints[i].worker;
    device.requests = r;
    unlocked();
    return r;
}

static void reading_set(enum reading how)
{
    locked();
    device.reading = how;
    unlocked();
}

static bool request_due(struct request *r, ucp_worker_h worker)
{
    if (!r->under_way)
        return false;
    r->newest_looked = r->newest_looked || r->newest == worker;
    if (r->worker != worker || device.reading == LOST)
        return false;
    return r->canceled || (device.reading == PEER ? r->newest_looked
                                                  : device.reading != HELD);
}

static struct request *request_take(ucp_worker_h worker)
{
    struct request *r;

    locked();
    r = device.requests;
    while (r && !request_due(r, worker))
        r = r->next;
    if (r)
        r->under_way = false;
    unlocked();
    return r;
}

static unsigned device_progress(ucp_worker_h worker)
{
    struct request *r;

    while ((r = request_take(worker))) {
        ucs_status_t status = r->canceled ? UCS_ERR_CANCELED : UCS_ERR_IO_ERROR;

        locked();
        if (!r->canceled && memory_there(r->key, r->from, r->len)) {
            memcpy(r->to, (void *)(uintptr_t)r->from, r->len);
            status = UCS_OK;
        }
        unlocked();
        r->cb(r, status, r->user_data);
    }
    return real.progress(worker);
}

static void device_free(void *request)
{
    struct request **at = &device.requests, *r;

    locked();
    while (*at && *at != request)
        at = &(*at)->next;
    r = *at;
    if (r) {
        *at = r->next;
        device.released += r->under_way;
    }
    unlocked();
    if (r)
        free(r);
    else
        real.request_free(request);
}

static ucs_status_t device_worker(ucp_context_h context, const ucp_worker_params_t *params,
                                  ucp_worker_h *out)
{
    ucs_status_t status = real.worker_create(context, params, out);

    device.newest = *out;
    return status;
}

static ucs_status_t device_way(ucp_worker_h worker, const ucp_ep_params_t *params,
                               ucp_ep_h *out)
{
    ucs_status_t status = real.ep_create(worker, params, out);

    locked();
    cr_assert(status == UCS_OK && n_endpoints < ENDPOINTS);
    endpoints[n_endpoints].ep = *out;
    endpoints[n_endpoints++].worker = worker;
    unlocked();
    return status;
}

static ucs_status_ptr_t device_close(ucp_ep_h ep, const ucp_request_param_t *param)
{
    locked();
    for (struct request *r = device.requests; r; r = r->next)
        r->canceled = r->canceled || r->ep == ep;
    for (int i = 0; i < n_endpoints; i++)
        if (endpoints[i].ep == ep)
            endpoints[i--] = endpoints[--n_endpoints];
    unlocked();
    return real.ep_close(ep, param);
}

static void device_make(void)
{
    char why[PW_NIC_WHY_MAX] = "";
    struct ucx_library *lib = (struct ucx_library *)(uintptr_t)ucx_library(why);

    if (!lib)
        cr_skip_test("%s", why);
    real = *lib;
    lib->mem_map = device_map;
    lib->mem_unmap = device_unmap;
    lib->rkey_pack = device_pack;
    lib->rkey_release = free;
    lib->rkey_unpack = device_unpack;
    lib->rkey_destroy = device_destroy;
    lib->get = device_get;
    lib->request_free = device_free;
    lib->worker_create = device_worker;
    lib->ep_create = device_way;
    lib->ep_close = device_close;
    lib->progress = device_progress;
}

static void pair_close_clean(void)
{
    pair_close();
    cr_expect(eq(int, (int)device.unpacked, 0), "keys");
    cr_expect(device.memories == NULL, "registrations");
    cr_expect(device.requests == NULL, "requests");
}

/* ---- is it used? ---- */

static bool reads(const struct end *end)
{
    return ((const struct rdm_nic *)end->nic)->reads;
}

static bool neither_reads(void)
{
    return !reads(&a) && !reads(&b);
}

static unsigned long long copied(void)
{
    return __atomic_load_n(&a.nic->counts.wire_copied, __ATOMIC_RELAXED) +
           __atomic_load_n(&b.nic->counts.wire_copied, __ATOMIC_RELAXED);
}

Test(ucx_reads, long_puts_and_gets_are_copied_nowhere, .timeout = 60)
{
    struct pw_nic_key from, to;
    unsigned long long before;

    device_make();
    pair_open();
    cr_expect(reads(&a) && reads(&b));
    cr_expect(strstr(a.nic->info.note, "by itself") != NULL, "%s", a.nic->info.note);
    move_all_sizes();
    cr_assert(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &from), 0));
    cr_assert(eq(int, ops->pin(b.nic, target, BYTES, PW_READ | PW_WRITE, &to), 0));
    before = copied();
    move(true, BYTES, &to);
    move(false, BYTES, &from);
    cr_expect(eq(u64, copied() - before, 0));
    ops->unpin(b.nic, source, BYTES, &from);
    ops->unpin(b.nic, target, BYTES, &to);
    pair_close_clean();
}

Test(ucx_reads, what_is_done_at_once_is_told_too, .timeout = 60)
{
    device_make();
    reading_set(AT_ONCE);
    pair_open();
    cr_expect(reads(&a) && reads(&b));
    move_all_sizes();
    pair_close_clean();
}

/* Then it is done by messages, which this device has: and would take as long as the peer
 * computes. */
Test(ucx_reads, a_device_that_waits_for_the_peer_is_not_used, .timeout = 60)
{
    unsigned tried;

    device_make();
    reading_set(PEER);
    pair_open();
    cr_expect(neither_reads());
    cr_expect(strstr(a.nic->info.note, "waits for the peer") != NULL, "%s",
              a.nic->info.note);
    tried = now().reads;
    move_all_sizes();
    cr_expect(eq(uint, now().reads, tried));
    pair_close_clean();
}

Test(ucx_reads, keys_that_do_not_go_into_ours_are_not_used, .timeout = 120)
{
    static const enum shape shapes[] = { TWO, LONGER, NONE, CUT };

    device_make();
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        device.shape = shapes[i];
        pair_open();
        cr_expect(neither_reads(), "shape %d", shapes[i]);
        move_all_sizes();
        cr_expect(eq(uint, now().reads, 0));
        pair_close_clean();
    }
}

Test(ucx_reads, one_side_that_does_not_read_is_served_by_messages, .timeout = 60)
{
    device_make();
    cr_assert(eq(int, end_open(&a), 0));
    device.shape = NONE;
    cr_assert(eq(int, end_open(&b), 0));
    device.shape = ONE;
    cr_expect(reads(&a) && !reads(&b));
    connect_to(&a, &b);
    connect_to(&b, &a);
    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    SOON(b.frames == 1);
    move_all_sizes();
    pair_close_clean();
}

/* ---- memory that UCX would not have ---- */

Test(ucx_reads, memory_that_cannot_be_registered_goes_by_messages, .timeout = 60)
{
    struct pw_nic_key key;
    unsigned tried;

    device_make();
    pair_open();
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, target, BYTES, PW_READ | PW_WRITE, &key), 0));
    device.map_errno = -1;
    tried = now().reads;
    move(true, BYTES, &key);                    /* the local side */
    cr_expect(eq(uint, now().reads, tried));
    ops->unpin(b.nic, target, BYTES, &key);
    move_all_sizes();                           /* both */
    cr_expect(eq(uint, now().reads, tried));
    device.map_errno = 0;
    pair_close_clean();
}

/* The cache gives up others then. */
Test(ucx_reads, no_more_that_may_be_pinned_is_told, .timeout = 60)
{
    struct pw_nic_key key;

    device_make();
    pair_open();
    memory_make();
    device.map_errno = ENOMEM;
    cr_expect(eq(int, ops->pin(b.nic, target, BYTES, PW_READ, &key), -ENOMEM));
    device.map_errno = 0;
    pair_close_clean();
}

/* What is read into is registered by UCX, which says only that it failed. */
Test(ucx_reads, what_cannot_be_read_into_at_once_comes_in_pieces, .timeout = 60)
{
    device_make();
    pair_open();
    device.register_most = RDM_READ_SHORT;
    move_all_sizes();
    cr_expect(lt(uint, BYTES / RDM_READ_SHORT, now().reads));
    pair_close_clean();
}

/* ---- memory that changes ---- */

static char settings[512];

static ucs_status_t settings_note(ucp_config_t *config, const char *name, const char *value)
{
    size_t at = strlen(settings);

    snprintf(settings + at, sizeof(settings) - at, " %s=%s ", name, value);
    return real.config_modify(config, name, value);
}

static uint64_t features;

static ucs_status_t features_note(unsigned major, unsigned minor, const ucp_params_t *params,
                                  const ucp_config_t *config, ucp_context_h *out)
{
    features = params->features;
    return real.init(major, minor, params, config, out);
}

static void open_alone(const char *device, bool distrust, struct pw_nic **out)
{
    static const struct pw_nic_upcalls nobody;
    struct pw_nic_device at = { .name = "lo" };
    struct pw_nic_config config = { .up = &nobody, .device = device ? &at : NULL,
                                    .distrust = distrust };

    setenv("UCX_NET_DEVICES", "lo", 1);
    cr_assert(eq(int, ops->open(&config, out), 0));
}

/* UCX would read and write for anybody, by messages. */
Test(ucx_reads, ucx_is_let_into_memory_by_networks_that_are_trusted, .timeout = 60)
{
    static const struct {
        const char *device;
        bool distrust, let;
    } stories[] = { { NULL, false, true }, { NULL, true, false }, { "lo", false, false } };
    struct pw_nic *nic;

    device_make();
    ((struct ucx_library *)(uintptr_t)ucx_library(settings))->init = features_note;
    for (int i = 0; i < 3; i++) {
        open_alone(stories[i].device, stories[i].distrust, &nic);
        cr_expect(eq(int, (features & UCP_FEATURE_RMA) != 0, stories[i].let), "%d", i);
        if (stories[i].distrust)
            cr_expect(eq(int, ((struct rdm_nic *)nic)->reads, 0));
        ops->close(nic);
    }
}

/* What UCX kept registered by itself could go stale, and be read from or into. */
Test(ucx_reads, ucx_keeps_no_registrations, .timeout = 60)
{
    struct pw_nic *nic;

    setenv("UCX_RCACHE_ENABLE", "y", 1);
    setenv("UCX_IB_REG_METHODS", "rcache", 1);
    device_make();
    ((struct ucx_library *)(uintptr_t)ucx_library(settings))->config_modify = settings_note;
    open_alone(NULL, false, &nic);
    cr_expect(strstr(settings, " RCACHE_ENABLE=n ") != NULL, "%s", settings);
    cr_expect(strstr(settings, " REG_METHODS=direct ") != NULL, "%s", settings);
    ops->close(nic);
}

/* munmap, mmap: same address, other pages. */
Test(ucx_reads, same_address_new_pages_is_read_anew, .timeout = 60)
{
    struct pw_nic_key old, new;
    char *at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    device_make();
    pair_open();
    memory_make();
    memset(at, 1, BYTES);
    cr_assert(eq(int, ops->pin(b.nic, at, BYTES, PW_READ, &old), 0));
    ops->unpin(b.nic, at, BYTES, &old);
    cr_expect(not(now().memories), "UCX keeps nothing of it");
    munmap(at, BYTES);
    cr_assert(mmap(at, BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
    memset(at, 2, BYTES);
    cr_assert(eq(int, ops->pin(b.nic, at, BYTES, PW_READ, &new), 0));
    cr_expect(memcmp(&old, &new, sizeof(old)) != 0);
    cr_assert(eq(int, ops->get(a.peer, target, (uintptr_t)at, BYTES, &new, &a),
                 PW_NIC_PENDING));
    SOON(a.done == 1);
    cr_expect(eq(int, a.status, 0));
    cr_expect(eq(int, target[0], 2));
    ops->unpin(b.nic, at, BYTES, &new);
    pair_close_clean();
}

/* A device refuses that by breaking the connection. */
Test(ucx_reads, memory_that_is_not_registered_any_more_is_not_read, .timeout = 60)
{
    device_make();
    get_unpinned(BYTES);
    SOON(a.downs == 1);
    cr_expect(eq(int, (int)a.done, 1));
    cr_expect(eq(int, a.status, -ECONNRESET));
    cr_expect(eq(int, target[0], 0));
    pair_close_clean();
}

/* ---- peers that are lost ---- */

static void way_fail(struct end *end)
{
    struct rdm_nic *nic = (struct rdm_nic *)end->nic;

    rdm_lock(&nic->guard);
    rdm_peer_lost((struct rdm_peer *)end->peer, -ETIMEDOUT, "the story says so");
    rdm_unlock(&nic->guard);
}

/* Between two, of which one reads the other's memory by a device that does it so. */
static void get_begin(enum reading how, struct pw_nic_key *key)
{
    device_make();
    pair_open();
    reading_set(how);
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, key), 0));
    cr_assert(eq(int, ops->get(a.peer, target, (uintptr_t)source, BYTES, key, &a),
                 PW_NIC_PENDING));
    look();
    cr_assert(eq(int, (int)a.done, 0));
}

/* Whoever is told that a get has ended may use its memory for other things. */
Test(ucx_reads, a_get_ends_when_ucx_has_let_go_of_its_memory, .timeout = 60)
{
    struct pw_nic_key key;

    get_begin(HELD, &key);
    way_fail(&a);
    SOON(a.downs == 1);
    cr_expect(eq(int, (int)a.done, 1));
    cr_expect(eq(int, a.status, -ECONNRESET));
    cr_expect(not(now().requests));
    reading_set(LATER);
    ops->disconnect(a.peer);
    a.downs = 0;
    connect_to(&a, &b);
    SOON(b.downs == 1);
    ops->disconnect(b.peer);
    connect_to(&b, &a);
    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    SOON(b.frames == 2);
    move(false, BYTES, &key);
    pair_close_clean();
}

Test(ucx_reads, a_get_that_ends_well_while_its_peer_is_given_up, .timeout = 60)
{
    struct pw_nic_key key;

    get_begin(HELD, &key);
    way_fail(&a);
    look();
    reading_set(LATER);
    SOON(a.downs == 1);
    cr_expect(eq(int, (int)a.done, 1));
    pair_close_clean();
}

/* The put is done again elsewhere, and its memory used for other things. */
Test(ucx_reads, a_put_of_a_lost_peer_is_let_go_of, .timeout = 60)
{
    struct pw_nic_key key;

    device_make();
    pair_open();
    reading_set(HELD);
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, target, BYTES, PW_WRITE, &key), 0));
    cr_assert(eq(int, ops->put(a.peer, source, (uintptr_t)target, BYTES, &key, &a),
                 PW_NIC_PENDING));
    SOON(now().requests);
    way_fail(&b);
    SOON(b.downs == 1);
    cr_expect(not(now().requests));
    ops->unpin(b.nic, target, BYTES, &key);
    pair_close_clean();
}

Test(ucx_reads, who_disconnects_has_its_memory_back, .timeout = 60)
{
    struct pw_nic_key key;

    get_begin(HELD, &key);
    ops->disconnect(a.peer);
    cr_expect(not(now().requests));
    look();
    cr_expect(eq(int, (int)a.done, 0), "nobody is told");
    reading_set(LATER);
    pair_close_clean();
}

/* It cannot be taken back, so what UCX may still tell of it stays until the end. */
Test(ucx_reads, a_read_that_ucx_does_not_give_back, .timeout = 60)
{
    struct pw_nic_key key;

    get_begin(LOST, &key);
    ops->disconnect(a.peer);
    cr_expect(now().requests);
    reading_set(LATER);
    SOON(!now().requests);
    cr_expect(eq(int, (int)a.done, 0));
    pair_close_clean();
}

Test(ucx_reads, a_nic_is_closed_with_a_read_that_does_not_come_back, .timeout = 60)
{
    struct pw_nic_key key;

    get_begin(LOST, &key);
    pair_close_clean();
    cr_expect(eq(uint, device.released, 1));
}
