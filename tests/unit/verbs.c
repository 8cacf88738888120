/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs.c - connections over libibverbs that come about though letters are lost, and that
 * fail: by a queue pair, a peer, a port, a device.
 *
 * Two NICs of this process talk over a device of fake_verbs.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fake_verbs.h"
#include "rdm_pair.h"

extern const struct pw_nic_ops pw_nic_verbs;

__attribute__((constructor)) static void ops_set(void)
{
    ops = &pw_nic_verbs;
}

static void device(void)
{
    char why[PW_NIC_WHY_MAX];

    if (verbs_memlock_refuses(why))
        cr_skip("%s", why);
    fake_verbs_install();
    end_device = "fake0";
}

/* What was opened is closed, and then the device goes. */
static void clean(void)
{
    pair_close();
    cr_expect(eq(uint, rdma.opened, 0), "all is given back");
    fake_verbs_remove();
}

static void hold(bool *what)
{
    fake_verbs_lock();
    *what = true;
    fake_verbs_unlock();
}

static unsigned counted(const unsigned *counter)
{
    unsigned n;

    fake_verbs_lock();
    n = *counter;
    fake_verbs_unlock();
    return n;
}

static struct verbs_nic *verbs(struct end *end)
{
    return (struct verbs_nic *)end->nic;
}

static unsigned ways(struct end *end)
{
    struct verbs_nic *nic = verbs(end);
    unsigned n = 0;

    rdm_lock(&nic->base.guard);
    for (const struct verbs_way *way = nic->ways; way; way = way->next)
        n++;
    rdm_unlock(&nic->base.guard);
    return n;
}

/* Kept for what the device may still say of them. */
static bool ways_lost(struct end *end)
{
    struct verbs_nic *nic = verbs(end);
    bool lost;

    rdm_lock(&nic->base.guard);
    lost = nic->lost;
    rdm_unlock(&nic->base.guard);
    return lost;
}

static void reconnect(void)
{
    ops->disconnect(a.peer);
    ops->disconnect(b.peer);
    a.downs = b.downs = b.frames = 0;
    connect_to(&a, &b);
    connect_to(&b, &a);
    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    SOON(b.frames == 1);
}

/* ---- as every backend of rdm.h ---- */

#define BOTH .init = device, .fini = clean, .timeout = 60

Test(verbs, puts_and_gets_of_all_sizes, BOTH)
{
    pair_open();
    move_all_sizes();
    cr_expect(eq(uint, ways(&a), 1));
    cr_expect(eq(uint, counted(&rdma.forks), 1), "fork() is seen to");
}

Test(verbs, a_put_to_what_may_only_be_read, BOTH)
{
    put_to_read_only_memory();
}

Test(verbs, strangers_are_not_heard, BOTH)
{
    struct rdm_hello hello = { .magic = RDM_VERBS_MAGIC, .version = RDM_VERSION,
                               .what = RDM_HELLO, .token = 1 };

    strangers(&hello);
}

Test(verbs, a_process_that_was_stopped, BOTH)
{
    stopped_for_long();
}

Test(verbs, a_caller_of_long_ago, BOTH)
{
    called_for_long();
}

Test(verbs, numbers_wrap, BOTH)
{
    numbers_wrap();
}

/* ---- letters ---- */

static unsigned lost[VERBS_BUSY + 1];

static bool lose(const struct verbs_letter *letter)
{
    if (!lost[letter->what])
        return true;
    lost[letter->what]--;
    return false;
}

static void connected_though_lost(unsigned ask, unsigned answer, unsigned ready)
{
    lost[VERBS_ASK] = ask;
    lost[VERBS_ANSWER] = answer;
    lost[VERBS_READY] = ready;
    rdma.letter = lose;
    pair_open();
    cr_expect(eq(uint, counted(&lost[VERBS_ASK]), 0));
    cr_expect(eq(uint, ways(&a), 1));
    cr_expect(eq(uint, ways(&b), 1));
    cr_expect(eq(int, (int)a.downs, 0));
}

Test(verbs, questions_are_repeated, BOTH)
{
    connected_though_lost(4, 0, 0);
}

Test(verbs, answers_are_repeated, BOTH)
{
    connected_though_lost(0, 3, 0);
}

/* The first message says as much. */
Test(verbs, nobody_hears_that_both_are_ready, BOTH)
{
    connected_though_lost(1, 0, 1000);
}

Test(verbs, letters_that_come_twice, BOTH)
{
    rdma.letters_twice = 100;
    pair_open();
    move_all_sizes();
    cr_expect(eq(uint, ways(&a), 1));
    cr_expect(eq(uint, ways(&b), 1));
    cr_expect(eq(int, (int)a.downs + (int)b.downs, 0));
}

/* As when the link is down: their queue pair fails and is begun anew. */
Test(verbs, letters_that_cannot_leave, BOTH)
{
    rdma.letters_fail = 5;
    pair_open();
    cr_expect(eq(uint, counted(&rdma.letters_fail), 0));
    move_all_sizes();
}

