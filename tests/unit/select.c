/* SPDX-License-Identifier: BSD-3-Clause */
/* select.c - which devices are used: a table of what there is and what a user says. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "btl/core/select.h"

/* ---- three backends: one without devices, two that may drive the same ---- */

static struct pw_nic_device tcp_devices[8], ofi_devices[8];
static int n_tcp, n_ofi, ofi_probe;

static int probe(struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    (void)info;
    (void)why;
    return 0;
}

static int probe_ofi(struct pw_nic_info *info, char why[PW_NIC_WHY_MAX])
{
    (void)info;
    if (ofi_probe)
        snprintf(why, PW_NIC_WHY_MAX, "there is no libfabric");
    return ofi_probe;
}

static int devices_of(const struct pw_nic_device *from, int n, struct pw_nic_device *out,
                      int max)
{
    memcpy(out, from, (size_t)(n < max ? n : max) * sizeof(*out));
    return n;
}

static int tcp_list(struct pw_nic_device *out, int max)
{
    return devices_of(tcp_devices, n_tcp, out, max);
}

static int ofi_list(struct pw_nic_device *out, int max)
{
    return devices_of(ofi_devices, n_ofi, out, max);
}

static const struct pw_nic_ops shm = { .name = "shm", .probe = probe };
static const struct pw_nic_ops tcp = { .name = "tcp", .probe = probe, .devices = tcp_list };
static const struct pw_nic_ops ofi = { .name = "ofi", .probe = probe_ofi,
                                       .devices = ofi_list };
static const struct pw_nic_ops *const backends[] = { &shm, &tcp, &ofi, NULL };

static struct pw_nic_device device(const char *name, const char *address)
{
    struct pw_nic_device d = { .usable = true };

    snprintf(d.name, sizeof(d.name), "%s", name);
    snprintf(d.address, sizeof(d.address), "%s", address);
    return d;
}

/* eth0, eth1, a bridge that is spare and a port that is down; libfabric has the first two
 * and a fabric of its own. */
static void machine(void)
{
    n_tcp = 4;
    tcp_devices[0] = device("eth0", "10.0.0.1/24 fe80::1%eth0/64");
    tcp_devices[1] = device("eth1", "10.0.1.1/24");
    tcp_devices[2] = device("docker0", "172.17.0.1/16");
    tcp_devices[2].spare = true;
    snprintf(tcp_devices[2].why, PW_NIC_WHY_MAX, "a bridge of containers");
    tcp_devices[3] = device("eth2", "");
    tcp_devices[3].usable = false;
    snprintf(tcp_devices[3].why, PW_NIC_WHY_MAX, "it is down");
    n_ofi = 3;
    ofi_devices[0] = device("eth0", "10.0.0.1/24 fe80::1%eth0/64");
    ofi_devices[1] = device("eth1", "10.0.1.1/24 10.0.9.1/24");
    ofi_devices[2] = device("mlx5_0", "");
}

static struct pw_candidate candidates[PW_CANDIDATES];

/* What is chosen, as "shm tcp/eth0 ...". */
static const char *chosen(const struct pw_wish *wish, int most)
{
    static char text[400];
    int n = pw_candidates(backends, wish->nics, candidates, PW_CANDIDATES), told;
    size_t at = 0;

    told = pw_select(wish, candidates, n, most);
    text[0] = '\0';
    for (int i = 0; i < n; i++) {
        const struct pw_candidate *c = &candidates[i];

        cr_expect(eq(int, c->chosen, !*c->why), "who is not chosen is told why");
        if (!c->chosen)
            continue;
        told--;
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s%s%s", at ? " " : "",
                               c->ops->name, c->has_device ? "/" : "",
                               c->has_device ? c->device.name : "");
    }
    cr_expect(eq(int, told, 0));
    return text;
}

static void expect_chosen(struct pw_wish wish, const char *what)
{
    machine();
    cr_expect(eq(str, (char *)chosen(&wish, 8), (char *)what));
}

/* Of the first candidate of that backend and device. */
static const char *why_of(struct pw_wish wish, const char *backend, const char *name)
{
    machine();
    chosen(&wish, 4);
    for (int i = 0; i < PW_CANDIDATES; i++)
        if (candidates[i].ops && !strcmp(candidates[i].ops->name, backend) &&
            !strcmp(candidates[i].device.name, name))
            return candidates[i].why;
    return "not found";
}

