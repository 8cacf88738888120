/* SPDX-License-Identifier: BSD-3-Clause */
/* attach.c - memory outside the pools that peers map, over a driver made of memfds.
 *
 * Two shm NICs in one process: `a` asks, `b` owns. Nobody may use the kernel's copy
 * unless a test says so, so what arrives came by attaching.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "btl/nic/shm.h"
#include "tests/unit/fake_share.h"

extern const struct pw_nic_ops pw_nic_shm;

enum { PAGE = 4096, SHORT = 64 << 10, LONG = 256 << 10, MAPPINGS = 64 };

struct side {
    struct pw_pool *pool;
    struct pw_nic *nic;
    struct pw_nic_peer *peer;
};

struct rig {
    struct side a, b;
};

/* What differs between the sides is set between their openings. */
struct plan {
    bool kernel, threads, off;
    int a_open_error;
};

static void up_recv(void *ctx, void *peer, uint32_t imm, const void *data, size_t len)
{
    (void)ctx, (void)peer, (void)imm, (void)data, (void)len;
}

static void up_down(void *ctx, void *peer, int cause, const char *why)
{
    (void)ctx, (void)peer, (void)cause, (void)why;
}

static const struct pw_nic_upcalls up = { .recv = up_recv, .down = up_down };

static void side_open(struct side *s, const struct plan *plan, bool attach)
{
    struct pw_pool_config pc = { .size = (size_t)4 << 20, .pages = PW_PAGES_4K };
    struct pw_nic_config nc = { .up = &up, .local_peers = 1, .queue_bytes = 65536,
                                .attach = attach, .kernel_copy = plan->kernel,
                                .threads = plan->threads };

    cr_assert(eq(int, pw_pool_open(&pc, &s->pool), 0));
    nc.pool = s->pool;
    cr_assert(eq(int, pw_nic_shm.open(&nc, &s->nic), 0));
}

static void side_close(struct side *s)
{
    pw_nic_shm.close(s->nic);
    pw_pool_close(s->pool);
}

static void meet(struct rig *r)
{
    uint8_t address[PW_NIC_ADDRESS_MAX];
    size_t len = pw_nic_shm.address(r->b.nic, address);

    cr_assert(eq(int, pw_nic_shm.connect(r->a.nic, address, len, r, &r->a.peer), 0));
    len = pw_nic_shm.address(r->a.nic, address);
    cr_assert(eq(int, pw_nic_shm.connect(r->b.nic, address, len, r, &r->b.peer), 0));
    while (!((struct shm_peer *)r->a.peer)->heard || !((struct shm_peer *)r->b.peer)->heard) {
        pw_nic_shm.progress(r->a.nic);
        pw_nic_shm.progress(r->b.nic);
    }
}

static void rig_open_as(struct rig *r, const struct plan *plan)
{
    fake_share.open_error = plan->a_open_error;
    side_open(&r->a, plan, !plan->off);
    fake_share.open_error = 0;
    side_open(&r->b, plan, true);
    meet(r);
}

static void rig_open(struct rig *r)
{
    fake_share_install();
    rig_open_as(r, &(struct plan){ 0 });
}

static void rig_close(struct rig *r)
{
    side_close(&r->a);
    side_close(&r->b);
}

static const struct pw_nic_counts *counts(const struct rig *r)
{
    return &r->a.nic->counts;
}

/* Memory of b that is pinned; filled with what depends on its address and on seed. */
struct region {
    char *at;
    size_t len;
    struct pw_nic_key key;
};

static void fill(char *at, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++)
        at[i] = (char)(seed + i * 7 + (i >> 9));
}

static bool filled(const char *at, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++)
        if (at[i] != (char)(seed + i * 7 + (i >> 9)))
            return false;
    return true;
}

static char *map(size_t len)
{
    char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    cr_assert(ne(ptr, p, MAP_FAILED));
    return p;
}

static int pin(struct rig *r, struct region *x, unsigned access)
{
    return pw_nic_shm.pin(r->b.nic, x->at, x->len, access, &x->key);
}

static struct region region_new(struct rig *r, size_t len, unsigned access, unsigned seed)
{
    struct region x = { .at = map(len), .len = len };

    fill(x.at, len, seed);
    cr_assert(eq(int, pin(r, &x, access), 0));
    return x;
}

static void region_free(struct rig *r, struct region *x)
{
    pw_nic_shm.unpin(r->b.nic, x->at, x->len, &x->key);
    munmap(x->at, x->len);
}

