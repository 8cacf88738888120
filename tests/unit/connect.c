/* SPDX-License-Identifier: BSD-3-Clause */
/* connect.c - engines and endpoints come and go: names, addresses, open, close. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/unit/pair.h"

static const struct pair_plan plain, apart = { .apart = true };

/* ---- which NICs ---- */

static int open_nics(const char *names, int *n_nics, char why[PW_NIC_WHY_MAX])
{
    struct pair_side side;
    int err = pair_side_open(&side, &plain, names, why);

    *n_nics = 0;
    if (!err) {
        *n_nics = side.e->n_nics;
        pair_side_close(&side);
    } else {
        cr_expect(eq(ptr, side.e, NULL));
    }
    cr_expect(eq(uint, fake_nic_reset(), 0));
    return err;
}

static void expect_nics(const char *names, int n)
{
    char why[PW_NIC_WHY_MAX];
    int n_nics;

    cr_expect(eq(int, open_nics(names, &n_nics, why), 0), "\"%s\"", names ? names : "NULL");
    cr_expect(eq(int, n_nics, n), "\"%s\"", names ? names : "NULL");
    cr_expect(eq(str, why, ""));
}

Test(connect, all_nics_are_opened_unless_some_are_named)
{
    expect_nics(NULL, 2);
    expect_nics("", 2);
    expect_nics("fake", 1);
    expect_nics("fake2", 1);
    expect_nics("fake,fake2", 2);
    expect_nics("fake2,fake", 2);
    expect_nics("fake,fake", 1);
    expect_nics("fake2,", 1);
}

static void expect_unknown(const char *names, const char *said)
{
    char why[PW_NIC_WHY_MAX];
    int n_nics;

    cr_expect(eq(int, open_nics(names, &n_nics, why), -EINVAL), "\"%s\"", names);
    cr_expect(ne(ptr, strstr(why, said), NULL), "%s", why);
    cr_expect(ne(ptr, strstr(why, "there are: fake fake2"), NULL), "%s", why);
}

Test(connect, an_unknown_name_is_refused_and_the_known_ones_are_named)
{
    expect_unknown("verbs", "\"verbs\"");
    expect_unknown("fake,verbs", "\"verbs\"");
    expect_unknown("fak", "\"fak\"");
    expect_unknown("fake22", "\"fake22\"");
    expect_unknown("Fake", "\"Fake\"");
    expect_unknown("fake, fake2", "\" fake2\"");
    expect_unknown(",", "\"\"");
    expect_unknown("fake,,fake2", "\"\"");
}

Test(connect, a_name_of_any_length_does_not_break_the_sentence)
{
    char name[600], why[PW_NIC_WHY_MAX];
    int n_nics;

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    cr_expect(eq(int, open_nics(name, &n_nics, why), -EINVAL));
    cr_expect(lt(sz, strlen(why), PW_NIC_WHY_MAX));
    cr_expect(ne(ptr, strstr(why, "fake2"), NULL), "%s", why);
}

Test(connect, a_nic_that_cannot_run_here_is_left_out_and_not_told_of_beside_others)
{
    char why[PW_NIC_WHY_MAX];
    int n_nics;

    fake_nic_traits(&fake_nic_ops)->probe_error = -ENOSYS;
    cr_expect(eq(int, open_nics(NULL, &n_nics, why), 0));
    cr_expect(eq(int, n_nics, 1));
    cr_expect(eq(str, why, ""));
    fake_nic_traits(&fake_nic_ops)->probe_error = -ENOSYS;
    cr_expect(eq(int, open_nics("fake", &n_nics, why), -ENODEV));
    cr_expect(eq(ptr, strstr(why, "fake: the test wants no fake NIC"), why), "%s", why);
}

Test(connect, a_nic_that_does_not_open_is_left_out_and_the_error_kept)
{
    char why[PW_NIC_WHY_MAX];
    int n_nics;

    pair_open_error[1] = -ENOMEM;
    cr_expect(eq(int, open_nics(NULL, &n_nics, why), 0));
    cr_expect(eq(int, n_nics, 1));
    cr_expect(eq(str, why, "fake2: Cannot allocate memory"));
}

Test(connect, without_any_nic_there_is_no_engine)
{
    char why[PW_NIC_WHY_MAX];
    int n_nics;

    fake_nic_traits(&fake_nic_ops)->probe_error = -EACCES;
    pair_open_error[1] = -ENOMEM;
    cr_expect(eq(int, open_nics(NULL, &n_nics, why), -ENODEV));
    cr_expect(eq(ptr, strstr(why, "fake2: Cannot allocate memory; fake: "), why), "%s", why);
}

