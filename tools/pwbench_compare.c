/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_compare.c - transports against each other, fairly.
 *
 * Start at pw_compare_run(). For each test and kind of buffer, first every
 * transport runs once with --check: what cannot run, or delivers wrong data, is
 * reported and left out. Then come the rounds; in each, every transport runs all
 * sizes once, and another one goes first. So a machine that is busy for a while
 * is busy for all. What is shown are medians over the rounds.
 *
 * This process does no MPI: it starts one mpirun after another.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pwbench_csv.h"
#include "pwbench_launch.h"
#include "pwbench_osu.h"
#include "pwbench_peers.h"
#include "pwbench_plot.h"
#include "pwbench_table.h"

enum { REASON_MAX = 320 };

struct runner {
    struct pw_variant variant;
    bool out[PW_KINDS];         /* left out of tests of that kind */
    bool told;
    char reason[REASON_MAX];    /* the last one told */
};

struct compare {
    const struct pw_compare_options *o;
    struct runner runner[PW_COLUMNS_MAX + 1];   /* 0 is the subject, the limit the last */
    int n_runners;
    struct pw_table table;
    char *osu;                  /* the program for the test that is run, or NULL */
    double *samples;            /* [runner][size][round] */
    struct pw_command command;  /* the last one run */
};

static double *samples_of(const struct compare *c, int runner, int size)
{
    return c->samples + ((size_t)runner * PW_SIZES_MAX + (size_t)size) *
           (size_t)c->o->rounds;
}

/* ---- what went wrong, in a sentence ---- */

/* Open MPI frames its messages in dashes, with blank lines, and puts
 * [host:pid] before some. The first sentence says what is the matter. */
static const char *skip_prefix(const char *line)
{
    const char *end;

    line += strspn(line, " \t");
    if (*line == '[' && (end = strstr(line, "] ")) != NULL && end - line < 80)
        line = end + 2;
    return line + strspn(line, " \t");
}

/* Dashes, nothing, or the places in the source where ORTE noticed. */
static bool line_is_frame(const char *line)
{
    return line[strspn(line, "-=*# \t\r\n")] == '\0' || strstr(line, "ORTE_ERROR_LOG");
}

static void sentence_from(const char *text, char out[REASON_MAX])
{
    size_t used = 0;

    while (*text && used < REASON_MAX - 2) {
        size_t len = strcspn(text, "\n");
        char line[512];

        snprintf(line, sizeof line, "%.*s", (int)(len < 511 ? len : 511), text);
        text += len + (text[len] == '\n');
        if (line_is_frame(line)) {
            if (used)
                break;
            continue;
        }
        used += (size_t)snprintf(out + used, REASON_MAX - used, "%s%s", used ? " " : "",
                                 skip_prefix(line));
        if (used >= REASON_MAX)
            used = REASON_MAX - 1;
        if (strstr(out, ".  ") || out[used - 1] == '.')
            break;
    }
    out[used] = '\0';
    if (strstr(out, ".  "))
        strstr(out, ".  ")[1] = '\0';
}

/* What Open MPI frames is meant for people; what stands around it may be two
 * ranks talking at once. */
static const char *framed_part(const char *text)
{
    const char *frame = strstr(text, "\n-----");

    if (!strncmp(text, "-----", 5))
        frame = text;
    return frame ? frame : text;
}

static void reason_from(const struct pw_launch_result *r, double timeout,
                        char out[REASON_MAX])
{
    const char *own = strstr(r->err, "pwbench: ");

    out[0] = '\0';
    if (r->timed_out)
        snprintf(out, REASON_MAX, "it did not finish in %g seconds and was ended", timeout);
    else if (own)
        snprintf(out, REASON_MAX, "%.*s", (int)strcspn(own + 9, "\n"), own + 9);
    else
        sentence_from(framed_part(r->err), out);
    if (!out[0])
        sentence_from(r->out, out);
    if (!out[0])
        snprintf(out, REASON_MAX, "it ended with exit code %d and no message",
                 r->exit_code);
}

/* ---- one run ---- */

/* Values from the output, one for each size asked for, in order. Fewer, others
 * or impossible ones are no measurement. */
static bool values_parse(const char *out, const struct pw_sizes *sizes, double *values)
{
    int n = 0;

    while (*out) {
        size_t len = strcspn(out, "\n"), size;
        double value;

        if (*out >= '0' && *out <= '9') {
            if (n == sizes->n || sscanf(out, "%zu %lf", &size, &value) != 2 ||
                size != sizes->at[n] || !isfinite(value) || value < 0)
                return false;
            values[n++] = value;
        }
        out += len + (out[len] == '\n');
    }
    return n == sizes->n;
}