Test(select, all_usable_devices_but_the_spare_and_those_driven_already)
{
    expect_chosen((struct pw_wish){ 0 }, "shm tcp/eth0 tcp/eth1 ofi/eth1 ofi/mlx5_0");
    expect_chosen((struct pw_wish){ "", "", "" },
                  "shm tcp/eth0 tcp/eth1 ofi/eth1 ofi/mlx5_0");
}

/* UCX names ports, libfabric the device that they are of. */
static struct pw_nic_device ucx_devices[3];

static int ucx_list(struct pw_nic_device *out, int max)
{
    return devices_of(ucx_devices, 3, out, max);
}

static const struct pw_nic_ops ucx = { .name = "ucx", .probe = probe,
                                       .devices = ucx_list };
static const struct pw_nic_ops *const with_ucx[] = { &tcp, &ofi, &ucx, NULL };

Test(select, a_fabric_is_driven_once_whatever_it_is_called)
{
    struct pw_wish wish = { 0 };
    int n;

    machine();
    ucx_devices[0] = device("eth0", "10.0.0.1/24 fe80::1%eth0/64");
    ucx_devices[1] = device("mlx5_0:1", "");
    ucx_devices[2] = device("mlx5_01:1", "");
    n = pw_candidates(with_ucx, NULL, candidates, PW_CANDIDATES);
    cr_expect(eq(int, pw_select(&wish, candidates, n, 8), 5));
    cr_expect(eq(int, candidates[n - 3].chosen, 0));
    cr_expect(eq(int, candidates[n - 2].chosen, 0), "libfabric has mlx5_0");
    cr_expect(eq(int, candidates[n - 1].chosen, 1), "nobody else has mlx5_01");
    wish.nics = "ucx";
    n = pw_candidates(with_ucx, "ucx", candidates, PW_CANDIDATES);
    cr_expect(eq(int, pw_select(&wish, candidates, n, 8), 3));
}

Test(select, a_backend_that_is_named_is_used_whoever_drives_its_devices)
{
    expect_chosen((struct pw_wish){ .nics = "tcp,ofi" },
                  "tcp/eth0 tcp/eth1 ofi/eth0 ofi/eth1 ofi/mlx5_0");
    expect_chosen((struct pw_wish){ .nics = "ofi" }, "ofi/eth0 ofi/eth1 ofi/mlx5_0");
    expect_chosen((struct pw_wish){ .nics = "shm" }, "shm");
}

Test(select, included_by_name_by_address_and_by_a_block_of_them)
{
    expect_chosen((struct pw_wish){ .include = "eth1" }, "shm tcp/eth1 ofi/eth1");
    expect_chosen((struct pw_wish){ .include = "10.0.0.1" }, "shm tcp/eth0");
    expect_chosen((struct pw_wish){ .include = "10.0.0.0/16", .nics = "tcp" },
                  "tcp/eth0 tcp/eth1");
    expect_chosen((struct pw_wish){ .include = "10.0.0.0/23", .nics = "tcp" },
                  "tcp/eth0 tcp/eth1");
    expect_chosen((struct pw_wish){ .include = "10.0.0.0/24", .nics = "tcp" }, "tcp/eth0");
    expect_chosen((struct pw_wish){ .include = "fe80::/10", .nics = "tcp" }, "tcp/eth0");
    expect_chosen((struct pw_wish){ .include = "0.0.0.0/0", .nics = "tcp" },
                  "tcp/eth0 tcp/eth1 tcp/docker0");
    expect_chosen((struct pw_wish){ .include = "mlx5_0,eth0" },
                  "shm tcp/eth0 ofi/mlx5_0");
    expect_chosen((struct pw_wish){ .include = "eth" }, "shm");
    expect_chosen((struct pw_wish){ .include = "eth00,nothing" }, "shm");
}

Test(select, a_spare_device_is_used_when_it_is_included)
{
    expect_chosen((struct pw_wish){ .include = "docker0" }, "shm tcp/docker0");
    expect_chosen((struct pw_wish){ .include = "172.16.0.0/12" }, "shm tcp/docker0");
}

Test(select, a_device_that_is_down_is_not_used_though_it_is_included)
{
    expect_chosen((struct pw_wish){ .include = "eth2" }, "shm");
}

Test(select, excluded_wins)
{
    expect_chosen((struct pw_wish){ .exclude = "eth0", .nics = "tcp" }, "tcp/eth1");
    expect_chosen((struct pw_wish){ .include = "eth0,eth1", .exclude = "10.0.1.1" },
                  "shm tcp/eth0");
    expect_chosen((struct pw_wish){ .exclude = "shm" },
                  "shm tcp/eth0 tcp/eth1 ofi/eth1 ofi/mlx5_0");
}

