/* SPDX-License-Identifier: BSD-3-Clause */
/* leave_cases.c - peers that close, disconnect, or are killed in mid-transfer. */
#define _GNU_SOURCE     /* unshare */
#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "party.h"

static size_t size_below_1000(const struct conn *conn, uint32_t seq)
{
    size_t max = conn->rig->nic->info.frame_max;
    size_t size = mix(seq + 5) % 1000;

    return size < max ? size : max;
}

/* Nothing more goes to that peer. */
static void must_be_broken(struct conn *conn, const struct window_name *w)
{
    const struct pw_nic_ops *ops = conn->rig->nic->ops;
    struct pw_atomic add = { .op = PW_ATOMIC_ADD, .type = PW_INT64, .operand = 1 };
    struct pw_iov iov = { "x", 1 };
    uint64_t word = 0;

    CHECK_EQ(ops->send(conn->peer, 0, &iov, 1, NULL), -EPIPE);
    CHECK_EQ(ops->send_inline(conn->peer, 0, "x", 1), -EPIPE);
    if (!w || !(conn->rig->nic->info.flags & PW_NIC_PUT))
        return;
    CHECK_EQ(ops->put(conn->peer, &word, w->addr, 8, &w->key, NULL), -EPIPE);
    CHECK_EQ(ops->get(conn->peer, &word, w->addr, 8, &w->key, NULL), -EPIPE);
    if (conn->rig->nic->info.flags & PW_NIC_ATOMIC)
        CHECK_EQ(ops->atomic(conn->peer, &add, w->addr, &word, &w->key, NULL), -EPIPE);
    ops->reach(conn->peer, w->addr, 8, &w->key);    /* no crash; says what it likes */
}

/* Frames 0 .. n - 1, as many as go without the receiver's help. */
static uint32_t post_some(struct conn *conn, uint32_t n)
{
    struct deadline d = deadline_patient();
    uint32_t seq = 0;

    conn->size = size_below_1000;
    while (seq < n && conn_post_sequence(conn, seq) == 0)
        seq++;
    REQUIRE(seq > 0);
    while (conn->posted) {
        REQUIRE(!deadline_over(&d));
        conn->rig->nic->ops->progress(conn->rig->nic);
    }
    return seq;
}

static void frames_outlive_their_sender(const struct subject *s)
{
    struct window_name name;
    struct window w;
    struct pair p;
    uint32_t n;

    pair_open(&p, s, NULL);
    window_open(&w, &p.a, 4096, true);
    name = window_name(&w);
    reach_soon(&p.ba, &name);
    p.ba.size = size_below_1000;
    n = post_some(&p.ab, 50);
    window_close(&w);
    rig_close(&p.a);
    conn_await_down(&p.ba, 0);
    CHECK_EQ(p.ba.frames, n);
    must_be_broken(&p.ba, &name);
    for (int i = 0; i < 100; i++)
        pump();
    CHECK_EQ(p.ba.downs, 1);
    rig_close(&p.b);
}

/* Both have connected, neither has looked: the frames must not be lost, nor good
 * order be taken for death. */
static void sender_closes_before_it_is_looked_at(const struct subject *s)
{
    for (int by_close = 0; by_close < 2; by_close++) {
        struct pair p;
        uint32_t n;

        pair_open(&p, s, NULL);
        p.ba.size = size_below_1000;
        n = post_some(&p.ab, 20);
        if (by_close)
            rig_close(&p.a);
        else
            conn_disconnect(&p.ab);
        conn_await_down(&p.ba, 0);
        CHECK_EQ(p.ba.frames, n);
        must_be_broken(&p.ba, NULL);
        rig_close(&p.b);
        if (!by_close)
            rig_close(&p.a);
    }
}

struct brief {
    uint32_t n;
    int disconnect_first;
};

static void brief_main(struct party *self)
{
    const struct brief *brief = self->arg;
    struct deadline d = deadline_patient();
    struct conn conn;
    struct rig rig;

    rig_open(&rig, self->subject, NULL);
    rig_meet(&rig, &conn, self->self_fd);
    conn.size = size_below_1000;
    for (uint32_t seq = 0; seq < brief->n; seq++)
        REQUIRE_EQ(conn_send_sequence(&conn, seq), 0);
    while (conn.posted)
        REQUIRE(pump_before(&d));
    if (brief->disconnect_first)
        conn_disconnect(&conn);
    rig_close(&rig);
}

static void frames_outlive_their_process(const struct subject *s)
{
    struct brief *brief = shared_alloc(sizeof *brief);

    brief->n = rounds(s, 2000);
    for (brief->disconnect_first = 0; brief->disconnect_first < 2;
         brief->disconnect_first++) {
        struct party child;
        struct conn conn;
        struct rig rig;

        party_start(&child, s, brief_main, brief);
        rig_open(&rig, s, NULL);
        rig_meet_like(&rig, &conn, child.fd, &(struct conn){ .size = size_below_1000 });
        party_end(&child);
        conn_await_down(&conn, 0);
        CHECK_EQ(conn.frames, brief->n);
        must_be_broken(&conn, NULL);
        rig_close(&rig);
    }
}

