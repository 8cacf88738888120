/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo_text.c - the facts for people: a line each, reasons below. */
#include <inttypes.h>
#include <string.h>

#include "pwinfo.h"

enum { LABEL = 22, WIDTH = 80 };

static void label(FILE *to, const char *text)
{
    fprintf(to, "  %-*s", LABEL, text);
}

void pw_text_label(FILE *to, const char *text)
{
    label(to, text);
}

/* Broken between words to fit a terminal, below the value it explains. */
static void reason(FILE *to, const char *why)
{
    int column = 0;

    while (*(why += strspn(why, " \n")) != '\0') {
        int len = (int)strcspn(why, " \n");

        if (column && column + 1 + len > WIDTH) {
            fputc('\n', to);
            column = 0;
        }
        if (column)
            column += fprintf(to, " %.*s", len, why);
        else
            column = fprintf(to, "  %-*s%.*s", LABEL, "", len, why);
        why += len;
    }
    if (column)
        fputc('\n', to);
}

void pw_text_reason(FILE *to, const char *why)
{
    reason(to, why);
}

static void verdict(FILE *to, const char *what, const struct pw_verdict *v,
                    const char *yes, const char *no)
{
    label(to, what);
    fprintf(to, "%s\n", v->ok ? yes : no);
    reason(to, v->why);
}

