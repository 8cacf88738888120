/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_lies.c - a peer of the backends over libfabric and UCX says what it may not, one thing
 * at a time; rdm_fuzz.c says all of it at once.
 *
 * a is the liar: an honest NIC, for which the test speaks. b is to lose it with -EPROTO, or
 * to refuse what it asks for, and to keep to its memory. The library is fake_port.c.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "fake_port.h"
#include "rdm_pair.h"

enum { PLENTY = 5000 };

static struct rdm_peer *peer_of(struct end *end)
{
    return (struct rdm_peer *)end->peer;
}

static struct rdm_nic *nic_of(struct end *end)
{
    return (struct rdm_nic *)end->nic;
}

static void open_with(const struct pw_nic_ops *which)
{
    ops = which;
    fake_port_wire = NULL;
    pair_open();
}

/* ---- what a says ---- */

union words {
    struct rdm_head head;
    uint8_t bytes[256];
};

static void say(const union words *w, size_t len)
{
    fake_port_say(fake_port_of(b.nic), w->bytes, len);
}

/* With the number that is next, if it is one in order. */
static union words words_of(uint16_t kind)
{
    union words w = { { 0 } };

    rdm_lock(&nic_of(&a)->guard);
    w.head = rdm_control(peer_of(&a), kind);
    if (kind <= RDM_BYE)
        peer_of(&a)->sent++;
    rdm_unlock(&nic_of(&a)->guard);
    return w;
}

static size_t with(union words *w, const void *more, size_t len)
{
    memcpy(w->bytes + sizeof(w->head), more, len);
    return sizeof(w->head) + len;
}

static void say_only(uint16_t kind, size_t more)
{
    union words w = words_of(kind);

    say(&w, sizeof(w.head) + more);
}

static void say_get(uint64_t addr, uint64_t len, const struct pw_nic_key *bytes, size_t more)
{
    struct rdm_get get = { .head = words_of(RDM_GET).head, .addr = addr, .len = len,
                           .id = 1 };
    union words w = { { 0 } };
    struct rdm_key key;

    memcpy(&key, bytes, sizeof(key));
    get.key = key.key;
    get.place = key.place;
    memcpy(w.bytes, &get, sizeof(get));
    say(&w, sizeof(get) + more);
}

static void say_put_done(uint32_t id, int status, size_t len)
{
    struct rdm_put_done done = { .head = words_of(RDM_PUT_DONE).head, .id = id,
                                 .status = status };
    union words w = { { 0 } };

    rdm_lock(&nic_of(&a)->guard);
    done.head.imm = ++peer_of(&a)->answers;
    rdm_unlock(&nic_of(&a)->guard);
    memcpy(w.bytes, &done, sizeof(done));
    say(&w, len);
}

static void say_put(const struct pw_nic_key *bytes, uint64_t addr)
{
    union words w = words_of(RDM_PUT);
    struct rdm_put_head to = { .addr = addr, .id = 7 };
    struct rdm_key key;

    memcpy(&key, bytes, sizeof(key));
    to.key = key.key;
    to.place = key.place;
    say(&w, with(&w, &to, sizeof(to)));
}

/* ---- what b makes of it ---- */

/* All that was said, and no upcalls. */
static void hear_all(void)
{
    struct rdm_nic *nic = nic_of(&b);

    rdm_lock(&nic->guard);
    while (rdm_poll(nic))
        ;
    rdm_unlock(&nic->guard);
}

static int reconnects(struct end *end)
{
    return (int)__atomic_load_n(&end->nic->counts.reconnects, __ATOMIC_RELAXED);
}

static bool lost(struct end *end)
{
    bool yes;

    rdm_lock(&nic_of(end)->guard);
    yes = peer_of(end)->state != RDM_UP;
    rdm_unlock(&nic_of(end)->guard);
    return yes;
}

static bool fetching(struct end *end)
{
    bool yes;

    rdm_lock(&nic_of(end)->guard);
    yes = rdm_pulls_under_way(peer_of(end));
    rdm_unlock(&nic_of(end)->guard);
    return yes;
}

static void b_loses_it(int cause)
{
    SOON(b.downs == 1);
    cr_expect(eq(int, b.cause, cause));
}

/* What it said before has been heard. */
static void b_keeps_it(void)
{
    unsigned frames = b.frames;

    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    SOON(b.frames > frames || b.downs);
    cr_expect(eq(int, b.downs, 0));
    cr_expect(eq(int, reconnects(&b), 0));
}

