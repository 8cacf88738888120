/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx.c - UCX that is missing, refuses, or does not do what it says.
 *
 * The library is the real one, with functions of its table exchanged. Two NICs of this
 * process talk over the loopback.
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "btl/nic/ucx.h"
#include "rdm_pair.h"

extern const struct pw_nic_ops pw_nic_ucx;

__attribute__((constructor)) static void ops_set(void)
{
    ops = &pw_nic_ucx;
}

/* ---- what it is made to do ---- */

static struct {
    ucs_status_t config, init, worker, handler, query, way, send, efd;
    bool send_lost;                     /* taken, and never heard of again */
    size_t address_more;                /* its address is longer by that */
    ucs_status_t fail_ways;             /* told of all ways when it next looks */
    struct ucx_nic *fail_of;            /* of that NIC */
    unsigned arms;                      /* so often somebody was about to sleep */
    bool stuck;                         /* nothing goes on any more */
    bool few_longs;                     /* so many more long messages find room */
    int longs;                          /* atomic */
} fake;

/* What changes while threads of NICs look at it. */
#define fake_get(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define fake_set(x, to) __atomic_store_n(&(x), (to), __ATOMIC_RELEASE)

static struct ucx_library real;

/* Who is told when they fail. */
enum { WAYS = 16, LONG_MESSAGE = 1000 };
static struct {
    ucp_worker_h worker;
    ucp_ep_h ep;
    ucp_err_handler_t told;
} ways[WAYS];
static int n_ways;
static pthread_mutex_t ways_lock = PTHREAD_MUTEX_INITIALIZER;

static ucs_status_t fake_config_read(const char *prefix, const char *file,
                                     ucp_config_t **out)
{
    return fake.config ? fake.config : real.config_read(prefix, file, out);
}

static ucs_status_t fake_init(unsigned major, unsigned minor, const ucp_params_t *params,
                              const ucp_config_t *config, ucp_context_h *out)
{
    return fake.init ? fake.init : real.init(major, minor, params, config, out);
}

static ucs_status_t fake_worker(ucp_context_h context, const ucp_worker_params_t *params,
                                ucp_worker_h *out)
{
    return fake.worker ? fake.worker : real.worker_create(context, params, out);
}

static ucs_status_t fake_handler(ucp_worker_h worker, const ucp_am_handler_param_t *param)
{
    return fake.handler ? fake.handler : real.set_am_recv_handler(worker, param);
}

static ucs_status_t fake_query(ucp_worker_h worker, ucp_worker_attr_t *attr)
{
    ucs_status_t status = fake.query ? fake.query : real.worker_query(worker, attr);

    attr->address_length += fake.address_more;
    return status;
}

static ucs_status_t fake_efd(ucp_worker_h worker, int *fd)
{
    return fake.efd ? fake.efd : real.get_efd(worker, fd);
}

static ucs_status_t fake_way(ucp_worker_h worker, const ucp_ep_params_t *params,
                             ucp_ep_h *out)
{
    ucs_status_t status = fake_get(fake.way);

    if (!status)
        status = real.ep_create(worker, params, out);
    pthread_mutex_lock(&ways_lock);
    if (status == UCS_OK && n_ways < WAYS) {
        ways[n_ways].worker = worker;
        ways[n_ways].ep = *out;
        ways[n_ways++].told = params->err_handler;
    }
    pthread_mutex_unlock(&ways_lock);
    return status;
}

static ucs_status_ptr_t fake_send(ucp_ep_h ep, unsigned id, const void *header,
                                  size_t header_len, const void *buffer, size_t count,
                                  const ucp_request_param_t *param)
{
    ucs_status_t status = fake_get(fake.send);

    if (status || fake_get(fake.send_lost))
        return UCS_STATUS_PTR(status);
    if (count > LONG_MESSAGE && fake_get(fake.few_longs) &&
        __atomic_sub_fetch(&fake.longs, 1, __ATOMIC_RELAXED) < 0)
        return UCS_STATUS_PTR(UCS_ERR_NO_RESOURCE);
    return real.am_send(ep, id, header, header_len, buffer, count, param);
}

/* As UCX does, from inside of its progress, and through the handler it was given. */
static unsigned fake_progress(ucp_worker_h worker)
{
    ucs_status_t status = fake_get(fake.fail_ways);

    if (fake_get(fake.stuck))
        return 0;
    if (status && fake.fail_of->worker == worker) {
        fake_set(fake.fail_ways, UCS_OK);
        pthread_mutex_lock(&ways_lock);
        for (int i = 0; i < n_ways; i++)
            if (ways[i].worker == worker)
                ways[i].told.cb(ways[i].told.arg, ways[i].ep, status);
        pthread_mutex_unlock(&ways_lock);
    }
    return real.progress(worker);
}

