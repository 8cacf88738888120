/* SPDX-License-Identifier: BSD-3-Clause */
/* ofi.c - libfabric that is missing, refuses, or does not do what it says.
 *
 * The library is the real one, with functions of its objects' tables exchanged: those of the
 * fabric lead to the domain, and those to the endpoint. Two NICs of this process talk over
 * the loopback.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "btl/nic/ofi.h"
#include "rdm_pair.h"

extern const struct pw_nic_ops pw_nic_ofi;

__attribute__((constructor)) static void ops_set(void)
{
    ops = &pw_nic_ofi;
}

/* ---- what it is made to do ---- */

static struct {
    int send_err, read_err, key_err;    /* returned instead */
    int key_errs;                       /* so many times; then it goes on */
    bool read_lost;                     /* taken, and never heard of again */
    int no_room_in;                     /* so many reads on, for one */
    unsigned reads;                     /* so many have been asked for */
    int lose;                           /* a message of that kind, when it is next sent */
    int mr_mode;                        /* claimed too */
    size_t message_most;                /* 0: as it is */
    bool dgram;                         /* a port is claimed, by ofi_rxd */
} fake;

static struct fi_ops_msg msg_fake, msg_real;
static struct fi_ops_rma rma_fake, rma_real;
static struct fi_ops_mr mr_fake, mr_real;
static struct fi_ops_domain domain_fake, domain_real;
static struct fi_ops_fabric fabric_fake, fabric_real;
static struct ofi_library library_real;

static ssize_t fake_send(struct fid_ep *ep, const void *buf, size_t len, void *desc,
                         fi_addr_t to, void *context)
{
    return fake.send_err ? fake.send_err : msg_real.send(ep, buf, len, desc, to, context);
}

static ssize_t fake_inject(struct fid_ep *ep, const void *buf, size_t len, fi_addr_t to)
{
    int kind = ((const struct rdm_head *)buf)->kind;

    if (len >= sizeof(struct rdm_head) &&
        __atomic_compare_exchange_n(&fake.lose, &kind, 0, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED))
        return 0;
    return msg_real.inject(ep, buf, len, to);
}

static ssize_t fake_read(struct fid_ep *ep, void *buf, size_t len, void *desc,
                         fi_addr_t from, uint64_t addr, uint64_t key, void *context)
{
    fake.reads++;
    if (fake.read_err || fake.read_lost)
        return fake.read_err;
    if (fake.no_room_in && !--fake.no_room_in)
        return -FI_EAGAIN;
    return rma_real.read(ep, buf, len, desc, from, addr, key, context);
}

static int fake_reg(struct fid *fid, const void *buf, size_t len, uint64_t access,
                    uint64_t offset, uint64_t key, uint64_t flags, struct fid_mr **mr,
                    void *context)
{
    if (fake.key_errs && fake.key_errs--)
        return fake.key_err;
    return mr_real.reg(fid, buf, len, access, offset, key, flags, mr, context);
}

static int fake_endpoint(struct fid_domain *domain, struct fi_info *info,
                         struct fid_ep **ep, void *context)
{
    int err = domain_real.endpoint(domain, info, ep, context);

    if (err)
        return err;
    if (!msg_fake.size) {
        msg_fake = msg_real = *(*ep)->msg;
        rma_fake = rma_real = *(*ep)->rma;
        msg_fake.send = fake_send;
        msg_fake.inject = fake_inject;
        rma_fake.read = fake_read;
    }
    (*ep)->msg = &msg_fake;
    (*ep)->rma = &rma_fake;
    return 0;
}

static int fake_domain(struct fid_fabric *fabric, struct fi_info *info,
                       struct fid_domain **domain, void *context)
{
    int err = fabric_real.domain(fabric, info, domain, context);

    if (err)
        return err;
    if (!mr_fake.size) {
        mr_fake = mr_real = *(*domain)->mr;
        domain_fake = domain_real = *(*domain)->ops;
        mr_fake.reg = fake_reg;
        domain_fake.endpoint = fake_endpoint;
    }
    (*domain)->mr = &mr_fake;
    (*domain)->ops = &domain_fake;
    return 0;
}

static int fake_fabric(struct fi_fabric_attr *attr, struct fid_fabric **fabric,
                       void *context)
{
    int err = library_real.fabric(attr, fabric, context);

    if (err)
        return err;
    /* Once: a thread of the first NIC's looks at it when the second one is opened. */
    if (!fabric_fake.size) {
        fabric_fake = fabric_real = *(*fabric)->ops;
        fabric_fake.domain = fake_domain;
    }
    (*fabric)->ops = &fabric_fake;
    return 0;
}