/* ---- nonsense ---- */

static struct pw_nic_key source_key;

static void kind_zero(void) { say_only(0, 0); }
static void kind_too_great(void) { say_only(RDM_GET + 1, 0); }
static void put_without_a_head(void) { say_only(RDM_PUT, sizeof(struct rdm_put_head) - 1); }
static void fetch_too_short(void) { say_only(RDM_FETCH, sizeof(struct rdm_fetch_head) - 1); }
static void fetch_too_long(void) { say_only(RDM_FETCH, sizeof(struct rdm_fetch_head) + 1); }
static void data_too_short(void) { say_only(RDM_GET_DATA, sizeof(struct rdm_get_data) - 1); }
static void answer_too_short(void) { say_put_done(1, 0, sizeof(struct rdm_put_done) - 1); }
static void answer_of_nothing(void) { say_put_done(1, 0, sizeof(struct rdm_put_done)); }
static void ack_too_long(void) { say_only(RDM_ACK, 1); }
static void bye_too_long(void) { say_only(RDM_BYE, 1); }
static void get_too_long(void) { say_get((uintptr_t)source, 8, &source_key, 1); }
static void get_of_nothing(void) { say_get((uintptr_t)source, 0, &source_key, 0); }

/* b's program reads none of them meanwhile. */
static void more_than_the_window(void)
{
    for (int i = 0; i <= RDM_WINDOW; i++)
        say_only(RDM_DATA, 0);
}

static void far_ahead(void)
{
    union words w = words_of(RDM_DATA);

    w.head.seq += RDM_WINDOW + 1;
    say(&w, sizeof(w.head));
}

static void claims_messages(void)
{
    union words w = words_of(RDM_ACK);

    w.head.seq += RDM_WINDOW + 2;
    say(&w, sizeof(w.head));
}

static void claims_answers(void)
{
    union words w = words_of(RDM_ACK);

    w.head.imm++;
    say(&w, sizeof(w.head));
}

static const struct lie {
    const char *what;
    void (*tell)(void);
} lies[] = {
    { "a kind that is none", kind_zero },
    { "a kind of a later version", kind_too_great },
    { "a put shorter than its head", put_without_a_head },
    { "a fetch that is cut", fetch_too_short },
    { "a fetch with more behind it", fetch_too_long },
    { "data that are cut", data_too_short },
    { "an answer that is cut", answer_too_short },
    { "an answer to what was not asked", answer_of_nothing },
    { "an acknowledgement with more behind it", ack_too_long },
    { "a farewell with more behind it", bye_too_long },
    { "a get with more behind it", get_too_long },
    { "a get of nothing", get_of_nothing },
    { "more than may be unread", more_than_the_window },
    { "a number far ahead", far_ahead },
    { "to have sent more than it may", claims_messages },
    { "to have answered what was not asked", claims_answers },
};

static void all_lies(const struct pw_nic_ops *which)
{
    for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
        open_with(which);
        memory_make();
        cr_assert(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &source_key), 0));
        lies[i].tell();
        hear_all();
        cr_expect(lost(&b), "%s", lies[i].what);
        b_loses_it(-EPROTO);
        cr_expect(eq(int, reconnects(&b), 0), "%s", lies[i].what);
        ops->close(b.nic);      /* first: the other one waits for it to read a farewell */
        b.nic = NULL;
        pair_close();
        free(source);
        free(target);
    }
}

Test(rdm_lies, nonsense_ends_the_connection_where_memory_is_read)
{
    all_lies(&fake_reads);
}

Test(rdm_lies, nonsense_ends_the_connection_where_all_is_messages)
{
    all_lies(&fake_streams);
}

Test(rdm_lies, nonsense_ends_the_connection_where_there_is_both)
{
    all_lies(&fake_both);
}

/* ---- of gets ---- */

