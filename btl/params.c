/* SPDX-License-Identifier: BSD-3-Clause */
/* params.c - what a user may set, and what is refused.
 *
 * Start at `numbers`: registration, the check of the range and the sentence about
 * it all come from that table; `words` is the like for the others, and what a NIC
 * backend lets be set is in a table of its own. Numbers are registered as text, because
 * Open MPI takes what is no number for 0 and goes on.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>

#include "opal/mca/base/mca_base_var.h"

#include "limits.h"
#include "params.h"
#include "pinwheel.h"
#include "pinwheel/monitor.h"
#include "pinwheel/nic.h"
#include "regcache/number.h"

struct pw_params pw_params = {
    .nics = "",
    .if_include = "",
    .if_exclude = "",
    .pool_pages_name = "auto",
    .monitor = "auto",
    .trust = "full",
    .bulk_name = "auto",
    .want_name = "auto",
    .costs = "auto",
};

struct number {
    const char *name;
    char *text;         /* the default, then what was set */
    size_t *value;
    size_t min, max;
    bool zero;          /* 0 is allowed too */
    bool power_of_two;
    const char *help;
};

static struct number numbers[] = {
    { "pool_size", "0", &pw_params.pool_size, (size_t)16 << 20, (size_t)1 << 40, true,
      false,
      "Bytes of address space of each rank's shared pool, from which MPI_Alloc_mem is "
      "served; memory is taken as it is used. 0: half of the host's memory, shared "
      "among its ranks" },
    { "queue_size", "0", &pw_params.queue_size, 4096, (size_t)64 << 20, true, true,
      "Bytes of the queue from one rank to another of the host, a power of two; a quarter "
      "of it is the largest fragment. 0: twice a core's second cache, 1 to 4 MiB, less "
      "with several peers: 4 MiB for all, as long as that is 128 KiB for each" },
    { "eager_limit", "0", &pw_params.eager_limit, 256, (size_t)1 << 20, true, false,
      "Messages up to this many bytes, headers included, are sent before the receiver "
      "has asked for them. 0: " PW_TEXT(PW_EAGER_LIMIT) ", or "
      PW_TEXT(PW_EAGER_LIMIT_CROWDED) " with more ranks on the host than cores; "
      PW_TEXT(PW_EAGER_LIMIT_FAR) " to ranks on other hosts" },
    { "max_send_size", "32704", &pw_params.max_send_size, 1024, (size_t)1 << 20, false,
      false,
      "Bytes of a fragment of a longer message that is sent in pieces" },
    { "rget_min", "0", &pw_params.rget_min, 1, SIZE_MAX, true, false,
      "Messages of at least this many bytes in memory outside the pool are fetched by the "
      "receiver in one transfer instead of sent in fragments. 0: " PW_TEXT(PW_RGET_MIN)
      ", or " PW_TEXT(PW_RGET_MIN_CROWDED) " with more ranks on the host than cores; "
      PW_TEXT(PW_RGET_MIN_FAR) " to ranks on other hosts" },
    { "chunk", "0", &pw_params.chunk, 1024, (size_t)1 << 20, true, false,
      "Bytes of one piece of such a transfer when it goes through the queue. 0: what "
      "pwbench calibrate found best on this host, else 16384; up to 65536 for long "
      "transfers" },
    { "cma", "1", &pw_params.cma, 0, 1, true, false,
      "1: let the kernel copy between processes (process_vm_readv) where that is the "
      "fastest way; 0: do without" },
    { "attach", "1", &pw_params.attach, 0, 1, true, false,
      "1: where the kernel driver is loaded (/dev/pinwheel), let other ranks of the host map "
      "registered memory outside the pool; 0: do without" },
    { "sleep_us", "1000", &pw_params.sleep_us, 1, 1000000, true, false,
      "Longest sleep, in microseconds, of a rank that has waited in vain for a while; 0: "
      "never sleep" },
    { "peer_timeout", "15", &pw_params.peer_timeout, 1, 86400, false, false,
      "Seconds for which a rank on another host may be out of reach by every path before it "
      "is given up and the job ends" },
    { "calibrate_ms", "50", &pw_params.calibrate_ms, 1, 60000, true, false,
      "Milliseconds that MPI_Finalize may take to measure what moving bytes costs, in the "
      "first job on a host without a file of pwbench calibrate; 0: never" },
    { "pin_bytes", "0", &pw_params.pin_bytes, 4096, (size_t)1 << 50, true, false,
      "Bytes that each rank may have pinned for NICs. 0: three quarters of RLIMIT_MEMLOCK, "
      "or where that does not bind a quarter of the host's memory shared among its ranks" },
    { "pin_regions", "0", &pw_params.pin_regions, 1, (size_t)1 << 24, true, false,
      "Pinned regions that each rank may have. 0: 65536" },
    { "pin_host_bytes", "0", &pw_params.pin_host_bytes, 4096, (size_t)1 << 50, true, false,
      "Bytes that all ranks of a user on one host may have pinned together; the first "
      "rank's word counts. 0: half of the host's memory" },
};
enum { N_NUMBERS = sizeof(numbers) / sizeof(numbers[0]) };