/* The device does not give back what was posted there. */
Test(verbs, letters_that_do_not_come_back, BOTH)
{
    rdma.letters_fail = 1;
    rdma.hold_flush = true;
    pair_open();
    fake_verbs_go_on();
    move_all_sizes();
}

/* An ASK of a queue pair that is gone long since. */
Test(verbs, a_letter_that_is_late_ends_nothing, BOTH)
{
    struct verbs_letter letter = { .what = VERBS_ASK, .qpn = 99, .number = 1,
                                   .mtu = IBV_MTU_1024 };

    pair_open();
    letter.from = verbs(&b)->base.address;
    rdm_lock(&verbs(&a)->base.guard);
    verbs_letter_heard(verbs(&a), &letter);
    letter.what = VERBS_CLOSE;
    letter.echo = 1;
    verbs_letter_heard(verbs(&a), &letter);
    letter.what = VERBS_ANSWER;
    verbs_letter_heard(verbs(&a), &letter);
    rdm_unlock(&verbs(&a)->base.guard);
    move_all_sizes();
    cr_expect(eq(uint, ways(&a), 1));
}

Test(verbs, the_lesser_of_both_sides_limits_holds, BOTH)
{
    rdma.limits[0].max_qp_rd_atom = 3;
    rdma.limits[0].max_qp_init_rd_atom = 200;
    pair_open();
    cr_expect(eq(int, rdma.last.max_rd_atomic, 3), "so many reads the peer serves");
    cr_expect(eq(int, rdma.last.retry_cnt, VERBS_RETRIES));
}

static void set(const char *name, const char *text)
{
    const struct pw_nic_setting *s = ops->settings;
    char why[PW_NIC_WHY_MAX];

    while (strcmp(s->name, name) != 0)
        s++;
    cr_assert(eq(int, ops->set(s, text, why), 0));
}

Test(verbs, connections_are_as_the_user_has_set_them, BOTH)
{
    pair_open();
    cr_expect(eq(int, rdma.last.retry_cnt, 6));
    cr_expect(eq(int, rdma.last.timeout, 17));
    cr_expect(eq(int, rdma.last.rnr_retry, 7));
    cr_expect(eq(int, rdma.last.path_mtu, IBV_MTU_1024), "the port's");
    cr_expect(eq(int, rdma.last.ah_attr.grh.sgid_index, 3));
    pair_close();
    rdma.gid[1] = rdma.gid[0];
    rdma.gid[1].gid_index = 2;
    rdma.n_gids = 2;
    set("retries", "2");
    set("timeout", "9");
    set("rnr_retries", "0");
    set("mtu", "512");
    set("gid", "2");
    set("pkey_index", "3");
    pair_open();
    cr_expect(eq(int, rdma.last.retry_cnt, 2));
    cr_expect(eq(int, rdma.last.timeout, 9));
    cr_expect(eq(int, rdma.last.rnr_retry, 0));
    cr_expect(eq(int, rdma.last.path_mtu, IBV_MTU_512));
    cr_expect(eq(int, rdma.last.ah_attr.grh.sgid_index, 2));
    cr_expect(eq(int, rdma.pkey_ways, 3));
    cr_expect(eq(int, rdma.pkey_letters, 3));
    move_all_sizes();
}

/* b was opened with another bound than a. */
Test(verbs, the_lesser_of_both_sides_packets_holds, BOTH)
{
    set("mtu", "256");
    cr_assert(eq(int, end_open(&a), 0));
    set("mtu", "4096");
    cr_assert(eq(int, end_open(&b), 0));
    connect_to(&a, &b);
    connect_to(&b, &a);
    SOON(ops->send_inline(b.peer, 0, "x", 1) == 0);
    SOON(a.frames == 1);
    cr_expect(eq(int, rdma.last.path_mtu, IBV_MTU_256));
}

/* A device with no room for bytes in a request gets them where they lie. */
Test(verbs, nothing_goes_along_in_a_request, BOTH)
{
    rdma.inline_most = 0;
    pair_open();
    move_all_sizes();
    cr_expect(eq(uint, counted(&rdma.silent), 0));
}

Test(verbs, short_sends_seldom_tell_that_they_have_ended, BOTH)
{
    pair_open();
    for (int i = 0; i < 200; i++)
        SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    SOON(b.frames == 201);
    cr_expect(lt(uint, 150, counted(&rdma.silent)));
}

/* ---- what fails ---- */

/* Of a port both sides hear from their device, or one of the other before that. */
static void expect_downs(int cause)
{
    SOON(a.downs == 1 && b.downs == 1 && !fake_verbs_events_unread());
    cr_expect(eq(int, a.cause, cause));
    cr_expect(eq(int, b.cause, cause));
}

static struct ibv_qp *qp_of(struct end *end)
{
    struct verbs_nic *nic = verbs(end);
    struct ibv_qp *qp;

    rdm_lock(&nic->base.guard);
    qp = nic->ways->qp;
    rdm_unlock(&nic->base.guard);
    return qp;
}