static uint64_t at(const void *p)
{
    return (uint64_t)(uintptr_t)p;
}

static enum pw_reach reach(struct rig *r, const struct region *x)
{
    return pw_nic_shm.reach(r->a.peer, at(x->at), x->len, &x->key);
}

static int get(struct rig *r, void *local, const struct region *x)
{
    return pw_nic_shm.get(r->a.peer, local, at(x->at), x->len, &x->key, NULL);
}

static int put(struct rig *r, const void *local, const struct region *x)
{
    return pw_nic_shm.put(r->a.peer, local, at(x->at), x->len, &x->key, NULL);
}

/* One get as the core does it, and is the data right? */
static bool fetched(struct rig *r, const struct region *x, unsigned seed)
{
    char *local = map(x->len);
    bool right = reach(r, x) == PW_REACH_DIRECT && !get(r, local, x) &&
                 filled(local, x->len, seed);

    munmap(local, x->len);
    return right;
}

static bool zeros(const struct pw_nic_key *key)
{
    static const struct pw_nic_key none;

    return !memcmp(key, &none, sizeof(none));
}

/* ---- when it is mapped ---- */

Test(attach, a_long_transfer_is_worth_a_mapping_at_once)
{
    struct rig r;
    struct region x;
    char *local = map(LONG);

    rig_open(&r);
    cr_expect(eq(sz, r.a.nic->info.key_size, sizeof(struct shm_key)));
    cr_expect(ne(uint, r.a.nic->info.flags & PW_NIC_KEYS_OPTIONAL, 0));
    x = region_new(&r, LONG, PW_READ | PW_WRITE, 3);
    cr_expect(fetched(&r, &x, 3));
    fill(local, LONG, 9);
    cr_expect(eq(int, put(&r, local, &x), 0));
    cr_expect(filled(x.at, LONG, 9), "it is the owner's memory, not a copy");
    cr_expect(fetched(&r, &x, 9));
    cr_expect(eq(u64, counts(&r)->attached, 1));
    cr_expect(eq(u64, counts(&r)->attach_bytes, 3 * LONG));
    cr_expect(eq(uint, fake_share.maps, 1));
    region_free(&r, &x);
    rig_close(&r);
}

Test(attach, a_short_one_is_from_its_second_use_on)
{
    struct rig r;
    struct region x;

    rig_open(&r);
    x = region_new(&r, SHORT, PW_READ, 4);
    cr_expect(eq(int, reach(&r, &x), PW_REACH_NONE));
    cr_expect(eq(uint, fake_share.maps, 0));
    cr_expect(fetched(&r, &x, 4));
    cr_expect(eq(u64, counts(&r)->attached, 1));
    region_free(&r, &x);
    rig_close(&r);
}

Test(attach, until_then_the_kernel_copies_it)
{
    struct rig r;
    struct region x;
    char *local = map(SHORT);

    fake_share_install();
    rig_open_as(&r, &(struct plan){ .kernel = true });
    x = region_new(&r, SHORT, PW_READ, 5);
    if (reach(&r, &x) != PW_REACH_KERNEL)
        cr_skip_test("the kernel does not copy here");
    cr_expect(eq(int, get(&r, local, &x), 0));
    cr_expect(filled(local, SHORT, 5));
    cr_expect(eq(uint, fake_share.maps, 0));
    cr_expect(eq(u64, counts(&r)->attach_bytes, 0));
    cr_expect(fetched(&r, &x, 5));
    cr_expect(eq(u64, counts(&r)->attach_bytes, SHORT));
    region_free(&r, &x);
    rig_close(&r);
}

Test(attach, a_window_is_at_once_whatever_its_size)
{
    struct pw_atomic add = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 5 };
    uint64_t result = 0;
    struct rig r;
    struct region x;

    rig_open(&r);
    x = region_new(&r, PAGE, PW_READ | PW_WRITE | PW_ATOMIC, 0);
    *(uint64_t *)(void *)x.at = 37;
    cr_expect(eq(int, pw_nic_shm.reach(r.a.peer, at(x.at), 8, &x.key), PW_REACH_DIRECT));
    cr_expect(eq(int, pw_nic_shm.atomic(r.a.peer, &add, at(x.at), &result, &x.key, NULL), 0));
    cr_expect(eq(u64, result, 37));
    cr_expect(eq(u64, *(uint64_t *)(void *)x.at, 42));
    region_free(&r, &x);
    rig_close(&r);
}

