/* SPDX-License-Identifier: BSD-3-Clause */
/* strangers.c - who may not talk to the shm NIC: other users, those who do not
 * know the secret, those who talk nonsense.
 *
 * A caller here is a plain socket that does by hand what shm_link.c does, and
 * one thing wrong. It is refused when its connection is closed on it.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "btl/nic/shm.h"

extern const struct pw_nic_ops pw_nic_shm;

static void up_recv(void *ctx, void *peer, uint32_t imm, const void *data, size_t len)
{
    (void)peer;
    (void)imm;
    (void)data;
    (void)len;
    ++*(int *)ctx;
}

static void up_complete(void *ctx, void *op, int status)
{
    (void)ctx;
    (void)op;
    (void)status;
}

static struct { int times, cause; char why[PW_NIC_WHY_MAX]; } downs;

static void up_down(void *ctx, void *peer, int cause, const char *why)
{
    (void)ctx;
    (void)peer;
    downs.times++;
    downs.cause = cause;
    snprintf(downs.why, sizeof(downs.why), "%s", why);
}

static const struct pw_nic_upcalls up = { .recv = up_recv, .complete = up_complete,
                                            .down = up_down };

struct host {
    struct pw_pool *pool;
    struct pw_nic *nic;
    struct shm_address address;
    int frames;
};

static void host_open_as(struct host *h, bool distrust)
{
    struct pw_pool_config pc = { .size = (size_t)16 << 20, .pages = PW_PAGES_4K };
    struct pw_nic_config nc = { .up = &up, .ctx = &h->frames, .distrust = distrust };

    memset(h, 0, sizeof(*h));
    cr_assert(eq(int, pw_pool_open(&pc, &h->pool), 0));
    nc.pool = h->pool;
    cr_assert(eq(int, pw_nic_shm.open(&nc, &h->nic), 0));
    cr_assert(eq(sz, pw_nic_shm.address(h->nic, &h->address), sizeof(h->address)));
}

static void host_open(struct host *h)
{
    host_open_as(h, false);
}

static void host_close(struct host *h)
{
    pw_nic_shm.close(h->nic);
    pw_pool_close(h->pool);
}

static void turns(struct host *h, int n)
{
    while (n--)
        pw_nic_shm.progress(h->nic);
}

static int call(const struct shm_address *to)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    char *p = sa.sun_path + 1;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    p += sprintf(p, "pinwheel-");
    for (int i = 0; i < SHM_ID; i++)
        p += sprintf(p, "%02x", to->id[i]);
    if (connect(fd, (struct sockaddr *)&sa, (socklen_t)(p - (char *)&sa)))
        return -1;
    return fd;
}

static struct shm_hello hello_right(const struct shm_address *to)
{
    struct shm_hello h = { .magic = SHM_MAGIC, .version = SHM_VERSION,
                           .size = (size_t)4 << 20, .queue = 4096,
                           .queue_size = SHM_STOW_SIZE_MIN };

    memcpy(h.secret, to->secret, SHM_ID);
    memset(h.from, 7, SHM_ID);
    return h;
}

static void hello_send(int to, const void *bytes, size_t len, int pass)
{
    struct iovec iov = { (void *)(uintptr_t)bytes, len };
    union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

    memset(&control, 0, sizeof(control));
    if (pass >= 0) {
        struct cmsghdr *c;
        m.msg_control = &control;
        m.msg_controllen = sizeof(control);
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass, sizeof(int));
    }
    (void)!sendmsg(to, &m, MSG_NOSIGNAL);
}

static bool closed_on(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);

    return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* What becomes of a caller that says these bytes and passes a segment or not. */
static bool refused(struct host *h, const void *bytes, size_t len, bool pass)
{
    int fd = call(&h->address), segment = memfd_create("segment", MFD_CLOEXEC);
    bool answer;

    cr_assert(fd >= 0 && segment >= 0 && !ftruncate(segment, 4 << 20));
    hello_send(fd, bytes, len, pass ? segment : -1);
    turns(h, 20000);
    answer = closed_on(fd);
    close(fd);
    close(segment);
    return answer;
}

Test(strangers, one_who_does_everything_right_is_kept_waiting)
{
    struct host h;
    struct shm_hello hello;

    host_open(&h);
    hello = hello_right(&h.address);
    cr_expect(not(refused(&h, &hello, sizeof(hello), true)));
    host_close(&h);
}

Test(strangers, one_who_does_not_know_the_secret_is_refused)
{
    struct host h;
    struct shm_hello hello;

    host_open(&h);
    for (int i = 0; i < SHM_ID; i++) {
        hello = hello_right(&h.address);
        hello.secret[i] ^= 1;
        cr_expect(refused(&h, &hello, sizeof(hello), true));
    }
    host_close(&h);
}

