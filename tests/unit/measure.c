/* SPDX-License-Identifier: BSD-3-Clause */
/* measure.c - two processes measure gets between them, over shared memory; and what
 * becomes of it when one of them does not do its part.
 *
 * The child owns the memory, the test asks. No figure is judged. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "btl/core/measure.h"
#include "pinwheel/pool.h"

enum { POINTS = 3, TAG = 7, LEAST = 4 };

static struct pw_measure m;
static int wire[2];
static pid_t child;

static uint64_t in_ms(unsigned ms)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec + ms * 1000000ull;
}

/* In the child too, which may not speak for the test. */
static void must(bool ok, const char *what)
{
    if (!ok && !child)
        _exit(9);
    cr_assert(ok, "%s", what);
}

/* Engine and endpoint, as each side has them before it measures. */
static void side_open(int fd, bool kernel)
{
    static const struct pw_engine_upcalls nobody = { .recv = NULL };
    struct pw_pool_config pool = { .size = 32 << 20, .sharers = 2 };
    struct pw_engine_config config = {
        .up = &nobody, .nics = "shm", .job = 77, .local_peers = 1, .chunk = 16384,
        .kernel_copy = kernel, .costs = pw_costs_default, .cores = 2,
    };
    unsigned char mine[1024] = { 0 }, theirs[1024];
    char why[PW_NIC_WHY_MAX] = "";
    int len;

    m = (struct pw_measure){ .cookie = &m, .len = pw_cost_len(POINTS - 1), .tag = TAG,
                             .until_ns = in_ms(50000) };
    must(!pw_pool_open(&pool, &m.pool), "pool");
    config.pool = m.pool;
    must(!pw_engine_open(&config, &m.engine, why), "engine");
    pw_engine_redirect(m.engine, &pw_measure_upcalls, &m);
    len = pw_engine_address(m.engine, mine + 4, sizeof mine - 4);
    memcpy(mine, &len, sizeof len);
    must(write(fd, mine, sizeof mine) == sizeof mine, "write");
    must(recv(fd, theirs, sizeof theirs, MSG_WAITALL) == sizeof theirs, "read");
    memcpy(&len, theirs, sizeof len);
    must(!pw_endpoint_open(m.engine, theirs + 4, (size_t)len, &m, &m.peer, why), why);
}

static void side_close(void)
{
    pw_endpoint_close(m.peer);
    pw_measure_close(&m);
    pw_engine_close(m.engine);
    pw_pool_close(m.pool);
}

static void wait_for(int fd)
{
    char byte;

    must(read(fd, &byte, 1) == 1, "read");
}

static void let_go(int fd)
{
    must(write(fd, "", 1) == 1, "write");
}

/* What the child does. */
typedef void part(void);

static void owns(void)
{
    must(!pw_measure_open(&m, true), "open");
    _exit(pw_measure_own(&m) ? 1 : 0);
}

static void owns_late(void)
{
    wait_for(wire[1]);
    owns();
}

static void begin(part *childs, bool kernel)
{
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM, 0, wire), 0));
    child = fork();
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        side_open(wire[1], kernel);
        childs();
        _exit(2);
    }
    side_open(wire[0], kernel);
}

