/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_gnuplot.c - the commands for gnuplot that draw a table.
 *
 * Start at pw_gnuplot_write(). The numbers of a panel go into a data block of their
 * own, so that nothing but these commands is read. Names are those of our own tables;
 * none holds a quote.
 */
#include <math.h>
#include <string.h>

#include "pwbench_plot.h"

enum { PANELS_MAX = PW_TESTS * PW_BUFFERS, WIDTH = 560, HEIGHT = 400 };

struct panel {
    enum pw_test test;
    enum pw_buffers buffers;
    bool osu;
    const char *name;
    int ranks;
    size_t low, high;               /* bytes */
    bool has[PW_COLUMNS_MAX];       /* a point of that transport? */
    bool has_limit;
};

/* A transport has its colour in every plot. These can be told apart by people who see
 * fewer colours, and on paper by their points. */
static const struct style {
    const char *name, *colour;
    int point;
} styles[] = {
    { "pinwheel", "#c8102e", 7 },
    { "vader", "#0072b2", 4 },
    { "ucx", "#e69f00", 8 },
    { "tcp", "#888888", 2 },
    { "sm", "#56b4e9", 6 },
    { "osc-rdma", "#664488", 10 },
    { "osc-ucx", "#cc79a7", 12 },
    { "mpich", "#009e73", 1 },
};
enum { STYLES = sizeof styles / sizeof *styles };

/* Of transports with parameters, by column: there may be several. */
static const struct style *style_of(const struct pw_table *table, int column)
{
    static const struct style others[] = {
        { "", "#000000", 3 },
        { "", "#8b4513", 5 },
        { "", "#556b2f", 9 },
        { "", "#7a7a00", 11 },
    };

    for (int i = 0; i < STYLES; i++)
        if (!strcmp(styles[i].name, table->column[column]))
            return &styles[i];
    return &others[column % (int)(sizeof others / sizeof *others)];
}

/* A logarithmic axis has no place for nothing. */
static bool has_place(const struct pw_row *row, int column)
{
    return row->bytes > 0 && row->value[column] > 0;
}

static bool in_panel(const struct panel *p, const struct pw_row *row)
{
    return row->test == p->test && row->buffers == p->buffers && row->ranks == p->ranks &&
           row->osu == p->osu;
}

static struct panel *panel_of(struct panel *panel, int *n, const struct pw_row *row)
{
    for (int i = 0; i < *n; i++)
        if (in_panel(&panel[i], row))
            return &panel[i];
    if (*n == PANELS_MAX)
        return NULL;
    panel[*n] = (struct panel){ .test = row->test, .buffers = row->buffers,
                                .osu = row->osu, .name = pw_row_name(row),
                                .ranks = row->ranks, .low = row->bytes,
                                .high = row->bytes };
    return &panel[(*n)++];
}

/* In the order of the table. */
static int panels_find(const struct pw_table *table, struct panel panel[PANELS_MAX])
{
    int n = 0;

    for (int r = 0; r < table->n_rows; r++) {
        const struct pw_row *row = &table->rows[r];
        struct panel *p;

        for (int c = 0; c < table->n_columns; c++) {
            if (pw_test_info[row->test].one_size || !has_place(row, c))
                continue;
            p = panel_of(panel, &n, row);
            if (!p)
                return n;
            p->has[c] = true;
            p->has_limit = p->has_limit || (table->has_limit && row->limit > 0);
            p->low = row->bytes < p->low ? row->bytes : p->low;
            p->high = row->bytes > p->high ? row->bytes : p->high;
        }
    }
    return n;
}

static void write_data(const struct pw_table *table, const struct panel *p, int n, FILE *to)
{
    fprintf(to, "$panel%d << END\n", n);
    for (int r = 0; r < table->n_rows; r++) {
        const struct pw_row *row = &table->rows[r];

        if (!in_panel(p, row) || row->bytes == 0)
            continue;
        fprintf(to, "%zu", row->bytes);
        for (int c = 0; c < table->n_columns; c++)
            if (has_place(row, c))
                fprintf(to, " %.6g", row->value[c]);
            else
                fputs(" NaN", to);
        if (table->has_limit && row->limit > 0)
            fprintf(to, " %.6g", row->limit);
        else if (table->has_limit)
            fputs(" NaN", to);
        fputc('\n', to);
    }
    fputs("END\n", to);
}