Test(verbs, a_queue_pair_that_fails_is_the_peers_end_and_not_the_last, BOTH)
{
    pair_open();
    fake_verbs_event(IBV_EVENT_QP_FATAL, qp_of(&a));
    expect_downs(-ECONNABORTED);
    reconnect();
    move_all_sizes();
    SOON(ways(&a) == 1 && ways(&b) == 1);
    SOON(!ways_lost(&a) && !ways_lost(&b));
}

/* b hears of it when it sends. */
Test(verbs, a_peer_that_is_not_told_finds_out, BOTH)
{
    lost[VERBS_CLOSE] = 1;
    rdma.letter = lose;
    pair_open();
    fake_verbs_event(IBV_EVENT_QP_ACCESS_ERR, qp_of(&a));
    SOON(a.downs == 1);
    SOON(b.downs || ops->send_inline(b.peer, 0, "x", 1) != 0);
    SOON(b.downs == 1);
    reconnect();
}

Test(verbs, a_port_that_goes_down_is_told_of, BOTH)
{
    pair_open();
    fake_verbs_event(IBV_EVENT_PORT_ERR, NULL);
    expect_downs(-ECONNABORTED);
    reconnect();
}

/* As when an interface's addresses are taken from it and given again, in another order. */
Test(verbs, a_gid_that_has_moved_in_the_ports_table_is_found_there, BOTH)
{
    pair_open();
    fake_verbs_lock();
    rdma.gid[1] = rdma.gid[0];
    rdma.gid[1].gid_index = 7;
    rdma.gid[0].gid.raw[15]++;
    rdma.n_gids = 2;
    fake_verbs_unlock();
    fake_verbs_event(IBV_EVENT_GID_CHANGE, NULL);
    fake_verbs_event(IBV_EVENT_PORT_ERR, NULL);
    expect_downs(-ECONNABORTED);
    reconnect();
    fake_verbs_lock();
    cr_expect(eq(int, rdma.last.ah_attr.grh.sgid_index, 7));
    fake_verbs_unlock();
}

Test(verbs, a_device_that_is_gone_connects_to_nobody, BOTH)
{
    uint8_t address[PW_NIC_ADDRESS_MAX];
    size_t len;

    pair_open();
    fake_verbs_event(IBV_EVENT_DEVICE_FATAL, NULL);
    expect_downs(-ECONNABORTED);
    ops->disconnect(a.peer);
    len = ops->address(b.nic, address);
    cr_expect(eq(int, ops->connect(a.nic, address, len, &a, &a.peer), -EHOSTUNREACH));
}

Test(verbs, a_process_that_is_killed_is_down, BOTH)
{
    pair_open();
    fake_verbs_cut(b.nic);
    SOON(a.downs || ops->send_inline(a.peer, 0, "x", 1) != 0);
    SOON(a.downs == 1);
    cr_expect(eq(int, a.cause, -ECONNABORTED));
}

/* Over a reliable connection that is the connection's end, too. */
Test(verbs, a_get_of_what_is_not_registered_any_more, BOTH)
{
    get_unpinned(20000);
    SOON(a.done == 1);
    cr_expect(eq(int, a.status, -EFAULT));
    SOON(a.downs == 1 && b.downs == 1);
    reconnect();
}

/* They are not, for as long as the device refuses that, and nobody is lost for it. */
static void connected_in_the_end(const char *what, int err)
{
    cr_assert(eq(int, end_open(&a), 0));
    cr_assert(eq(int, end_open(&b), 0));
    fake_verbs_refuse(what, err);
    connect_to(&a, &b);
    connect_to(&b, &a);
    for (int i = 0; i < 1000; i++)
        look();
    cr_expect(eq(int, ops->send_inline(a.peer, 0, "x", 1), -EAGAIN));
    fake_verbs_refuse(NULL, 0);
    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    SOON(b.frames == 1);
    cr_expect(eq(int, (int)a.downs + (int)b.downs, 0));
}

/* The device has no way to the peer when it is to be connected. */
Test(verbs, a_queue_pair_that_cannot_be_connected_is_made_anew, BOTH)
{
    connected_in_the_end("modify_qp", ETIMEDOUT);
}

Test(verbs, a_completion_queue_that_cannot_be_read_is_the_end, BOTH)
{
    pair_open();
    fake_verbs_refuse("poll_cq", EIO);
    expect_downs(-ECONNABORTED);
    fake_verbs_refuse(NULL, 0);
}

Test(verbs, a_send_that_is_refused_is_the_connections_end, BOTH)
{
    pair_open();
    fake_verbs_refuse("post_send", EIO);
    cr_expect(eq(int, ops->send_inline(a.peer, 0, "x", 1), -EPIPE));
    fake_verbs_refuse(NULL, 0);
    SOON(a.downs == 1);
}

Test(verbs, where_there_is_no_room_it_is_tried_again, BOTH)
{
    pair_open();
    fake_verbs_refuse("post_send", ENOMEM);
    cr_expect(eq(int, ops->send_inline(a.peer, 0, "x", 1), -EAGAIN));
    fake_verbs_refuse(NULL, 0);
    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    SOON(b.frames == 2);
}

