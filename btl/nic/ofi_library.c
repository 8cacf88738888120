/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi_library.c - libfabric, loaded when it is first needed; what it offers.
 *
 * Start at ofi_infos() and ofi_devices(). Few functions of libfabric are exported, so it is
 * loaded by dlopen (rdm_library.h).
 *
 * To ask libfabric what there is takes a tenth of a second of CPU time. Every job asks its
 * backends for their devices, so it is spared that where the machine has no fabric but the
 * kernel's sockets, which the tcp backend drives too: what libfabric will find is known
 * without it. It is loaded when such a device is opened, because somebody named this backend.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ofi.h"
#include "rdm_ports.h"

static const struct rdm_symbol symbols[] = {
    { "fi_version", offsetof(struct ofi_library, version) },
    { "fi_getinfo", offsetof(struct ofi_library, getinfo) },
    { "fi_freeinfo", offsetof(struct ofi_library, freeinfo) },
    { "fi_dupinfo", offsetof(struct ofi_library, dupinfo) },
    { "fi_fabric", offsetof(struct ofi_library, fabric) },
    { "fi_strerror", offsetof(struct ofi_library, strerror) },
    { NULL, 0 },
};

/* Its own cache of registrations would watch memory by changing functions of the C library
 * under our hooks. We have one, and say FI_MR_LOCAL where a provider asks. And ofi_rxm has
 * 4096 receive buffers of 16 KiB for each endpoint, and clears them all when it is opened:
 * 64 MiB and 55 ms for each rank. Its queue of completions has room for 256 peers with all
 * that each may have under way; where software makes the port none is so long, but one for
 * 64. Over sockets it sends a message of more than 16 KiB by telling the peer to read it, and
 * those reads may not outlive a lost connection (ofi_test.c). Who has set these keeps them. */
static void library_prepare(void)
{
    char eager[16];

    if (rdm_ports_software(NULL))
        setenv("FI_UNIVERSE_SIZE", "64", 0);
    setenv("FI_MR_CACHE_MONITOR", "disabled", 0);
    setenv("FI_OFI_RXM_MSG_RX_SIZE", "128", 0);
    snprintf(eager, sizeof(eager), "%d", RDM_MESSAGE_MAX);
    setenv("FI_OFI_RXM_EAGER_LIMIT", eager, 0);
}

static struct ofi_library functions;
static struct rdm_library library = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .file = "libfabric.so.1", .name = "libfabric",
    .package = "libfabric1", .symbols = symbols, .functions = &functions,
    .prepare = library_prepare,
};

void ofi_library_use(const char *file)
{
    rdm_library_use(&library, file);
}

const struct ofi_library *ofi_library(char why[PW_NIC_WHY_MAX])
{
    return rdm_library_load(&library, why);
}

/* ---- what it offers ---- */

bool ofi_is_socket(const struct fi_info *info)
{
    return info->domain_attr->name && if_nametoindex(info->domain_attr->name);
}

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

/* What reaches this host only, or is slow and kept for tests, is used when it is named. So
 * is ofi_rxd: an RDMA port has a second domain for it, by another name, and would count as
 * two devices. */
static bool info_wanted(const struct fi_info *info)
{
    static const char *const spare[] = { "shm", "sockets", "udp" };
    const char *provider = info->fabric_attr->prov_name;

    if (!provider || !info->domain_attr->name || info->src_addrlen > OFI_NAME_MAX ||
        info->ep_attr->max_msg_size < RDM_MESSAGE_MAX)
        return false;
    if (getenv("FI_PROVIDER"))
        return true;
    for (size_t i = 0; i < sizeof(spare) / sizeof(*spare); i++)
        if (!strncmp(provider, spare[i], strlen(spare[i])))
            return false;
    return !ends_in(provider, ";ofi_rxd");
}

static bool info_known(const struct fi_info *list, const struct fi_info *info)
{
    for (; list; list = list->next)
        if (!strcmp(list->domain_attr->name, info->domain_attr->name))
            return true;
    return false;
}

/* Only the first that can be used of each domain stays. */
static struct fi_info *infos_choose(const struct ofi_library *lib, struct fi_info *all)
{
    struct fi_info *chosen = NULL, **end = &chosen;