/* A put has a number, too, and no place of ours to write to. */
Test(rdm_lies, data_for_a_put_that_is_fetched)
{
    struct rdm_get_data data = { 0 };
    struct pw_nic_key key;
    union words w;

    open_with(&fake_both);
    memory_make();
    cr_assert(eq(int, ops->pin(a.nic, target, BYTES, PW_READ | PW_WRITE, &key), 0));
    fake_port_reads(fake_port_of(a.nic), 0);
    SOON(ops->put(b.peer, source, (uintptr_t)target, 20000, &key, &b) == PW_NIC_PENDING);
    rdm_lock(&nic_of(&b)->guard);
    data.id = peer_of(&b)->ops->id;
    rdm_unlock(&nic_of(&b)->guard);
    w = words_of(RDM_GET_DATA);
    say(&w, with(&w, &data, sizeof(data)) + 16);
    b_keeps_it();
    cr_expect(eq(uint, b.done, 0));
    fake_port_reads(fake_port_of(a.nic), UINT_MAX);
    SOON(b.done == 1);
    cr_expect(eq(int, b.status, 0));
    pair_close();
}

/* The library still reads for it; what has no number is nobody's to end. */
Test(rdm_lies, data_for_a_get_that_reads_memory)
{
    struct rdm_get_data data = { 0 };
    struct pw_nic_key key;
    union words w;

    open_with(&fake_reads);
    memory_make();
    cr_assert(eq(int, ops->pin(a.nic, source, BYTES, PW_READ, &key), 0));
    fake_port_reads(fake_port_of(b.nic), 0);
    SOON(ops->get(b.peer, target, (uintptr_t)source, 16, &key, &b) == PW_NIC_PENDING);
    w = words_of(RDM_GET_DATA);
    say(&w, with(&w, &data, sizeof(data)) + 16);
    hear_all();
    cr_expect(lost(&b));
    look();
    cr_expect(eq(int, (int)b.done, 0));
    fake_port_reads(fake_port_of(b.nic), UINT_MAX);
    b_loses_it(-EPROTO);
    cr_expect(eq(int, (int)b.done, 1));
    pair_close();
}

/* The program would take it for done. */
Test(rdm_lies, an_answer_of_a_put_to_a_get)
{
    struct pw_nic_key key;
    uint32_t id = 0;

    open_with(&fake_streams);
    memory_make();
    cr_assert(eq(int, ops->pin(a.nic, target, BYTES, PW_WRITE | PW_READ, &key), 0));
    fake_port_full(fake_port_of(a.nic), true);
    SOON(ops->put(b.peer, source, (uintptr_t)target, 1, &key, &b) == PW_NIC_PENDING);
    SOON(ops->get(b.peer, source, (uintptr_t)target, 16, &key, &b) == PW_NIC_PENDING);
    rdm_lock(&nic_of(&b)->guard);
    for (struct rdm_op *op = peer_of(&b)->ops; op; op = op->next)
        id = op->put ? id : op->id;
    rdm_unlock(&nic_of(&b)->guard);
    say_put_done(id, 0, sizeof(struct rdm_put_done));
    b_loses_it(-EPROTO);
    cr_expect(eq(uint, b.done, 2));
    cr_expect(eq(int, b.status, -ECONNRESET));
    pair_close();
}

/* A get of 16 bytes by messages, and what answers it. */
static void answered_wrongly(uint64_t at, size_t len)
{
    struct rdm_get_data data = { .at = at };
    struct pw_nic_key key;
    union words w;

    open_with(&fake_streams);
    memory_make();
    memset(source, 'b', BYTES);
    cr_assert(eq(int, ops->pin(a.nic, target, BYTES, PW_READ, &key), 0));
    fake_port_full(fake_port_of(a.nic), true);
    SOON(ops->get(b.peer, source, (uintptr_t)target, 16, &key, &b) == PW_NIC_PENDING);
    rdm_lock(&nic_of(&b)->guard);
    data.id = peer_of(&b)->ops->id;
    rdm_unlock(&nic_of(&b)->guard);
    w = words_of(RDM_GET_DATA);
    say(&w, with(&w, &data, sizeof(data)) + len);
    b_loses_it(-EPROTO);
    cr_expect(eq(int, source[0], 'b'));
    cr_expect(eq(int, source[16], 'b'));
    pair_close();
}

Test(rdm_lies, data_that_are_not_the_next_of_a_get)
{
    answered_wrongly(1, 8);
}

Test(rdm_lies, more_data_than_a_get_asked_for)
{
    answered_wrongly(0, 17);
}

/* ---- memory that has no room for all that a peer says ---- */

static unsigned buffers(struct end *end)
{
    unsigned n;

    rdm_lock(&nic_of(end)->guard);
    n = nic_of(end)->n_rx;
    rdm_unlock(&nic_of(end)->guard);
    return n;
}