/* ---- what is under way ---- */

static struct pw_nic_key source_key;

static void get_begin(void)
{
    pair_open();
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &source_key), 0));
    hold(&rdma.hold_reads);
    cr_assert(eq(int, ops->get(a.peer, target, (uintptr_t)source, BYTES, &source_key, &a),
                 PW_NIC_PENDING));
}

static void target_is_untouched(void)
{
    fake_verbs_go_on();
    for (int i = 0; i < 100; i++)
        look();
    for (int i = 0; i < BYTES; i++)
        cr_assert(eq(int, target[i], 0));
}

Test(verbs, who_disconnects_has_its_memory_back, BOTH)
{
    get_begin();
    ops->disconnect(a.peer);
    target_is_untouched();
    cr_expect(eq(int, (int)a.done, 0), "nobody is told");
}

/* Not even of a device that gives nothing back is anything under way then. */
Test(verbs, who_disconnects_has_its_memory_back_whatever_the_device_does, BOTH)
{
    get_begin();
    hold(&rdma.hold_flush);
    rdm_thread_stop((struct rdm_nic *)a.nic);   /* it would look after that, later */
    ops->disconnect(a.peer);
    cr_expect(eq(uint, verbs(&a)->n_failed, 0), "it is destroyed");
    target_is_untouched();
}

/* Of b, for which it fetches a put, when that has left for so long; it has said that all has
 * arrived. */
static unsigned fetching_at(uint64_t ms)
{
    struct rdm_nic *nic = (struct rdm_nic *)b.nic;
    unsigned n = 0;

    rdm_lock(&nic->guard);
    nic->peers->bye_done = true;
    nic->peers->lost_ms = rdm_ms(pw_now_ns()) - ms;
    rdm_tick(nic, nic->peers->lost_ms + ms);
    for (const struct rdm_peer *peer = nic->peers; peer; peer = peer->next)
        n += rdm_pulls_under_way(peer);
    if (nic->peers)
        nic->peers->lost_ms = UINT64_MAX;       /* not yet */
    rdm_unlock(&nic->guard);
    return n;
}

static bool b_fetches(void)
{
    struct rdm_nic *nic = (struct rdm_nic *)b.nic;
    bool so;

    rdm_lock(&nic->guard);
    so = rdm_pulls_under_way((struct rdm_peer *)b.peer);
    rdm_unlock(&nic->guard);
    return so;
}

/* What is under way is the device's: it is given back before the peer is forgotten. */
Test(verbs, a_peer_stays_for_as_long_as_its_put_is_fetched, BOTH)
{
    pair_open();
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, target, BYTES, PW_WRITE, &source_key), 0));
    hold(&rdma.hold_reads);
    cr_assert(eq(int, ops->put(a.peer, source, (uintptr_t)target, BYTES, &source_key, &a),
                 PW_NIC_PENDING));
    SOON(b_fetches());
    ops->disconnect(b.peer);
    cr_expect(eq(uint, fetching_at(RDM_FLUSH_MS - 1), 1));
    hold(&rdma.hold_flush);
    cr_expect(eq(uint, fetching_at(RDM_FLUSH_MS), 1));
    fake_verbs_go_on();
    SOON(a.done == 1 || a.downs == 1);
}

/* Another peer's connection is to end by force, as when that is lost with a read under way. */
Test(verbs, what_was_sent_before_who_sent_it_left_is_not_dropped_for_others, BOTH)
{
    struct rdm_nic *nic;

    pair_open();
    hold(&rdma.no_buffers);
    for (int i = 0; i < 5; i++)
        cr_assert(eq(int, ops->send_inline(a.peer, 0, "x", 1), 0));
    ops->disconnect(a.peer);
    nic = (struct rdm_nic *)a.nic;
    rdm_lock(&nic->guard);
    nic->reset = true;
    rdm_settle(nic);
    rdm_unlock(&nic->guard);
    fake_verbs_go_on();
    SOON(b.downs == 1);
    cr_expect(eq(uint, b.frames, 6));
    cr_expect(eq(int, b.cause, 0), "it has left");
}

/* It is destroyed then, and what the device says of it later is of nobody's. */
Test(verbs, a_device_that_gives_nothing_back, BOTH)
{
    get_begin();
    hold(&rdma.hold_flush);
    fake_verbs_event(IBV_EVENT_QP_FATAL, qp_of(&a));
    SOON(a.downs == 1);
    cr_expect(eq(int, (int)a.done, 1));
    cr_expect(eq(int, a.status, -ECONNRESET));
    target_is_untouched();
    reconnect();
}

Test(verbs, a_nic_is_closed_with_a_read_under_way, BOTH)
{
    get_begin();
    hold(&rdma.hold_flush);
    ops->close(a.nic);
    a.nic = NULL;
    target_is_untouched();
}

/* b closes its end while what it was sent has come and was not looked at. The lock of b is
 * held: its thread looks, too. */
