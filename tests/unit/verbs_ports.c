/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_ports.c - which ports libibverbs' backend uses, by which GID, and what it says of the
 * others; what a user may set; and which letters it listens to. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_verbs.h"

extern const struct pw_nic_ops pw_nic_verbs;

/* ---- GIDs ---- */

static struct ibv_gid_entry gid(uint32_t index, uint32_t type, const char *ip)
{
    struct ibv_gid_entry e = { .gid_index = index, .port_num = 1, .gid_type = type,
                               .ndev_ifindex = 7 };
    struct pw_ip parsed;

    cr_assert(eq(int, pw_ip_parse(ip, &parsed), 0));
    if (parsed.family == 4) {
        e.gid.raw[10] = e.gid.raw[11] = 0xff;
        memcpy(e.gid.raw + 12, parsed.bytes, 4);
    } else {
        memcpy(e.gid.raw, parsed.bytes, 16);
    }
    return e;
}

static void expect_gid(const struct ibv_gid_entry *all, size_t n, int index,
                       enum verbs_link link)
{
    struct verbs_gid got = { 0 };

    cr_assert(eq(int, verbs_gid_choose(all, n, 1, true, &got), index >= 0));
    if (index < 0)
        return;
    cr_expect(eq(int, (int)got.index, index));
    cr_expect(eq(int, (int)got.link, (int)link));
    cr_expect(eq(int, (int)got.ifindex, 7));
}

Test(verbs_ports, the_gid_by_which_most_others_reach_a_port)
{
    struct ibv_gid_entry all[] = {
        gid(0, IBV_GID_TYPE_ROCE_V1, "fe80::1"), gid(1, IBV_GID_TYPE_ROCE_V1, "10.0.0.1"),
        gid(2, IBV_GID_TYPE_ROCE_V2, "fe80::1"), gid(3, IBV_GID_TYPE_ROCE_V2, "169.254.1.1"),
        gid(4, IBV_GID_TYPE_ROCE_V2, "2001:db8::1"),
        gid(5, IBV_GID_TYPE_ROCE_V2, "10.0.0.1"), gid(6, IBV_GID_TYPE_ROCE_V2, "10.0.0.2"),
    };

    expect_gid(all, 0, -1, VERBS_NOWHERE);
    expect_gid(all, 1, 0, VERBS_ROCE1);
    expect_gid(all, 2, 1, VERBS_ROCE1);
    expect_gid(all, 3, 2, VERBS_ROCE2_IPV6);
    expect_gid(all, 4, 3, VERBS_ROCE2_IPV4);
    expect_gid(all, 5, 4, VERBS_ROCE2_IPV6);
    expect_gid(all, 6, 5, VERBS_ROCE2_IPV4);
    expect_gid(all, 7, 5, VERBS_ROCE2_IPV4);
}

Test(verbs_ports, a_gid_of_another_port_or_network_or_of_zeros_is_none)
{
    struct ibv_gid_entry all[] = { gid(0, IBV_GID_TYPE_ROCE_V2, "10.0.0.1"),
                                   gid(1, IBV_GID_TYPE_IB, "fe80::1"),
                                   gid(2, IBV_GID_TYPE_ROCE_V2, "::") };
    struct verbs_gid got;

    all[0].port_num = 2;
    expect_gid(all, 3, -1, VERBS_NOWHERE);
    cr_assert(verbs_gid_choose(all, 3, 1, false, &got));
    cr_expect(eq(int, (int)got.index, 1));
    cr_expect(eq(int, (int)got.link, VERBS_INFINIBAND));
    cr_expect(eq(int, (int)got.ifindex, 0), "IP over InfiniBand is not asked");
}

/* ---- several LIDs ---- */

static void named(struct verbs_nic *nic, uint16_t lid, uint8_t lmc, uint32_t qpn)
{
    struct verbs_name *name = (void *)nic->base.address.name;

    memset(nic, 0, sizeof(*nic));
    nic->found.gid.link = VERBS_INFINIBAND;
    *name = (struct verbs_name){ .lid = lid, .lmc = lmc, .qpn = qpn, .mtu = IBV_MTU_4096,
                                 .link = VERBS_INFINIBAND };
}

