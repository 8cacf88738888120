/* SPDX-License-Identifier: BSD-3-Clause */
/* paths.c - several NICs: which paths an endpoint has, and what goes by their places. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>

#include "btl/core/path.h"
#include "tests/unit/pair.h"

static void as_a_network(const struct pw_nic_ops *ops)
{
    fake_nic_traits(ops)->flags &= ~(uint32_t)(PW_NIC_SAME_HOST | PW_NIC_LOSSLESS);
}

/* Side a with rails r`a`.., side b with r`b`.. */
static void rails_open(struct pair *p, unsigned a, unsigned n_a, unsigned b, unsigned n_b)
{
    struct pair_plan plan = { .rails = n_a, .first = a, .apart = true, .keyed = true };
    char why[PW_NIC_WHY_MAX];

    as_a_network(&fake_nic_ops);
    pair_open(p, &plan);
    pair_side_close(&p->b);
    plan.rails = n_b;
    plan.first = b;
    cr_assert(eq(int, pair_side_open(&p->b, &plan, "fake", why), 0), "%s", why);
    p->b.other = &p->a;
}

static void expect_exchange(struct pair *p)
{
    unsigned a = p->a.received, b = p->b.received;

    for (uint32_t i = 0; i < 100; i++) {
        cr_assert(eq(int, pair_send(&p->a, b + i), 0));
        cr_assert(eq(int, pair_send(&p->b, a + i), 0));
    }
    cr_expect(pair_until(p, &p->a.received, a + 100));
    cr_expect(pair_until(p, &p->b.received, b + 100));
    cr_expect(not(p->a.disorder));
    cr_expect(not(p->b.disorder));
}

Test(paths, each_device_is_a_nic_and_each_rail_a_path)
{
    struct pair p;

    rails_open(&p, 0, 2, 0, 2);
    cr_assert(eq(int, p.a.e->n_nics, 2));
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_assert(eq(int, pair_meet(&p.b, &p.a), 0));
    cr_expect(eq(int, p.a.ep->n_paths, 2));
    cr_expect(eq(int, p.b.ep->n_paths, 2));
    for (int i = 0; i < 2; i++) {
        cr_expect(eq(ptr, p.a.ep->paths[i].nic, p.a.e->nics[i]));
        cr_expect(eq(int, p.a.ep->paths[i].part, i));
    }
    cr_expect(ne(ptr, p.a.ep->guard, NULL));
    expect_exchange(&p);
    pair_close(&p);
}

Test(paths, a_device_that_is_not_included_is_no_nic)
{
    struct pair_plan plan = { .rails = 3, .include = "r1,10.0.2.0/24", .apart = true };
    struct pair p;

    pair_open(&p, &plan);
    cr_assert(eq(int, p.a.e->n_nics, 2));
    cr_expect(eq(str, p.a.e->devices[0].name, "r1"));
    cr_expect(eq(str, p.a.e->devices[1].name, "r2"));
    pair_close(&p);
}

Test(paths, without_any_device_left_there_is_no_engine_and_why_says_so)
{
    struct pair_plan plan = { .rails = 2, .include = "r7" };
    struct pair_side side;
    char why[PW_NIC_WHY_MAX];

    cr_expect(eq(int, pair_side_open(&side, &plan, NULL, why), -ENODEV));
    cr_expect(ne(ptr, strstr(why, "fake r0: btl_pinwheel_if_include does not name it; "
                                  "fake r1: "), NULL), "%s", why);
    plan.include = "r0,10.0.0.0/99";
    cr_expect(eq(int, pair_side_open(&side, &plan, NULL, why), -EINVAL));
    cr_expect(ne(ptr, strstr(why, "10.0.0.0/99"), NULL), "%s", why);
}

/* It is no error: others do. But somebody may have named it. */
Test(paths, a_backend_with_nothing_to_use_is_told_of_beside_others)
{
    struct pair_plan plan = { .two_nics = true };
    struct pair_side side;
    char why[PW_NIC_WHY_MAX];

    cr_assert(eq(int, pair_side_open(&side, &plan, "fake,fake2", why), 0));
    cr_expect(eq(str, (char *)pw_engine_left_out(side.e), ""));
    pair_side_close(&side);
    fake_nic_traits(&fake_nic_ops2)->probe_error = -ENODEV;
    cr_assert(eq(int, pair_side_open(&side, &plan, "fake,fake2", why), 0));
    cr_expect(eq(str, why, ""));
    cr_expect(eq(str, (char *)pw_engine_left_out(side.e),
                 "fake2: the test wants no fake NIC (No such device)"));
    pair_side_close(&side);
    cr_assert(eq(int, pair_side_open(&side, &plan, "fake", why), 0));
    cr_expect(eq(str, (char *)pw_engine_left_out(side.e), ""), "nobody wants it");
    pair_side_close(&side);
}

