/* SPDX-License-Identifier: BSD-3-Clause */
/* Bytes that go out by reference (btl/nic/tcp_lend.c), over the loopback. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "btl/nic/tcp.h"

enum { LEN = 64 << 10, LONG = 8 << 20 };

struct rig {
    struct tcp_lender lender;
    int out, in;
    char *mem;
};

static void rig_open(struct rig *g)
{
    struct sockaddr_in sa = { .sin_family = AF_INET };
    socklen_t len = sizeof(sa);
    int l = socket(AF_INET, SOCK_STREAM, 0);

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert(zero(int, bind(l, (struct sockaddr *)&sa, len)));
    cr_assert(zero(int, listen(l, 1)));
    cr_assert(zero(int, getsockname(l, (struct sockaddr *)&sa, &len)));
    g->out = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert(zero(int, connect(g->out, (struct sockaddr *)&sa, len)));
    fcntl(g->out, F_SETFL, O_NONBLOCK);
    g->in = accept(l, NULL, NULL);
    cr_assert(ge(int, g->in, 0));
    close(l);
    g->mem = mmap(NULL, LONG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(ne(ptr, g->mem, MAP_FAILED));
    memset(g->mem, 1, LONG);
    tcp_lender_open(&g->lender);
}

static void rig_close(struct rig *g)
{
    tcp_lender_close(&g->lender);
    munmap(g->mem, LONG);
    close(g->out);
    close(g->in);
}

static ssize_t lend(struct rig *g, const void *whose, void *base, size_t len)
{
    struct iovec iov = { base, len };

    return tcp_lend(&g->lender, g->out, whose, &iov, 1, false);
}

/* What is written behind the call arrives: there is no copy. */
Test(lend, bytes_are_read_where_they_lie)
{
    char got[LEN] = { 0 };
    struct rig g;

    rig_open(&g);
    cr_expect(eq(int, (int)lend(&g, &g, g.mem, LEN), LEN));
    memset(g.mem, 2, LEN);
    cr_expect(eq(int, (int)recv(g.in, got, LEN, MSG_WAITALL), LEN));
    cr_expect(eq(int, got[0], 2));
    cr_expect(eq(int, got[LEN - 1], 2));
    rig_close(&g);
}

/* Of bytes that the socket does not take the pipe keeps some; meanwhile it is theirs. */
Test(lend, what_does_not_fit_goes_on_where_it_ended)
{
    size_t sent = 0, got = 0;
    static char to[LONG];
    bool full = false;
    struct rig g;
    ssize_t n;

    rig_open(&g);
    for (size_t i = 0; i < LONG; i++)
        g.mem[i] = (char)(i * 7 + i / 251);
    while (sent < LONG) {
        n = lend(&g, &g, g.mem + sent, LONG - sent);
        sent += n > 0 ? (size_t)n : 0;
        if (n > 0)
            continue;
        cr_assert(eq(int, (int)n, -EAGAIN));
        cr_expect(tcp_lend_begun(&g.lender, &g));
        cr_expect(not(tcp_lend_begun(&g.lender, to)));
        cr_expect(eq(int, (int)lend(&g, to, g.mem, LEN), -EOPNOTSUPP));
        full = true;
        n = recv(g.in, to + got, LONG - got, MSG_DONTWAIT);
        got += n > 0 ? (size_t)n : 0;
    }
    cr_expect(full);
    cr_expect(eq(sz, (size_t)recv(g.in, to + got, LONG - got, MSG_WAITALL), LONG - got));
    cr_expect(zero(int, memcmp(to, g.mem, LONG)));
    rig_close(&g);
}

Test(lend, what_is_dropped_goes_another_way)
{
    static char to[LONG];
    size_t sent = 0;
    struct rig g;
    ssize_t n;

    rig_open(&g);
    while ((n = lend(&g, &g, g.mem + sent, LONG - sent)) > 0)
        sent += (size_t)n;
    cr_assert(eq(int, (int)n, -EAGAIN));
    tcp_lend_drop(&g.lender, to);
    cr_expect(tcp_lend_begun(&g.lender, &g));
    tcp_lend_drop(&g.lender, &g);
    cr_expect(not(tcp_lend_begun(&g.lender, &g)));
    cr_expect(eq(sz, (size_t)recv(g.in, to, sent, MSG_WAITALL), sent));
    g.mem[0] = 3;
    cr_expect(eq(int, (int)lend(&g, to, g.mem, LEN), LEN));
    cr_expect(eq(int, (int)recv(g.in, to, LEN, MSG_WAITALL), LEN));
    cr_expect(eq(int, to[0], 3));
    rig_close(&g);
}

