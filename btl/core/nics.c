/* SPDX-License-Identifier: BSD-3-Clause */
/* nics.c - the NICs of an engine: which are opened, and which progress asks each time. */
#include <stdio.h>
#include <stdlib.h>

#include "core.h"
#include "guard.h"
#include "select.h"

enum { PW_SILENCE_MS = 1500, PW_SILENCE_ALONE_MS = 5000 };

/* Where there may be another way, new work goes that when a peer does not acknowledge. */
enum { PW_DOUBT_MS = 200 };

/* ---- in use ---- */

static bool nic_active(const struct pw_engine *e, int i)
{
    return e->uses[i] || e->nics[i]->info.flags & PW_NIC_SAME_HOST;
}

static void nics_reckon(struct pw_engine *e)
{
    e->n_active = 0;
    for (int i = 0; i < e->n_nics; i++)
        if (nic_active(e, i))
            e->active[e->n_active++] = e->nics[i];
}

void pw_nic_used(struct pw_engine *e, const struct pw_nic *nic, unsigned n)
{
    for (int i = 0; i < e->n_nics; i++)
        if (e->nics[i] == nic)
            e->uses[i] += n;
    nics_reckon(e);
}

int pw_engine_look_around(struct pw_engine *e)
{
    int n = 0;

    for (int i = 0; e->n_active < e->n_nics && i < e->n_nics; i++)
        if (!nic_active(e, i))
            n += e->nics[i]->ops->progress(e->nics[i]);
    return n;
}

/* ---- opening ---- */

/* One after the other behind `why`, at *at. */
static void why_add(char why[PW_NIC_WHY_MAX], int *at, const struct pw_candidate *c,
                    const char *reason)
{
    if (*at < PW_NIC_WHY_MAX)
        *at += snprintf(why + *at, (size_t)(PW_NIC_WHY_MAX - *at), "%s%s%s%s: %s",
                        *at ? "; " : "", c->ops->name, c->has_device ? " " : "",
                        c->has_device ? c->device.name : "", reason);
}

/* said: for its sentence, if that fails. */
static int nic_open(struct pw_engine *e, const struct pw_candidate *c,
                    char said[PW_NIC_WHY_MAX])
{
    struct pw_nic_device *device = &e->devices[e->n_nics];
    struct pw_nic_config nc = {
        .pool = e->config.pool, .up = &pw_engine_nic_upcalls, .ctx = e,
        .job = e->config.job, .threads = e->config.threads,
        .local_peers = e->config.local_peers, .queue_bytes = e->config.queue_bytes,
        .past_extra_ns = (uint32_t)e->config.costs.past_extra,
        .kernel_copy = e->config.kernel_copy, .attach = e->config.attach,
        .distrust = e->config.distrust, .device = c->has_device ? device : NULL,
        .peer_timeout_ms = e->nic_timeout_ms,
        .doubt_ms = e->doubt_ms, .why = said,
    };
    int err;

    *device = c->device;
    said[0] = '\0';
    err = c->ops->open(&nc, &e->nics[e->n_nics]);
    if (!err)
        e->n_nics++;
    else if (!*said)
        snprintf(said, PW_NIC_WHY_MAX, "%s", strerror(-err));
    return err;
}

/* How long a NIC waits for a word of a peer before it takes the path for broken. The peer
 * is given up later than that, if it does not return; where there is another path, that one
 * takes over, so the first is left soon. */
static unsigned nic_timeout_ms(const struct pw_engine *e, bool several)
{
    unsigned all = e->config.peer_timeout_ms;
    unsigned ms = several ? PW_SILENCE_MS : PW_SILENCE_ALONE_MS;

    return ms < all / 3 ? ms : all / 3 ? all / 3 : 1;
}

static bool several_devices(const struct pw_candidate *c, int n)
{
    int devices = 0;

    for (int i = 0; i < n; i++)
        devices += c[i].chosen && c[i].has_device;
    return devices > 1;
}

/* Candidates of one backend follow each other. */
static bool backend_usable(const struct pw_candidate *c, const struct pw_candidate *end)
{
    const struct pw_nic_ops *ops = c->ops;

    for (; c < end && c->ops == ops; c++)
        if (c->device.usable)
            return true;
    return false;
}

static void left_out_note(struct pw_engine *e, const struct pw_candidate *c, int n)
{
    int at = 0;

    for (int i = 0; i < n; i++)
        if ((!i || c[i].ops != c[i - 1].ops) && !backend_usable(&c[i], c + n))
            why_add(e->left_out, &at, &c[i], c[i].why);
}

/* The largest message that fits every NIC's frame, with what a guard adds. */
static size_t frame_max_of(const struct pw_engine *e)
{
    size_t max = SIZE_MAX;

    for (int i = 0; i < e->n_nics; i++) {
        const struct pw_nic_info *info = &e->nics[i]->info;
        bool bare = info->flags & PW_NIC_LOSSLESS && e->n_nics == 1;
        size_t here = info->frame_max - (bare ? 0 : sizeof(struct pw_guard_tail));

        max = here < max ? here : max;
    }
    return max;
}

int pw_nics_open(struct pw_engine *e, char why[PW_NIC_WHY_MAX])
{
    struct pw_wish wish = { e->config.nics, e->config.if_include, e->config.if_exclude };
    int n, at = 0, err = pw_wish_check(&wish, e->config.backends, why);
    char said[PW_NIC_WHY_MAX];
    struct pw_candidate *c;

    if (err)
        return err;
    c = calloc(PW_CANDIDATES, sizeof(*c));
    if (!c)
        return -ENOMEM;
    n = pw_candidates(e->config.backends, e->config.nics, c, PW_CANDIDATES);
    pw_select(&wish, c, n, PW_KEY_NICS);
    left_out_note(e, c, n);
    e->nic_timeout_ms = nic_timeout_ms(e, several_devices(c, n));
    e->doubt_ms = several_devices(c, n) ? PW_DOUBT_MS : 0;
    why[0] = '\0';
    for (int i = 0; i < n; i++)
        if (c[i].chosen && nic_open(e, &c[i], said))
            why_add(why, &at, &c[i], said);
    for (int i = 0; !e->n_nics && i < n; i++)
        if (!c[i].chosen)
            why_add(why, &at, &c[i], c[i].why);
    free(c);
    e->frame_max = frame_max_of(e);
    nics_reckon(e);
    return e->n_nics ? 0 : -ENODEV;
}
