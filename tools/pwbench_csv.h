/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_csv.h - the results of pwbench compare as a file, and back from it. */
#ifndef PWBENCH_CSV_H
#define PWBENCH_CSV_H

#include "pwbench_table.h"

/* 0, or -errno when it could not all be written. */
int pw_csv_write(const struct pw_table *table, FILE *to);

/* What pw_csv_write() wrote; the best peer and the ratio are worked out anew.
 * table is to be ended by pw_table_fini() in any case.
 *
 * 0, or -EINVAL  *line, counted from 1, is not a line of such a file
 *       -ENODATA a heading and no results
 *       -ENOMEM
 *       -errno   it could not be read */
int pw_csv_read(struct pw_table *table, FILE *from, int *line);

#endif
