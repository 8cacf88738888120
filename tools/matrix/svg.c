/* SPDX-License-Identifier: BSD-3-Clause */
/* svg.c - heat maps: a drawing for latency and one for throughput, a panel for each
 * transport. gnuplot draws them; what it is told is written to a file in memory. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "matrix.h"
#include "tools/pwbench_launch.h"

enum { NAME_MAX_LEN = 4096, NUMBERS_UP_TO = 16, GNUPLOT_SECONDS = 120 };

/* Light enough that black numbers can be read on every colour. */
static const struct {
    const char *key, *title, *colours;
    double scale;
} kinds[PW_MEASURES] = {
    { "latency", "latency, ns: half a round trip of 8 bytes, less is better",
      "0 '#ffffe5', 1 '#fed976', 2 '#fd9d4f'", 1 },
    { "throughput", "throughput, GB/s: more is better",
      "0 '#f7fcf5', 1 '#b7e2b1', 2 '#5ab769'", 1e-3 },
};

/* As gnuplot reads it: in single quotes, which are doubled. */
static void put_quoted(FILE *to, const char *text)
{
    fputc('\'', to);
    for (; *text; text++) {
        if (*text == '\'')
            fputc('\'', to);
        fputc((unsigned char)*text < ' ' ? ' ' : *text, to);
    }
    fputc('\'', to);
}

static int index_of(const struct pw_matrix *m, int core)
{
    for (int i = 0; i < m->n_cores; i++)
        if (m->core[i] == core)
            return i;
    return 0;
}

static bool range(const struct pw_matrix *m, const struct pw_point *point, double *low,
                  double *high)
{
    bool any = false;

    for (int i = 0; i < m->n_pairs; i++) {
        double v = point[i].median;

        if (!point[i].samples)
            continue;
        *low = !any || v < *low ? v : *low;
        *high = !any || v > *high ? v : *high;
        any = true;
    }
    return any;
}

/* Both halves of the square: x, y, value. */
static void put_data(const struct pw_matrix *m, const struct pw_point *point, double scale,
                     FILE *to)
{
    fputs("$cells << END\n", to);
    for (int i = 0; i < m->n_pairs; i++) {
        int a = index_of(m, m->pair[i].a), b = index_of(m, m->pair[i].b);

        if (!point[i].samples)
            continue;
        fprintf(to, "%d %d %.6g\n", a, b, point[i].median * scale);
        if (a != b)
            fprintf(to, "%d %d %.6g\n", b, a, point[i].median * scale);
    }
    fputs("END\n", to);
}

static void put_panel(const struct pw_matrix *m, const struct pw_result *r,
                      enum pw_measure k, FILE *to)
{
    const struct pw_point *point = r->point[k];
    double scale = kinds[k].scale, low = 0, high = 0;

    if (!range(m, point, &low, &high))
        return;
    put_data(m, point, scale, to);
    fputs("set title ", to);
    put_quoted(to, r->name);
    fprintf(to, " noenhanced font ',14'\nset cbrange [%.6g:%.6g]\n", low * scale * 0.99,
            high * scale * 1.01);
    fputs("plot $cells using 1:2:(0.48):(0.48):3 with boxxyerror fs solid noborder "
          "fillcolor palette", to);
    if (m->n_cores <= NUMBERS_UP_TO)
        fputs(", $cells using 1:2:(sprintf($3 < 100 ? '%.3g' : '%.0f', $3)) with labels "
              "tc 'black'", to);
    fputs("\nundefine $cells\n", to);
}

static int panels(const struct pw_matrix *m, enum pw_measure k)
{
    double low, high;
    int n = 0;

    for (int i = 0; i < m->n_results; i++)
        n += range(m, m->result[i].point[k], &low, &high);
    return n;
}

static void put_axes(const struct pw_matrix *m, FILE *to)
{
    int step = (m->n_cores + 31) / 32;

    fputs("set xtics (", to);
    for (int i = 0; i < m->n_cores; i += step)
        fprintf(to, "%s'%d' %d", i ? ", " : "", m->core[i], i);
    fputs(") scale 0\nset ytics (", to);
    for (int i = 0; i < m->n_cores; i += step)
        fprintf(to, "%s'%d' %d", i ? ", " : "", m->core[i], i);
    fprintf(to, ") scale 0\nset xrange [-0.5:%d.5]\nset yrange [%d.5:-0.5]\n",
            m->n_cores - 1, m->n_cores - 1);
}

/* Of two lines: what, and where and when. */
static void put_title(FILE *to, const char *what, const struct pw_matrix *m)
{
    char where[4 * PW_TEXT];

    snprintf(where, sizeof where, "%s, %s, %s", m->cpu, m->host, m->date);
    put_quoted(to, what);
    fputs(" . \"\\n\" . ", to);
    put_quoted(to, where);
    fputs(" noenhanced font ',16'\n", to);
}

