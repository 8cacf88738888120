/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_reach.c - put, get and atomic on a peer of this host.
 *
 * Memory in the peer's pool segment is mapped here: one memcpy, or the CPU's
 * own atomics. So may be other memory that it has exported (shm_attach.c). What is
 * not is one system call away (process_vm_readv(2), process_vm_writev(2)) where the
 * kernel permits it.
 */
#define _GNU_SOURCE
#include <sys/uio.h>

#include "pinwheel/atomic.h"
#include "pinwheel/copy.h"
#include "shm.h"

/* Our address of the peer's [remote, remote + len), NULL when it is not wholly
 * in its segment or that is not mapped yet. */
static char *shm_mapped(struct shm_peer *p, uint64_t remote, size_t len)
{
    uint64_t off;

    if (!__atomic_load_n(&p->heard, __ATOMIC_ACQUIRE))
        return NULL;
    off = remote - p->remote_base;
    if (off >= p->remote_size || len > p->remote_size - off)
        return NULL;
    return p->base + off;
}

/* Both directions; iov lengths are capped by the kernel at 2 GiB a call. */
static int shm_kernel_copy(struct shm_peer *p, char *local, uint64_t remote,
                           size_t len, bool put)
{
    while (len) {
        size_t part = len < ((size_t)1 << 30) ? len : (size_t)1 << 30;
        struct iovec l = { local, part };
        struct iovec r = { (void *)(uintptr_t)remote, part };
        ssize_t n = put ? process_vm_writev(p->pid, &l, 1, &r, 1, 0)
                        : process_vm_readv(p->pid, &l, 1, &r, 1, 0);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return errno == ESRCH ? -EPIPE : errno == EFAULT ? -EFAULT : -EOPNOTSUPP;
        }
        if (!n)
            return -EFAULT;
        local += n;
        remote += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/* Does the kernel let us? Asked once for each peer, by reading one word of its
 * segment: containers and Yama refuse by process. Before its hello nothing is
 * known to be readable there, so the answer waits. */
static bool shm_kernel_works(struct shm_peer *p)
{
    int known = __atomic_load_n(&p->kernel, __ATOMIC_RELAXED);
    uint64_t word;

    if (!known && __atomic_load_n(&p->heard, __ATOMIC_ACQUIRE)) {
        uint64_t at = p->remote_base + (uint64_t)((char *)p->bell - p->base);
        known = p->nic->config.kernel_copy && p->pid > 0 &&
                !shm_kernel_copy(p, (char *)&word, at, sizeof(word), false) ? 1 : -1;
        __atomic_store_n(&p->kernel, known, __ATOMIC_RELAXED);
    }
    return known > 0;
}

enum pw_reach shm_reach(struct pw_nic_peer *peer, uint64_t remote, size_t len,
                        const struct pw_nic_key *key)
{
    struct shm_peer *p = (struct shm_peer *)peer;

    if (shm_mapped(p, remote, len) || shm_attach_wanted(p, remote, len, key))
        return PW_REACH_DIRECT;
    return shm_kernel_works(p) ? PW_REACH_KERNEL : PW_REACH_NONE;
}

/* Memory that is not in the peer's segment. What has turned out not to be attached is
 * no more expected to be: who asks reach() again is told the next best way. */
static int shm_copy_other(struct shm_peer *p, char *local, uint64_t remote, size_t len,
                          const struct pw_nic_key *key, bool put)
{
    struct shm_mapping *m;
    char *at;
    int err = shm_attach_get(p, remote, len, key, put, &at, &m);

    if (!err) {
        if (put)
            pw_copy(at, local, len);
        else
            pw_copy(local, at, len);
        return shm_attach_put(p, m, len) ? 0 : -EOPNOTSUPP;
    }
    if (err != -ENOENT || !shm_kernel_works(p))
        return -EOPNOTSUPP;
    return shm_kernel_copy(p, local, remote, len, put);
}

static int shm_copy(struct shm_peer *p, char *local, uint64_t remote, size_t len,
                    const struct pw_nic_key *key, bool put)
{
    char *mapped = shm_mapped(p, remote, len);

    if (__builtin_expect(__atomic_load_n(&p->down, __ATOMIC_RELAXED), 0))
        return -EPIPE;
    if (__builtin_expect(mapped != NULL, 1)) {
        if (put)
            pw_copy(mapped, local, len);
        else
            pw_copy(local, mapped, len);
        return 0;
    }
    return shm_copy_other(p, local, remote, len, key, put);
}

int shm_put(struct pw_nic_peer *peer, const void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key, void *op)
{
    (void)op;
    return shm_copy((struct shm_peer *)peer, (char *)(uintptr_t)local, remote, len, key,
                    true);
}

int shm_get(struct pw_nic_peer *peer, void *local, uint64_t remote, size_t len,
            const struct pw_nic_key *key, void *op)
{
    (void)op;
    return shm_copy((struct shm_peer *)peer, (char *)local, remote, len, key, false);
}

int shm_atomic(struct pw_nic_peer *peer, const struct pw_atomic *what,
               uint64_t remote, uint64_t *result, const struct pw_nic_key *key,
               void *op)
{
    struct shm_peer *p = (struct shm_peer *)peer;
    size_t width = pw_atomic_width(what->type);
    struct shm_mapping *m;
    char *mapped;
    int err;

    (void)op;
    if (remote % width)
        return -EINVAL;
    if (__atomic_load_n(&p->down, __ATOMIC_RELAXED))
        return -EPIPE;
    mapped = shm_mapped(p, remote, width);
    if (__builtin_expect(mapped != NULL, 1))
        return pw_atomic_apply(what, mapped, result);
    if (shm_attach_get(p, remote, width, key, true, &mapped, &m))
        return -EOPNOTSUPP;
    err = pw_atomic_apply(what, mapped, result);
    return shm_attach_put_once(p, m) ? err : -EOPNOTSUPP;
}
