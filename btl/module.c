/* SPDX-License-Identifier: BSD-3-Clause */
/* module.c - the table that Open MPI calls, and what is behind it.
 *
 * Start at pw_module_open(): pool, engine, free lists, in this order; closed in
 * reverse. The pool outlives the engine when the program still holds memory of
 * MPI_Alloc_mem.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include "opal/util/proc.h"
#include "limits.h"
#include "pinwheel.h"
#include "pinwheel/process_pool.h"

static int module_register_error(struct mca_btl_base_module_t *btl,
                                 mca_btl_base_module_error_cb_fn_t cb)
{
    ((struct pw_module *)btl)->error_cb = cb;
    return OPAL_SUCCESS;
}

static int module_finalize(struct mca_btl_base_module_t *btl)
{
    (void)btl;
    pw_module_close();
    return OPAL_SUCCESS;
}

/* Above vader and every network: with several BTLs loaded, the ranks that we
 * reach are ours alone. */
enum { PW_EXCLUSIVITY = MCA_BTL_EXCLUSIVITY_HIGH + 1 };

struct pw_module pw_module = {
    .super = {
        .btl_component = &mca_btl_pinwheel_component,
        .btl_rdma_pipeline_send_length = 0,
        .btl_rdma_pipeline_frag_size = SIZE_MAX,
        /* ob1 would otherwise cut long messages into its own pipeline. */
        .btl_min_rdma_pipeline_size = SIZE_MAX,
        .btl_exclusivity = PW_EXCLUSIVITY,
        .btl_latency = 1,
        .btl_bandwidth = 40000,
        /* Not SEND_INPLACE: so sendi serves every message up to the limit. */
        .btl_flags = MCA_BTL_FLAGS_SEND | MCA_BTL_FLAGS_RDMA |
                     MCA_BTL_FLAGS_ATOMIC_OPS | MCA_BTL_FLAGS_ATOMIC_FOPS |
                     MCA_BTL_FLAGS_RDMA_FLUSH,
        /* Not MIN and MAX: osc/rdma asks for them without telling whether the
         * integers are signed. It locks and computes by itself then. */
        .btl_atomic_flags = MCA_BTL_ATOMIC_SUPPORTS_ADD | MCA_BTL_ATOMIC_SUPPORTS_AND |
                            MCA_BTL_ATOMIC_SUPPORTS_OR | MCA_BTL_ATOMIC_SUPPORTS_XOR |
                            MCA_BTL_ATOMIC_SUPPORTS_LAND | MCA_BTL_ATOMIC_SUPPORTS_LOR |
                            MCA_BTL_ATOMIC_SUPPORTS_LXOR | MCA_BTL_ATOMIC_SUPPORTS_SWAP |
                            MCA_BTL_ATOMIC_SUPPORTS_32BIT |
                            MCA_BTL_ATOMIC_SUPPORTS_FLOAT |
                            MCA_BTL_ATOMIC_SUPPORTS_CSWAP | MCA_BTL_ATOMIC_SUPPORTS_GLOB,
        .btl_get_limit = SIZE_MAX,
        .btl_put_limit = SIZE_MAX,
        /* The origin's memory needs no registration; without this osc/rdma
         * copies through a buffer of its own. */
        .btl_get_local_registration_threshold = SIZE_MAX,
        .btl_put_local_registration_threshold = SIZE_MAX,
        .btl_add_procs = pw_add_procs,
        .btl_del_procs = pw_del_procs,
        .btl_finalize = module_finalize,
        .btl_alloc = pw_alloc,
        .btl_free = pw_free,
        .btl_prepare_src = pw_prepare_src,
        .btl_send = pw_send,
        .btl_sendi = pw_sendi,
        .btl_put = pw_put,
        .btl_get = pw_get,
        .btl_dump = mca_btl_base_dump,
        .btl_atomic_op = pw_atomic_op,
        .btl_atomic_fop = pw_atomic_fop,
        .btl_atomic_cswap = pw_atomic_cswap,
        .btl_register_mem = pw_register_mem,
        .btl_deregister_mem = pw_deregister_mem,
        .btl_register_error = module_register_error,
        .btl_flush = pw_flush,
    },
};

