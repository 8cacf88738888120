/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo_json.c - the facts for programs. Unknown is null; pwinfo(1) lists the
 * members. */
#include <string.h>

#include "json.h"
#include "pwinfo.h"

/* Numbers are unknown when negative, texts when empty. */
static void number(struct pw_json *j, const char *key, long long value)
{
    if (value < 0)
        pw_json_null(j, key);
    else
        pw_json_integer(j, key, value);
}

static void text(struct pw_json *j, const char *key, const char *value)
{
    if (value[0])
        pw_json_string(j, key, value);
    else
        pw_json_null(j, key);
}

/* Members of an object that is open. */
static void verdict_members(struct pw_json *j, const char *key, const struct pw_verdict *v)
{
    pw_json_bool(j, key, v->ok);
    text(j, "why", v->why);
}

static void verdict(struct pw_json *j, const char *key, const struct pw_verdict *v)
{
    pw_json_open(j, key, '{');
    verdict_members(j, "ok", v);
    pw_json_close(j, '}');
}

static void json_host(struct pw_json *j, const struct pw_facts *f)
{
    pw_json_open(j, "host", '{');
    text(j, "kernel", f->kernel);
    text(j, "machine", f->machine);
    pw_json_integer(j, "cores", f->cores);
    pw_json_integer(j, "hardware_threads", f->cpus);
    number(j, "numa_nodes", f->numa_nodes);
    number(j, "memory_bytes", f->memory);
    pw_json_close(j, '}');
}

static void json_hugepages(struct pw_json *j, const char *key,
                           const struct pw_fact_hugepages *h)
{
    pw_json_open(j, key, '{');
    number(j, "total", h->total);
    number(j, "free", h->free);
    number(j, "promised", h->reserved);
    pw_json_close(j, '}');
}

static void json_memory(struct pw_json *j, const struct pw_facts *f)
{
    pw_json_open(j, "pool", '{');
    pw_json_bool(j, "ok", f->pool_error == 0);
    text(j, "pages", f->pool_error ? "" : pw_pages_name(f->pool.pages));
    text(j, "why", f->pool_error ? strerror(-f->pool_error) : f->pool.why);
    text(j, "numa_nodes", f->pool_nodes);
    pw_json_close(j, '}');

    pw_json_open(j, "hugepages", '{');
    json_hugepages(j, "2MiB", &f->huge_2m);
    json_hugepages(j, "1GiB", &f->huge_1g);
    pw_json_close(j, '}');

    pw_json_open(j, "transparent_hugepages", '{');
    text(j, "enabled", f->thp);
    text(j, "shmem_enabled", f->thp_shmem);
    pw_json_close(j, '}');

    pw_json_open(j, "memlock", '{');
    pw_json_bool(j, "unlimited", f->memlock == -1);
    number(j, "bytes", f->memlock);
    text(j, "why", f->memlock_why);
    pw_json_close(j, '}');
}

static void json_probes(struct pw_json *j, const struct pw_facts *f)
{
    pw_json_open(j, "cma", '{');
    verdict_members(j, "ok", &f->cma);
    number(j, "yama_ptrace_scope", f->yama);
    pw_json_close(j, '}');
    verdict(j, "memfd", &f->memfd);
    verdict(j, "membarrier", &f->membarrier);
    pw_json_open(j, "dev_shm", '{');
    verdict_members(j, "ok", &f->dev_shm);
    number(j, "free_bytes", f->dev_shm_free);
    pw_json_close(j, '}');
    verdict(j, "driver", &f->driver);
}

static void json_monitor(struct pw_json *j, const struct pw_fact_monitor *m)
{
    const char *event;

    pw_json_open(j, NULL, '{');
    pw_json_string(j, "name", m->name);
    pw_json_string(j, "what", m->what);
    verdict_members(j, "ok", &m->works);
    pw_json_open(j, "unseen", '[');
    for (int i = 0; m->works.ok && (event = pw_fact_unseen(m, i)) != NULL; i++)
        pw_json_string(j, NULL, event);
    pw_json_close(j, ']');
    text(j, "note", m->note);
    pw_json_close(j, '}');
}

static void json_cache(struct pw_json *j, const struct pw_facts *f)
{
    const struct pw_budget_info *b = &f->budget;

    pw_json_open(j, "cache", '{');
    text(j, "monitor", f->monitor);
    text(j, "why", f->monitor_why);
    pw_json_open(j, "monitors", '[');
    for (int i = 0; i < f->n_monitors; i++)
        json_monitor(j, &f->monitors[i]);
    pw_json_close(j, ']');
    pw_json_open(j, "budget", '{');
    pw_json_bool(j, "ok", f->budget_error == 0);
    text(j, "why", f->budget_error ? strerror(-f->budget_error) : b->why);
    if (!f->budget_error) {
        pw_json_integer(j, "process_bytes", (long long)b->rank_bytes);
        pw_json_integer(j, "process_regions", (long long)b->rank_regions);
        pw_json_integer(j, "host_bytes", (long long)b->host_bytes);
        pw_json_integer(j, "host_used_bytes", (long long)b->host_used_bytes);
        pw_json_integer(j, "processes", b->processes);
    }
    pw_json_close(j, '}');
    pw_json_close(j, '}');
}