static void fail_unlooked_at(void)
{
    struct verbs_nic *nic = verbs(&b);
    struct verbs_way *way;

    rdm_lock(&nic->base.guard);
    for (int i = 0; i < 40; i++)
        cr_assert(eq(int, ops->send_inline(a.peer, 0, "x", 1), 0));
    rdm_poll((struct rdm_nic *)a.nic);
    way = nic->ways;
    verbs_way_retire(way, way->posted);
    verbs_way_fail(way, ECONNRESET);
    way->rings = false;
    verbs_ways_tend(nic, way->failed_ms);
    rdm_unlock(&nic->base.guard);
}

/* All that is counted as posted. */
static bool buffers_are_there(struct end *end)
{
    struct verbs_nic *nic = verbs(end);
    bool there;

    rdm_lock(&nic->base.guard);
    rdm_poll(&nic->base);
    there = nic->base.n_posted == fake_verbs_buffers(end->nic);
    rdm_unlock(&nic->base.guard);
    return there;
}

static void fail_often(void)
{
    pair_open();
    hold(&rdma.forgets);
    for (int i = 0; i < 3; i++) {
        fail_unlooked_at();
        SOON(a.downs == 1 && b.downs == 1);
        SOON(ways(&a) == 1 && ways(&b) == 1 && !verbs(&b)->n_failed);
        reconnect();
    }
    SOON(buffers_are_there(&b));
    move_all_sizes();
}

/* Else there were none left in the end, and whoever sends would wait for one for ever. */
Test(verbs, a_queue_pair_that_is_destroyed_takes_no_buffers_along, BOTH)
{
    fail_often();
}

Test(verbs, a_device_that_does_not_say_that_it_takes_no_more_buffers, BOTH)
{
    rdma.never_last = true;
    fail_often();
}

/* ---- devices that fail in the midst of it ---- */

/* Who looks first says so; the other may find first that nothing is acknowledged. */
static void expect_why(const char *part)
{
    bool said = strstr(a.why, part) || strstr(b.why, part);

    cr_expect(eq(int, said, 1), "%s; %s", a.why, b.why);
}

/* What refuses a connection now; 0: nothing does. */
static int refused(const uint8_t *address, size_t len)
{
    int err = ops->connect(a.nic, address, len, &a, &a.peer);

    if (!err)
        ops->disconnect(a.peer);
    return err;
}

/* Nothing comes back from it: what was under way has ended all the same, and says why. */
static void fails_for_good(enum ibv_event_type type, const char *said)
{
    uint8_t address[PW_NIC_ADDRESS_MAX];
    size_t len;

    get_begin();
    hold(&rdma.hold_flush);
    hold(&rdma.no_buffers);
    fake_verbs_event(type, NULL);
    SOON(a.downs == 1 && b.downs == 1);
    cr_expect(eq(int, (int)a.done, 1));
    cr_expect(eq(int, a.status, -ECONNRESET));
    expect_why(said);
    target_is_untouched();
    cr_expect(eq(int, ops->send_inline(a.peer, 0, "x", 1), -EPIPE));
    ops->disconnect(a.peer);
    len = ops->address(b.nic, address);
    /* The connection may have ended before its NIC has heard of the device. */
    SOON(refused(address, len) == -EHOSTUNREACH);
    ops->wait(a.nic, 1000);
    cr_expect(eq(int, (int)a.downs, 1), "told once");
}

Test(verbs, a_device_that_is_deleted_in_the_midst_of_it, BOTH)
{
    fails_for_good(IBV_EVENT_DEVICE_FATAL, "the device has failed, or is gone");
}

Test(verbs, a_completion_queue_that_overruns, BOTH)
{
    fails_for_good(IBV_EVENT_CQ_ERR, "a queue of the device has failed");
}

Test(verbs, a_queue_of_buffers_that_fails, BOTH)
{
    fails_for_good(IBV_EVENT_SRQ_ERR, "a queue of the device has failed");
}

/* The device tries again until there is one. */
Test(verbs, a_peer_without_buffers_for_a_while_loses_nothing, BOTH)
{
    pair_open();
    hold(&rdma.no_buffers);
    for (int i = 0; i < 50; i++)
        SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    for (int i = 0; i < 1000; i++)
        look();
    cr_expect(eq(int, (int)b.frames, 1));
    cr_expect(eq(int, (int)a.downs, 0));
    fake_verbs_go_on();
    SOON(b.frames == 51);
    move_all_sizes();
}

/* As often as a user has set, and it says so. */
Test(verbs, a_peer_without_buffers_for_too_long, BOTH)
{
    pair_open();
    fake_verbs_lock();
    rdma.rnr_ends = 1;
    fake_verbs_unlock();
    SOON(a.downs || ops->send_inline(a.peer, 0, "x", 1) != 0);
    SOON(a.downs == 1 && b.downs == 1);
    expect_why("it had no buffer");
    expect_why("verbs_rnr_retries");
    reconnect();
    move_all_sizes();
}