static const struct { const char *name; enum pw_pages pages; } page_kinds[] = {
    { "auto", PW_PAGES_AUTO }, { "kdriver", PW_PAGES_KDRIVER }, { "2m", PW_PAGES_2M },
    { "1g", PW_PAGES_1G }, { "thp", PW_PAGES_THP }, { "4k", PW_PAGES_4K },
};

static const struct { const char *name; enum pw_bulk bulk; } bulks[] = {
    { "auto", PW_BULK_AUTO }, { "stream", PW_BULK_STREAM }, { "kernel", PW_BULK_KERNEL },
};

static const struct { const char *name; enum pw_want want; } wants[] = {
    { "auto", PW_WANT_AUTO }, { "latency", PW_WANT_LATENCY },
    { "bandwidth", PW_WANT_BANDWIDTH },
};

/* Parameters that are words. */
static const struct {
    const char *name;
    int level;
    char **storage;
    const char *help;
} words[] = {
    { "nics", OPAL_INFO_LVL_2, &pw_params.nics,
      "NIC backends to use, comma-separated; empty: all that this machine can run (pwinfo "
      "lists them)" },
    { "if_include", OPAL_INFO_LVL_2, &pw_params.if_include,
      "Network devices to use and no others, comma-separated: names (eth0), addresses, or "
      "addresses as in 10.0.0.0/8. pwinfo lists the devices; empty: all that lead anywhere" },
    { "if_exclude", OPAL_INFO_LVL_2, &pw_params.if_exclude,
      "Network devices not to use, in the same form; wins over if_include" },
    { "want", OPAL_INFO_LVL_4, &pw_params.want_name,
      "What is wanted of several paths to a rank of another host: auto (what is done first, "
      "as was measured), latency (the path with the least, and transfers spread over several "
      "only where that is much sooner), bandwidth (the widest path, and transfers of 32 KiB "
      "and more over all)" },
    { "pool_pages", OPAL_INFO_LVL_4, &pw_params.pool_pages_name,
      "Pages of the pool: auto (the best to be had), kdriver (pinned hugepages of the "
      "driver, /dev/pinwheel), 2m (reserved hugepages), 1g (reserved ones of 1 GiB), thp "
      "(transparent hugepages), 4k" },
    { "monitor", OPAL_INFO_LVL_4, &pw_params.monitor,
      "Who notices that registered memory has changed: auto (the best to be had, as soon as "
      "some NIC needs pinned memory), kdriver (the kernel driver), hooks (interception of the "
      "C library's calls), uffd (userfaultfd), none (nobody: nothing is remembered). pwinfo "
      "tells what each does not see here" },
    { "trust", OPAL_INFO_LVL_4, &pw_params.trust,
      "full: other ranks of this host leave a message alone once it is sent, and it is read "
      "where it lies; copy: they may change shared memory at any moment, so each message is "
      "copied into memory of this rank before anybody looks at it, and memory that could be "
      "taken away is refused; and UCX may not read memory by RDMA. Lengths and places are "
      "checked in both" },
    { "bulk", OPAL_INFO_LVL_5, &pw_params.bulk_name,
      "How a message of rget_min bytes and more travels between buffers outside the pool: "
      "auto (what turns out to be faster), stream (through the queue, both ranks copy), "
      "kernel (one copy by process_vm_readv)" },
    { "costs", OPAL_INFO_LVL_5, &pw_params.costs,
      "What moving bytes costs here, where the choices begin: auto (what pwbench calibrate "
      "found on this host, else the built-in ones), default (the built-in ones), or the "
      "file that pwbench calibrate --output wrote. pwinfo --costs prints them" },
};
enum { N_WORDS = sizeof(words) / sizeof(words[0]) };