static void says_it_again(const struct pw_nic_ops *which)
{
    union words w;

    open_with(which);
    w = words_of(RDM_DATA);
    w.head.seq += 2;
    for (int i = 0; i < PLENTY; i++)
        say(&w, sizeof(w.head));
    hear_all();
    cr_expect(eq(uint, fake_port_held(fake_port_of(b.nic)), 1));
    cr_expect(lt(uint, buffers(&b), 400));
    w.head.seq -= 2;
    say(&w, sizeof(w.head));        /* it was the next */
    b_keeps_it();
    SOON(b.frames == 4);
    pair_close();
}

Test(rdm_lies, a_message_that_came_early_is_kept_once_where_memory_is_read)
{
    says_it_again(&fake_reads);
}

Test(rdm_lies, a_message_that_came_early_is_kept_once_where_all_is_messages)
{
    says_it_again(&fake_streams);
}

static unsigned owed(struct end *end)
{
    unsigned n = 0;

    rdm_lock(&nic_of(end)->guard);
    for (struct rdm_owed *o = peer_of(end)->owed; o; o = o->next)
        n++;
    rdm_unlock(&nic_of(end)->guard);
    return n;
}

/* There is no room for answers: what is not answered counts as unread. */
Test(rdm_lies, puts_whose_answers_find_no_room)
{
    struct pw_nic_key key;

    open_with(&fake_reads);
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, target, BYTES, PW_READ | PW_WRITE, &key), 0));
    fake_port_full(fake_port_of(b.nic), true);
    for (int i = 0; i < PLENTY; i++)
        say_put(&key, (uintptr_t)target);
    hear_all();
    b_loses_it(-EPROTO);
    cr_expect(lt(uint, owed(&b), RDM_WINDOW + 2), "%u", owed(&b));
    pair_close();
}

Test(rdm_lies, an_honest_peer_waits_for_the_answers)
{
    enum { PUTS = 3 * RDM_WINDOW };
    struct pw_nic_key key;
    unsigned asked = 0;
    int err;

    open_with(&fake_reads);
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, target, BYTES, PW_READ | PW_WRITE, &key), 0));
    fake_port_full(fake_port_of(b.nic), true);
    do {
        err = ops->put(a.peer, source, (uintptr_t)target, 8, &key, &a);
        asked += err == PW_NIC_PENDING;
        hear_all();
    } while (err == PW_NIC_PENDING && asked < PUTS);
    cr_expect(lt(uint, asked, RDM_WINDOW + 1), "%u", asked);
    cr_expect(eq(uint, owed(&b), asked));
    fake_port_full(fake_port_of(b.nic), false);
    while (asked < PUTS) {
        SOON((err = ops->put(a.peer, source, (uintptr_t)target, 8, &key, &a)) != -EAGAIN);
        cr_assert(eq(int, err, PW_NIC_PENDING));
        asked++;
    }
    SOON(a.done == PUTS);
    cr_expect(eq(int, a.status, 0));
    b_keeps_it();
    pair_close();
}

/* ---- memory that is not its own ---- */

/* What may be written need not be read. */
Test(rdm_lies, a_get_of_memory_that_may_only_be_written)
{
    struct pw_nic_key key;

    open_with(&fake_streams);
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, source, BYTES, PW_WRITE, &key), 0));
    SOON(ops->get(a.peer, target, (uintptr_t)source, 100, &key, &a) == PW_NIC_PENDING);
    SOON(a.done == 1);
    cr_expect(eq(int, a.status, -EFAULT));
    cr_expect(eq(int, target[1], 0));
    b_keeps_it();
    pair_close();
}

static void put_held(const struct pw_nic_ops *which, size_t len, struct pw_nic_key *key)
{
    open_with(which);
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, target, BYTES, PW_READ | PW_WRITE, key), 0));
    fake_port_reads(fake_port_of(b.nic), 0);
    SOON(ops->put(a.peer, source, (uintptr_t)target, len, key, &a) == PW_NIC_PENDING);
    SOON(fetching(&b));
}

/* After that the library writes nothing there. */
static void given_back(const struct pw_nic_ops *which)
{
    struct pw_nic_key key;

    put_held(which, 20000, &key);
    ops->unpin(b.nic, target, BYTES, &key);
    cr_expect(not(fetching(&b)));
    fake_port_reads(fake_port_of(b.nic), UINT_MAX);
    b_loses_it(-ENETRESET);
    cr_expect(eq(int, target[1], 0));
    pair_close();
}