/* ---- rights and limits ---- */

Test(verbs, peers_may_read_and_nothing_else, BOTH)
{
    struct pw_nic_key key;

    pair_open();
    move_all_sizes();
    cr_assert(eq(int, ops->pin(b.nic, target, BYTES, PW_READ | PW_WRITE | PW_ATOMIC, &key),
                 0));
    cr_expect(eq(int, rdma.rights & ~IBV_ACCESS_RELAXED_ORDERING,
                 IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ));
    ops->unpin(b.nic, target, BYTES, &key);
}

/* Its writes may pass each other: what says that they have come is a completion. */
Test(verbs, memory_is_registered_with_relaxed_ordering, BOTH)
{
    pair_open();
    move_all_sizes();
    cr_expect(ne(int, rdma.rights & IBV_ACCESS_RELAXED_ORDERING, 0));
}

static void strict_device(int err)
{
    struct pw_nic_key key;
    unsigned tries;

    rdma.strict = err;
    pair_open();
    move_all_sizes();
    cr_expect(eq(int, rdma.rights & IBV_ACCESS_RELAXED_ORDERING, 0));
    tries = rdma.relaxed_tries;
    cr_expect(eq(uint, tries, 2), "once by each NIC");
    cr_assert(eq(int, ops->pin(b.nic, target, BYTES, PW_READ, &key), 0));
    cr_expect(eq(uint, rdma.relaxed_tries, tries));
    ops->unpin(b.nic, target, BYTES, &key);
}

Test(verbs, a_device_that_refuses_relaxed_ordering_is_used_without, BOTH)
{
    strict_device(EINVAL);
}

Test(verbs, or_that_says_it_has_not_that, BOTH)
{
    strict_device(EOPNOTSUPP);
}

static void talk(void)
{
    static const char bytes[1000];

    connect_to(&a, &b);
    connect_to(&b, &a);
    for (unsigned i = 0; i < 100; i++)
        SOON(ops->send_inline(a.peer, 0, bytes, sizeof(bytes)) == 0);
    SOON(b.frames == 100);
}

/* However little it is, what is opened works, and what is not says what mends it. */
Test(verbs, where_little_memory_can_be_locked, BOTH)
{
    unsigned opened = 0;

    for (size_t quarters = 1; quarters <= 60; quarters++) {
        rdma.lockable = quarters << 18;
        if (!end_open(&a) && !end_open(&b)) {
            talk();
            opened++;
        } else {
            cr_expect(ne(ptr, strstr(end_why, "memlock"), NULL), "%zu: %s", quarters,
                      end_why);
        }
        pair_close();
        cr_expect(eq(sz, rdma.locked, 0));
    }
    cr_expect(lt(uint, 20, opened));
}

/* ---- nobody uses it ---- */

static void idle_for_long(struct end *end)
{
    struct verbs_nic *nic = verbs(end);

    rdm_lock(&nic->base.guard);
    if (nic->ways && !nic->ways->users)
        nic->ways->idle_ms = 1;
    rdm_unlock(&nic->base.guard);
}

Test(verbs, a_queue_pair_that_nobody_uses_is_closed_on_both_sides, BOTH)
{
    pair_open();
    ops->disconnect(a.peer);
    ops->disconnect(b.peer);
    SOON((idle_for_long(&a), ways(&a) == 0));
    SOON(ways(&b) == 0);
    connect_to(&a, &b);
    connect_to(&b, &a);
    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
}

/* ---- opening ---- */