Test(attach, what_is_not_a_multiple_of_pages_is_reached_in_its_middle)
{
    struct rig r;
    struct region x;
    char *base = map(LONG + 2 * PAGE), *local = map(LONG);

    rig_open(&r);
    x = (struct region){ .at = base + 100, .len = LONG };
    fill(x.at, x.len, 6);
    cr_assert(eq(int, pin(&r, &x, PW_READ), 0));
    cr_expect(eq(int, pw_nic_shm.reach(r.a.peer, at(x.at), LONG, &x.key), PW_REACH_DIRECT));
    cr_expect(eq(int, pw_nic_shm.get(r.a.peer, local, at(x.at) + 1000, 3000, &x.key, NULL), 0));
    cr_expect(eq(int, memcmp(local, x.at + 1000, 3000), 0));
    pw_nic_shm.unpin(r.b.nic, x.at, x.len, &x.key);
    rig_close(&r);
}

Test(attach, the_pool_is_not_exported)
{
    struct rig r;
    struct region x = { .len = LONG };

    rig_open(&r);
    x.at = pw_pool_alloc(r.b.pool, LONG, 0);
    cr_expect(eq(int, pin(&r, &x, PW_READ | PW_WRITE), 0));
    cr_expect(zeros(&x.key));
    cr_expect(eq(uint, fake_share.exports, 0));
    cr_expect(eq(int, reach(&r, &x), PW_REACH_DIRECT));
    pw_nic_shm.unpin(r.b.nic, x.at, LONG, &x.key);
    cr_expect(eq(uint, fake_share.drops, 0));
    rig_close(&r);
}

Test(attach, huge_pages_can_be_mapped_as_such)
{
    const uint64_t huge = 2 << 20;
    struct shm_mapping *m;
    struct rig r;
    struct region x;
    char *here;

    rig_open(&r);
    for (int i = 0; i < 8; i++) {
        x = region_new(&r, 3 * huge + (unsigned)i * PAGE, PW_READ, 1);
        cr_expect(eq(int, reach(&r, &x), PW_REACH_DIRECT));
        cr_assert(eq(int, shm_attach_get((struct shm_peer *)r.a.peer, at(x.at), 1, &x.key,
                                         false, &here, &m), 0));
        cr_expect(eq(u64, at(here) % huge, at(x.at) % huge));
        cr_expect(shm_attach_put((struct shm_peer *)r.a.peer, m, 0));
        cr_expect(fetched(&r, &x, 1));
        region_free(&r, &x);
    }
    rig_close(&r);
}

Test(attach, what_may_only_be_read_is_not_written)
{
    struct rig r;
    struct region x;
    char *local = map(LONG);

    rig_open(&r);
    x = region_new(&r, LONG, PW_READ, 1);
    cr_expect(fetched(&r, &x, 1));
    cr_expect(eq(int, put(&r, local, &x), -EOPNOTSUPP));
    cr_expect(filled(x.at, LONG, 1));
    region_free(&r, &x);
    rig_close(&r);
}

/* ---- without the driver ---- */

/* As before there was one: no keys, no reach. */
static void expect_none(struct rig *r, const char *note)
{
    struct region x = region_new(r, LONG, PW_READ | PW_ATOMIC, 1);

    cr_expect(eq(int, reach(r, &x), PW_REACH_NONE), "%s", note);
    cr_expect(eq(int, get(r, x.at, &x), -EOPNOTSUPP));
    cr_expect(eq(uint, fake_share.maps, 0));
    region_free(r, &x);
}

static int open_descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* Side a is opened with that fault; it tells that, and goes on without. */
static void without(const char *note)
{
    int before = open_descriptors();
    struct plan plan = { 0 };
    struct rig r;

    side_open(&r.a, &plan, true);
    cr_expect(ne(ptr, strstr(r.a.nic->info.note, note), NULL), "%s", r.a.nic->info.note);
    cr_expect(eq(sz, r.a.nic->info.key_size, 0));
    cr_expect(not(r.a.nic->info.flags & PW_NIC_KEYS_OPTIONAL));
    fake_share_install();
    side_open(&r.b, &plan, true);
    meet(&r);
    expect_none(&r, note);
    rig_close(&r);
    cr_expect(eq(int, open_descriptors(), before), "%s", note);
}