Test(strangers, one_of_another_version_is_refused)
{
    struct host h;
    struct shm_hello hello;

    host_open(&h);
    hello = hello_right(&h.address);
    hello.version++;
    cr_expect(refused(&h, &hello, sizeof(hello), true));
    hello = hello_right(&h.address);
    hello.magic++;
    cr_expect(refused(&h, &hello, sizeof(hello), true));
    host_close(&h);
}

Test(strangers, a_queue_or_a_bell_outside_the_segment_is_refused)
{
    struct host h;
    struct shm_hello right;

    host_open(&h);
    right = hello_right(&h.address);
    const struct { size_t field; uint64_t value; } wrong[] = {
        { offsetof(struct shm_hello, queue), 4 << 20 },
        { offsetof(struct shm_hello, queue), UINT64_MAX - 63 },
        { offsetof(struct shm_hello, queue), 4096 + 8 },
        { offsetof(struct shm_hello, queue_size), 0 },
        { offsetof(struct shm_hello, queue_size), 5000 },
        { offsetof(struct shm_hello, queue_size), 4 << 20 },
        { offsetof(struct shm_hello, queue_size), UINT64_C(1) << 63 },
        { offsetof(struct shm_hello, bell), 4 << 20 },
        { offsetof(struct shm_hello, bell), UINT64_MAX - 63 },
        { offsetof(struct shm_hello, bell), 8 },
        { offsetof(struct shm_hello, size), 4096 },
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct shm_hello hello = right;
        memcpy((char *)&hello + wrong[i].field, &wrong[i].value, 8);
        cr_expect(refused(&h, &hello, sizeof(hello), true), "case %zu", i);
    }
    host_close(&h);
}

Test(strangers, nonsense_is_refused)
{
    struct host h;
    struct shm_hello hello;
    char noise[2 * sizeof(hello)];

    host_open(&h);
    hello = hello_right(&h.address);
    memset(noise, 'x', sizeof(noise));
    cr_expect(refused(&h, noise, sizeof(noise), true), "too long");
    cr_expect(refused(&h, noise, 1, true), "too short");
    cr_expect(refused(&h, &hello, sizeof(hello) - 1, true), "cut short");
    cr_expect(refused(&h, &hello, sizeof(hello), false), "no segment");
    host_close(&h);
}

static int open_descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* A hello with n descriptors; what it says of a share descriptor besides. */
static bool refused_with(struct host *h, int n, uint64_t words_bytes)
{
    enum { MOST = 8 };
    struct shm_hello hello = hello_right(&h->address);
    struct iovec iov = { &hello, sizeof(hello) };
    union { char bytes[CMSG_SPACE(MOST * sizeof(int))]; struct cmsghdr align; } control;
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                        .msg_controllen = CMSG_SPACE((size_t)n * sizeof(int)) };
    int fds[MOST], fd = call(&h->address), before;
    struct cmsghdr *c;
    bool answer;

    hello.words_bytes = words_bytes;
    memset(&control, 0, sizeof(control));
    c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
    for (int i = 0; i < n; i++)
        fds[i] = memfd_create("passed", MFD_CLOEXEC);
    memcpy(CMSG_DATA(c), fds, (size_t)n * sizeof(int));
    before = open_descriptors();
    cr_assert(eq(int, (int)sendmsg(fd, &m, MSG_NOSIGNAL), (int)sizeof(hello)));
    turns(h, 20000);
    answer = closed_on(fd);
    /* The connection to it and what it has passed are kept while it waits. */
    cr_expect(eq(int, open_descriptors() - before, answer ? 0 : 1 + n));
    for (int i = 0; i < n; i++)
        close(fds[i]);
    close(fd);
    turns(h, 20000);
    return answer;
}

/* Refused, and what it passed is not kept. */
Test(strangers, one_who_passes_more_than_it_says_is_refused)
{
    struct host h;

    host_open(&h);
    cr_expect(refused_with(&h, 2, 0), "a share descriptor without words");
    cr_expect(refused_with(&h, 3, 0));
    cr_expect(refused_with(&h, 3, 8192));
    cr_expect(refused_with(&h, 4, 8192));
    cr_expect(not(refused_with(&h, 2, 8192)));
    cr_expect(not(refused_with(&h, 1, 8192)), "it had no descriptor left to pass");
    host_close(&h);
}

Test(strangers, one_who_calls_and_says_nothing_holds_up_nobody)
{
    struct host h, other;
    struct pw_nic_peer *there, *back;
    struct pw_iov iov = { "hi", 2 };
    int fd;

    host_open(&h);
    host_open(&other);
    fd = call(&h.address);
    cr_assert(fd >= 0);
    cr_assert(eq(int, pw_nic_shm.connect(h.nic, &other.address, sizeof(other.address),
                                         &h, &there), 0));
    cr_assert(eq(int, pw_nic_shm.connect(other.nic, &h.address, sizeof(h.address),
                                         &other, &back), 0));
    cr_expect(eq(int, pw_nic_shm.send(there, 1, &iov, 1, NULL), 0));
    turns(&other, 20000);
    cr_expect(eq(int, other.frames, 1));
    close(fd);
    host_close(&h);
    host_close(&other);
}