/* The receiver goes while frames are on their way to it. */
static void receiver_leaves(const struct subject *s, bool by_close)
{
    struct deadline d = deadline_patient();
    struct pair p;
    uint32_t seq;
    int err = 0;

    pair_open(&p, s, NULL);
    p.ba.size = size_below_1000;
    seq = post_some(&p.ab, 50);
    for (int i = 0; i < 3; i++)
        s->ops->progress(p.b.nic);
    if (by_close)
        rig_close(&p.b);
    else
        conn_disconnect(&p.ba);
    while (err != -EPIPE && !p.ab.downs) {
        err = conn_post_sequence(&p.ab, seq);
        REQUIRE(err == 0 || err == -EAGAIN || err == -EPIPE);
        seq += err == 0;
        REQUIRE(pump_before(&d));
    }
    conn_await_down(&p.ab, 0);
    must_be_broken(&p.ab, NULL);
    rig_close(&p.a);
    if (!by_close)
        rig_close(&p.b);
}

static void receiver_closes(const struct subject *s)
{
    receiver_leaves(s, true);
}

static void receiver_disconnects(const struct subject *s)
{
    receiver_leaves(s, false);
}

static void frames_outlive_a_disconnect(const struct subject *s)
{
    struct pair p;
    uint32_t n;

    pair_open(&p, s, NULL);
    p.ba.size = size_below_1000;
    n = post_some(&p.ab, 50);
    conn_disconnect(&p.ab);
    conn_await_down(&p.ba, 0);
    CHECK_EQ(p.ba.frames, n);
    must_be_broken(&p.ba, NULL);
    pair_close(&p);
}

static void both_disconnect_at_once(const struct subject *s)
{
    struct pair p;

    for (int i = 0; i < 10; i++) {
        pair_open(&p, s, NULL);
        if (i % 2)
            pump();
        post_some(&p.ab, 5);
        post_some(&p.ba, 5);
        conn_disconnect(&p.ab);
        conn_disconnect(&p.ba);
        for (int k = 0; k < 20; k++)
            pump();
        pair_close(&p);
    }
}

static void connect_again_works(const struct subject *s)
{
    struct pair p;

    pair_open(&p, s, NULL);
    for (int lap = 0; lap < 5; lap++) {
        p.ab.tag_out = p.ba.tag_in = (uint32_t)lap;
        for (uint32_t seq = 0; seq < 20; seq++) {
            REQUIRE_EQ(conn_send_sequence(&p.ab, seq), 0);
            REQUIRE_EQ(conn_send_sequence(&p.ba, seq), 0);
        }
        conn_await_frames(&p.ba, 20);
        conn_await_frames(&p.ab, 20);
        conn_disconnect(&p.ab);
        conn_await_down(&p.ba, 0);
        conn_disconnect(&p.ba);
        rig_connect(&p.a, &p.ab, p.b.address, p.b.address_len);
        rig_connect(&p.b, &p.ba, p.a.address, p.a.address_len);
    }
    pair_close(&p);
}

/* ---- who never connected back ---- */

static void silent_main(struct party *self)
{
    uint8_t address[PW_NIC_ADDRESS_MAX];
    uint64_t len;
    struct rig rig;
    char byte;

    rig_open(&rig, self->subject, NULL);
    __atomic_store_n(&self->rig, &rig, __ATOMIC_RELEASE);
    len = rig.address_len;
    say(self->self_fd, &len, sizeof len);
    say(self->self_fd, rig.address, len);
    hear(self->self_fd, &len, sizeof len);
    REQUIRE(len <= sizeof address);
    hear(self->self_fd, address, len);
    say(self->self_fd, "", 1);
    hear(self->self_fd, &byte, 1);     /* it has connected to us */
    hear(self->self_fd, &byte, 1);
    while (byte == 'k' && !party_killed(self))
        pump();
    rig_close(&rig);
}

/* It leaves without ever having connected to us: we are told all the same. */
static void silent_peer_leaves(const struct subject *s)
{
    for (int killed = 0; killed < 2; killed++) {
        struct deadline d = deadline_patient();
        struct party child;
        struct conn conn;
        struct rig rig;

        party_start(&child, s, silent_main, NULL);
        rig_open(&rig, s, NULL);
        rig_meet(&rig, &conn, child.fd);
        post_some(&conn, 5);
        say(child.fd, killed ? "k" : "c", 1);
        if (killed)
            party_kill(&child);
        else
            party_end(&child);
        while (!conn.downs && pump_before(&d))
            ;
        CHECK_EQ(conn.downs, 1);
        must_be_broken(&conn, NULL);
        rig_close(&rig);
    }
}

