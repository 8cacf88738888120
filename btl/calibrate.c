/* SPDX-License-Identifier: BSD-3-Clause */
/* calibrate.c - the first job on a host measures it, when it ends.
 *
 * Start at pw_calibrate(). At the start of a job ranks disturb each other, and bound to
 * one core each none can measure alone. So the two lowest ranks of the host do it together
 * in MPI_Finalize, each on its own core, over the endpoint that they have: before Open MPI
 * deletes it all ranks have passed a barrier, and nobody sends any more. The lowest asks,
 * and keeps what was found for the jobs to come.
 *
 * What is not found within btl_pinwheel_calibrate_ms is left, and the next job tries.
 * Nobody else waits, and nothing depends on it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "pinwheel/clock.h"
#include "core/costs_file.h"
#include "core/measure.h"
#include "opal/util/proc.h"
#include "pinwheel.h"

/* Figures up to 1 MiB; what is longer takes its time mostly to be written by its owner. */
enum { POINTS = 5, LEAST = 9, WARM = 10 };

/* No component of Open MPI has it, so that one who is not there yet does not hear it. */
enum { TAG = MCA_BTL_TAG_BTL + 29 };

/* Of this job at its start: the file to make, or NULL. */
static char *wanted;

static const char *why_not(void)
{
    if (!pw_params.calibrate_ms)
        return "btl_pinwheel_calibrate_ms is 0";
    if (pw_host_ranks() < 2)
        return "it takes two ranks on a host";
    if (pw_host_crowded())
        return "more ranks than cores";
    if (pw_params.distrust || !pw_params.cma || pw_params.queue_size || pw_params.chunk)
        return "with other parameters than usual transfers take other times";
    return NULL;
}

const char *pw_calibrate_plan(const char *path)
{
    const char *why = why_not();

    if (!why) {
        wanted = strdup(path);
        why = wanted ? NULL : "no memory";
    }
    return why;
}

/* ---- the two ranks ---- */

/* Of ours on this host, with us: the lowest asks, the next owns the memory. */
struct pair {
    struct mca_btl_base_endpoint_t *lowest;     /* of the others */
    unsigned below;                             /* so many are below us */
};

static struct pair pair_of(const struct pw_module *m)
{
    opal_process_name_t me = opal_proc_local_get()->proc_name;
    struct pair p = { NULL, 0 };

    for (struct mca_btl_base_endpoint_t *e = m->endpoints; e; e = e->next) {
        opal_process_name_t name = e->proc->proc_name;

        if (name.jobid != me.jobid || !e->near)
            continue;
        p.below += name.vpid < me.vpid;
        if (!p.lowest || name.vpid < p.lowest->proc->proc_name.vpid)
            p.lowest = e;
    }
    return p;
}

static const struct pw_measure_plan plan = { .points = POINTS, .least = LEAST,
                                             .steady = true };

static int past(struct pw_measure *m, uint64_t *extra)
{
    int err = pw_measure_past(m, &plan, extra);

    if (err == -EOPNOTSUPP) {
        *extra = pw_costs_default.past_extra;
        err = 0;
    }
    return err;
}

static int curves(struct pw_measure *m, struct pw_costs *c)
{
    int err = 0;

    /* Copies find out in the first ones with which stores. */
    pw_engine_bulk(m->engine, PW_BULK_STREAM);
    for (int i = 0; i < WARM && !err; i++)
        pw_measure_get(m, PW_ELSEWHERE, PW_ELSEWHERE, m->len, false, &err);
    if (!err)
        err = pw_measure_curve(m, PW_MEASURE_STREAM, &plan, &c->stream);
    if (!err)
        err = pw_measure_curve(m, PW_MEASURE_DIRECT, &plan, &c->direct);
    if (!err)
        err = pw_measure_curve(m, PW_MEASURE_PUSH, &plan, &c->push);
    pw_engine_bulk(m->engine, PW_BULK_KERNEL);
    if (!err)
        err = pw_measure_curve(m, PW_MEASURE_KERNEL, &plan, &c->kernel);
    return err ? err : past(m, &c->past_extra);
}

