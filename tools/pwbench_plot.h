/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_plot.h - a table as a picture: what was measured over the size of the
 * messages, both on logarithmic axes. One panel for each test and kind of buffers, one
 * line for each transport.
 *
 * Tests of one size have no such line and are left out.
 */
#ifndef PWBENCH_PLOT_H
#define PWBENCH_PLOT_H

#include "pwbench_table.h"

struct pw_plot {
    const char *path;
    int fd;             /* of it; what it held stays until there is a picture */
};

/* Before anything is measured: can the picture be drawn, and written to path?
 * Call pw_launch_prepare() first. 0, or -errno, and stderr says what to do. */
int pw_plot_open(struct pw_plot *plot, const char *path);

/* Draw it, and say on stderr which tests are not in it.
 * 0, or -errno, and stderr says why; -EINTR in silence, when we were asked to stop. */
int pw_plot_draw(struct pw_plot *plot, const struct pw_table *table);

/* A file that was made by open and never written is removed. */
void pw_plot_close(struct pw_plot *plot);

/* pwbench_gnuplot.c: the commands by which gnuplot draws it to its stdout. How many
 * panels; with 0, there is nothing to draw and nothing was written. */
int pw_gnuplot_write(const struct pw_table *table, FILE *to);

#endif