/* What NIC backends let be set. */
enum { SETTINGS_MOST = 16 };
static struct setting {
    const struct pw_nic_ops *ops;
    const struct pw_nic_setting *it;
    char name[48];
    char *text;
} settings[SETTINGS_MOST];
static int n_settings;

static void settings_add(const struct pw_nic_ops *ops)
{
    const struct pw_nic_setting *it = ops->settings;

    for (; it && it->name && n_settings < SETTINGS_MOST; it++) {
        struct setting *s = &settings[n_settings++];

        *s = (struct setting){ .ops = ops, .it = it, .text = (char *)(uintptr_t)it->initial };
        snprintf(s->name, sizeof(s->name), "%s_%s", ops->name, it->name);
    }
}

static void settings_list(void)
{
    n_settings = 0;
    for (int i = 0; pw_nic_backends[i]; i++)
        settings_add(pw_nic_backends[i]);
}

static int register_one(const char *name, const char *help, int level, char **storage)
{
    int rc = mca_base_component_var_register(&mca_btl_pinwheel_component.btl_version, name,
                                             help, MCA_BASE_VAR_TYPE_STRING, NULL, 0, 0,
                                             level, MCA_BASE_VAR_SCOPE_READONLY, storage);
    return rc < 0 ? rc : 0;
}

int pw_params_register(void)
{
    int rc = 0;

    settings_list();
    for (int i = 0; i < N_NUMBERS && !rc; i++)
        rc = register_one(numbers[i].name, numbers[i].help, OPAL_INFO_LVL_5,
                          &numbers[i].text);
    for (int i = 0; i < N_WORDS && !rc; i++)
        rc = register_one(words[i].name, words[i].help, words[i].level, words[i].storage);
    for (int i = 0; i < n_settings && !rc; i++)
        rc = register_one(settings[i].name, settings[i].it->help, OPAL_INFO_LVL_6,
                          &settings[i].text);
    return rc;
}

static bool number_allowed(const struct number *p, size_t v)
{
    if (!v && p->zero)
        return true;
    return v >= p->min && v <= p->max && (!p->power_of_two || !(v & (v - 1)));
}

static int number_check(const struct number *p, char *why, size_t room)
{
    size_t v;

    if (!pw_number_parse(p->text, &v) && number_allowed(p, v)) {
        *p->value = v;
        return 0;
    }
    snprintf(why, room, "btl_pinwheel_%s=%s: must be %s%s from %zu to %zu (k, m and g may "
             "follow); leave it out for the default", p->name, p->text ? p->text : "",
             p->zero && p->min ? "0, or " : "",
             p->power_of_two ? "a power of two" : "a number", p->min, p->max);
    return -EINVAL;
}

