/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_library.c - UCX, loaded when it is first needed; which devices it may drive.
 *
 * Start at ucx_library() and ucx_devices(). It is loaded as libfabric is (ofi_library.c), and
 * not to list devices: those are the kernel's interfaces and the ports of RDMA devices.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rdm_ports.h"
#include "ucx.h"

static const struct rdm_symbol symbols[] = {
    { "ucp_get_version", offsetof(struct ucx_library, get_version) },
    { "ucp_config_read", offsetof(struct ucx_library, config_read) },
    { "ucp_config_modify", offsetof(struct ucx_library, config_modify) },
    { "ucp_config_release", offsetof(struct ucx_library, config_release) },
    { "ucp_init_version", offsetof(struct ucx_library, init) },
    { "ucp_cleanup", offsetof(struct ucx_library, cleanup) },
    { "ucp_worker_create", offsetof(struct ucx_library, worker_create) },
    { "ucp_worker_destroy", offsetof(struct ucx_library, worker_destroy) },
    { "ucp_worker_query", offsetof(struct ucx_library, worker_query) },
    { "ucp_worker_release_address", offsetof(struct ucx_library, release_address) },
    { "ucp_worker_get_efd", offsetof(struct ucx_library, get_efd) },
    { "ucp_worker_arm", offsetof(struct ucx_library, arm) },
    { "ucp_worker_progress", offsetof(struct ucx_library, progress) },
    { "ucp_worker_set_am_recv_handler", offsetof(struct ucx_library, set_am_recv_handler) },
    { "ucp_am_data_release", offsetof(struct ucx_library, am_data_release) },
    { "ucp_am_send_nbx", offsetof(struct ucx_library, am_send) },
    { "ucp_ep_create", offsetof(struct ucx_library, ep_create) },
    { "ucp_ep_close_nbx", offsetof(struct ucx_library, ep_close) },
    { "ucp_mem_map", offsetof(struct ucx_library, mem_map) },
    { "ucp_mem_unmap", offsetof(struct ucx_library, mem_unmap) },
    { "ucp_rkey_pack", offsetof(struct ucx_library, rkey_pack) },
    { "ucp_rkey_buffer_release", offsetof(struct ucx_library, rkey_release) },
    { "ucp_ep_rkey_unpack", offsetof(struct ucx_library, rkey_unpack) },
    { "ucp_rkey_destroy", offsetof(struct ucx_library, rkey_destroy) },
    { "ucp_get_nbx", offsetof(struct ucx_library, get) },
    { "ucp_request_free", offsetof(struct ucx_library, request_free) },
    { "ucs_status_string", offsetof(struct ucx_library, status_string) },
    { NULL, 0 },
};

/* What it reads when it is loaded. Signals that end the program are not UCX's, and what it
 * would print of a peer that is gone is told by us. And it would change mmap() and others for
 * the whole process, at once, to watch memory of which we never tell it. A cache of
 * registrations in another context of this process then finds that it can watch nothing, and
 * does without itself; where that one was first, UCX is loaded already and reads nothing.
 * Who has set one of these keeps it; nobody else sees them. */
static struct {
    const char *name, *value;
    bool ours;
} wishes[] = {
    { "UCX_HANDLE_ERRORS", "none", false },
    { "UCX_LOG_LEVEL", "fatal", false },
    { "UCX_MEM_EVENTS", "n", false },
};

enum { WISHES = sizeof(wishes) / sizeof(*wishes) };

static void library_prepare(void)
{
    for (int i = 0; i < WISHES; i++) {
        wishes[i].ours = !getenv(wishes[i].name);
        setenv(wishes[i].name, wishes[i].value, 0);
    }
}

static void library_settle(void)
{
    for (int i = 0; i < WISHES; i++)
        if (wishes[i].ours)
            unsetenv(wishes[i].name);
}

static struct ucx_library functions;
static struct rdm_library library = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .file = "libucp.so.0", .name = "UCX",
    .package = "libucx0", .symbols = symbols, .functions = &functions,
    .prepare = library_prepare, .settle = library_settle,
};

void ucx_library_use(const char *file)
{
    rdm_library_use(&library, file);
}

const struct ucx_library *ucx_library(char why[PW_NIC_WHY_MAX])
{
    return rdm_library_load(&library, why);
}

/* ---- devices ---- */

static bool line_read(const char *device, const char *port, const char *what, char *out,
                      int size)
{
    char path[1024];
    FILE *file;
    bool got;

    snprintf(path, sizeof(path), "%.200s/%s/ports/%s/%s", rdm_ports_folder(), device, port,
             what);
    file = fopen(path, "re");
    if (!file)
        return false;
    got = fgets(out, size, file) != NULL;
    fclose(file);
    if (got)
        out[strcspn(out, "\n")] = '\0';
    return got;
}

static void port_fill(struct pw_nic_device *out, const char *device, const char *port)
{
    char line[64] = "";
    double gbit;

    memset(out, 0, sizeof(*out));
    snprintf(out->name, sizeof(out->name), "%.24s:%.6s", device, port);
    if (line_read(device, port, "rate", line, sizeof(line)) &&
        sscanf(line, "%lf", &gbit) == 1)
        out->bytes_per_s = (uint64_t)(gbit * 1e9 / 8);
    out->usable = line_read(device, port, "state", line, sizeof(line)) &&
                  strstr(line, "ACTIVE");
    if (!out->usable)
        snprintf(out->why, sizeof(out->why), "the port is not active: %.60s", line);
}

static int ports_list(const char *device, struct pw_nic_device *out, int max)
{
    const char *port;
    char path[512];
    int n = 0;
    DIR *dir;

    snprintf(path, sizeof(path), "%.200s/%s/ports", rdm_ports_folder(), device);
    dir = opendir(path);
    while ((port = rdm_ports_next(dir))) {
        if (n < max)
            port_fill(&out[n], device, port);
        n++;
    }
    if (dir)
        closedir(dir);
    return n;
}

static int rdma_list(struct pw_nic_device *out, int max)
{
    DIR *dir = opendir(rdm_ports_folder());
    const char *device;
    int n = 0;

    while ((device = rdm_ports_next(dir)))
        n += ports_list(device, out + (n < max ? n : max), n < max ? max - n : 0);
    if (dir)
        closedir(dir);
    return n;
}

int ucx_devices(struct pw_nic_device *out, int max)
{
    int n = pw_iface_devices(out, max);

    return n + rdma_list(out + (n < max ? n : max), n < max ? max - n : 0);
}
