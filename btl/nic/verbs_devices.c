/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_devices.c - devices, ports, and which GID a port is known by.
 *
 * Start at verbs_devices(). Each port is looked at through libibverbs, for that is what will
 * have to open it; one that cannot be used says what is missing. The library is not asked
 * where too little memory can be locked: it would print that, too.
 *
 * A port has a table of GIDs, one for each of its addresses and for each protocol that
 * carries them. Peers must both use the same protocol, so the choice is the same everywhere:
 * RoCE v2 before v1, since routers carry it; addresses that more hosts reach before those of
 * the link alone; IPv4 before IPv6. InfiniBand has its first.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rdm_ports.h"
#include "verbs.h"

enum { GIDS_MAX = 256, FOUND_MAX = 32 };

/* Messages' buffers are registered by slabs; the first two are needed to begin. */
#define MEMLOCK_LEAST ((uint64_t)2 * RDM_SLAB * RDM_MESSAGE_MAX)

/* ---- GIDs ---- */

static bool gid_mapped(const uint8_t gid[16])
{
    static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

    return !memcmp(gid, prefix, sizeof(prefix));
}

static bool gid_zero(const uint8_t gid[16])
{
    static const uint8_t zero[16];

    return !memcmp(gid, zero, sizeof(zero));
}

/* fe80::/10, 169.254.0.0/16. */
static bool gid_of_link_only(const uint8_t gid[16])
{
    return gid_mapped(gid) ? gid[12] == 169 && gid[13] == 254
                           : gid[0] == 0xfe && (gid[1] & 0xc0) == 0x80;
}

bool verbs_gid_ip(const uint8_t gid[16], struct pw_ip *out)
{
    bool four = gid_mapped(gid);

    if (gid_zero(gid))
        return false;
    memset(out, 0, sizeof(*out));
    out->family = four ? 4 : 6;
    out->prefix = four ? 32 : 128;
    memcpy(out->bytes, four ? gid + 12 : gid, four ? 4 : 16);
    return true;
}

const char *verbs_link_text(unsigned link)
{
    switch (link) {
    case VERBS_INFINIBAND:
        return "InfiniBand";
    case VERBS_ROCE1:
        return "RoCE v1";
    case VERBS_ROCE2_IPV4:
        return "RoCE v2 of IPv4";
    case VERBS_ROCE2_IPV6:
        return "RoCE v2 of IPv6";
    default:
        return "no network";
    }
}

static enum verbs_link gid_link(const struct ibv_gid_entry *e, bool ethernet)
{
    if (gid_zero(e->gid.raw) || ethernet != (e->gid_type != IBV_GID_TYPE_IB))
        return VERBS_NOWHERE;
    if (!ethernet)
        return VERBS_INFINIBAND;
    if (e->gid_type == IBV_GID_TYPE_ROCE_V1)
        return VERBS_ROCE1;
    return gid_mapped(e->gid.raw) ? VERBS_ROCE2_IPV4 : VERBS_ROCE2_IPV6;
}

/* There are no kinds but of RoCE. */
static bool gid_allowed(const struct ibv_gid_entry *e, enum verbs_link link)
{
    if (verbs_settings.gid_index >= 0)
        return e->gid_index == (uint32_t)verbs_settings.gid_index;
    return !verbs_settings.gid_kind || link == VERBS_INFINIBAND ||
           link == verbs_settings.gid_kind;
}

/* 0: it is of no use. */
static int gid_rank(const struct ibv_gid_entry *e, bool ethernet)
{
    bool far = !gid_of_link_only(e->gid.raw);
    enum verbs_link link = gid_link(e, ethernet);

    switch (gid_allowed(e, link) ? link : VERBS_NOWHERE) {
    case VERBS_INFINIBAND:
        return 1;
    case VERBS_ROCE1:
        return far ? 2 : 1;
    case VERBS_ROCE2_IPV6:
        return far ? 5 : 3;
    case VERBS_ROCE2_IPV4:
        return far ? 6 : 4;
    default:
        return 0;
    }
}

bool verbs_gid_choose(const struct ibv_gid_entry *all, size_t n, uint32_t port,
                      bool ethernet, struct verbs_gid *out)
{
    const struct ibv_gid_entry *best = NULL;

    for (size_t i = 0; i < n; i++)
        if (all[i].port_num == port && gid_rank(&all[i], ethernet) &&
            (!best || gid_rank(&all[i], ethernet) > gid_rank(best, ethernet)))
            best = &all[i];
    if (!best)
        return false;
    memcpy(out->bytes, best->gid.raw, sizeof(out->bytes));
    out->index = best->gid_index;
    out->ifindex = ethernet ? best->ndev_ifindex : 0;
    out->link = gid_link(best, ethernet);
    return true;
}