Test(verbs, what_cannot_be_opened_is_told_and_leaves_nothing, BOTH)
{
    static const struct {
        const char *refused, *said;
    } cases[] = {
        { "open_device", "cannot be opened" }, { "query_port", "does not answer" },
        { "alloc_pd", "protection domain" }, { "create_comp_channel", "completion channel" },
        { "create_cq", "queues" }, { "create_srq", "queues" },
        { "reg_mr", "datagrams" }, { "create_qp", "datagrams" },
        { "post_recv", "datagrams" }, { "create_rc", "reliable connection" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        fake_verbs_refuse(cases[i].refused, ENOSPC);
        cr_expect(eq(int, end_open(&a), -ENODEV), "%s", cases[i].refused);
        cr_expect(ne(ptr, strstr(end_why, cases[i].said), NULL), "%s: %s", cases[i].refused,
                  end_why);
        cr_expect(eq(uint, rdma.opened, 0), "%s", cases[i].refused);
        a.nic = NULL;
    }
    fake_verbs_refuse(NULL, 0);
    end_device = "fake7";
    cr_expect(eq(int, end_open(&a), -ENODEV));
    cr_expect(eq(str, end_why, "there is no such RDMA device"));
    a.nic = NULL;
    end_device = "fake0";
    rdma.limits[0].max_cqe = 100;
    cr_expect(eq(int, end_open(&a), -ENODEV));
    a.nic = NULL;
}

/* It waits for one. */
Test(verbs, a_peer_for_whom_there_is_no_queue_pair, BOTH)
{
    connected_in_the_end("create_rc", ENOMEM);
}

Test(verbs, a_device_that_gives_no_queue_pair_for_it_has_failed, BOTH)
{
    uint8_t address[PW_NIC_ADDRESS_MAX];
    size_t len;

    cr_assert(eq(int, end_open(&a), 0));
    cr_assert(eq(int, end_open(&b), 0));
    len = ops->address(b.nic, address);
    fake_verbs_refuse("create_rc", EIO);
    cr_expect(eq(int, ops->connect(a.nic, address, len, &a, &a.peer), -EHOSTUNREACH));
    fake_verbs_refuse(NULL, 0);
    cr_expect(eq(uint, ways(&a), 0));
}

/* ---- where a peer's host is ---- */

static bool routing(void)
{
    return counted(&rdma.routes_waited);
}

/* The kernel asks for it and waits; nobody else does. */
Test(verbs, a_host_that_does_not_answer_holds_up_nobody_else, BOTH)
{
    static struct end c;
    bool waits;

    pair_open();
    cr_assert(eq(int, end_open(&c), 0));
    hold(&rdma.hold_routes);
    connect_to(&a, &c);
    a.peer = NULL;
    SOON(routing());
    cr_assert(eq(int, ops->send_inline(b.peer, 0, "x", 1), 0));
    SOON(a.frames == 1);
    fake_verbs_lock();
    waits = rdma.hold_routes && rdma.routes_waited == 1;
    fake_verbs_unlock();
    cr_expect(eq(int, waits, 1));
    fake_verbs_go_on();
    ops->close(c.nic);
}

/* Its host is asked for again, and has come up meanwhile. */
Test(verbs, a_host_that_answers_later, BOTH)
{
    cr_assert(eq(int, end_open(&a), 0));
    cr_assert(eq(int, end_open(&b), 0));
    hold(&rdma.hold_routes);
    connect_to(&a, &b);
    SOON(counted(&rdma.routes_waited) == 2);
    cr_expect(eq(int, ops->send_inline(a.peer, 0, "x", 1), -EAGAIN));
    fake_verbs_go_on();
    connect_to(&b, &a);
    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    SOON(b.frames == 1);
    cr_expect(eq(int, (int)a.downs + (int)b.downs, 0));
}

Test(verbs, no_memory_for_a_route_is_tried_again, BOTH)
{
    cr_assert(eq(int, end_open(&a), 0));
    cr_assert(eq(int, end_open(&b), 0));
    fake_verbs_refuse("create_ah", ENOMEM);
    connect_to(&a, &b);
    SOON(ways(&a) == 1 && ways(&b) == 0);
    for (int i = 0; i < 1000; i++)
        look();
    fake_verbs_refuse(NULL, 0);
    connect_to(&b, &a);
    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    cr_expect(eq(int, (int)a.downs + (int)b.downs, 0));
}

/* Nobody wants to know any more where its host is; what comes is given back. */
Test(verbs, who_disconnects_before_the_host_has_answered, BOTH)
{
    cr_assert(eq(int, end_open(&a), 0));
    cr_assert(eq(int, end_open(&b), 0));
    hold(&rdma.hold_routes);
    connect_to(&a, &b);
    SOON(routing());
    ops->disconnect(a.peer);
    SOON((idle_for_long(&a), ways(&a) == 0));
    fake_verbs_go_on();
    connect_to(&a, &b);
    connect_to(&b, &a);
    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    SOON(b.frames == 1);
}

Test(verbs, a_nic_is_closed_before_a_host_has_answered, BOTH)
{
    cr_assert(eq(int, end_open(&a), 0));
    cr_assert(eq(int, end_open(&b), 0));
    hold(&rdma.hold_routes);
    connect_to(&a, &b);
    SOON(routing());
    ops->close(a.nic);
    a.nic = NULL;
}

static unsigned descriptors(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) != -1;
    return n;
}

Test(verbs, without_the_library_nothing_stays_open)
{
    unsigned before = descriptors();

    verbs_library_use("/nowhere/libibverbs.so.1");
    cr_expect(eq(int, end_open(&a), -ENODEV));
    cr_expect(eq(uint, descriptors(), before));
}

/* Who has no descriptors left has not opened any, and keeps those of others. */
Test(verbs, without_a_descriptor_nothing_is_opened_or_closed, BOTH)
{
    struct rlimit was, none;

    cr_assert(eq(int, getrlimit(RLIMIT_NOFILE, &was), 0));
    cr_assert(eq(int, dup2(2, 0), 0));
    none = (struct rlimit){ 1, was.rlim_max };
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &none), 0));
    cr_expect(eq(int, end_open(&a), -EMFILE));
    a.nic = NULL;
    cr_expect(eq(int, setrlimit(RLIMIT_NOFILE, &was), 0));
    cr_expect(ne(int, fcntl(0, F_GETFD), -1));
}

