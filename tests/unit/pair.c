/* SPDX-License-Identifier: BSD-3-Clause */
/* pair.c - two engines in one process, each other's peer, over fake NICs. */
#include "pair.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct pair_waits pair_waits;
int pair_pinned;
int pair_open_error[2];
const char *pair_open_why;
bool pair_keys_expire;
int pair_get_error;
uint32_t pair_delay_ns;
unsigned pair_loss_percent;
void (*pair_before_send)(uint32_t imm);
void (*pair_after_send)(uint32_t imm);
void (*pair_on_kept)(const void *base, size_t len, size_t room, unsigned before);

static const struct pw_nic_ops *const rails_backends[2];
static bool keyed, offers, by_kernel, expired;
static unsigned rails, first_rail;

/* ---- the NICs ---- */

static int nic_open(int kind, const struct pw_nic_config *config, struct pw_nic **out)
{
    const struct pw_nic_ops *fake = kind ? &fake_nic_ops2 : &fake_nic_ops;
    int err = pair_open_error[kind];

    if (!kind && config->device)
        fake_nic_traits(fake)->network = (uint32_t)atoi(config->device->name + 1);
    if (err && pair_open_why)
        snprintf(config->why, PW_NIC_WHY_MAX, "%s", pair_open_why);
    if (!err)
        err = fake->open(config, out);
    if (!err) {
        (*out)->ops = config->device ? rails_backends[0] : pair_backends[kind];
        (*out)->info.key_size = keyed ? PW_NIC_KEY_MAX : 0;
    }
    return err;
}

static int pair_devices(struct pw_nic_device *out, int max)
{
    cr_assert(le(int, (int)rails, max));
    for (unsigned i = 0; i < rails; i++) {
        out[i] = (struct pw_nic_device){ .usable = true };
        snprintf(out[i].name, sizeof out[i].name, "r%u", first_rail + i);
        snprintf(out[i].address, sizeof out[i].address, "10.0.%u.1/24", first_rail + i);
    }
    return (int)rails;
}

static uint32_t pair_delay(struct pw_nic_peer *peer)
{
    (void)peer;
    return pair_delay_ns;
}

static int pair_open_1(const struct pw_nic_config *config, struct pw_nic **out)
{
    return nic_open(0, config, out);
}

static int pair_open_2(const struct pw_nic_config *config, struct pw_nic **out)
{
    return nic_open(1, config, out);
}

static int pair_probe_1(struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    return fake_nic_ops.probe(info, why);
}

static int pair_probe_2(struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    return fake_nic_ops2.probe(info, why);
}

static bool lost(void)
{
    static uint32_t seed = 12345;

    if (!pair_loss_percent)
        return false;
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % 100 < pair_loss_percent;
}

static int nic_send(struct pw_nic_peer *peer, uint32_t imm, const struct pw_iov *iov,
                    int n, void *op)
{
    int err = 0;

    if (pair_before_send)
        pair_before_send(imm);
    if (!lost())
        err = fake_nic_ops.send(peer, imm, iov, n, op);
    if (pair_after_send)
        pair_after_send(imm);
    return err;
}

static int nic_send_kept(struct pw_nic_peer *peer, uint32_t imm, const struct pw_iov *iov,
                         int n, size_t room, unsigned before, void *op)
{
    if (pair_on_kept)
        pair_on_kept(iov[0].base, iov[0].len, room, before);
    if (room)       /* it is ours */
        memset((char *)(uintptr_t)iov[0].base - room, PAIR_ROOM, room);
    return nic_send(peer, imm, iov, n, op);
}

static struct pair_side *nic_side(struct pw_nic_peer *peer);

static bool is_expired(void)
{
    return __atomic_load_n(&expired, __ATOMIC_RELAXED);
}

/* Without a key: what the peer's pool holds, when the plan says so. */
static bool offered(struct pw_nic_peer *peer, uint64_t remote, size_t len)
{
    return offers && pw_pool_contains(nic_side(peer)->other->pool,
                                      (void *)(uintptr_t)remote, len);
}

