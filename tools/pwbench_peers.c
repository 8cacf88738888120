/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_peers.c - the transports and their mpirun options.
 *
 * Every entry names its pml, so that Open MPI cannot put another transport in
 * its place: with ob1 and one btl besides self, the ranks reach each other
 * over that btl or MPI_Init fails. osc/ucx is shut out where ucx is not meant,
 * since it would bring its own transport for puts and gets. What is there for
 * one-sided access alone names its osc too: then no other is even opened.
 */
#include "pwbench_peers.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cores.h"

#define TWO_SIDED { [PW_PAIR] = true, [PW_COLLECTIVE] = true, [PW_STARTUP] = true }
#define ONE_SIDED { [PW_ONE_SIDED] = true }

/* UCX refuses machines without an RDMA device unless "any" will do. It has no
 * BTLs: a pinwheel that opened beside it would serve its MPI_Alloc_mem. */
#define UCX_MCA \
    "pml", "ucx", "osc", "ucx", "btl", "self", \
    "pml_ucx_tls", "any", "pml_ucx_devices", "any", \
    "opal_common_ucx_tls", "any", "opal_common_ucx_devices", "any"

/* By libfabric's messages. Debian's openmpi-mca-params.conf would leave it out. */
#define OFI_MCA(provider) \
    "pml", "cm", "mtl", "ofi", "mtl_ofi_provider_include", provider, "btl", "self", \
    "osc", "^ucx"

/* Windows: where it is a peer, the kind over which it is fastest. pinwheel has
 * MPI_Win_create, which cannot be turned into one segment for all. */
static const struct pw_transport transports[] = {
    { .name = "pinwheel", .ours = true,
      .parameters = "btl_pinwheel_",
      .mca = { "pml", "ob1", "btl", "pinwheel,self", "osc", "^ucx" } },
    { .name = "vader", .usual = TWO_SIDED, .here_only = true,
      .parameters = "btl_vader_",
      .mca = { "pml", "ob1", "btl", "vader,self", "osc", "^ucx" } },
    { .name = "ucx", .usual = TWO_SIDED, .far = TWO_SIDED,
      .window_kind = PW_WIN_ALLOCATE, .cas_window_kind = PW_WIN_ALLOCATE,
      .mca = { UCX_MCA } },
    { .name = "tcp", .usual = TWO_SIDED, .far = TWO_SIDED,
      .parameters = "btl_tcp_",
      .mca = { "pml", "ob1", "btl", "tcp,self", "osc", "^ucx" } },
    { .name = "ofi", .far = TWO_SIDED, .mca = { OFI_MCA("tcp;ofi_rxm") } },
    { .name = "ofi-net", .far = TWO_SIDED, .mca = { OFI_MCA("net") } },
    { .name = "ofi-verbs", .mca = { OFI_MCA("verbs;ofi_rxm") } },
    { .name = "sm", .usual = ONE_SIDED, .one_sided_only = true, .window_fixed = true,
      .here_only = true,
      .window_kind = PW_WIN_ALLOCATE, .cas_window_kind = PW_WIN_ALLOCATE,
      .mca = { "pml", "ob1", "btl", "vader,self", "osc", "sm" } },
    /* 4.1.4 crashes in a compare-and-swap on MPI_Win_allocate. */
    { .name = "osc-rdma", .usual = ONE_SIDED, .one_sided_only = true, .here_only = true,
      .window_kind = PW_WIN_ALLOCATE, .cas_window_kind = PW_WIN_CREATE,
      .mca = { "pml", "ob1", "btl", "vader,self", "osc", "rdma" } },
    { .name = "osc-ucx", .usual = ONE_SIDED, .far = ONE_SIDED, .one_sided_only = true,
      .window_kind = PW_WIN_ALLOCATE, .cas_window_kind = PW_WIN_ALLOCATE,
      .mca = { UCX_MCA } },
    /* Made of messages. osc/rdma over btl tcp, which would be used where this is not,
     * fails in 4.1.4. */
    { .name = "osc-tcp", .far = ONE_SIDED, .one_sided_only = true,
      .parameters = "btl_tcp_",
      .mca = { "pml", "ob1", "btl", "tcp,self", "osc", "pt2pt" } },
    { .name = "mpich", .mpich = true, .here_only = true,
      .usual = { [PW_PAIR] = true, [PW_ONE_SIDED] = true, [PW_COLLECTIVE] = true,
                 [PW_STARTUP] = true } },
};

