/* SPDX-License-Identifier: BSD-3-Clause */
/* regions.c - the tables of regions and of pending operations, by number. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <sched.h>

#include "tests/unit/pair.h"

static const struct pair_plan plain, keyed = { .keyed = true };

static uint64_t at(const void *p)
{
    return (uint64_t)(uintptr_t)p;
}

static uint64_t add(struct pw_engine *e, void *addr, size_t len, unsigned access)
{
    struct pw_key key = { 0 };

    cr_assert(eq(int, pw_engine_register(e, addr, len, access, false, &key), 0));
    return key.id;
}

static void drop(struct pw_engine *e, uint64_t id)
{
    struct pw_key key = { .id = id };

    pw_engine_deregister(e, &key);
}

/* ---- regions ---- */

Test(regions, numbers_differ_and_each_finds_its_own)
{
    enum { N = 1000 };
    static char memory[N][8];
    uint64_t ids[N];
    struct pair p;

    pair_open(&p, &plain);
    for (int i = 0; i < N; i++)
        ids[i] = add(p.a.e, memory[i], 8, PW_READ);
    for (int i = 0; i < N; i++) {
        cr_assert(eq(int, pw_region_check(p.a.e, ids[i], at(memory[i]), 8, PW_READ), 0));
        cr_assert(eq(int, pw_region_check(p.a.e, ids[i], at(memory[(i + 1) % N]), 8,
                                          PW_READ), -EACCES));
    }
    pair_close(&p);
}

static uint64_t sparse(struct pw_engine *e)
{
    struct pw_key key = { 0 };

    cr_assert(eq(int, pw_engine_register_sparse(e, PW_READ, false, &key), 0));
    return key.id;
}

Test(regions, a_sparse_region_is_what_is_attached)
{
    static char m[4096];
    struct pair p;

    pair_open(&p, &plain);
    struct pw_engine *e = p.a.e;
    struct pw_key key = { .id = sparse(e) };

    cr_expect(eq(int, pw_region_check(e, key.id, at(m), 1, PW_READ), -EACCES));
    cr_assert(eq(int, pw_engine_attach(e, &key, m + 1000, 1000), 0));
    cr_expect(eq(int, pw_region_check(e, key.id, at(m + 1000), 1000, PW_READ), 0));
    cr_expect(eq(int, pw_region_check(e, key.id, at(m + 1000), 8, PW_WRITE), -EACCES));
    cr_expect(eq(int, pw_region_check(e, key.id, at(m + 999), 2, PW_READ), -EACCES));
    cr_expect(eq(int, pw_region_check(e, key.id, at(m + 1999), 2, PW_READ), -EACCES));
    cr_expect(eq(int, pw_region_check(e, key.id, at(m + 1000), SIZE_MAX, PW_READ), -EACCES));
    cr_expect(eq(int, pw_region_borrow(e, key.id, at(m + 1500), 8, PW_READ), 0));
    pw_region_give_back(e, key.id);
    cr_assert(eq(int, pw_engine_detach(e, &key, m + 1000), 0));
    cr_expect(eq(int, pw_region_check(e, key.id, at(m + 1000), 8, PW_READ), -EACCES));
    pair_close(&p);
}

Test(regions, what_is_attached_beside_each_other_is_one_piece)
{
    static char m[4096];
    struct pair p;

    pair_open(&p, &plain);
    struct pw_engine *e = p.a.e;
    struct pw_key key = { .id = sparse(e) };

    cr_assert(eq(int, pw_engine_attach(e, &key, m + 2000, 500), 0));
    cr_assert(eq(int, pw_engine_attach(e, &key, m, 1000), 0));
    cr_assert(eq(int, pw_engine_attach(e, &key, m + 1000, 1000), 0));
    cr_expect(eq(int, pw_region_check(e, key.id, at(m), 2500, PW_READ), 0));
    cr_expect(eq(int, pw_region_check(e, key.id, at(m), 2501, PW_READ), -EACCES));
    cr_assert(eq(int, pw_engine_detach(e, &key, m + 1000), 0));
    cr_expect(eq(int, pw_region_check(e, key.id, at(m), 2500, PW_READ), -EACCES));
    cr_expect(eq(int, pw_region_check(e, key.id, at(m + 2000), 500, PW_READ), 0));
    pair_close(&p);
}

