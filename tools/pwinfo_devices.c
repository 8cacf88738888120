/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo_devices.c - NIC backends, the libraries for NICs, and what the kernel
 * lists as RDMA devices. */
#include "pwinfo.h"

#include "config.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef HAVE_LIBFABRIC
#define LIBFABRIC_VERSION ""
#endif
#ifndef HAVE_UCX
#define UCX_VERSION ""
#endif
#ifndef HAVE_IBVERBS
#define IBVERBS_VERSION ""
#endif

static void nics(struct pw_facts *f)
{
    for (int i = 0; pw_nic_backends[i] && i < PW_NICS_MAX; i++) {
        struct pw_fact_nic *n = &f->nics[f->n_nics++];
        char why[PW_NIC_WHY_MAX] = "";
        int err;

        n->name = pw_nic_backends[i]->name;
        err = pw_nic_backends[i]->probe(&n->info, why);
        if (err == 0)
            pw_verdict_yes(&n->usable, "");
        else
            pw_verdict_no(&n->usable, "%s", why[0] ? why : strerror(-err));
    }
}

/* ---- libraries ---- */

struct library {
    const char *name, *built, *soname;
    const char *version_function;       /* NULL: from the file's name */
    bool packed;                        /* it returns major << 16 | minor */
};

static const struct library libraries[PW_LIBRARIES] = {
    { "libfabric", LIBFABRIC_VERSION, "libfabric.so.1", "fi_version", true },
    { "UCX", UCX_VERSION, "libucp.so.0", "ucp_get_version_string", false },
    { "libibverbs", IBVERBS_VERSION, "libibverbs.so.1", NULL, false },
};

/* What follows ".so." in the file behind the link: 1.14.44.0. */
static void version_from_file(void *handle, char *text, size_t room)
{
    struct link_map *map;
    char file[PATH_MAX], *so;

    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) || !realpath(map->l_name, file))
        return;
    so = strstr(file, ".so.");
    if (so)
        snprintf(text, room, "%s", so + 4);
}

/* In a child: the library's start-up code may print, or crash. */
static int library_version(const void *arg, char *text, size_t room)
{
    const struct library *lib = arg;
    void *handle = dlopen(lib->soname, RTLD_LAZY | RTLD_LOCAL), *function;

    if (!handle) {
        snprintf(text, room, "%s", dlerror());
        return -ENOENT;
    }
    function = lib->version_function ? dlsym(handle, lib->version_function) : NULL;
    if (!function) {
        version_from_file(handle, text, room);
    } else if (lib->packed) {
        uint32_t version = ((uint32_t (*)(void))(uintptr_t)function)();
        snprintf(text, room, "%u.%u", version >> 16, version & 0xffff);
    } else {
        snprintf(text, room, "%s", ((const char *(*)(void))(uintptr_t)function)());
    }
    return 0;
}

static void find_libraries(struct pw_facts *f)
{
    for (int i = 0; i < PW_LIBRARIES; i++) {
        struct pw_fact_library *l = &f->libraries[i];
        char text[PW_WHY];
        int err = pw_in_child(library_version, &libraries[i], text, sizeof text);

        l->name = libraries[i].name;
        l->built = libraries[i].built;
        if (err == 0) {
            snprintf(l->running, sizeof l->running, "%.60s", text);
            pw_verdict_yes(&l->loads, "");
        } else if (err == -ENOENT) {
            pw_verdict_no(&l->loads, "%.300s", text);
        } else {
            pw_verdict_no(&l->loads, "loading %s failed: %s", libraries[i].soname,
                          err == -EIO ? "it crashed" : strerror(-err));
        }
    }
}

/* ---- what the kernel lists ---- */

static int names_compare(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int names_filter(const struct dirent *d)
{
    return d->d_name[0] != '.' && strlen(d->d_name) < PW_NAME;
}

/* Call each with every name in dir, sorted; a directory that is not there has
 * none. */
static void for_names(const char *dir, struct pw_facts *f,
                      void (*each)(struct pw_facts *f, const char *dir, const char *name))
{
    struct dirent **names;
    int n = scandir(dir, &names, names_filter, names_compare);

    for (int i = 0; i < n; i++) {
        each(f, dir, names[i]->d_name);
        free(names[i]);
    }
    if (n >= 0)
        free(names);
}

static void read_attribute(const char *dir, const char *name, const char *attribute,
                           char out[PW_NAME])
{
    char path[2 * PW_PATH];

    snprintf(path, sizeof path, "%s/%s/%s", dir, name, attribute);
    pw_read_line(path, out, PW_NAME);
}

/* dir is /sys/class/infiniband/DEVICE/ports. */
static void rdma_port(struct pw_facts *f, const char *dir, const char *name)
{
    const char *device = dir + strlen("/sys/class/infiniband/");
    struct pw_fact_rdma *r = &f->rdma[f->n_rdma];

    if (f->n_rdma == PW_DEVICES_MAX)
        return;
    f->n_rdma++;
    snprintf(r->name, sizeof r->name, "%.*s", (int)strcspn(device, "/"), device);
    r->port = atoi(name);
    read_attribute(dir, name, "state", r->state);
    read_attribute(dir, name, "rate", r->rate);
    read_attribute(dir, name, "link_layer", r->layer);
}

static void rdma_device(struct pw_facts *f, const char *dir, const char *name)
{
    char ports[PW_PATH];

    snprintf(ports, sizeof ports, "%s/%.63s/ports", dir, name);
    for_names(ports, f, rdma_port);
}

void pw_facts_devices(struct pw_facts *f)
{
    nics(f);
    find_libraries(f);
    for_names("/sys/class/infiniband", f, rdma_device);
}