static ucs_status_t fake_arm(ucp_worker_h worker)
{
    __atomic_fetch_add(&fake.arms, 1, __ATOMIC_RELAXED);
    return real.arm(worker);
}

static void library_fake(void)
{
    char why[PW_NIC_WHY_MAX] = "";
    struct ucx_library *lib;

    memset(&fake, 0, sizeof(fake));
    lib = (struct ucx_library *)(uintptr_t)ucx_library(why);
    if (!lib)
        cr_skip_test("%s", why);
    real = *lib;
    lib->config_read = fake_config_read;
    lib->init = fake_init;
    lib->worker_create = fake_worker;
    lib->set_am_recv_handler = fake_handler;
    lib->worker_query = fake_query;
    lib->get_efd = fake_efd;
    lib->ep_create = fake_way;
    lib->am_send = fake_send;
    lib->progress = fake_progress;
    lib->arm = fake_arm;
}

/* ---- the library ---- */

Test(ucx, without_ucx_it_says_what_to_install)
{
    char why[PW_NIC_WHY_MAX] = "";

    ucx_library_use("libthere-is-none.so.1");
    cr_expect(ucx_library(why) == NULL);
    cr_expect(strstr(why, "libucx0") != NULL, "%s", why);
    cr_expect(strstr(why, "libthere-is-none.so.1") != NULL, "%s", why);
    cr_expect(eq(int, end_open(&a), -ENOSYS));
    cr_expect(strstr(end_why, "libucx0") != NULL, "%s", end_why);
}

Test(ucx, another_library_under_its_name_is_refused)
{
    char why[PW_NIC_WHY_MAX] = "";

    ucx_library_use("libm.so.6");
    cr_expect(ucx_library(why) == NULL);
    cr_expect(strstr(why, "it has no ucp_get_version") != NULL, "%s", why);
}

/* Every job asks for devices, and does not pay for UCX. */
Test(ucx, who_lists_devices_loads_no_ucx)
{
    struct pw_nic_device devices[8];
    struct pw_nic_info info;
    char why[PW_NIC_WHY_MAX] = "";

    cr_expect(eq(int, ops->probe(&info, why), 0));
    cr_expect(ops->devices(devices, 8) >= 1);
    cr_expect(dlopen("libucp.so.0", RTLD_NOLOAD | RTLD_NOW) == NULL);
}

/* What else uses UCX in this process has its own wishes for these. */
Test(ucx, hooks_and_signals_are_left_as_they_are)
{
    void *(*map)(void *, size_t, int, int, int, off_t) = mmap;
    int (*unmap)(void *, size_t) = munmap;
    struct sigaction before, after;
    char code[2][16];

    memcpy(code[0], (void *)(uintptr_t)map, sizeof(code[0]));
    memcpy(code[1], (void *)(uintptr_t)unmap, sizeof(code[1]));
    sigaction(SIGBUS, NULL, &before);
    library_fake();
    pair_open();
    cr_expect(memcmp(code[0], (void *)(uintptr_t)map, sizeof(code[0])) == 0);
    cr_expect(memcmp(code[1], (void *)(uintptr_t)unmap, sizeof(code[1])) == 0);
    sigaction(SIGBUS, NULL, &after);
    cr_expect(before.sa_handler == after.sa_handler);
    pair_close();
}

/* ---- open ---- */

static void expect_not_opened(ucs_status_t *what, int err)
{
    *what = UCS_ERR_NO_DEVICE;
    cr_expect(eq(int, end_open(&a), err));
    cr_expect(strstr(end_why, "UCX") != NULL, "%s", end_why);
    *what = UCS_OK;
}

Test(ucx, what_ucx_refuses_is_not_opened, .timeout = 120)
{
    library_fake();
    expect_not_opened(&fake.config, -ENODEV);
    expect_not_opened(&fake.init, -ENODEV);
    expect_not_opened(&fake.worker, -ENODEV);
    expect_not_opened(&fake.handler, -ENODEV);
    expect_not_opened(&fake.query, -ENODEV);
    expect_not_opened(&fake.way, -ENODEV);
    expect_not_opened(&fake.send, -ENODEV);
    fake.address_more = PW_NIC_ADDRESS_MAX;
    cr_expect(eq(int, end_open(&a), -EMSGSIZE));
    fake.address_more = 0;
    cr_expect(eq(int, end_open(&a), 0), "and it can be when it is not refused");
    ops->close(a.nic);
}