/* Behind the others, as an RDMA port has one. */
static void dgram_add(struct fi_info *list)
{
    struct fi_info *info = library_real.dupinfo(list);

    free(info->domain_attr->name);
    free(info->fabric_attr->prov_name);
    info->domain_attr->name = strdup("rocm0-dgram");
    info->fabric_attr->prov_name = strdup("verbs;ofi_rxd");
    while (list->next)
        list = list->next;
    list->next = info;
}

static int fake_getinfo(uint32_t version, const char *node, const char *service,
                        uint64_t flags, const struct fi_info *hints, struct fi_info **out)
{
    int err = library_real.getinfo(version, node, service, flags, hints, out);

    for (struct fi_info *info = err ? NULL : *out; info; info = info->next) {
        info->domain_attr->mr_mode |= fake.mr_mode;
        if (fake.message_most)
            info->ep_attr->max_msg_size = fake.message_most;
    }
    if (!err && fake.dgram)
        dgram_add(*out);
    return err;
}

/* The first that may be asked to read over sockets; this one does, while no connection is
 * lost. */
static uint32_t version_that_reads(void)
{
    return FI_VERSION(1, 18);
}

static void library_fake(void)
{
    char why[PW_NIC_WHY_MAX] = "";
    struct ofi_library *lib;

    setenv("FI_PROVIDER", "tcp;ofi_rxm", 1);
    memset(&fake, 0, sizeof(fake));
    lib = (struct ofi_library *)(uintptr_t)ofi_library(why);
    if (!lib)
        cr_skip_test("%s", why);
    library_real = *lib;
    lib->version = version_that_reads;
    lib->fabric = fake_fabric;
    lib->getinfo = fake_getinfo;
}

/* ---- the library ---- */

Test(ofi, without_libfabric_probe_says_so)
{
    struct pw_nic_device device;
    struct pw_nic_info info;
    char why[PW_NIC_WHY_MAX] = "";

    setenv("FI_PROVIDER", "tcp;ofi_rxm", 1);
    ofi_library_use("libthere-is-none.so.1");
    cr_expect(eq(int, ops->probe(&info, why), -ENOSYS));
    cr_expect(strstr(why, "libthere-is-none.so.1") != NULL, "%s", why);
    cr_expect(eq(int, end_open(&a), -ENOSYS));
    cr_expect(strstr(end_why, "libfabric1") != NULL, "%s", end_why);
    cr_expect(eq(int, ops->devices(&device, 1), 1));
    cr_expect(eq(int, device.usable, 0));
    cr_expect(strstr(device.why, "libthere-is-none.so.1") != NULL, "%s", device.why);
}

Test(ofi, another_library_under_its_name_is_refused)
{
    struct pw_nic_info info;
    char why[PW_NIC_WHY_MAX] = "";

    setenv("FI_PROVIDER", "tcp;ofi_rxm", 1);
    ofi_library_use("libm.so.6");
    cr_expect(eq(int, ops->probe(&info, why), -ENOSYS));
    cr_expect(strstr(why, "it has no fi_version") != NULL, "%s", why);
}

Test(ofi, a_provider_that_there_is_not_is_named)
{
    struct pw_nic_info info;
    char why[PW_NIC_WHY_MAX] = "";

    library_fake();
    setenv("FI_PROVIDER", "nonesuch", 1);
    cr_expect(eq(int, ops->probe(&info, why), -ENODEV));
    cr_expect(strstr(why, "FI_PROVIDER=nonesuch") != NULL, "%s", why);
    cr_expect(eq(int, end_open(&a), -ENODEV));
    cr_expect(strstr(end_why, "FI_PROVIDER=nonesuch") != NULL, "%s", end_why);
}

Test(ofi, a_port_is_one_device)
{
    char why[PW_NIC_WHY_MAX] = "";
    const struct ofi_library *lib;
    struct fi_info *infos = NULL, *dgram;

    library_fake();
    fake.dgram = true;
    lib = ofi_library(why);
    for (int named = 0; named < 2; named++) {
        if (named)
            setenv("FI_PROVIDER", "verbs;ofi_rxd", 1);
        else
            unsetenv("FI_PROVIDER");
        cr_assert(eq(int, ofi_infos(lib, &infos, why), 0), "%s", why);
        dgram = ofi_info_named(lib, infos, "rocm0-dgram");
        cr_expect(eq(int, dgram != NULL, named));
        if (dgram)
            lib->freeinfo(dgram);
        lib->freeinfo(infos);
    }
}