/* ---- locked memory ---- */

bool verbs_memlock_short(uint64_t limit, bool exempt, char why[PW_NIC_WHY_MAX])
{
    if (exempt || limit >= MEMLOCK_LEAST)
        return false;
    snprintf(why, PW_NIC_WHY_MAX, "only %llu KiB of memory may be locked, and it needs %llu"
             " for its messages and more for yours: ulimit -l unlimited, or memlock in"
             " /etc/security/limits.conf", (unsigned long long)limit / 1024,
             (unsigned long long)MEMLOCK_LEAST / 1024);
    return true;
}

/* As the kernel decides (ib_umem_get(), drivers/infiniband/core/umem.c). */
static bool memlock_exempt(void)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

    return !syscall(SYS_capget, &head, caps) &&
           caps[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK);
}

bool verbs_memlock_refuses(char why[PW_NIC_WHY_MAX])
{
    struct rlimit limit;

    return !getrlimit(RLIMIT_MEMLOCK, &limit) && limit.rlim_cur != RLIM_INFINITY &&
           verbs_memlock_short(limit.rlim_cur, memlock_exempt(), why);
}

/* ---- a port ---- */

static uint64_t port_bytes_per_s(const struct ibv_port_attr *attr)
{
    static const struct {
        unsigned code, tenths;      /* of a Gbit/s that one lane carries */
    } speeds[] = { { 1, 25 }, { 2, 50 }, { 4, 100 }, { 8, 100 }, { 16, 140 }, { 32, 250 },
                   { 64, 500 }, { 128, 1000 } };
    static const struct {
        unsigned code, lanes;
    } widths[] = { { 1, 1 }, { 2, 4 }, { 4, 8 }, { 8, 12 }, { 16, 2 } };
    uint64_t tenths = 0, lanes = 0;

    for (size_t i = 0; i < sizeof(speeds) / sizeof(*speeds); i++)
        if (speeds[i].code == attr->active_speed)
            tenths = speeds[i].tenths;
    for (size_t i = 0; i < sizeof(widths) / sizeof(*widths); i++)
        if (widths[i].code == attr->active_width)
            lanes = widths[i].lanes;
    return tenths * lanes * 100000000 / 8;
}

static bool port_gid(const struct verbs_library *lib, struct ibv_context *context,
                     struct verbs_found *out)
{
    struct ibv_gid_entry *all = calloc(GIDS_MAX, sizeof(*all));
    bool found = false;
    ssize_t n;

    if (!all)
        return false;
    n = lib->query_gid_table(context, all, GIDS_MAX, 0, sizeof(*all));
    for (ssize_t i = 0; i < n; i++)
        out->n_gids += all[i].port_num == out->port;
    if (n > 0)
        found = verbs_gid_choose(all, (size_t)n, out->port,
                                 out->attr.link_layer == IBV_LINK_LAYER_ETHERNET,
                                 &out->gid);
    free(all);
    return found;
}

void verbs_gid_follow(const struct verbs_library *lib, struct ibv_context *context,
                      struct verbs_found *found)
{
    bool ethernet = found->gid.link != VERBS_INFINIBAND;
    struct ibv_gid_entry *all = calloc(GIDS_MAX, sizeof(*all));
    ssize_t n = all ? lib->query_gid_table(context, all, GIDS_MAX, 0, sizeof(*all)) : 0;

    for (ssize_t i = 0; i < n; i++)
        if (all[i].port_num == found->port && gid_link(&all[i], ethernet) == found->gid.link &&
            !memcmp(all[i].gid.raw, found->gid.bytes, sizeof(found->gid.bytes))) {
            found->gid.index = all[i].gid_index;
            break;
        }
    free(all);
}

static const char *port_state(enum ibv_port_state state)
{
    switch (state) {
    case IBV_PORT_DOWN:
        return "it is down: no cable, or its interface is not up";
    case IBV_PORT_INIT:
        return "no subnet manager has set it up";
    case IBV_PORT_ARMED:
        return "the subnet manager has not made it active";
    default:
        return "it is not active";
    }
}