/* Its exit code, or 1000 and the signal. */
static int childs_end(void)
{
    int status;

    cr_assert(eq(int, waitpid(child, &status, 0), child));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void open_and_meet(void)
{
    cr_assert(eq(int, pw_measure_open(&m, false), 0));
    cr_assert(eq(int, pw_measure_meet(&m), 0));
}

static void known(enum pw_measure_way way)
{
    static const struct pw_measure_plan plan = { .points = POINTS, .least = LEAST };
    struct pw_cost_curve c;

    memset(&c, 255, sizeof c);
    cr_expect(eq(int, pw_measure_curve(&m, way, &plan, &c), 0), "way %d", way);
    for (int i = 0; i < PW_COST_POINTS; i++)
        cr_expect(eq(int, c.ns[i] > 0, i < POINTS), "way %d, point %d", way, i);
}

Test(measure, each_way_has_its_curve)
{
    begin(owns, false);
    open_and_meet();
    known(PW_MEASURE_DIRECT);
    known(PW_MEASURE_PUSH);
    known(PW_MEASURE_STREAM);
    pw_measure_end(&m);
    cr_expect(eq(int, childs_end(), 0), "it heard of the end");
    side_close();
}

Test(measure, the_kernels_copy_has_its_curve)
{
    begin(owns, true);
    open_and_meet();
    pw_engine_bulk(m.engine, PW_BULK_KERNEL);
    known(PW_MEASURE_KERNEL);
    pw_measure_end(&m);
    cr_expect(eq(int, childs_end(), 0), "it heard of the end");
    side_close();
}

Test(measure, a_way_that_cannot_be_taken_is_not_known)
{
    static const struct pw_measure_plan plan = { .points = POINTS, .least = LEAST };
    struct pw_cost_curve c = { { 1, 1 } };

    begin(owns, false);
    open_and_meet();
    pw_engine_bulk(m.engine, PW_BULK_KERNEL);
    cr_expect(eq(int, pw_measure_curve(&m, PW_MEASURE_KERNEL, &plan, &c), 0));
    for (int i = 0; i < PW_COST_POINTS; i++)
        cr_expect(eq(u64, c.ns[i], 0));
    pw_measure_end(&m);
    cr_expect(eq(int, childs_end(), 0));
    side_close();
}

#ifdef __x86_64__
Test(measure, reading_from_memory_has_a_price)
{
    static const struct pw_measure_plan plan = { .least = LEAST };
    uint64_t extra = UINT64_MAX;

    begin(owns, false);
    open_and_meet();
    cr_expect(eq(int, pw_measure_past(&m, &plan, &extra), 0));
    cr_expect(ne(u64, extra, UINT64_MAX));
    pw_measure_end(&m);
    cr_expect(eq(int, childs_end(), 0));
    side_close();
}
#endif

/* Figures that must agree are taken until they do. */
Test(measure, steady_figures_are_found_in_time, .timeout = 120)
{
    static const struct pw_measure_plan plan = { .points = 1, .least = LEAST, .steady = true };
    struct pw_cost_curve c;

    begin(owns, false);
    open_and_meet();
    cr_expect(eq(int, pw_measure_curve(&m, PW_MEASURE_DIRECT, &plan, &c), 0));
    cr_expect(lt(u64, 0, c.ns[0]));
    pw_measure_end(&m);
    cr_expect(eq(int, childs_end(), 0));
    side_close();
}

/* What each of us said first went to somebody who had not come yet. */
Test(measure, who_comes_late_is_met)
{
    begin(owns_late, false);
    cr_assert(eq(int, pw_measure_open(&m, false), 0));
    m.until_ns = in_ms(1);
    cr_expect(eq(int, pw_measure_meet(&m), -ETIMEDOUT));
    let_go(wire[0]);
    m.until_ns = in_ms(50000);
    cr_expect(eq(int, pw_measure_meet(&m), 0));
    known(PW_MEASURE_DIRECT);
    pw_measure_end(&m);
    cr_expect(eq(int, childs_end(), 0));
    side_close();
}

static void leaves(void)
{
    wait_for(wire[1]);
    side_close();
    _exit(0);
}

Test(measure, who_left_is_not_waited_for)
{
    begin(leaves, false);
    cr_assert(eq(int, pw_measure_open(&m, false), 0));
    let_go(wire[0]);
    cr_expect(eq(int, pw_measure_meet(&m), -EPIPE));
    pw_measure_end(&m);
    cr_expect(eq(int, childs_end(), 0));
    side_close();
}

static void stops_at_an_order(void)
{
    wait_for(wire[1]);
    must(!pw_measure_open(&m, true), "open");
    m.until_ns = 1;             /* at once; it has said that it is ready */
    _exit(pw_measure_own(&m) == -ETIMEDOUT ? 3 : 4);
}

/* What needs no help of the owner may be measured before it is gone. */
Test(measure, an_owner_whose_time_is_up_goes_and_the_other_one_hears_it)
{
    static const struct pw_measure_plan plan = { .points = 1, .least = LEAST };
    struct pw_cost_curve c;
    int err;

    begin(stops_at_an_order, false);
    cr_assert(eq(int, pw_measure_open(&m, false), 0));
    let_go(wire[0]);
    err = pw_measure_meet(&m);
    while (!err)
        err = pw_measure_curve(&m, PW_MEASURE_DIRECT, &plan, &c);
    cr_expect(eq(int, err, -EPIPE));
    cr_expect(eq(int, childs_end(), 3));
    side_close();
}

Test(measure, an_owner_that_is_killed_ends_it)
{
    static const struct pw_measure_plan plan = { .points = 1, .least = LEAST };
    struct pw_cost_curve c;

    begin(owns, false);
    open_and_meet();
    known(PW_MEASURE_STREAM);
    kill(child, SIGKILL);
    cr_expect(eq(int, childs_end(), 1000 + SIGKILL));
    cr_expect(eq(int, pw_measure_curve(&m, PW_MEASURE_STREAM, &plan, &c), -EPIPE));
    cr_expect(eq(u64, c.ns[0], 0));
    side_close();
}

Test(measure, the_asker_that_dies_is_not_waited_for)
{
    begin(owns, false);
    open_and_meet();
    pw_engine_close(m.engine);      /* leaves without an end */
    cr_expect(eq(int, childs_end(), 1));
}

static void does_not_write(void)
{
    must(!pw_measure_open(&m, true), "open");
    m.len = 0;
    _exit(pw_measure_own(&m) ? 1 : 0);
}

Test(measure, wrong_bytes_are_no_figure)
{
    int err = 0;

    begin(does_not_write, false);
    open_and_meet();
    cr_expect(eq(u64, pw_measure_get(&m, PW_IN_POOL, PW_ELSEWHERE, 4096, false, &err), 0));
    cr_expect(eq(int, err, -EBADMSG));
    pw_measure_end(&m);
    cr_expect(eq(int, childs_end(), 0));
    side_close();
}

Test(measure, time_that_is_up_ends_a_curve)
{
    static const struct pw_measure_plan plan = { .points = 1, .least = LEAST };
    struct pw_cost_curve c;

    begin(owns, false);
    open_and_meet();
    m.until_ns = 1;
    cr_expect(eq(int, pw_measure_curve(&m, PW_MEASURE_DIRECT, &plan, &c), -ETIMEDOUT));
    m.until_ns = in_ms(50000);
    pw_measure_end(&m);
    cr_expect(eq(int, childs_end(), 0));
    side_close();
}

Test(measure, buffers_that_the_pool_has_no_room_for)
{
    begin(owns_late, false);
    m.len = (size_t)1 << 40;
    cr_expect(eq(int, pw_measure_open(&m, false), -ENOMEM));
    let_go(wire[0]);
    side_close();
    cr_expect(ne(int, childs_end(), 0), "it had nobody to work for");
}

/* ---- the CPUs ---- */

static cpu_set_t cpus(unsigned mask)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    for (int i = 0; i < 32; i++)
        if (mask & 1u << i)
            CPU_SET((size_t)i, &set);
    return set;
}

Test(measure, two_who_measure_need_a_cpu_each)
{
    static const struct { unsigned a, b, ranks; bool room; } cases[] = {
        { 1, 2, 2, true }, { 1, 2, 8, true },       /* bound apart */
        { 1, 1, 2, false },                         /* one for both */
        { 3, 3, 2, true }, { 3, 3, 3, false },      /* anywhere on two */
        { 15, 15, 4, true }, { 15, 15, 5, false },
        { 3, 6, 3, true }, { 3, 6, 4, false },
        { 1, 3, 2, true }, { 0, 0, 2, false },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cpu_set_t a = cpus(cases[i].a), b = cpus(cases[i].b);

        cr_expect(eq(int, pw_measure_has_room(&a, &b, cases[i].ranks), cases[i].room),
                  "case %zu", i);
    }
}