Test(ucx, a_worker_that_brings_nothing_is_not_opened, .timeout = 120)
{
    library_fake();
    fake_set(fake.send_lost, true);
    cr_expect(eq(int, end_open(&a), -ENODEV));
}

/* To sleep is then to look now and then. */
Test(ucx, without_a_descriptor_it_works, .timeout = 120)
{
    library_fake();
    fake.efd = UCS_ERR_UNSUPPORTED;
    pair_open();
    ops->wait(b.nic, 1000000);
    ops->send_inline(a.peer, 0, "x", 1);
    SOON(b.frames == 2);
    pair_close();
}

/* What wait itself finds may be the room that its caller waits for. */
Test(ucx, who_waits_does_not_sleep_when_room_has_come, .timeout = 120)
{
    uint64_t until = pw_now_ns() + UINT64_C(20000000000);
    struct rdm_peer *peer;
    uint32_t acked;
    unsigned arms;

    library_fake();
    pair_open();
    peer = (struct rdm_peer *)a.peer;
    fill(&a);
    rdm_thread_stop((struct rdm_nic *)a.nic);
    rdm_thread_stop((struct rdm_nic *)b.nic);
    /* What b says is there when a waits, but where the kernel is behind: then once more. */
    do {
        fill(&a);
        do {
            ops->progress(b.nic);
            usleep(100);
            acked = peer->acked;
            arms = fake.arms;
            ops->wait(a.nic, 1000);
        } while (peer->acked == acked);
    } while (fake.arms != arms && pw_now_ns() < until);
    cr_expect(eq(uint, fake.arms, arms));
    pair_close();
}

/* ---- memory ---- */

Test(ucx, puts_and_gets_of_all_sizes, .timeout = 120)
{
    library_fake();
    pair_open();
    move_all_sizes();
    cr_expect(a.nic->counts.wire_copied >= 2 * BYTES);
    pair_close();
}

Test(ucx, a_put_to_memory_that_may_only_be_read_is_refused, .timeout = 120)
{
    library_fake();
    put_to_read_only_memory();
}

Test(ucx, memory_that_is_not_pinned_any_more_is_not_read, .timeout = 120)
{
    library_fake();
    get_unpinned(1000);
    SOON(a.done == 1);
    cr_expect(eq(int, a.status, -EFAULT));
    cr_expect(eq(int, target[0], 0));
    pair_close();
}

/* Nobody is in it when unpin has returned, and what comes late finds nobody. */
Test(ucx, memory_is_unpinned_in_the_middle_of_a_get, .timeout = 120)
{
    enum { LONG = 64 << 20 };
    struct pw_nic_key key;
    char *from = mmap(NULL, LONG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *to = malloc(LONG);

    library_fake();
    pair_open();
    cr_assert(from != MAP_FAILED && to);
    fake.longs = 20;
    fake_set(fake.few_longs, true);
    cr_assert(eq(int, ops->pin(b.nic, from, LONG, PW_READ, &key), 0));
    cr_assert(eq(int, ops->get(a.peer, to, (uintptr_t)from, LONG, &key, &a),
                 PW_NIC_PENDING));
    SOON(__atomic_load_n(&b.nic->counts.wire_copied, __ATOMIC_RELAXED) > 100000);
    ops->unpin(b.nic, from, LONG, &key);
    munmap(from, LONG);
    fake_set(fake.few_longs, false);
    SOON(a.done == 1);
    cr_expect(eq(int, a.status, -EFAULT));
    ops->send_inline(a.peer, 0, "x", 1);
    SOON(b.frames == 2);
    pair_close();
    free(to);
}

/* Its thread serves what its program has no time for. */
Test(ucx, an_owner_that_computes_is_read, .timeout = 120)
{
    uint64_t until = pw_now_ns() + UINT64_C(20000000000);
    struct pw_nic_key key;

    library_fake();
    pair_open();
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &key), 0));
    cr_assert(eq(int, ops->get(a.peer, target, (uintptr_t)source, BYTES, &key, &a),
                 PW_NIC_PENDING));
    while (!a.done && pw_now_ns() < until)
        ops->progress(a.nic);
    cr_expect(eq(int, (int)a.done, 1));
    cr_expect(memcmp(source, target, BYTES) == 0);
    pair_close();
}

