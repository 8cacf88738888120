/* SPDX-License-Identifier: BSD-3-Clause */
/* select.c - which devices of which backends are used.
 *
 * Start at refusal(): one sentence for each reason.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "select.h"

/* ---- lists of words ---- */

/* The next word of a list: *at behind it, its length in *len; NULL at the end. */
static const char *word_next(const char **at, char between, size_t *len)
{
    const char *word = *at;

    while (word && *word == between)
        word++;
    if (!word || !*word)
        return NULL;
    *len = strcspn(word, (char[]){ between, '\0' });
    *at = word + *len;
    return word;
}

static bool given(const char *list)
{
    return list && *list;
}

bool pw_backend_wanted(const char *nics, const char *name)
{
    const char *at = nics, *word;
    size_t len;

    if (!given(nics))
        return true;
    while ((word = word_next(&at, ',', &len)))
        if (strlen(name) == len && !memcmp(word, name, len))
            return true;
    return false;
}

/* ---- addresses ---- */

struct block {
    int family;
    uint8_t bytes[16];
    unsigned bits;
};

/* "10.0.0.1", "10.0.0.0/8", "fe80::1%eth0/64". 0; -EINVAL: the prefix is none;
 * -ENOENT: that is not an address. */
static int block_parse(const char *text, size_t len, struct block *out)
{
    char room[80], *slash, *scope, *end;
    unsigned long bits;

    if (len >= sizeof(room))
        return -ENOENT;
    memcpy(room, text, len);
    room[len] = '\0';
    slash = strchr(room, '/');
    if (slash)
        *slash++ = '\0';
    scope = strchr(room, '%');
    if (scope)
        *scope = '\0';
    out->family = strchr(room, ':') ? AF_INET6 : AF_INET;
    if (inet_pton(out->family, room, out->bytes) != 1)
        return slash ? -EINVAL : -ENOENT;
    out->bits = out->family == AF_INET ? 32 : 128;
    if (!slash)
        return 0;
    bits = strtoul(slash, &end, 10);
    if (*slash < '0' || *slash > '9' || *end || bits > out->bits)
        return -EINVAL;
    out->bits = (unsigned)bits;
    return 0;
}

static bool block_holds(const struct block *b, const struct block *address)
{
    unsigned whole = b->bits / 8, rest = b->bits % 8;

    return b->family == address->family && !memcmp(b->bytes, address->bytes, whole) &&
           (!rest || !((b->bytes[whole] ^ address->bytes[whole]) >> (8 - rest)));
}

/* Does `word`, a name or a block, mean that device? */
static bool word_means(const char *word, size_t len, const struct pw_nic_device *d)
{
    const char *at = d->address, *text;
    struct block block, own;
    size_t n;

    if (strlen(d->name) == len && !memcmp(word, d->name, len))
        return true;
    if (block_parse(word, len, &block))
        return false;
    while ((text = word_next(&at, ' ', &n)))
        if (!block_parse(text, n, &own) && block_holds(&block, &own))
            return true;
    return false;
}

static bool list_means(const char *list, const struct pw_nic_device *d)
{
    const char *word;
    size_t len;

    while ((word = word_next(&list, ',', &len)))
        if (word_means(word, len, d))
            return true;
    return false;
}

/* ---- what a user has said ---- */

static bool backend_known(const struct pw_nic_ops *const *backends, const char *name,
                          size_t len)
{
    for (; *backends; backends++)
        if (strlen((*backends)->name) == len && !strncmp((*backends)->name, name, len))
            return true;
    return false;
}

static int backends_check(const char *p, const struct pw_nic_ops *const *backends,
                          char why[PW_NIC_WHY_MAX])
{
    while (p && *p) {
        size_t n = strcspn(p, ",");
        if (!backend_known(backends, p, n)) {
            int at = snprintf(why, PW_NIC_WHY_MAX, "btl_pinwheel_nics: there is no NIC "
                              "backend \"%.*s\"; there are:", (int)(n < 40 ? n : 40), p);
            for (int i = 0; backends[i] && at < PW_NIC_WHY_MAX; i++)
                at += snprintf(why + at, (size_t)(PW_NIC_WHY_MAX - at), " %s",
                               backends[i]->name);
            return -EINVAL;
        }
        p += n + (p[n] == ',');
    }
    return 0;
}

static int blocks_check(const char *list, const char *name, char why[PW_NIC_WHY_MAX])
{
    struct block block;
    const char *word;
    size_t len;

    while ((word = word_next(&list, ',', &len)))
        if (block_parse(word, len, &block) == -EINVAL) {
            snprintf(why, PW_NIC_WHY_MAX, "btl_pinwheel_%s: \"%.*s\" is no device, nor "
                     "addresses as in 10.0.0.0/8", name, (int)(len < 40 ? len : 40), word);
            return -EINVAL;
        }
    return 0;
}

