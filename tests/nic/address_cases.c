/* SPDX-License-Identifier: BSD-3-Clause */
/* address_cases.c - addresses that are not one, that nobody has any more, or that
 * belong to another job. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "party.h"

static int try_connect(struct rig *rig, const void *addr, size_t len)
{
    struct pw_nic_peer *peer = NULL;
    struct conn conn = { .rig = rig, .recv = conn_recv_sequence };
    int err = rig->nic->ops->connect(rig->nic, addr, len, &conn, &peer);

    if (!err) {
        conn.peer = peer;
        rig->nic->ops->disconnect(peer);
    }
    return err;
}

/* A copy of exactly that length, so that a sanitizer sees a read beyond it. */
static void must_refuse(struct rig *rig, const uint8_t *addr, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);

    REQUIRE(copy != NULL);
    memcpy(copy, addr, len);
    CHECK(!rig->nic->ops->reachable(rig->nic, copy, len));
    CHECK_EQ(try_connect(rig, copy, len), -EINVAL);
    free(copy);
}

static void pair_works(struct pair *p)
{
    REQUIRE_EQ(conn_send_sequence(&p->ab, 0), 0);
    REQUIRE_EQ(conn_send_sequence(&p->ba, 0), 0);
    conn_await_frames(&p->ba, 1);
    conn_await_frames(&p->ab, 1);
}

static void address_stays(const struct subject *s)
{
    uint8_t again[PW_NIC_ADDRESS_MAX];
    struct pair p;

    pair_open(&p, s, NULL);
    memset(again, 0xa5, sizeof again);
    CHECK_EQ(s->ops->address(p.a.nic, again), p.a.address_len);
    CHECK(!memcmp(again, p.a.address, p.a.address_len));
    CHECK(p.a.address_len != p.b.address_len ||
          memcmp(p.a.address, p.b.address, p.a.address_len));
    pair_works(&p);
    pair_close(&p);
}

static void truncated_is_refused(const struct subject *s)
{
    struct pair p;

    pair_open(&p, s, NULL);
    for (size_t len = 0; len < p.b.address_len; len++)
        must_refuse(&p.a, p.b.address, len);
    pair_works(&p);
    pair_close(&p);
}

static void foreign_bytes_are_refused(const struct subject *s)
{
    uint8_t bytes[PW_NIC_ADDRESS_MAX] = { 0 };
    struct pair p;

    pair_open(&p, s, NULL);
    must_refuse(&p.a, bytes, p.b.address_len);
    must_refuse(&p.a, bytes, sizeof bytes);
    for (uint32_t i = 0; i < 50; i++) {
        frame_fill(bytes, sizeof bytes, i);
        must_refuse(&p.a, bytes, p.b.address_len);
        must_refuse(&p.a, bytes, 1 + mix(i) % sizeof bytes);
    }
    pair_works(&p);
    pair_close(&p);
}

/* One byte changed may name another version, another host, or nobody: the answer
 * of connect and that of reachable must agree, and nothing break. */
static void changed_byte_is_refused_or_harmless(const struct subject *s)
{
    unsigned invalid = 0;
    struct pair p;

    pair_open(&p, s, NULL);
    for (size_t i = 0; i < p.b.address_len; i++) {
        uint8_t addr[PW_NIC_ADDRESS_MAX];
        bool reachable;
        int err;

        memcpy(addr, p.b.address, sizeof addr);
        addr[i] ^= 0x5a;
        reachable = s->ops->reachable(p.a.nic, addr, p.b.address_len);
        err = try_connect(&p.a, addr, p.b.address_len);
        pump();
        CHECK(err == 0 || err == -EINVAL || err == -EHOSTUNREACH ||
              err == -ECONNREFUSED || err == -EACCES);
        /* Another user's (-EACCES): reachable() may know or not. */
        if (err != -EACCES && reachable != (err != -EINVAL && err != -EHOSTUNREACH))
            case_fail(__FILE__, __LINE__, "byte %zu: reachable says %s, connect %d", i,
                      reachable ? "yes" : "no", err);
        invalid += err == -EINVAL;
    }
    CHECK(invalid >= 1);
    pair_works(&p);
    pair_close(&p);
}

