/* SPDX-License-Identifier: BSD-3-Clause */
/* budget.c - a process's own limits, what they are by default, and threads. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "budget_rig.h"

TestSuite(budget, .init = rig_open, .fini = rig_close);

Test(budget, what_is_taken_is_counted_and_given_back)
{
    struct pw_budget *b = open_with(usual);
    struct pw_budget_info info;

    cr_expect(eq(int, pw_budget_charge(b, 3 * MIB, 2), 0));
    cr_expect(eq(int, pw_budget_charge(b, 4 * KIB, 1), 0));
    info = info_of(b);
    cr_expect(eq(sz, info.used_bytes, 3 * MIB + 4 * KIB));
    cr_expect(eq(sz, info.used_regions, 3));
    cr_expect(eq(sz, info.host_used_bytes, 3 * MIB + 4 * KIB));
    cr_expect(eq(u32, info.processes, 1));
    cr_expect(eq(sz, info.rank_bytes, 64 * MIB));
    cr_expect(eq(sz, info.rank_regions, 100));
    cr_expect(eq(sz, info.host_bytes, 100 * MIB));
    cr_expect(eq(str, info.why, ""));

    pw_budget_credit(b, 3 * MIB, 2);
    pw_budget_credit(b, 4 * KIB, 1);
    info = info_of(b);
    cr_expect(eq(sz, info.used_bytes, 0));
    cr_expect(eq(sz, info.used_regions, 0));
    cr_expect(eq(sz, info.host_used_bytes, 0));
    cr_expect(eq(u32, info.processes, 0));
    pw_budget_close(b);
}

Test(budget, the_last_byte_is_had_and_not_one_more)
{
    struct pw_budget *b = open_with(usual);

    cr_expect(eq(int, pw_budget_charge(b, 64 * MIB + 1, 1), -ENOMEM));
    cr_expect(eq(int, pw_budget_charge(b, SIZE_MAX, 1), -ENOMEM));
    cr_expect(eq(int, pw_budget_charge(b, 64 * MIB, 1), 0));
    cr_expect(eq(int, pw_budget_charge(b, 1, 0), -ENOMEM));
    cr_expect(eq(int, pw_budget_charge(b, SIZE_MAX, 0), -ENOMEM));
    cr_expect(eq(sz, info_of(b).used_bytes, 64 * MIB), "a refusal takes nothing");
    cr_expect(eq(sz, info_of(b).host_used_bytes, 64 * MIB));
    pw_budget_credit(b, 1, 0);
    cr_expect(eq(int, pw_budget_charge(b, 1, 0), 0));
    pw_budget_close(b);
}

Test(budget, the_last_region_is_had_and_not_one_more)
{
    struct pw_budget *b = open_with(usual);

    cr_expect(eq(int, pw_budget_charge(b, 1, SIZE_MAX), -ENOMEM));
    cr_expect(eq(int, pw_budget_charge(b, 1, 100), 0));
    cr_expect(eq(int, pw_budget_charge(b, 1, 1), -ENOMEM));
    cr_expect(eq(sz, info_of(b).used_bytes, 1), "a refusal takes nothing");
    pw_budget_credit(b, 1, 1);
    cr_expect(eq(int, pw_budget_charge(b, 1, 1), 0));
    pw_budget_close(b);
}

Test(budget, the_hosts_limit_may_be_the_smaller_one)
{
    struct pw_budget_config config = usual;
    struct pw_budget *b;

    config.host_bytes = 10 * MIB;
    b = open_with(config);
    cr_expect(eq(int, pw_budget_charge(b, 10 * MIB + 1, 1), -ENOMEM),
              "nobody else holds any: not EDQUOT");
    cr_expect(eq(int, pw_budget_charge(b, 10 * MIB, 1), 0));
    cr_expect(eq(int, pw_budget_charge(b, 1, 1), -ENOMEM));
    pw_budget_close(b);
}

Test(budget, more_given_back_than_taken_is_not_a_gift)
{
    struct pw_budget *b = open_with(usual);

    pw_budget_charge(b, 1 * MIB, 1);
    pw_budget_credit(b, 2 * MIB, 2);
    cr_expect(eq(sz, info_of(b).used_bytes, 0));
    cr_expect(eq(sz, info_of(b).used_regions, 0));
    cr_expect(eq(int, pw_budget_charge(b, 64 * MIB + 1, 1), -ENOMEM));
    pw_budget_close(b);
}

Test(budget, closing_nothing_is_fine)
{
    pw_budget_close(NULL);
}

Test(budget, names_are_letters_digits_and_dashes)
{
    static const char *const bad[] = {
        "", "a/b", "..", "a b", "a_b", "\xc3\xa4",
        "12345678901234567890123456789012345678901234567890123456789012345",
    };
    static const char *const good[] = {
        "a", "Job-17", "-",
        "1234567890123456789012345678901234567890123456789012345678901234",
    };
    struct pw_budget_config config = usual;
    struct pw_budget *b;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        config.name = bad[i];
        b = (struct pw_budget *)&config;
        cr_expect(eq(int, pw_budget_open_sys(&config, &fake_sys, dir, &b), -EINVAL),
                  "'%s'", bad[i]);
        cr_expect(eq(ptr, b, NULL));
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        config.name = good[i];
        b = open_with(config);
        cr_expect(eq(str, info_of(b).why, ""), "'%s'", good[i]);
        pw_budget_close(b);
    }
}

Test(budget, another_name_is_another_account)
{
    struct pw_budget_config config = usual;
    struct pw_budget *a, *b;

    a = open_with(config);
    config.name = "b";
    b = open_with(config);
    pw_budget_charge(a, 60 * MIB, 1);
    cr_expect(eq(int, pw_budget_charge(b, 60 * MIB, 1), 0));
    cr_expect(eq(sz, info_of(b).host_used_bytes, 60 * MIB));
    pw_budget_close(a);
    pw_budget_close(b);
}

static const struct pw_budget_config unsaid;

static void expect_rank_bytes(unsigned sharers, size_t bytes, const char *when)
{
    struct pw_budget_config config = { .sharers = sharers };
    struct pw_budget *b = open_with(config);

    cr_expect(eq(sz, info_of(b).rank_bytes, bytes), "%s", when);
    pw_budget_close(b);
}

Test(budget, without_a_word_a_rank_has_a_share_of_ram)
{
    struct pw_budget *b = open_with(unsaid);

    cr_expect(eq(sz, info_of(b).host_bytes, 32 * GIB));
    cr_expect(eq(sz, info_of(b).rank_regions, 65536));
    pw_budget_close(b);
    expect_rank_bytes(0, 16 * GIB, "alone");
    expect_rank_bytes(1, 16 * GIB, "alone");
    expect_rank_bytes(8, 2 * GIB, "one of eight");
    fake.ram = 0;
    expect_rank_bytes(1, 1 * GIB, "RAM that cannot be told");
}

Test(budget, the_limit_of_locked_memory_is_kept_below)
{
    fake.memlock.rlim_cur = 8 * MIB;
    expect_rank_bytes(1, 6 * MIB, "three quarters");
    expect_rank_bytes(8, 6 * MIB, "the limit is each process's");
    fake.memlock.rlim_cur = 0;
    expect_rank_bytes(1, 0, "nothing may be locked");
}

Test(budget, who_may_lock_memory_is_not_bound_by_its_limit)
{
    fake.memlock.rlim_cur = 8 * MIB;
    fake.status = "CapInh:\t0\nCapEff:\t0000000000004000\nCapBnd:\t0\n";
    expect_rank_bytes(1, 16 * GIB, "CAP_IPC_LOCK");
    fake.status = "CapInh:\t0\nCapEff:\tffffffffffffbfff\nCapBnd:\t0\n";
    expect_rank_bytes(1, 6 * MIB, "every capability but that one");
    fake.status = "Name:\tx\n";
    expect_rank_bytes(1, 6 * MIB, "no capabilities told");
}

Test(budget, root_of_a_container_is_bound)
{
    fake.memlock.rlim_cur = 8 * MIB;
    fake.status = "Name:\tx\nCapEff:\tffffffffffffffff\n";
    expect_rank_bytes(1, 16 * GIB, "root of the host");
    fake.uid_map = "0 1000 1\n";
    expect_rank_bytes(1, 6 * MIB, "root by a mapping");
    fake.uid_map = "0 100000 65536\n";
    expect_rank_bytes(1, 6 * MIB, "root by a mapping of many");
    fake.uid_map = "0 1 4294967295\n";
    expect_rank_bytes(1, 6 * MIB, "root by a mapping of all");
    fake.uid_map = "\n";
    expect_rank_bytes(1, 6 * MIB, "no mapping yet");
    fake.read = EACCES;
    expect_rank_bytes(1, 6 * MIB, "nothing can be read");
}

static void *charge_and_credit(void *b)
{
    for (int i = 0; i < 2000; i++)
        if (pw_budget_charge(b, 40 * MIB, 1) == 0)
            pw_budget_credit(b, 40 * MIB, 1);
    return NULL;
}

Test(budget, threads_may_charge_at_the_same_time)
{
    struct pw_budget *b = open_with(usual);
    pthread_t thread[3];

    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, pthread_create(&thread[i], NULL, charge_and_credit, b), 0));
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    cr_expect(eq(sz, info_of(b).used_bytes, 0));
    cr_expect(eq(sz, info_of(b).used_regions, 0));
    pw_budget_close(b);
}