/* 0: not known. */
static unsigned host_cores(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return cores > 0 ? (unsigned)cores : 0;
}

unsigned pw_host_ranks(void)
{
    return opal_process_info.num_local_peers + 1u;
}

bool pw_host_crowded(void)
{
    return host_cores() && pw_host_ranks() > host_cores();
}

static void pool_tell(struct pw_module *m, bool found)
{
    struct pw_pool_info info;

    if (opal_process_info.my_local_rank != 0)
        return;
    pw_pool_describe(m->pool, &info);
    pw_tell(1, "a pool of %zu MiB for each rank, %s%s%s", info.size >> 20,
            pw_pages_name(info.pages), *info.why ? "; " : "", info.why);
    if (found)
        pw_tell(1, "libpinwheel-malloc has opened it: malloc() takes large blocks from it");
}

/* A preloaded malloc may have opened the pool already: one process has one. */
static int pool_open(struct pw_module *m)
{
    struct pw_pool_config config = {
        .size = pw_params.pool_size, .pages = pw_params.pool_pages,
        .sharers = pw_host_ranks(), .min_size = PW_POOL_SHARE_LEAST,
    };
    int err = pw_process_pool_get(&config, &m->pool);

    /* Too large for this machine: the transport needs little, and the program
     * can have its memory elsewhere. */
    if (err < 0) {
        pw_say(true, "no shared pool of the size and pages asked for (%s): MPI_Alloc_mem "
               "gives ordinary memory", strerror(-err));
        config = (struct pw_pool_config){ .size = (size_t)64 << 20,
                                          .pages = PW_PAGES_4K };
        err = pw_process_pool_get(&config, &m->pool);
    }
    if (err < 0) {
        pw_say(true, "no shared memory to be had (%s): memfd_create(2) or a file in "
               "/dev/shm must be allowed. pinwheel is not used.", strerror(-err));
        return err;
    }
    pool_tell(m, err > 0);
    return 0;
}

static int engine_open(struct pw_module *m, bool threads)
{
    static const struct pw_engine_upcalls up = { .recv = pw_recv, .dead = pw_procs_dead,
                                                .caller = pw_procs_caller,
                                                .news = pw_procs_news };
    struct pw_engine_config config = {
        .pool = m->pool, .up = &up, .ctx = m, .nics = pw_params.nics,
        .if_include = pw_params.if_include, .if_exclude = pw_params.if_exclude,
        .peer_timeout_ms = (unsigned)pw_params.peer_timeout * 1000,
        .job = (uint64_t)geteuid(), .threads = threads,
        .local_peers = pw_host_ranks() - 1, .queue_bytes = pw_params.queue_size,
        .kernel_copy = pw_params.cma != 0, .attach = pw_params.attach != 0,
        .distrust = pw_params.distrust,
        .bulk = pw_params.bulk, .want = pw_params.want,
        .cores = host_cores(),
        .sleep_us = (unsigned)pw_params.sleep_us, .monitor = pw_params.monitor,
        .pin_bytes = pw_params.pin_bytes, .pin_regions = pw_params.pin_regions,
        .pin_host_bytes = pw_params.pin_host_bytes,
    };
    char why[PW_NIC_WHY_MAX];
    int err;

    pw_costs_load(&config);
    err = pw_engine_open(&config, &m->engine, why);
    if (err == -EINVAL)
        pw_say(true, "%s. pinwheel is not used.",
               *why ? why : "btl_pinwheel: not possible with these parameters");
    else if (err)
        pw_say(true, "no NIC can be used: %s. pinwheel is not used.",
               *why ? why : strerror(-err));
    else if (*why)
        pw_say(true, "not all NICs can be used: %s", why);
    return err;
}

/* From the first pin on the pool's pages are to stay what they are; where no NIC
 * pins them, memory that malloc frees can go. */
static int engine_open_on_pool(struct pw_module *m, bool threads)
{
    int err;

    pw_pool_hold(m->pool);
    err = engine_open(m, threads);
    if (err || !pw_engine_pins_pool(m->engine))
        pw_pool_release(m->pool);
    return err;
}