Test(attach, without_a_device_nothing_is_attached)
{
    fake_share_install();
    fake_share.open_error = ENOENT;
    without("there is no /dev/pinwheel");
}

Test(attach, without_permission_it_says_so)
{
    fake_share_install();
    fake_share.open_error = EACCES;
    without("must be in its group");
    fake_share.open_error = EMFILE;
    without("Too many open files");
}

Test(attach, another_driver_is_not_used)
{
    fake_share_install();
    fake_share.info_error = ENOTTY;
    without("no driver of ours");
    fake_share.version++;
    without("has version 2");
    fake_share.words_bytes = 64;
    without("no slots");
    fake_share.services = PW_KD_SERVICE_WATCH | PW_KD_SERVICE_POOL;
    without("does not offer this");
    fake_share.share_error = ENOMEM;
    without("no memory or descriptors");
}

Test(attach, it_can_be_switched_off)
{
    struct rig r;

    fake_share_install();
    rig_open_as(&r, &(struct plan){ .off = true });
    cr_expect(ne(ptr, strstr(r.a.nic->info.note, "switched off"), NULL));
    cr_expect(eq(sz, r.a.nic->info.key_size, 0));
    expect_none(&r, "off");
    rig_close(&r);
}

/* Its regions have no key; nor can it attach ours. */
Test(attach, a_peer_without_the_driver_is_no_hindrance)
{
    struct pw_nic_key key;
    struct rig r;
    char *mine = map(LONG);

    fake_share_install();
    rig_open_as(&r, &(struct plan){ .a_open_error = ENOENT });
    expect_none(&r, "the asking one has none");
    cr_expect(eq(int, pw_nic_shm.pin(r.a.nic, mine, LONG, PW_READ, &key), 0));
    cr_expect(zeros(&key));
    cr_expect(eq(int, pw_nic_shm.reach(r.b.peer, at(mine), LONG, &key), PW_REACH_NONE));
    pw_nic_shm.unpin(r.a.nic, mine, LONG, &key);
    rig_close(&r);
}

Test(attach, interrupted_calls_are_made_again)
{
    struct rig r;
    struct region x;

    fake_share_install();
    fake_share.interrupts = 3;
    rig_open_as(&r, &(struct plan){ 0 });
    fake_share.interrupts = 2;
    x = region_new(&r, LONG, PW_READ, 1);
    cr_expect(fetched(&r, &x, 1));
    fake_share.interrupts = 1;
    region_free(&r, &x);
    cr_expect(eq(uint, fake_share.drops, 1));
    rig_close(&r);
}

/* ---- memory that is refused ---- */

static int pinned_with(struct rig *r, int err, bool *has_key)
{
    struct region x = { .at = map(LONG), .len = LONG };
    int answer;

    memset(&x.key, 0xff, sizeof(x.key));
    fake_share.export_error = err;
    fake_share.export_errors = 1;
    answer = pin(r, &x, PW_READ);
    *has_key = !zeros(&x.key);
    pw_nic_shm.unpin(r->b.nic, x.at, LONG, &x.key);
    munmap(x.at, LONG);
    return answer;
}

Test(attach, a_limit_is_told_so_that_others_can_be_unpinned)
{
    const int limits[] = { EDQUOT, ENOMEM, ENOSPC };
    struct rig r;
    bool key;

    rig_open(&r);
    for (int i = 0; i < 3; i++) {
        cr_expect(eq(int, pinned_with(&r, limits[i], &key), -ENOMEM));
        cr_expect(not(key));
    }
    cr_expect(eq(int, pinned_with(&r, EAGAIN, &key), -EAGAIN));
    cr_expect(eq(u64, r.b.nic->counts.attach_refused, 4));
    cr_expect(eq(uint, fake_share.drops, 0));
    rig_close(&r);
}

Test(attach, what_can_never_be_exported_is_reached_otherwise)
{
    const int finals[] = { EOPNOTSUPP, EFAULT, ENOENT, EACCES, EXDEV, EINVAL };
    struct rig r;
    bool key;

    rig_open(&r);
    for (int i = 0; i < 6; i++) {
        cr_expect(eq(int, pinned_with(&r, finals[i], &key), 0));
        cr_expect(not(key));
    }
    rig_close(&r);
}