Test(connect, the_one_that_was_named_must_open)
{
    char why[PW_NIC_WHY_MAX];
    int n_nics;

    pair_open_error[1] = -EIO;
    cr_expect(eq(int, open_nics("fake2", &n_nics, why), -ENODEV));
    cr_expect(eq(str, why, "fake2: Input/output error"));
}

/* With what a guard adds, which two NICs may need. */
Test(connect, the_largest_message_fits_every_nic)
{
    char why[PW_NIC_WHY_MAX];
    struct pair_side side;

    fake_nic_traits(&fake_nic_ops2)->frame_max = 3000;
    cr_assert(eq(int, pair_side_open(&side, &plain, NULL, why), 0));
    cr_expect(eq(sz, pw_engine_message_max(side.e), 2992));
    pair_side_close(&side);
}

/* ---- addresses ---- */

struct address {
    uint8_t bytes[600];
    size_t len;
};

static struct address address_of(struct pair_side *side)
{
    struct address a = { .len = 0 };
    int len = pw_engine_address(side->e, a.bytes, sizeof a.bytes);

    cr_assert(lt(int, 0, len));
    a.len = (size_t)len;
    return a;
}

static int open_at(struct pair_side *side, const struct address *a, char *why)
{
    struct pw_endpoint *ep;
    int err = pw_endpoint_open(side->e, a->bytes, a->len, side, &ep, why);

    if (!err)
        pw_endpoint_close(ep);
    else
        cr_expect(eq(ptr, ep, NULL));
    return err;
}

Test(connect, an_address_leads_to_its_engine)
{
    struct pair_plan two = { .two_nics = true, .apart = true };
    struct address of_b;
    struct pair p;

    pair_open(&p, &two);
    of_b = address_of(&p.b);
    cr_expect(pw_engine_reachable(p.a.e, of_b.bytes, of_b.len));
    cr_expect(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_expect(eq(int, p.a.ep->n_paths, 2));
    pair_close(&p);
}

Test(connect, an_address_needs_its_room)
{
    uint8_t bytes[600];
    struct pair p;
    int len;

    pair_open(&p, &apart);
    len = pw_engine_address(p.a.e, bytes, sizeof bytes);
    cr_expect(eq(int, pw_engine_address(p.a.e, bytes, (size_t)len), len));
    for (int room = 0; room < len; room++) {
        bytes[room] = 0x5a;
        cr_assert(eq(int, pw_engine_address(p.a.e, bytes, (size_t)room), -ENOSPC));
        cr_assert(eq(u8, bytes[room], 0x5a), "nothing behind the room is written");
    }
    pair_close(&p);
}

/* As a heap block of exactly its length, so that ASan sees a byte too many. */
static struct pw_endpoint *try_bytes(struct pair_side *side, const uint8_t *bytes,
                                     size_t len, int *err, bool *reachable)
{
    uint8_t *exact = malloc(len ? len : 1);
    char why[PW_NIC_WHY_MAX];
    struct pw_endpoint *ep;

    memcpy(exact, bytes, len);
    *reachable = pw_engine_reachable(side->e, exact, len);
    *err = pw_endpoint_open(side->e, exact, len, side, &ep, why);
    free(exact);
    return ep;
}

Test(connect, an_address_that_is_cut_short_is_none)
{
    struct address of_b;
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .two_nics = true, .apart = true });
    of_b = address_of(&p.b);
    for (size_t len = 0; len < of_b.len; len++) {
        bool reachable;
        int err;

        try_bytes(&p.a, of_b.bytes, len, &err, &reachable);
        cr_assert(eq(int, err, -EINVAL), "%zu of %zu bytes", len, of_b.len);
        cr_assert(not(reachable), "%zu of %zu bytes", len, of_b.len);
    }
    pair_close(&p);
}

/* What a changed byte means is not always seen (it may be the number of another
 * NIC), but it is never more than an address of nobody. */
Test(connect, an_address_with_a_wrong_byte_is_survived)
{
    struct address of_b;
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .two_nics = true, .apart = true });
    of_b = address_of(&p.b);
    for (size_t i = 0; i < of_b.len; i++)
        for (int value = 0; value < 256; value++) {
            struct address bad = of_b;
            struct pw_endpoint *ep;
            bool reachable, refused;
            int err;

            bad.bytes[i] = (uint8_t)value;
            ep = try_bytes(&p.a, bad.bytes, bad.len, &err, &reachable);
            refused = err == -EINVAL || err == -EHOSTUNREACH || err == -ECONNREFUSED;
            cr_assert(eq(int, ep == NULL, refused), "byte %zu, %d: %d", i, value, err);
            cr_assert(eq(int, ep && !reachable, 0), "not reachable, yet opened");
            pw_endpoint_close(ep);
        }
    pair_close(&p);
}

