/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi.h - the backend over libfabric's own part of rdm.h; nobody else includes this.
 *
 *     ofi.c          the table; what these files do for rdm's
 *     ofi_library.c  libfabric, loaded when it is first needed; what it offers
 *     ofi_port.c     one endpoint of libfabric, with its queue and its addresses
 *     ofi_test.c     does the endpoint do what its provider says?
 */
#ifndef PW_OFI_H
#define PW_OFI_H

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include "rdm.h"

enum { OFI_NAME_MAX = 64 };         /* bytes of an address of a provider's */

/* ---- libfabric ---- */

/* What is exported by name; the rest of its interface are calls through what these give. */
struct ofi_library {
    uint32_t (*version)(void);
    int (*getinfo)(uint32_t version, const char *node, const char *service, uint64_t flags,
                   const struct fi_info *hints, struct fi_info **out);
    void (*freeinfo)(struct fi_info *info);
    struct fi_info *(*dupinfo)(const struct fi_info *info);
    int (*fabric)(struct fi_fabric_attr *attr, struct fid_fabric **out, void *context);
    const char *(*strerror)(int err);
};

/* NULL and a sentence when it cannot be loaded. Any thread; it stays loaded. */
const struct ofi_library *ofi_library(char why[PW_NIC_WHY_MAX]);

/* For tests: load that file instead, from the next ofi_library() on. */
void ofi_library_use(const char *file);

/* All that can be used, best first, one for each domain; give back by freeinfo.
 * 0, or -ENODEV and a sentence. */
int ofi_infos(const struct ofi_library *lib, struct fi_info **out, char why[PW_NIC_WHY_MAX]);

/* The one of that name (NULL: the first), as a copy; NULL: there is none. */
struct fi_info *ofi_info_named(const struct ofi_library *lib, const struct fi_info *list,
                               const char *name);

/* Is its domain one of the kernel's network interfaces? */
bool ofi_is_socket(const struct fi_info *info);

/* Nothing here but the kernel's interfaces, and nobody named a provider (FI_PROVIDER). */
bool ofi_only_sockets(void);

int ofi_devices(struct pw_nic_device *out, int max);

/* ---- one endpoint ---- */

struct ofi_nic {
    struct rdm_nic base;
    const struct ofi_library *lib;
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    /* The port: closed and opened anew by a reset, while the domain and what is registered
     * stay. */
    struct fid_av *av;
    struct fid_cq *cq;
    struct fid_ep *ep;
    int wait_fd;                    /* -1: this provider has none */
};

static inline struct ofi_nic *ofi_of(struct rdm_nic *nic)
{
    return (struct ofi_nic *)nic;
}

/* Does libfabric want memory registered, addressed or keyed in that way? */
static inline bool ofi_mr(const struct ofi_nic *nic, int mode)
{
    return nic->info->domain_attr->mr_mode & mode;
}

static inline void *ofi_desc(void *mr)
{
    return mr ? fi_mr_desc(mr) : NULL;
}

/* ---- ofi_port.c ---- */

int ofi_domain_open(struct ofi_nic *nic);
void ofi_domain_close(struct rdm_nic *nic);

/* name: at that address (a reset); NULL: at one that the provider chooses. The address is
 * noted down. 0 or -errno. */
int ofi_port_open(struct ofi_nic *nic, const void *name, size_t name_len);
void ofi_port_close(struct rdm_nic *nic);

/* Register memory; the provider's key if it chooses, else a random one; rights as
 * libfabric's. 0 or -errno. */
int ofi_register(struct ofi_nic *nic, const void *addr, size_t len, uint64_t rights,
                 struct fid_mr **out);

/* ---- ofi_test.c ---- */

int ofi_test(struct rdm_nic *nic, char why[PW_NIC_WHY_MAX]);

#endif