/* Each sends from the LID that the other one sends to. All of them are in use. */
Test(verbs_ports, both_sides_of_a_pair_find_the_same_lids)
{
    static struct verbs_nic a, b;
    struct ibv_ah_attr to_a, to_b;

    for (uint8_t lmc = 0; lmc <= VERBS_LMC_MOST; lmc++) {
        bool used[1 << VERBS_LMC_MOST] = { false };
        unsigned n = 0;

        for (uint32_t qpn = 2; qpn < 3000; qpn++) {
            named(&a, 0x80, lmc, 1);
            named(&b, 0x100, 1, qpn);
            verbs_route_fill(&a, &b.base.address, &to_b);
            verbs_route_fill(&b, &a.base.address, &to_a);
            cr_assert(eq(uint, to_a.dlid, 0x80u + to_b.src_path_bits));
            cr_assert(eq(uint, to_b.dlid, 0x100u + to_a.src_path_bits));
            cr_assert(lt(uint, to_b.src_path_bits, 1u << lmc));
            cr_assert(lt(uint, to_a.src_path_bits, 2));
            n += !used[to_b.src_path_bits];
            used[to_b.src_path_bits] = true;
        }
        cr_expect(eq(uint, n, 1u << lmc));
    }
}

/* ---- what a user may set ---- */

static const struct pw_nic_setting *setting(const char *name)
{
    const struct pw_nic_setting *s = pw_nic_verbs.settings;

    while (strcmp(s->name, name) != 0)
        s++;
    return s;
}

static void set(const char *name, const char *text)
{
    char said[PW_NIC_WHY_MAX];

    cr_assert(eq(int, pw_nic_verbs.set(setting(name), text, said), 0), "%s", said);
}

Test(verbs_ports, what_nobody_sets_is_as_if_that_were_set)
{
    struct verbs_settings before = verbs_settings;

    for (const struct pw_nic_setting *s = pw_nic_verbs.settings; s->name; s++)
        set(s->name, s->initial);
    cr_expect(eq(int, memcmp(&before, &verbs_settings, sizeof(before)), 0));
}

Test(verbs_ports, a_value_that_cannot_be_is_refused_and_changes_nothing)
{
    static const struct {
        const char *name, *most, *right;
        const char *wrong[8];
    } cases[] = {
        { "retries", "7", "a number from 0 to 7", { "8", "-1", "", "7x", "banana", " 1" } },
        { "timeout", "31", "a number from 1 to 31", { "0", "32", "4294967313", "0x11" } },
        { "rnr_retries", "0", "a number from 0 to 7", { "8", "1k", "1.5" } },
        { "mtu", "4096", "0, 256, 512, 1024, 2048 or 4096", { "1500", "128", "8192", "4k" } },
        { "gid", "255", "auto, roce1,", { "256", "ipv4", "", "AUTO", "roce2", "-1" } },
        { "connections", "65535", "a number from 0 to 65535", { "65536", "all", "-1" } },
        { "pkey_index", "65535", "a number from 0 to 65535", { "65536", "default" } },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct verbs_settings before;

        set(cases[i].name, cases[i].most);
        before = verbs_settings;
        for (size_t k = 0; k < 8; k++) {
            const char *text = cases[i].wrong[k];       /* NULL, too */
            char said[PW_NIC_WHY_MAX] = "", begins[96];

            snprintf(begins, sizeof(begins), "btl_pinwheel_verbs_%s=%s: must be %s",
                     cases[i].name, text ? text : "", cases[i].right);
            cr_expect(eq(int, pw_nic_verbs.set(setting(cases[i].name), text, said), -EINVAL));
            cr_expect(eq(ptr, strstr(said, begins), said), "%s", said);
            cr_expect(ne(ptr, strstr(said, "; leave it out for "), NULL), "%s", said);
            cr_expect(eq(int, memcmp(&before, &verbs_settings, sizeof(before)), 0));
        }
    }
}

