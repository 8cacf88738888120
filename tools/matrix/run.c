/* SPDX-License-Identifier: BSD-3-Clause */
/* run.c - every pair of cores over every transport.
 *
 * Start at pw_matrix_run(). A transport that cannot run here, or goes wrong, is told
 * of once and left out from then on; what it measured before stays. Files are
 * opened and gnuplot is looked for before anything is measured.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "link.h"
#include "tools/pwbench_launch.h"
#include "topology.h"

enum { FAILED = 1 };

struct run {
    const struct pw_matrix_options *o;
    struct pw_matrix m;
    struct pw_topology *topology;
    FILE *text;             /* stdout; stderr when JSON goes to stdout */
    FILE *json;             /* NULL without */
    bool draws;
    bool failed;            /* something that was asked for did not come */
};

__attribute__((format(printf, 1, 2)))
static void say(const char *format, ...)
{
    va_list args;

    fflush(stdout);
    fputs("pwbench: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

/* ---- before ---- */

/* False: nothing is to be measured. */
static bool outputs_open(struct run *r)
{
    const char *json = r->o->json;
    char why[PW_WHY];

    r->text = stdout;
    if (json && !strcmp(json, "-")) {
        r->json = stdout;
        r->text = stderr;
    } else if (json && !(r->json = fopen(json, "we"))) {
        say("cannot write %s: %s", json, strerror(errno));
        return false;
    }
    if (r->o->svg && pw_matrix_can_draw(r->o->svg, why)) {
        say("%s", why);
        return false;
    }
    return true;
}

/* Without it there are the other results. */
static void gnuplot_find(struct run *r)
{
    char why[PW_WHY];

    if (!r->o->svg)
        return;
    r->draws = !pw_matrix_has_gnuplot(why);
    if (!r->draws) {
        say("no heat maps will be drawn: %s", why);
        r->failed = true;
    }
}

static void topology_find(struct run *r)
{
    int err = pw_topology_open(&r->topology);

    if (err == -ENOSYS)
        say("built without hwloc (Debian package libhwloc-dev), so what cores share is "
            "not known");
    else if (err)
        say("hwloc finds no topology: %s; so what cores share is not known",
            strerror(-err));
    if (!err)
        pw_topology_version(r->m.hwloc);
    for (int i = 0; i < r->m.n_pairs; i++)
        pw_topology_pair(r->topology, &r->m.pair[i]);
}

static void print_spinners(const struct run *r)
{
    bool any = false;

    if (r->m.n_cores > 1)
        return;
    for (int t = 0; t < r->o->n_transports; t++) {
        if (!r->o->transport[t]->spins)
            continue;
        fprintf(r->text, "%s%s", any ? ", " : "", r->o->transport[t]->name);
        any = true;
    }
    if (any)
        fputs(": both processes share one core and call sched_yield() while they wait\n",
              r->text);
}

static void print_heading(const struct run *r)
{
    const struct pw_matrix *m = &r->m;
    double seconds = (double)m->n_pairs * r->o->n_transports * PW_MEASURES *
                     (m->seconds + 0.005);

    fprintf(r->text, "%s on %s, %s, %s, pinwheel %s, load %.1f\n", m->cpu, m->host, m->date,
            m->kernel, m->pinwheel, m->load);
    fprintf(r->text, "%d core%s, %d pair%s, %d transport%s, %g s for each figure: about ",
            m->n_cores, m->n_cores == 1 ? "" : "s", m->n_pairs, m->n_pairs == 1 ? "" : "s",
            r->o->n_transports, r->o->n_transports == 1 ? "" : "s", m->seconds);
    if (seconds < 100)
        fprintf(r->text, "%.0f s\n", seconds < 1 ? 1 : seconds);
    else
        fprintf(r->text, "%.0f minutes\n", seconds / 60);
    print_spinners(r);
    fflush(r->text);
}

/* ---- measuring ---- */

/* False to stop. */
static bool measure_transport(struct run *r, int pair, int t)
{
    const struct pw_link_ops *ops = r->o->transport[t];
    struct pw_result *result = &r->m.result[t];
    const struct pw_pair *p = &r->m.pair[pair];

    for (int k = 0; !*result->reason && k < PW_MEASURES; k++) {
        int err = pw_link_measure(ops, (enum pw_measure)k, p, r->o, &result->point[k][pair],
                                  result->reason);

        if (err == -EINTR)
            return false;
        if (!err)
            continue;
        say("%s is left out (%s between cores %d and %d): %s", ops->name,
            k == PW_M_LATENCY ? "latency" : "throughput", p->a, p->b, result->reason);
        if (err != -EOPNOTSUPP)
            r->failed = true;
    }
    return true;
}

static bool measure_all(struct run *r)
{
    bool shows = isatty(STDERR_FILENO);

    for (int i = 0; i < r->m.n_pairs; i++) {
        for (int t = 0; t < r->o->n_transports; t++) {
            if (shows)
                fprintf(stderr, "\rpair %d of %d: %-10s\r", i + 1, r->m.n_pairs,
                        r->o->transport[t]->name);
            if (!measure_transport(r, i, t))
                return false;
        }
    }
    if (shows)
        fprintf(stderr, "\r%40s\r", "");
    return true;
}

static bool anything_measured(const struct pw_matrix *m)
{
    for (int t = 0; t < m->n_results; t++)
        for (int i = 0; i < m->n_pairs; i++)
            if (m->result[t].point[PW_M_LATENCY][i].samples)
                return true;
    return false;
}

/* ---- after ---- */

static void results_write(struct run *r)
{
    char why[PW_WHY];
    int err;

    pw_matrix_print(&r->m, r->text);
    if (r->json) {
        err = pw_matrix_write(&r->m, r->topology, r->json);
        if (err && r->json != stdout)
            say("cannot write %s: %s", r->o->json, strerror(-err));
        r->failed = r->failed || err;
    }
    if (r->draws) {
        err = pw_matrix_draw(&r->m, r->o->svg, why);
        if (err && err != -EINTR)
            say("no heat maps were drawn: %s", why);
        r->failed = r->failed || err;
    }
    if (fflush(stdout) || ferror(stdout)) {
        say("the results could not all be written");
        r->failed = true;
    }
    if (!anything_measured(&r->m)) {
        say("nothing could be measured");
        r->failed = true;
    }
}

/* 0 or -errno. */
static int results_make(struct run *r)
{
    int err = pw_matrix_init(&r->m, r->o->core, r->o->n_cores);

    for (int t = 0; !err && t < r->o->n_transports; t++)
        if (!pw_matrix_add(&r->m, r->o->transport[t]->name))
            err = -ENOMEM;
    if (err) {
        say("no memory for %d pairs", pw_pairs(r->o->n_cores));
        return err;
    }
    r->m.seconds = r->o->seconds;
    r->m.size = r->o->size;
    pw_matrix_describe(&r->m);
    return 0;
}

int pw_matrix_run(const struct pw_matrix_options *o)
{
    struct run r = { .o = o };
    bool done = false;

    /* Whoever ignores the end of its children has us ignore it too. */
    signal(SIGCHLD, SIG_DFL);
    pw_launch_prepare();
    if (!results_make(&r) && outputs_open(&r)) {
        gnuplot_find(&r);
        topology_find(&r);
        print_heading(&r);
        done = measure_all(&r);
        if (done)
            results_write(&r);
    }
    if (r.json && r.json != stdout)
        fclose(r.json);
    pw_topology_close(r.topology);
    pw_matrix_fini(&r.m);
    if (pw_launch_signal()) {
        signal(pw_launch_signal(), SIG_DFL);
        raise(pw_launch_signal());
    }
    return r.failed || !done ? FAILED : 0;
}