/* ---- killed in mid-transfer ---- */

/* Three processes: this one, the victim, and a witness; each connected to each.
 * The victim streams to both and says in shared memory how far it got. */
enum { HERE, WITNESS, RECEIVERS };

struct scene {
    uint32_t sent[RECEIVERS];       /* atomic; frames published, at least */
    uint32_t tried[RECEIVERS];      /* atomic; at most */
    struct window_name window;      /* in the victim */
    int killed;                     /* atomic */
};

struct name {
    uint64_t len;
    uint8_t bytes[PW_NIC_ADDRESS_MAX];
};

static struct name name_of(const struct rig *rig)
{
    struct name name = { .len = rig->address_len };

    memcpy(name.bytes, rig->address, rig->address_len);
    return name;
}

/* Two names come: of the process that staged it, and of the other party. */
static void take_part(struct party *self, struct rig *rig, struct conn conns[RECEIVERS])
{
    struct name mine = name_of(rig), theirs;
    char byte = 1;

    say(self->self_fd, &mine, sizeof mine);
    for (int i = 0; i < RECEIVERS; i++) {
        hear(self->self_fd, &theirs, sizeof theirs);
        rig_connect(rig, &conns[i], theirs.bytes, theirs.len);
        conns[i].size = size_below_1000;
    }
    say(self->self_fd, &byte, 1);
}

static void victim_main(struct party *self)
{
    struct scene *scene = self->arg;
    uint32_t seq[RECEIVERS] = { 0 };
    struct conn conns[RECEIVERS];
    struct window w;
    struct rig rig;

    rig_open(&rig, self->subject, NULL);
    window_open(&w, &rig, 65536, true);
    scene->window = window_name(&w);
    __atomic_store_n(&self->rig, &rig, __ATOMIC_RELEASE);
    take_part(self, &rig, conns);
    while (!party_killed(self)) {
        uint8_t data[1000];

        for (int i = 0; i < RECEIVERS; i++) {
            size_t len = size_below_1000(&conns[i], seq[i]);

            frame_fill(data, len, sequence_seed(0, seq[i]));
            __atomic_store_n(&scene->tried[i], seq[i] + 1, __ATOMIC_RELEASE);
            if (conn_post(&conns[i], seq[i], data, len) == 0)
                seq[i]++;
            __atomic_store_n(&scene->sent[i], seq[i] - conns[i].posted,
                             __ATOMIC_RELEASE);
        }
        pump();
    }
    window_close(&w);
    rig_close(&rig);
}

/* What was sent before the kill arrives, whole and in order; then the news. */
static void witness_death(struct conn *victim, const struct scene *scene, int which)
{
    uint64_t start = clock_ns();
    uint32_t sent = __atomic_load_n(&scene->sent[which], __ATOMIC_ACQUIRE);

    conn_await_down(victim, -ECONNRESET);
    CHECK(clock_ns() - start < 6000000000u || suite_patience_ms > 30000);
    if (victim->rig->nic->info.flags & PW_NIC_LOSSLESS)
        CHECK(victim->frames >= sent);
    CHECK(victim->frames <= __atomic_load_n(&scene->tried[which], __ATOMIC_ACQUIRE));
    must_be_broken(victim, &scene->window);
}

/* Frames both ways between those who live. */
static void carry_on(struct conn *conn, uint32_t n)
{
    struct deadline d = deadline_patient();

    for (uint32_t seq = 0; seq < n; seq++)
        REQUIRE_EQ(conn_send_sequence(conn, seq), 0);
    conn_await_frames(conn, n);
    while (conn->posted)
        REQUIRE(pump_before(&d));
}

static void witness_main(struct party *self)
{
    const struct scene *scene = self->arg;
    struct conn conns[RECEIVERS];
    struct rig rig;
    char byte = 1;

    rig_open(&rig, self->subject, NULL);
    take_part(self, &rig, conns);
    while (!__atomic_load_n(&scene->killed, __ATOMIC_ACQUIRE))
        pump();
    witness_death(&conns[1], scene, WITNESS);
    carry_on(&conns[0], 200);
    say(self->self_fd, &byte, 1);
    hear(self->self_fd, &byte, 1);
    conn_disconnect(&conns[1]);
    rig_close(&rig);
}

static void introduce(struct rig *rig, struct party *victim, struct party *witness,
                      struct conn *to_victim, struct conn *to_witness)
{
    struct name here = name_of(rig), v, w;
    char byte;