static void gid_why(struct verbs_found *out)
{
    if (verbs_settings.gid_index >= 0)
        snprintf(out->why, sizeof(out->why), "its port %u has no GID %d, which"
                 " btl_pinwheel_verbs_gid names: %.60s/%.*s/ports/%u/gids has them; or leave"
                 " it out", out->port, verbs_settings.gid_index, rdm_ports_folder(),
                 (int)strcspn(out->name, ":"), out->name, out->port);
    else if (verbs_settings.gid_kind && out->n_gids)
        snprintf(out->why, sizeof(out->why), "its port %u has no GID of %s, which"
                 " btl_pinwheel_verbs_gid wants: give its interface such an address, or leave"
                 " it out", out->port, verbs_link_text(verbs_settings.gid_kind));
    else
        snprintf(out->why, sizeof(out->why), "its port %u has no GID: its interface needs an"
                 " IP address", out->port);
}

/* What a user has set, and such a port cannot do. */
static bool port_suits(struct verbs_found *out)
{
    if (verbs_settings.mtu && verbs_settings.mtu < out->attr.active_mtu)
        out->attr.active_mtu = (enum ibv_mtu)verbs_settings.mtu;
    if (verbs_settings.pkey_index < out->attr.pkey_tbl_len)
        return true;
    snprintf(out->why, sizeof(out->why), "its port %u has %u partition keys, and number %u,"
             " which btl_pinwheel_verbs_pkey_index names, is none of them: numbers begin with"
             " 0; or leave it out", out->port, out->attr.pkey_tbl_len,
             verbs_settings.pkey_index);
    return false;
}

/* Fills all of out but its name. */
static void port_look(const struct verbs_library *lib, struct ibv_context *context,
                      struct verbs_found *out)
{
    int err = lib->query_port(context, out->port, &out->attr);

    if (err) {
        snprintf(out->why, sizeof(out->why), "its port %u does not answer: %s", out->port,
                 strerror(err > 0 ? err : errno));
        return;
    }
    out->bytes_per_s = port_bytes_per_s(&out->attr);
    if (out->attr.state != IBV_PORT_ACTIVE)
        snprintf(out->why, sizeof(out->why), "its port %u cannot be used: %s", out->port,
                 port_state(out->attr.state));
    else if (!port_gid(lib, context, out))
        gid_why(out);
    else
        out->usable = port_suits(out);
}

static void port_name(struct verbs_found *out, const char *device)
{
    if (out->limits.phys_port_cnt > 1)
        snprintf(out->name, sizeof(out->name), "%.27s:%u", device, out->port);
    else
        snprintf(out->name, sizeof(out->name), "%.31s", device);
}

/* ---- a device ---- */

/* libibverbs says of what it may not open that there is no such file. */
static void open_why(const struct ibv_device *device, int err, char why[PW_NIC_WHY_MAX])
{
    char path[64];

    snprintf(path, sizeof(path), "/dev/infiniband/%.30s", device->dev_name);
    if (access(path, R_OK | W_OK) && errno == EACCES)
        err = EACCES;
    snprintf(why, PW_NIC_WHY_MAX, "%s cannot be opened: %s%s", path, strerror(err),
             err == EACCES || err == EPERM ? "; its user needs the right to read and write it"
                                           : "");
}

/* NULL and a sentence. */
static struct ibv_context *device_open(const struct verbs_library *lib,
                                       struct ibv_device *device,
                                       struct ibv_device_attr *limits,
                                       char why[PW_NIC_WHY_MAX])
{
    struct ibv_context *context;

    if (device->transport_type != IBV_TRANSPORT_IB) {
        snprintf(why, PW_NIC_WHY_MAX, "it is neither InfiniBand nor RoCE; ofi may drive it");
        return NULL;
    }
    context = lib->open_device(device);
    if (!context) {
        open_why(device, errno, why);
        return NULL;
    }
    if (!lib->query_device(context, limits))
        return context;
    snprintf(why, PW_NIC_WHY_MAX, "it does not say what it can: %s", strerror(errno));
    lib->close_device(context);
    return NULL;
}

static int device_ports(const struct verbs_library *lib, struct ibv_device *device,
                        struct verbs_found *out, int max)
{
    struct verbs_found first = { .port = 1 };
    struct ibv_context *context = device_open(lib, device, &first.limits, first.why);
    int n = context && first.limits.phys_port_cnt ? first.limits.phys_port_cnt : 1;

    for (int i = 0; i < n && i < max; i++) {
        out[i] = first;
        out[i].port = (uint8_t)(i + 1);
        port_name(&out[i], device->name);
        if (context)
            port_look(lib, context, &out[i]);
    }
    if (context)
        lib->close_device(context);
    return n < max ? n : max;
}

