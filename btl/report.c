/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - what people and Open MPI are told: lines of output, error codes. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/metrics.h"
#include "opal/util/proc.h"
#include "pinwheel.h"

void pw_say(bool once, const char *format, ...)
{
    char line[1024];
    va_list ap;

    if (once && opal_process_info.my_local_rank > 0)
        return;
    va_start(ap, format);
    vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    opal_output(0, "pinwheel: %s", line);
}

void pw_tell(int level, const char *format, ...)
{
    char line[1024];
    va_list ap;

    va_start(ap, format);
    vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    opal_output_verbose(level, opal_btl_base_framework.framework_output, "pinwheel: %s",
                        line);
}

/* ---- registered memory ---- */

/* In the largest unit that leaves a few digits. */
static const char *size_text(size_t bytes, char room[32])
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB" };
    int u = 0;

    for (; bytes >= (size_t)64 << 10 && u < 3; u++)
        bytes >>= 10;
    snprintf(room, 32, "%zu %s", bytes, units[u]);
    return room;
}

static void tell_budget(const struct pw_budget_info *b)
{
    char rank[32], host[32], used[32];

    pw_tell(1, "each rank may have %s pinned in %zu regions, all ranks of this host %s, of "
            "which %s are taken%s%s", size_text(b->rank_bytes, rank), b->rank_regions,
            size_text(b->host_bytes, host), size_text(b->host_used_bytes, used),
            *b->why ? "; " : "", b->why);
}

void pw_tell_memory(struct pw_engine *e)
{
    struct pw_memory_info m;

    if (opal_process_info.my_local_rank > 0)
        return;
    pw_engine_memory(e, &m);
    if (!m.monitor) {
        pw_tell(1, "memory monitor: none, for no NIC in use needs pinned memory");
        return;
    }
    if (m.refused)
        pw_say(true, "btl_pinwheel_monitor=%s is not to be had here (%s); \"%s\" is used "
               "instead: %s", pw_params.monitor, m.why, m.monitor, m.note);
    else
        pw_tell(1, "memory monitor: %s%s%s%s%s", m.monitor, *m.note ? "; " : "", m.note,
                *m.why ? "; passed over: " : "", m.why);
    tell_budget(&m.budget);
}

/* Each network device, and how much of all went by it. */
static void tell_rails(struct pw_engine *e, const struct pw_counts *n)
{
    const struct pw_nic_info *info;
    int rail = 0;

    for (int i = 0; (info = pw_engine_nic(e, i)); i++)
        if (!(info->flags & PW_NIC_SAME_HOST))
            pw_tell(10, "sent %llu bytes by %s", (unsigned long long)n->rails[rail++],
                    info->what);
    if (n->sent.striped)
        pw_tell(10, "%llu puts and gets were spread over several paths; %llu pieces done "
                "again", (unsigned long long)n->sent.striped,
                (unsigned long long)n->sent.striped_again);
}

void pw_tell_counts(struct pw_engine *e)
{
    static bool told;
    struct pw_counts n;
    uint64_t gone = 0;

    if (told)
        return;
    told = true;
    pw_engine_counts(e, &n);
    pw_tell(10,
            "sent %llu messages, %llu waited for room; bytes moved direct %llu, by "
            "the kernel %llu, pushed %llu, streamed %llu",
            (unsigned long long)n.sent.messages, (unsigned long long)n.sent.queued,
            (unsigned long long)n.sent.direct_bytes,
            (unsigned long long)n.sent.kernel_bytes, (unsigned long long)n.sent.push_bytes,
            (unsigned long long)n.sent.stream_bytes);
    tell_rails(e, &n);
    if (!n.cache.hits && !n.cache.misses)
        return;
    for (int i = 0; i < 12; i++)
        gone += n.cache.invalidated[i];
    pw_tell(10, "registrations: %llu found pinned, %llu pinned, %llu of them not to be "
            "remembered; regions merged %llu, evicted %llu, invalidated %llu; refused %llu",
            (unsigned long long)n.cache.hits, (unsigned long long)n.cache.misses,
            (unsigned long long)n.cache.uncached, (unsigned long long)n.cache.merges,
            (unsigned long long)n.cache.evictions, (unsigned long long)gone,
            (unsigned long long)n.cache.refused);
}

void pw_tell_nodes(struct pw_pool *pool)
{
    char list[64];

    if (opal_output_get_verbosity(opal_btl_base_framework.framework_output) < 10)
        return;
    pw_pool_nodes(pool, list, sizeof list);
    if (*list)
        pw_tell(10, "the pool's memory lies on NUMA node %s", list);
}

int pw_opal_error(int err)
{
    switch (err) {
    case 0:            return OPAL_SUCCESS;
    case -EAGAIN:
    case -ENOMEM:      return OPAL_ERR_OUT_OF_RESOURCE;
    case -EOPNOTSUPP:  return OPAL_ERR_NOT_SUPPORTED;
    case -EPIPE:
    case -ECONNRESET:
    case -EHOSTUNREACH: return OPAL_ERR_UNREACH;
    case -EINVAL:
    case -EACCES:
    case -EFAULT:      return OPAL_ERR_BAD_PARAM;
    default:           return OPAL_ERROR;
    }
}
