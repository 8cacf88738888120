/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_watch.c - what the tcp NIC makes of what the kernel knows: an interface that goes down
 * and returns, a peer whose host does not acknowledge.
 *
 * The interface is one end of a veth in a network namespace of the test's own. Both ends are on it, so
 * that their bytes go by the loopback, and the links are told that they do not.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <sched.h>
#include <stdlib.h>

#include "btl/nic/tcp.h"
#include "tests/unit/tcp_rig.h"

enum { PATIENT_MS = 20000 };

static bool run(const char *command)
{
    return !system(command);
}

static void veth_make(void)
{
    if (unshare(CLONE_NEWNET))
        cr_skip_test("network namespaces are not allowed here");
    if (!run("ip link set lo up && ip link add r0 type veth peer name p0 && ip address add "
             "10.77.0.1/24 dev r0 && ip link set r0 up && ip link set p0 up"))
        cr_skip_test("there is no ip, or no veth");
}

static struct end *end_on_veth(void)
{
    struct pw_nic_device r0 = { .name = "r0", .address = "10.77.0.1/24" };

    return end_open_on(&r0, PATIENT_MS, 0);
}

static void leads_off_the_host(struct end *e)
{
    struct tcp_nic *nic = (struct tcp_nic *)e->nic;

    pthread_mutex_lock(&nic->lock);
    for (struct tcp_link *l = nic->links; l; l = l->next)
        l->here = false;
    pthread_mutex_unlock(&nic->lock);
}

Test(tcp_watch, an_interface_that_goes_down_takes_its_links_along)
{
    struct end *a, *b;

    veth_make();
    a = end_on_veth();
    b = end_on_veth();
    ends_join(a, b);
    leads_off_the_host(a);
    cr_assert(run("ip link set r0 down"));
    PUMP_UNTIL(a, b, a->downs);
    cr_expect(eq(int, a->cause, -ENETDOWN));
    cr_expect(eq(str, a->why, "10.77.0.1 by r0 (10.77.0.1): the link went down; that "
                              "interface is down"));
    cr_expect(eq(uint, a->restored, 0));
    cr_assert(run("ip link set r0 up"));
    PUMP_UNTIL(a, b, a->restored);
    pw_nic_tcp.disconnect(a->peer);
    PUMP_UNTIL(a, b, b->downs);
    pw_nic_tcp.disconnect(b->peer);
    a->ups = b->ups = 0;
    ends_join(a, b);
    ends_work(a, b);
    cr_expect(eq(uint, a->restored, 1));
    end_close(a);
    end_close(b);
}

Test(tcp_watch, links_inside_of_the_host_do_not_mind)
{
    struct end *a, *b;

    veth_make();
    a = end_on_veth();
    b = end_on_veth();
    ends_join(a, b);
    cr_assert(run("ip link set r0 down"));
    cr_assert(run("ip link set r0 up"));
    PUMP_UNTIL(a, b, a->restored && b->restored);
    cr_expect(eq(uint, a->downs, 0));
    ends_work(a, b);
    end_close(a);
    end_close(b);
}

Test(tcp_watch, other_interfaces_do_not_matter)
{
    struct end *a, *b;

    veth_make();
    cr_assert(run("ip link add r1 type veth peer name p1 && ip link set r1 up"));
    a = end_on_veth();
    b = end_on_veth();
    ends_join(a, b);
    leads_off_the_host(a);
    leads_off_the_host(b);
    cr_assert(run("ip link set r1 down && ip link del r1"));
    cr_assert(run("ip link set r0 down"));
    PUMP_UNTIL(a, b, a->downs && b->downs);     /* events come in order */
    cr_expect(eq(uint, a->restored, 0));
    end_close(a);
    end_close(b);
}

/* ---- the network ---- */

Test(tcp_watch, what_a_round_trip_takes_is_known_from_the_connection)
{
    struct pw_nic_device lo = { .name = "lo", .address = "127.0.0.1/8" };
    struct end *a = end_open_on(&lo, PATIENT_MS, 0), *b = end_open_on(&lo, PATIENT_MS, 0);

    cr_assert(eq(int, end_connect(a, &b->address), 0));
    cr_expect(eq(u32, pw_nic_tcp.delay(a->peer), 0), "there is none yet");
    cr_assert(eq(int, end_connect(b, &a->address), 0));
    PUMP_UNTIL(a, b, a->ups && b->ups);
    cr_expect(lt(u32, 0, pw_nic_tcp.delay(a->peer)));
    end_close(a);
    end_close(b);
}