/* connect says so, or, where it only begins, the down upcall does. */
static void must_be_nobody(struct rig *rig, const void *addr, size_t len)
{
    struct conn conn;

    if (!rig_answers(rig)) {
        CHECK_EQ(try_connect(rig, addr, len), -ECONNREFUSED);
        return;
    }
    rig_connect(rig, &conn, addr, len);
    conn_await_down(&conn, -ECONNRESET);
    CHECK_EQ(conn.ups, 0);
    conn_disconnect(&conn);
}

static void closed_nic_is_refused(const struct subject *s)
{
    struct rig a, b;
    uint8_t addr[PW_NIC_ADDRESS_MAX];
    size_t len;

    rig_open(&a, s, NULL);
    rig_open(&b, s, NULL);
    memcpy(addr, b.address, sizeof addr);
    len = b.address_len;
    rig_close(&b);
    must_be_nobody(&a, addr, len);
    rig_close(&a);
}

static void killed_main(struct party *self)
{
    struct rig rig;
    uint64_t len;

    rig_open(&rig, self->subject, NULL);
    __atomic_store_n(&self->rig, &rig, __ATOMIC_RELEASE);
    len = rig.address_len;
    say(self->self_fd, &len, sizeof len);
    say(self->self_fd, rig.address, len);
    while (!party_killed(self))
        pump();
    rig_close(&rig);
}

static void killed_nic_is_refused(const struct subject *s)
{
    uint8_t addr[PW_NIC_ADDRESS_MAX];
    struct party child;
    struct rig rig;
    uint64_t len;

    party_start(&child, s, killed_main, NULL);
    rig_open(&rig, s, NULL);
    hear(child.fd, &len, sizeof len);
    REQUIRE(len <= sizeof addr);
    hear(child.fd, addr, len);
    party_kill(&child);
    must_be_nobody(&rig, addr, len);
    rig_close(&rig);
}

static void recv_never(struct conn *conn, uint32_t imm, const void *data, size_t len)
{
    (void)conn;
    (void)imm;
    (void)data;
    (void)len;
    CHECK(!"a frame of another job");
}

/* Some frames sent where connecting is not refused already. */
static void intrude(struct rig *rig, struct conn *conn, const struct rig *other)
{
    const struct pw_nic_ops *ops = rig->nic->ops;
    int err;

    memset(conn, 0, sizeof *conn);
    conn->rig = rig;
    conn->recv = recv_never;
    err = ops->connect(rig->nic, other->address, other->address_len, conn, &conn->peer);
    CHECK(err == 0 || err == -EACCES || err == -ECONNREFUSED ||
          err == -EHOSTUNREACH || err == -EINVAL);
    for (uint32_t i = 0; !err && i < 10; i++)
        ops->send_inline(conn->peer, i, "foreign", 7);
}

static void other_job_is_refused(const struct subject *s)
{
    struct rig_options options = { .job = 2 };
    struct deadline d = deadline_in(150);
    struct conn there, back;
    struct rig stranger;
    struct pair p;

    pair_open(&p, s, NULL);
    rig_open(&stranger, s, &options);
    intrude(&stranger, &there, &p.a);
    intrude(&p.a, &back, &stranger);
    while (pump_before(&d))
        ;
    pair_works(&p);
    rig_close(&stranger);
    pair_close(&p);
}

const struct nic_case address_cases[] = {
    { "an address stays the same and is one's own", address_stays, 10, false },
    { "an address cut short is -EINVAL", truncated_is_refused, 10, false },
    { "foreign bytes are -EINVAL", foreign_bytes_are_refused, 10, false },
    { "a changed byte is refused or harmless",
      changed_byte_is_refused_or_harmless, 10, false },
    { "a closed NIC's address is -ECONNREFUSED", closed_nic_is_refused, 10, false },
    { "a killed process's address is -ECONNREFUSED", killed_nic_is_refused, 10, true },
    { "frames of another job do not come in", other_job_is_refused, 10, false },
    { 0 }
};
