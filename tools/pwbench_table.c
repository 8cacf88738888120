/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_table.c - results side by side. See pwbench_table.h. */
#include "pwbench_table.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pwbench_osu.h"

enum { OSU_WIDTH = 15 };         /* osu_put_latency */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double pw_median(double *values, int n)
{
    if (n == 0)
        return NAN;
    qsort(values, (size_t)n, sizeof *values, compare_doubles);
    return (values[n / 2] + values[(n - 1) / 2]) / 2;
}

const char *pw_row_name(const struct pw_row *row)
{
    return row->osu ? pw_osu_name(row->test) : pw_test_info[row->test].name;
}

static bool is_own(const struct pw_table *table, int column)
{
    return pw_variant_same_transport(table->column[column], table->column[0]);
}

static bool has_others(const struct pw_table *table)
{
    for (int c = 1; c < table->n_columns; c++)
        if (!is_own(table, c))
            return true;
    return false;
}

int pw_row_best_peer(const struct pw_table *table, const struct pw_row *row)
{
    bool rate = pw_test_info[row->test].rate, others = has_others(table);
    int best = 0;

    for (int c = 1; c < table->n_columns; c++) {
        if (isnan(row->value[c]) || (others && is_own(table, c)))
            continue;
        if (!best || (rate ? row->value[c] > row->value[best]
                           : row->value[c] < row->value[best]))
            best = c;
    }
    return best;
}

double pw_row_ratio(const struct pw_table *table, const struct pw_row *row)
{
    int best = pw_row_best_peer(table, row);

    if (!best || isnan(row->value[0]))
        return NAN;
    return pw_test_info[row->test].rate ? row->value[best] / row->value[0]
                                        : row->value[0] / row->value[best];
}

double pw_row_limit_ratio(const struct pw_table *table, const struct pw_row *row)
{
    if (!table->has_limit || isnan(row->limit) || isnan(row->value[0]))
        return NAN;
    return pw_test_info[row->test].rate ? row->limit / row->value[0]
                                        : row->value[0] / row->limit;
}

int pw_table_add(struct pw_table *table, const struct pw_row *row)
{
    struct pw_row *rows = realloc(table->rows, ((size_t)table->n_rows + 1) * sizeof *rows);

    if (!rows)
        return -ENOMEM;
    rows[table->n_rows++] = *row;
    table->rows = rows;
    return 0;
}

/* A name that is longer than numbers makes its column wider. */
static int width_of(const struct pw_table *table, int column)
{
    int len = (int)strlen(table->column[column]);

    return len > 9 ? len : 9;
}

static int widest_peer(const struct pw_table *table)
{
    int widest = 9;

    for (int c = 1; c < table->n_columns; c++)
        if (width_of(table, c) > widest)
            widest = width_of(table, c);
    return widest;
}

void pw_table_print_heading(const struct pw_table *table, FILE *to)
{
    fprintf(to, "%-*s %8s  %-9s %5s %-4s", table->has_osu ? OSU_WIDTH : 9, "test", "bytes",
            "buffers", "ranks", "unit");
    for (int c = 0; c < table->n_columns; c++)
        fprintf(to, " %*s", width_of(table, c), table->column[c]);
    fprintf(to, " %7s  ", "ratio");
    if (table->has_limit)
        fprintf(to, "%-*s %9s %7s\n", widest_peer(table), "best peer", "limit", "ratio");
    else
        fputs("best peer\n", to);
}

static void print_value(double value, int width, FILE *to)
{
    if (isnan(value))
        fprintf(to, " %*s", width, "-");
    else
        fprintf(to, " %*.*f", width, value < 10 ? 3 : value < 1000 ? 2 : 0, value);
}

static void print_ratio(double ratio, FILE *to)
{
    if (isnan(ratio))
        fprintf(to, " %7s", "-");
    else
        fprintf(to, " %7.2f", ratio);
}

void pw_table_print_row(const struct pw_table *table, const struct pw_row *row, FILE *to)
{
    const struct pw_test_info *info = &pw_test_info[row->test];
    int best = pw_row_best_peer(table, row);

    fprintf(to, "%-*s %8zu  %-9s %5d %-4s", table->has_osu ? OSU_WIDTH : 9,
            pw_row_name(row), row->bytes,
            pw_test_buffers(row->test, row->buffers), row->ranks, info->unit);
    for (int c = 0; c < table->n_columns; c++)
        print_value(row->value[c], width_of(table, c), to);
    print_ratio(best ? pw_row_ratio(table, row) : NAN, to);
    fprintf(to, "  %-*s", table->has_limit ? widest_peer(table) : 0,
            best ? table->column[best] : "-");
    if (table->has_limit) {
        print_value(row->limit, 9, to);
        print_ratio(pw_row_limit_ratio(table, row), to);
    }
    fputc('\n', to);
    fflush(to);
}

void pw_table_fini(struct pw_table *table)
{
    free(table->rows);
    table->rows = NULL;
    table->n_rows = 0;
}