static enum pw_reach nic_reach(struct pw_nic_peer *peer, uint64_t remote, size_t len,
                               const struct pw_nic_key *key)
{
    enum pw_reach other = by_kernel ? PW_REACH_KERNEL : PW_REACH_NONE;

    if (!key || is_expired())
        return offered(peer, remote, len) ? PW_REACH_DIRECT : other;
    return keyed ? fake_nic_ops.reach(peer, remote, len, key) : other;
}

static int declined(int err)
{
    __atomic_store_n(&expired, err == -EOPNOTSUPP && pair_keys_expire, __ATOMIC_RELAXED);
    return err;
}

static int nic_put(struct pw_nic_peer *peer, const void *local, uint64_t remote,
                   size_t len, const struct pw_nic_key *key, void *op)
{
    if (key && keyed && !is_expired())
        return declined(fake_nic_ops.put(peer, local, remote, len, key, op));
    memcpy((void *)(uintptr_t)remote, local, len);
    return 0;
}

static int nic_get(struct pw_nic_peer *peer, void *local, uint64_t remote, size_t len,
                   const struct pw_nic_key *key, void *op)
{
    if (key && keyed && !is_expired())
        return declined(fake_nic_ops.get(peer, local, remote, len, key, op));
    if (pair_get_error)
        return pair_get_error;
    memcpy(local, (void *)(uintptr_t)remote, len);
    return 0;
}

/* The rest is the fake NIC's own; its tables share these. */
static void nic_close(struct pw_nic *nic) { fake_nic_ops.close(nic); }
static size_t nic_address(struct pw_nic *nic, void *out)
{
    return fake_nic_ops.address(nic, out);
}
static int nic_reachable(struct pw_nic *nic, const void *addr, size_t len)
{
    return fake_nic_ops.reachable(nic, addr, len);
}
static int nic_connect(struct pw_nic *nic, const void *addr, size_t len, void *cookie,
                       struct pw_nic_peer **out)
{
    return fake_nic_ops.connect(nic, addr, len, cookie, out);
}
static void nic_disconnect(struct pw_nic_peer *peer) { fake_nic_ops.disconnect(peer); }
static void nic_fence(struct pw_nic_peer *peer) { fake_nic_ops.fence(peer); }
static int nic_send_inline(struct pw_nic_peer *peer, uint32_t imm, const void *data,
                           size_t len)
{
    if (lost())
        return 0;
    return fake_nic_ops.send_inline(peer, imm, data, len);
}
static int nic_atomic(struct pw_nic_peer *peer, const struct pw_atomic *what,
                      uint64_t remote, uint64_t *result, const struct pw_nic_key *key,
                      void *op)
{
    return fake_nic_ops.atomic(peer, what, remote, result, key, op);
}
static int nic_pin(struct pw_nic *nic, void *addr, size_t len, unsigned access,
                   struct pw_nic_key *key)
{
    int err = fake_nic_ops.pin(nic, addr, len, access, key);

    if (!err)
        __atomic_add_fetch(&pair_pinned, 1, __ATOMIC_RELAXED);
    return err;
}
static void nic_unpin(struct pw_nic *nic, void *addr, size_t len,
                      const struct pw_nic_key *key)
{
    fake_nic_ops.unpin(nic, addr, len, key);
    __atomic_sub_fetch(&pair_pinned, 1, __ATOMIC_RELAXED);
}
static int nic_progress(struct pw_nic *nic) { return fake_nic_ops.progress(nic); }

static void nic_wait(struct pw_nic *nic, unsigned timeout_us)
{
    (void)nic;
    if (pair_waits.calls < PAIR_WAITS)
        pair_waits.us[pair_waits.calls] = timeout_us;
    pair_waits.calls++;
}

#define PAIR_TABLE(title, k) {                                              \
    .name = title, .probe = pair_probe_##k, .open = pair_open_##k,          \
    .close = nic_close, .address = nic_address, .reachable = nic_reachable, \
    .connect = nic_connect, .disconnect = nic_disconnect,                   \
    .fence = nic_fence, .send = nic_send, .send_kept = nic_send_kept,       \
    .send_inline = nic_send_inline, .reach = nic_reach, .put = nic_put,     \
    .get = nic_get, .atomic = nic_atomic, .pin = nic_pin,                   \
    .unpin = nic_unpin, .progress = nic_progress, .wait = nic_wait }

