/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_memory.c - registered memory.
 *
 * The device keeps the pages and writes nothing else: what is registered here ends when the
 * registration cache ends it, or the message that it was for. Peers may read, never write
 * (rdm.h); our own reads write.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "verbs.h"

/* The device's writes may pass each other on their way to memory, where the kernel, the
 * device and the bus agree on that: nobody here looks at memory before its completion has
 * come, and completions pass nothing (PCI Express, table of ordering rules). Kernels that
 * know the flag leave it out where a device has it not; some drivers refuse it. */
static struct ibv_mr *mr_register(struct verbs_nic *nic, void *addr, size_t len, int rights)
{
    struct ibv_mr *mr = NULL;
    bool refused = nic->strict;

    errno = 0;
    if (!refused) {
        mr = nic->lib->reg_mr_iova2(nic->pd, addr, len, (uintptr_t)addr,
                                    (unsigned)rights | IBV_ACCESS_RELAXED_ORDERING);
        refused = !mr && (errno == EINVAL || errno == EOPNOTSUPP);
    }
    if (refused) {
        mr = nic->lib->reg_mr(nic->pd, addr, len, rights);
        nic->strict = nic->strict || mr;
    }
    return mr;
}

int verbs_mr_open(struct rdm_nic *base, const void *addr, size_t len, unsigned access,
                  void **out)
{
    struct verbs_nic *nic = verbs_of(base);
    int rights = (access & PW_READ ? IBV_ACCESS_REMOTE_READ : 0) |
                 (!access || access & PW_WRITE ? IBV_ACCESS_LOCAL_WRITE : 0);
    struct ibv_mr *mr = mr_register(nic, (void *)(uintptr_t)addr, len, rights);

    *out = mr;
    if (mr)
        return 0;
    return errno == ENOMEM || errno == EAGAIN || errno == EFAULT ? -errno : -EIO;
}

void verbs_mr_close(struct rdm_nic *base, void *mr)
{
    verbs_of(base)->lib->dereg_mr(mr);
}

uint64_t verbs_mr_key(void *mr)
{
    return ((struct ibv_mr *)mr)->rkey;
}

static void memory_why(char why[PW_NIC_WHY_MAX], int err, size_t bytes)
{
    struct rlimit limit = { 0 };

    if (err == -ENOMEM && !getrlimit(RLIMIT_MEMLOCK, &limit) &&
        limit.rlim_cur != RLIM_INFINITY)
        snprintf(why, PW_NIC_WHY_MAX, "%zu KiB for its messages cannot be registered; %llu KiB"
                 " of memory may be locked: ulimit -l unlimited, or memlock in"
                 " /etc/security/limits.conf", bytes / 1024,
                 (unsigned long long)limit.rlim_cur / 1024);
    else
        snprintf(why, PW_NIC_WHY_MAX, "%zu KiB for its messages cannot be registered: %s",
                 bytes / 1024, strerror(-err));
}

int verbs_memory_try(struct verbs_nic *nic, char why[PW_NIC_WHY_MAX])
{
    size_t bytes = (size_t)RDM_SLAB * RDM_MESSAGE_MAX;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                        -1, 0);
    void *mr = NULL;
    int err = memory == MAP_FAILED ? -ENOMEM
                                   : verbs_mr_open(&nic->base, memory, bytes, 0, &mr);

    if (mr)
        verbs_mr_close(&nic->base, mr);
    if (memory != MAP_FAILED)
        munmap(memory, bytes);
    if (err)
        memory_why(why, err, bytes);
    return err;
}