/* ofi's eth0 is nobody's when tcp is not to use it, so ofi is not to either. */
Test(select, a_device_excluded_for_one_is_excluded_for_all)
{
    expect_chosen((struct pw_wish){ .exclude = "eth0,eth1" }, "shm ofi/mlx5_0");
}

Test(select, no_more_than_there_is_room_for)
{
    struct pw_wish all = { 0 };

    machine();
    cr_expect(eq(str, (char *)chosen(&all, 3), "shm tcp/eth0 tcp/eth1"));
    cr_expect(eq(str, (char *)chosen(&all, 0), ""));
}

Test(select, each_is_told_why_it_is_not_used)
{
    struct pw_wish all = { 0 };

    cr_expect(eq(str, (char *)why_of(all, "tcp", "eth2"), "it is down"));
    cr_expect(eq(str, (char *)why_of(all, "tcp", "docker0"), "a bridge of containers"));
    cr_expect(ne(ptr, strstr(why_of(all, "ofi", "eth0"), "another backend"), NULL));
    cr_expect(ne(ptr, strstr(why_of(all, "ofi", "mlx5_0"), "enough"), NULL));
    all.include = "eth1";
    cr_expect(ne(ptr, strstr(why_of(all, "tcp", "eth0"), "if_include"), NULL));
    all.exclude = "eth1";
    cr_expect(ne(ptr, strstr(why_of(all, "tcp", "eth1"), "if_exclude"), NULL));
}

Test(select, a_backend_that_cannot_run_says_why)
{
    struct pw_wish all = { 0 };

    ofi_probe = -ENODEV;
    cr_expect(eq(str, (char *)why_of(all, "ofi", ""), "there is no libfabric"));
    ofi_probe = 0;
    machine();
    n_ofi = 0;
    chosen(&all, 4);
    for (int i = 0; i < PW_CANDIDATES; i++)
        if (candidates[i].ops == &ofi && !*candidates[i].device.name) {
            cr_expect(not(candidates[i].chosen));
            cr_expect(ne(ptr, strstr(candidates[i].why, "no device"), NULL));
            return;
        }
    cr_fail("it is not in the list");
}

Test(select, more_devices_than_there_is_room_in_the_list)
{
    static struct pw_candidate few[3];

    machine();
    cr_expect(eq(int, pw_candidates(backends, NULL, few, 3), 3));
    cr_expect(eq(str, few[2].device.name, "eth1"));
    cr_expect(eq(int, pw_candidates(backends, NULL, few, 0), 0));
}

/* ---- what is no wish ---- */

static int check(struct pw_wish wish, char why[PW_NIC_WHY_MAX])
{
    why[0] = '\0';
    return pw_wish_check(&wish, backends, why);
}

Test(select, addresses_that_are_none_are_refused_by_name)
{
    static const char *const bad[] = {
        "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/x", "10.0.0/8", "eth0/24", "fe80::/129",
        "eth0,10.0.0.0/-1", "10.0.0.0/8x",
    };
    char why[PW_NIC_WHY_MAX];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_expect(eq(int, check((struct pw_wish){ .include = bad[i] }, why), -EINVAL), "%s",
                  bad[i]);
        cr_expect(ne(ptr, strstr(why, "btl_pinwheel_if_include: "), NULL), "%s", why);
        cr_expect(eq(int, check((struct pw_wish){ .exclude = bad[i] }, why), -EINVAL), "%s",
                  bad[i]);
        cr_expect(ne(ptr, strstr(why, "btl_pinwheel_if_exclude: "), NULL), "%s", why);
    }
    cr_expect(eq(int, check((struct pw_wish){ .nics = "shm,verbs" }, why), -EINVAL));
    cr_expect(ne(ptr, strstr(why, "\"verbs\"; there are: shm tcp ofi"), NULL), "%s", why);
}

Test(select, what_may_be_a_name_is_one)
{
    char why[PW_NIC_WHY_MAX];

    cr_expect(eq(int, check((struct pw_wish){ 0 }, why), 0));
    cr_expect(eq(int, check((struct pw_wish){ .include = "eth0,mlx5_0,,10.0.0.1,"
                                                         "10.0.0.0/0,::/0,10.0.0.0/32" },
                            why), 0), "%s", why);
    cr_expect(eq(str, why, ""));
}