/* The line of the heading that tells where the ranks are. */
static void cores_parse(const char *out, int core[2])
{
    const char *line = strstr(out, "# Cores: ");

    if (!line || sscanf(line, "# Cores: %d %d", &core[0], &core[1]) != 2)
        core[0] = core[1] = -1;
}

/* 0 with all values; -EINTR when asked to stop; else -EIO and a reason. */
static int run_once(struct compare *c, const struct runner *runner, struct pw_job *job,
                    double *values, char reason[REASON_MAX])
{
    struct pw_command *command = &c->command;
    bool osu = job->osu && !job->verify && !runner->variant.transport->machine;
    struct pw_launch_result r;
    int err;

    err = pw_command_make(command, c->o, &runner->variant, job);
    if (!err)
        err = pw_launch(command->argv, command->env, c->o->timeout, &r);
    if (err == -EINTR)
        return err;
    if (err) {
        snprintf(reason, REASON_MAX, "%s could not be started: %s",
                 command->argv[0] ? command->argv[0] : "mpirun", strerror(-err));
        return -EIO;
    }

    if (r.timed_out || r.exit_code != 0)
        err = -EIO;
    if (err) {
        reason_from(&r, c->o->timeout, reason);
    } else if (!(osu ? pw_osu_parse(job->test, r.out, &job->sizes, values)
                     : values_parse(r.out, &job->sizes, values))) {
        err = -EIO;
        snprintf(reason, REASON_MAX, "its output has not the sizes that were asked for");
    } else if (job->verify && runner == &c->runner[0]) {
        cores_parse(r.out, job->core);
    }
    pw_launch_free(&r);
    return err;
}

/* ---- one test with one kind of buffer ---- */

static bool takes_part(const struct compare *c, int i, enum pw_test test)
{
    const struct pw_transport *t = c->runner[i].variant.transport;
    enum pw_kind kind = pw_test_info[test].kind;

    if (t->machine)
        return !c->runner[i].out[kind] && pw_test_has_limit(test);
    if (c->osu && t->mpich)
        return false;
    if (c->runner[i].out[kind] || (t->one_sided_only && kind != PW_ONE_SIDED))
        return false;
    return i == 0 || c->o->n_peers > 0 || pw_transport_usual(t, c->o, kind);
}

/* For whoever wants to see all that the subject had to say. */
static void show_command(const struct pw_command *c)
{
    fputs("pwbench: the command was:", stderr);
    for (int i = 0; c->env[i]; i++)
        fprintf(stderr, " %s", c->env[i]);
    for (int i = 0; c->argv[i]; i++)
        fprintf(stderr, " %s", c->argv[i]);
    fputc('\n', stderr);
}

static void leave_out(struct compare *c, int i, const struct pw_job *job,
                      const char *reason)
{
    const struct pw_test_info *info = &pw_test_info[job->test];
    struct runner *r = &c->runner[i];

    r->out[info->kind] = true;
    if (r->told && !strcmp(r->reason, reason))
        return;
    r->told = true;
    snprintf(r->reason, sizeof r->reason, "%s", reason);
    fflush(stdout);
    fprintf(stderr, "pwbench: %s %s (%s%s%s): %s\n", r->variant.name,
            i == 0 ? "cannot be measured" : "is left out", info->name,
            info->buffers ? ", " : "", info->buffers ? pw_buffers_name[job->buffers] : "",
            reason);
    if (i == 0)
        show_command(&c->command);
}

/* All have as much to compute as the messages of the fastest peer take alone: what
 * the subject does not hide, a peer could have. Without a peer, as the subject's. The
 * subject comes first. */
static void compute_choose(const struct compare *c, const struct runner *r,
                           struct pw_job *job, const double *values)
{
    bool peer = r != &c->runner[0];

    for (int s = 0; s < job->sizes.n; s++)
        if (!peer || !job->compute_of_peer || values[s] < job->compute[s])
            job->compute[s] = values[s];
    job->compute_of_peer = peer;
}

/* One pass over all that take part; round -1 verifies. False to stop. */
static bool run_round(struct compare *c, struct pw_job *job, int round)
{
    double values[PW_SIZES_MAX];
    char reason[REASON_MAX];

    job->verify = round < 0;
    for (int k = 0; k < c->n_runners; k++) {
        int i = (k + (round < 0 ? 0 : round)) % c->n_runners, err;

        if (!takes_part(c, i, job->test))
            continue;
        err = run_once(c, &c->runner[i], job, values, reason);
        if (err == -EINTR)
            return false;
        if (err) {
            leave_out(c, i, job, reason);
            if (i == 0)
                return false;
            continue;
        }
        if (round < 0)
            compute_choose(c, &c->runner[i], job, values);
        for (int s = 0; round >= 0 && s < job->sizes.n; s++)
            samples_of(c, i, s)[round] = values[s];
    }
    return true;
}