Test(regions, what_cannot_be_attached_is_refused)
{
    static char m[4096];
    struct pair p;

    pair_open(&p, &plain);
    struct pw_engine *e = p.a.e;
    struct pw_key key = { .id = sparse(e) };

    cr_assert(eq(int, pw_engine_attach(e, &key, m + 1000, 1000), 0));
    cr_expect(eq(int, pw_engine_attach(e, &key, m + 1999, 8), -EEXIST));
    cr_expect(eq(int, pw_engine_attach(e, &key, m + 900, 101), -EEXIST));
    cr_expect(eq(int, pw_engine_attach(e, &key, m, 4096), -EEXIST));
    cr_expect(eq(int, pw_engine_attach(e, &key, m, SIZE_MAX), -EINVAL));
    cr_expect(eq(int, pw_engine_detach(e, &key, m + 1001), -ENOENT));
    cr_expect(eq(int, pw_engine_attach(e, &key, m + 900, 100), 0));
    pair_close(&p);
}

/* As who has no elements does, and detaches them. */
Test(regions, no_bytes_are_attached_anywhere_and_detached)
{
    static char m[4096];
    struct pair p;

    pair_open(&p, &plain);
    struct pw_engine *e = p.a.e;
    struct pw_key key = { .id = sparse(e) };

    cr_assert(eq(int, pw_engine_attach(e, &key, m, 4096), 0));
    cr_expect(eq(int, pw_engine_attach(e, &key, m + 1000, 0), 0));
    cr_expect(eq(int, pw_engine_attach(e, &key, NULL, 0), 0));
    cr_expect(eq(int, pw_region_check(e, key.id, at(m), 4096, PW_READ), 0));
    cr_expect(eq(int, pw_engine_detach(e, &key, m), 0));
    cr_expect(eq(int, pw_region_check(e, key.id, at(m + 1000), 1, PW_READ), -EACCES));
    cr_expect(eq(int, pw_engine_attach(e, &key, m, 4096), 0), "nothing is in its way");
    cr_expect(eq(int, pw_engine_detach(e, &key, m + 1000), 0));
    cr_expect(eq(int, pw_engine_detach(e, &key, m + 1000), -ENOENT));
    cr_expect(eq(int, pw_engine_detach(e, &key, NULL), 0));
    pair_close(&p);
}

/* Its place is used again: by one that has memory of its own. */
Test(regions, a_sparse_region_leaves_nothing_to_the_next)
{
    static char m[4096], other[8];
    struct pair p;

    pair_open(&p, &plain);
    struct pw_engine *e = p.a.e;
    struct pw_key key = { .id = sparse(e) };
    uint64_t id;

    cr_assert(eq(int, pw_engine_attach(e, &key, m, 4096), 0));
    drop(e, key.id);
    cr_expect(eq(int, pw_region_check(e, key.id, at(m), 8, PW_READ), -EACCES));
    id = add(e, other, 8, PW_READ);
    cr_assert(eq(u32, (uint32_t)id, (uint32_t)key.id));
    cr_expect(eq(int, pw_region_check(e, id, at(other), 8, PW_READ), 0));
    cr_expect(eq(int, pw_region_check(e, id, at(m), 8, PW_READ), -EACCES));
    drop(e, id);
    key.id = sparse(e);
    cr_expect(eq(int, pw_region_check(e, key.id, at(m), 8, PW_READ), -EACCES));
    pair_close(&p);
}

Test(regions, the_table_grows_past_its_first_64_and_keeps_what_it_has)
{
    char memory[8];
    uint64_t first;
    struct pair p;

    pair_open(&p, &plain);
    first = add(p.a.e, memory, 8, PW_READ);
    for (int i = 1; i < 64; i++)
        add(p.a.e, memory, 8, PW_READ);
    cr_expect(eq(u32, p.a.e->n_regions, 64));
    add(p.a.e, memory, 8, PW_READ);
    cr_expect(eq(u32, p.a.e->n_regions, 128));
    cr_expect(eq(int, pw_region_check(p.a.e, first, at(memory), 8, PW_READ), 0));
    pair_close(&p);
}

