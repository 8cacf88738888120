/* SPDX-License-Identifier: BSD-3-Clause */
/* costs.c - with which costs a job begins, and where they are from.
 *
 * Nothing depends on a file: what is wrong with it is told once, and the job begins
 * with the built-in costs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/costs_file.h"
#include "limits.h"
#include "opal/util/proc.h"
#include "pinwheel.h"

static void take(struct pw_engine_config *config, const struct pw_calibration *c)
{
    config->costs = c->costs;
    if (c->chunk && !pw_params.chunk)
        config->chunk = c->chunk;
}

static void tell(const char *text, const char *what)
{
    if (opal_process_info.my_local_rank == 0)
        pw_tell(1, "costs: %s%s", text, what);
}

static bool automatic(void)
{
    return !strcmp(pw_params.costs, "auto");
}

/* Who makes it anew: this job, else somebody with pwbench calibrate. */
static void tell_remedy(char *out, size_t room, int err, const char *path)
{
    bool ours = automatic() && pw_calib_is_replaceable(err);
    const char *why = ours ? pw_calibrate_plan(path) : "";

    if (!why)
        snprintf(out, room, "this job measures when it ends");
    else
        snprintf(out, room, "pwbench calibrate measures this host%s%s%s",
                 *why ? " (this job does not: " : "", why, *why ? ")" : "");
}

/* Not found where nobody has measured yet is as it should be; a file that was named, or
 * that is there and of no use, is not. */
static void tell_refusal(int err, const char *path, const char *why)
{
    char remedy[256];

    if (!*path) {
        tell("the built-in ones, for there is no place for measured ones: ", why);
        return;
    }
    tell_remedy(remedy, sizeof remedy, err, path);
    if (err == -ENOENT && automatic())
        tell("the built-in ones, for this host has not been measured; ", remedy);
    else
        pw_say(true, "%s is not used (%s): the built-in costs are. %s", path, why, remedy);
}

void pw_costs_load(struct pw_engine_config *config)
{
    struct pw_calibration *c = NULL;
    char path[PW_CALIB_PATH] = "", why[PW_CALIB_WHY] = "no home directory";
    int err = 0;

    config->costs = pw_costs_default;
    config->chunk = pw_params.chunk ? pw_params.chunk : PW_CHUNK;
    config->chunk_most = pw_params.chunk ? pw_params.chunk : PW_CHUNK_MOST;
    if (!strcmp(pw_params.costs, "default")) {
        tell("the built-in ones, as asked for", "");
        return;
    }
    if (automatic())
        err = pw_calib_path(path);
    else
        snprintf(path, sizeof path, "%s", pw_params.costs);
    if (!err) {
        c = malloc(sizeof *c);
        err = c ? pw_calib_read(path, c, why) : -ENOMEM;
    }
    if (!err) {
        take(config, c);
        tell(!strcmp(c->by, PW_CALIB_BY_JOB) ? "measured by a job on this host, "
                                             : "measured on this host, ", c->taken);
    } else {
        tell_refusal(err, path, why);
    }
    free(c);
}