    while (all) {
        struct fi_info *info = all;

        all = info->next;
        info->next = NULL;
        if (info_wanted(info) && !info_known(chosen, info)) {
            *end = info;
            end = &info->next;
        } else {
            lib->freeinfo(info);
        }
    }
    return chosen;
}

static struct fi_info *hints_make(const struct ofi_library *lib)
{
    struct fi_info *hints = lib->dupinfo(NULL);

    if (!hints)
        return NULL;
    hints->caps = FI_MSG | FI_RMA;
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    hints->ep_attr->type = FI_EP_RDM;
    hints->domain_attr->threading = FI_THREAD_DOMAIN;
    hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
    hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED |
                                  FI_MR_PROV_KEY | FI_MR_ENDPOINT;
    return hints;
}

int ofi_infos(const struct ofi_library *lib, struct fi_info **out, char why[PW_NIC_WHY_MAX])
{
    struct fi_info *hints = hints_make(lib);
    const char *named = getenv("FI_PROVIDER");
    int err;

    *out = NULL;
    if (!hints) {
        snprintf(why, PW_NIC_WHY_MAX, "there is no memory for libfabric");
        return -ENOMEM;
    }
    err = lib->getinfo(FI_VERSION(1, 14), NULL, NULL, 0, hints, out);
    lib->freeinfo(hints);
    if (!err)
        *out = infos_choose(lib, *out);
    if (*out)
        return 0;
    snprintf(why, PW_NIC_WHY_MAX, "libfabric has no provider that reaches another host by"
             " messages and reads its memory%s%.60s%s%s", named ? ", of FI_PROVIDER=" : "",
             named ? named : "", err ? ": " : "", err ? lib->strerror(-err) : "");
    return -ENODEV;
}

struct fi_info *ofi_info_named(const struct ofi_library *lib, const struct fi_info *list,
                               const char *name)
{
    for (; list; list = list->next)
        if (!name || !strcmp(list->domain_attr->name, name)) {
            struct fi_info *info = lib->dupinfo(list);

            if (info)
                info->next = NULL;
            return info;
        }
    return NULL;
}

/* ---- devices ---- */

bool ofi_only_sockets(void)
{
    return !rdm_ports_any() && !rdm_ports_in("/sys/class/cxi") &&
           !rdm_ports_in("/sys/class/hfi1") && !getenv("FI_PROVIDER");
}

static int unusable(struct pw_nic_device *out, int max, const char *why)
{
    if (max < 1)
        return 1;
    memset(out, 0, sizeof(*out));
    snprintf(out->name, sizeof(out->name), "libfabric");
    snprintf(out->why, sizeof(out->why), "%s", why);
    return 1;
}

/* A socket is described as any other backend describes it, so that it is seen to be the
 * same. */
static void device_fill(struct pw_nic_device *out, const struct fi_info *info,
                        const struct pw_nic_device *sockets, int n)
{
    const char *name = info->domain_attr->name;

    for (int i = 0; i < n; i++)
        if (!strcmp(sockets[i].name, name)) {
            *out = sockets[i];
            return;
        }
    memset(out, 0, sizeof(*out));
    snprintf(out->name, sizeof(out->name), "%.31s", name);
    out->usable = true;
    if (info->nic && info->nic->link_attr)
        out->bytes_per_s = info->nic->link_attr->speed / 8;
}

int ofi_devices(struct pw_nic_device *out, int max)
{
    enum { SOCKETS = 64 };
    struct pw_nic_device *sockets;
    const struct ofi_library *lib;
    struct fi_info *infos = NULL;
    char why[PW_NIC_WHY_MAX];
    int n = 0, n_sockets;

    if (ofi_only_sockets())
        return pw_iface_devices(out, max);
    lib = ofi_library(why);
    if (!lib || ofi_infos(lib, &infos, why))
        return unusable(out, max, why);
    sockets = calloc(SOCKETS, sizeof(*sockets));
    n_sockets = sockets ? pw_iface_devices(sockets, SOCKETS) : 0;
    if (n_sockets > SOCKETS)
        n_sockets = SOCKETS;
    for (const struct fi_info *info = infos; info; info = info->next, n++)
        if (n < max)
            device_fill(&out[n], info, sockets, n_sockets);
    free(sockets);
    lib->freeinfo(infos);
    return n;
}
