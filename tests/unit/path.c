/* SPDX-License-Identifier: BSD-3-Clause */
/* path.c - which path carries frames, and which way a transfer takes. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "btl/core/path.h"
#include "pinwheel/clock.h"

static enum pw_way way(enum pw_reach reach, bool in_pool, bool passive, size_t len)
{
    struct pw_choice c = { .len = len, .reach = reach, .in_pool = in_pool,
                           .passive = passive };

    return pw_way_choose(PW_WAY_STREAM, &c);
}

/* ---- the way of a transfer ---- */

Test(path, memory_in_reach_is_reached_directly_whatever_else_holds)
{
    for (int pool = 0; pool < 2; pool++)
        for (int passive = 0; passive < 2; passive++) {
            cr_expect(eq(int, way(PW_REACH_DIRECT, pool, passive, 1), PW_WAY_DIRECT));
            cr_expect(eq(int, way(PW_REACH_DIRECT, pool, passive, 1 << 30),
                         PW_WAY_DIRECT));
        }
}

Test(path, a_passive_owner_is_asked_for_nothing_that_the_kernel_can_do)
{
    cr_expect(eq(int, way(PW_REACH_KERNEL, false, true, 1), PW_WAY_KERNEL));
    cr_expect(eq(int, way(PW_REACH_KERNEL, true, true, 1), PW_WAY_KERNEL));
    cr_expect(eq(int, way(PW_REACH_KERNEL, true, true, 1 << 20), PW_WAY_KERNEL));
}

Test(path, a_passive_owner_out_of_reach_must_help_all_the_same)
{
    cr_expect(eq(int, way(PW_REACH_NONE, false, true, 4096), PW_WAY_STREAM));
    cr_expect(eq(int, way(PW_REACH_NONE, true, true, 4096), PW_WAY_PUSH));
}

Test(path, a_buffer_of_our_pool_is_offered_to_an_owner_who_is_there)
{
    cr_expect(eq(int, way(PW_REACH_NONE, true, false, 1), PW_WAY_PUSH));
    cr_expect(eq(int, way(PW_REACH_KERNEL, true, false, 1), PW_WAY_PUSH));
    cr_expect(eq(int, way(PW_REACH_KERNEL, true, false, 1 << 20), PW_WAY_PUSH));
}

Test(path, where_both_can_be_it_is_as_the_caller_says)
{
    const struct pw_choice both = { .len = 4096, .reach = PW_REACH_KERNEL };
    const struct pw_choice one = { .len = 4096, .reach = PW_REACH_NONE };

    cr_expect(eq(int, pw_way_choose(PW_WAY_STREAM, &both), PW_WAY_STREAM));
    cr_expect(eq(int, pw_way_choose(PW_WAY_KERNEL, &both), PW_WAY_KERNEL));
    cr_expect(eq(int, pw_way_choose(PW_WAY_KERNEL, &one), PW_WAY_STREAM));
}

Test(path, what_no_nic_reaches_is_streamed)
{
    cr_expect(eq(int, way(PW_REACH_NONE, false, false, 1), PW_WAY_STREAM));
    cr_expect(eq(int, way(PW_REACH_NONE, false, false, (size_t)1 << 40),
                 PW_WAY_STREAM));
}

/* ---- the path for frames and for memory ---- */

/* Three NICs that answer one question each. */
struct rig {
    struct pw_engine e;
    struct pw_endpoint ep;
    struct pw_nic nics[3];
    struct pw_nic_peer peers[3];
};

static enum pw_reach reaches[3];
static const struct pw_nic_key *asked[3];
static struct pw_nic *first_nic;

static enum pw_reach rig_reach(struct pw_nic_peer *peer, uint64_t remote, size_t len,
                               const struct pw_nic_key *key)
{
    (void)remote;
    (void)len;
    asked[peer->nic - first_nic] = key;
    return reaches[peer->nic - first_nic];
}

static const struct pw_nic_ops rig_ops = { .name = "rig", .reach = rig_reach };

