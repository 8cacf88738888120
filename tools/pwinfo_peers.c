/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo_peers.c - gathers how other hosts would be reached, and whether they answer.
 *
 * A thread takes one host after the other: its name is resolved, each address is given to the
 * best of the interfaces in use as the transport would do it, and all of them are asked at
 * once. Nobody waits for a host longer than PW_ANSWER_MS, and as long for a name server.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "pwinfo_peers.h"

enum { SSH = 22 };

__attribute__((format(printf, 2, 3)))
static void say(char why[PW_WHY], const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, PW_WHY, format, args);
    va_end(args);
}

/* ---- names ---- */

/* Its own name, or the part of it before the first dot. */
static bool names_this_host(const char *name)
{
    char self[PW_HOST_NAME] = "";
    size_t n;

    if (!strcmp(name, "localhost"))
        return true;
    gethostname(self, sizeof(self) - 1);
    n = strcspn(self, ".");
    return !strcmp(name, self) || (n && strlen(name) == n && !strncmp(name, self, n));
}

static void add_ip(struct pw_peer *p, const struct addrinfo *a)
{
    struct pw_ip ip;

    if (p->n == PW_HOST_IPS || pw_ip_from_sockaddr(a->ai_addr, a->ai_addrlen, &ip))
        return;
    for (int i = 0; i < p->n; i++)
        if (pw_ip_equal(&p->ways[i].ip, &ip))
            return;
    p->ways[p->n++].ip = ip;
}

static void resolve(struct pw_peer *p)
{
    struct addrinfo want = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list;
    int err = getaddrinfo(p->name, NULL, &want, &list);

    p->self = names_this_host(p->name);
    if (err) {
        say(p->why, "this host knows no address of it (%s): name it in /etc/hosts or in the DNS",
            err == EAI_SYSTEM ? strerror(errno) : gai_strerror(err));
        return;
    }
    for (const struct addrinfo *a = list; a; a = a->ai_next)
        add_ip(p, a);
    freeaddrinfo(list);
}

/* ---- ways ---- */

static bool loopback(const struct pw_ip *ip)
{
    static const uint8_t one[16] = { [15] = 1 };

    return ip->family == 4 ? ip->bytes[0] == 127 : !memcmp(ip->bytes, one, 16);
}

static const struct pw_fact_interface *interface(const struct pw_facts *f, int index)
{
    for (int i = 0; i < f->n_interfaces; i++)
        if (f->interfaces[i].it.index == index)
            return &f->interfaces[i];
    return NULL;
}

/* By the interface in use that fits best. */
static bool way_used(const struct pw_facts *f, struct pw_peer_way *w)
{
    enum pw_fit best = PW_FIT_NONE;
    struct pw_route route;
    struct pw_ip source;

    for (int i = 0; i < f->n_interfaces; i++) {
        const struct pw_fact_interface *n = &f->interfaces[i];
        enum pw_fit fit = n->used.ok ? pw_iface_fit(&n->it, &w->ip, false, &source) :
                          PW_FIT_NONE;

        if (fit <= best)
            continue;
        best = fit;
        w->used = true;
        memcpy(w->by, n->it.name, sizeof(w->by));
        w->source = source;
        w->gateway.family = 0;
        if (fit == PW_FIT_ROUTED && !pw_route_get(&w->ip, n->it.index, &source, &route))
            w->gateway = route.gateway;
    }
    return w->used;
}

/* By the kernel's choice, which no job would use. */
static void way_other(const struct pw_facts *f, struct pw_peer_way *w, const struct pw_route *r)
{
    const struct pw_fact_interface *n = interface(f, r->index);
    char ip[PW_IP_TEXT];

    w->source = r->source;
    w->gateway = r->gateway;
    snprintf(w->by, sizeof(w->by), "%s", n ? n->it.name : "?");
    say(w->why, "no interface in use leads to %s, and %s is not used: %s",
        pw_ip_text(&w->ip, ip), w->by, n ? n->used.why : "it is not known");
}

static void way_find(const struct pw_facts *f, const struct pw_peer *p, struct pw_peer_way *w)
{
    struct pw_route route;
    char ip[PW_IP_TEXT];
    int err = pw_route_get(&w->ip, 0, NULL, &route);

    pw_ip_text(&w->ip, ip);
    w->local = !err && route.local;
    if (w->local) {
        if (p->self && loopback(&w->ip))
            say(w->why, "right on this host only: others need another address of it in their "
                "/etc/hosts");
        else if (loopback(&w->ip))
            say(w->why, "%s leads back to this host: give %s its own address in /etc/hosts", ip,
                p->name);
        else if (!p->self)
            say(w->why, "%s is an address of this host, too: a host of another name cannot be "
                "reached by it", ip);
    } else if (!way_used(f, w)) {
        if (!err) {
            way_other(f, w, &route);
            return;
        }
        w->error = -err;
        say(w->why, "no way to %s (%s): is it an address of containers, or of a network that "
            "this host is not in?", ip, strerror(-err));
    }
}

/* ---- answers ---- */

struct question {
    struct pw_peer_way *way;
    int port;
    int fd;
    bool over;
    int error;      /* of what is over */
};

