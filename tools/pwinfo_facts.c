/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo_facts.c - what /proc, /sys and libpinwheel tell. */
#include "pwinfo.h"

#include <ctype.h>
#include <dirent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cores.h"

bool pw_read_line(const char *path, char *out, size_t room)
{
    FILE *f = fopen(path, "re");
    bool read;

    out[0] = '\0';
    if (!f)
        return false;
    read = fgets(out, (int)room, f) != NULL;
    fclose(f);
    out[strcspn(out, "\n")] = '\0';
    return read;
}

long long pw_read_number(const char *path)
{
    char line[PW_NAME], *end;
    long long value;

    if (!pw_read_line(path, line, sizeof line))
        return -1;
    value = strtoll(line, &end, 10);
    return end == line ? -1 : value;
}

void pw_verdict_no(struct pw_verdict *v, const char *format, ...)
{
    va_list args;

    v->ok = false;
    va_start(args, format);
    vsnprintf(v->why, sizeof v->why, format, args);
    va_end(args);
}

void pw_verdict_yes(struct pw_verdict *v, const char *remark)
{
    v->ok = true;
    snprintf(v->why, sizeof v->why, "%s", remark);
}

static int numa_nodes(void)
{
    DIR *dir = opendir("/sys/devices/system/node");
    struct dirent *d;
    int n = 0;

    if (!dir)
        return -1;
    while ((d = readdir(dir)) != NULL)
        if (!strncmp(d->d_name, "node", 4) && isdigit((unsigned char)d->d_name[4]))
            n++;
    closedir(dir);
    return n;
}

static void host(struct pw_facts *f)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    struct utsname u;

    if (uname(&u) == 0) {
        snprintf(f->kernel, sizeof f->kernel, "%.60s", u.release);
        snprintf(f->machine, sizeof f->machine, "%.60s", u.machine);
    }
    f->cpus = pw_cpus_usable();
    f->cores = pw_cores_usable();
    f->numa_nodes = numa_nodes();
    f->memory = pages > 0 && page > 0 ? (long long)pages * page : -1;
}

static void hugepages(struct pw_fact_hugepages *h, const char *kind)
{
    char path[PW_PATH];

    snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-%s/nr_hugepages", kind);
    h->total = pw_read_number(path);
    snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-%s/free_hugepages",
             kind);
    h->free = pw_read_number(path);
    snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-%s/resv_hugepages",
             kind);
    h->reserved = pw_read_number(path);
}

/* The file lists the choices and brackets the one in force:
 * always [madvise] never. */
static void chosen_word(const char *path, char out[PW_NAME])
{
    char line[PW_PATH], *open, *close;

    out[0] = '\0';
    if (!pw_read_line(path, line, sizeof line))
        return;
    open = strchr(line, '[');
    close = open ? strchr(open, ']') : NULL;
    if (close)
        snprintf(out, PW_NAME, "%.*s", (int)(close - open - 1), open + 1);
}

static void memlock(struct pw_facts *f)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit)) {
        f->memlock = -2;
        return;
    }
    f->memlock = limit.rlim_cur == RLIM_INFINITY ? -1 : (long long)limit.rlim_cur;
    /* One endpoint's queues and a few large messages. */
    if (f->memlock >= 0 && f->memlock < 64ll << 20)
        snprintf(f->memlock_why, sizeof f->memlock_why,
                 "low for RDMA NICs, which pin memory; raise memlock in "
                 "/etc/security/limits.conf, or ulimit -l; transfers within this host "
                 "do not need it");
}

/* Of 8 hugepages: with interleaving one would say nothing. Or of one of 1 GiB. */
static void pool_nodes(enum pw_pages pages, char list[PW_NAME])
{
    const struct pw_pool_config config = { .size = (size_t)16 << 20, .pages = pages };
    struct pw_pool *pool;

    if (pw_pool_open(&config, &pool))
        return;
    pw_pool_alloc(pool, pw_pool_size(pool), 0);
    pw_pool_nodes(pool, list, PW_NAME);
    pw_pool_close(pool);
}

static void memory(struct pw_facts *f)
{
    f->pool_error = pw_pool_probe(&f->pool);
    if (f->numa_nodes > 1 && !f->pool_error)
        pool_nodes(f->pool.pages, f->pool_nodes);
    hugepages(&f->huge_2m, "2048kB");
    hugepages(&f->huge_1g, "1048576kB");
    chosen_word("/sys/kernel/mm/transparent_hugepage/enabled", f->thp);
    chosen_word("/sys/kernel/mm/transparent_hugepage/shmem_enabled", f->thp_shmem);
    memlock(f);
}

void pw_facts_gather(struct pw_facts *f)
{
    host(f);
    memory(f);
    pw_facts_probe(f);
    pw_facts_cache(f);
    pw_facts_devices(f);
    pw_facts_interfaces(f);
}
