/* SPDX-License-Identifier: BSD-3-Clause */
/* result.c - the results of a run: memory and arithmetic. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "matrix.h"

int pw_pairs(int n_cores)
{
    return n_cores == 1 ? 1 : n_cores * (n_cores - 1) / 2;
}

static void pairs_number(struct pw_matrix *m)
{
    int n = 0;

    if (m->n_cores == 1)
        m->pair[n++] = (struct pw_pair){ .a = m->core[0], .b = m->core[0] };
    for (int i = 0; i < m->n_cores; i++)
        for (int j = i + 1; j < m->n_cores; j++)
            m->pair[n++] = (struct pw_pair){ .a = m->core[i], .b = m->core[j] };
}

int pw_matrix_init(struct pw_matrix *m, const int core[], int n_cores)
{
    memset(m, 0, sizeof *m);
    m->n_cores = n_cores;
    m->n_pairs = pw_pairs(n_cores);
    m->core = calloc((size_t)n_cores + 1, sizeof *m->core);
    m->pair = calloc((size_t)m->n_pairs + 1, sizeof *m->pair);
    if (!m->core || !m->pair)
        return -ENOMEM;
    if (n_cores)
        memcpy(m->core, core, (size_t)n_cores * sizeof *core);
    pairs_number(m);
    return 0;
}

void pw_matrix_fini(struct pw_matrix *m)
{
    for (int i = 0; i < m->n_results; i++)
        for (int k = 0; k < PW_MEASURES; k++)
            free(m->result[i].point[k]);
    free(m->pair);
    free(m->core);
    memset(m, 0, sizeof *m);
}

struct pw_result *pw_matrix_add(struct pw_matrix *m, const char *name)
{
    struct pw_result *r = &m->result[m->n_results];
    size_t pairs = (size_t)m->n_pairs + 1;

    if (m->n_results == PW_TRANSPORTS_MAX)
        return NULL;
    *r = (struct pw_result){ .reason = "" };
    strncpy(r->name, name, sizeof r->name - 1);
    m->n_results++;
    for (int k = 0; k < PW_MEASURES; k++)
        if (!(r->point[k] = calloc(pairs, sizeof *r->point[k])))
            return NULL;
    return r;
}

const struct pw_result *pw_matrix_find(const struct pw_matrix *m, const char *name)
{
    for (int i = 0; i < m->n_results; i++)
        if (!strcmp(m->result[i].name, name))
            return &m->result[i];
    return NULL;
}

int pw_matrix_pair(const struct pw_matrix *m, int a, int b)
{
    for (int i = 0; i < m->n_pairs; i++)
        if ((m->pair[i].a == a && m->pair[i].b == b) ||
            (m->pair[i].a == b && m->pair[i].b == a))
            return i;
    return -1;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The value below which that part of the sorted ones lies, between neighbours. */
static double percentile(const double *sorted, int n, double part)
{
    double at = part * (n - 1);
    int below = (int)at;

    if (below + 1 >= n)
        return sorted[n - 1];
    return sorted[below] + (at - below) * (sorted[below + 1] - sorted[below]);
}

struct pw_point pw_point_of(double *values, int n)
{
    struct pw_point p = { .samples = n };

    if (n <= 0)
        return (struct pw_point){ .samples = 0 };
    qsort(values, (size_t)n, sizeof *values, ascending);
    p.median = percentile(values, n, 0.5);
    p.p10 = percentile(values, n, 0.1);
    p.p90 = percentile(values, n, 0.9);
    return p;
}