static void ask(struct question *q)
{
    struct sockaddr_storage to, from;
    socklen_t len = pw_ip_sockaddr(&q->way->ip, (uint16_t)q->port, 0, &to);

    q->fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (q->fd >= 0) {
        /* As the transport does: the way of that interface, not the kernel's own choice. */
        setsockopt(q->fd, SOL_SOCKET, SO_BINDTODEVICE, q->way->by,
                   (socklen_t)strlen(q->way->by));
        if (pw_ip_sockaddr(&q->way->source, 0, 0, &from))
            (void)!bind(q->fd, (struct sockaddr *)&from, len);
    }
    if (q->fd < 0 || !connect(q->fd, (struct sockaddr *)&to, len) || errno != EINPROGRESS) {
        q->over = true;
        q->error = q->fd < 0 || errno != EINPROGRESS ? errno : 0;
    }
}

static void look(struct question *q)
{
    socklen_t len = sizeof(q->error);

    q->over = true;
    if (getsockopt(q->fd, SOL_SOCKET, SO_ERROR, &q->error, &len))
        q->error = errno;
}

/* Until all are over, or that time is. */
static void await(struct question *q, int n, double until)
{
    struct pollfd p[2 * PW_HOST_IPS];
    int open;

    do {
        double left = until - pw_clock_s();

        open = 0;
        for (int i = 0; i < n; i++) {
            p[i] = (struct pollfd){ .fd = q[i].over ? -1 : q[i].fd, .events = POLLOUT };
            open += !q[i].over;
        }
        if (!open || left <= 0)
            break;
        if (poll(p, (nfds_t)n, (int)(left * 1e3) + 1) < 0 && errno != EINTR)
            break;
        for (int i = 0; i < n; i++)
            if (!q[i].over && p[i].revents)
                look(&q[i]);
    } while (open);
}

static bool answered(const struct question *q)
{
    return q->over && (!q->error || q->error == ECONNREFUSED);
}

static void conclude(struct pw_peer_way *w, const struct question *closed,
                     const struct question *ssh)
{
    if (answered(closed)) {
        w->answer = PW_ANSWERED;
    } else if (answered(ssh)) {
        w->answer = PW_ANSWERED_SSH;
        say(w->why, "answers at port %d but not at %d: a firewall there, or on the way, is to let "
            "TCP from this host to any port through", SSH, closed->port);
    } else if (closed->over) {
        w->answer = PW_REFUSED;
        w->error = closed->error;
        say(w->why, "%s: it is down, or not in that network, or a firewall says so",
            strerror(w->error));
    } else {
        w->answer = PW_SILENT;
        say(w->why, "no answer within %d s: it is down, or not in that network, or a firewall "
            "drops what comes", PW_ANSWER_MS / 1000);
    }
}

static void ask_all(struct pw_peer *p, int port)
{
    struct question q[2 * PW_HOST_IPS];
    int n = 0;

    for (int i = 0; i < p->n; i++)
        for (int k = 0; p->ways[i].by[0] && k < 2; k++) {
            q[n] = (struct question){ .way = &p->ways[i], .port = k ? SSH : port };
            ask(&q[n++]);
        }
    await(q, n, pw_clock_s() + PW_ANSWER_MS * 1e-3);
    for (int i = 0; i < n; i++)
        if (q[i].fd >= 0)
            close(q[i].fd);
    for (int i = 0; i < n; i += 2)
        if (!q[i].way->why[0])
            conclude(q[i].way, &q[i], &q[i + 1]);
        else
            q[i].way->answer = answered(&q[i]) || answered(&q[i + 1]) ? PW_ANSWERED : PW_SILENT;
}

/* Which of several is taken first, by ssh for one, depends. */
static void compare(struct pw_peer *p)
{
    int answer = 0;

    for (int i = 0; i < p->n; i++)
        answer += p->ways[i].answer == PW_ANSWERED || p->ways[i].answer == PW_ANSWERED_SSH;
    if (answer && answer < p->n)
        say(p->why, "it has several addresses, of which some do not lead to it: mpirun and ssh "
            "may try those first");
}

/* ---- all of them ---- */

struct work {
    const struct pw_facts *f;
    struct pw_peer *peers;
    int n, port;
    int next;       /* atomic */
};

static void *work_on(void *arg)
{
    struct work *w = arg;
    int i;

    while ((i = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED)) < w->n) {
        struct pw_peer *p = &w->peers[i];

        resolve(p);
        for (int k = 0; k < p->n; k++)
            way_find(w->f, p, &p->ways[k]);
        ask_all(p, w->port);
        compare(p);
    }
    return NULL;
}

void pw_peers_gather(const struct pw_facts *f, struct pw_peer *peers, int n, int port)
{
    struct work w = { .f = f, .peers = peers, .n = n, .port = port };
    pthread_t threads[PW_HOSTS_AT_ONCE];
    int started = 0;

    setenv("RES_OPTIONS", "timeout:1 attempts:1", 0);
    while (started < n - 1 && started < PW_HOSTS_AT_ONCE &&
           !pthread_create(&threads[started], NULL, work_on, &w))
        started++;
    work_on(&w);
    while (started)
        pthread_join(threads[--started], NULL);
}
