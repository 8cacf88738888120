/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_peers.c - the transports and their mpirun options.
 *
 * Every entry names its pml, so that Open MPI cannot put another transport in
 * its place: with ob1 and one btl besides self, the two ranks reach each other
 * over that btl or MPI_Init fails. osc/ucx is shut out where ucx is not meant,
 * since it would bring its own transport for puts and gets.
 */
#include "pwbench_peers.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* UCX refuses machines without an RDMA device unless "any" will do. It has no
 * BTLs: a pinwheel that opened beside it would serve its MPI_Alloc_mem. */
static const struct pw_transport transports[] = {
    { .name = "pinwheel", .ours = true,
      .mca = { "pml", "ob1", "btl", "pinwheel,self", "osc", "^ucx" } },
    { .name = "vader", .usual = { true, false },
      .mca = { "pml", "ob1", "btl", "vader,self", "osc", "^ucx" } },
    { .name = "ucx", .usual = { true, false },
      .mca = { "pml", "ucx", "osc", "ucx", "btl", "self",
               "pml_ucx_tls", "any", "pml_ucx_devices", "any",
               "opal_common_ucx_tls", "any", "opal_common_ucx_devices", "any" } },
    { .name = "tcp", .usual = { true, false },
      .mca = { "pml", "ob1", "btl", "tcp,self", "osc", "^ucx" } },
    { .name = "sm", .usual = { false, true }, .one_sided_only = true,
      .window_kind = PW_WIN_ALLOCATE,
      .mca = { "pml", "ob1", "btl", "vader,self", "osc", "sm" } },
    { .name = "mpich", .usual = { true, true }, .mpich = true },
};

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

const char *pw_transport_names(void)
{
    return "pinwheel, vader, ucx, tcp, sm, mpich";
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

static void push_openmpi(struct pw_command *c, int *n, const struct pw_compare_options *o,
                         const struct pw_transport *t)
{
    push(c, n, o->mpirun);
    if (geteuid() == 0)
        push(c, n, "--allow-run-as-root");
    push(c, n, "-n");
    push(c, n, "2");
    if (o->bind) {
        push(c, n, "--bind-to");
        push(c, n, "core");
        push(c, n, "--map-by");
        push(c, n, "core");
    } else {
        push(c, n, "--oversubscribe");
        push(c, n, "--bind-to");
        push(c, n, "none");
    }
    for (int i = 0; i < PW_TRANSPORT_MCA && t->mca[i]; i += 2) {
        push(c, n, "--mca");
        push(c, n, t->mca[i]);
        push(c, n, t->mca[i + 1]);
    }
    push(c, n, c->self);
}

static void push_mpich(struct pw_command *c, int *n, const struct pw_compare_options *o)
{
    push(c, n, "mpirun.mpich");
    push(c, n, "-n");
    push(c, n, "2");
    if (o->bind) {
        push(c, n, "-bind-to");
        push(c, n, "core");
    }
    push(c, n, o->mpich_pwbench);
}

static void push_test(struct pw_command *c, int *n, const struct pw_compare_options *o,
                      const struct pw_transport *t, enum pw_test test,
                      enum pw_buffers buffers, bool verify)
{
    const struct pw_test_info *info = &pw_test_info[test];
    char sizes[PW_SIZES_TEXT];
    size_t used = 0;

    pw_sizes_format(&o->sizes, sizes);
    push(c, n, info->name);
    push(c, n, "--sizes");
    pushf(c, n, &used, "%s", sizes);
    push(c, n, "--buffers");
    push(c, n, pw_buffers_name[buffers]);
    if (info->one_sided) {
        push(c, n, "--window-kind");
        push(c, n, pw_window_kind_name[t->window_kind]);
    }
    if (verify) {
        push(c, n, "--check");
        push(c, n, "--iterations");
        push(c, n, "2");
        push(c, n, "--warmup");
        push(c, n, "2");
        return;
    }
    push(c, n, "--iterations");
    push(c, n, info->rate ? "5000" : "100000");
    push(c, n, "--seconds");
    pushf(c, n, &used, "%.3f", o->seconds);
    push(c, n, "--batches");
    push(c, n, "10");
}

int pw_command_make(struct pw_command *c, const struct pw_compare_options *o,
                    const struct pw_transport *t, enum pw_test test,
                    enum pw_buffers buffers, bool verify)
{
    int n = 0, err;

    memset(c, 0, sizeof *c);
    err = find_self(c);
    if (err)
        return err;
    if (t->ours && c->components[0])
        c->env[0] = c->components;
    if (t->mpich)
        push_mpich(c, &n, o);
    else
        push_openmpi(c, &n, o, t);
    push_test(c, &n, o, t, test, buffers, verify);
    return 0;
}
