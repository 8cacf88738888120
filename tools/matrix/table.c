/* SPDX-License-Identifier: BSD-3-Clause */
/* table.c - results for people: a line for each pair, a column for each transport. */
#include <stdlib.h>
#include <string.h>

#include "matrix.h"

const char *pw_pair_shares(const struct pw_pair *pair)
{
    return pair->n_shares ? pair->shares[0] : "-";
}

static bool has_values(const struct pw_result *r)
{
    return !*r->reason || r->point[PW_M_LATENCY][0].samples;
}

static void print_value(const struct pw_point *p, FILE *to)
{
    if (p->samples)
        fprintf(to, " %9.*f", p->median < 100 ? 1 : 0, p->median);
    else
        fprintf(to, " %9s", "-");
}

static void print_pairs(const struct pw_matrix *m, enum pw_measure k, FILE *to)
{
    for (int i = 0; i < m->n_pairs; i++) {
        const struct pw_pair *p = &m->pair[i];

        fprintf(to, "%4d %4d  %-9s", p->a, p->b, pw_pair_shares(p));
        for (int r = 0; r < m->n_results; r++)
            if (has_values(&m->result[r]))
                print_value(&m->result[r].point[k][i], to);
        fputc('\n', to);
    }
}

static bool first_with_its_share(const struct pw_matrix *m, int pair)
{
    for (int i = 0; i < pair; i++)
        if (!strcmp(pw_pair_shares(&m->pair[i]), pw_pair_shares(&m->pair[pair])))
            return false;
    return true;
}

/* Over the pairs that share the same. values: room for all pairs. */
static void print_median(const struct pw_matrix *m, const struct pw_point *point,
                         const char *shares, double *values, FILE *to)
{
    struct pw_point median;
    int n = 0;

    for (int i = 0; i < m->n_pairs; i++)
        if (point[i].samples && !strcmp(pw_pair_shares(&m->pair[i]), shares))
            values[n++] = point[i].median;
    median = pw_point_of(values, n);
    print_value(&median, to);
}

static void print_medians(const struct pw_matrix *m, enum pw_measure k, FILE *to)
{
    double *values = calloc((size_t)m->n_pairs, sizeof *values);

    for (int i = 0; values && m->n_pairs > 1 && i < m->n_pairs; i++) {
        const char *shares = pw_pair_shares(&m->pair[i]);

        if (!first_with_its_share(m, i))
            continue;
        fprintf(to, "%9s  %-9s", "median", shares);
        for (int r = 0; r < m->n_results; r++)
            if (has_values(&m->result[r]))
                print_median(m, m->result[r].point[k], shares, values, to);
        fputc('\n', to);
    }
    free(values);
}

static void print_measure(const struct pw_matrix *m, enum pw_measure k, FILE *to)
{
    fprintf(to, "%9s  %-9s", "cores", "share");
    for (int r = 0; r < m->n_results; r++)
        if (has_values(&m->result[r]))
            fprintf(to, " %9s", m->result[r].name);
    fputc('\n', to);
    print_pairs(m, k, to);
    print_medians(m, k, to);
}

void pw_matrix_print(const struct pw_matrix *m, FILE *to)
{
    fprintf(to, "\nlatency, ns: half a round trip of 8 bytes, median\n");
    print_measure(m, PW_M_LATENCY, to);
    fprintf(to, "\nthroughput, MB/s: messages of %zu bytes, median\n", m->size);
    print_measure(m, PW_M_THROUGHPUT, to);
}