int pw_wish_check(const struct pw_wish *wish, const struct pw_nic_ops *const *backends,
                  char why[PW_NIC_WHY_MAX])
{
    int err = backends_check(wish->nics, backends, why);

    if (!err)
        err = blocks_check(wish->include, "if_include", why);
    return err ? err : blocks_check(wish->exclude, "if_exclude", why);
}

/* ---- what there is ---- */

/* One for the backend, when it cannot run or has no devices. */
static int candidate_alone(const struct pw_nic_ops *ops, int err,
                           const char *why, struct pw_candidate *out)
{
    memset(out, 0, sizeof(*out));
    out->ops = ops;
    out->device.usable = !err;
    if (err)
        snprintf(out->device.why, sizeof(out->device.why), "%s",
                 *why ? why : strerror(-err));
    return 1;
}

static int candidates_of(const struct pw_nic_ops *ops, struct pw_candidate *out, int max)
{
    struct pw_nic_device *devices;
    char why[PW_NIC_WHY_MAX] = "";
    struct pw_nic_info info;
    int err = ops->probe(&info, why), n;

    if (err || !ops->devices)
        return candidate_alone(ops, err, why, out);
    devices = calloc((size_t)max, sizeof(*devices));
    if (!devices)
        return candidate_alone(ops, -ENOMEM, why, out);
    n = ops->devices(devices, max);
    if (n > max)
        n = max;
    for (int i = 0; i < n; i++)
        out[i] = (struct pw_candidate){ .ops = ops, .device = devices[i],
                                        .has_device = true };
    free(devices);
    return n > 0 ? n : candidate_alone(ops, -ENODEV, "this machine has no device for it",
                                       out);
}

int pw_candidates(const struct pw_nic_ops *const *backends, const char *nics,
                  struct pw_candidate *out, int max)
{
    int n = 0;

    for (; *backends && n < max; backends++)
        if (pw_backend_wanted(nics, (*backends)->name))
            n += candidates_of(*backends, out + n, max - n);
    return n;
}

/* ---- the choice ---- */

static bool address_driven(const char *text, size_t len, const struct pw_candidate *c,
                           const struct pw_candidate *before)
{
    for (; before < c; before++) {
        const char *at = before->device.address, *theirs;
        size_t n;

        if (!before->chosen || before->ops == c->ops)
            continue;
        while ((theirs = word_next(&at, ' ', &n)))
            if (n == len && !memcmp(theirs, text, len))
                return true;
    }
    return false;
}

/* What has no address is known by its name: mlx5_0 to one library is mlx5_0:1, its first
 * port, to another. */
static bool name_driven(const struct pw_candidate *c, const struct pw_candidate *before)
{
    size_t len = strcspn(c->device.name, ":");

    for (; before < c; before++)
        if (before->chosen && before->ops != c->ops && !*before->device.address && len &&
            strcspn(before->device.name, ":") == len &&
            !memcmp(before->device.name, c->device.name, len))
            return true;
    return false;
}

/* Do devices of other backends, chosen before it, drive all of its addresses? */
static bool all_driven(const struct pw_candidate *c, const struct pw_candidate *first)
{
    const char *at = c->device.address, *text;
    bool any = false;
    size_t len;

    if (!*at)
        return name_driven(c, first);
    while ((text = word_next(&at, ' ', &len))) {
        if (!address_driven(text, len, c, first))
            return false;
        any = true;
    }
    return any;
}

/* Why not that one? NULL: it is chosen. `first` is where the list begins. */
static const char *refusal(const struct pw_wish *wish, const struct pw_candidate *c,
                           const struct pw_candidate *first, bool room)
{
    bool included = c->has_device && list_means(wish->include, &c->device);

    if (!c->device.usable)
        return c->device.why;
    if (c->has_device && list_means(wish->exclude, &c->device))
        return "btl_pinwheel_if_exclude names it";
    if (c->has_device && given(wish->include) && !included)
        return "btl_pinwheel_if_include does not name it";
    if (c->device.spare && !included)
        return c->device.why;
    if (!given(wish->nics) && all_driven(c, first))
        return "another backend drives the same device; btl_pinwheel_nics can name this one";
    return room ? NULL : "there are enough without it";
}

int pw_select(const struct pw_wish *wish, struct pw_candidate *c, int n, int most)
{
    int chosen = 0;

    for (int i = 0; i < n; i++) {
        const char *why = refusal(wish, &c[i], c, chosen < most);

        c[i].chosen = !why;
        snprintf(c[i].why, sizeof(c[i].why), "%s", why ? why : "");
        chosen += c[i].chosen;
    }
    return chosen;
}