Test(rdm_lies, memory_that_is_given_back_while_a_put_is_fetched_with_a_reset)
{
    given_back(&fake_reads);
}

Test(rdm_lies, memory_that_is_given_back_while_a_put_is_fetched_from_one_that_is_dropped)
{
    given_back(&fake_both);
}

/* A piece that is under way ends, and no other begins. */
Test(rdm_lies, memory_that_is_given_back_between_two_pieces)
{
    struct pw_nic_key key;

    put_held(&fake_reads, BYTES, &key);
    rdm_thread_stop(nic_of(&b));
    fake_port_reads(fake_port_of(b.nic), 1);
    ops->unpin(b.nic, target, BYTES, &key);
    memset(target, 0, BYTES);
    fake_port_reads(fake_port_of(b.nic), UINT_MAX);
    SOON(a.done == 1);
    cr_expect(eq(int, a.status, -EFAULT));
    for (int i = 0; i < BYTES; i++)
        cr_assert(eq(int, target[i], 0));
    b_keeps_it();
    pair_close();
}

/* Who is lost for what it said has no business in our memory. */
Test(rdm_lies, a_put_is_not_fetched_any_further_for_a_liar)
{
    struct pw_nic_key key;

    put_held(&fake_reads, BYTES, &key);
    kind_zero();
    hear_all();
    cr_expect(lost(&b));
    fake_port_reads(fake_port_of(b.nic), UINT_MAX);
    b_loses_it(-EPROTO);
    for (int i = FAKE_READ_MOST; i < BYTES; i++)
        cr_assert(eq(int, target[i], 0));
    pair_close();
}

/* What it sent first waits for room, and its connection has not been told of. */
Test(rdm_lies, one_that_lies_before_anybody_knows_of_it_is_lost)
{
    struct pw_nic_key key;

    ops = &fake_reads;
    fake_port_wire = NULL;
    cr_assert(eq(int, end_open(&a), 0));
    cr_assert(eq(int, end_open(&b), 0));
    connect_to(&a, &b);
    connect_to(&b, &a);
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, target, BYTES, PW_READ | PW_WRITE, &key), 0));
    do {
        ops->progress(a.nic);
        hear_all();
    } while (lost(&a) || lost(&b));
    fake_port_full(fake_port_of(b.nic), true);
    cr_assert(eq(int, ops->put(a.peer, source, (uintptr_t)target, 20000, &key, &a),
                 PW_NIC_PENDING));
    kind_zero();
    hear_all();
    b_loses_it(-EPROTO);
    cr_expect(eq(int, target[1], 0));
    pair_close();
}

/* ---- hellos ---- */

Test(rdm_lies, a_hello_that_says_nothing_we_know_is_a_strangers)
{
    struct rdm_hello hello = { .magic = FAKE_MAGIC, .version = RDM_VERSION, .token = 5,
                               .what = RDM_LEAVE + 1 };

    open_with(&fake_streams);
    hello.from = nic_of(&a)->address;
    memcpy(hello.secret, nic_of(&b)->address.secret, RDM_ID);
    fake_port_say(fake_port_of(b.nic), &hello,
                  offsetof(struct rdm_hello, from.name) + hello.from.name_len);
    b_keeps_it();
    cr_expect(eq(int, (int)__atomic_load_n(&b.nic->counts.strangers, __ATOMIC_RELAXED), 1));
    pair_close();
}

/* ---- after the end ---- */

/* Pieces of a put that were not sent hold nothing up any more. */
Test(rdm_lies, nothing_can_be_sent_to_one_that_is_down_in_the_midst_of_a_put)
{
    struct pw_nic_key key = { { 0 } };
    struct rdm_key k = { .base = (uintptr_t)&key, .len = SIZE_MAX / 2, .there = 1 };

    open_with(&fake_streams);
    memory_make();
    memcpy(&key, &k, sizeof(k));
    fake_port_full(fake_port_of(b.nic), true);
    SOON(ops->put(b.peer, source, (uintptr_t)&key, BYTES, &key, &b) == PW_NIC_PENDING);
    kind_zero();
    b_loses_it(-EPROTO);
    cr_expect(eq(int, ops->send_inline(b.peer, 0, "x", 1), -EPIPE));
    pair_close();
}
