/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_memory.c - puts, gets and long frames of a tcp NIC: memory that is not there, what is
 * copied and what is lent, small sockets. */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "btl/nic/tcp.h"
#include "tests/unit/tcp_rig.h"

enum { PATIENT_MS = 60000, LONG = 1 << 20 };

/* ---- memory ---- */

static int reach_now(struct end *a, struct end *b, bool put, void *local, void *remote,
                     size_t len)
{
    struct pw_nic_key key = { { 0 } };
    unsigned before = a->completes;
    int err;

    while ((err = put ? pw_nic_tcp.put(a->peer, local, (uintptr_t)remote, len, &key, a)
                      : pw_nic_tcp.get(a->peer, local, (uintptr_t)remote, len, &key, a)) ==
           -EAGAIN)
        pw_nic_tcp.progress(a->nic);
    cr_assert(eq(int, err, PW_NIC_PENDING));
    PUMP_UNTIL(a, b, a->completes > before);
    return a->status;
}

/* Its owner has unmapped what it still shares: in the middle, and all of it. */
Test(tcp_memory, memory_that_is_not_there_is_efault_and_no_more)
{
    struct end *a = end_open(PATIENT_MS, 0), *b = end_open(PATIENT_MS, 0);
    char *local = calloc(1, LONG), *mem;

    mem = mmap(NULL, LONG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(ne(ptr, mem, MAP_FAILED));
    memset(mem, 1, LONG);
    munmap(mem + LONG / 2, LONG / 2);
    ends_join(a, b);
    for (int put = 0; put < 2; put++) {
        cr_expect(eq(int, reach_now(a, b, put, local, mem, LONG), -EFAULT));
        cr_expect(eq(int, reach_now(a, b, put, local, mem + LONG / 2, 100), -EFAULT));
        cr_expect(eq(int, reach_now(a, b, put, local, mem, LONG / 2), 0));
    }
    ends_work(a, b);
    cr_expect(eq(uint, a->downs + b->downs, 0));
    munmap(mem, LONG / 2);
    free(local);
    end_close(a);
    end_close(b);
}

Test(tcp_memory, a_region_that_is_refused_is_told_and_untouched)
{
    struct end *a = end_open(PATIENT_MS, 0), *b = end_open(PATIENT_MS, 0);
    char *local = calloc(1, LONG), *mem = calloc(1, LONG);

    ends_join(a, b);
    memset(local, 2, LONG);
    b->borrow = -EACCES;
    cr_expect(eq(int, reach_now(a, b, true, local, mem, LONG), -EACCES));
    cr_expect(eq(int, reach_now(a, b, true, local, mem, 0), -EACCES));
    cr_expect(eq(int, reach_now(a, b, false, local, mem, LONG), -EACCES));
    cr_expect(eq(int, mem[0] | mem[LONG - 1], 0));
    cr_expect(eq(int, local[0] & local[LONG - 1], 2));
    b->borrow = 0;
    cr_expect(eq(int, reach_now(a, b, true, local, mem, LONG), 0));
    cr_expect(eq(int, memcmp(local, mem, LONG), 0));
    free(local);
    free(mem);
    end_close(a);
    end_close(b);
}

/* Who waits and serves meanwhile is not idle: the core would give its processor away. */
Test(tcp_memory, to_serve_is_progress)
{
    struct end *a = end_open(PATIENT_MS, 0), *b = end_open(PATIENT_MS, 0);
    struct pw_nic_key key = { { 0 } };
    char local[8] = "abcdefg", mem[8];
    unsigned puts = 100, upcalls;
    int served = 0;

    ends_join(a, b);
    cr_expect(eq(int, reach_now(a, b, true, local, mem, sizeof(mem)), 0));
    PUMP_UNTIL(a, b, !pw_nic_tcp.progress(b->nic));
    upcalls = b->ups + b->downs + b->completes;
    for (unsigned before = a->completes; a->completes < before + puts;) {
        unsigned done = a->completes;

        cr_assert(eq(int, pw_nic_tcp.put(a->peer, local, (uintptr_t)mem, sizeof(mem), &key,
                                         a), PW_NIC_PENDING));
        while (a->completes == done) {
            pw_nic_tcp.progress(a->nic);
            served += pw_nic_tcp.progress(b->nic);
        }
    }
    cr_expect(eq(uint, b->ups + b->downs + b->completes, upcalls));
    cr_expect(lt(int, (int)puts / 2, served));
    end_close(a);
    end_close(b);
}

/* Nothing but the beginning of a get's data goes through memory of ours. */
Test(tcp_memory, long_transfers_are_not_copied)
{
    struct end *a = end_open(PATIENT_MS, 0), *b = end_open(PATIENT_MS, 0);
    char *local = calloc(1, LONG), *mem = calloc(1, LONG);

    ends_join(a, b);
    cr_expect(eq(int, reach_now(a, b, true, local, mem, LONG), 0));
    cr_expect(eq(int, reach_now(a, b, false, local, mem, LONG), 0));
    cr_expect(eq(u64, count_now(&a->nic->counts.wire_bytes), LONG));
    cr_expect(eq(u64, count_now(&b->nic->counts.wire_bytes), LONG));
    cr_expect(le(u64, count_now(&a->nic->counts.wire_copied), 1024));
    cr_expect(eq(u64, count_now(&b->nic->counts.wire_copied), 0));
    free(local);
    free(mem);
    end_close(a);
    end_close(b);
}

enum { SEVERAL = 8 };

/* Gets of the SEVERAL parts of mem, all of them asked for at once. */
static void get_all(struct end *a, char *local, char *mem)
{
    struct pw_nic_key key = { { 0 } };

    for (int i = 0; i < SEVERAL; i++)
        cr_assert(eq(int, pw_nic_tcp.get(a->peer, local + i * (LONG / SEVERAL),
                                         (uintptr_t)mem + (size_t)i * (LONG / SEVERAL),
                                         LONG / SEVERAL, &key, a), PW_NIC_PENDING));
}

/* Where several wait their data is lent to the socket (tcp_lend.c), whatever its size. */
Test(tcp_memory, several_gets_at_once_bring_the_right_bytes)
{
    for (int queue = 0; queue <= 4096; queue += 4096) {
        struct end *a = end_open(PATIENT_MS, queue), *b = end_open(PATIENT_MS, queue);
        char *local = calloc(1, LONG), *mem = malloc(LONG);

        for (int i = 0; i < LONG; i++)
            mem[i] = (char)(i * 7 + i / 251);
        ends_join(a, b);
        get_all(a, local, mem);
        PUMP_UNTIL(a, b, a->completes == SEVERAL);
        cr_expect(eq(int, a->status, 0));
        cr_expect(eq(int, memcmp(local, mem, LONG), 0));
        cr_expect(eq(u64, count_now(&b->nic->counts.wire_copied), 0));
        free(local);
        free(mem);
        end_close(a);
        end_close(b);
    }
}

/* The NIC's thread is not at it, and what it has done is known here. */
static void thread_rests(struct end *e)
{
    struct tcp_nic *nic = (struct tcp_nic *)e->nic;

    pthread_mutex_lock(&nic->lock);
    pthread_mutex_unlock(&nic->lock);
}

/* Some of it has been taken, and not sent: that is not sent any more. */
Test(tcp_memory, a_region_that_goes_while_it_is_lent_is_told)
{
    struct end *a = end_open(PATIENT_MS, 4096), *b = end_open(PATIENT_MS, 4096);
    char *local = calloc(1, LONG), *mem = malloc(LONG);

    memset(mem, 1, LONG);
    ends_join(a, b);
    b->refuse_after = 2;
    b->borrow = -EACCES;
    get_all(a, local, mem);
    PUMP_UNTIL(a, b, a->completes == SEVERAL);
    cr_expect(eq(int, a->status, -EACCES));
    cr_expect(eq(int, local[100], 1));
    cr_expect(eq(int, local[LONG / SEVERAL - 1], 0));
    thread_rests(b);
    memset(mem, 2, LONG);
    b->refuse_after = 0;
    b->borrow = 0;
    get_all(a, local, mem);
    PUMP_UNTIL(a, b, a->completes == 2 * SEVERAL);
    cr_expect(eq(int, a->status, 0));
    cr_expect(eq(int, memcmp(local, mem, LONG), 0));
    free(local);
    free(mem);
    end_close(a);
    end_close(b);
}

/* ---- where it lies ---- */

static bool has_lent(const struct end *e)
{
    return ((const struct tcp_nic *)e->nic)->lender.in >= 0;
}

static char *pattern(void)
{
    char *mem = malloc(LONG);

    for (int i = 0; i < LONG; i++)
        mem[i] = (char)(i * 7 + i / 251);
    return mem;
}

Test(tcp_memory, several_puts_at_once_are_lent_and_land)
{
    for (int queue = 0; queue <= 4096; queue += 4096) {
        struct end *a = end_open(PATIENT_MS, queue), *b = end_open(PATIENT_MS, queue);
        char *local = pattern(), *mem = calloc(1, LONG);
        struct pw_nic_key key = { { 0 } };

        ends_join(a, b);
        for (int i = 0; i < SEVERAL; i++)
            cr_assert(eq(int, pw_nic_tcp.put(a->peer, local + i * (LONG / SEVERAL),
                                             (uintptr_t)mem + (size_t)i * (LONG / SEVERAL),
                                             LONG / SEVERAL, &key, a), PW_NIC_PENDING));
        PUMP_UNTIL(a, b, a->completes == SEVERAL);
        cr_expect(eq(int, a->status, 0));
        cr_expect(eq(int, memcmp(local, mem, LONG), 0));
        cr_expect(has_lent(a));
        cr_expect(eq(u64, a->nic->counts.wire_copied, 0));
        free(local);
        free(mem);
        end_close(a);
        end_close(b);
    }
}

/* One at a time, from the first that has a connection on. */
static void reach_times(struct end *a, struct end *b, bool put, char *local, char *mem,
                        int times)
{
    for (int i = 0; i < times; i++) {
        memset(put ? mem : local, 0, LONG);
        cr_assert(eq(int, reach_now(a, b, put, local, mem, LONG), 0));
        cr_assert(eq(int, memcmp(local, mem, LONG), 0));
    }
}

/* What is better is found out; a get's data is lent by who has it, where who asks says so. */
Test(tcp_memory, single_ones_are_tried_both_ways)
{
    for (int put = 0; put < 2; put++) {
        struct end *a = end_open(PATIENT_MS, 0), *b = end_open(PATIENT_MS, 0);
        struct end *sends = put ? a : b;
        char *local = pattern(), *mem = pattern();

        ends_join(a, b);
        reach_times(a, b, put, local, mem, 1 + PW_TRIAL_FIRST);
        cr_expect(not(has_lent(sends)));
        reach_times(a, b, put, local, mem, 1);
        cr_expect(has_lent(sends));
        cr_expect(not(has_lent(put ? b : a)));
        reach_times(a, b, put, local, mem, 40);
        free(local);
        free(mem);
        end_close(a);
        end_close(b);
    }
}

/* What took its time among others says nothing of one alone. */
Test(tcp_memory, of_several_at_once_nothing_is_learnt)
{
    struct end *a = end_open(PATIENT_MS, 0), *b = end_open(PATIENT_MS, 0);
    char *local = pattern(), *mem = pattern();
    const struct pw_trial *t;
    unsigned noted = 0;

    ends_join(a, b);
    t = ((struct tcp_peer *)a->peer)->trials;
    for (int i = 0; i < 4 * PW_TRIAL_FIRST; i++) {
        get_all(a, local, mem);
        PUMP_UNTIL(a, b, a->completes == (unsigned)(i + 1) * SEVERAL);
    }
    cr_expect(eq(int, memcmp(local, mem, LONG), 0));
    for (int i = 0; i < PW_TRIAL_CLASSES; i++)
        noted += t[0].classes[i].cost[0] || t[1].classes[i].cost[0];
    cr_expect(eq(uint, noted, 0));
    free(local);
    free(mem);
    end_close(a);
    end_close(b);
}

enum { FRAME = 100 << 10, STREAM = 8 };

/* A frame of FRAME bytes that stay, behind `before` others. */
static int kept_behind(struct end *a, struct end *b, const char *at, size_t room,
                       unsigned before, void *op)
{
    struct pw_iov iov = { at, FRAME };
    int err;

    while ((err = pw_nic_tcp.send_kept(a->peer, 1, &iov, 1, room, before, op)) == -EAGAIN)
        ends_progress(a, b);
    return err;
}

static int kept_now(struct end *a, struct end *b, const char *at, unsigned before, void *op)
{
    return kept_behind(a, b, at, 0, before, op);
}

/* What is written behind the call arrives, for there is no copy: who keeps the promise does
 * not do that. One alone is copied. */
Test(tcp_memory, frames_of_a_stream_are_lent)
{
    struct end *a = end_open(PATIENT_MS, LONG), *b = end_open(PATIENT_MS, LONG);
    char *mem = malloc(FRAME);

    memset(mem, 1, FRAME);
    ends_join(a, b);
    cr_expect(eq(int, kept_now(a, b, mem, TCP_STREAM - 1, a), 0));
    memset(mem, 2, FRAME);
    PUMP_UNTIL(a, b, b->frames == 1);
    cr_expect(eq(int, b->data[FRAME - 1], 1));
    cr_expect(not(has_lent(a)));
    cr_expect(eq(int, kept_now(a, b, mem, TCP_STREAM, a), 0));
    memset(mem, 3, FRAME);
    PUMP_UNTIL(a, b, b->frames == 2);
    cr_expect(eq(int, b->data[FRAME - 1], 3));
    cr_expect(has_lent(a));
    free(mem);
    end_close(a);
    end_close(b);
}

/* Of each the socket takes a part; what others send meanwhile comes behind it. */
Test(tcp_memory, kept_frames_through_small_sockets_arrive_in_order)
{
    struct end *a = end_open(PATIENT_MS, 4096), *b = end_open(PATIENT_MS, 4096);
    char *mem = pattern();

    ends_join(a, b);
    for (unsigned i = 0; i < STREAM; i++) {
        /* Without an operation what is left is copied, also what was taken to be lent. */
        kept_now(a, b, mem + i, TCP_STREAM, i % 2 ? a : NULL);
        PUMP_UNTIL(a, b, b->frames == 2 * i + 1);
        cr_expect(eq(sz, b->bytes, FRAME));
        cr_expect(zero(int, memcmp(b->data, mem + i, FRAME)));
        cr_expect(eq(int, end_send(a, b, "behind", 6), 0));
        PUMP_UNTIL(a, b, b->frames == 2 * i + 2);
        cr_expect(zero(int, memcmp(b->data, "behind", 6)));
    }
    cr_expect(has_lent(a));
    free(mem);
    end_close(a);
    end_close(b);
}

/* A head that lies before its frame is lent with it. */
Test(tcp_memory, kept_frames_with_room_before_them_arrive_in_order)
{
    for (int queue = 4096; queue <= LONG; queue += LONG - 4096) {
        struct end *a = end_open(PATIENT_MS, queue), *b = end_open(PATIENT_MS, queue);
        char *mem = pattern(), *was = pattern();

        ends_join(a, b);
        for (unsigned i = 0; i < STREAM; i++) {
            size_t at = (i + 1) * (FRAME + PW_NIC_ROOM);

            kept_behind(a, b, mem + at, PW_NIC_ROOM, TCP_STREAM, i % 2 ? a : NULL);
            PUMP_UNTIL(a, b, b->frames == 2 * i + 1);
            cr_expect(eq(sz, b->bytes, FRAME));
            cr_expect(zero(int, memcmp(b->data, was + at, FRAME)));
            cr_expect(zero(int, memcmp(mem + at - FRAME, was + at - FRAME,
                                       FRAME - PW_NIC_ROOM)), "no more is written");
            cr_expect(eq(int, end_send(a, b, "behind", 6), 0));
            PUMP_UNTIL(a, b, b->frames == 2 * i + 2);
            cr_expect(zero(int, memcmp(b->data, "behind", 6)));
        }
        cr_expect(has_lent(a));
        free(mem);
        free(was);
        end_close(a);
        end_close(b);
    }
}

/* Nothing of it is left in the pipe, and nothing of it comes. */
Test(tcp_memory, a_kept_frame_with_room_before_it_that_is_refused_is_nowhere)
{
    struct end *a = end_open(PATIENT_MS, 4096), *b = end_open(PATIENT_MS, 4096);
    struct tcp_nic *nic = (struct tcp_nic *)a->nic;
    char *mem = pattern();
    struct pw_iov iov = { mem + PW_NIC_ROOM, FRAME };
    unsigned taken = 0;

    ends_join(a, b);
    /* Nobody reads, until the socket takes nothing more. */
    while (pw_nic_tcp.send_kept(a->peer, 1, &iov, 1, PW_NIC_ROOM, TCP_STREAM, NULL) >= 0)
        taken++;
    cr_assert(lt(uint, 0, taken));
    cr_expect(not(tcp_lend_begun(&nic->lender, ((struct tcp_peer *)a->peer)->link)));
    PUMP_UNTIL(a, b, b->frames == taken);
    ends_work(a, b);
    cr_expect(eq(uint, b->frames, taken + 1));
    free(mem);
    end_close(a);
    end_close(b);
}

/* The rest is copied then, and comes once. */
Test(tcp_memory, a_kept_frame_that_was_pending_survives_a_doubt_and_a_disconnect)
{
    for (int leave = 0; leave < 2; leave++) {
        struct end *a = end_open(PATIENT_MS, 4096), *b = end_open(PATIENT_MS, 4096);
        struct tcp_nic *nic = (struct tcp_nic *)a->nic;
        char *mem = pattern();

        ends_join(a, b);
        cr_assert(eq(int, kept_now(a, b, mem, TCP_STREAM, a), PW_NIC_PENDING));
        if (leave) {
            pw_nic_tcp.disconnect(a->peer);
        } else {
            pthread_mutex_lock(&nic->lock);
            tcp_doubt(((struct tcp_peer *)a->peer)->link, true);
            cr_expect(not(tcp_lend_begun(&nic->lender, ((struct tcp_peer *)a->peer)->link)));
            pthread_mutex_unlock(&nic->lock);
        }
        PUMP_UNTIL(a, b, b->frames == 1 && (leave || a->completes == 1));
        cr_expect(eq(sz, b->bytes, FRAME));
        cr_expect(zero(int, memcmp(b->data, mem, FRAME)));
        if (!leave)
            ends_work(a, b);
        free(mem);
        end_close(a);
        end_close(b);
    }
}

/* ---- small sockets ---- */

/* Frames and transfers many times as long as what a socket takes. */
Test(tcp_memory, what_does_not_fit_goes_out_piece_by_piece)
{
    struct end *a = end_open(PATIENT_MS, 4096), *b = end_open(PATIENT_MS, 4096);
    uint8_t *local = malloc(LONG), *mem = calloc(1, LONG);

    for (int i = 0; i < LONG; i++)
        local[i] = (uint8_t)(i * 7 + i / 251);
    ends_join(a, b);
    for (unsigned i = 0; i < 40; i++) {
        size_t len = i % 4 ? i * 3000 : TCP_FRAME_MAX;

        cr_expect(eq(int, end_send(a, b, local + i, len), 0));
        PUMP_UNTIL(a, b, b->frames == i + 1);
        cr_expect(eq(sz, b->bytes, len));
        cr_expect(eq(int, memcmp(b->data, local + i, len), 0));
    }
    cr_expect(eq(int, reach_now(a, b, true, local, mem, LONG), 0));
    cr_expect(eq(int, memcmp(local, mem, LONG), 0));
    memset(local, 0, LONG);
    cr_expect(eq(int, reach_now(a, b, false, local, mem, LONG), 0));
    cr_expect(eq(int, memcmp(local, mem, LONG), 0));
    free(local);
    free(mem);
    end_close(a);
    end_close(b);
}

/* The rest of a frame is copied when the caller leaves: its memory is its own again. */
Test(tcp_memory, a_frame_that_was_pending_arrives_behind_a_disconnect)
{
    struct end *a = end_open(PATIENT_MS, 4096), *b = end_open(PATIENT_MS, 4096);
    uint8_t *local = malloc(TCP_FRAME_MAX);
    struct pw_iov iov = { local, TCP_FRAME_MAX };

    memset(local, 9, TCP_FRAME_MAX);
    ends_join(a, b);
    cr_assert(eq(int, pw_nic_tcp.send(a->peer, 1, &iov, 1, a), PW_NIC_PENDING));
    pw_nic_tcp.disconnect(a->peer);
    memset(local, 0, TCP_FRAME_MAX);
    PUMP_UNTIL(a, b, b->downs);
    cr_expect(eq(int, b->cause, 0));
    cr_expect(eq(uint, b->frames, 1));
    cr_expect(eq(int, b->data[0] & b->data[TCP_FRAME_MAX - 1], 9));
    cr_expect(eq(uint, a->completes, 0));
    free(local);
    end_close(a);
    end_close(b);
}
