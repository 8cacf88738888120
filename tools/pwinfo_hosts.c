/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo_hosts.c - names of hosts, from a host file or the command line.
 *
 * A line of a host file is a name, then words like slots=4, which do not matter here; # begins
 * a comment. A name may have a user before it (user@host), and the number of its slots behind
 * it, as in --host a:2,b:2.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "pwinfo_peers.h"

struct hosts {
    struct pw_peer *all;
    int n, room;
    const char *where;      /* the file; NULL: the command line */
    int line;
    char *why;
};

__attribute__((format(printf, 2, 3)))
static bool wrong(struct hosts *h, const char *format, ...)
{
    size_t at = 0;
    va_list args;

    if (h->where)
        at = (size_t)snprintf(h->why, PW_WHY, "%.200s:%d: ", h->where, h->line);
    va_start(args, format);
    vsnprintf(h->why + at, PW_WHY - at, format, args);
    va_end(args);
    return false;
}

static bool known(const struct hosts *h, const char *name)
{
    for (int i = 0; i < h->n; i++)
        if (!strcmp(h->all[i].name, name))
            return true;
    return false;
}

static bool keep(struct hosts *h, const char *name)
{
    struct pw_peer *more;
    int room = h->room ? 2 * h->room : 16;

    if (known(h, name))
        return true;
    if (h->n == PW_HOSTS_MAX)
        return wrong(h, "there are more than %d hosts", PW_HOSTS_MAX);
    if (h->n == h->room) {
        more = realloc(h->all, (size_t)room * sizeof(*more));
        if (!more)
            return wrong(h, "no memory");
        h->all = more;
        h->room = room;
    }
    memset(&h->all[h->n], 0, sizeof(h->all[0]));
    strcpy(h->all[h->n++].name, name);
    return true;
}

/* [begin, begin + len): user@name:slots, of which the name is kept. */
static bool add(struct hosts *h, const char *begin, size_t len)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789.-_";
    char name[PW_HOST_NAME];
    const char *at = memchr(begin, '@', len);
    struct pw_ip ip;
    char *slots;

    if (at) {
        len -= (size_t)(at + 1 - begin);
        begin = at + 1;
    }
    if (len >= sizeof(name))
        return wrong(h, "\"%.40s...\" is too long for the name of a host", begin);
    memcpy(name, begin, len);
    name[len] = '\0';
    if (!pw_ip_parse(name, &ip) && !strchr(name, '/'))
        return keep(h, name);
    slots = strchr(name, ':');
    if (slots && slots[1] && !slots[1 + strspn(slots + 1, "0123456789")])
        *slots = '\0';
    if (!name[0] || name[strspn(name, letters)])
        return wrong(h, "\"%.60s\" is no name of a host", name);
    return keep(h, name);
}

static bool read_list(struct hosts *h, const char *list)
{
    do {
        size_t len = strcspn(list, ",");

        if (!add(h, list, len))
            return false;
        list += len;
    } while (*list++ == ',');
    return true;
}

static bool read_file(struct hosts *h, FILE *f)
{
    char *line = NULL;
    size_t room = 0;
    bool fine = true;

    while (fine && getline(&line, &room, f) >= 0) {
        size_t skip, len;

        h->line++;
        line[strcspn(line, "#\r\n")] = '\0';
        skip = strspn(line, " \t");
        len = strcspn(line + skip, " \t");
        if (len)
            fine = add(h, line + skip, len);
    }
    if (fine && ferror(f))
        fine = wrong(h, "cannot be read: %s", strerror(errno));
    free(line);
    return fine;
}

/* What is a file, or can only be one, is read. */
int pw_hosts_read(const char *what, struct pw_peer **out, char why[PW_WHY])
{
    struct hosts h = { .why = why };
    struct stat s;
    FILE *f;
    bool fine;

    why[0] = '\0';
    if (!stat(what, &s) || strchr(what, '/')) {
        f = fopen(what, "re");
        h.where = what;
        if (f) {
            fine = read_file(&h, f);
            fclose(f);
        } else {
            snprintf(why, PW_WHY, "%.200s: %s", what, strerror(errno));
            fine = false;
        }
        if (fine && !h.n)
            snprintf(why, PW_WHY, "%.200s names no host", what);
    } else {
        fine = read_list(&h, what);
    }
    if (!fine || !h.n) {
        free(h.all);
        return 0;
    }
    *out = h.all;
    return h.n;
}
