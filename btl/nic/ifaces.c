/* SPDX-License-Identifier: BSD-3-Clause */
/* ifaces.c - which network interfaces are to be used, which are spare, and why not the rest?
 *
 * Start at pw_ifaces_judge(): it decides by what the kernel says of an interface, never by
 * trying. Hosts of a job decide each for itself, so the rules go by what is alike on hosts
 * that are alike.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "btl/nic/ifaces_kernel.h"

static const char *const kind_names[] = {
    [PW_IFACE_OTHER] = "other", [PW_IFACE_LOOPBACK] = "loopback",
    [PW_IFACE_PHYSICAL] = "device", [PW_IFACE_VETH] = "veth", [PW_IFACE_BRIDGE] = "bridge",
    [PW_IFACE_BOND] = "bond", [PW_IFACE_VLAN] = "vlan", [PW_IFACE_MACVLAN] = "macvlan",
    [PW_IFACE_TUN] = "tun", [PW_IFACE_WIREGUARD] = "wireguard",
    [PW_IFACE_TUNNEL] = "tunnel", [PW_IFACE_DUMMY] = "dummy",
};

const char *pw_iface_kind_name(enum pw_iface_kind kind)
{
    return kind_names[kind];
}

/* ---- judging ---- */

__attribute__((format(printf, 3, 4)))
static bool say(struct pw_iface *iface, enum pw_iface_use use, const char *format, ...)
{
    va_list args;

    iface->use = use;
    va_start(args, format);
    vsnprintf(iface->why, sizeof(iface->why), format, args);
    va_end(args);
    return true;
}

/* The names that those who make bridges for containers and virtual machines give them. */
static const char *maker(const char *name)
{
    static const struct {
        const char *begin, *who;
    } makers[] = {
        { "docker", "Docker" }, { "br-", "Docker" }, { "virbr", "libvirt" },
        { "cni", "CNI" }, { "podman", "Podman" }, { "lxcbr", "LXC" }, { "lxdbr", "LXD" },
    };

    for (size_t i = 0; i < sizeof(makers) / sizeof(makers[0]); i++)
        if (!strncmp(name, makers[i].begin, strlen(makers[i].begin)))
            return makers[i].who;
    return NULL;
}

/* Does it lead off this host when it is a port of a bridge? A veth leads to a container, a
 * tap to a virtual machine. */
static bool leads_off(const struct pw_iface *port)
{
    switch (port->kind) {
    case PW_IFACE_VETH: case PW_IFACE_TUN: case PW_IFACE_DUMMY: case PW_IFACE_LOOPBACK:
        return false;
    default:
        return true;
    }
}

static bool inner_bridge(const struct pw_iface *bridge, const struct pw_iface *all, int n,
                         bool ports)
{
    if (bridge->kind != PW_IFACE_BRIDGE)
        return false;
    if (!ports)
        return maker(bridge->name);
    for (int i = 0; i < n; i++)
        if (all[i].master == bridge->index && leads_off(&all[i]))
            return false;
    return !bridge->routes;
}

static bool judge_link(struct pw_iface *iface, bool inner)
{
    const char *name = iface->name;

    if (!iface->up)
        return say(iface, PW_IFACE_UNUSABLE, "down; to set it up: ip link set %s up", name);
    if (iface->carrier)
        return false;
    if (inner)
        return say(iface, PW_IFACE_UNUSABLE, "no carrier: a bridge of containers, and none is "
                   "attached to it");
    switch (iface->kind) {
    case PW_IFACE_PHYSICAL:
        return say(iface, PW_IFACE_UNUSABLE, "no carrier: see to its cable, and to the switch");
    case PW_IFACE_VETH:
        return say(iface, PW_IFACE_UNUSABLE, "no carrier: its other end is to be set up, too");
    case PW_IFACE_BRIDGE: case PW_IFACE_BOND:
        return say(iface, PW_IFACE_UNUSABLE, "no carrier: none of its ports has any");
    default:
        return say(iface, PW_IFACE_UNUSABLE, "no carrier: see to what is below it");
    }
}

/* A port's link-local address is one that it had before. Where it has others (a VRF's), it
 * may be used. */
static bool judge_port(struct pw_iface *iface, const struct pw_iface *all, int n)
{
    if (!iface->master || (iface->n_ips && !pw_ip_link_local(&iface->ips[0])))
        return false;
    for (int i = 0; i < n; i++)
        if (all[i].index == iface->master)
            return say(iface, PW_IFACE_UNUSABLE, "a port of %s, whose addresses count",
                       all[i].name);
    return false;
}