/* Somebody has closed our descriptor, and its number is another control's. */
Test(attach, an_export_of_another_descriptor_is_taken_back)
{
    struct rig r;
    struct region x = { .at = map(LONG), .len = LONG };

    rig_open(&r);
    fake_share.other_id = 999;
    cr_expect(eq(int, pin(&r, &x, PW_READ), 0));
    cr_expect(zeros(&x.key));
    cr_expect(eq(uint, fake_share.drops, 1));
    rig_close(&r);
}

Test(attach, where_it_cannot_be_mapped_it_is_not_tried_for_ever)
{
    struct rig r;
    struct region x, y;
    char *local = map(LONG);

    rig_open(&r);
    x = region_new(&r, LONG, PW_READ, 1);
    cr_expect(fetched(&r, &x, 1));
    y = region_new(&r, 4 << 20, PW_READ, 2);
    fake_share.map_error = ENOMEM;
    for (int i = 0; i < 2; i++) {
        struct region *z = i ? &y : &x;
        enum pw_reach before = reach(&r, z);

        cr_expect(eq(int, before, PW_REACH_DIRECT));
        cr_expect(eq(int, pw_nic_shm.get(r.a.peer, local, at(z->at), LONG, &z->key, NULL),
                     i ? -EOPNOTSUPP : 0), "what is mapped already is");
    }
    cr_expect(eq(int, reach(&r, &y), PW_REACH_NONE));
    cr_expect(eq(int, pw_nic_shm.get(r.a.peer, local, at(y.at), LONG, &y.key, NULL),
                 -EOPNOTSUPP));
    cr_expect(eq(uint, fake_share.maps, 2));
    cr_expect(eq(u64, counts(&r)->attach_refused, 1));
    region_free(&r, &x);
    region_free(&r, &y);
    rig_close(&r);
}

Test(attach, without_the_words_nothing_is_mapped)
{
    struct rig r;
    struct region x;
    char *local = map(LONG);

    rig_open(&r);
    x = region_new(&r, LONG, PW_READ, 1);
    fake_share.map_error = ENOMEM;
    cr_expect(eq(int, reach(&r, &x), PW_REACH_DIRECT));
    cr_expect(eq(int, get(&r, local, &x), -EOPNOTSUPP));
    cr_expect(eq(uint, fake_share.maps, 0));
    cr_expect(eq(int, reach(&r, &x), PW_REACH_NONE));
    region_free(&r, &x);
    rig_close(&r);
}

/* ---- changes ---- */

Test(attach, memory_that_has_changed_is_not_read)
{
    struct rig r;
    struct region x;
    char *local = map(LONG);

    rig_open(&r);
    x = region_new(&r, LONG, PW_READ | PW_WRITE | PW_ATOMIC, 1);
    cr_expect(fetched(&r, &x, 1));
    fake_share_change(x.at + PAGE, PW_KD_DISCARD);
    fill(local, LONG, 77);
    cr_expect(eq(int, get(&r, local, &x), -EOPNOTSUPP));
    cr_expect(filled(local, LONG, 77));
    cr_expect(eq(int, reach(&r, &x), PW_REACH_NONE));
    cr_expect(eq(int, put(&r, local, &x), -EOPNOTSUPP));
    cr_expect(filled(x.at, LONG, 1));
    cr_expect(eq(u64, counts(&r)->attach_stale, 1));
    cr_expect(eq(u64, counts(&r)->attach_bytes, LONG));

    /* Pinned anew it is another region. */
    pw_nic_shm.unpin(r.b.nic, x.at, x.len, &x.key);
    fill(x.at, LONG, 2);
    cr_assert(eq(int, pin(&r, &x, PW_READ), 0));
    cr_expect(fetched(&r, &x, 2));
    region_free(&r, &x);
    rig_close(&r);
}

Test(attach, a_region_that_changed_before_its_first_use_is_not_mapped)
{
    struct rig r;
    struct region x;

    rig_open(&r);
    x = region_new(&r, LONG, PW_READ, 1);
    cr_expect(eq(int, reach(&r, &x), PW_REACH_DIRECT));
    fake_share_change(x.at, PW_KD_UNMAP);
    cr_expect(eq(int, get(&r, x.at, &x), -EOPNOTSUPP));
    cr_expect(eq(uint, fake_share.maps, 0));
    region_free(&r, &x);
    rig_close(&r);
}

/* A page that cannot be touched at first: what happens then happens in the middle of
 * the copy. */
static char *trap;
static const void *changes;

static void trapped(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    if (info->si_addr < (void *)trap || info->si_addr >= (void *)(trap + PAGE))
        _exit(99);
    mprotect(trap, PAGE, PROT_READ | PROT_WRITE);
    fake_share_change(changes, PW_KD_UNMAP);
}