/* A NIC knows better than its error what is missing. */
Test(paths, a_nic_that_cannot_be_opened_is_told_of_in_its_own_words)
{
    struct pair_plan plan = { .two_nics = true };
    struct pair_side side;
    char why[PW_NIC_WHY_MAX];

    cr_assert(eq(int, pair_side_open(&side, &plan, "fake,fake2", why), 0));
    cr_expect(eq(str, why, ""), "nothing is missing");
    pair_side_close(&side);

    pair_open_error[1] = -ENODEV;
    pair_open_why = "its library is missing, which Debian has in libfake0";
    cr_assert(eq(int, pair_side_open(&side, &plan, "fake,fake2", why), 0));
    cr_expect(eq(str, why, "fake2: its library is missing, which Debian has in libfake0"));
    pair_side_close(&side);
    cr_expect(eq(int, pair_side_open(&side, &plan, "fake2", why), -ENODEV));
    cr_expect(eq(str, why, "fake2: its library is missing, which Debian has in libfake0"));

    pair_open_why = NULL;
    cr_expect(eq(int, pair_side_open(&side, &plan, "fake2", why), -ENODEV));
    cr_expect(eq(str, why, "fake2: No such device"));
}

Test(paths, ranks_that_differ_in_their_devices_meet_on_the_common_one)
{
    struct pair p;

    rails_open(&p, 0, 2, 1, 2);     /* r0 and r1, r1 and r2 */
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_assert(eq(int, pair_meet(&p.b, &p.a), 0));
    cr_assert(eq(int, p.a.ep->n_paths, 1));
    cr_expect(eq(ptr, p.a.ep->paths[0].nic, p.a.e->nics[1]));
    cr_expect(eq(int, p.a.ep->paths[0].part, 0));
    expect_exchange(&p);
    pair_close(&p);
}

/* The fake NIC answers -EFAULT to a key of another NIC of the owner. */
Test(paths, a_key_is_read_in_the_order_of_its_owners_nics)
{
    struct pair_outcome done = { 0 };
    uint64_t memory = 5, local = 0;
    struct pw_key key = { 0 };
    struct pair p;

    rails_open(&p, 0, 2, 1, 2);
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_assert(eq(int, pair_meet(&p.b, &p.a), 0));
    cr_assert(eq(int, pw_engine_register(p.b.e, &memory, 8, PW_READ, false, &key), 0));
    cr_expect(eq(int, pw_endpoint_get(p.a.ep, &local, (uintptr_t)&memory, 8, &key,
                                      pair_done, &done), 0));
    cr_expect(eq(u64, local, 5));
    cr_expect(eq(uint, fake_nic_calls(pair_nic(&p.a, 1), FAKE_GET), 1));
    pw_engine_deregister(p.b.e, &key);
    pair_close(&p);
}

Test(paths, keys_have_their_full_size_where_there_is_a_network)
{
    struct pair p;

    rails_open(&p, 0, 1, 0, 2);
    cr_expect(eq(sz, pw_engine_key_size(p.a.e), sizeof(struct pw_key)));
    cr_expect(eq(sz, pw_engine_key_size(p.b.e), sizeof(struct pw_key)));
    pair_close(&p);
}

Test(paths, a_nic_that_asks_for_regions_gets_their_number_as_key)
{
    struct pw_key key = { .id = 0x500000003, .nic[0].bytes = { 1, 2, 3 } };
    struct pw_nic nic = { .info.flags = PW_NIC_REGIONS };
    struct pw_path path = { .nic = &nic };
    struct pw_nic_key room, want = { { 3, 0, 0, 0, 5 } };

    cr_expect(eq(int, memcmp(pw_path_key(&path, &key, &room), &want, sizeof want), 0));
    cr_expect(eq(ptr, (void *)pw_path_key(&path, NULL, &room), NULL));
    nic.info.flags = 0;
    cr_expect(eq(ptr, (void *)pw_path_key(&path, &key, &room), &key.nic[0]));
}

/* ---- a network beside shared memory ---- */

Test(paths, a_peer_that_memory_reaches_has_no_path_through_a_network)
{
    struct pair p;

    as_a_network(&fake_nic_ops2);
    fake_nic_traits(&fake_nic_ops2)->frame_max = 2000;
    pair_open(&p, &(struct pair_plan){ .two_nics = true });
    cr_expect(eq(int, p.a.ep->n_paths, 1));
    cr_expect(eq(ptr, p.a.ep->paths[0].nic, pair_nic(&p.a, 0)));
    cr_expect(eq(ptr, p.a.ep->guard, NULL), "and pays nothing for it");
    cr_expect(not(p.a.e->locks));
    cr_expect(eq(sz, p.a.ep->frame_max, 16384), "nor are its frames shorter");
    cr_expect(eq(sz, pw_engine_message_max(p.a.e), 1992));
    cr_expect(eq(sz, pw_engine_message_max_afar(p.a.e), 1992));
    expect_exchange(&p);
    pair_close(&p);
}