static void job_init(struct pw_job *job, const struct pw_compare_options *o,
                     enum pw_test test, enum pw_buffers buffers)
{
    static const struct pw_sizes collective_sizes = { 2, { 8, 65536 } };
    const struct pw_test_info *info = &pw_test_info[test];
    bool collective = info->kind == PW_COLLECTIVE;

    memset(job, 0, sizeof *job);
    job->test = test;
    job->buffers = buffers;
    job->core[0] = job->core[1] = -1;
    job->ranks = o->ranks ? o->ranks : collective ? 8 : 2;
    job->sizes = o->sizes;
    if (collective && !o->sizes_given)
        job->sizes = collective_sizes;
    if (info->one_size)
        job->sizes = (struct pw_sizes){ 1, { info->size } };
}

/* Why OSU's program for that cannot be run. */
__attribute__((format(printf, 2, 3)))
static char *own_instead(const struct pw_job *job, const char *format, ...)
{
    const struct pw_test_info *info = &pw_test_info[job->test];
    va_list args;

    fflush(stdout);
    fprintf(stderr, "pwbench: %s%s%s is pwbench's own: ", info->name,
            info->buffers ? ", " : "", info->buffers ? pw_buffers_name[job->buffers] : "");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return NULL;
}

/* OSU's program for the job, to be freed; NULL where there is none, which is told. */
static char *osu_program(const struct pw_compare_options *o, const struct pw_job *job)
{
    const char *name = pw_osu_name(job->test);
    bool pairs = pw_test_info[job->test].kind == PW_PAIR && job->test != PW_RATE;
    char *program;

    if (!o->osu)
        return NULL;
    if (!name)
        return own_instead(job, "OSU has no counterpart");
    if (job->buffers != PW_MALLOC)
        return own_instead(job, "%s takes its buffers from malloc", name);
    if (pairs && job->ranks != 2)
        return own_instead(job, "%s runs between 2 ranks, not %d", name, job->ranks);
    program = pw_osu_find(o->osu, job->test);
    return program ? program : own_instead(job, "there is no %s in %s", name, o->osu);
}

static bool run_group(struct compare *c, enum pw_test test, enum pw_buffers buffers)
{
    struct pw_job job;

    job_init(&job, c->o, test, buffers);
    free(c->osu);
    c->osu = osu_program(c->o, &job);
    job.osu = c->osu;
    for (int round = -1; round < c->o->rounds; round++) {
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r%s %s: %s %d of %d \r", pw_test_info[test].name,
                    pw_test_buffers(test, buffers), round < 0 ? "check before" : "round",
                    round < 0 ? 1 : round + 1, c->o->rounds);
        if (!run_round(c, &job, round))
            return false;
    }
    for (int s = 0; s < job.sizes.n; s++) {
        struct pw_row row = { test, buffers, job.sizes.at[s], job.ranks, { 0 },
                              job.osu != NULL, NAN };

        for (int i = 0; i < c->n_runners; i++)
            *(i < c->table.n_columns ? &row.value[i] : &row.limit) =
                takes_part(c, i, test) ? pw_median(samples_of(c, i, s), c->o->rounds) : NAN;
        if (pw_table_add(&c->table, &row)) {
            fprintf(stderr, "pwbench: no memory for the table\n");
            return false;
        }
        pw_table_print_row(&c->table, &row, stdout);
    }
    return true;
}

/* ---- all of them ---- */

static void add_runner(struct compare *c, const struct pw_variant *v)
{
    c->runner[c->n_runners].variant = *v;
    memcpy(c->table.column[c->n_runners++], v->name, sizeof v->name);
    c->table.n_columns = c->n_runners;
}

/* No column among the peers. */
static void add_limit(struct compare *c)
{
    pw_variant_plain(&pw_transport_limit, &c->runner[c->n_runners++].variant);
    c->table.has_limit = true;
}

/* Is t measured without being asked for, in some test that is wanted? */
static bool usual_somewhere(const struct pw_compare_options *o,
                            const struct pw_transport *t)
{
    if (t->mpich && (o->osu || !o->mpich_pwbench))
        return false;
    for (int test = 0; test < PW_TESTS; test++)
        if (o->test[test] && pw_transport_usual(t, o, pw_test_info[test].kind))
            return true;
    return false;
}

