/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo_live.c - the counters of a process that runs, which does not notice. */
#include "pwinfo.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "clock.h"
#include "json.h"
#include "pinwheel/live.h"

static double age_seconds(const struct pw_live_page *p)
{
    return pw_clock_s() - (double)p->updated_ns * 1e-9;
}

/* What somebody else wrote may hold anything. */
static void put_plain(FILE *to, const char *text)
{
    for (; *text; text++)
        fputc(*text >= ' ' && *text < 127 ? *text : '?', to);
}

static void print_text(const struct pw_live_page *p, FILE *to)
{
    fprintf(to, "process %d\n", (int)p->pid);
    if (p->updated_ns)
        fprintf(to, "  %-32s %.3f s ago\n", "as it was", age_seconds(p));
    for (uint32_t i = 0; i < p->n_texts; i++) {
        fputs("  ", to);
        put_plain(to, p->texts[i].name);
        fprintf(to, "%*s ", (int)(32 - strnlen(p->texts[i].name, 32)), "");
        put_plain(to, p->texts[i].text[0] ? p->texts[i].text : "none");
        fputc('\n', to);
    }
    for (uint32_t i = 0; i < p->n_values; i++) {
        fputs("  ", to);
        put_plain(to, p->values[i].name);
        fprintf(to, "%*s %" PRIu64 "\n", (int)(32 - strnlen(p->values[i].name, 32)), "",
                p->values[i].value);
    }
}

static void print_json(const struct pw_live_page *p, struct pw_json *j)
{
    pw_json_open(j, NULL, '{');
    pw_json_integer(j, "pid", p->pid);
    if (p->updated_ns)
        pw_json_integer(j, "age_ns", (long long)(age_seconds(p) * 1e9));
    else
        pw_json_null(j, "age_ns");
    for (uint32_t i = 0; i < p->n_texts; i++) {
        if (p->texts[i].text[0])
            pw_json_string(j, p->texts[i].name, p->texts[i].text);
        else
            pw_json_null(j, p->texts[i].name);
    }
    pw_json_open(j, "counters", '{');
    for (uint32_t i = 0; i < p->n_values; i++)
        pw_json_integer(j, p->values[i].name,
                        (long long)(p->values[i].value & INT64_MAX));
    pw_json_close(j, '}');
    pw_json_close(j, '}');
}

static void complain(int pid, int err)
{
    fprintf(stderr, "pwinfo: process %d: %s\n", pid,
            err == -ENOENT ? "it has no counters to show: it does not use pinwheel, or "
                             "its kernel has no memfd_create" :
            err == -ESRCH ? "there is no such process" :
            err == -EACCES || err == -EPERM ? "it belongs to another user, or does not let "
                                              "itself be looked at" :
            err == -EPROTO ? "its counters are of another version of pinwheel" :
            strerror(-err));
}

int pw_live_print(int pid, bool json, FILE *to)
{
    struct pw_json j = { .to = to };
    struct pw_live_page page;
    int err = pw_live_read(pid, 0, &page);

    if (err) {
        complain(pid, err);
        return 1;
    }
    if (json)
        pw_json_open(&j, NULL, '[');
    for (unsigned n = 1; !err; err = pw_live_read(pid, n++, &page)) {
        if (json)
            print_json(&page, &j);
        else
            print_text(&page, to);
    }
    if (json)
        pw_json_close(&j, ']');
    return 0;
}
