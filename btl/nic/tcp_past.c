/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_past.c - calls that were heard before, so that who has only listened to one and says
 * the same is not taken for a peer.
 *
 * Whose hello it is says the secret in its address, which is drawn for each NIC. A process
 * numbers its calls; here is kept the number of the last one of each that has ever called.
 * All of it is under nic->lock.
 */
#include <stdlib.h>

#include "tcp.h"

/* Of one process: that it has called, and its last call. */
struct tcp_caller {
    uint8_t secret[TCP_SECRET];
    uint64_t session;
};

static struct tcp_caller *caller_find(const struct tcp_past *past, const uint8_t *secret)
{
    for (size_t i = 0; i < past->n; i++)
        if (!memcmp(past->callers[i].secret, secret, TCP_SECRET))
            return &past->callers[i];
    return NULL;
}

static struct tcp_caller *caller_add(struct tcp_past *past, const uint8_t *secret)
{
    size_t room = past->n ? 2 * past->n : 16;
    struct tcp_caller *c = past->callers;

    if (past->n < 16 ? !past->n : !(past->n & (past->n - 1)))
        c = realloc(c, room * sizeof(*c));
    if (!c)
        return NULL;
    past->callers = c;
    c = &c[past->n++];
    memcpy(c->secret, secret, TCP_SECRET);
    return c;
}

int tcp_past_note(struct tcp_past *past, const struct tcp_hello *h)
{
    struct tcp_caller *c = caller_find(past, h->from.secret);

    if (c && h->session <= c->session)
        return -EEXIST;
    if (!c)
        c = caller_add(past, h->from.secret);
    if (!c)
        return -ENOMEM;
    c->session = h->session;
    return 0;
}

void tcp_past_close(struct tcp_past *past)
{
    free(past->callers);
    *past = (struct tcp_past){ .n = 0 };
}