    hear(victim->fd, &v, sizeof v);
    hear(witness->fd, &w, sizeof w);
    say(victim->fd, &here, sizeof here);
    say(victim->fd, &w, sizeof w);
    say(witness->fd, &here, sizeof here);
    say(witness->fd, &v, sizeof v);
    rig_connect(rig, to_victim, v.bytes, v.len);
    rig_connect(rig, to_witness, w.bytes, w.len);
    to_victim->size = to_witness->size = size_below_1000;
    hear(victim->fd, &byte, 1);     /* all are connected before one may die */
    hear(witness->fd, &byte, 1);
}

/* Keep the connection to the victim busy in this direction as well. */
static void harass(struct conn *victim, const struct scene *scene, uint32_t *seq)
{
    const struct window_name *w = &scene->window;
    uint32_t i = *seq;
    uint64_t word = i;
    int err = conn_post_sequence(victim, i);

    CHECK(err == 0 || err == -EAGAIN || err == -EPIPE);
    *seq += err == 0;
    if (!(victim->rig->nic->info.flags & PW_NIC_PUT))
        return;
    err = put_now(victim, &word, w->addr + i % 1000 * 8, sizeof word, &w->key);
    CHECK(err == 0 || err == -EOPNOTSUPP || err == -EPIPE || err == -ECONNRESET);
}

static void kill_scene(const struct subject *s)
{
    struct scene *scene = shared_alloc(sizeof *scene);
    struct deadline d = deadline_patient();
    struct conn to_victim, to_witness;
    struct party victim, witness;
    uint32_t n = rounds(s, 2000), seq = 0;
    struct rig rig;
    char byte = 1;

    party_start(&victim, s, victim_main, scene);
    party_start(&witness, s, witness_main, scene);
    rig_open(&rig, s, NULL);
    introduce(&rig, &victim, &witness, &to_victim, &to_witness);
    while (to_victim.frames < n) {
        harass(&to_victim, scene, &seq);
        REQUIRE(pump_before(&d) && !case_failed());
    }
    party_kill(&victim);
    __atomic_store_n(&scene->killed, 1, __ATOMIC_RELEASE);
    witness_death(&to_victim, scene, HERE);
    carry_on(&to_witness, 200);
    conn_disconnect(&to_victim);
    hear(witness.fd, &byte, 1);
    say(witness.fd, &byte, 1);
    party_end(&witness);
    rig_close(&rig);
}

static void killed_in_mid_transfer(const struct subject *s)
{
    kill_scene(s);
}

/* ---- nothing stays behind ---- */

/* New networks have theirs down. */
static void loopback_up(void)
{
    struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return;     /* whoever needs it finds out */
    (void)ioctl(fd, SIOCSIFFLAGS, &ifr);
    close(fd);
}

/* A network and a /dev/shm of one's own, in which nobody else leaves things. */
static bool live_alone(void)
{
    if (unshare(CLONE_NEWNS | CLONE_NEWNET) &&
        unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET))
        return false;
    loopback_up();
    return !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
           !mount("tmpfs", "/dev/shm", "tmpfs", 0, NULL);
}

static unsigned named_sockets(void)
{
    FILE *f = fopen("/proc/self/net/unix", "r");
    unsigned n = 0;
    char line[512];

    REQUIRE(f != NULL);
    while (fgets(line, sizeof line, f))
        n += strchr(line, '@') || strchr(line, '/');
    fclose(f);
    return n;
}

static unsigned files_in(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    unsigned n = 0;

    REQUIRE(dir != NULL);
    while ((entry = readdir(dir)))
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void killed_leaves_nothing(const struct subject *s)
{
    if (!live_alone())
        case_skip("no namespaces of one's own are allowed here");
    CHECK_EQ(named_sockets(), 0);
    kill_scene(s);
    CHECK_EQ(named_sockets(), 0);
    CHECK_EQ(files_in("/dev/shm"), 0);
}

const struct nic_case leave_cases[] = {
    { "frames arrive when their sender has closed",
      frames_outlive_their_sender, 10, false },
    { "frames arrive that nobody saw come before the close",
      sender_closes_before_it_is_looked_at, 10, false },
    { "frames arrive when their process has ended",
      frames_outlive_their_process, 20, true },
    { "frames arrive when their sender has disconnected",
      frames_outlive_a_disconnect, 10, false },
    { "a receiver closes in mid-flight", receiver_closes, 10, false },
    { "a receiver disconnects in mid-flight", receiver_disconnects, 10, false },
    { "both disconnect at once", both_disconnect_at_once, 10, false },
    { "disconnect and connect again", connect_again_works, 10, false },
    { "a peer leaves that never connected to us", silent_peer_leaves, 20, true },
    { "a process is killed in mid-transfer", killed_in_mid_transfer, 20, true },
    { "a killed process leaves nothing behind", killed_leaves_nothing, 20, true },
    { 0 }
};