Test(verbs_ports, a_user_names_a_gid_or_its_kind)
{
    struct ibv_gid_entry all[] = {
        gid(0, IBV_GID_TYPE_ROCE_V1, "10.0.0.1"), gid(1, IBV_GID_TYPE_ROCE_V2, "2001:db8::1"),
        gid(2, IBV_GID_TYPE_ROCE_V2, "10.0.0.1"), gid(3, IBV_GID_TYPE_ROCE_V2, "10.0.0.2"),
    };
    struct ibv_gid_entry ib = gid(0, IBV_GID_TYPE_IB, "fe80::1");
    struct verbs_gid got;

    set("gid", "roce1");
    expect_gid(all, 4, 0, VERBS_ROCE1);
    cr_expect(verbs_gid_choose(&ib, 1, 1, false, &got), "kinds are of RoCE alone");
    set("gid", "roce2-ipv6");
    expect_gid(all, 4, 1, VERBS_ROCE2_IPV6);
    set("gid", "roce2-ipv4");
    expect_gid(all, 4, 2, VERBS_ROCE2_IPV4);
    expect_gid(all, 2, -1, VERBS_NOWHERE);
    set("gid", "3");
    expect_gid(all, 4, 3, VERBS_ROCE2_IPV4);
    set("gid", "4");
    expect_gid(all, 4, -1, VERBS_NOWHERE);
    cr_expect(eq(int, verbs_gid_choose(&ib, 1, 1, false, &got), 0));
    set("gid", "auto");
    expect_gid(all, 4, 2, VERBS_ROCE2_IPV4);
}

/* ---- locked memory ---- */

Test(verbs_ports, too_little_locked_memory_is_told_with_what_mends_it)
{
    char why[PW_NIC_WHY_MAX] = "";

    cr_expect(eq(int, verbs_memlock_short(8 << 20, false, why), 0));
    cr_expect(eq(int, verbs_memlock_short(65536, true, why), 0), "root may");
    cr_expect(eq(str, why, ""));
    cr_expect(eq(int, verbs_memlock_short(65536, false, why), 1));
    cr_expect(ne(ptr, strstr(why, "only 64 KiB"), NULL), "%s", why);
    cr_expect(ne(ptr, strstr(why, "ulimit -l"), NULL), "%s", why);
    cr_expect(lt(sz, strlen(why), sizeof(why) - 1));
}

/* ---- devices ---- */

static struct pw_nic_device devices[8];
static char why[PW_NIC_WHY_MAX];

static void machine(void)
{
    if (verbs_memlock_refuses(why))
        cr_skip("%s", why);
    fake_verbs_install();
}

static int list(void)
{
    memset(devices, 0, sizeof(devices));
    return pw_nic_verbs.devices(devices, 8);
}

static void expect_refused(const char *part)
{
    cr_assert(eq(int, list(), 1));
    cr_expect(eq(str, devices[0].name, "fake0"));
    cr_expect(eq(int, devices[0].usable, 0));
    cr_expect(ne(ptr, strstr(devices[0].why, part), NULL), "%s", devices[0].why);
    cr_expect(eq(uint, rdma.opened, 0));
}

Test(verbs_ports, a_port_is_listed_with_its_speed, .fini = fake_verbs_remove)
{
    struct pw_nic_info info;

    machine();
    cr_assert(eq(int, list(), 1));
    cr_expect(eq(str, devices[0].name, "fake0"));
    cr_expect(eq(int, devices[0].usable, 1));
    cr_expect(eq(str, devices[0].address, ""), "it is the interface's");
    cr_expect(eq(u64, devices[0].bytes_per_s, UINT64_C(12500000000)), "4 lanes of 25 Gbit/s");
    cr_expect(eq(int, pw_nic_verbs.probe(&info, why), 0));
    cr_expect(eq(str, info.what, "fake0: libibverbs, RoCE v2 of IPv4"));
    cr_expect(eq(str, info.note, "peers know port 1 by GID 3 of 1, 10.9.0.1; packets of 1024"
                 " bytes, 6 retries of 537 ms, RNR no end, P_Key 0"));
    cr_expect(eq(uint, rdma.opened, 0));
}

