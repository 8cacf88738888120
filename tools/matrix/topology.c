/* SPDX-License-Identifier: BSD-3-Clause */
/* topology.c - see topology.h. Indices are hwloc's logical ones, but for hardware
 * threads, which have the kernel's numbers everywhere. */
#include "topology.h"

#include <errno.h>
#include <stdlib.h>

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#ifdef HAVE_HWLOC
#include <hwloc.h>

struct pw_topology {
    hwloc_topology_t hwloc;
};

/* From the closest to the widest. */
static const struct {
    hwloc_obj_type_t type;
    const char *name;       /* for people */
    const char *key;        /* in the JSON of a core */
    const char *count;      /* in that of the machine */
} levels[] = {
    { HWLOC_OBJ_CORE, "core", "core", "cores" },
    { HWLOC_OBJ_L2CACHE, "L2", "l2", "l2_caches" },
    { HWLOC_OBJ_L3CACHE, "L3", "l3", "l3_caches" },
    { HWLOC_OBJ_DIE, "die", "die", "dies" },
    { HWLOC_OBJ_NUMANODE, "NUMA node", "numa_node", "numa_nodes" },
    { HWLOC_OBJ_PACKAGE, "package", "package", "packages" },
};
enum { LEVELS = sizeof levels / sizeof *levels };

int pw_topology_open(struct pw_topology **out)
{
    struct pw_topology *t = malloc(sizeof *t);
    int err;

    *out = NULL;
    if (!t)
        return -ENOMEM;
    if (hwloc_topology_init(&t->hwloc)) {
        err = errno ? -errno : -EIO;
        goto free_t;
    }
    if (hwloc_topology_load(t->hwloc)) {
        err = errno ? -errno : -EIO;
        goto destroy;
    }
    *out = t;
    return 0;

destroy:
    hwloc_topology_destroy(t->hwloc);
free_t:
    free(t);
    return err;
}

void pw_topology_close(struct pw_topology *t)
{
    if (!t)
        return;
    hwloc_topology_destroy(t->hwloc);
    free(t);
}

void pw_topology_version(char out[PW_TEXT])
{
    snprintf(out, PW_TEXT, "%s", HWLOC_VERSION);
}

/* The object of that type that the hardware thread is in. Not by parents: in hwloc
 * NUMA nodes are beside them. */
static hwloc_obj_t around(const struct pw_topology *t, hwloc_obj_type_t type, int core)
{
    hwloc_obj_t obj = NULL;

    while ((obj = hwloc_get_next_obj_by_type(t->hwloc, type, obj)) != NULL)
        if (hwloc_bitmap_isset(obj->cpuset, (unsigned)core))
            return obj;
    return NULL;
}

static void share(struct pw_pair *pair, const char *name)
{
    if (pair->n_shares < PW_SHARES_MAX)
        snprintf(pair->shares[pair->n_shares++], sizeof *pair->shares, "%s", name);
}

void pw_topology_pair(const struct pw_topology *t, struct pw_pair *pair)
{
    pair->n_shares = 0;
    if (!t || !around(t, HWLOC_OBJ_PU, pair->a) || !around(t, HWLOC_OBJ_PU, pair->b))
        return;
    if (pair->a == pair->b)
        share(pair, "thread");
    for (int i = 0; i < LEVELS; i++) {
        hwloc_obj_t obj = around(t, levels[i].type, pair->a);

        if (obj && hwloc_bitmap_isset(obj->cpuset, (unsigned)pair->b))
            share(pair, levels[i].name);
    }
    share(pair, "machine");
}

static void write_core(const struct pw_topology *t, struct pw_json *j, int core)
{
    pw_json_open(j, NULL, '{');
    pw_json_integer(j, "thread", core);
    for (int i = 0; i < LEVELS; i++) {
        hwloc_obj_t obj = around(t, levels[i].type, core);

        if (obj)
            pw_json_integer(j, levels[i].key, obj->logical_index);
        else
            pw_json_null(j, levels[i].key);
    }
    pw_json_close(j, '}');
}

static void write_cache_size(const struct pw_topology *t, struct pw_json *j,
                             const char *key, hwloc_obj_type_t type)
{
    hwloc_obj_t obj = hwloc_get_next_obj_by_type(t->hwloc, type, NULL);

    if (obj)
        pw_json_integer(j, key, (long long)obj->attr->cache.size);
    else
        pw_json_null(j, key);
}

void pw_topology_write(const struct pw_topology *t, struct pw_json *j, const char *key,
                       const int core[], int n_cores)
{
    if (!t) {
        pw_json_null(j, key);
        return;
    }
    pw_json_open(j, key, '{');
    pw_json_integer(j, "memory_bytes",
                    (long long)hwloc_get_root_obj(t->hwloc)->total_memory);
    for (int i = LEVELS - 1; i >= 0; i--)
        pw_json_integer(j, levels[i].count,
                        hwloc_get_nbobjs_by_type(t->hwloc, levels[i].type));
    pw_json_integer(j, "threads", hwloc_get_nbobjs_by_type(t->hwloc, HWLOC_OBJ_PU));
    write_cache_size(t, j, "l2_bytes", HWLOC_OBJ_L2CACHE);
    write_cache_size(t, j, "l3_bytes", HWLOC_OBJ_L3CACHE);
    pw_json_open(j, "measured", '[');
    for (int i = 0; i < n_cores; i++)
        write_core(t, j, core[i]);
    pw_json_close(j, ']');
    pw_json_close(j, '}');
}

#else

int pw_topology_open(struct pw_topology **out)
{
    *out = NULL;
    return -ENOSYS;
}

void pw_topology_close(struct pw_topology *t)
{
    (void)t;
}

void pw_topology_version(char out[PW_TEXT])
{
    *out = '\0';
}

void pw_topology_pair(const struct pw_topology *t, struct pw_pair *pair)
{
    (void)t;
    pair->n_shares = 0;
}

void pw_topology_write(const struct pw_topology *t, struct pw_json *j, const char *key,
                       const int core[], int n_cores)
{
    (void)t;
    (void)core;
    (void)n_cores;
    pw_json_null(j, key);
}

#endif
