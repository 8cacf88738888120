/* SPDX-License-Identifier: BSD-3-Clause */
/* stream.c - pipe, UNIX socket and TCP: bytes through a file descriptor.
 *
 * They are as the kernel makes them, buffers of the default size; for TCP the
 * delay of small segments (Nagle) is off, as every MPI has it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link.h"

enum { CONNECT_MS = 2000 };

struct stream {
    struct pw_link link;
    int in[2], out[2];      /* by side; a socket is both */
};

static struct stream *stream_of(struct pw_link *l)
{
    return (struct stream *)l;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void stream_close(struct pw_link *l)
{
    struct stream *s = stream_of(l);

    for (int i = 0; i < 2; i++) {
        close_fd(s->in[i]);
        if (s->out[i] != s->in[i])
            close_fd(s->out[i]);
    }
    free(s);
}

static int stream_new(const struct pw_link *with, struct stream **out)
{
    struct stream *s = malloc(sizeof *s);

    if (!s)
        return -ENOMEM;
    *s = (struct stream){ .link = *with, .in = { -1, -1 }, .out = { -1, -1 } };
    *out = s;
    return 0;
}

static int pipe_open(const struct pw_link *with, struct pw_link **out)
{
    struct stream *s;
    int fd[2], err = stream_new(with, &s);

    for (int from = 0; !err && from < 2; from++) {
        if (pipe2(fd, O_CLOEXEC)) {
            err = -errno;
            stream_close(&s->link);
        } else {
            s->out[from] = fd[1];
            s->in[1 - from] = fd[0];
        }
    }
    if (!err)
        *out = &s->link;
    return err;
}

static int unix_open(const struct pw_link *with, struct pw_link **out)
{
    struct stream *s;
    int fd[2], err = stream_new(with, &s);

    if (err)
        return err;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd)) {
        err = -errno;
        stream_close(&s->link);
        return err;
    }
    for (int side = 0; side < 2; side++)
        s->in[side] = s->out[side] = fd[side];
    *out = &s->link;
    return 0;
}

/* ---- TCP ---- */

/* Events within CONNECT_MS: a firewall may swallow what goes through lo. */
static int await(int fd, short events)
{
    struct pollfd p = { fd, events, 0 };
    int n;

    do
        n = poll(&p, 1, CONNECT_MS);
    while (n < 0 && errno == EINTR);
    return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

static int connect_to(int fd, const struct sockaddr_in *to)
{
    int err = 0;
    socklen_t len = sizeof err;

    if (connect(fd, (const struct sockaddr *)to, sizeof *to) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    err = await(fd, POLLOUT);
    if (err)
        return err;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) ? -errno : -err;
}

/* Somebody else may have connected first: take the one that comes from fd. */
static int accept_from(int listener, int fd)
{
    struct sockaddr_in mine, theirs;
    socklen_t len = sizeof mine;

    if (getsockname(fd, (struct sockaddr *)&mine, &len))
        return -errno;
    for (;;) {
        int err = await(listener, POLLIN), got;

        if (err)
            return err;
        len = sizeof theirs;
        got = accept4(listener, (struct sockaddr *)&theirs, &len, SOCK_CLOEXEC);
        if (got < 0)
            return -errno;
        if (theirs.sin_port == mine.sin_port &&
            theirs.sin_addr.s_addr == mine.sin_addr.s_addr)
            return got;
        close(got);
    }
}

static int tcp_pair(int fd[2])
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int kind = SOCK_STREAM | SOCK_CLOEXEC, on = 1, err;
    int listener = socket(AF_INET, kind, 0);
    socklen_t len = sizeof at;

    fd[0] = fd[1] = -1;
    if (listener < 0)
        return -errno;
    fd[0] = socket(AF_INET, kind | SOCK_NONBLOCK, 0);
    if (fd[0] < 0 || bind(listener, (struct sockaddr *)&at, len) || listen(listener, 8) ||
        getsockname(listener, (struct sockaddr *)&at, &len)) {
        err = -errno;
        goto close_all;
    }
    err = connect_to(fd[0], &at);
    if (err)
        goto close_all;
    fd[1] = err = accept_from(listener, fd[0]);
    if (err < 0)
        goto close_all;
    err = 0;
    if (fcntl(fd[0], F_SETFL, 0) ||
        setsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) ||
        setsockopt(fd[1], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on)) {
        err = -errno;
        goto close_all;
    }
    close(listener);
    return 0;

close_all:
    close_fd(fd[0]);
    close_fd(fd[1]);
    close(listener);
    return err;
}

static int tcp_open(const struct pw_link *with, struct pw_link **out)
{
    struct stream *s;
    int fd[2], err = stream_new(with, &s);

    if (err)
        return err;
    err = tcp_pair(fd);
    if (err) {
        stream_close(&s->link);
        return pw_link_fails(with, err, "there is no TCP through 127.0.0.1: %s",
                             strerror(-err));
    }
    for (int side = 0; side < 2; side++)
        s->in[side] = s->out[side] = fd[side];
    *out = &s->link;
    return 0;
}

/* ---- what all three do ---- */

/* The other side's ends are closed, so that its death is seen. */
static int stream_enter(struct pw_link *l)
{
    struct stream *s = stream_of(l);
    int other = 1 - l->side;

    close_fd(s->in[other]);
    if (s->out[other] != s->in[other])
        close_fd(s->out[other]);
    s->in[other] = s->out[other] = -1;
    return 0;
}

static int write_all(int fd, const char *from, size_t len)
{
    while (len) {
        ssize_t n = write(fd, from, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        from += n;
        len -= (size_t)n;
    }
    return 0;
}

static int read_all(int fd, char *to, size_t len)
{
    while (len) {
        ssize_t n = read(fd, to, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -EPIPE;
        to += n;
        len -= (size_t)n;
    }
    return 0;
}

static int stream_say(struct pw_link *l, uint64_t word)
{
    return write_all(stream_of(l)->out[l->side], (const char *)&word, sizeof word);
}

static int stream_hear(struct pw_link *l, uint64_t *word)
{
    return read_all(stream_of(l)->in[l->side], (char *)word, sizeof *word);
}

static int stream_send(struct pw_link *l, const char *message)
{
    return write_all(stream_of(l)->out[l->side], message, l->size);
}

static int stream_receive(struct pw_link *l)
{
    return read_all(stream_of(l)->in[l->side], l->buffer, l->size);
}

const struct pw_link_ops pw_link_pipe = {
    .name = "pipe", .what = "two pipes", .open = pipe_open, .close = stream_close,
    .enter = stream_enter, .say = stream_say, .hear = stream_hear,
    .next = pw_link_next_own, .send = stream_send, .receive = stream_receive,
};

const struct pw_link_ops pw_link_unix = {
    .name = "unix", .what = "a UNIX stream socket", .open = unix_open,
    .close = stream_close, .enter = stream_enter, .say = stream_say,
    .hear = stream_hear, .next = pw_link_next_own, .send = stream_send,
    .receive = stream_receive,
};

const struct pw_link_ops pw_link_tcp = {
    .name = "tcp", .what = "TCP through 127.0.0.1", .open = tcp_open,
    .close = stream_close, .enter = stream_enter, .say = stream_say,
    .hear = stream_hear, .next = pw_link_next_own, .send = stream_send,
    .receive = stream_receive,
};