Test(connect, an_address_of_another_version_or_of_something_else_is_none)
{
    struct address of_b, changed;
    char why[PW_NIC_WHY_MAX];
    struct pair p;

    pair_open(&p, &apart);
    of_b = changed = address_of(&p.b);
    changed.bytes[0] ^= 1;
    cr_expect(eq(int, open_at(&p.a, &changed, why), -EINVAL));
    changed = of_b;
    changed.bytes[1]++;
    cr_expect(eq(int, open_at(&p.a, &changed, why), -EINVAL));
    changed.len = sizeof changed.bytes;
    memset(changed.bytes, 0xff, sizeof changed.bytes);
    cr_expect(eq(int, open_at(&p.a, &changed, why), -EINVAL));
    changed = of_b;
    changed.bytes[2] = 0;       /* of no NIC, and something behind it */
    cr_expect(eq(int, open_at(&p.a, &changed, why), -EINVAL));
    changed.len = 3;
    cr_expect(eq(int, open_at(&p.a, &changed, why), -EHOSTUNREACH));
    pair_close(&p);
}

Test(connect, an_address_that_is_longer_than_any_is_refused)
{
    static uint8_t huge[4096];
    char why[PW_NIC_WHY_MAX];
    struct pw_endpoint *ep;
    struct pair p;

    pair_open(&p, &apart);
    memcpy(huge, address_of(&p.b).bytes, 600);
    cr_expect(eq(int, pw_endpoint_open(p.a.e, huge, sizeof huge, NULL, &ep, why), -EINVAL));
    pair_close(&p);
}

Test(connect, a_peer_with_other_nics_is_not_reached_and_why_says_so)
{
    char why[PW_NIC_WHY_MAX];
    struct pair_side a, b;
    struct address of_b;

    cr_assert(eq(int, pair_side_open(&a, &plain, "fake", why), 0));
    cr_assert(eq(int, pair_side_open(&b, &plain, "fake2", why), 0));
    of_b = address_of(&b);
    cr_expect(not(pw_engine_reachable(a.e, of_b.bytes, of_b.len)));
    cr_expect(eq(int, open_at(&a, &of_b, why), -EHOSTUNREACH));
    cr_expect(eq(str, why, "no NIC of this process reaches it"));
    pair_side_close(&a);
    pair_side_close(&b);
}

Test(connect, a_common_nic_is_enough)
{
    char why[PW_NIC_WHY_MAX];
    struct pair_side a, b;

    cr_assert(eq(int, pair_side_open(&a, &plain, "fake,fake2", why), 0));
    cr_assert(eq(int, pair_side_open(&b, &plain, "fake2", why), 0));
    cr_expect(eq(int, pair_meet(&a, &b), 0));
    cr_expect(eq(int, pair_meet(&b, &a), 0));
    cr_expect(eq(int, a.ep->n_paths, 1));
    cr_expect(eq(int, pair_send(&a, 0), 0));
    pw_engine_progress(b.e);
    cr_expect(eq(uint, b.received, 1));
    pair_side_close(&a);
    pair_side_close(&b);
}

Test(connect, a_peer_that_is_gone_refuses)
{
    char why[PW_NIC_WHY_MAX];
    struct address of_b;
    struct pair p;

    pair_open(&p, &apart);
    of_b = address_of(&p.b);
    fake_nic_die(pair_nic(&p.b, 0));
    cr_expect(eq(int, open_at(&p.a, &of_b, why), -ECONNREFUSED));
    cr_expect(eq(str, why, "fake: its process is gone"));
    cr_expect(eq(ptr, p.a.e->endpoints, NULL));
    pair_close(&p);
}

Test(connect, a_nic_that_does_not_connect_leaves_the_others)
{
    struct pair_plan two = { .two_nics = true, .apart = true };
    struct pair p;

    pair_open(&p, &two);
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_CONNECT, 1, 1, -ENOMEM);
    fake_nic_fail(pair_nic(&p.b, 0), FAKE_CONNECT, 1, 1, -ENOMEM);
    cr_expect(eq(int, pair_meet(&p.a, &p.b), 0));
    cr_expect(eq(int, pair_meet(&p.b, &p.a), 0));
    cr_expect(eq(int, p.a.ep->n_paths, 1));
    cr_expect(eq(int, pair_send(&p.a, 0), 0));
    pair_turns(&p, 3);
    cr_expect(eq(uint, p.b.received, 1));
    pair_close(&p);
}