/* ---- peers ---- */

Test(ucx, no_room_is_another_time, .timeout = 120)
{
    library_fake();
    pair_open();
    fake_set(fake.send, UCS_ERR_NO_RESOURCE);
    cr_expect(eq(int, ops->send_inline(a.peer, 0, "x", 1), -EAGAIN));
    fake_set(fake.send, UCS_OK);
    SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
    SOON(b.frames == 2);
    pair_close();
}

Test(ucx, a_send_that_fails_takes_the_peer_down, .timeout = 120)
{
    library_fake();
    pair_open();
    fake_set(fake.send, UCS_ERR_IO_ERROR);
    cr_expect(eq(int, ops->send_inline(a.peer, 0, "x", 1), -EPIPE));
    fake_set(fake.send, UCS_OK);
    SOON(a.downs == 1);
    cr_expect(eq(int, a.cause, -ECONNABORTED), "its process listens: it is not gone");
    pair_close();
}

/* A link that broke: the process lives, and is connected to anew by another way. */
Test(ucx, a_way_that_failed_is_made_anew, .timeout = 120)
{
    static const ucs_status_t statuses[] = { UCS_ERR_CONNECTION_RESET,
                                             UCS_ERR_ENDPOINT_TIMEOUT, UCS_ERR_UNREACHABLE };

    library_fake();
    for (size_t i = 0; i < sizeof(statuses) / sizeof(*statuses); i++) {
        n_ways = 0;
        pair_open();
        fake.fail_of = (struct ucx_nic *)a.nic;
        fake_set(fake.fail_ways, statuses[i]);
        SOON(a.downs == 1);
        cr_expect(eq(int, a.cause, -ECONNABORTED));
        ops->disconnect(a.peer);
        connect_to(&a, &b);
        SOON(b.downs == 1);
        ops->disconnect(b.peer);
        connect_to(&b, &a);
        SOON(ops->send_inline(a.peer, 0, "x", 1) == 0);
        SOON(b.frames == 2);
        pair_close();
    }
}

/* As where the link is gone, or the machine busy. */
Test(ucx, a_way_that_does_not_close_in_time_is_left, .timeout = 120)
{
    library_fake();
    pair_open();
    fake_set(fake.stuck, true);
    pair_close();
}

Test(ucx, who_cannot_be_reached_is_not_connected, .timeout = 120)
{
    uint8_t address[PW_NIC_ADDRESS_MAX];
    size_t len;

    library_fake();
    cr_assert(eq(int, end_open(&a), 0));
    cr_assert(eq(int, end_open(&b), 0));
    len = ops->address(b.nic, address);
    fake_set(fake.way, UCS_ERR_UNREACHABLE);
    cr_expect(eq(int, ops->connect(a.nic, address, len, &a, &a.peer), -EHOSTUNREACH));
    fake_set(fake.way, UCS_ERR_NO_MEMORY);
    cr_expect(eq(int, ops->connect(a.nic, address, len, &a, &a.peer), -ENOMEM));
    pair_close();
}

/* UCX would end the process. */
Test(ucx, an_address_with_an_error_in_it_is_refused, .timeout = 120)
{
    uint8_t address[PW_NIC_ADDRESS_MAX];
    size_t len;

    library_fake();
    cr_assert(eq(int, end_open(&a), 0));
    cr_assert(eq(int, end_open(&b), 0));
    len = ops->address(b.nic, address);
    for (size_t i = offsetof(struct rdm_address, name); i < len; i++) {
        address[i] ^= 0x40;
        cr_expect(eq(int, ops->connect(a.nic, address, len, &a, &a.peer), -EINVAL));
        address[i] ^= 0x40;
    }
    pair_close();
}

Test(ucx, strangers_are_counted_and_not_heard, .timeout = 120)
{
    struct rdm_hello hello = { .magic = RDM_UCX_MAGIC, .version = RDM_VERSION,
                               .what = RDM_HELLO, .token = 1 };

    library_fake();
    strangers(&hello);
}

/* ---- time ---- */

Test(ucx, a_process_that_was_stopped_keeps_its_peers, .timeout = 120)
{
    library_fake();
    stopped_for_long();
}

Test(ucx, a_caller_that_waited_for_long_is_connected_to, .timeout = 120)
{
    library_fake();
    called_for_long();
}

Test(ucx, numbers_of_operations_wrap, .timeout = 120)
{
    library_fake();
    numbers_wrap();
}
