/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo_cache.c - the registration cache: which monitors work here, and how much
 * may be pinned.
 *
 * A monitor interferes with the process that opens it, and its self-test does
 * what a broken machine may not survive: each is tried in a child of its own.
 */
#include "pwinfo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Fields of a child's report, one a line. */
static void field(char *text, size_t room, const char *value)
{
    size_t at = strlen(text);
    char *end = text + at;

    snprintf(end, room - at, "%s", value);
    while ((end = strchr(end, '\n')) != NULL)
        *end = ' ';
    at = strlen(text);
    snprintf(text + at, room - at, "\n");
}

/* The next field; *text moves behind it. */
static void next(char **text, char *out, size_t room)
{
    size_t n = strcspn(*text, "\n");

    snprintf(out, room, "%.*s", (int)n, *text);
    *text += n + ((*text)[n] == '\n');
}

/* In a child. arg: a name, "auto" too. */
static int monitor_try(const void *arg, char *text, size_t room)
{
    struct pw_monitor_report report = { 0 };
    struct pw_monitor *m;
    char number[16] = "0";
    int err = pw_monitor_open(arg, &m, &report);

    field(text, room, report.why_not);
    field(text, room, err ? "" : m->ops->name);
    if (!err)
        snprintf(number, sizeof number, "%u", m->sees);
    field(text, room, number);
    field(text, room, err ? "" : m->note);
    pw_monitor_close(err ? NULL : m);
    return err;
}

struct trial {
    int err;
    char why[512], name[PW_NAME], sees[16], note[256];
};

static void try(const char *name, struct trial *t)
{
    char text[2048], *at = text;

    t->err = pw_in_child(monitor_try, name, text, sizeof text);
    next(&at, t->why, sizeof t->why);
    next(&at, t->name, sizeof t->name);
    next(&at, t->sees, sizeof t->sees);
    next(&at, t->note, sizeof t->note);
    if (t->err && !t->why[0])
        snprintf(t->why, sizeof t->why, "Trying it failed: %s.",
                 t->err == -EIO ? "the process died" : strerror(-t->err));
}

static void monitors(struct pw_facts *f)
{
    struct trial t;

    try("auto", &t);
    snprintf(f->monitor, sizeof f->monitor, "%s", t.name);
    snprintf(f->monitor_why, sizeof f->monitor_why, "%s", t.why);
    for (int i = 0; pw_monitors[i] && i < PW_MONITORS_MAX; i++) {
        struct pw_fact_monitor *m = &f->monitors[f->n_monitors++];

        m->name = pw_monitors[i]->name;
        m->what = pw_monitors[i]->what;
        try(m->name, &t);
        m->sees = (unsigned)strtoul(t.sees, NULL, 10);
        snprintf(m->note, sizeof m->note, "%s", t.note);
        if (t.err)
            pw_verdict_no(&m->works, "%.*s", PW_WHY - 1, t.why);
        else
            pw_verdict_yes(&m->works, "");
    }
}

void pw_facts_cache(struct pw_facts *f)
{
    const struct pw_budget_config config = { .sharers = 1 };
    struct pw_budget *budget;

    monitors(f);
    f->budget_error = pw_budget_open(&config, &budget);
    if (f->budget_error)
        return;
    pw_budget_describe(budget, &f->budget);
    pw_budget_close(budget);
}

const char *pw_fact_unseen(const struct pw_fact_monitor *m, int i)
{
    for (unsigned event = 1; event & PW_EV_ALL; event <<= 1)
        if (event != PW_EV_LOST && !(m->sees & event) && i-- == 0)
            return pw_event_name(event);
    return NULL;
}