Test(verbs_ports, a_device_that_software_makes_is_known_by_its_parent,
     .fini = fake_verbs_remove)
{
    char parent[256];
    FILE *file;

    machine();
    snprintf(parent, sizeof(parent), "%s/fake0/parent", rdm_ports_folder());
    cr_expect(not(rdm_ports_software("fake0")));
    cr_expect(not(rdm_ports_software(NULL)));
    file = fopen(parent, "w");
    cr_assert(file != NULL);
    fclose(file);
    cr_expect(rdm_ports_software("fake0"));
    cr_expect(not(rdm_ports_software("fake")));
    cr_expect(rdm_ports_software(NULL));
    cr_expect(eq(int, remove(parent), 0));
    rdm_ports_use("/nonexistent");
    cr_expect(not(rdm_ports_software(NULL)));
    cr_expect(not(rdm_ports_any()));
}

Test(verbs_ports, where_the_kernel_lists_none_nothing_is_loaded)
{
    struct pw_nic_info info;

    verbs_library_use("/nonexistent.so");
    rdm_ports_use("/nonexistent");
    cr_expect(eq(int, pw_nic_verbs.probe(&info, why), -ENODEV));
    cr_expect(eq(str, why, "this machine has no RDMA device"));
    cr_expect(eq(int, list(), 0));
}

Test(verbs_ports, a_library_that_is_missing_is_named, .fini = fake_verbs_remove)
{
    machine();
    verbs_library_use("/nonexistent.so");
    expect_refused("libibverbs1");
    verbs_library_use(NULL);
}

Test(verbs_ports, the_library_has_no_driver_for_it, .fini = fake_verbs_remove)
{
    machine();
    rdma.n_devices = 0;
    expect_refused("ib_uverbs");
}

Test(verbs_ports, each_port_that_cannot_be_used_says_why, .fini = fake_verbs_remove)
{
    machine();
    rdma.port[0][0].state = IBV_PORT_DOWN;
    expect_refused("it is down");
    rdma.port[0][0].state = IBV_PORT_INIT;
    expect_refused("subnet manager");
    rdma.port[0][0].state = IBV_PORT_ARMED;
    expect_refused("has not made it active");
    rdma.port[0][0].state = IBV_PORT_ACTIVE_DEFER;
    expect_refused("not active");
    rdma.port[0][0].state = IBV_PORT_ACTIVE;
    rdma.n_gids = 0;
    expect_refused("needs an IP address");
    rdma.n_gids = 1;
    rdma.device[0].transport_type = IBV_TRANSPORT_IWARP;
    expect_refused("neither InfiniBand nor RoCE");
    rdma.device[0].transport_type = IBV_TRANSPORT_IB;
    fake_verbs_refuse("open_device", EACCES);
    expect_refused("/dev/infiniband/uverbs90 cannot be opened: Permission denied; its user");
    fake_verbs_refuse("open_device", EIO);
    expect_refused("cannot be opened: Input/output error");
    fake_verbs_refuse("query_device", EIO);
    expect_refused("does not say what it can");
    fake_verbs_refuse("query_port", EIO);
    expect_refused("its port 1 does not answer: Input/output error");
}

Test(verbs_ports, what_was_set_is_told_of_the_port, .fini = fake_verbs_remove)
{
    static const char *const mtus[][2] = { { "256", "256" }, { "1024", "1024" },
                                           { "4096", "1024" } };
    struct pw_nic_info info;

    machine();
    set("retries", "0");
    set("timeout", "1");
    set("rnr_retries", "6");
    set("pkey_index", "3");
    for (int i = 0; i < 3; i++) {
        char expected[64];

        set("mtu", mtus[i][0]);
        snprintf(expected, sizeof(expected), "packets of %s bytes, 0 retries of 8 us, RNR 6,"
                 " P_Key 3", mtus[i][1]);
        cr_expect(eq(int, pw_nic_verbs.probe(&info, why), 0));
        cr_expect(ne(ptr, strstr(info.note, expected), NULL), "%s", info.note);
    }
}