const struct pw_transport pw_transport_limit = { .name = "limit", .machine = true };

const struct pw_transport *pw_transport_at(int n)
{
    return (size_t)n < sizeof transports / sizeof *transports ? &transports[n] : NULL;
}

const struct pw_transport *pw_transport_find(const char *name, size_t len)
{
    const struct pw_transport *t;

    for (int i = 0; (t = pw_transport_at(i)) != NULL; i++)
        if (strlen(t->name) == len && !strncmp(t->name, name, len))
            return t;
    return NULL;
}

bool pw_transport_usual(const struct pw_transport *t, const struct pw_compare_options *o,
                        enum pw_kind kind)
{
    return o->hosts ? t->far[kind] : t->usual[kind];
}

const char *pw_transport_names(void)
{
    return "pinwheel, vader, ucx, tcp, ofi, ofi-net, ofi-verbs, sm, osc-rdma, osc-ucx, osc-tcp, "
           "mpich";
}

/* From a build tree (this program is tools/pwbench, or tools/.libs/pwbench under
 * libtool) the plugin is in components/ beside tools/. Installed, Open MPI finds
 * it by itself and there is no such directory. */
static int find_self(struct pw_command *c)
{
    ssize_t len = readlink("/proc/self/exe", c->self, sizeof c->self - 1);
    char dir[sizeof c->self], probe[sizeof c->self + 64], *slash;

    if (len < 0)
        return -errno;
    c->self[len] = '\0';
    c->components[0] = '\0';

    memcpy(dir, c->self, (size_t)len + 1);
    for (int up = 0; up < 3 && (slash = strrchr(dir, '/')) != NULL; up++) {
        *slash = '\0';
        snprintf(probe, sizeof probe, "%s/components/mca_btl_pinwheel.so", dir);
        if (up > 0 && access(probe, F_OK) == 0) {
            snprintf(c->components, sizeof c->components,
                     "OMPI_MCA_mca_base_component_path=SYSTEM_DEFAULT:%s/components", dir);
            return 0;
        }
    }
    return 0;
}

/* In a build tree it lies in tools/ too, which may be one folder up. */
const char *pw_mpich_pwbench(void)
{
    static char path[4096 + 32];
    char self[4096], *slash;
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);

    self[len < 0 ? 0 : len] = '\0';
    for (int up = 0; up < 2 && (slash = strrchr(self, '/')) != NULL; up++) {
        *slash = '\0';
        snprintf(path, sizeof path, "%s/pwbench-mpich", self);
        if (access(path, X_OK) == 0)
            return path;
    }
    snprintf(path, sizeof path, "%s/pwbench-mpich", PW_DRIVERS);
    return access(path, X_OK) == 0 ? path : NULL;
}

static void push(struct pw_command *c, int *n, const char *arg)
{
    if (*n < PW_ARGS_MAX - 1)
        c->argv[(*n)++] = arg;
    c->argv[*n] = NULL;
}

/* Formatted text goes behind what c->text holds already. */
__attribute__((format(printf, 4, 5)))
static void pushf(struct pw_command *c, int *n, size_t *used, const char *format, ...)
{
    char *at = c->text + *used;
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(at, sizeof c->text - *used, format, args);
    va_end(args);
    *used += (size_t)len + 1;
    push(c, n, at);
}

/* Of those of one machine: where hosts are others, they are taken to be like this one. */
static int ranks_beside(const struct pw_compare_options *o, const struct pw_job *job)
{
    return o->bind == PW_BIND_RANK ? job->ranks : job->ranks / o->n_hosts;
}

/* Does each rank get a core of its own? */
static bool bound(const struct pw_compare_options *o, const struct pw_job *job)
{
    return o->bind != PW_BIND_NONE && ranks_beside(o, job) <= pw_cores_usable();
}

/* Unbound ranks may be more than cores; told so, Open MPI's yield when they wait. */
static bool by_osu(const struct pw_job *job)
{
    return job->osu && !job->verify;
}