static int pages_check(struct pw_params *p, char *why, size_t room)
{
    for (size_t i = 0; i < sizeof(page_kinds) / sizeof(page_kinds[0]); i++)
        if (p->pool_pages_name && !strcmp(p->pool_pages_name, page_kinds[i].name)) {
            p->pool_pages = page_kinds[i].pages;
            return 0;
        }
    snprintf(why, room, "btl_pinwheel_pool_pages=%s: must be auto, kdriver, 2m, 1g, thp or 4k; "
             "leave it out for auto", p->pool_pages_name ? p->pool_pages_name : "");
    return -EINVAL;
}

static int bulk_check(struct pw_params *p, char *why, size_t room)
{
    for (size_t i = 0; i < sizeof(bulks) / sizeof(bulks[0]); i++)
        if (p->bulk_name && !strcmp(p->bulk_name, bulks[i].name)) {
            p->bulk = bulks[i].bulk;
            return 0;
        }
    snprintf(why, room, "btl_pinwheel_bulk=%s: must be auto, stream or kernel; leave it "
             "out for auto", p->bulk_name ? p->bulk_name : "");
    return -EINVAL;
}

static int want_check(struct pw_params *p, char *why, size_t room)
{
    for (size_t i = 0; i < sizeof(wants) / sizeof(wants[0]); i++)
        if (p->want_name && !strcmp(p->want_name, wants[i].name)) {
            p->want = wants[i].want;
            return 0;
        }
    snprintf(why, room, "btl_pinwheel_want=%s: must be auto, latency or bandwidth; leave it "
             "out for auto", p->want_name ? p->want_name : "");
    return -EINVAL;
}

static int monitor_check(const struct pw_params *p, char *why, size_t room)
{
    size_t at;
    int n;

    if (p->monitor && !strcmp(p->monitor, "auto"))
        return 0;
    for (n = 0; pw_monitors[n]; n++)
        if (p->monitor && !strcmp(p->monitor, pw_monitors[n]->name))
            return 0;
    at = (size_t)snprintf(why, room, "btl_pinwheel_monitor=%s: must be auto",
                          p->monitor ? p->monitor : "");
    for (int i = 0; i < n && at < room; i++)
        at += (size_t)snprintf(why + at, room - at, "%s%s", i < n - 1 ? ", " : " or ",
                               pw_monitors[i]->name);
    if (at < room)
        snprintf(why + at, room - at, "; leave it out for auto");
    return -EINVAL;
}

static int trust_check(struct pw_params *p, char *why, size_t room)
{
    bool copy = p->trust && !strcmp(p->trust, "copy");

    if (copy || (p->trust && !strcmp(p->trust, "full"))) {
        p->distrust = copy;
        return 0;
    }
    snprintf(why, room,
             "btl_pinwheel_trust=%s: must be full or copy; leave it out for full",
             p->trust ? p->trust : "");
    return -EINVAL;
}

static int costs_check(const struct pw_params *p, char *why, size_t room)
{
    if (p->costs && *p->costs)
        return 0;
    snprintf(why, room,
             "btl_pinwheel_costs=: must be auto, default or a file; leave it out "
             "for auto");
    return -EINVAL;
}

static int setting_check(const struct setting *s, char *why, size_t room)
{
    char said[PW_NIC_WHY_MAX];
    int err = s->ops->set(s->it, s->text, said);

    if (err)
        snprintf(why, room, "%s", said);
    return err;
}

int pw_params_check(char *why, size_t room)
{
    int err = 0;

    for (int i = 0; i < N_NUMBERS && !err; i++)
        err = number_check(&numbers[i], why, room);
    if (!err)
        err = pages_check(&pw_params, why, room);
    if (!err)
        err = trust_check(&pw_params, why, room);
    if (!err)
        err = bulk_check(&pw_params, why, room);
    if (!err)
        err = want_check(&pw_params, why, room);
    if (!err)
        err = costs_check(&pw_params, why, room);
    for (int i = 0; i < n_settings && !err; i++)
        err = setting_check(&settings[i], why, room);
    return err ? err : monitor_check(&pw_params, why, room);
}