/* ---- acknowledgements ---- */

/* As the NIC's thread finds it; nobody can keep this kernel from acknowledging. */
static void doubt(struct end *e, bool doubted)
{
    struct tcp_nic *nic = (struct tcp_nic *)e->nic;

    pthread_mutex_lock(&nic->lock);
    tcp_doubt(((struct tcp_peer *)e->peer)->link, doubted);
    pthread_mutex_unlock(&nic->lock);
}

/* Its owner wants to send it another way, and to forget it when it has come. */
Test(tcp_watch, a_frame_that_was_pending_is_copied_when_its_peer_is_doubted)
{
    struct pw_nic_device lo = { .name = "lo", .address = "127.0.0.1/8" };
    struct end *a = end_open_on(&lo, PATIENT_MS, 4096);
    struct end *b = end_open_on(&lo, PATIENT_MS, 4096);
    uint8_t *local = malloc(TCP_FRAME_MAX);
    struct pw_iov iov = { local, TCP_FRAME_MAX };

    memset(local, 9, TCP_FRAME_MAX);
    ends_join(a, b);
    cr_assert(eq(int, pw_nic_tcp.send(a->peer, 1, &iov, 1, a), PW_NIC_PENDING));
    doubt(a, true);
    for (int i = 0; i < 1000 && !a->completes; i++)
        pw_nic_tcp.progress(a->nic);
    cr_expect(eq(uint, a->completes, 1), "though b has read nothing");
    cr_expect(eq(int, a->status, 0));
    memset(local, 0, TCP_FRAME_MAX);
    PUMP_UNTIL(a, b, b->frames);
    cr_expect(eq(int, b->data[0] & b->data[TCP_FRAME_MAX - 1], 9));
    ends_work(a, b);
    cr_expect(eq(uint, a->completes, 1));
    free(local);
    end_close(a);
    end_close(b);
}

static bool doubted(struct end *e)
{
    struct tcp_nic *nic = (struct tcp_nic *)e->nic;
    bool now;

    pthread_mutex_lock(&nic->lock);
    now = ((struct tcp_peer *)e->peer)->doubted;
    pthread_mutex_unlock(&nic->lock);
    return now;
}

/* Told of is what there is to be seen in progress: maybe nothing, if it went soon. */
Test(tcp_watch, a_doubt_that_is_wrong_is_taken_back)
{
    struct pw_nic_device lo = { .name = "lo", .address = "127.0.0.1/8" };
    struct end *a = end_open_on(&lo, PATIENT_MS, 0);
    struct end *b = end_open_on(&lo, PATIENT_MS, 0);

    ends_join(a, b);
    doubt(a, true);
    PUMP_UNTIL(a, b, !doubted(a));
    ends_progress(a, b);
    cr_expect(le(uint, a->doubts, 1));
    cr_expect(eq(uint, a->trusts, a->doubts));
    cr_expect(eq(uint, b->doubts, 0));
    cr_expect(eq(uint, a->downs, 0));
    ends_work(a, b);
    end_close(a);
    end_close(b);
}

/* b computes: it reads nothing, but its host acknowledges until no more fits. */
Test(tcp_watch, who_computes_is_not_doubted)
{
    struct pw_nic_device lo = { .name = "lo", .address = "127.0.0.1/8" };
    struct end *a = end_open_on(&lo, PATIENT_MS, 4096);
    struct end *b = end_open_on(&lo, PATIENT_MS, 4096);
    static uint8_t bytes[10000];
    struct pw_iov iov = { bytes, sizeof bytes };
    uint64_t until;
    unsigned n = 0;

    ends_join(a, b);
    for (until = pw_now_ns() + 1000000000; pw_now_ns() < until;) {
        n += pw_nic_tcp.send(a->peer, 1, &iov, 1, NULL) == 0;
        pw_nic_tcp.progress(a->nic);
    }
    cr_expect(lt(uint, 0, n));
    cr_expect(eq(uint, a->doubts, 0));
    PUMP_UNTIL(a, b, b->frames >= n);
    end_close(a);
    end_close(b);
}
