/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo.h - what pwinfo finds out about a machine.
 *
 * pwinfo.c          the command line
 * pwinfo_facts.c    gathers: reads /proc and /sys, asks libpinwheel
 * pwinfo_probe.c    gathers: tries what can only be known by trying
 * pwinfo_devices.c  gathers: NIC backends, libraries, RDMA devices
 * pwinfo_ifaces.c   gathers: network interfaces, and which of them a job would use
 * pwinfo_cache.c    gathers: monitors of the registration cache, pinning limits
 * pwinfo_text.c     prints for people
 * pwinfo_json.c     prints for programs
 * pwinfo_live.c     the counters of a process that runs
 * pwinfo_costs.c    what moving bytes costs on this host
 * pwinfo_hosts.c    names of hosts, from a host file or the command line
 * pwinfo_peers.c    gathers: how each of them would be reached; pwinfo_peers.h
 * pwinfo_peers_print.c  prints that
 *
 * Gathering prints nothing and printing gathers nothing, so both prints tell the
 * same. What the machine does not tell is "unknown": an empty string, or -1.
 */
#ifndef PWINFO_H
#define PWINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "pinwheel/budget.h"
#include "pinwheel/monitor.h"
#include "pinwheel/nic.h"
#include "pinwheel/pool.h"
#include "btl/core/select.h"
#include "btl/nic/ifaces.h"

enum {
    PW_WHY = 320, PW_NAME = 64, PW_PATH = 256,
    PW_NICS_MAX = 16, PW_LIBRARIES = 3, PW_DEVICES_MAX = 64, PW_MONITORS_MAX = 8,
};

/* Does something work here? If not, why says what is the matter and what would
 * mend it. If so, why may hold a remark. */
struct pw_verdict {
    bool ok;
    char why[PW_WHY];
};

struct pw_fact_hugepages {
    long long total, free, reserved;    /* pages; -1 unknown */
};

struct pw_fact_nic {
    const char *name;
    struct pw_verdict usable;
    struct pw_nic_info info;    /* when usable */
};

struct pw_fact_monitor {
    const char *name, *what;
    struct pw_verdict works;
    unsigned sees;              /* when it works: enum pw_event */
    char note[256];
};

struct pw_fact_library {
    const char *name;
    const char *built;          /* version seen by configure, "" when not found */
    char running[PW_NAME];      /* version found now */
    struct pw_verdict loads;
};

struct pw_fact_rdma {
    char name[PW_NAME], state[PW_NAME], rate[PW_NAME], layer[PW_NAME];
    int port;
};

struct pw_fact_interface {
    struct pw_iface it;
    struct pw_verdict used;     /* why: not used */
    char by[PW_NAME];           /* the backends that use it, "tcp, ofi" */
};

struct pw_facts {
    char kernel[PW_NAME], machine[PW_NAME];
    int cpus, cores, numa_nodes;        /* numa_nodes: -1 unknown */
    long long memory;                   /* bytes; -1 unknown */

    int pool_error;                     /* 0, else pool is not filled */
    struct pw_pool_info pool;
    char pool_nodes[PW_NAME];           /* "0,1"; "" unknown, or there is one */
    struct pw_fact_hugepages huge_2m, huge_1g;
    char thp[PW_NAME], thp_shmem[PW_NAME];
    long long memlock;                  /* bytes; -1 without limit, -2 unknown */
    char memlock_why[PW_WHY];           /* when it is low */

    struct pw_verdict cma, memfd, membarrier, dev_shm, driver;
    int yama;                           /* ptrace_scope, -1 when not there */
    long long dev_shm_free;             /* bytes; -1 unknown */

    char monitor[PW_NAME];              /* what "auto" takes, "" unknown */
    char monitor_why[512];              /* why not the better ones */
    int n_monitors;
    struct pw_fact_monitor monitors[PW_MONITORS_MAX];
    int budget_error;                   /* 0, else budget is not filled */
    struct pw_budget_info budget;       /* of one process alone */

    int n_nics;
    struct pw_fact_nic nics[PW_NICS_MAX];
    struct pw_fact_library libraries[PW_LIBRARIES];
    int n_rdma;
    struct pw_fact_rdma rdma[PW_DEVICES_MAX];
    const char *nics_wish, *if_include, *if_exclude;    /* as a job has them; "" */
    int n_candidates;                   /* what backends could drive */
    struct pw_candidate candidates[PW_CANDIDATES];
    int interfaces_error;               /* 0, else there are none */
    int all_interfaces, n_interfaces;   /* all there are; those below */
    struct pw_fact_interface interfaces[PW_DEVICES_MAX];
};

/* What a job would have been told by its parameters: include and exclude, or where they are
 * NULL the environment. To be called first. 0, or -EINVAL and a sentence. */
int pw_facts_wish(struct pw_facts *f, const char *include, const char *exclude,
                  char why[PW_NIC_WHY_MAX]);

/* Cannot fail: what cannot be found out is unknown. */
void pw_facts_gather(struct pw_facts *f);

/* Its parts. */
void pw_facts_probe(struct pw_facts *f);
void pw_facts_cache(struct pw_facts *f);
void pw_facts_devices(struct pw_facts *f);
void pw_facts_interfaces(struct pw_facts *f);

/* The i-th event that a monitor does not see, or NULL. */
const char *pw_fact_unseen(const struct pw_fact_monitor *m, int i);

void pw_facts_print_text(const struct pw_facts *f, FILE *to);
void pw_facts_print_json(const struct pw_facts *f, FILE *to);

/* Parts of them that are printed elsewhere, too. */
struct pw_json;
void pw_text_label(FILE *to, const char *label);
void pw_text_reason(FILE *to, const char *why);     /* below a label's value; "": nothing */
void pw_text_interfaces(const struct pw_facts *f, FILE *to);
void pw_json_interfaces(struct pw_json *j, const struct pw_facts *f);

/* 0, or 1 when there are none: then it has said why on stderr. */
int pw_live_print(int pid, bool json, FILE *to);

/* What moving bytes costs, from that file; NULL: from this host's, or the built-in
 * ones. 0, or 1 when the file is of no use: then it has said why on stderr. */
int pw_costs_print(const char *path, bool json, FILE *to);

/* ---- what gathering needs ---- */

/* First line of a file without its end. False, and out empty, when it cannot be
 * read. Longer lines are cut. */
bool pw_read_line(const char *path, char *out, size_t room);

/* The number in a file, or -1. */
long long pw_read_number(const char *path);

__attribute__((format(printf, 2, 3)))
void pw_verdict_no(struct pw_verdict *v, const char *format, ...);
void pw_verdict_yes(struct pw_verdict *v, const char *remark);

/* Run probe in a child process, which may crash or print without harm, and give
 * back the text it filled in (at most room - 1 bytes) and what it returned. -EIO
 * when the child did not live to tell. */
int pw_in_child(int (*probe)(const void *arg, char *text, size_t room), const void *arg,
                char *text, size_t room);

#endif