Test(paths, messages_to_other_hosts_are_as_long_as_networks_let_them)
{
    struct pair p;

    as_a_network(&fake_nic_ops2);
    fake_nic_traits(&fake_nic_ops)->frame_max = 2000;
    pair_open(&p, &(struct pair_plan){ .two_nics = true });
    cr_expect(eq(sz, pw_engine_message_max(p.a.e), 1992));
    cr_expect(eq(sz, pw_engine_message_max_afar(p.a.e), 16384 - 8));
    pair_close(&p);
    pair_open(&p, &(struct pair_plan){ .two_nics = false });
    cr_expect(eq(sz, pw_engine_message_max_afar(p.a.e), 0), "there is no network");
    pair_close(&p);
}

/* Else one side would send by memory and the other read a network. */
Test(paths, where_memory_fails_the_network_does_not_step_in)
{
    struct pair p;

    as_a_network(&fake_nic_ops2);
    pair_open(&p, &(struct pair_plan){ .two_nics = true, .apart = true });
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_CONNECT, 1, 1, -ENOMEM);
    cr_expect(eq(int, pair_meet(&p.a, &p.b), -ENOMEM));
    cr_expect(eq(uint, fake_nic_calls(pair_nic(&p.a, 1), FAKE_CONNECT), 0));
    pair_close(&p);
}

Test(paths, locks_are_taken_from_the_first_peer_on_whose_nic_has_a_thread)
{
    struct pair p;

    as_a_network(&fake_nic_ops);
    fake_nic_traits(&fake_nic_ops)->flags |= PW_NIC_REGIONS;
    pair_open(&p, &(struct pair_plan){ .apart = true });
    cr_expect(not(p.a.e->locks));
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_expect(p.a.e->locks);
    pair_close(&p);
}

/* Who calls from another host may be served before that. */
Test(paths, locks_are_taken_where_there_are_ranks_of_other_hosts)
{
    struct pair p;

    as_a_network(&fake_nic_ops2);
    pair_open(&p, &(struct pair_plan){ .apart = true, .two_nics = true });
    pw_engine_neighbours(p.a.e, 0, 3);
    cr_expect(not(p.a.e->locks), "no NIC looks at regions");
    pair_close(&p);
    fake_nic_traits(&fake_nic_ops2)->flags |= PW_NIC_REGIONS;
    pair_open(&p, &(struct pair_plan){ .apart = true, .two_nics = true });
    pw_engine_neighbours(p.a.e, 3, 0);
    cr_expect(not(p.a.e->locks), "they are all of this host");
    pw_engine_neighbours(p.a.e, 3, 1);
    cr_expect(p.a.e->locks);
    pair_close(&p);
}

/* ---- addresses ---- */

Test(paths, an_address_of_several_nics_says_their_name_once)
{
    uint8_t bytes[1024];
    struct pair p;
    int one, three;

    rails_open(&p, 0, 1, 0, 3);
    one = pw_engine_address(p.a.e, bytes, sizeof bytes);
    three = pw_engine_address(p.b.e, bytes, sizeof bytes);
    cr_expect(lt(int, three, 3 * one - 2 * 3 - 2 * (int)strlen("fake")));
    pair_close(&p);
}

Test(paths, a_part_without_a_name_needs_one_before_it)
{
    const uint8_t bad[] = { 0x70, 4, 1, 0, 1, 0, 'x' };
    char why[PW_NIC_WHY_MAX];
    struct pw_endpoint *ep;
    struct pair p;

    rails_open(&p, 0, 1, 0, 1);
    cr_expect(eq(int, pw_endpoint_open(p.a.e, bad, sizeof bad, NULL, &ep, why), -EINVAL));
    pair_close(&p);
}

Test(paths, more_parts_than_a_process_has_nics_are_no_address)
{
    uint8_t bytes[3 + 3 * 5] = { 0x70, 4, 5 };
    char why[PW_NIC_WHY_MAX];
    struct pw_endpoint *ep;
    struct pair p;

    for (int i = 0; i < 5; i++)
        memcpy(bytes + 3 + 3 * i, "\1x\0", 3);
    rails_open(&p, 0, 1, 0, 1);
    cr_expect(eq(int, pw_endpoint_open(p.a.e, bytes, sizeof bytes, NULL, &ep, why),
                 -EINVAL));
    bytes[2] = 4;
    cr_expect(eq(int, pw_endpoint_open(p.a.e, bytes, sizeof bytes - 3, NULL, &ep, why),
                 -EHOSTUNREACH));
    pair_close(&p);
}