/* The subject, then the peers given or all usual ones. */
static int compare_open(struct compare *c, const struct pw_compare_options *o)
{
    const struct pw_transport *t;
    struct pw_variant v;

    memset(c, 0, sizeof *c);
    c->o = o;
    c->table.has_osu = o->osu != NULL;
    add_runner(c, &o->subject);
    for (int i = 0; i < o->n_peers; i++)
        add_runner(c, &o->peer[i]);
    for (int i = 0; !o->n_peers && (t = pw_transport_at(i)) != NULL; i++) {
        if (!usual_somewhere(o, t) || t == o->subject.transport)
            continue;
        pw_variant_plain(t, &v);
        add_runner(c, &v);
    }

    if (o->limit)
        add_limit(c);

    c->samples = calloc((size_t)c->n_runners * PW_SIZES_MAX, (size_t)o->rounds *
                        sizeof *c->samples);
    return c->samples ? 0 : -ENOMEM;
}

static bool wanted(const struct pw_compare_options *o, int test, int buffers)
{
    const struct pw_test_info *info = &pw_test_info[test];

    if (!o->test[test])
        return false;
    if (o->osu && !o->buffers_given)
        return buffers == PW_MALLOC;
    if (!info->buffers)
        return buffers == PW_MALLOC;
    /* One-sided access is to memory made for it, unless asked otherwise. */
    if (info->kind == PW_ONE_SIDED && !o->buffers_given)
        return buffers == PW_ALLOC_MEM;
    if ((info->kind == PW_COLLECTIVE || info->one_size) && !o->buffers_given)
        return buffers == PW_MALLOC;
    return o->buffers[buffers];
}

static bool run_all(struct compare *c)
{
    pw_table_print_heading(&c->table, stdout);
    for (int test = 0; test < PW_TESTS; test++)
        for (int buffers = 0; buffers < PW_BUFFERS; buffers++)
            if (wanted(c->o, test, buffers) &&
                !run_group(c, (enum pw_test)test, (enum pw_buffers)buffers))
                return false;
    return true;
}

/* What the results are also left in. Opened first: not to find out after minutes that
 * they cannot be written. */
struct outputs {
    FILE *csv;
    struct pw_plot plot;
};

static int outputs_open(struct outputs *out, const struct pw_compare_options *o)
{
    *out = (struct outputs){ .plot.fd = -1 };
    if (o->plot && pw_plot_open(&out->plot, o->plot))
        return -EIO;
    if (o->csv && !(out->csv = fopen(o->csv, "we"))) {
        fprintf(stderr, "pwbench: cannot write %s: %s\n", o->csv, strerror(errno));
        pw_plot_close(&out->plot);
        return -EIO;
    }
    return 0;
}

/* Of a run that ended early, what there is. */
static int outputs_write(struct outputs *out, const struct pw_compare_options *o,
                         const struct pw_table *table)
{
    int err = out->csv ? pw_csv_write(table, out->csv) : 0;

    if (err)
        fprintf(stderr, "pwbench: cannot write %s: %s\n", o->csv, strerror(-err));
    if (o->plot && table->n_rows && pw_plot_draw(&out->plot, table))
        err = -EIO;
    return err;
}

static void outputs_close(struct outputs *out)
{
    if (out->csv)
        fclose(out->csv);
    pw_plot_close(&out->plot);
}

int pw_compare_run(const struct pw_compare_options *o)
{
    struct outputs out;
    struct compare c;
    int exit_code = PW_BENCH_FAILED;

    pw_launch_prepare();
    if (outputs_open(&out, o))
        goto end;
    if (compare_open(&c, o)) {
        fprintf(stderr, "pwbench: no memory for %d rounds\n", o->rounds);
        goto close_outputs;
    }

    if (run_all(&c))
        exit_code = 0;
    if (exit_code == 0)
        printf("Data was verified at every size%s. ratio: time of %s over time of the best "
               "peer; below 1, %s is faster.\n", o->osu ? ", by pwbench's own tests" : "",
               o->subject.name, o->subject.name);
    if (exit_code == 0 && o->hosts)
        printf("Between the hosts %s.\n", o->hosts);
    if (exit_code == 0 && o->limit)
        printf("limit: the same messages between two processes on the same cores, without "
               "MPI; ratio: time of %s over that.\n", o->subject.name);
    fflush(stdout);
    if (!pw_launch_signal() && outputs_write(&out, o, &c.table))
        exit_code = PW_BENCH_FAILED;
    pw_table_fini(&c.table);
    free(c.osu);
    free(c.samples);

close_outputs:
    outputs_close(&out);
end:
    pw_launch_end();
    return exit_code;
}