/* Usable ones first. How many. */
static int ports_find(const struct verbs_library *lib, struct verbs_found *out, int max)
{
    int n_devices = 0, n = 0, usable = 0;
    struct ibv_device **list = lib->get_device_list(&n_devices);

    for (int i = 0; list && i < n_devices; i++)
        n += device_ports(lib, list[i], out + n, max - n);
    if (list)
        lib->free_device_list(list);
    for (int i = 0; i < n; i++)
        if (out[i].usable) {
            struct verbs_found it = out[i];

            memmove(&out[usable + 1], &out[usable], (size_t)(i - usable) * sizeof(*out));
            out[usable++] = it;
        }
    return n;
}

/* ---- what there is ---- */

/* Whatever the kernel lists, none of it usable, for that reason. */
static int devices_refused(struct pw_nic_device *out, int max, const char *why)
{
    DIR *dir = opendir(rdm_ports_folder());
    const char *name;
    int n = 0;

    while ((name = rdm_ports_next(dir))) {
        if (n < max) {
            memset(&out[n], 0, sizeof(*out));
            snprintf(out[n].name, sizeof(out->name), "%.31s", name);
            snprintf(out[n].why, sizeof(out->why), "%s", why);
        }
        n++;
    }
    if (dir)
        closedir(dir);
    return n;
}

/* No address: it is the interface's, which tcp drives, and this is another way by it. */
static void device_fill(struct pw_nic_device *out, const struct verbs_found *found)
{
    memset(out, 0, sizeof(*out));
    memcpy(out->name, found->name, sizeof(out->name));
    out->bytes_per_s = found->bytes_per_s;
    out->usable = found->usable;
    memcpy(out->why, found->why, sizeof(out->why));
}

int verbs_devices(struct pw_nic_device *out, int max)
{
    const struct verbs_library *lib;
    struct verbs_found *found;
    char why[PW_NIC_WHY_MAX];
    int n;

    if (!rdm_ports_any())
        return 0;
    if (verbs_memlock_refuses(why))
        return devices_refused(out, max, why);
    lib = verbs_library(why);
    if (!lib)
        return devices_refused(out, max, why);
    found = calloc(FOUND_MAX, sizeof(*found));
    n = found ? ports_find(lib, found, FOUND_MAX) : 0;
    for (int i = 0; i < n && i < max; i++)
        device_fill(&out[i], &found[i]);
    free(found);
    return n ? n : devices_refused(out, max, "libibverbs has no driver for it, or the kernel's"
                                   " module ib_uverbs is not loaded");
}

/* ---- opening one ---- */

static struct ibv_context *named_open(const struct verbs_library *lib,
                                      struct ibv_device **list, int n,
                                      const struct verbs_found *found,
                                      char why[PW_NIC_WHY_MAX])
{
    struct ibv_device_attr limits;
    size_t len = strcspn(found->name, ":");

    for (int i = 0; i < n; i++)
        if (strlen(list[i]->name) == len && !memcmp(list[i]->name, found->name, len))
            return device_open(lib, list[i], &limits, why);
    snprintf(why, PW_NIC_WHY_MAX, "it is gone");
    return NULL;
}

static const struct verbs_found *found_named(const struct verbs_found *found, int n,
                                             const char *name)
{
    for (int i = 0; i < n; i++)
        if (!name || !strcmp(found[i].name, name))
            return &found[i];
    return NULL;
}

static struct ibv_context *found_open(const struct verbs_library *lib, const char *name,
                                      struct verbs_found *found, struct verbs_found *out,
                                      char why[PW_NIC_WHY_MAX])
{
    const struct verbs_found *it = found_named(found, ports_find(lib, found, FOUND_MAX), name);
    struct ibv_context *context = NULL;
    struct ibv_device **list;
    int n = 0;

    if (!it || !it->usable) {
        snprintf(why, PW_NIC_WHY_MAX, "%s", it ? it->why : "there is no such RDMA device");
        return NULL;
    }
    *out = *it;
    list = lib->get_device_list(&n);
    if (list) {
        context = named_open(lib, list, n, it, why);
        lib->free_device_list(list);
    }
    return context;
}

struct ibv_context *verbs_device_open(const struct verbs_library *lib, const char *name,
                                      struct verbs_found *out, int *err,
                                      char why[PW_NIC_WHY_MAX])
{
    struct verbs_found *found = calloc(FOUND_MAX, sizeof(*found));
    struct ibv_context *context;

    *err = -ENOMEM;
    if (!found || verbs_memlock_refuses(why)) {
        free(found);
        return NULL;
    }
    context = found_open(lib, name, found, out, why);
    free(found);
    *err = context ? 0 : -ENODEV;
    return context;
}