static void json_nics(struct pw_json *j, const struct pw_facts *f)
{
    pw_json_open(j, "nics", '[');
    for (int i = 0; i < f->n_nics; i++) {
        const struct pw_fact_nic *n = &f->nics[i];

        pw_json_open(j, NULL, '{');
        pw_json_string(j, "name", n->name);
        verdict_members(j, "usable", &n->usable);
        if (n->usable.ok) {
            text(j, "what", n->info.what);
            text(j, "note", n->info.note);
            pw_json_bool(j, "same_host", n->info.flags & PW_NIC_SAME_HOST);
            pw_json_bool(j, "lossless", n->info.flags & PW_NIC_LOSSLESS);
            pw_json_bool(j, "put", n->info.flags & PW_NIC_PUT);
            pw_json_bool(j, "atomic", n->info.flags & PW_NIC_ATOMIC);
            pw_json_integer(j, "frame_max_bytes", (long long)n->info.frame_max);
            pw_json_integer(j, "inline_max_bytes", (long long)n->info.inline_max);
            pw_json_integer(j, "guess_latency_ns", n->info.latency_ns);
            pw_json_integer(j, "guess_bytes_per_s", (long long)n->info.bytes_per_s);
        }
        pw_json_close(j, '}');
    }
    pw_json_close(j, ']');
}

static void json_libraries(struct pw_json *j, const struct pw_facts *f)
{
    pw_json_open(j, "libraries", '[');
    for (int i = 0; i < PW_LIBRARIES; i++) {
        pw_json_open(j, NULL, '{');
        pw_json_string(j, "name", f->libraries[i].name);
        verdict_members(j, "loads", &f->libraries[i].loads);
        text(j, "version", f->libraries[i].running);
        text(j, "built_with", f->libraries[i].built);
        pw_json_close(j, '}');
    }
    pw_json_close(j, ']');
}

static void json_devices(struct pw_json *j, const struct pw_facts *f)
{
    pw_json_open(j, "rdma", '[');
    for (int i = 0; i < f->n_rdma; i++) {
        pw_json_open(j, NULL, '{');
        pw_json_string(j, "device", f->rdma[i].name);
        pw_json_integer(j, "port", f->rdma[i].port);
        text(j, "state", f->rdma[i].state);
        text(j, "rate", f->rdma[i].rate);
        text(j, "link_layer", f->rdma[i].layer);
        pw_json_close(j, '}');
    }
    pw_json_close(j, ']');
}

/* What backends could drive, and what a job would do with it. */
static void json_candidates(struct pw_json *j, const struct pw_facts *f)
{
    pw_json_open(j, "devices", '[');
    for (int i = 0; i < f->n_candidates; i++) {
        const struct pw_candidate *c = &f->candidates[i];

        if (!c->has_device)
            continue;
        pw_json_open(j, NULL, '{');
        pw_json_string(j, "backend", c->ops->name);
        pw_json_string(j, "name", c->device.name);
        text(j, "address", c->device.address);
        number(j, "bytes_per_s", c->device.bytes_per_s ? (long long)c->device.bytes_per_s : -1);
        pw_json_bool(j, "usable", c->device.usable);
        pw_json_bool(j, "spare", c->device.spare);
        pw_json_bool(j, "used", c->chosen);
        text(j, "why", c->why);
        pw_json_close(j, '}');
    }
    pw_json_close(j, ']');
}

static void json_interface(struct pw_json *j, const struct pw_fact_interface *n)
{
    long long mbit = (long long)(n->it.bytes_per_s / 125000);
    char ip[PW_IP_TEXT];

    pw_json_open(j, NULL, '{');
    pw_json_string(j, "name", n->it.name);
    pw_json_string(j, "kind", pw_iface_kind_name(n->it.kind));
    pw_json_bool(j, "up", n->it.up);
    pw_json_bool(j, "carrier", n->it.carrier);
    number(j, "mbit_per_s", mbit ? mbit : -1);
    number(j, "mtu", n->it.mtu ? (long long)n->it.mtu : -1);
    pw_json_open(j, "addresses", '[');
    for (int i = 0; i < n->it.n_ips; i++)
        pw_json_string(j, NULL, pw_ip_text(&n->it.ips[i], ip));
    pw_json_close(j, ']');
    verdict_members(j, "used", &n->used);
    text(j, "by", n->by);
    pw_json_close(j, '}');
}

void pw_json_interfaces(struct pw_json *j, const struct pw_facts *f)
{
    pw_json_open(j, "interfaces", '[');
    for (int i = 0; i < f->n_interfaces; i++)
        json_interface(j, &f->interfaces[i]);
    pw_json_close(j, ']');
}

void pw_facts_print_json(const struct pw_facts *f, FILE *to)
{
    struct pw_json j = { .to = to };

    pw_json_open(&j, NULL, '{');
    pw_json_string(&j, "version", PINWHEEL_VERSION);
    json_host(&j, f);
    json_memory(&j, f);
    json_probes(&j, f);
    json_cache(&j, f);
    json_nics(&j, f);
    json_libraries(&j, f);
    json_devices(&j, f);
    json_candidates(&j, f);
    pw_json_interfaces(&j, f);
    pw_json_close(&j, '}');
}
