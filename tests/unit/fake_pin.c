/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_pin.c - see fake_pin.h. */
#include <errno.h>

#include "fake_pin.h"

static int more(int *n, int by)
{
    return __atomic_add_fetch(n, by, __ATOMIC_RELAXED);
}

static size_t charge(struct fake_pin *p, size_t len)
{
    size_t now = __atomic_add_fetch(&p->bytes, len, __ATOMIC_RELAXED);
    size_t most = __atomic_load_n(&p->most_bytes, __ATOMIC_RELAXED);

    while (now > most && !__atomic_compare_exchange_n(&p->most_bytes, &most, now, false,
                                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
    return now;
}

static int refusal(struct fake_pin *p, size_t len, unsigned access)
{
    if (p->fail_at && !--p->fail_at) {
        p->fail_at = p->fail_times > 0;
        p->fail_times--;
        return p->error;
    }
    if (access & p->refuse_access || (p->refuse_len && len > p->refuse_len))
        return -EFAULT;
    return 0;
}

static int fake_pin(void *ctx, void *addr, size_t len, unsigned access, void *handle)
{
    struct fake_handle *h = handle;
    struct fake_pin *p = ctx;
    int err = refusal(p, len, access);

    (void)addr;
    if (p->meanwhile)
        p->meanwhile(p->meanwhile_arg);
    if (err)
        return err;
    if (charge(p, len) > p->limit && p->limit) {
        __atomic_sub_fetch(&p->bytes, len, __ATOMIC_RELAXED);
        return -ENOMEM;
    }
    h->number = (uint32_t)more(&p->pins, 1);
    __atomic_store_n(&h->state, FAKE_LIVE, __ATOMIC_RELAXED);
    return 0;
}

static void fake_unpin(void *ctx, void *addr, size_t len, void *handle)
{
    struct fake_handle *h = handle;
    struct fake_pin *p = ctx;

    (void)addr;
    if (h->state != FAKE_LIVE)
        more(&p->broken, 1);
    __atomic_store_n(&h->state, FAKE_DEAD, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&p->bytes, len, __ATOMIC_RELAXED);
    more(&p->unpins, 1);
}

static void fake_widen(void *ctx, uintptr_t *start, uintptr_t *end)
{
    struct fake_pin *p = ctx;
    size_t to = p->widen_to;

    if (to) {
        *start -= *start % to;
        *end += (to - *end % to) % to;
    }
}

const struct pw_pin_ops fake_pin_ops = {
    .name = "fake",
    .handle_size = sizeof(struct fake_handle),
    .pin = fake_pin,
    .unpin = fake_unpin,
    .widen = fake_widen,
};