static void write_bytes(size_t bytes, FILE *to)
{
    static const char suffix[] = { '\0', 'K', 'M', 'G' };
    int s = 0;

    while (bytes >= 1024 && s < 3) {
        bytes /= 1024;
        s++;
    }
    fprintf(to, "%zu%.1s", bytes, s ? &suffix[s] : "");
}

static int log2_of(size_t bytes)
{
    int bits = 0;

    while (bytes >>= 1)
        bits++;
    return bits;
}

/* Powers of two, of four or of sixteen: about eight, as people write them. */
static void write_tics(const struct panel *p, FILE *to)
{
    int low = log2_of(p->low), high = log2_of(p->high);
    int step = high - low < 7 ? 1 : high - low < 15 ? 2 : 4;
    const char *between = "set xtics (\"";

    for (int bits = (low + step - 1) / step * step; bits <= high; bits += step) {
        fputs(between, to);
        write_bytes((size_t)1 << bits, to);
        fprintf(to, "\" %zu", (size_t)1 << bits);
        between = ", \"";
    }
    fputs(")\n", to);
}

static void write_line(const struct pw_table *table, int n, int column, bool titled,
                       FILE *to)
{
    const struct style *s = style_of(table, column);

    fprintf(to, "$panel%d using 1:%d with linespoints lc rgb '%s' lw %s pt %d ps %s ", n,
            column + 2, s->colour, column ? "1.5" : "3", s->point, column ? "0.6" : "0.7");
    if (titled)
        fprintf(to, "title '%s'", table->column[column]);
    else
        fputs("notitle", to);
}

/* The subject is named first and drawn last, on top of the others. */
static void write_panel(const struct pw_table *table, const struct panel *p, int n,
                        FILE *to)
{
    const struct pw_test_info *info = &pw_test_info[p->test];
    const char *between = "plot ";

    fprintf(to, "set title '%s, %s", p->name,
            p->buffers == PW_ALLOC_MEM ? "MPI_Alloc_mem" : pw_buffers_name[p->buffers]);
    if (p->ranks != 2)
        fprintf(to, ", %d ranks", p->ranks);
    fprintf(to, "'\nset ylabel '%s (%s is better)'\n", info->unit,
            info->rate ? "more" : "less");
    fprintf(to, "set xrange [%g:%g]\n", (double)p->low / 1.4, (double)p->high * 1.4);
    write_tics(p, to);
    for (int c = 0; c < table->n_columns; c++) {
        if (!p->has[c])
            continue;
        fputs(between, to);
        write_line(table, n, c, true, to);
        between = ", \\\n     ";
    }
    if (p->has_limit)
        fprintf(to, "%s$panel%d using 1:%d with lines lc rgb '#000000' lw 1.5 dt 2 "
                "title 'limit'", between, n, table->n_columns + 2);
    if (p->has[0]) {
        fputs(", \\\n     ", to);
        write_line(table, n, 0, false, to);
    }
    fputs("\n\n", to);
}

int pw_gnuplot_write(const struct pw_table *table, FILE *to)
{
    struct panel panel[PANELS_MAX];
    int n = panels_find(table, panel), columns = n > 1 ? 2 : 1;
    int rows = (n + columns - 1) / columns;

    if (n == 0)
        return 0;
    for (int i = 0; i < n; i++)
        write_data(table, &panel[i], i, to);
    fprintf(to,
            "\nset terminal svg size %d,%d background 'white' font 'sans,12' noenhanced\n",
            WIDTH * columns, HEIGHT * rows);
    fputs("set logscale xy\n"
          "set grid xtics ytics lt 1 lw 0.5 lc rgb '#dddddd'\n"
          "set xlabel 'bytes'\n"
          "set key outside right center Left reverse samplen 2\n"
          "set multiplot layout ", to);
    fprintf(to, "%d,%d\n\n", rows, columns);
    for (int i = 0; i < n; i++)
        write_panel(table, &panel[i], i, to);
    fputs("unset multiplot\n", to);
    return n;
}
