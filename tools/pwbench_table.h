/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_table.h - results side by side, for people. */
#ifndef PWBENCH_TABLE_H
#define PWBENCH_TABLE_H

#include <stdio.h>

#include "pwbench.h"

enum { PW_COLUMNS_MAX = 1 + PW_PEERS_MAX };

struct pw_row {
    enum pw_test test;
    enum pw_buffers buffers;
    size_t bytes;
    int ranks;
    double value[PW_COLUMNS_MAX];   /* in the test's unit; NAN where not measured */
    bool osu;                       /* by OSU's program for that test */
    double limit;                   /* what the machine itself needs; where the table has
                                     * it */
};

/* Column 0 is the subject, the others are peers. */
struct pw_table {
    int n_columns, n_rows;
    bool has_limit, has_osu;
    char column[PW_COLUMNS_MAX][PW_VARIANT_NAME];
    struct pw_row *rows;
};

/* The middle one, or the mean of the middle two; NAN of nothing. Sorts values. */
double pw_median(double *values, int n);

/* What was run. */
const char *pw_row_name(const struct pw_row *row);

/* The fastest peer of that row, as a column, or 0 when there is none. The subject's own
 * transport with other parameters is one only where the table has no other peers. */
int pw_row_best_peer(const struct pw_table *table, const struct pw_row *row);

/* Time of the subject over time of the best peer, for rates the time per byte;
 * NAN without either. */
double pw_row_ratio(const struct pw_table *table, const struct pw_row *row);

/* Time of the subject over what the machine itself needs, in the same way; NAN where the
 * table or the row has no limit. */
double pw_row_limit_ratio(const struct pw_table *table, const struct pw_row *row);

/* Copies row. 0, or -ENOMEM. */
int pw_table_add(struct pw_table *table, const struct pw_row *row);

void pw_table_print_heading(const struct pw_table *table, FILE *to);
void pw_table_print_row(const struct pw_table *table, const struct pw_row *row, FILE *to);

void pw_table_fini(struct pw_table *table);

#endif