static void trap_set(char *page, const void *what)
{
    struct sigaction sa = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO };

    trap = page;
    changes = what;
    sigaction(SIGSEGV, &sa, NULL);
    mprotect(trap, PAGE, PROT_NONE);
}

Test(attach, what_changes_while_it_is_copied_is_not_believed)
{
    struct rig r;
    struct region x;
    char *local = map(LONG);

    rig_open(&r);
    for (int putting = 0; putting < 2; putting++) {
        x = region_new(&r, LONG, PW_READ | PW_WRITE, 1);
        cr_expect(fetched(&r, &x, 1));
        trap_set(local + LONG / 2, x.at);
        cr_expect(eq(int, putting ? put(&r, local, &x) : get(&r, local, &x), -EOPNOTSUPP));
        cr_expect(eq(int, reach(&r, &x), PW_REACH_NONE));
        cr_expect(eq(u64, counts(&r)->attach_stale, 1 + (unsigned)putting));
        cr_expect(eq(u64, counts(&r)->attach_bytes, (1 + (unsigned)putting) * LONG));
        region_free(&r, &x);
    }
    rig_close(&r);
}

/* Once done it must not be done again, unless it was done to nobody's memory. */
Test(attach, an_atomic_is_not_repeated_for_a_change_behind_it)
{
    const struct { enum pw_kd_event event; bool done; } cases[] = {
        { PW_KD_UNMAP, true }, { PW_KD_DISCARD, true }, { PW_KD_PROTECT, true },
        { PW_KD_GONE, false }, { PW_KD_DROPPED, false },
    };
    struct shm_mapping *m;
    struct rig r;
    char *here;

    rig_open(&r);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct region x = region_new(&r, PAGE, PW_READ | PW_WRITE | PW_ATOMIC, 1);
        struct shm_peer *p = (struct shm_peer *)r.a.peer;

        cr_expect(eq(int, reach(&r, &x), PW_REACH_DIRECT));
        cr_assert(eq(int, shm_attach_get(p, at(x.at), 8, &x.key, true, &here, &m), 0));
        fake_share_change(x.at, cases[i].event);
        cr_expect(eq(int, shm_attach_put_once(p, m), cases[i].done), "event %d",
                  cases[i].event);
        cr_expect(eq(int, reach(&r, &x), PW_REACH_NONE));
        region_free(&r, &x);
    }
    rig_close(&r);
}

/* ---- the table ---- */

static int shares_mapped(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    int n = 0;

    while (fgets(line, sizeof(line), f))
        n += strstr(line, "fake share") != NULL;
    fclose(f);
    return n;
}

Test(attach, the_ones_unused_for_longest_make_room)
{
    enum { N = MAPPINGS + 10 };
    static struct region x[N];
    struct rig r;
    int before;

    rig_open(&r);
    for (int i = 0; i < N; i++)
        x[i] = region_new(&r, LONG, PW_READ, (unsigned)i);
    before = shares_mapped();
    for (int i = 0; i < MAPPINGS; i++)
        cr_expect(fetched(&r, &x[i], (unsigned)i));
    cr_expect(eq(u64, counts(&r)->attach_evicted, 0));
    cr_expect(fetched(&r, &x[0], 0), "used again, it is not the oldest");
    for (int i = MAPPINGS; i < N; i++)
        cr_expect(fetched(&r, &x[i], (unsigned)i));
    cr_expect(eq(u64, counts(&r)->attach_evicted, N - MAPPINGS));
    cr_expect(eq(u64, counts(&r)->attached, N));
    cr_expect(fetched(&r, &x[0], 0));
    cr_expect(eq(u64, counts(&r)->attached, N), "it was kept");
    cr_expect(fetched(&r, &x[1], 1));
    cr_expect(eq(u64, counts(&r)->attached, N + 1), "it was not, and is mapped again");
    cr_expect(eq(int, shares_mapped(), before + MAPPINGS + 1), "with the words");
    pw_nic_shm.disconnect(r.a.peer);
    cr_expect(eq(int, shares_mapped(), before), "nothing stays mapped");
    for (int i = 0; i < N; i++)
        region_free(&r, &x[i]);
    rig_close(&r);
}