static const struct pw_nic_ops table_1 = PAIR_TABLE("fake", 1);
static const struct pw_nic_ops table_2 = PAIR_TABLE("fake2", 2);
const struct pw_nic_ops *const pair_backends[] = { &table_1, &table_2, NULL };

/* The first one's, once it has devices. */
static struct pw_nic_ops table_rails;
static const struct pw_nic_ops *const rails_backends[2] = { &table_rails, NULL };

/* ---- the sides ---- */

static struct pair_side *sides[2];

static struct pair_side *nic_side(struct pw_nic_peer *peer)
{
    for (int i = 0; i < sides[0]->e->n_nics; i++)
        if (sides[0]->e->nics[i] == peer->nic)
            return sides[0];
    return sides[1];
}

static void up_recv(void *ctx, void *cookie, uint8_t tag, const void *data, size_t len)
{
    struct pair_side *side = ctx;
    uint32_t number;

    cr_assert(eq(ptr, cookie, side));
    if (side->received < PAIR_SEEN) {
        side->tags[side->received] = tag;
        side->lens[side->received] = len;
        side->bytes[side->received] = len ? *(const uint8_t *)data : 0;
    }
    if (len == sizeof number) {
        memcpy(&number, data, sizeof number);
        side->disorder |= number != side->received;
    }
    side->received++;
    if (side->on_data)
        side->on_data(side, data, len);
    if (side->on_recv)
        side->on_recv(side);
}

static void up_dead(void *ctx, void *cookie, int cause, const char *why)
{
    struct pair_side *side = ctx;

    cr_assert(eq(ptr, cookie, side));
    side->deaths++;
    side->cause = cause;
    strncpy(side->why, why, sizeof side->why - 1);
    if (side->on_dead)
        side->on_dead(side);
}

static void up_news(void *ctx, void *cookie, const char *sentence)
{
    struct pair_side *side = ctx;

    cr_assert(eq(ptr, cookie, side));
    side->news++;
    snprintf(side->told, sizeof side->told, "%s", sentence);
}

static void up_caller(void *ctx, uint32_t fingerprint)
{
    struct pair_side *side = ctx;

    side->callers++;
    side->fingerprint = fingerprint;
    if (side->on_caller)
        side->on_caller(side);
}

/* A real one would watch the memory of the test itself. */
static int no_monitor(const char *name, struct pw_monitor **out,
                      struct pw_monitor_report *report)
{
    (void)name;
    return pw_monitor_open("none", out, report);
}

static const struct pw_engine_upcalls upcalls = { .recv = up_recv, .dead = up_dead,
                                                   .caller = up_caller, .news = up_news };

int pair_side_open(struct pair_side *side, const struct pair_plan *plan,
                   const char *nics, char why[PW_NIC_WHY_MAX])
{
    struct pw_pool_config pool = { .size = 4 << 20, .pages = PW_PAGES_4K };
    struct pw_engine_config config = {
        .up = &upcalls, .ctx = side, .nics = nics, .job = 7, .threads = plan->threads,
        .local_peers = 1, .queue_bytes = plan->queue_bytes, .kernel_copy = true,
        .bulk = plan->bulk, .chunk = plan->chunk ? plan->chunk : 1024,
        .chunk_most = plan->chunk_most, .cores = plan->cores,
        .sleep_us = plan->sleep_us, .backends = pair_backends, .monitor = plan->monitor,
        .monitor_open = plan->monitor_open ? plan->monitor_open : no_monitor,
        .peer_timeout_ms = plan->peer_timeout_ms,
        .pin_bytes = plan->pin_bytes, .pin_regions = plan->pin_regions,
        .costs = { .kernel = pw_cost_line(900, 13500),
                   .stream = pw_cost_line(500, 4000) },
    };
    int err;

    memset(side, 0, sizeof *side);
    rails = plan->rails;
    first_rail = plan->first;
    if (rails) {
        table_rails = table_1;
        table_rails.devices = pair_devices;
        table_rails.delay = pair_delay;
        config.backends = rails_backends;
        config.if_include = plan->include;
    }
    if (plan->backends) {
        config.backends = plan->backends;
        config.nics = NULL;
    }
    keyed = plan->keyed;
    expired = false;
    by_kernel = plan->kernel;
    offers = plan->offers;
    cr_assert(eq(int, pw_pool_open(&pool, &side->pool), 0));
    config.pool = side->pool;
    err = pw_engine_open(&config, &side->e, why);
    if (err)
        pw_pool_close(side->pool);
    return err;
}