/* Every job asks for devices: where there are only sockets it does not pay for that. */
Test(ofi, who_lists_sockets_loads_no_libfabric)
{
    struct pw_nic_device devices[8];
    struct pw_nic_info info;
    char why[PW_NIC_WHY_MAX] = "";

    unsetenv("FI_PROVIDER");
    if (!ofi_only_sockets())
        cr_skip_test("this machine has a fabric");
    cr_expect(eq(int, ops->probe(&info, why), 0));
    cr_expect(ops->devices(devices, 8) >= 1);
    cr_expect(dlopen("libfabric.so.1", RTLD_NOLOAD | RTLD_NOW) == NULL);
}

/* ---- the test of the endpoint ---- */

Test(ofi, an_endpoint_that_cannot_send_is_not_opened)
{
    library_fake();
    fake.send_err = -FI_EOPNOTSUPP;
    cr_expect(eq(int, end_open(&a), -ENODEV));
    cr_expect(strstr(end_why, "got no message from itself") != NULL, "%s", end_why);
}

Test(ofi, without_reads_there_are_frames_alone, .timeout = 120)
{
    struct pw_nic_key key;
    char page[64];

    library_fake();
    fake.read_err = -FI_ENOSYS;
    pair_open();
    cr_expect(eq(int, a.nic->info.flags & PW_NIC_PUT, 0));
    cr_expect(eq(int, (int)a.nic->info.key_size, 0));
    cr_expect(strstr(a.nic->info.note, "by frames") != NULL, "%s", a.nic->info.note);
    cr_expect(eq(int, ops->pin(a.nic, page, sizeof(page), PW_READ, &key), 0));
    cr_expect(eq(int, ops->reach(b.peer, (uintptr_t)page, 1, &key), PW_REACH_NONE));
    pair_close();
}

static uint32_t version_of_debian_12(void)
{
    return FI_VERSION(1, 17);
}

Test(ofi, an_old_library_is_not_asked_to_read_over_sockets, .timeout = 120)
{
    library_fake();
    ((struct ofi_library *)(uintptr_t)ofi_library(end_why))->version = version_of_debian_12;
    pair_open();
    cr_expect(strstr(a.nic->info.note, "before libfabric 1.18") != NULL, "%s", a.nic->info.note);
    move_all_sizes();
    cr_expect(eq(uint, fake.reads, 0));
    cr_expect(eq(int, a.downs, 0));
    pair_close();
}

/* ---- memory ---- */

/* Short gets go by a buffer, long ones register their target. */
Test(ofi, local_memory_is_registered_where_that_is_wanted, .timeout = 120)
{
    library_fake();
    fake.mr_mode = FI_MR_LOCAL | FI_MR_ALLOCATED;
    pair_open();
    move_all_sizes();
    pair_close();
}

Test(ofi, what_is_too_long_for_one_read_is_read_in_pieces, .timeout = 120)
{
    library_fake();
    fake.message_most = 65536;
    pair_open();
    move_all_sizes();
    pair_close();
}

Test(ofi, a_piece_that_finds_no_room_is_read_later, .timeout = 120)
{
    struct pw_nic_key key;

    library_fake();
    fake.message_most = 65536;
    pair_open();
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &key), 0));
    fake.no_room_in = 3;
    move(false, BYTES, &key);
    cr_expect(eq(int, fake.no_room_in, 0));
    cr_expect(eq(int, a.downs, 0));
    pair_close();
}

Test(ofi, a_put_to_memory_that_may_only_be_read_is_refused, .timeout = 120)
{
    library_fake();
    put_to_read_only_memory();
}

Test(ofi, a_key_that_is_taken_is_drawn_again, .timeout = 120)
{
    struct pw_nic_key key;

    library_fake();
    pair_open();
    memory_make();
    fake.key_err = -FI_ENOKEY;
    fake.key_errs = 3;
    cr_expect(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &key), 0));
    cr_expect(eq(int, fake.key_errs, 0));
    move(false, 1000, &key);
    ops->unpin(b.nic, source, BYTES, &key);
    fake.key_errs = 100;
    cr_expect(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &key), -EIO));
    fake.key_errs = 1;
    fake.key_err = -FI_ENOMEM;
    cr_expect(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &key), -ENOMEM));
    fake.key_errs = 0;
    pair_close();
}

/* ---- peers ---- */

/* The provider may still write where the get was to go: it is closed before anybody is told
 * that the get has failed, and then works again. */