/* A segment smaller than its hello claims would be a SIGBUS at first touch. */
Test(strangers, a_segment_smaller_than_claimed_is_reported_not_touched)
{
    struct host h, claimed;
    struct shm_hello hello;
    struct pw_nic_peer *peer;
    int fd, segment = memfd_create("segment", MFD_CLOEXEC);

    host_open(&h);
    host_open(&claimed);
    cr_assert(segment >= 0 && !ftruncate(segment, 4096));
    hello = hello_right(&h.address);
    memcpy(hello.from, claimed.address.id, SHM_ID);
    cr_assert(eq(int, pw_nic_shm.connect(h.nic, &claimed.address,
                                         sizeof(claimed.address), &h, &peer), 0));
    fd = call(&h.address);
    hello_send(fd, &hello, sizeof(hello), segment);
    turns(&h, 20000);
    cr_expect(eq(int, pw_nic_shm.send(peer, 0, &(struct pw_iov){ "x", 1 }, 1, NULL),
                 -EPIPE));
    close(fd);
    close(segment);
    host_close(&h);
    host_close(&claimed);
}

/* Who connected to `claimed` is answered with that segment. before: the answer is there
 * first. */
static void answer_with(struct host *h, int segment, bool before)
{
    struct shm_hello hello = hello_right(&h->address);
    struct pw_nic_peer *peer;
    struct host claimed;
    int fd;

    host_open(&claimed);
    memset(&downs, 0, sizeof(downs));
    memcpy(hello.from, claimed.address.id, SHM_ID);
    fd = call(&h->address);
    if (before) {
        hello_send(fd, &hello, sizeof(hello), segment);
        turns(h, 20000);
    }
    cr_assert(eq(int, pw_nic_shm.connect(h->nic, &claimed.address,
                                         sizeof(claimed.address), &h, &peer), 0));
    if (!before)
        hello_send(fd, &hello, sizeof(hello), segment);
    turns(h, 20000);
    pw_nic_shm.disconnect(peer);
    close(fd);
    host_close(&claimed);
}

/* Cut to nothing later, it would be a SIGBUS. Those who trust it take it, for some
 * machines have no sealed memory. */
Test(strangers, a_segment_that_could_be_taken_away_is_refused_without_trust)
{
    int open = memfd_create("segment", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int sealed = memfd_create("segment", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    cr_assert(open >= 0 && !ftruncate(open, 4 << 20));
    cr_assert(sealed >= 0 && !ftruncate(sealed, 4 << 20));
    cr_assert(eq(int, fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK), 0));
    for (int i = 0; i < 8; i++) {
        bool distrust = i & 1, is_open = i & 2, before = i & 4;
        struct host h;

        host_open_as(&h, distrust);
        answer_with(&h, is_open ? open : sealed, before);
        cr_expect(eq(int, downs.times, distrust && is_open), "case %d", i);
        if (downs.times) {
            cr_expect(eq(int, downs.cause, -EPROTO));
            cr_expect(ne(ptr, strstr(downs.why, "not sealed"), NULL), "%s", downs.why);
        }
        host_close(&h);
    }
    close(open);
    close(sealed);
}

Test(strangers, a_process_of_another_user_is_refused)
{
    struct host h;
    struct shm_hello hello;
    int status, ready[2];
    pid_t child;

    if (geteuid() != 0)
        cr_skip_test("needs root to become another user");
    host_open(&h);
    hello = hello_right(&h.address);
    cr_assert(eq(int, pipe(ready), 0));
    child = fork();
    if (!child) {
        int segment = memfd_create("segment", MFD_CLOEXEC), fd;
        char c = 1;

        if (segment < 0 || ftruncate(segment, 4 << 20) || setuid(65534))
            _exit(2);
        fd = call(&h.address);
        hello_send(fd, &hello, sizeof(hello), segment);
        (void)!write(ready[1], &c, 1);
        for (int i = 0; i < 2000 && !closed_on(fd); i++)
            usleep(1000);
        _exit(closed_on(fd) ? 0 : 1);
    }
    char c;
    cr_assert(eq(int, (int)read(ready[0], &c, 1), 1));
    turns(&h, 20000);
    cr_assert(eq(int, (int)waitpid(child, &status, 0), (int)child));
    cr_expect(eq(int, status, 0), "the child exits with 0 when its call was closed");
    host_close(&h);
}

Test(strangers, an_address_of_another_user_is_not_called)
{
    struct host h, other;
    struct pw_nic_peer *peer;

    host_open(&h);
    host_open(&other);
    other.address.uid++;
    cr_expect(not(pw_nic_shm.reachable(h.nic, &other.address, sizeof(other.address))));
    cr_expect(eq(int, pw_nic_shm.connect(h.nic, &other.address, sizeof(other.address),
                                         &h, &peer), -EACCES));
    host_close(&h);
    host_close(&other);
}