void pair_side_close(struct pair_side *side)
{
    pw_engine_close(side->e);
    pw_pool_close(side->pool);
}

int pair_meet(struct pair_side *side, struct pair_side *other)
{
    uint8_t addr[PW_KEY_NICS * (PW_NIC_ADDRESS_MAX + 16)];
    char why[PW_NIC_WHY_MAX];
    int len = pw_engine_address(other->e, addr, sizeof addr);

    cr_assert(lt(int, 0, len));
    return pw_endpoint_open(side->e, addr, (size_t)len, side, &side->ep, why);
}

void pair_open(struct pair *p, const struct pair_plan *plan)
{
    const char *nics = plan->two_nics ? "fake,fake2" : "fake";
    char why[PW_NIC_WHY_MAX];

    memset(&pair_waits, 0, sizeof pair_waits);
    cr_assert(eq(int, pair_side_open(&p->a, plan, nics, why), 0), "%s", why);
    cr_assert(eq(int, pair_side_open(&p->b, plan, nics, why), 0), "%s", why);
    sides[0] = &p->a;
    sides[1] = &p->b;
    p->a.other = &p->b;
    p->b.other = &p->a;
    if (plan->apart)
        return;
    cr_assert(eq(int, pair_meet(&p->a, &p->b), 0));
    cr_assert(eq(int, pair_meet(&p->b, &p->a), 0));
}

void pair_close(struct pair *p)
{
    pair_side_close(&p->a);
    pair_side_close(&p->b);
    cr_expect(eq(uint, fake_nic_reset(), 0), "no NIC stays open");
}

void pair_turns(struct pair *p, unsigned n)
{
    while (n--) {
        pw_engine_progress(p->a.e);
        pw_engine_progress(p->b.e);
    }
}

bool pair_until(struct pair *p, const unsigned *count, unsigned want)
{
    time_t end = time(NULL) + 30;

    while (*count < want && time(NULL) < end)
        pair_turns(p, 1);
    return *count >= want;
}

int pair_send(struct pair_side *side, uint32_t number)
{
    struct pw_iov iov = { &number, sizeof number };

    return pw_endpoint_send(side->ep, (uint8_t)number, &iov, 1);
}

void pair_forge(struct pair_side *side, uint32_t imm, const void *data, size_t len)
{
    struct pw_nic_peer *peer = pair_peer(side, 0);
    struct pw_iov iov = { data, len };

    cr_assert(eq(int, peer->nic->ops->send(peer, imm, &iov, 1, NULL), 0));
}

struct pw_nic *pair_nic(struct pair_side *side, int i)
{
    return side->e->nics[i];
}

struct pw_nic_peer *pair_peer(struct pair_side *side, int i)
{
    return side->ep->paths[i].peer;
}

void pair_done(void *arg, int status)
{
    struct pair_outcome *o = arg;

    o->calls++;
    o->status = status;
}

static void note_done(struct pw_message *m, int status)
{
    struct pair_note *note = (struct pair_note *)m;

    note->status = status;
    __atomic_store_n(&note->calls, note->calls + 1, __ATOMIC_RELEASE);
}

void pair_queue(struct pair_side *side, struct pair_note *note, uint32_t number)
{
    *note = (struct pair_note){ .number = number, .status = 1 };
    note->m.n = 1;
    note->m.iov[0] = (struct pw_iov){ &note->number, sizeof note->number };
    note->m.done = note_done;
    pw_endpoint_queue(side->ep, (uint8_t)number, &note->m);
}
