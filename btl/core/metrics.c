/* SPDX-License-Identifier: BSD-3-Clause */
/* metrics.c - everything that an engine counts, by name; and for who looks from
 * outside, on a page of shared memory.
 *
 * The page is written in progress, when there is nothing else to do or now and
 * then: a transfer is not to pay for it. So what a rank did in its last
 * millisecond in MPI may be missing while it computes.
 */
#include "metrics.h"

#include "core.h"
#include "pinwheel/live.h"

enum { PW_LIVE_NS = 1000 * 1000 };      /* between two writes, at least */

#define SENT(field, text) { #field, text, false, offsetof(struct pw_counts, sent.field) }
#define NIC(field, text) { #field, text, false, offsetof(struct pw_counts, nics.field) }
#define NIC_NOW(field, text) { #field, text, true, offsetof(struct pw_counts, nics.field) }
#define RAIL(i, nth) { "rail" #i "_bytes", "Of the bytes sent through a network, those by the " \
                       nth " device", false, offsetof(struct pw_counts, rails[i]) }
#define CACHE(field, text, now) \
    { "cache_" #field, text, now, offsetof(struct pw_counts, cache.field) }
#define GONE(bit, name, text) \
    { "cache_invalidated_" name, "Pinned regions given up because of " text, false, \
      offsetof(struct pw_counts, cache.invalidated[bit]) }

const struct pw_metric pw_metrics[PW_METRICS] = {
    SENT(messages, "Messages sent"),
    SENT(message_bytes, "Bytes of the messages sent"),
    SENT(direct_bytes, "Bytes moved straight between the buffers by a NIC or one copy"),
    SENT(kernel_bytes, "Bytes moved by a system call for each transfer"),
    SENT(push_bytes, "Bytes moved by the other side, into or from our pool"),
    SENT(stream_bytes, "Bytes moved as frames"),
    SENT(atomics_direct, "Atomic operations done on the peer's memory at once"),
    SENT(atomics_frame, "Atomic operations asked for by a frame"),
    SENT(queued, "Messages that waited for room"),
    SENT(rescued, "Transfers that the kernel did, for the other side did not answer"),
    SENT(striped, "Puts and gets spread over several paths"),
    SENT(striped_again, "Pieces of them done again, for their path failed"),
    SENT(doubted, "Times that a path did not answer soon and others were preferred"),
    NIC(attach_bytes, "Of the bytes moved straight, those of memory attached by the driver"),
    NIC(attached, "Regions of peers attached"),
    NIC(attach_evicted, "Attached regions given up to make room for others"),
    NIC(attach_stale, "Attached regions given up, for their owner's memory had changed"),
    NIC(attach_refused, "Regions that could not be shared or attached"),
    NIC(wire_bytes, "Bytes sent through a network"),
    NIC(wire_copied, "Bytes sent or received through a network by way of memory of ours"),
    NIC(reconnects, "Connections to other hosts made anew"),
    NIC_NOW(queue_pairs, "Open connections of RDMA devices, by libibverbs"),
    NIC(rested, "Of them, those closed to make room for others"),
    NIC(strangers, "Connections from elsewhere that were refused"),
    RAIL(0, "first"),
    RAIL(1, "second"),
    RAIL(2, "third"),
    RAIL(3, "fourth"),
    CACHE(hits, "Registrations that found their memory pinned", false),
    CACHE(misses, "Registrations that did not", false),
    CACHE(merges, "Misses that took the place of regions they overlap", false),
    CACHE(evictions, "Idle regions unpinned to make room", false),
    CACHE(retries, "Memory pinned again because its pages changed meanwhile", false),
    CACHE(uncached, "Misses of memory that nobody vouches for", false),
    CACHE(refused, "Registrations refused for lack of room or of peace", false),
    GONE(0, "munmap", "munmap or free"),
    GONE(1, "mremap", "mremap"),
    GONE(2, "map_over", "a mapping put over them"),
    GONE(3, "madvise", "madvise and its kin"),
    GONE(4, "brk", "brk or sbrk"),
    GONE(5, "shmdt", "shmdt or shmat over them"),
    GONE(6, "truncate", "a mapped file cut or punched by this process"),
    GONE(7, "mprotect", "mprotect to no access"),
    GONE(8, "dlclose", "dlclose"),
    GONE(9, "raw", "a system call around the C library"),
    GONE(10, "others", "another process that cut or punched the file"),
    GONE(11, "lost", "lost records"),
    CACHE(regions, "Regions in the registration cache now", true),
    CACHE(pinned_bytes, "Bytes pinned now", true),
    CACHE(pinned_regions, "Regions pinned now", true),
    { "peers_connected", "Peers that there is a connection to now", true,
      offsetof(struct pw_counts, peers_connected) },
};

uint64_t pw_metric_value(const struct pw_counts *counts, int i)
{
    uint64_t value;

    memcpy(&value, (const char *)counts + pw_metrics[i].at, sizeof(value));
    return value;
}

/* ---- the page ---- */

static void live_write(struct pw_engine *e)
{
    uint64_t values[PW_METRICS];
    const struct pw_monitor *m = pw_pinning_monitor(e);
    struct pw_counts counts;

    /* Each time: a monitor may lose sight of something while the program runs. */
    pw_live_tell(e->live, "monitor", m ? m->ops->name : "");
    pw_live_tell(e->live, "unseen", m ? m->note : "");
    pw_engine_counts(e, &counts);
    for (int i = 0; i < PW_METRICS; i++)
        values[i] = pw_metric_value(&counts, i);
    pw_live_update(e->live, values);
}

/* Without one, all else is as it was. */
void pw_live_start(struct pw_engine *e)
{
    const char *names[PW_METRICS];

    for (int i = 0; i < PW_METRICS; i++)
        names[i] = pw_metrics[i].name;
    if (pw_live_open(names, PW_METRICS, &e->live))
        return;
    live_write(e);
}

void pw_live_stop(struct pw_engine *e)
{
    pw_live_close(e->live);
    e->live = NULL;
}

void pw_live_step(struct pw_engine *e, uint64_t now_ns)
{
    if (!e->live || now_ns - e->live_ns < PW_LIVE_NS)
        return;
    e->live_ns = now_ns;
    live_write(e);
}