/* ---- callers ---- */

/* By its second device only, since the first has no common network. */
Test(paths, a_caller_is_known_by_any_of_its_nics)
{
    uint32_t prints[PW_KEY_NICS];
    uint8_t bytes[1024];
    struct pair p;
    bool near;
    int len;

    rails_open(&p, 0, 2, 1, 1);
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_expect(pair_until(&p, &p.b.callers, 1));
    len = pw_engine_address(p.a.e, bytes, sizeof bytes);
    pw_engine_fingerprints(p.b.e, bytes, (size_t)len, prints, &near);
    cr_expect(eq(u32, p.b.fingerprint, prints[1]));
    cr_expect(ne(u32, prints[0], prints[1]));
    cr_expect(ne(u32, prints[0], 0));
    cr_expect(eq(u32, prints[2], 0));
    cr_expect(not(near));
    pair_close(&p);
}

/* Two of many peers have the same fingerprint. */
Test(paths, a_caller_is_not_taken_for_another_whose_fingerprint_is_the_same)
{
    uint32_t prints[PW_KEY_NICS];
    char why[PW_NIC_WHY_MAX];
    struct pair_side c;
    uint8_t bytes[1024];
    struct pair p;
    bool near;
    int len;

    rails_open(&p, 0, 1, 0, 1);
    cr_assert(eq(int, pair_side_open(&c, &(struct pair_plan){ .rails = 1 }, "fake", why),
                 0));
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    len = pw_engine_address(c.e, bytes, sizeof bytes);
    pw_engine_fingerprints(p.a.e, bytes, (size_t)len, prints, &near);
    p.a.ep->prints[0] = prints[0];
    cr_assert(eq(int, pair_meet(&c, &p.a), 0));
    pair_turns(&p, 2 * PW_CALLS);
    cr_expect(lt(uint, 0, p.a.callers));
    cr_expect(eq(u32, p.a.fingerprint, prints[0]));
    pair_side_close(&c);
    pair_close(&p);
}

/* b's second NIC could not be had when a had its own; then it calls. */
Test(paths, a_call_from_a_pair_that_was_not_chosen_makes_a_path)
{
    struct pair p;

    rails_open(&p, 0, 2, 0, 2);
    fake_nic_fail(pair_nic(&p.a, 1), FAKE_CONNECT, 1, 1, -ENOMEM);
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_expect(eq(int, p.a.ep->n_paths, 1));
    cr_assert(eq(int, pair_meet(&p.b, &p.a), 0));
    cr_expect(eq(int, p.b.ep->n_paths, 2));
    pair_turns(&p, PW_CALLS);
    cr_assert(eq(int, p.a.ep->n_paths, 2));
    cr_expect(eq(ptr, p.a.ep->paths[1].nic, pair_nic(&p.a, 1)));
    cr_expect(eq(int, p.a.ep->paths[1].part, 1));
    cr_expect(eq(uint, p.a.callers, 0), "nobody above need be told");
    expect_exchange(&p);
    pair_close(&p);
}

/* Nearly nothing is spent on a NIC without a peer, and still a caller is heard. */
Test(paths, a_network_without_a_peer_is_asked_now_and_then)
{
    struct pair p;

    as_a_network(&fake_nic_ops2);
    pair_open(&p, &(struct pair_plan){ .two_nics = true, .apart = true });
    cr_expect(eq(int, p.b.e->n_active, 1));
    fake_nic_traits(&fake_nic_ops)->network = 0;
    pair_nic(&p.a, 0)->info.flags &= ~(uint32_t)PW_NIC_SAME_HOST;
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_expect(pair_until(&p, &p.b.callers, 1));
    cr_assert(eq(int, pair_meet(&p.b, &p.a), 0));
    cr_expect(eq(int, p.a.e->n_active, 2));
    pw_endpoint_close(p.a.ep);
    cr_expect(eq(int, p.a.e->n_active, 0));
    pair_close(&p);
}

Test(paths, networks_are_told_how_many_may_call)
{
    struct pair p;

    as_a_network(&fake_nic_ops2);
    pair_open(&p, &(struct pair_plan){ .two_nics = true, .apart = true });
    pw_engine_neighbours(p.a.e, 3, 5);
    cr_expect(eq(uint, pair_nic(&p.a, 0)->callers, 3));
    cr_expect(eq(uint, pair_nic(&p.a, 1)->callers, 5));
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_expect(eq(uint, pair_nic(&p.a, 0)->callers, 2));
    cr_expect(eq(uint, pair_nic(&p.a, 1)->callers, 5));
    pw_engine_neighbours(p.a.e, 0, 0);
    cr_expect(eq(uint, pair_nic(&p.a, 1)->callers, 0));
    pair_close(&p);
}