/* Exact where a unit divides it, else one decimal. */
static void bytes(FILE *to, long long n)
{
    static const char *const unit[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
    double value = (double)n;
    int u = 0;

    while (value >= 1024 && u < 4) {
        value /= 1024;
        u++;
    }
    fprintf(to, value == (double)(long long)value ? "%.0f %s" : "%.1f %s", value, unit[u]);
}

static void print_host(const struct pw_facts *f, FILE *to)
{
    fputs("Host\n", to);
    label(to, "kernel");
    fprintf(to, "Linux %s %s\n", f->kernel, f->machine);
    label(to, "cores");
    fprintf(to, "%d", f->cores);
    if (f->cpus != f->cores)
        fprintf(to, " (%d hardware threads)", f->cpus);
    fputc('\n', to);
    label(to, "NUMA nodes");
    if (f->numa_nodes < 0)
        fputs("unknown\n", to);
    else
        fprintf(to, "%d\n", f->numa_nodes);
    label(to, "memory");
    if (f->memory < 0)
        fputs("unknown", to);
    else
        bytes(to, f->memory);
    fputc('\n', to);
}

static void print_hugepages(FILE *to, const char *what, const struct pw_fact_hugepages *h)
{
    label(to, what);
    if (h->total < 0)
        fputs("not offered by this kernel\n", to);
    else if (h->total == 0)
        fputs("none reserved\n", to);
    else
        fprintf(to, "%lld reserved, %lld free, %lld of these promised\n", h->total, h->free,
                h->reserved);
}

static void print_memory(const struct pw_facts *f, FILE *to)
{
    fputs("\nMemory\n", to);
    label(to, "pool");
    if (f->pool_error) {
        fprintf(to, "cannot be made: %s\n", strerror(-f->pool_error));
    } else {
        fprintf(to, "%s%s%s\n", pw_pages_name(f->pool.pages),
                f->pool_nodes[0] ? ", on NUMA node " : "", f->pool_nodes);
        reason(to, f->pool.why);
    }
    print_hugepages(to, "2 MiB hugepages", &f->huge_2m);
    print_hugepages(to, "1 GiB hugepages", &f->huge_1g);
    label(to, "transparent hugepages");
    fprintf(to, "%s, for shared memory %s\n", f->thp[0] ? f->thp : "unknown",
            f->thp_shmem[0] ? f->thp_shmem : "unknown");
    label(to, "memlock limit");
    if (f->memlock == -1)
        fputs("none", to);
    else if (f->memlock < 0)
        fputs("unknown", to);
    else
        bytes(to, f->memlock);
    fputc('\n', to);
    reason(to, f->memlock_why);
}

static void print_probes(const struct pw_facts *f, FILE *to)
{
    fputs("\nWithin this host\n", to);
    verdict(to, "cross-memory attach", &f->cma, "works", "does not work");
    if (f->yama >= 0) {
        label(to, "yama ptrace_scope");
        fprintf(to, "%d\n", f->yama);
    }
    verdict(to, "memfd", &f->memfd, "works", "does not work");
    verdict(to, "membarrier", &f->membarrier, "global expedited", "not global expedited");
    label(to, "/dev/shm free");
    if (f->dev_shm_free < 0)
        fputs("unknown", to);
    else
        bytes(to, f->dev_shm_free);
    fputc('\n', to);
    reason(to, f->dev_shm.why);
    verdict(to, "/dev/pinwheel", &f->driver, "present", "not used");
}

static void print_unseen(const struct pw_fact_monitor *m, FILE *to)
{
    char line[512] = "does not see";
    const char *event;

    for (int i = 0; (event = pw_fact_unseen(m, i)) != NULL; i++) {
        size_t at = strlen(line);
        snprintf(line + at, sizeof line - at, "%s %s", i ? "," : "", event);
    }
    reason(to, pw_fact_unseen(m, 0) ? line : "sees everything");
    reason(to, m->note);
}

static void print_cache(const struct pw_facts *f, FILE *to)
{
    const struct pw_budget_info *b = &f->budget;

    fputs("\nRegistration cache\n", to);
    label(to, "monitor");
    fprintf(to, "%s, once a NIC needs pinned memory\n",
            f->monitor[0] ? f->monitor : "unknown");
    if (!f->monitor[0])         /* else each of the better ones tells below */
        reason(to, f->monitor_why);
    for (int i = 0; i < f->n_monitors; i++) {
        const struct pw_fact_monitor *m = &f->monitors[i];

        label(to, m->name);
        fprintf(to, "%s\n", m->works.ok ? "works" : "does not work");
        reason(to, m->what);
        if (m->works.ok)
            print_unseen(m, to);
        else
            reason(to, m->works.why);
    }
    label(to, "pinned at most");
    if (f->budget_error) {
        fprintf(to, "unknown: %s\n", strerror(-f->budget_error));
        return;
    }
    bytes(to, (long long)b->rank_bytes);
    fprintf(to, " in %zu regions, by a process alone on its host\n", b->rank_regions);
    label(to, "");
    bytes(to, (long long)b->host_bytes);
    fputs(" by all of this user\n", to);
    reason(to, b->why);
    label(to, "pinned now");
    bytes(to, (long long)b->host_used_bytes);
    fprintf(to, " by %u process%s\n", b->processes, b->processes == 1 ? "" : "es");
}

static bool is_interface(const struct pw_facts *f, const char *name)
{
    for (int i = 0; i < f->n_interfaces; i++)
        if (!strcmp(f->interfaces[i].it.name, name))
            return true;
    return false;
}

/* Why not the others is told with the interfaces; of devices that are none, here. */
static void print_backend_devices(const struct pw_facts *f, const char *backend, FILE *to)
{
    char line[PW_CANDIDATES * sizeof f->candidates[0].device.name + 8] = "";

    for (int i = 0; i < f->n_candidates; i++) {
        const struct pw_candidate *c = &f->candidates[i];

        if (!c->has_device || strcmp(c->ops->name, backend) || !c->chosen)
            continue;
        strcat(line, line[0] ? ", " : "uses ");
        strcat(line, c->device.name);
    }
    reason(to, line);
    for (int i = 0; i < f->n_candidates; i++) {
        const struct pw_candidate *c = &f->candidates[i];
        char why[PW_NIC_WHY_MAX + 64];

        if (!c->has_device || strcmp(c->ops->name, backend) || c->chosen ||
            is_interface(f, c->device.name))
            continue;
        snprintf(why, sizeof why, "not %s: %s", c->device.name, c->why);
        reason(to, why);
    }
}

static void print_nics(const struct pw_facts *f, FILE *to)
{
    fputs("\nNIC backends\n", to);
    for (int i = 0; i < f->n_nics; i++) {
        const struct pw_fact_nic *n = &f->nics[i];

        label(to, n->name);
        if (!n->usable.ok) {
            fputs("not usable\n", to);
            reason(to, n->usable.why);
            continue;
        }
        fprintf(to, "usable%s%s\n", n->info.what[0] ? ": " : "", n->info.what);
        fprintf(to, "  %-*s%s%s%s%s\n", LABEL, "",
                n->info.flags & PW_NIC_SAME_HOST ? "peers of this host" : "peers anywhere",
                n->info.flags & PW_NIC_LOSSLESS ? ", lossless" : "",
                n->info.flags & PW_NIC_PUT ? ", put and get" : "",
                n->info.flags & PW_NIC_ATOMIC ? ", atomics" : "");
        reason(to, n->info.note);
        fprintf(to, "  %-*sfirst guess %" PRIu32 " ns, %.1f GB/s\n", LABEL, "",
                n->info.latency_ns, (double)n->info.bytes_per_s / 1e9);
        print_backend_devices(f, n->name, to);
    }
    if (!f->n_nics)
        fputs("  none was built\n", to);
}

static void print_libraries(const struct pw_facts *f, FILE *to)
{
    fputs("\nNIC libraries\n", to);
    for (int i = 0; i < PW_LIBRARIES; i++) {
        const struct pw_fact_library *l = &f->libraries[i];

        label(to, l->name);
        if (l->loads.ok)
            fprintf(to, "%s", l->running[0] ? l->running : "version unknown");
        else
            fputs("not found", to);
        fprintf(to, ", %s%s\n",
                l->built[0] ? "built with " : "not there when this was built", l->built);
        if (!l->loads.ok)
            reason(to, l->loads.why);
    }
}

static void print_devices(const struct pw_facts *f, FILE *to)
{
    fputs("\nRDMA devices\n", to);
    for (int i = 0; i < f->n_rdma; i++) {
        label(to, f->rdma[i].name);
        fprintf(to, "port %d, %s, %s, %s\n", f->rdma[i].port, f->rdma[i].state,
                f->rdma[i].rate, f->rdma[i].layer);
    }
    if (!f->n_rdma)
        fputs("  none\n", to);
}

static void print_interface(const struct pw_fact_interface *n, FILE *to)
{
    char text[PW_IP_TEXT], line[PW_IFACE_IPS * PW_IP_TEXT] = "";

    label(to, n->it.name);
    fputs(pw_iface_kind_name(n->it.kind), to);
    if (n->it.bytes_per_s)
        fprintf(to, ", %g Gbit/s", (double)n->it.bytes_per_s * 8e-9);
    if (n->it.mtu)
        fprintf(to, ", MTU %u", n->it.mtu);
    fprintf(to, ", %s%s\n", n->used.ok ? "used by " : "not used", n->by);
    for (int i = 0; i < n->it.n_ips; i++) {
        strcat(line, i ? " " : "");
        strcat(line, pw_ip_text(&n->it.ips[i], text));
    }
    reason(to, line);
    reason(to, n->used.why);
}

void pw_text_interfaces(const struct pw_facts *f, FILE *to)
{
    fputs("Network interfaces\n", to);
    for (int i = 0; i < f->n_interfaces; i++)
        print_interface(&f->interfaces[i], to);
    if (f->all_interfaces > f->n_interfaces)
        fprintf(to, "  and %d more, none of them better\n",
                f->all_interfaces - f->n_interfaces);
    if (f->interfaces_error)
        fprintf(to, "  unknown: %s\n", strerror(-f->interfaces_error));
    else if (!f->n_interfaces)
        fputs("  none\n", to);
}

void pw_facts_print_text(const struct pw_facts *f, FILE *to)
{
    fputs("pinwheel " PINWHEEL_VERSION "\n\n", to);
    print_host(f, to);
    print_memory(f, to);
    print_probes(f, to);
    print_cache(f, to);
    print_nics(f, to);
    print_libraries(f, to);
    print_devices(f, to);
    fputc('\n', to);
    pw_text_interfaces(f, to);
}