static void extend(struct pw_costs *c)
{
    const struct pw_costs *d = &pw_costs_default;

    pw_cost_extend(&c->direct, POINTS, &d->direct);
    pw_cost_extend(&c->push, POINTS, &d->push);
    pw_cost_extend(&c->stream, POINTS, &d->stream);
    pw_cost_extend(&c->kernel, POINTS, &d->kernel);
}

/* Again while there is time, should something have disturbed. */
static int measure(struct pw_measure *m, struct pw_costs *c)
{
    int err;

    do {
        err = curves(m, c);
        extend(c);
    } while (!err && !pw_costs_plausible(c));
    return err;
}

static const char *sentence(int err)
{
    switch (err) {
    case -ETIMEDOUT: return "the figures did not agree in time";
    case -EPIPE:     return "the other rank has left";
    default:         return strerror(-err);
    }
}

static void keep(struct pw_calibration *c, uint64_t start)
{
    char why[PW_CALIB_WHY];
    int err;

    pw_calib_identify(c);
    pw_calib_stamp(c);
    strcpy(c->by, PW_CALIB_BY_JOB);
    err = pw_calib_offer(wanted, c, why);
    if (err)
        pw_tell(1, "costs: measured, but not kept in %s: %s", wanted, why);
    else
        pw_tell(1, "costs: measured in %llu ms and kept in %s",
                (unsigned long long)((pw_now_ns() - start) / 1000000), wanted);
}

/* The lower one. The other one waits for an end, whatever befalls us. */
static void ask(struct pw_measure *m, uint64_t start)
{
    struct pw_calibration *c = calloc(1, sizeof *c);
    char why[PW_CALIB_WHY] = "";
    cpu_set_t cpus;
    int err = c ? pw_calib_probe(wanted, why) : -ENOMEM;

    if (err) {
        pw_tell(1, "costs: not measured, for %s cannot be made: %s", wanted,
                *why ? why : strerror(-err));
    } else if ((err = pw_measure_meet(m)) != 0) {
        pw_tell(1, "costs: not measured: %s",
                err == -ETIMEDOUT ? "the other rank did not come" : sentence(err));
    } else if (sched_getaffinity(0, sizeof cpus, &cpus) ||
               !pw_measure_has_room(&cpus, &m->peer_cpus,
                                    pw_host_ranks())) {
        pw_tell(1, "costs: not measured: more ranks than CPUs that they may run on");
    } else if ((err = measure(m, &c->costs)) != 0) {
        pw_tell(1, "costs: not measured: %s", sentence(err));
    } else {
        keep(c, start);
    }
    pw_measure_end(m);
    free(c);
}

/* ---- the end of a job ---- */

static void take_part(struct pw_module *module, const struct pair *p)
{
    static struct pw_measure m;     /* a get that was given up may come back to it */
    struct pw_endpoint *ep = __atomic_load_n(&p->lowest->ep, __ATOMIC_ACQUIRE);
    uint64_t start = pw_now_ns();

    /* It would be opened for this alone, to a rank that may be gone. */
    if (!ep) {
        if (p->below == 0)
            pw_tell(1, "costs: not measured: the two lowest ranks of the host have not "
                    "talked to each other");
        return;
    }
    pw_tell_counts(module->engine);
    m = (struct pw_measure){
        .engine = module->engine, .peer = ep, .cookie = p->lowest,
        .pool = module->pool, .len = pw_cost_len(POINTS - 1), .tag = TAG,
        .until_ns = start + pw_params.calibrate_ms * 900000,
    };
    pw_engine_redirect(module->engine, &pw_measure_upcalls, &m);
    if (pw_measure_open(&m, p->below == 1)) {
        if (p->below == 0)
            pw_tell(1, "costs: not measured: no memory for it");
    } else if (p->below == 1) {
        pw_measure_own(&m);
    } else {
        ask(&m, start);
    }
    pw_measure_close(&m);
}

void pw_calibrate(struct pw_module *module)
{
    struct pair p;

    if (!wanted)
        return;
    p = pair_of(module);
    if (p.lowest && p.below <= 1)
        take_part(module, &p);
    free(wanted);
    wanted = NULL;
}