/* SIGPIPE would end the program. */
Test(lend, a_connection_that_ended_is_an_error_and_no_signal)
{
    struct linger reset = { 1, 0 };
    sigset_t pending;
    ssize_t n = 0;
    struct rig g;

    rig_open(&g);
    setsockopt(g.in, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(g.in);
    for (int i = 0; i < 3; i++) {
        n = lend(&g, &g, g.mem, LEN);
        cr_expect(lt(int, (int)n, 0));
    }
    cr_expect(eq(int, (int)n, -EPIPE));
    cr_expect(not(tcp_lend_begun(&g.lender, &g)));
    cr_expect(zero(int, sigpending(&pending)));
    cr_expect(zero(int, sigismember(&pending, SIGPIPE)));
    g.in = -1;
    rig_close(&g);
}

Test(lend, memory_that_is_not_there_is_left_to_others)
{
    struct rig g;

    rig_open(&g);
    munmap(g.mem, LEN);
    cr_expect(eq(int, (int)lend(&g, &g, g.mem, LEN), -EOPNOTSUPP));
    cr_expect(not(g.lender.off));
    cr_expect(eq(int, (int)lend(&g, &g, g.mem + LEN, LEN), LEN));
    rig_close(&g);
}

Test(lend, without_a_descriptor_to_be_had_it_is_tried_again_later)
{
    struct rlimit was, none = { 0, 0 };
    struct rig g;

    rig_open(&g);
    getrlimit(RLIMIT_NOFILE, &was);
    none.rlim_max = was.rlim_max;
    setrlimit(RLIMIT_NOFILE, &none);
    cr_expect(eq(int, (int)lend(&g, &g, g.mem, LEN), -EOPNOTSUPP));
    setrlimit(RLIMIT_NOFILE, &was);
    cr_expect(eq(int, (int)lend(&g, &g, g.mem, LEN), LEN));
    rig_close(&g);
}

static void refuse(int call, int err)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)err),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };

    cr_assert(zero(int, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)));
    cr_assert(zero(int, prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)));
}

/* As containers may. */
Test(lend, who_may_not_copies)
{
    struct rig g;

    rig_open(&g);
    refuse(SYS_vmsplice, EPERM);
    cr_expect(eq(int, (int)lend(&g, &g, g.mem, LEN), -EOPNOTSUPP));
    cr_expect(g.lender.off);
    cr_expect(eq(int, (int)lend(&g, &g, g.mem, LEN), -EOPNOTSUPP));
    rig_close(&g);
}

Test(lend, what_this_socket_cannot_take_is_copied)
{
    struct rig g;

    rig_open(&g);
    refuse(SYS_splice, EINVAL);
    cr_expect(eq(int, (int)lend(&g, &g, g.mem, LEN), -EOPNOTSUPP));
    cr_expect(g.lender.off);
    cr_expect(not(tcp_lend_begun(&g.lender, &g)));
    rig_close(&g);
}

Test(lend, nobody_waits_for_the_pipe)
{
    struct rig g;
    ssize_t n;

    rig_open(&g);
    cr_expect(tcp_lend_wanted(&g.lender, TCP_LEND));
    cr_expect(not(tcp_lend_wanted(&g.lender, TCP_LEND - 1)));
    while ((n = lend(&g, &g, g.mem, LONG)) > 0)
        ;
    cr_assert(eq(int, (int)n, -EAGAIN));
    cr_expect(not(tcp_lend_wanted(&g.lender, LONG)));
    pthread_mutex_lock(&g.lender.lock);
    cr_expect(eq(int, (int)lend(&g, &g, g.mem, LONG), -EAGAIN));
    cr_expect(eq(int, (int)lend(&g, &n, g.mem, LONG), -EOPNOTSUPP));
    cr_expect(not(tcp_lend_wanted(&g.lender, LONG)));
    pthread_mutex_unlock(&g.lender.lock);
    tcp_lend_drop(&g.lender, &g);
    cr_expect(tcp_lend_wanted(&g.lender, LONG));
    rig_close(&g);
}