static void rig_init(struct rig *r, enum pw_reach x, enum pw_reach y, enum pw_reach z)
{
    const uint32_t latency[] = { 300, 100, 200 };

    memset(r, 0, sizeof *r);
    memset(asked, 0, sizeof asked);
    first_nic = r->nics;
    reaches[0] = x;
    reaches[1] = y;
    reaches[2] = z;
    r->e.n_nics = 3;
    r->ep.e = &r->e;
    r->ep.n_paths = 3;
    for (int i = 0; i < 3; i++) {
        r->nics[i].ops = &rig_ops;
        r->nics[i].info.latency_ns = latency[i];
        r->peers[i].nic = &r->nics[i];
        r->e.nics[i] = &r->nics[i];
        r->ep.paths[i] = (struct pw_path){ .ep = &r->ep, .nic = &r->nics[i],
                                           .peer = &r->peers[i], .part = i,
                                           .state = PW_PATH_UP };
    }
}

static long best_of(struct rig *r)
{
    struct pw_path *path = pw_path_best(&r->ep);

    return path ? path - r->ep.paths : -1;
}

Test(path, frames_take_the_path_with_the_least_latency)
{
    struct rig r;

    rig_init(&r, 0, 0, 0);
    cr_expect(eq(long, best_of(&r), 1));
}

/* 300 ns and 10 GB/s; 100 ns and 1 GB/s; 200 ns and 4 GB/s. */
static void widths(struct rig *r)
{
    r->nics[0].info.bytes_per_s = (uint64_t)10e9;
    r->nics[1].info.bytes_per_s = (uint64_t)1e9;
    r->nics[2].info.bytes_per_s = (uint64_t)4e9;
}

Test(path, frames_take_the_widest_path_where_bandwidth_is_wanted)
{
    struct rig r;

    rig_init(&r, 0, 0, 0);
    widths(&r);
    r.e.config.want = PW_WANT_LATENCY;
    cr_expect(eq(long, best_of(&r), 1));
    r.e.config.want = PW_WANT_BANDWIDTH;
    cr_expect(eq(long, best_of(&r), 0));
    r.ep.paths[0].state = PW_PATH_DOWN;
    cr_expect(eq(long, best_of(&r), 2));
}

Test(path, what_the_network_adds_counts_as_latency)
{
    struct rig r;

    rig_init(&r, 0, 0, 0);
    r.ep.paths[1].delay_ns = 150000;
    cr_expect(eq(long, best_of(&r), 2));
}

/* Else a job would go by another path each time that it is run. */
Test(path, paths_that_are_nearly_alike_are_taken_in_order)
{
    struct rig r;

    rig_init(&r, 0, 0, 0);
    r.nics[0].info.latency_ns = 1000;
    r.nics[1].info.latency_ns = 950;
    r.nics[2].info.latency_ns = 900;
    cr_expect(eq(long, best_of(&r), 0));
}

static long transfer_of(struct rig *r, size_t len)
{
    enum pw_reach reach;

    return pw_path_reach(&r->ep, 0, len, NULL, &reach) - r->ep.paths;
}

Test(path, a_long_transfer_goes_by_what_is_wanted)
{
    enum pw_reach d = PW_REACH_DIRECT;
    struct rig r;

    rig_init(&r, d, d, d);
    widths(&r);
    r.ep.paths[0].delay_ns = 1000000;       /* 1 ms: as long as it takes for 10 MB */
    r.e.config.want = PW_WANT_BANDWIDTH;
    cr_expect(eq(long, transfer_of(&r, 100000), 0));
    r.e.config.want = PW_WANT_LATENCY;
    cr_expect(eq(long, transfer_of(&r, 100000), 1));
    cr_expect(eq(long, transfer_of(&r, 100000000), 1));
    r.e.config.want = PW_WANT_AUTO;
    cr_expect(eq(long, transfer_of(&r, 100000), 2));
    cr_expect(eq(long, transfer_of(&r, 100000000), 0));
}