Test(regions, places_are_used_again_under_new_numbers)
{
    uint64_t id, last = 0;
    char memory[8];
    struct pair p;

    pair_open(&p, &plain);
    for (int i = 0; i < 1000; i++) {
        id = add(p.a.e, memory, 8, PW_READ);
        cr_assert(ne(u64, id, last));
        cr_assert(eq(int, pw_region_check(p.a.e, last, at(memory), 8, PW_READ), -EACCES));
        cr_assert(eq(int, pw_region_check(p.a.e, id, at(memory), 8, PW_READ), 0));
        last = id;
        drop(p.a.e, id);
        cr_assert(eq(int, pw_region_check(p.a.e, id, at(memory), 8, PW_READ), -EACCES));
    }
    cr_expect(eq(u32, p.a.e->n_regions, 64), "one place was enough");
    pair_close(&p);
}

Test(regions, places_come_back_in_any_order)
{
    uint64_t ids[200];
    char memory[200];
    struct pair p;

    pair_open(&p, &plain);
    for (int i = 0; i < 200; i++)
        ids[i] = add(p.a.e, memory + i, 1, PW_READ);
    for (int i = 0; i < 200; i++)
        drop(p.a.e, ids[i * 7 % 200]);
    for (int i = 0; i < 200; i++)
        ids[i] = add(p.a.e, memory + i, 1, PW_READ);
    for (int i = 0; i < 200; i++)
        cr_assert(eq(int, pw_region_check(p.a.e, ids[i], at(memory + i), 1, PW_READ), 0));
    cr_expect(eq(u32, p.a.e->n_regions, 256));
    pair_close(&p);
}

Test(regions, all_accesses_asked_for_must_be_there)
{
    uint64_t id;
    char memory[8];
    struct pair p;

    pair_open(&p, &plain);
    id = add(p.a.e, memory, 8, PW_READ | PW_ATOMIC);
    for (unsigned access = 1; access < 8; access++)
        cr_expect(eq(int, pw_region_check(p.a.e, id, at(memory), 8, access),
                     access & PW_WRITE ? -EACCES : 0), "access %u", access);
    pair_close(&p);
}

Test(regions, no_number_is_found_in_an_empty_table)
{
    struct pair p;

    pair_open(&p, &plain);
    cr_expect(eq(int, pw_region_check(p.a.e, 0, 0, 0, PW_READ), -EACCES));
    cr_expect(eq(int, pw_region_check(p.a.e, (uint64_t)1 << 32, 0, 0, PW_READ), -EACCES));
    pair_close(&p);
}

/* ---- what the NICs have of it ---- */

Test(regions, every_nic_with_keys_pins_and_unpins)
{
    struct pair_plan plan = { .two_nics = true, .keyed = true };
    struct pw_key key = { 0 };
    char memory[64];
    struct pair p;

    pair_open(&p, &plan);
    cr_assert(eq(int, pw_engine_register(p.a.e, memory, 64, PW_READ, true, &key), 0));
    cr_expect(eq(uint, fake_nic_pins(pair_nic(&p.a, 0)), 1));
    cr_expect(eq(uint, fake_nic_pins(pair_nic(&p.a, 1)), 1));
    cr_expect(ne(int, memcmp(&key.nic[0], &key.nic[1], sizeof key.nic[0]), 0));
    cr_expect(eq(u32, key.access, PW_READ));
    cr_expect(eq(u32, key.passive, 1));
    pw_engine_deregister(p.a.e, &key);
    cr_expect(eq(uint, fake_nic_pins(pair_nic(&p.a, 0)), 0));
    cr_expect(eq(uint, fake_nic_pins(pair_nic(&p.a, 1)), 0));
    pair_close(&p);
}

Test(regions, a_nic_without_keys_is_not_asked)
{
    char memory[64];
    struct pair p;

    pair_open(&p, &plain);
    drop(p.a.e, add(p.a.e, memory, 64, PW_READ));
    cr_expect(eq(uint, fake_nic_calls(pair_nic(&p.a, 0), FAKE_PIN), 0));
    pair_close(&p);
}