Test(connect, frames_sent_before_the_peer_opens_its_endpoint_arrive)
{
    struct pair p;

    pair_open(&p, &apart);
    cr_expect(eq(int, pair_meet(&p.a, &p.b), 0));
    for (uint32_t i = 0; i < 10; i++)
        cr_expect(eq(int, pair_send(&p.a, i), 0));
    pair_turns(&p, 3);
    cr_expect(eq(uint, p.b.received, 0));
    cr_expect(eq(int, pair_meet(&p.b, &p.a), 0));
    pair_turns(&p, 3);
    cr_expect(eq(uint, p.b.received, 10));
    cr_expect(not(p.b.disorder));
    pair_close(&p);
}

/* ---- crowded ---- */

Test(connect, more_ranks_than_cores_is_crowded_until_some_leave)
{
    struct pw_endpoint *ep[3];
    char why[PW_NIC_WHY_MAX];
    struct address of_b;
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .apart = true, .cores = 3 });
    of_b = address_of(&p.b);
    for (int i = 0; i < 3; i++) {
        cr_expect(not(p.a.e->crowded), "with %d peers", i);
        cr_assert(eq(int, pw_endpoint_open(p.a.e, of_b.bytes, of_b.len, &p.a, &ep[i], why),
                     0));
    }
    cr_expect(p.a.e->crowded, "we and three peers on three cores");
    pw_endpoint_close(ep[0]);
    cr_expect(not(p.a.e->crowded));
    pw_endpoint_close(ep[1]);
    pw_endpoint_close(ep[2]);
    cr_expect(eq(uint, p.a.e->n_local, 0));
    pair_close(&p);
}

Test(connect, a_peer_over_two_nics_counts_once)
{
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .two_nics = true, .cores = 2 });
    cr_expect(eq(uint, p.a.e->n_local, 1));
    cr_expect(not(p.a.e->crowded));
    pair_close(&p);
}

Test(connect, peers_elsewhere_do_not_crowd_this_host)
{
    struct pair p;

    fake_nic_traits(&fake_nic_ops)->flags &= ~(uint32_t)PW_NIC_SAME_HOST;
    pair_open(&p, &(struct pair_plan){ .cores = 1 });
    cr_expect(eq(uint, p.a.e->n_local, 0));
    cr_expect(not(p.a.e->crowded));
    pair_close(&p);
}

Test(connect, an_unknown_number_of_cores_is_never_crowded)
{
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .cores = 0 });
    cr_expect(not(p.a.e->crowded));
    pair_close(&p);
}

/* ---- from upcalls ---- */

static struct pw_endpoint *opened;

static void open_another(struct pair_side *side)
{
    struct address a = address_of(side->other);
    char why[PW_NIC_WHY_MAX];

    if (!opened)
        cr_assert(eq(int, pw_endpoint_open(side->e, a.bytes, a.len, side, &opened, why),
                     0));
}

Test(connect, an_endpoint_opened_in_an_upcall_connects_in_progress)
{
    struct pair_side *b;
    struct pair_note note;
    struct pair p;

    pair_open(&p, &plain);
    b = &p.b;
    b->on_recv = open_another;
    pair_send(&p.a, 0);
    pair_turns(&p, 1);
    cr_assert(ne(ptr, opened, NULL));
    b->ep = opened;
    pair_queue(b, &note, 0);
    cr_assert(eq(int, pair_meet(&p.a, &p.b), 0));
    pair_turns(&p, 3);
    cr_expect(eq(int, opened->n_paths, 1));
    cr_expect(eq(int, note.status, 0));
    cr_expect(eq(uint, p.a.received, 1));
    pair_close(&p);
}

static void open_and_send(struct pair_side *side)
{
    uint32_t number = 0;
    struct pw_iov iov = { &number, sizeof number };

    open_another(side);
    cr_expect(eq(int, pw_endpoint_send(opened, 0, &iov, 1), -EAGAIN), "not connected yet");
    cr_expect(pw_endpoint_alive(opened));
}

