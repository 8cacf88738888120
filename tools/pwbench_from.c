/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_from.c - compare --from: what an earlier run wrote is shown and drawn again,
 * and nothing is measured. */
#include <errno.h>
#include <string.h>

#include "pwbench_csv.h"
#include "pwbench_launch.h"
#include "pwbench_plot.h"

static int read_file(const char *path, struct pw_table *table)
{
    FILE *from = fopen(path, "re");
    int line = 0, err = from ? pw_csv_read(table, from, &line) : -errno;

    if (err == -EINVAL)
        fprintf(stderr, "pwbench: line %d of %s is not what compare --csv writes\n", line,
                path);
    else if (err == -ENODATA)
        fprintf(stderr, "pwbench: %s has a heading and no results\n", path);
    else if (err)
        fprintf(stderr, "pwbench: cannot read %s: %s\n", path, strerror(-err));
    if (from)
        fclose(from);
    return err;
}

static bool wanted(const struct pw_compare_options *o, const struct pw_row *row)
{
    return (!o->tests_given || o->test[row->test]) &&
           (!o->buffers_given || !pw_test_info[row->test].buffers ||
            o->buffers[row->buffers]);
}

/* Only the rows that are wanted stay. */
static void choose(const struct pw_compare_options *o, struct pw_table *table)
{
    int kept = 0;

    for (int r = 0; r < table->n_rows; r++)
        if (wanted(o, &table->rows[r]))
            table->rows[kept++] = table->rows[r];
    table->n_rows = kept;
}

static int show(const struct pw_compare_options *o, struct pw_table *table)
{
    struct pw_plot plot;
    int err;

    choose(o, table);
    if (!table->n_rows) {
        fprintf(stderr, "pwbench: %s has no results of these tests and buffers\n", o->from);
        return -ENODATA;
    }
    pw_table_print_heading(table, stdout);
    for (int r = 0; r < table->n_rows; r++)
        pw_table_print_row(table, &table->rows[r], stdout);
    if (!o->plot)
        return 0;
    err = pw_plot_open(&plot, o->plot);
    if (!err)
        err = pw_plot_draw(&plot, table);
    pw_plot_close(&plot);
    return err;
}

int pw_compare_from(const struct pw_compare_options *o)
{
    struct pw_table table = { .n_rows = 0 };
    int err;

    pw_launch_prepare();
    err = read_file(o->from, &table);
    if (!err)
        err = show(o, &table);
    pw_table_fini(&table);
    pw_launch_end();
    return err ? PW_BENCH_FAILED : 0;
}