/* Ranks fill one host after the other: so the pairs of a test are of two hosts. */
static void push_hosts(struct pw_command *c, int *n, size_t *used,
                       const struct pw_compare_options *o, const struct pw_job *job)
{
    const char *at = o->hosts;
    char list[PW_HOSTS_TEXT] = "";
    int len = 0;

    if (!o->hosts)
        return;
    for (int i = 0; i < o->n_hosts && len < PW_HOSTS_TEXT; i++) {
        int name = (int)strcspn(at, ",");

        len += snprintf(list + len, sizeof list - (size_t)len, "%s%.*s:%d", i ? "," : "",
                        name, at, job->ranks / o->n_hosts);
        at += name + (at[name] == ',');
    }
    push(c, n, "--host");
    pushf(c, n, used, "%s", list);
    if (!o->agent)
        return;
    push(c, n, "--mca");
    push(c, n, "plm");
    push(c, n, "rsh");
    push(c, n, "--mca");
    push(c, n, "plm_rsh_agent");
    push(c, n, o->agent);
}

/* mpirun counts the cores of each host by itself; where hosts share them, each rank
 * takes its own before it becomes the program. */
static void push_own_core(struct pw_command *c, int *n, size_t *used)
{
    char cores[256] = "";
    int len = 0;

    for (int i = 0; pw_core_at(i) >= 0 && len < (int)sizeof cores; i++)
        len += snprintf(cores + len, sizeof cores - (size_t)len, " %d", pw_core_at(i));
    push(c, n, "sh");
    push(c, n, "-c");
    pushf(c, n, used, "n=$OMPI_COMM_WORLD_RANK; for core in%s; do "
          "[ $n != 0 ] || exec taskset -c $core \"$0\" \"$@\"; n=$((n - 1)); done", cores);
}

static void push_openmpi(struct pw_command *c, int *n, size_t *used,
                         const struct pw_compare_options *o, const struct pw_variant *v,
                         const struct pw_job *job)
{
    const struct pw_transport *t = v->transport;

    push(c, n, o->mpirun);
    if (geteuid() == 0)
        push(c, n, "--allow-run-as-root");
    push(c, n, "-n");
    pushf(c, n, used, "%d", job->ranks);
    push_hosts(c, n, used, o, job);
    if (bound(o, job) && o->bind == PW_BIND_CORE) {
        push(c, n, "--bind-to");
        push(c, n, "core");
        push(c, n, "--map-by");
        push(c, n, "core");
    } else {
        if (!bound(o, job))
            push(c, n, "--oversubscribe");
        push(c, n, "--bind-to");
        push(c, n, "none");
    }
    for (int i = 0; i < PW_TRANSPORT_MCA && t->mca[i]; i += 2) {
        push(c, n, "--mca");
        push(c, n, t->mca[i]);
        push(c, n, t->mca[i + 1]);
    }
    for (int i = 0; i < v->n_settings; i++) {
        push(c, n, "--mca");
        push(c, n, v->setting[i].name);
        push(c, n, v->setting[i].value);
    }
    if (bound(o, job) && o->bind == PW_BIND_RANK)
        push_own_core(c, n, used);
    push(c, n, by_osu(job) ? job->osu : c->self);
}

/* MPICH takes any number of ranks, and binds none unless told to. */
static void push_mpich(struct pw_command *c, int *n, size_t *used,
                       const struct pw_compare_options *o, const struct pw_job *job)
{
    push(c, n, "mpirun.mpich");
    push(c, n, "-n");
    pushf(c, n, used, "%d", job->ranks);
    if (bound(o, job)) {
        push(c, n, "-bind-to");
        push(c, n, "core");
    }
    push(c, n, o->mpich_pwbench);
}

/* Without any mpirun, on the cores where it put the ranks. */
static void push_limit(struct pw_command *c, int *n)
{
    push(c, n, c->self);
    push(c, n, "limit");
}

static void push_cores(struct pw_command *c, int *n, size_t *used, const struct pw_job *job)
{
    if (job->core[0] < 0)
        return;
    push(c, n, "--cores");
    pushf(c, n, used, "%d,%d", job->core[0], job->core[1]);
}

static enum pw_window_kind window_kind(const struct pw_compare_options *o,
                                       const struct pw_transport *t, enum pw_test test)
{
    if (o->window_kind >= 0 && !t->window_fixed)
        return (enum pw_window_kind)o->window_kind;
    return test == PW_CAS ? t->cas_window_kind : t->window_kind;
}