Test(attach, what_nobody_can_use_makes_room_first)
{
    static struct region x[MAPPINGS + 1];
    struct rig r;

    rig_open(&r);
    for (int i = 0; i <= MAPPINGS; i++)
        x[i] = region_new(&r, LONG, PW_READ, (unsigned)i);
    for (int i = 0; i < MAPPINGS; i++)
        cr_expect(fetched(&r, &x[i], (unsigned)i));
    fake_share_change(x[30].at, PW_KD_DROPPED);
    cr_expect(fetched(&r, &x[MAPPINGS], MAPPINGS));
    cr_expect(fetched(&r, &x[0], 0));
    cr_expect(eq(u64, counts(&r)->attached, MAPPINGS + 1), "the oldest is still mapped");
    for (int i = 0; i <= MAPPINGS; i++)
        region_free(&r, &x[i]);
    rig_close(&r);
}

/* What one uses is not taken away by another; and when all are in use, that is that. */
Test(attach, what_is_in_use_stays_mapped)
{
    static struct region x[MAPPINGS + 1];
    struct shm_mapping *m[MAPPINGS];
    struct shm_peer *p;
    struct rig r;
    char *here[MAPPINGS], byte;

    rig_open(&r);
    p = (struct shm_peer *)r.a.peer;
    for (int i = 0; i <= MAPPINGS; i++) {
        x[i] = region_new(&r, LONG, PW_READ, (unsigned)i);
        cr_expect(eq(int, reach(&r, &x[i]), PW_REACH_DIRECT));
        if (i < MAPPINGS)
            cr_assert(eq(int, shm_attach_get(p, at(x[i].at), LONG, &x[i].key, false, &here[i],
                                             &m[i]), 0));
    }
    cr_expect(eq(int, pw_nic_shm.get(r.a.peer, &byte, at(x[MAPPINGS].at), 1,
                                     &x[MAPPINGS].key, NULL), -EOPNOTSUPP));
    fake_share_change(x[5].at, PW_KD_DISCARD);
    cr_expect(eq(int, pw_nic_shm.get(r.a.peer, &byte, at(x[5].at), 1, &x[5].key, NULL),
                 -EOPNOTSUPP), "stale, though another uses it");
    for (int i = 0; i < MAPPINGS; i++) {
        cr_expect(filled(here[i], LONG, (unsigned)i));
        cr_expect(eq(int, shm_attach_put(p, m[i], 0), i != 5));
    }
    cr_expect(eq(u64, counts(&r)->attach_evicted, 0));
    cr_expect(eq(u64, counts(&r)->attach_stale, 1));
    for (int i = 0; i <= MAPPINGS; i++)
        region_free(&r, &x[i]);
    rig_close(&r);
}

enum { THREADS = 4, SHARED = 96, ROUNDS = 300 };

struct crowd {
    struct rig r;
    struct region x[SHARED];
    int wrong;
};