Test(regions, a_pin_that_fails_undoes_the_others)
{
    struct pair_plan plan = { .two_nics = true, .keyed = true };
    struct pw_key key = { 0 };
    char memory[64];
    struct pair p;

    pair_open(&p, &plan);
    /* Each time: the cache tries some errors again. */
    fake_nic_fail(pair_nic(&p.a, 1), FAKE_PIN, 1, 0, -ENOMEM);
    cr_expect(eq(int, pw_engine_register(p.a.e, memory, 64, PW_READ, false, &key), -ENOMEM));
    cr_expect(eq(uint, fake_nic_pins(pair_nic(&p.a, 0)), 0));
    cr_expect(eq(u32, p.a.e->n_regions, 0));
    fake_nic_fail(pair_nic(&p.a, 1), FAKE_PIN, 1, 0, 0);
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_PIN, 1, 0, -EFAULT);
    cr_expect(eq(int, pw_engine_register(p.a.e, memory, 64, PW_READ, false, &key), -EFAULT));
    fake_nic_fail(pair_nic(&p.a, 0), FAKE_PIN, 1, 0, 0);
    cr_expect(eq(int, pw_engine_register(p.a.e, memory, 64, PW_READ, false, &key), 0));
    pair_close(&p);
}

Test(regions, a_key_is_as_long_as_the_nics_need)
{
    struct pair p;

    pair_open(&p, &plain);
    cr_expect(eq(sz, pw_engine_key_size(p.a.e), offsetof(struct pw_key, nic)));
    pair_close(&p);
    pair_open(&p, &keyed);
    cr_expect(eq(sz, pw_engine_key_size(p.a.e), offsetof(struct pw_key, nic[1])));
    pair_close(&p);
    pair_open(&p, &(struct pair_plan){ .two_nics = true, .keyed = true });
    cr_expect(eq(sz, pw_engine_key_size(p.a.e), offsetof(struct pw_key, nic[2])));
    pair_nic(&p.a, 0)->info.key_size = 0;
    cr_expect(eq(sz, pw_engine_key_size(p.a.e), offsetof(struct pw_key, nic[2])),
              "places stay, also of one that needs none");
    pair_close(&p);
}

/* ---- operations ---- */

static struct pw_op *op_new(struct pair *p)
{
    struct pw_op what = { .kind = PW_OP_GET, .ep = p->a.ep, .len = 7 };
    uint64_t id;
    struct pw_op *op = pw_op_new(p->a.e, &what, &id);

    cr_assert(ne(ptr, op, NULL));
    cr_assert(eq(u64, op->id, id));
    return op;
}

static void op_end(struct pair *p, struct pw_op *op)
{
    cr_assert(pw_op_take(p->a.e, op, op->id, NULL));
}

Test(ops, numbers_differ_and_each_finds_its_own)
{
    enum { N = 1000 };
    struct pw_op *ops[N];
    struct pair p;

    pair_open(&p, &plain);
    for (int i = 0; i < N; i++)
        ops[i] = op_new(&p);
    for (int i = 0; i < N; i++)
        cr_assert(eq(ptr, pw_op_find(p.a.e, ops[i]->id), ops[i]));
    cr_expect(eq(u32, p.a.e->n_pending, N));
    for (int i = 0; i < N; i++)
        op_end(&p, ops[i]);
    cr_expect(eq(u32, p.a.e->n_pending, 0));
    pair_close(&p);
}

Test(ops, a_number_finds_nothing_once_its_operation_is_done)
{
    struct pw_op *op;
    uint64_t id;
    struct pair p;

    pair_open(&p, &plain);
    op = op_new(&p);
    id = op->id;
    op_end(&p, op);
    cr_expect(eq(ptr, pw_op_find(p.a.e, id), NULL));
    cr_expect(eq(ptr, pw_op_find(p.a.e, op->id), NULL), "nor does the next one's, yet");
    cr_expect(eq(ptr, op_new(&p), op), "the place is used again");
    cr_expect(ne(u64, op->id, id));
    cr_expect(eq(ptr, pw_op_find(p.a.e, id), NULL));
    cr_expect(eq(ptr, pw_op_find(p.a.e, op->id), op));
    op_end(&p, op);
    pair_close(&p);
}

