/* SPDX-License-Identifier: BSD-3-Clause */
/* monitor.c - which monitor is used here.
 *
 * Start at pw_monitor_open(). The list is tried from its start; the first monitor
 * that opens and passes the self-test is taken, and the report says why the ones
 * before it were not. A monitor asked for by name is taken or fails.
 */
#include "monitors.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "hooks.h"
#include "kdriver.h"
#include "uffd.h"

const struct pw_monitor_ops *const pw_monitors[] = {
    &pw_kdriver_monitor, &pw_hooks_monitor, &pw_uffd_monitor, &pw_none_monitor, NULL
};

/* One more sentence, after "; ". What does not fit is cut. */
__attribute__((format(printf, 2, 3)))
static void add(struct pw_monitor_report *report, const char *format, ...)
{
    size_t at = strlen(report->why_not), room = sizeof report->why_not - at;
    va_list ap;
    int n = snprintf(report->why_not + at, room, "%s", at ? "; " : "");

    if (n < 0 || (size_t)n >= room)
        return;
    va_start(ap, format);
    vsnprintf(report->why_not + at + n, room - (size_t)n, format, ap);
    va_end(ap);
}

static int open_one(const struct pw_monitor_ops *ops, struct pw_monitor **out,
                    struct pw_monitor_report *report)
{
    char why[PW_MONITOR_WHY_MAX] = "";
    int err = ops->open(out, why);

    if (err) {
        add(report, "%s: %s", ops->name, why);
        return err;
    }
    err = pw_monitor_selftest(*out, why);
    if (err) {
        add(report, "%s: %s", ops->name, why);
        ops->close(*out);
        return err;
    }
    report->name = ops->name;
    return 0;
}

static void add_names(const struct pw_monitor_ops *const *list, const char *name,
                      struct pw_monitor_report *report)
{
    add(report, "no monitor is called \"%s\": auto", name);
    for (; *list; list++) {
        size_t at = strlen(report->why_not);

        snprintf(report->why_not + at, sizeof report->why_not - at, ", %s",
                 (*list)->name);
    }
}

int pw_monitor_open_from(const struct pw_monitor_ops *const *list, const char *name,
                         struct pw_monitor **out, struct pw_monitor_report *report)
{
    bool any = !name || strcmp(name, "auto") == 0;
    struct pw_monitor_report ignored;
    int err = -EINVAL;

    if (!report)
        report = &ignored;
    *report = (struct pw_monitor_report){ .name = "" };
    for (size_t i = 0; list[i]; i++) {
        if (!any && strcmp(name, list[i]->name) != 0)
            continue;
        err = open_one(list[i], out, report);
        if (!err)
            return 0;
        if (!any)
            break;
    }
    *out = NULL;
    if (!any && !report->why_not[0])
        add_names(list, name, report);
    return err;
}

int pw_monitor_open(const char *name, struct pw_monitor **out,
                    struct pw_monitor_report *report)
{
    return pw_monitor_open_from(pw_monitors, name, out, report);
}

void pw_monitor_close(struct pw_monitor *m)
{
    if (m)
        m->ops->close(m);
}

const char *pw_event_name(unsigned event)
{
    switch (event) {
    case PW_EV_UNMAP:    return "munmap";
    case PW_EV_REMAP:    return "mremap";
    case PW_EV_MAP_OVER: return "map_over";
    case PW_EV_DISCARD:  return "madvise";
    case PW_EV_BRK:      return "brk";
    case PW_EV_SHM:      return "shmdt";
    case PW_EV_TRUNCATE: return "truncate";
    case PW_EV_PROTECT:  return "mprotect";
    case PW_EV_DLCLOSE:  return "dlclose";
    case PW_EV_RAW:      return "raw";
    case PW_EV_OTHERS:   return "others";
    case PW_EV_LOST:     return "lost";
    default:             return "";
    }
}
