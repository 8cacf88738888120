/* SPDX-License-Identifier: BSD-3-Clause */
/* setup_cases.c - probing, opening and closing, and what that leaves behind. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"

enum { CYCLES = 100, WARM = 25 };  /* TSan keeps what a few ended threads had */

struct usage {
    int fds, threads, mappings;
};

static int entries(const char *path)
{
    DIR *dir = opendir(path);
    int n = 0;

    REQUIRE(dir != NULL);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static struct usage usage_now(void)
{
    struct usage u = { entries("/proc/self/fd"), entries("/proc/self/task"), 0 };
    FILE *f = fopen("/proc/self/maps", "r");
    int c;

    REQUIRE(f != NULL);
    while ((c = getc(f)) != EOF)
        u.mappings += c == '\n';
    fclose(f);
    return u;
}

/* A network's connections end some time after their peers. */
static struct usage usage_settled(void)
{
    for (struct deadline d = deadline_in(100); pump_before(&d);)
        ;
    return usage_now();
}

/* libfabric 1.17 forgets a socket when an endpoint closes while it connects: the busier the
 * machine, the more often. Of that many, and with others none. */
static int forgotten(const struct subject *s, int most)
{
    return strcmp(s->ops->name, "ofi") ? 0 : most;
}

/* The same when all is as before again, but for what is forgotten: a library may close in
 * threads of its own, and a busy machine lets both wait. What has leaked stays. */
static struct usage usage_after(const struct usage *before, int fds)
{
    struct usage u = usage_settled();

    for (struct deadline d = deadline_patient();
         (u.fds > before->fds + fds || u.threads > before->threads) && pump_before(&d);)
        u = usage_now();
    CHECK(u.fds <= before->fds + fds);
    return u;
}

/* The C library and sanitizers map memory of their own now and then. A thread that was
 * ending may have been counted before, when it was joined and not yet gone. */
static void usage_check(const struct usage *before, const struct usage *after)
{
    CHECK(after->threads <= before->threads);
    CHECK(after->mappings < before->mappings + (int)cycles(CYCLES) / 2);
}

static bool terminated(const char *s, size_t size)
{
    return memchr(s, 0, size) != NULL;
}

static void probe_answers(const struct subject *s)
{
    struct pw_nic_info info;
    char why[PW_NIC_WHY_MAX];
    int fds = entries("/proc/self/fd"), err;

    memset(&info, 0xa5, sizeof info);
    memset(why, 'x', sizeof why);
    why[0] = 0;
    err = s->ops->probe(&info, why);
    CHECK_EQ(entries("/proc/self/fd"), fds);
    CHECK_EQ(s->ops->probe(&info, why), err);
    if (err) {
        CHECK(err == -ENODEV || err == -EACCES || err == -ENOSYS);
        REQUIRE(terminated(why, sizeof why));
        CHECK(strlen(why) >= 10 && strchr(why, ' '));
        return;
    }
    CHECK(info.frame_max >= 64);
    CHECK(info.inline_max <= info.frame_max);
    CHECK(terminated(info.what, sizeof info.what) && info.what[0]);
    CHECK(info.bytes_per_s > 0 && info.latency_ns > 0);
    CHECK(!(info.flags & PW_NIC_ATOMIC) || info.flags & PW_NIC_PUT);
}

static void info_after_open_is_sound(const struct subject *s)
{
    struct pair p;

    pair_open(&p, s, NULL);
    CHECK(p.a.nic->info.frame_max >= 64);
    CHECK(p.a.nic->info.inline_max <= p.a.nic->info.frame_max);
    CHECK(terminated(p.a.nic->info.what, sizeof p.a.nic->info.what));
    CHECK(s->ops->name && s->ops->name[0]);
    pair_close(&p);
}

static void open_close_leaks_nothing(const struct subject *s)
{
    int warm = (int)cycles(WARM), n = (int)cycles(CYCLES);
    struct usage before, after;
    struct rig rig;

    for (int i = 0; i < warm + n; i++) {
        if (i == warm)
            before = usage_now();
        rig_open(&rig, s, NULL);
        pump();
        rig_close(&rig);
    }
    after = usage_after(&before, forgotten(s, n / 4));
    usage_check(&before, &after);
}

static void connections_leak_nothing(const struct subject *s)
{
    int warm = (int)cycles(WARM), n = (int)cycles(CYCLES);
    struct usage before, after;
    struct pair p;

    for (int i = 0; i < warm + n; i++) {
        if (i == warm)
            before = usage_now();
        pair_open(&p, s, NULL);
        REQUIRE_EQ(conn_send_sequence(&p.ab, 0), 0);
        conn_await_frames(&p.ba, 1);
        if (i % 2) {
            rig_close(&p.a);
            conn_await_down(&p.ba, 0);
            rig_close(&p.b);
        } else {
            pair_close(&p);
        }
    }
    after = usage_after(&before, forgotten(s, n / 4));
    usage_check(&before, &after);
}

/* Peers that come and go while one NIC stays open. */
static void departed_peers_leak_nothing(const struct subject *s)
{
    int warm = (int)cycles(WARM), n = (int)cycles(CYCLES);
    struct usage before, after;
    struct rig stays, guest;
    struct conn in, out;

    rig_open(&stays, s, NULL);
    for (int i = 0; i < warm + n / 2; i++) {
        if (i == warm)
            before = usage_settled();
        rig_open(&guest, s, NULL);
        rig_connect(&guest, &out, stays.address, stays.address_len);
        rig_connect(&stays, &in, guest.address, guest.address_len);
        REQUIRE_EQ(conn_send_sequence(&out, 0), 0);
        conn_await_frames(&in, 1);
        rig_close(&guest);
        conn_await_down(&in, 0);
        conn_disconnect(&in);
        pump();
    }
    after = usage_after(&before, forgotten(s, n / 4));
    CHECK(after.mappings < before.mappings + n / 4);
    rig_close(&stays);
}

static void open_refuses_nonsense(const struct subject *s)
{
    struct rig_options options = { .queue_bytes = SIZE_MAX };
    struct pw_nic_config config;
    struct pw_nic *nic = NULL;
    struct rig rig;
    int err;

    rig_open(&rig, s, NULL);
    rig_config(&rig, &options, &config);
    err = s->ops->open(&config, &nic);
    CHECK(err == -EINVAL || err == -ENOMEM);
    if (!err)
        s->ops->close(nic);
    rig_close(&rig);
}

enum { FULL_CYCLES = 20 };

/* A pool with no page left: open or connect says so, or does without. */
static void full_pool_is_no_crash(const struct subject *s)
{
    struct pw_pool_config pool_config = { .size = 4 << 20, .pages = PW_PAGES_4K };
    struct rig_options options = { 0 };
    struct usage before;
    struct pw_nic_config config;
    struct pw_nic *nic;
    struct rig rig;
    int err;

    rig_open(&rig, s, NULL);
    rig_config(&rig, &options, &config);
    REQUIRE_EQ(pw_pool_open(&pool_config, &config.pool), 0);
    while (pw_pool_alloc(config.pool, 4096, 0))
        ;
    /* The first starts threads that stay, a sanitizer's among them. */
    for (int i = -1; i < FULL_CYCLES; i++) {
        struct pw_nic_peer *peer = NULL;

        if (i == 0)
            before = usage_settled();
        nic = NULL;
        err = s->ops->open(&config, &nic);
        CHECK(err == 0 || err == -ENOMEM);
        if (err)
            continue;
        err = s->ops->connect(nic, rig.address, rig.address_len, &rig, &peer);
        CHECK(err == 0 || err == -ENOMEM);
        s->ops->close(nic);
        pump();
    }
    /* Each was gone before it had answered. */
    usage_after(&before, forgotten(s, FULL_CYCLES));
    pw_pool_close(config.pool);
    rig_close(&rig);
}

const struct nic_case setup_cases[] = {
    { "probe says yes, or no and why", probe_answers, 10, false },
    { "what open tells about itself is sound", info_after_open_is_sound, 10, false },
    { "opening and closing again and again leaks nothing",
      open_close_leaks_nothing, 40, false },
    { "connecting and closing again and again leaks nothing",
      connections_leak_nothing, 40, false },
    { "peers that came and left leak nothing", departed_peers_leak_nothing, 40, false },
    { "open refuses a queue of SIZE_MAX bytes", open_refuses_nonsense, 10, false },
    { "a full pool is -ENOMEM or no hindrance", full_pool_is_no_crash, 30, false },
    { 0 }
};