Test(verbs_ports, a_port_that_cannot_what_was_set_says_so, .fini = fake_verbs_remove)
{
    machine();
    set("gid", "7");
    expect_refused("its port 1 has no GID 7, which btl_pinwheel_verbs_gid names: ");
    expect_refused("/fake0/ports/1/gids has them; or leave it out");
    set("gid", "roce2-ipv6");
    expect_refused("no GID of RoCE v2 of IPv6, which btl_pinwheel_verbs_gid wants: give its");
    rdma.n_gids = 0;
    expect_refused("needs an IP address");
    rdma.n_gids = 1;
    set("gid", "auto");
    set("pkey_index", "4");
    expect_refused("has 4 partition keys, and number 4, which btl_pinwheel_verbs_pkey_index");
}

Test(verbs_ports, ports_have_names_and_usable_ones_come_first, .fini = fake_verbs_remove)
{
    struct pw_nic_info info;

    machine();
    rdma.n_devices = 2;
    rdma.limits[1].phys_port_cnt = 2;
    rdma.gid[1] = rdma.gid[0];
    rdma.gid[1].port_num = 2;
    rdma.n_gids = 2;
    rdma.port[0][0].state = rdma.port[1][0].state = IBV_PORT_DOWN;
    cr_assert(eq(int, list(), 3));
    cr_expect(eq(str, devices[0].name, "fake1:2"));
    cr_expect(eq(int, devices[0].usable, 1));
    cr_expect(eq(str, devices[1].name, "fake0"));
    cr_expect(eq(str, devices[2].name, "fake1:1"));
    cr_expect(eq(int, devices[1].usable + devices[2].usable, 0));
    cr_expect(eq(int, pw_nic_verbs.devices(devices, 0), 3));
    cr_expect(eq(int, pw_nic_verbs.probe(&info, why), 0));
    cr_expect(ne(ptr, strstr(info.what, "fake1:2"), NULL), "%s", info.what);
}

/* ---- letters ---- */

enum { FROM_QPN = 4711 };

static struct rdm_address own(void)
{
    struct rdm_address a = { .magic = RDM_VERBS_MAGIC, .version = RDM_VERSION,
                             .protocol = VERBS_VERSION, .format = VERBS_ROCE2_IPV4,
                             .job = 5, .host = 6, .name_len = sizeof(struct verbs_name) };
    struct verbs_name name = { .qpn = 9, .q_key = 1, .link = VERBS_ROCE2_IPV4,
                               .mtu = IBV_MTU_4096 };

    memset(a.secret, 's', sizeof(a.secret));
    memcpy(a.name, &name, sizeof(name));
    return a;
}

static size_t right_letter(struct verbs_letter *out)
{
    struct rdm_address to = own();
    struct verbs_name *name = (void *)out->from.name;

    *out = (struct verbs_letter){
        .magic = VERBS_LETTER_MAGIC, .version = VERBS_VERSION, .what = VERBS_ANSWER,
        .mtu = IBV_MTU_1024, .reads = 4, .job = 5, .number = 3, .echo = 2, .qpn = 12,
        .psn = 0xffffff, .to = rdm_hash(RDM_HASH_BEGIN, &to, sizeof(to)), .from = own(),
    };
    memset(out->secret, 's', sizeof(out->secret));
    memset(out->from.secret, 't', sizeof(out->from.secret));
    name->qpn = FROM_QPN;
    return offsetof(struct verbs_letter, from.name) + sizeof(*name);
}

static bool heard(const void *bytes, size_t len)
{
    struct rdm_address me = own();
    struct verbs_letter out;
    uint8_t *copy = malloc(len ? len : 1);  /* exactly as long, for sanitizers */
    bool right;

    memcpy(copy, bytes, len);
    right = verbs_letter_read(&me, copy, len, FROM_QPN, &out);
    free(copy);
    return right;
}

static const struct verbs_letter *with(void (*change)(struct verbs_letter *letter))
{
    static struct verbs_letter letter;

    right_letter(&letter);
    change(&letter);
    return &letter;
}

static struct verbs_name *name_in(struct verbs_letter *l)
{
    return (void *)l->from.name;
}