static bool judge_kind(struct pw_iface *iface, bool inner)
{
    const char *who = maker(iface->name);

    if (iface->kind == PW_IFACE_LOOPBACK)
        return say(iface, PW_IFACE_SPARE, "the loopback leads to this host only");
    if (iface->kind == PW_IFACE_DUMMY)
        return say(iface, PW_IFACE_SPARE, "a dummy leads to this host only");
    if (inner && who)
        return say(iface, PW_IFACE_SPARE, "a bridge as %s makes them: no port leads off this "
                   "host", who);
    if (inner)
        return say(iface, PW_IFACE_SPARE, "a bridge without a port that leads off this host");
    if (pw_ip_link_local(&iface->ips[0]))
        return say(iface, PW_IFACE_SPARE, "its addresses are link-local, which do not tell "
                   "networks apart");
    return false;
}

static bool is_tunnel(const struct pw_iface *iface)
{
    return iface->kind == PW_IFACE_TUN || iface->kind == PW_IFACE_WIREGUARD ||
           iface->kind == PW_IFACE_TUNNEL;
}

static void judge(struct pw_iface *iface, const struct pw_iface *all, int n, bool ports)
{
    bool inner = inner_bridge(iface, all, n, ports);

    iface->use = PW_IFACE_USED;
    iface->why[0] = '\0';
    if (judge_port(iface, all, n) || judge_link(iface, inner))
        return;
    if (!iface->n_ips)
        say(iface, PW_IFACE_UNUSABLE, "no address; to give it one: ip addr add ADDRESS/LENGTH "
            "dev %s", iface->name);
    else
        judge_kind(iface, inner);
}

static int better(const void *one, const void *two)
{
    const struct pw_iface *a = one, *b = two;

    if (a->use != b->use)
        return a->use < b->use ? -1 : 1;
    if (a->carrier != b->carrier)
        return a->carrier ? -1 : 1;
    if (a->bytes_per_s != b->bytes_per_s)
        return a->bytes_per_s > b->bytes_per_s ? -1 : 1;
    return strverscmp(a->name, b->name);    /* r2 before r10 */
}

void pw_ifaces_judge(struct pw_iface *all, int n, bool ports)
{
    bool plain = false;

    for (int i = 0; i < n; i++) {
        judge(&all[i], all, n, ports);
        plain |= all[i].use == PW_IFACE_USED && !is_tunnel(&all[i]);
    }
    for (int i = 0; plain && i < n; i++)
        if (all[i].use == PW_IFACE_USED && is_tunnel(&all[i]))
            say(&all[i], PW_IFACE_SPARE, "a tunnel goes over other interfaces");
    qsort(all, (size_t)n, sizeof(*all), better);
}

/* ---- lists ---- */

static int table(struct pw_iface_table *t)
{
    int err = pw_table_read(t);

    if (!err && t->n)
        pw_ifaces_judge(t->all, t->n, t->masters);
    return err;
}

int pw_ifaces_list(struct pw_iface *out, int max)
{
    struct pw_iface_table t;
    int result = table(&t);

    if (!result) {
        result = t.n;
        for (int i = 0; i < t.n && i < max; i++)
            out[i] = t.all[i];
    }
    free(t.all);
    return result;
}

/* Whole words, as many as there is room for. */
static void add_word(char *list, size_t room, const char *word)
{
    size_t at = strlen(list), len = strlen(word);

    if (at + !!at + len >= room)
        return;
    if (at)
        list[at++] = ' ';
    memcpy(list + at, word, len + 1);
}

static void device(const struct pw_iface *iface, struct pw_nic_device *out)
{
    char text[PW_IP_TEXT];

    memset(out, 0, sizeof(*out));
    memcpy(out->name, iface->name, sizeof(iface->name));
    memcpy(out->why, iface->why, sizeof(out->why));
    out->bytes_per_s = iface->bytes_per_s;
    out->usable = iface->use != PW_IFACE_UNUSABLE;
    out->spare = iface->use == PW_IFACE_SPARE;
    for (int i = 0; i < iface->n_ips; i++)
        add_word(out->address, sizeof(out->address), pw_ip_text(&iface->ips[i], text));
}

int pw_iface_devices(struct pw_nic_device *out, int max)
{
    struct pw_iface_table t;
    int n = table(&t) ? 0 : t.n;

    for (int i = 0; i < n && i < max; i++)
        device(&t.all[i], &out[i]);
    free(t.all);
    return n;
}

static int find(const char *name, int index, struct pw_iface *out)
{
    struct pw_iface_table t;
    int err = table(&t), found = -1;

    for (int i = 0; !err && i < t.n; i++)
        if (name ? !strcmp(t.all[i].name, name) : t.all[i].index == index)
            found = i;
    if (found >= 0)
        *out = t.all[found];
    free(t.all);
    return err ? err : found >= 0 ? 0 : -ENODEV;
}

int pw_iface_find(const char *name, struct pw_iface *out)
{
    return find(name, 0, out);
}

int pw_iface_at(int index, struct pw_iface *out)
{
    return find(NULL, index, out);
}