/* As many iterations as it makes by itself. */
static void push_osu(struct pw_command *c, int *n, size_t *used,
                     const struct pw_compare_options *o, const struct pw_transport *t,
                     const struct pw_job *job)
{
    const struct pw_test_info *info = &pw_test_info[job->test];
    size_t least = job->sizes.at[0], most = pw_sizes_largest(&job->sizes);

    for (int i = 1; i < job->sizes.n; i++)
        least = job->sizes.at[i] < least ? job->sizes.at[i] : least;
    if (most) {
        push(c, n, "-m");
        pushf(c, n, used, "%zu:%zu", least, most);
    }
    if (info->kind == PW_ONE_SIDED) {
        push(c, n, "-w");
        push(c, n, pw_window_kind_name[window_kind(o, t, job->test)]);
        push(c, n, "-s");
        push(c, n, "flush");
    }
}

/* What is measured, but not how long. */
static void push_test(struct pw_command *c, int *n, size_t *used,
                      const struct pw_compare_options *o, const struct pw_transport *t,
                      const struct pw_job *job)
{
    const struct pw_test_info *info = &pw_test_info[job->test];
    char sizes[PW_SIZES_TEXT];

    push(c, n, info->name);
    if (!info->one_size) {
        pw_sizes_format(&job->sizes, sizes);
        push(c, n, "--sizes");
        pushf(c, n, used, "%s", sizes);
    }
    if (info->buffers) {
        push(c, n, "--buffers");
        push(c, n, pw_buffers_name[job->buffers]);
    }
    if (info->kind == PW_ONE_SIDED) {
        push(c, n, "--window-kind");
        push(c, n, pw_window_kind_name[window_kind(o, t, job->test)]);
    }
    if (info->kind == PW_PAIR && job->ranks != 2)
        push(c, n, "--pairs");
    if (job->verify)
        push(c, n, "--check");
}

/* Once is enough: is there what is set? */
static void push_require(struct pw_command *c, int *n, size_t *used,
                         const struct pw_variant *v)
{
    char list[PW_SETTINGS_MAX * PW_SETTING];
    int len = 0;

    for (int i = 0; i < v->n_settings; i++)
        len += snprintf(list + len, sizeof list - (size_t)len, "%s%s", i ? "," : "",
                        v->setting[i].name);
    push(c, n, "--require");
    pushf(c, n, used, "%s", list);
}

/* What the messages of overlap take alone is measured while they are verified. */
static void push_compute(struct pw_command *c, int *n, size_t *used,
                         const struct pw_job *job)
{
    char list[PW_SIZES_MAX * 16];
    int len = 0;

    push(c, n, "--compute");
    if (job->verify) {
        push(c, n, "0");
        return;
    }
    for (int i = 0; i < job->sizes.n; i++)
        len += snprintf(list + len, sizeof list - (size_t)len, "%s%.3f", i ? "," : "",
                        job->compute[i]);
    pushf(c, n, used, "%s", list);
}

/* The median over batches is steadier, but blind to waiting for a core. */
static void push_effort(struct pw_command *c, int *n, size_t *used,
                        const struct pw_compare_options *o, const struct pw_job *job)
{
    bool crowded = ranks_beside(o, job) > pw_cores_usable();

    if (job->test == PW_INIT)
        return;
    if (job->test == PW_OVERLAP)
        push_compute(c, n, used, job);
    push(c, n, "--iterations");
    if (job->verify && job->test != PW_OVERLAP) {
        push(c, n, "2");
        push(c, n, "--warmup");
        push(c, n, "2");
        return;
    }
    push(c, n, pw_test_info[job->test].windowed ? "5000" : "100000");
    push(c, n, "--seconds");
    pushf(c, n, used, "%.3f", o->seconds);
    push(c, n, "--batches");
    push(c, n, crowded ? "1" : "10");
}

int pw_command_make(struct pw_command *c, const struct pw_compare_options *o,
                    const struct pw_variant *v, const struct pw_job *job)
{
    const struct pw_transport *t = v->transport;
    size_t used = 0;
    int n = 0, err;

    memset(c, 0, sizeof *c);
    err = find_self(c);
    if (err)
        return err;
    if (t->ours && c->components[0])
        c->env[0] = c->components;
    if (t->machine)
        push_limit(c, &n);
    else if (t->mpich)
        push_mpich(c, &n, &used, o, job);
    else
        push_openmpi(c, &n, &used, o, v, job);
    if (by_osu(job) && !t->machine) {
        push_osu(c, &n, &used, o, t, job);
        return 0;
    }
    push_test(c, &n, &used, o, t, job);
    if (job->verify && v->n_settings)
        push_require(c, &n, &used, v);
    push_effort(c, &n, &used, o, job);
    if (t->machine)
        push_cores(c, &n, &used, job);
    return 0;
}