Test(connect, an_endpoint_that_is_not_connected_yet_says_try_again)
{
    struct pair p;

    pair_open(&p, &plain);
    p.b.on_recv = open_and_send;
    pair_send(&p.a, 0);
    pair_turns(&p, 2);
    cr_expect(eq(uint, p.b.received, 1));
    pair_close(&p);
}

/* Nobody could be told when open returned. */
Test(connect, an_endpoint_opened_in_an_upcall_dies_when_nobody_is_there)
{
    struct pair p;

    pair_open(&p, &plain);
    p.b.on_recv = open_another;
    pair_send(&p.a, 0);
    fake_nic_fail(pair_nic(&p.b, 0), FAKE_CONNECT, 1, 1, -ENOMEM);
    pair_turns(&p, 5);
    cr_expect(eq(uint, p.b.deaths, 1));
    cr_expect(eq(int, p.b.cause, -ENOMEM));
    cr_expect(eq(str, p.b.why, "fake: Cannot allocate memory"));
    cr_expect(not(pw_endpoint_alive(opened)));
    pair_close(&p);
}

static void close_own(struct pair_side *side)
{
    pw_endpoint_close(side->ep);
    side->ep = NULL;
}

static void close_second(struct pair_side *side)
{
    if (side->received == 2)
        close_own(side);
}

/* Its owner forgets the cookie when it closes: no upcall may show it again. */
Test(connect, closing_in_an_upcall_is_the_last_that_is_heard)
{
    struct pair p;

    pair_open(&p, &plain);
    p.b.on_recv = close_second;
    for (uint32_t i = 0; i < 10; i++)
        pair_send(&p.a, i);
    pair_turns(&p, 5);
    cr_expect(eq(uint, p.b.received, 2));
    cr_expect(eq(uint, p.b.deaths, 0));
    cr_expect(eq(ptr, p.b.e->endpoints, NULL), "and it is gone");
    cr_expect(eq(uint, p.a.deaths, 1), "the peer is told");
    pair_close(&p);
}

Test(connect, a_peer_that_dies_after_close_in_an_upcall_is_not_told_of)
{
    struct pair p;

    pair_open(&p, &plain);
    p.b.on_recv = close_own;
    pair_send(&p.a, 0);
    fake_nic_die(pair_nic(&p.a, 0));
    pair_turns(&p, 5);
    cr_expect(eq(uint, p.b.received, 1));
    cr_expect(eq(uint, p.b.deaths, 0));
    pair_close(&p);
}

Test(connect, closing_when_told_of_the_death_is_fine)
{
    struct pair p;

    pair_open(&p, &plain);
    p.b.on_dead = close_own;
    fake_nic_die(pair_nic(&p.a, 0));
    pair_turns(&p, 5);
    cr_expect(eq(uint, p.b.deaths, 1));
    cr_expect(eq(ptr, p.b.e->endpoints, NULL));
    pair_close(&p);
}

static struct pair_note upcall_note;

static void queue_and_close(struct pair_side *side)
{
    pair_queue(side, &upcall_note, 0);
    close_own(side);
}

Test(connect, closing_in_an_upcall_ends_what_waits)
{
    struct pair p;

    pair_open(&p, &plain);
    p.b.on_recv = queue_and_close;
    fake_nic_fail(pair_nic(&p.b, 0), FAKE_SEND, 1, 0, -EAGAIN);
    pair_send(&p.a, 0);
    pair_turns(&p, 5);
    cr_expect(eq(uint, upcall_note.calls, 1));
    cr_expect(eq(int, upcall_note.status, -ECANCELED));
    cr_expect(eq(uint, p.b.e->n_waiting, 0));
    pair_close(&p);
}

Test(connect, closing_in_an_upcall_sends_what_waits_when_there_is_room)
{
    struct pair p;

    pair_open(&p, &plain);
    p.b.on_recv = queue_and_close;
    pair_send(&p.a, 0);
    pair_turns(&p, 5);
    cr_expect(eq(int, upcall_note.status, 0));
    cr_expect(eq(uint, p.a.received, 1));
    pair_close(&p);
}

static void progress_inside(struct pair_side *side)
{
    cr_expect(eq(int, pw_engine_progress(side->e), 0));
}

Test(connect, progress_in_an_upcall_does_nothing)
{
    struct pair p;

    pair_open(&p, &plain);
    p.b.on_recv = progress_inside;
    for (uint32_t i = 0; i < 5; i++)
        pair_send(&p.a, i);
    pair_turns(&p, 2);
    cr_expect(eq(uint, p.b.received, 5));
    cr_expect(not(p.b.disorder));
    pair_close(&p);
}