/* Container runtimes filter the call by process: then not even our own memory can
 * be read by it. What Yama or namespaces refuse between two ranks is seen by the
 * NIC when they meet. */
static void tell_kernel_copy(void)
{
    char from = 1, to = 0;
    struct iovec l = { &to, 1 }, r = { &from, 1 };

    if (!pw_params.cma)
        pw_tell(1, "no kernel copies (btl_pinwheel_cma=0): puts and gets on memory outside "
                "the pool travel as frames, while their target is inside MPI");
    else if (process_vm_readv(getpid(), &l, 1, &r, 1, 0) != 1)
        pw_tell(1, "the kernel refuses process_vm_readv (%s): puts and gets on memory "
                "outside the pool travel as frames, while their target is inside MPI. "
                "Allow the call in this container, or take windows from MPI_Alloc_mem",
                strerror(errno));
}

/* What NICs say of themselves besides: whether any memory can be attached, and why not; and
 * those that are none. */
static void tell_nics(const struct pw_module *m)
{
    const struct pw_nic_info *info;

    for (int i = 0; (info = pw_engine_nic(m->engine, i)); i++)
        if (*info->note)
            pw_tell(1, "%s: %s", info->what, info->note);
    if (*pw_engine_left_out(m->engine))
        pw_tell(1, "of some backends nothing can be used here: %s",
                pw_engine_left_out(m->engine));
}

static void tell_trust(void)
{
    pw_tell(1, pw_params.distrust ?
            "other ranks of this host are not trusted (btl_pinwheel_trust=copy): each "
            "message is copied before it is looked at" :
            "other ranks of this host are trusted (btl_pinwheel_trust=full): messages are "
            "read where they lie");
}

static size_t eager_limit(void)
{
    if (pw_params.eager_limit)
        return pw_params.eager_limit;
    return pw_host_crowded() ? PW_EAGER_LIMIT_CROWDED : PW_EAGER_LIMIT;
}

/* A message must fit a frame, whatever was asked for. */
static void set_limits(struct pw_module *m)
{
    size_t most = pw_engine_message_max(m->engine);
    size_t eager = eager_limit(), frag = pw_params.max_send_size;

    if (eager > most || frag > most)
        pw_tell(1, "eager_limit and max_send_size are cut to %zu, a quarter of the queue",
                most);
    m->super.btl_eager_limit = eager < most ? eager : most;
    m->super.btl_rndv_eager_limit = m->super.btl_eager_limit;
    m->super.btl_max_send_size = frag < most ? frag : most;
    if (m->super.btl_max_send_size < m->super.btl_eager_limit)
        m->super.btl_max_send_size = m->super.btl_eager_limit;
    m->super.btl_registration_handle_size = pw_engine_key_size(m->engine);
}

int pw_module_open(bool threads)
{
    struct pw_module *m = &pw_module;
    int err = pool_open(m);

    if (!err)
        err = engine_open_on_pool(m, threads);
    if (err)
        return OPAL_ERR_NOT_AVAILABLE;
    set_limits(m);
    pw_far_open(m);
    pw_tell_memory(m->engine);
    if (opal_process_info.my_local_rank == 0) {
        tell_kernel_copy();
        tell_nics(m);
        tell_trust();
    }
    if (pw_send_init() || pw_rdma_init())
        return OPAL_ERR_OUT_OF_RESOURCE;
    return OPAL_SUCCESS;
}

void pw_module_close(void)
{
    struct pw_module *m = &pw_module;

    if (m->engine) {
        bool pinned = pw_engine_pins_pool(m->engine);

        pw_tell_counts(m->engine);
        pw_tell_nodes(m->pool);
        pw_procs_fini();
        pw_engine_close(m->engine);
        if (pinned)
            pw_pool_release(m->pool);
        m->engine = NULL;
        pw_send_fini();
        pw_rdma_fini();
    }
    pw_process_pool_put(m->pool);
    m->pool = NULL;
}
