/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp_lend.c - bytes sent where they lie, without the kernel's copy of them.
 *
 * Start at tcp_lend(). vmsplice(2) takes the pages that hold the bytes into a pipe,
 * splice(2) hands them from there to the socket, which refers to them until the other end
 * has acknowledged them. So they must stay what they are until its program has all of
 * them, as those of a get do: its asker ends it when all has come, and what the network
 * may send once more then is dropped by the other kernel.
 *
 * That is less work for the sender and more for the receiver, whose kernel then copies out
 * of many small pages, and out of the sender's cache: right where the sender is behind, as
 * with several puts or gets, or frames that nobody has answered yet (tests/net/bench, bw of
 * 1 MiB: half the time). One alone is copied by sender and receiver at the same time, and
 * what is better depends on the program: data that it has just written is in the sender's
 * cache (latency of 1 MiB: 157 us instead of 115), data that stays is soon in the
 * receiver's (put of 1 MiB: 146 us instead of 236). So who asks for one alone tries both
 * (op_choose() in tcp_bulk.c), and says with a get which it wants.
 *
 * One pipe for each NIC. What is in it has been taken from memory and not been accepted by
 * its socket: it can be dropped at any moment, for its caller counts what was accepted. Who
 * finds the pipe in use copies.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "tcp.h"

/* Any user may make a pipe of this size, some dozens of times; else it is smaller. */
enum { PIPE_BYTES = 512 << 10 };

void tcp_lender_open(struct tcp_lender *l)
{
    *l = (struct tcp_lender){ .in = -1, .out = -1 };
    pthread_mutex_init(&l->lock, NULL);
}

/* Under l->lock. */
static void pipe_close(struct tcp_lender *l)
{
    tcp_fd_close(&l->in);
    tcp_fd_close(&l->out);
    l->inside = 0;
    __atomic_store_n(&l->whose, NULL, __ATOMIC_RELAXED);
}

void tcp_lender_close(struct tcp_lender *l)
{
    pipe_close(l);
    pthread_mutex_destroy(&l->lock);
}

/* Nobody else makes it ours, or takes it from us. */
bool tcp_lend_begun(const struct tcp_lender *l, const void *whose)
{
    return __atomic_load_n(&l->whose, __ATOMIC_RELAXED) == whose;
}

void tcp_lend_drop(struct tcp_lender *l, const void *whose)
{
    if (!tcp_lend_begun(l, whose))
        return;
    pthread_mutex_lock(&l->lock);
    pipe_close(l);
    pthread_mutex_unlock(&l->lock);
}

bool tcp_lend_wanted(struct tcp_lender *l, size_t len)
{
    bool is;

    if (len < TCP_LEND || pthread_mutex_trylock(&l->lock))
        return false;
    is = !l->off && !l->inside;
    pthread_mutex_unlock(&l->lock);
    return is;
}

static bool pipe_there(struct tcp_lender *l)
{
    int fds[2];

    if (l->in >= 0)
        return true;
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC))
        return false;
    (void)fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES);
    l->out = fds[0];
    l->in = fds[1];
    return true;
}

/* 0, or -EOPNOTSUPP. */
static int take(struct tcp_lender *l, const void *whose, const struct iovec *iov, int n)
{
    ssize_t taken;

    if (!pipe_there(l))
        return -EOPNOTSUPP;
    taken = vmsplice(l->in, iov, (size_t)n, SPLICE_F_NONBLOCK);
    if (taken > 0) {
        l->inside = (size_t)taken;
        __atomic_store_n(&l->whose, whose, __ATOMIC_RELAXED);
        return 0;
    }
    /* Memory that is none is the copying call's to tell; else nobody may do this here. */
    l->off = errno != EFAULT && errno != ENOMEM && errno != EINTR;
    return -EOPNOTSUPP;
}

/* To a connection that has ended, splice(2) raises a signal, and cannot be told not to. */
static ssize_t splice_quietly(int from, int to, size_t len, unsigned flags)
{
    static const struct timespec now = { 0, 0 };
    sigset_t broken, old, pending;
    ssize_t n;
    int err;

    sigemptyset(&broken);
    sigaddset(&broken, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &broken, &old);
    n = splice(from, NULL, to, NULL, len, flags);
    err = errno;
    if (n < 0 && err == EPIPE && !sigpending(&pending) && sigismember(&pending, SIGPIPE))
        (void)sigtimedwait(&broken, NULL, &now);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return n < 0 ? -err : n;
}

/* Under l->lock. */
static ssize_t lend(struct tcp_lender *l, int fd, const void *whose, const struct iovec *iov,
                    int n, bool more)
{
    unsigned flags = SPLICE_F_NONBLOCK | (more ? SPLICE_F_MORE : 0);
    ssize_t sent;
    int err;

    if (l->off || (l->inside && l->whose != whose))
        return -EOPNOTSUPP;
    err = l->inside ? 0 : take(l, whose, iov, n);
    if (err)
        return err;
    sent = splice_quietly(l->out, fd, l->inside, flags);
    if (sent > 0) {
        l->inside -= (size_t)sent;
        if (!l->inside)
            __atomic_store_n(&l->whose, NULL, __ATOMIC_RELAXED);
        return sent;
    }
    if (sent == -EAGAIN || sent == -EINTR)
        return sent;
    l->off = sent == -EINVAL;
    pipe_close(l);
    return l->off || !sent ? -EOPNOTSUPP : sent;
}

ssize_t tcp_lend(struct tcp_lender *l, int fd, const void *whose, const struct iovec *iov,
                 int n, bool more)
{
    ssize_t sent = -EOPNOTSUPP;

    if (!pthread_mutex_trylock(&l->lock)) {
        sent = lend(l, fd, whose, iov, n, more);
        pthread_mutex_unlock(&l->lock);
    } else if (tcp_lend_begun(l, whose)) {
        sent = -EAGAIN;     /* what is taken goes first */
    }
    return sent;
}