Test(verbs, memory_that_cannot_be_registered, BOTH)
{
    struct pw_nic_key key;
    static const int errors[][2] = { { ENOMEM, -ENOMEM }, { EFAULT, -EFAULT },
                                     { EAGAIN, -EAGAIN }, { EINVAL, -EIO } };

    pair_open();
    memory_make();
    for (int i = 0; i < 4; i++) {
        fake_verbs_refuse("reg_mr", errors[i][0]);
        cr_expect(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &key), errors[i][1]));
    }
    fake_verbs_refuse(NULL, 0);
}

static bool b_has_fewer_than(unsigned posted)
{
    struct rdm_nic *nic = (struct rdm_nic *)b.nic;
    bool so;

    rdm_lock(&nic->guard);
    so = nic->n_posted < posted;
    rdm_unlock(&nic->guard);
    return so;
}

/* b computes, and 60 messages wait for it in all that it could receive with; its thread
 * looks. */
Test(verbs, memory_for_more_buffers_is_not_asked_for_by_each_message, BOTH)
{
    uint64_t until = pw_now_ns() + UINT64_C(40000000000);

    pair_open();
    fake_verbs_refuse("reg_mr", ENOMEM);
    for (int i = 0; i < 60 && pw_now_ns() < until;) {
        i += ops->send_inline(a.peer, 0, "x", 1) == 0;
        ops->progress(a.nic);
    }
    while (!b_has_fewer_than(RDM_RX_LEAST - 8) && pw_now_ns() < until)
        ops->progress(a.nic);
    cr_expect(b_has_fewer_than(RDM_RX_LEAST - 8));
    fake_verbs_lock();
    cr_expect(lt(uint, 0, rdma.refusals));
    cr_expect(lt(uint, rdma.refusals, 5), "one in a tick");
    fake_verbs_unlock();
    fake_verbs_refuse(NULL, 0);
}

/* As the file system of a file that is mapped may say: then messages bring it, and the
 * connection is none the worse for it. */
Test(verbs, memory_of_ours_that_the_device_refuses, BOTH)
{
    static const int errors[] = { EFAULT, EINVAL, EOPNOTSUPP };
    struct pw_nic_key from, to;

    pair_open();
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &from), 0));
    cr_assert(eq(int, ops->pin(b.nic, target, BYTES, PW_WRITE, &to), 0));
    for (int i = 0; i < 3; i++) {
        fake_verbs_refuse("reg_mr", errors[i]);
        cr_expect(eq(int, ops->get(a.peer, target, (uintptr_t)source, BYTES, &from, &a),
                     -EOPNOTSUPP));
        move(true, BYTES, &to);
        move(false, 1000, &from);
    }
    fake_verbs_refuse(NULL, 0);
    cr_expect(eq(int, (int)a.downs, 0));
}

/* ---- our own memory that was pinned ---- */

static struct pw_nic_key own_key;

/* How often it registers something: own is pinned for that. */
static unsigned get_registers(void *own, size_t len, unsigned access)
{
    struct pw_nic_key key;
    unsigned before;

    cr_assert(eq(int, ops->pin(a.nic, own, len, access, &own_key), 0));
    cr_assert(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &key), 0));
    before = counted(&rdma.registered);
    memset(target, 0, BYTES);
    a.done = 0;
    cr_assert(eq(int, ops->get_own(a.peer, target, (uintptr_t)source, BYTES, &key, &own_key,
                                   &a), PW_NIC_PENDING));
    SOON(a.done == 1);
    cr_expect(eq(int, a.status, 0));
    cr_expect(eq(int, memcmp(source, target, BYTES), 0));
    ops->unpin(b.nic, source, BYTES, &key);
    ops->unpin(a.nic, own, len, &own_key);
    return counted(&rdma.registered) - before;
}

Test(verbs, a_key_of_ours_that_is_of_no_use_is_not_used, BOTH)
{
    pair_open();
    memory_make();
    cr_expect(eq(uint, get_registers(target, BYTES, PW_WRITE), 0));
    cr_expect(eq(uint, get_registers(target, BYTES, PW_READ), 1), "not to be written to");
    cr_expect(eq(uint, get_registers(target, BYTES - 1, PW_WRITE), 1), "too short");
    cr_expect(eq(uint, get_registers(source, BYTES, PW_WRITE), 1), "of other memory");
}

/* As nobody does who goes by the rules. The device is done with it before unpin returns. */
Test(verbs, memory_that_is_unpinned_while_it_is_read_into, BOTH)
{
    pair_open();
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &source_key), 0));
    cr_assert(eq(int, ops->pin(a.nic, target, BYTES, PW_WRITE, &own_key), 0));
    hold(&rdma.hold_reads);
    cr_assert(eq(int, ops->get_own(a.peer, target, (uintptr_t)source, BYTES, &source_key,
                                   &own_key, &a), PW_NIC_PENDING));
    ops->unpin(a.nic, target, BYTES, &own_key);
    cr_expect(eq(int, rdm_ops_under_way((struct rdm_peer *)a.peer), 0));
    target_is_untouched();
    SOON(a.downs == 1);
    cr_expect(eq(int, a.status, -ECONNRESET));
}
