/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_ports.c - RDMA devices, as the kernel lists them.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>

#include "rdm_ports.h"

static const char *folder = "/sys/class/infiniband";

const char *rdm_ports_folder(void)
{
    return folder;
}

void rdm_ports_use(const char *path)
{
    folder = path;
}

const char *rdm_ports_next(DIR *dir)
{
    struct dirent *entry;

    while (dir && (entry = readdir(dir)))
        if (entry->d_name[0] != '.')
            return entry->d_name;
    return NULL;
}

bool rdm_ports_in(const char *path)
{
    DIR *dir = opendir(path);
    bool any = rdm_ports_next(dir) != NULL;

    if (dir)
        closedir(dir);
    return any;
}

bool rdm_ports_any(void)
{
    return rdm_ports_in(folder);
}

/* Such a device is a child of that interface (drivers/infiniband/sw/rxe/rxe_verbs.c,
 * parent_show()). */
static bool has_parent(const char *device)
{
    char path[512];

    snprintf(path, sizeof(path), "%.200s/%.255s/parent", folder, device);
    return !access(path, F_OK);
}

bool rdm_ports_software(const char *device)
{
    bool found = false;
    const char *name;
    DIR *dir;

    if (device)
        return has_parent(device);
    dir = opendir(folder);
    while (!found && (name = rdm_ports_next(dir)))
        found = has_parent(name);
    if (dir)
        closedir(dir);
    return found;
}