Test(ops, a_number_from_nowhere_finds_nothing)
{
    struct pair p;

    pair_open(&p, &plain);
    cr_expect(eq(ptr, pw_op_find(p.a.e, 0), NULL));
    cr_expect(eq(ptr, pw_op_find(p.a.e, UINT64_MAX), NULL));
    op_end(&p, op_new(&p));
    cr_expect(eq(ptr, pw_op_find(p.a.e, 0), NULL));
    cr_expect(eq(ptr, pw_op_find(p.a.e, (uint64_t)1 << 32 | 1), NULL));
    cr_expect(eq(ptr, pw_op_find(p.a.e, UINT64_MAX), NULL));
    pair_close(&p);
}

Test(ops, one_is_taken_once_and_tells_what_it_was)
{
    struct pw_op *op, was = { 0 };
    uint64_t id;
    struct pair p;

    pair_open(&p, &plain);
    op = op_new(&p);
    id = op->id;
    cr_expect(not(pw_op_take(p.a.e, op, id ^ 1, &was)));
    cr_expect(pw_op_take(p.a.e, op, id, &was));
    cr_expect(eq(u64, was.id, id));
    cr_expect(eq(sz, was.len, 7));
    cr_expect(not(pw_op_take(p.a.e, op, id, &was)));
    cr_expect(not(pw_op_take(p.a.e, op, op->id, &was)), "it is free");
    cr_expect(eq(u32, p.a.e->n_pending, 0));
    pair_close(&p);
}

struct borrower {
    struct pw_engine *e;
    uint64_t id;
    int dropped;
};

static void *drops(void *arg)
{
    struct borrower *b = arg;

    drop(b->e, b->id);
    __atomic_store_n(&b->dropped, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* Whoever frees its memory then must not find a NIC at it. */
Test(regions, one_that_is_lent_is_given_up_when_it_is_back)
{
    struct borrower b;
    pthread_t thread;
    char memory[8];
    struct pair p;

    pair_open(&p, &(struct pair_plan){ .threads = true });
    b = (struct borrower){ p.a.e, add(p.a.e, memory, 8, PW_READ), 0 };
    cr_assert(eq(int, pw_region_borrow(b.e, b.id, at(memory), 8, PW_WRITE), -EACCES));
    cr_assert(eq(int, pw_region_borrow(b.e, b.id, at(memory), 9, PW_READ), -EACCES));
    cr_assert(eq(int, pw_region_borrow(b.e, b.id, at(memory), 8, PW_READ), 0));
    cr_assert(eq(int, pw_region_borrow(b.e, b.id, at(memory) + 1, 7, PW_READ), 0));
    cr_assert(eq(int, pthread_create(&thread, NULL, drops, &b), 0));
    /* From now on nobody new gets it. */
    while (!pw_region_borrow(b.e, b.id, at(memory), 8, PW_READ)) {
        pw_region_give_back(b.e, b.id);
        sched_yield();
    }
    pw_region_give_back(b.e, b.id);
    for (int i = 0; i < 1000; i++)
        sched_yield();
    cr_expect(eq(int, __atomic_load_n(&b.dropped, __ATOMIC_ACQUIRE), 0));
    pw_region_give_back(b.e, b.id);
    cr_assert(eq(int, pthread_join(thread, NULL), 0));
    cr_expect(eq(int, b.dropped, 1));
    pair_close(&p);
}

/* A flush waits for those that had begun, however many begin meanwhile. */
Test(regions, what_begins_later_is_not_waited_for)
{
    struct pw_op what = { .kind = PW_OP_GET }, *first, *second;
    uint64_t first_id, second_id, begun;
    uint32_t place = 0;
    struct pair p;

    pair_open(&p, &plain);
    struct pw_engine *e = p.a.e;
    first = pw_op_new(e, &what, &first_id);
    begun = pw_ops_begun(e);
    second = pw_op_new(e, &what, &second_id);
    cr_assert(first && second);
    cr_expect(pw_ops_before(e, begun, &place));
    cr_assert(pw_op_take(e, first, first_id, NULL));
    cr_expect(not(pw_ops_before(e, begun, &place)));
    first = pw_op_new(e, &what, &first_id);
    place = 0;
    cr_expect(not(pw_ops_before(e, begun, &place)), "its place is younger now");
    cr_expect(pw_ops_before(e, pw_ops_begun(e), &(uint32_t){ 0 }));
    cr_assert(pw_op_take(e, first, first_id, NULL));
    cr_assert(pw_op_take(e, second, second_id, NULL));
    pair_close(&p);
}