static void put_script(const struct pw_matrix *m, enum pw_measure k, const char *file,
                       FILE *to)
{
    int n = panels(m, k), columns = n < 4 ? n : 4, rows = (n + columns - 1) / columns;
    int cell = m->n_cores <= 4 ? 60 : m->n_cores <= NUMBERS_UP_TO ? 36 : 12;
    int side = 200 + m->n_cores * cell;

    side = side > 1000 ? 1000 : side;
    fprintf(to, "set terminal svg size %d, %d background 'white' font 'sans,11'\n",
            columns * side < 900 ? 900 : columns * side, rows * side + 90);
    fputs("set output ", to);
    put_quoted(to, file);
    fprintf(to, "\nset palette defined (%s)\nunset key\nset size square\n",
            kinds[k].colours);
    if (m->n_pairs == 1)
        fputs("unset colorbox\n", to);
    fputs("set xlabel 'core'\nset ylabel 'core'\n", to);
    put_axes(m, to);
    fprintf(to, "set multiplot layout %d, %d title ", rows, columns);
    put_title(to, kinds[k].title, m);
    for (int i = 0; i < m->n_results; i++)
        put_panel(m, &m->result[i], k, to);
    fputs("unset multiplot\n", to);
}

/* The first line that gnuplot complains with; it prints empty ones before. */
static void complaint(const struct pw_launch_result *r, char why[PW_WHY])
{
    const char *text = r->err + strspn(r->err, "\n ");

    if (r->timed_out)
        snprintf(why, PW_WHY, "gnuplot did not finish in %d seconds", GNUPLOT_SECONDS);
    else if (!*text)
        snprintf(why, PW_WHY, "gnuplot ended with exit code %d", r->exit_code);
    else
        snprintf(why, PW_WHY, "gnuplot: %.*s", (int)strcspn(text, "\n"), text);
}

static int gnuplot(const char *argument, char why[PW_WHY])
{
    const char *argv[] = { "gnuplot", argument, NULL };
    struct pw_launch_result r;
    int err = pw_launch(argv, NULL, GNUPLOT_SECONDS, &r);

    if (err == -ENOENT)
        snprintf(why, PW_WHY, "gnuplot is not installed (Debian package gnuplot-nox)");
    else if (err)
        snprintf(why, PW_WHY, "gnuplot could not be started: %s", strerror(-err));
    if (err)
        return err;
    if (r.timed_out || r.exit_code) {
        complaint(&r, why);
        err = -EIO;
    }
    pw_launch_free(&r);
    return err;
}

static int draw(const struct pw_matrix *m, enum pw_measure k, const char *file,
                char why[PW_WHY])
{
    char script[64];
    int fd = memfd_create("heat map", 0), err = 0;     /* gnuplot inherits it */
    FILE *to = fd < 0 ? NULL : fdopen(fd, "w");

    if (!to) {
        err = -errno;
        if (fd >= 0)
            close(fd);
        snprintf(why, PW_WHY, "%s", strerror(-err));
        return err;
    }
    put_script(m, k, file, to);
    fflush(to);
    snprintf(script, sizeof script, "/proc/self/fd/%d", fd);
    /* Opened by that name, a file in memory is read from its beginning. */
    err = gnuplot(script, why);
    fclose(to);
    return err;
}

static void file_name(enum pw_measure k, const char *prefix, char out[NAME_MAX_LEN])
{
    snprintf(out, NAME_MAX_LEN, "%s-%s.svg", prefix, kinds[k].key);
}

int pw_matrix_can_draw(const char *prefix, char why[PW_WHY])
{
    char file[NAME_MAX_LEN];

    for (int k = 0; k < PW_MEASURES; k++) {
        FILE *f;
        int err;

        file_name((enum pw_measure)k, prefix, file);
        f = fopen(file, "ae");
        if (!f) {
            err = -errno;
            snprintf(why, PW_WHY, "cannot write %.100s: %s", file, strerror(-err));
            return err;
        }
        /* Nothing is there yet: it should not look as if something were. */
        if (fseek(f, 0, SEEK_END) == 0 && ftell(f) == 0)
            unlink(file);
        fclose(f);
    }
    return 0;
}

int pw_matrix_has_gnuplot(char why[PW_WHY])
{
    return gnuplot("--version", why);
}

int pw_matrix_draw(const struct pw_matrix *m, const char *prefix, char why[PW_WHY])
{
    char file[NAME_MAX_LEN];
    int err = 0;

    for (int k = 0; !err && k < PW_MEASURES; k++) {
        file_name((enum pw_measure)k, prefix, file);
        if (panels(m, (enum pw_measure)k))
            err = draw(m, (enum pw_measure)k, file, why);
    }
    return err;
}