static void no_qpn(struct verbs_letter *l) { l->qpn = 0; }
static void long_qpn(struct verbs_letter *l) { l->qpn = 1 << 24; }
static void long_psn(struct verbs_letter *l) { l->psn = 1 << 24; }
static void no_number(struct verbs_letter *l) { l->number = 0; }
static void no_echo(struct verbs_letter *l) { l->echo = 0; }
static void no_mtu(struct verbs_letter *l) { l->mtu = 0; }
static void long_mtu(struct verbs_letter *l) { l->mtu = IBV_MTU_4096 + 1; }
static void no_what(struct verbs_letter *l) { l->what = 0; }
static void other_what(struct verbs_letter *l) { l->what = VERBS_BUSY + 1; }
static void other_job(struct verbs_letter *l) { l->job++; }
static void other_to(struct verbs_letter *l) { l->to++; }
static void other_from_job(struct verbs_letter *l) { l->from.job++; }
static void other_from_magic(struct verbs_letter *l) { l->from.magic = RDM_OFI_MAGIC; }
static void long_name(struct verbs_letter *l) { l->from.name_len = 255; }
static void no_name(struct verbs_letter *l) { l->from.name_len = 0; }
static void other_format(struct verbs_letter *l) { l->from.format = VERBS_ROCE2_IPV6; }
static void other_link(struct verbs_letter *l) { name_in(l)->link = VERBS_ROCE1; }
static void no_link(struct verbs_letter *l) { name_in(l)->link = 0; }
static void other_sender(struct verbs_letter *l) { name_in(l)->qpn++; }
static void ruling_q_key(struct verbs_letter *l) { name_in(l)->q_key = 1u << 31; }
static void name_mtu(struct verbs_letter *l) { name_in(l)->mtu = 77; }
static void name_end(struct verbs_letter *l) { name_in(l)->zero = 1; }
static void name_lmc(struct verbs_letter *l) { name_in(l)->lmc = 1; }

Test(verbs_ports, a_letter_that_is_wrong_in_one_thing_is_not_heard)
{
    static void (*const changes[])(struct verbs_letter *) = {
        no_qpn, long_qpn, long_psn, no_number, no_echo, no_mtu, long_mtu, no_what, other_what,
        other_job, other_to, other_from_job, other_from_magic, long_name, no_name,
        other_format, other_link, no_link, other_sender, ruling_q_key, name_mtu, name_end,
        name_lmc,
    };
    struct verbs_letter letter;
    size_t len = right_letter(&letter);

    cr_assert(heard(&letter, len));
    for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++)
        cr_expect(eq(int, heard(with(changes[i]), len), 0), "change %zu", i);
    letter.what = VERBS_ASK;
    letter.echo = 0;
    cr_expect(heard(&letter, len), "who asks knows no number");
}

Test(verbs_ports, a_letter_of_another_length_is_not_heard)
{
    struct verbs_letter letter;
    uint8_t bytes[2 * sizeof(letter)] = { 0 };
    size_t right = right_letter(&letter);

    memcpy(bytes, &letter, sizeof(letter));
    for (size_t len = 0; len < sizeof(bytes); len++)
        cr_expect(eq(int, heard(bytes, len), len == right), "%zu bytes", len);
}

/* The first that is looked at: what follows may be anything. */
Test(verbs_ports, who_does_not_know_the_secret_is_not_heard)
{
    struct verbs_letter letter;
    size_t len = right_letter(&letter);

    for (size_t i = 0; i < sizeof(letter.secret); i++) {
        letter.secret[i] ^= 1;
        cr_expect(eq(int, heard(&letter, len), 0));
        letter.secret[i] ^= 1;
    }
    srand(11);
    for (int n = 0; n < 20000; n++) {
        uint8_t noise[sizeof(letter)];

        for (size_t i = 0; i < sizeof(noise); i++)
            noise[i] = (uint8_t)rand();
        memcpy(noise, &letter, (size_t)rand() % offsetof(struct verbs_letter, number));
        cr_expect(eq(int, heard(noise, len), 0));
    }
}
