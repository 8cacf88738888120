/* SPDX-License-Identifier: BSD-3-Clause */
/* process_pool.c - one process has one pool, whoever asks. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pinwheel/process_pool.h"

#define MIB ((size_t)1 << 20)

static const struct pw_pool_config small = { .size = 16 * MIB, .pages = PW_PAGES_4K };
static const struct pw_pool_config large = { .size = 32 * MIB, .pages = PW_PAGES_4K };

Test(process_pool, the_second_gets_what_the_first_opened)
{
    struct pw_pool *a, *b;

    cr_expect(eq(int, pw_process_pool_get(&small, &a), 0));
    cr_expect(eq(int, pw_process_pool_get(&large, &b), 1));
    cr_expect(eq(ptr, a, b));
    cr_expect(eq(sz, pw_pool_size(b), 16 * MIB));
    pw_process_pool_put(a);
    cr_expect(ne(ptr, pw_pool_alloc(b, MIB, 0), NULL), "it is still open");
}

Test(process_pool, the_last_one_closes_it)
{
    struct pw_pool *a, *b;

    pw_process_pool_get(&small, &a);
    pw_process_pool_get(&small, &b);
    pw_process_pool_put(a);
    pw_process_pool_put(b);
    cr_expect(eq(int, pw_process_pool_get(&large, &a), 0), "a new one is opened");
    cr_expect(eq(sz, pw_pool_size(a), 32 * MIB));
    pw_process_pool_put(a);
    pw_process_pool_put(NULL);
}

Test(process_pool, it_stays_while_somebody_has_memory_of_it)
{
    struct pw_pool *a, *b;
    char *p;

    pw_process_pool_get(&small, &a);
    p = pw_pool_alloc(a, MIB, 0);
    memset(p, 1, MIB);
    pw_process_pool_put(a);
    p[MIB - 1] = 2;
    cr_expect(eq(int, pw_process_pool_get(&large, &b), 1));
    cr_expect(eq(ptr, a, b));
    pw_pool_free(b, p);
    pw_process_pool_put(b);
}

Test(process_pool, what_cannot_be_opened_is_told)
{
    struct pw_pool_config bad = { .size = SIZE_MAX };
    struct pw_pool *a = (struct pw_pool *)&bad;

    cr_expect(eq(int, pw_process_pool_get(&bad, &a), -EINVAL));
    cr_expect(eq(ptr, a, NULL));
    cr_expect(eq(int, pw_process_pool_get(&small, &a), 0), "the next may be luckier");
    pw_process_pool_put(a);
}

static int child_opens_its_own(struct pw_pool *parents)
{
    struct pw_pool *mine;

    if (pw_process_pool_get(&large, &mine) != 0 || mine == parents ||
        pw_pool_size(mine) != 32 * MIB)
        return 1;
    pw_process_pool_put(parents);
    if (pw_process_pool_get(&small, &mine) != 1)
        return 2;
    return 0;
}

Test(process_pool, a_child_opens_its_own)
{
    struct pw_pool *a;
    int status = -1;
    pid_t pid;

    pw_process_pool_get(&small, &a);
    pid = fork();
    if (pid == 0)
        _exit(child_opens_its_own(a));
    waitpid(pid, &status, 0);
    cr_expect(eq(int, status, 0));
    cr_expect(ne(ptr, pw_pool_alloc(a, MIB, 0), NULL));
}

static struct pw_pool *got[8];
static void *get(void *at)
{
    pw_process_pool_get(&small, at);
    return NULL;
}

Test(process_pool, threads_that_ask_at_once_get_one)
{
    pthread_t t[8];

    for (int i = 0; i < 8; i++)
        pthread_create(&t[i], NULL, get, &got[i]);
    for (int i = 0; i < 8; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < 8; i++)
        cr_expect(got[i] && got[i] == got[0]);
}
