/* SPDX-License-Identifier: BSD-3-Clause */
/* pwbench_csv.c - the results of pwbench compare as a file. See pwbench_csv.h.
 *
 * A line has eight fields that every run has, the fifth of which is the subject, and
 * one more for each peer; and two for the limit in a run that measured it. No field holds
 * a comma.
 */
#include "pwbench_csv.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pwbench_osu.h"
#include "pwbench_peers.h"

enum { TEST, BYTES, BUFFERS, RANKS, SUBJECT, BEST, BEST_NAME, RATIO, FIRST_PEER };
enum { LIMIT_FIELDS = 2, FIELDS_MAX = FIRST_PEER + PW_PEERS_MAX + LIMIT_FIELDS };

static const char *const heading[FIRST_PEER] = {
    [TEST] = "test", [BYTES] = "bytes", [BUFFERS] = "buffers", [RANKS] = "ranks",
    [BEST] = "best_peer", [BEST_NAME] = "best_peer_name", [RATIO] = "ratio",
};

static const char *const limit_heading[LIMIT_FIELDS] = { "limit", "limit_ratio" };

/* An empty field where nothing was measured. */
static void write_value(double value, FILE *to)
{
    if (isnan(value))
        fputc(',', to);
    else
        fprintf(to, ",%.6g", value);
}

int pw_csv_write(const struct pw_table *table, FILE *to)
{
    for (int f = 0; f < FIRST_PEER; f++)
        fprintf(to, "%s%s", f ? "," : "", f == SUBJECT ? table->column[0] : heading[f]);
    for (int c = 1; c < table->n_columns; c++)
        fprintf(to, ",%s", table->column[c]);
    for (int f = 0; table->has_limit && f < LIMIT_FIELDS; f++)
        fprintf(to, ",%s", limit_heading[f]);
    fputc('\n', to);

    for (int i = 0; i < table->n_rows; i++) {
        const struct pw_row *row = &table->rows[i];
        int best = pw_row_best_peer(table, row);

        fprintf(to, "%s,%zu,%s,%d", pw_row_name(row), row->bytes,
                pw_test_buffers(row->test, row->buffers), row->ranks);
        write_value(row->value[0], to);
        write_value(best ? row->value[best] : NAN, to);
        fprintf(to, ",%s", best ? table->column[best] : "");
        write_value(pw_row_ratio(table, row), to);
        for (int c = 1; c < table->n_columns; c++)
            write_value(row->value[c], to);
        if (table->has_limit) {
            write_value(row->limit, to);
            write_value(pw_row_limit_ratio(table, row), to);
        }
        fputc('\n', to);
    }
    errno = 0;
    if (fflush(to) || ferror(to))
        return errno ? -errno : -EIO;
    return 0;
}

/* Cuts line at its commas. How many fields; FIELDS_MAX + 1 for too many. */
static int split(char *line, char *field[FIELDS_MAX])
{
    int n = 0;

    line[strcspn(line, "\r\n")] = '\0';
    for (char *next = line; next; n++) {
        if (n == FIELDS_MAX)
            return n + 1;
        field[n] = strsep(&next, ",");
    }
    return n;
}

static bool read_heading(struct pw_table *table, char *line)
{
    struct pw_variant v;
    char *field[FIELDS_MAX];
    int n = split(line, field);

    if (n < FIRST_PEER || n > FIELDS_MAX)
        return false;
    table->has_limit = n >= FIRST_PEER + LIMIT_FIELDS &&
                       !strcmp(field[n - 2], limit_heading[0]) &&
                       !strcmp(field[n - 1], limit_heading[1]);
    if (table->has_limit)
        n -= LIMIT_FIELDS;
    if (n > FIRST_PEER + PW_PEERS_MAX)
        return false;
    for (int f = 0; f < n; f++) {
        if (f != SUBJECT && f < FIRST_PEER) {
            if (strcmp(field[f], heading[f]))
                return false;
            continue;
        }
        if (pw_variant_parse(field[f], strlen(field[f]), &v))
            return false;
        memcpy(table->column[table->n_columns++], v.name, sizeof v.name);
    }
    return true;
}

static bool read_value(const char *text, double *out)
{
    char *end;

    *out = NAN;
    if (!*text)
        return true;
    if (!isdigit((unsigned char)*text))
        return false;
    *out = strtod(text, &end);
    return !*end && isfinite(*out);
}

static bool read_whole(const char *text, unsigned long long max, unsigned long long *out)
{
    char *end;

    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return !*end && !errno && *out <= max;
}

static int read_test(const char *text, bool *osu)
{
    int test = pw_osu_test(text);

    *osu = test >= 0;
    return *osu ? test : pw_test_find(text, strlen(text));
}

static bool read_buffers(const char *text, enum pw_test test, enum pw_buffers *out)
{
    for (int b = 0; b < PW_BUFFERS; b++)
        if (!strcmp(text, pw_test_buffers(test, (enum pw_buffers)b))) {
            *out = (enum pw_buffers)b;
            return true;
        }
    return false;
}

static bool read_row(const struct pw_table *table, char *line, struct pw_row *row)
{
    int test, limit = FIRST_PEER + table->n_columns - 1;
    unsigned long long bytes, ranks;
    char *field[FIELDS_MAX];
    bool osu;

    if (split(line, field) != limit + (table->has_limit ? LIMIT_FIELDS : 0))
        return false;
    test = read_test(field[TEST], &osu);
    if (test < 0 || !read_whole(field[BYTES], LLONG_MAX, &bytes) ||
        !read_whole(field[RANKS], INT_MAX, &ranks) || ranks == 0)
        return false;

    *row = (struct pw_row){ .test = (enum pw_test)test, .bytes = bytes, .ranks = (int)ranks,
                            .osu = osu };
    if (!read_buffers(field[BUFFERS], row->test, &row->buffers))
        return false;
    for (int c = 0; c < table->n_columns; c++)
        if (!read_value(field[c ? FIRST_PEER + c - 1 : SUBJECT], &row->value[c]))
            return false;
    return !table->has_limit || read_value(field[limit], &row->limit);
}

static int read_line(struct pw_table *table, char *text, bool first)
{
    struct pw_row row;

    if (first)
        return read_heading(table, text) ? 0 : -EINVAL;
    if (!read_row(table, text, &row))
        return -EINVAL;
    table->has_osu = table->has_osu || row.osu;
    return pw_table_add(table, &row);
}

int pw_csv_read(struct pw_table *table, FILE *from, int *line)
{
    char *text = NULL;
    size_t room = 0;
    int err = 0;

    memset(table, 0, sizeof *table);
    *line = 0;
    errno = 0;
    while (!err && getline(&text, &room, from) >= 0) {
        err = read_line(table, text, ++*line == 1);
        errno = 0;
    }
    if (!err && (ferror(from) || errno))
        err = errno ? -errno : -EIO;
    if (!err && !table->n_rows)
        err = *line ? -ENODATA : -EINVAL;
    if (!*line)
        *line = 1;
    free(text);
    return err;
}