static void *crowd_main(void *arg)
{
    struct crowd *c = arg;
    static int numbers;
    unsigned state = (unsigned)__atomic_add_fetch(&numbers, 1, __ATOMIC_RELAXED) * 7919;
    static __thread char local[SHORT];

    for (int i = 0; i < ROUNDS; i++) {
        struct region *x;
        unsigned n;
        int err;

        state = state * 1664525 + 1013904223;
        n = (state >> 8) % SHARED;
        x = &c->x[n];
        reach(&c->r, x);
        err = get(&c->r, local, x);
        if (err ? err != -EOPNOTSUPP : !filled(local, SHORT, n))
            __atomic_add_fetch(&c->wrong, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

/* What one thread has been told that it will find attached, another may have given up
 * by the time it is used: then it comes by the kernel, or not at all. */
Test(attach, threads_share_a_table_that_is_too_small)
{
    const uint64_t all = (uint64_t)THREADS * ROUNDS * SHORT;
    static struct crowd c;
    pthread_t threads[THREADS];

    fake_share_install();
    rig_open_as(&c.r, &(struct plan){ .threads = true });
    for (unsigned i = 0; i < SHARED; i++) {
        c.x[i] = region_new(&c.r, SHORT, PW_READ | PW_ATOMIC, i);
        cr_expect(eq(int, reach(&c.r, &c.x[i]), PW_REACH_DIRECT));
    }
    for (int i = 0; i < THREADS; i++)
        cr_assert(eq(int, pthread_create(&threads[i], NULL, crowd_main, &c), 0));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    cr_expect(eq(int, c.wrong, 0));
    cr_expect(lt(u64, 0, counts(&c.r)->attach_evicted));
    cr_expect(le(u64, counts(&c.r)->attach_bytes, all));
    cr_expect(lt(u64, all / 2, counts(&c.r)->attach_bytes));
    rig_close(&c.r);
}

/* ---- keys of a peer that lies ---- */

Test(attach, a_key_that_no_peer_of_ours_makes_leads_nowhere)
{
    struct rig r;
    struct region x, y;
    struct shm_key good, k;
    char *local = map(LONG);

    rig_open(&r);
    x = region_new(&r, LONG, PW_READ | PW_WRITE, 1);
    memcpy(&good, &x.key, sizeof(good));
    for (int i = 0; i < 12; i++) {
        k = good;
        switch (i) {
        case 0: k.offset = 0; break;                    /* the words */
        case 1: k.offset = PW_KD_EXPORTS - PAGE; break;
        case 2: k.offset += 8; break;
        case 3: k.offset = UINT64_MAX - PAGE + 1; break;
        case 4: k.pages = 0; break;
        case 5: k.pages = 0x3fffffff; break;
        case 6: k.slot = 1024; break;
        case 7: k.slot = PW_KD_FIRST_SLOT - 1; break;
        case 8: k.slot = UINT32_MAX; break;
        case 9: k.start += 64; break;
        case 10: k.start += PAGE; break;
        case 11: k.start -= PAGE; break;
        }
        y = x;
        memcpy(&y.key, &k, sizeof(k));
        cr_expect(eq(int, reach(&r, &y), PW_REACH_NONE), "case %d", i);
        cr_expect(eq(int, get(&r, local, &y), -EOPNOTSUPP), "case %d", i);
        cr_expect(eq(int, put(&r, local, &y), -EOPNOTSUPP), "case %d", i);
    }
    cr_expect(eq(uint, fake_share.maps, 0));
    cr_expect(filled(x.at, LONG, 1));

    k = good;
    k.word++;
    memcpy(&y.key, &k, sizeof(k));
    cr_expect(eq(int, reach(&r, &y), PW_REACH_DIRECT));
    cr_expect(eq(int, get(&r, local, &y), -EOPNOTSUPP), "a word it never was");
    region_free(&r, &x);
    rig_close(&r);
}

/* Who is mapped already is no help to a key that differs. */
Test(attach, a_key_may_not_stretch_a_mapping)
{
    struct rig r;
    struct region x, y;
    struct shm_key k;
    char byte = 1;

    rig_open(&r);
    x = region_new(&r, LONG, PW_READ, 1);
    cr_expect(fetched(&r, &x, 1));
    memcpy(&k, &x.key, sizeof(k));
    k.writable = 1;
    y = x;
    memcpy(&y.key, &k, sizeof(k));
    fake_share.map_error = EACCES;      /* as the driver answers who would write */
    (void)reach(&r, &y);
    cr_expect(eq(int, pw_nic_shm.put(r.a.peer, &byte, at(x.at), 1, &y.key, NULL), -EOPNOTSUPP));
    cr_expect(filled(x.at, LONG, 1));
    region_free(&r, &x);
    rig_close(&r);
}

Test(attach, only_the_driver_shares)
{
    const uint64_t words = 8192;
    struct rig r;
    struct shm_nic *nic;
    struct shm_attach *a;
    int before, fd;

    rig_open(&r);
    nic = (struct shm_nic *)r.a.nic;
    before = open_descriptors();
    fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    cr_expect(eq(ptr, shm_attach_open(nic, fd, words), NULL), "a file of another file system");
    cr_expect(eq(ptr, shm_attach_open(nic, -1, words), NULL), "none");
    fd = fcntl(nic->share.fd, F_DUPFD_CLOEXEC, 0);
    cr_expect(eq(ptr, shm_attach_open(nic, fd, 0), NULL), "without words");
    fd = fcntl(nic->share.fd, F_DUPFD_CLOEXEC, 0);
    cr_expect(eq(ptr, shm_attach_open(nic, fd, UINT64_MAX), NULL), "too many words");
    cr_expect(eq(int, open_descriptors(), before));
    fd = fcntl(nic->share.fd, F_DUPFD_CLOEXEC, 0);
    a = shm_attach_open(nic, fd, words);
    cr_expect(ne(ptr, a, NULL));
    shm_attach_close(a);
    cr_expect(eq(int, open_descriptors(), before));
    rig_close(&r);
}
