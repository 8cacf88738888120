/* SPDX-License-Identifier: BSD-3-Clause */
/* host.c - which machine this is, and when: what results are told apart by. */
#include <gnu/libc-version.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "matrix.h"

/* The first "model name" (x86) of /proc/cpuinfo. False where there is none. */
static bool cpu_model(char out[PW_TEXT])
{
    char line[512], *value;
    bool found = false;
    FILE *f = fopen("/proc/cpuinfo", "re");

    while (f && !found && fgets(line, sizeof line, f)) {
        value = strchr(line, ':');
        found = !strncmp(line, "model name", 10) && value;
        if (found) {
            value += 1 + strspn(value + 1, " ");
            snprintf(out, PW_TEXT, "%.*s", (int)strcspn(value, "\n"), value);
        }
    }
    if (f)
        fclose(f);
    return found;
}

void pw_matrix_describe(struct pw_matrix *m)
{
    struct utsname u = { .nodename = "" };
    time_t now = time(NULL);
    struct tm utc;

    uname(&u);
    if (getloadavg(&m->load, 1) != 1)
        m->load = 0;
    snprintf(m->pinwheel, PW_TEXT, "%s", PINWHEEL_VERSION);
    snprintf(m->host, PW_TEXT, "%s", u.nodename);
    snprintf(m->kernel, PW_TEXT, "%s %s", u.sysname, u.release);
    snprintf(m->libc, PW_TEXT, "glibc %s", gnu_get_libc_version());
    if (!cpu_model(m->cpu))
        snprintf(m->cpu, PW_TEXT, "%s", u.machine);
    if (gmtime_r(&now, &utc))
        strftime(m->date, PW_TEXT, "%Y-%m-%dT%H:%M:%SZ", &utc);
}