Test(ofi, a_get_that_is_never_given_back_ends_with_a_reset, .timeout = 120)
{
    struct pw_nic_key key;

    library_fake();
    pair_open();
    memory_make();
    cr_assert(eq(int, ops->pin(b.nic, source, BYTES, PW_READ, &key), 0));
    fake.read_lost = true;
    cr_assert(eq(int, ops->get(a.peer, target, (uintptr_t)source, 1000, &key, &a),
                 PW_NIC_PENDING));
    ops->close(b.nic);
    b.nic = NULL;
    SOON(a.downs == 1);
    cr_expect(eq(int, a.cause, 0));
    cr_expect(eq(int, a.done, 1));
    cr_expect(eq(int, a.status, -ECONNRESET));
    cr_expect(eq(int, (int)__atomic_load_n(&a.nic->counts.reconnects, __ATOMIC_RELAXED), 1));
    ops->disconnect(a.peer);
    fake.read_lost = false;
    cr_assert(eq(int, end_open(&b), 0));
    connect_to(&a, &b);
    connect_to(&b, &a);
    SOON(ops->send_inline(b.peer, 0, "x", 1) == 0);
    SOON(a.frames == 1);
    pair_close();
}

/* Who has the provider's address and nothing else. */
Test(ofi, strangers_are_counted_and_not_heard, .timeout = 120)
{
    struct rdm_hello hello = { .magic = RDM_OFI_MAGIC, .version = RDM_VERSION,
                               .what = RDM_HELLO, .token = 1 };

    library_fake();
    strangers(&hello);
}

/* ---- time ---- */

Test(ofi, a_process_that_was_stopped_keeps_its_peers, .timeout = 120)
{
    library_fake();
    stopped_for_long();
}

Test(ofi, a_caller_that_waited_for_long_is_connected_to, .timeout = 120)
{
    library_fake();
    called_for_long();
}

Test(ofi, numbers_of_operations_wrap, .timeout = 120)
{
    library_fake();
    numbers_wrap();
}

/* While its program computes. What waits for it takes the buffers to receive with. */
Test(ofi, with_many_messages_unread_a_process_hears_that_others_live, .timeout = 120)
{
    struct rdm_nic *nic;
    struct rdm_peer *peer;
    uint64_t asked = 0, heard = 0, until;
    struct end c;

    library_fake();
    pair_open();
    peer = (struct rdm_peer *)b.peer;
    cr_assert(eq(int, end_open(&c), 0));
    connect_to(&c, &b);
    connect_to(&b, &c);
    SOON((ops->progress(c.nic), ops->send_inline(c.peer, 0, "x", 1) == 0));
    fill(&a);
    fill(&c);
    nic = (struct rdm_nic *)b.nic;
    until = pw_now_ns() + UINT64_C(30000000000);
    while ((!asked || heard < asked) && pw_now_ns() < until) {
        ops->progress(a.nic);
        rdm_lock(&nic->guard);
        asked = peer->asked_ms;
        heard = peer->heard_ms;
        rdm_unlock(&nic->guard);
    }
    cr_expect(asked && heard >= asked);
    ops->close(c.nic);
    pair_close();
}

/* ---- what a library loses ---- */

static void patience(struct end *end, unsigned ms)
{
    struct rdm_nic *nic = (struct rdm_nic *)end->nic;

    rdm_lock(&nic->guard);
    nic->timeout_ms = ms;
    rdm_unlock(&nic->guard);
}

/* It connects anew by itself, and tells nobody. */
Test(ofi, a_message_that_is_lost_is_missed_though_none_follows, .timeout = 120)
{
    library_fake();
    pair_open();
    patience(&b, 4000);
    __atomic_store_n(&fake.lose, RDM_DATA, __ATOMIC_RELAXED);
    cr_assert(eq(int, ops->send_inline(a.peer, 0, "x", 1), 0));
    cr_assert(eq(int, fake.lose, 0));
    SOON(b.downs == 1);
    cr_expect(eq(int, b.cause, -ECONNABORTED));
    cr_expect(eq(int, b.frames, 1));
    pair_close();
}

Test(ofi, a_put_whose_answer_is_lost_ends, .timeout = 120)
{
    struct pw_nic_key key;

    library_fake();
    pair_open();
    memory_make();
    patience(&a, 4000);
    cr_assert(eq(int, ops->pin(b.nic, target, BYTES, PW_READ | PW_WRITE, &key), 0));
    __atomic_store_n(&fake.lose, RDM_PUT_DONE, __ATOMIC_RELAXED);
    cr_assert(eq(int, ops->put(a.peer, source, (uintptr_t)target, 100, &key, &a),
                 PW_NIC_PENDING));
    SOON(a.done == 1);
    cr_expect(eq(int, a.status, -ECONNRESET));
    SOON(a.downs == 1);
    pair_close();
}