Test(path, a_path_that_turned_out_slow_is_not_the_first_choice)
{
    enum pw_reach d = PW_REACH_DIRECT;
    struct rig r;

    rig_init(&r, d, d, d);
    for (int i = 0; i < 3; i++)
        r.nics[i].info.bytes_per_s = (uint64_t)1e9;
    cr_expect(eq(long, transfer_of(&r, 100000), 0), "all are alike");
    r.ep.paths[0].share.bytes_per_s = (uint64_t)1e8;
    r.ep.paths[0].share.noted_ns = pw_now_ns();
    cr_expect(eq(long, transfer_of(&r, 100000), 1));
    cr_expect(eq(long, transfer_of(&r, 1000), 0), "of a short one nobody asks");
}

Test(path, frames_never_take_a_dead_path)
{
    struct rig r;

    rig_init(&r, 0, 0, 0);
    r.ep.paths[1].state = PW_PATH_DOWN;
    cr_expect(eq(long, best_of(&r), 2));
    r.ep.paths[2].state = PW_PATH_DOWN;
    cr_expect(eq(long, best_of(&r), 0));
    r.ep.paths[0].state = PW_PATH_DOWN;
    cr_expect(eq(long, best_of(&r), -1), "none is left");
}

static long reach_of(struct rig *r, const struct pw_key *key, enum pw_reach *reach)
{
    struct pw_path *path = pw_path_reach(&r->ep, 4096, 8, key, reach);

    return path ? path - r->ep.paths : -1;
}

Test(path, memory_is_reached_by_the_nic_that_reaches_it_best)
{
    const struct pw_key key = { 0 };
    enum pw_reach reach;
    struct rig r;

    rig_init(&r, PW_REACH_NONE, PW_REACH_KERNEL, PW_REACH_DIRECT);
    cr_expect(eq(long, reach_of(&r, &key, &reach), 2));
    cr_expect(eq(int, reach, PW_REACH_DIRECT));

    rig_init(&r, PW_REACH_NONE, PW_REACH_KERNEL, PW_REACH_NONE);
    cr_expect(eq(long, reach_of(&r, &key, &reach), 1));
    cr_expect(eq(int, reach, PW_REACH_KERNEL));
}

Test(path, memory_is_not_reached_over_a_dead_path)
{
    const struct pw_key key = { 0 };
    enum pw_reach reach;
    struct rig r;

    rig_init(&r, PW_REACH_NONE, PW_REACH_KERNEL, PW_REACH_DIRECT);
    r.ep.paths[2].state = PW_PATH_DOWN;
    cr_expect(eq(long, reach_of(&r, &key, &reach), 1));
    cr_expect(eq(int, reach, PW_REACH_KERNEL));
}

Test(path, out_of_all_reach_there_is_still_a_path_for_frames)
{
    const struct pw_key key = { 0 };
    enum pw_reach reach = PW_REACH_DIRECT;
    struct rig r;

    rig_init(&r, PW_REACH_NONE, PW_REACH_NONE, PW_REACH_NONE);
    cr_expect(ge(long, reach_of(&r, &key, &reach), 0));
    cr_expect(eq(int, reach, PW_REACH_NONE));
}

Test(path, with_all_paths_dead_there_is_none)
{
    enum pw_reach reach = PW_REACH_DIRECT;
    struct rig r;

    rig_init(&r, PW_REACH_DIRECT, PW_REACH_DIRECT, PW_REACH_DIRECT);
    for (int i = 0; i < 3; i++)
        r.ep.paths[i].state = PW_PATH_DOWN;
    cr_expect(eq(long, reach_of(&r, NULL, &reach), -1));
    cr_expect(eq(int, reach, PW_REACH_NONE));
}

/* Not the path's place among the endpoint's: a peer may lack some NIC of ours. */
Test(path, each_nic_is_shown_its_own_part_of_the_key)
{
    const struct pw_key key = { 0 };
    enum pw_reach reach;
    struct rig r;

    rig_init(&r, PW_REACH_NONE, PW_REACH_NONE, PW_REACH_NONE);
    r.ep.n_paths = 2;
    r.ep.paths[0] = r.ep.paths[2];
    reach_of(&r, &key, &reach);
    cr_expect(eq(ptr, (void *)asked[2], (void *)&key.nic[2]));
    cr_expect(eq(ptr, (void *)asked[1], (void *)&key.nic[1]));

    reach_of(&r, NULL, &reach);
    cr_expect(eq(ptr, (void *)asked[2], NULL));
}
