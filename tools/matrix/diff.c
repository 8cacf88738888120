/* SPDX-License-Identifier: BSD-3-Clause */
/* diff.c - two results side by side: two hosts, or two dates.
 *
 * A change counts when the ranges from p10 to p90 do not touch, and the medians
 * are 5 % apart: what lies within one run says little of how runs differ.
 */
#include <errno.h>
#include <string.h>

#include "matrix.h"

enum { FAILED = 1 };

static const double drift = 0.05;

static const struct {
    const char *title;
    bool rate;              /* more is better */
} kinds[PW_MEASURES] = {
    { "latency, ns", false },
    { "throughput, MB/s", true },
};

struct tally {
    int both, slower, faster;
};

static bool read_one(const char *path, struct pw_matrix *m)
{
    char why[PW_WHY];
    int err = pw_matrix_read(path, m, why);

    if (!err)
        return true;
    if (err == -ENOSYS)
        fprintf(stderr, "pwbench: %s\n", why);
    else if (err == -EINVAL)
        fprintf(stderr, "pwbench: %s is no result of pwbench matrix: %s\n", path, why);
    else
        fprintf(stderr, "pwbench: cannot read %s: %s\n", path, why);
    return false;
}

/* ---- what is compared ---- */

static void print_one(const char *letter, const char *path, const struct pw_matrix *m)
{
    printf("%s: %s: %s, %s, %s, %s, pinwheel %s, %d core%s, load %.1f\n", letter, path,
           m->host, m->cpu, m->date, m->kernel, m->pinwheel, m->n_cores,
           m->n_cores == 1 ? "" : "s", m->load);
}

static void print_other(const char *what, const char *a, const char *b)
{
    if (strcmp(a, b))
        printf("another %s: %s in A, %s in B\n", what, a, b);
}

static void print_only(const char *letter, const struct pw_matrix *here,
                       const struct pw_matrix *there)
{
    int pairs = 0;

    for (int i = 0; i < here->n_results; i++)
        if (!pw_matrix_find(there, here->result[i].name))
            printf("only in %s: %s\n", letter, here->result[i].name);
    for (int i = 0; i < here->n_pairs; i++)
        pairs += pw_matrix_pair(there, here->pair[i].a, here->pair[i].b) < 0;
    if (pairs)
        printf("only in %s: %d pair%s of cores\n", letter, pairs, pairs == 1 ? "" : "s");
    for (int i = 0; i < here->n_results; i++)
        if (*here->result[i].reason)
            printf("left out in %s: %s: %s\n", letter, here->result[i].name,
                   here->result[i].reason);
}

static void print_heading(const char *const path[2], const struct pw_matrix m[2])
{
    print_one("A", path[0], &m[0]);
    print_one("B", path[1], &m[1]);
    print_other("host", m[0].host, m[1].host);
    print_other("CPU model", m[0].cpu, m[1].cpu);
    print_other("kernel", m[0].kernel, m[1].kernel);
    print_other("version of pinwheel", m[0].pinwheel, m[1].pinwheel);
    print_other("C library", m[0].libc, m[1].libc);
    print_only("A", &m[0], &m[1]);
    print_only("B", &m[1], &m[0]);
}

/* ---- the values ---- */

/* -1 slower, 1 faster, 0 within the noise. */
static int change(enum pw_measure k, const struct pw_point *a, const struct pw_point *b)
{
    double ratio = b->median / a->median;
    bool apart = b->p10 > a->p90 || b->p90 < a->p10;

    if (!apart || (ratio < 1 + drift && ratio > 1 - drift))
        return 0;
    return (ratio > 1) == kinds[k].rate ? 1 : -1;
}

static void print_point(const struct pw_pair *p, const char *name, enum pw_measure k,
                        const struct pw_point *a, const struct pw_point *b,
                        struct tally *tally)
{
    static const char *const verdict[] = { "  slower", "", "  faster" };
    double ratio = b->median / a->median;
    int c = change(k, a, b);

    tally->both++;
    tally->slower += c < 0;
    tally->faster += c > 0;
    printf("%4d %4d  %-9s %-8s %9.*f %9.*f %7.*f%s\n", p->a, p->b, pw_pair_shares(p), name,
           a->median < 100, a->median, b->median < 100, b->median, ratio < 0.1 ? 3 : 2,
           ratio, verdict[c + 1]);
}

static void print_pair(const struct pw_matrix m[2], int in_a, enum pw_measure k,
                       struct tally *tally)
{
    const struct pw_pair *p = &m[0].pair[in_a];
    int in_b = pw_matrix_pair(&m[1], p->a, p->b);

    if (in_b < 0)
        return;
    if (strcmp(pw_pair_shares(p), pw_pair_shares(&m[1].pair[in_b])))
        printf("%4d %4d  share %s in A, %s in B\n", p->a, p->b, pw_pair_shares(p),
               pw_pair_shares(&m[1].pair[in_b]));
    for (int i = 0; i < m[0].n_results; i++) {
        const struct pw_result *a = &m[0].result[i], *b = pw_matrix_find(&m[1], a->name);

        if (b && a->point[k][in_a].samples && b->point[k][in_b].samples)
            print_point(p, a->name, k, &a->point[k][in_a], &b->point[k][in_b], tally);
    }
}

static void print_measure(const struct pw_matrix m[2], enum pw_measure k,
                          struct tally *tally)
{
    if (k == PW_M_THROUGHPUT && m[0].size != m[1].size) {
        printf("\nthroughput is not compared: messages of %zu bytes in A, %zu in B\n",
               m[0].size, m[1].size);
        return;
    }
    printf("\n%s\n%9s  %-9s %-8s %9s %9s %7s\n", kinds[k].title, "cores", "share",
           "transport", "A", "B", "B/A");
    for (int i = 0; i < m[0].n_pairs; i++)
        print_pair(m, i, k, tally);
}

static int print_all(const char *const path[2], const struct pw_matrix m[2])
{
    struct tally tally = { 0 };

    print_heading(path, m);
    for (int k = 0; k < PW_MEASURES; k++)
        print_measure(m, (enum pw_measure)k, &tally);
    if (!tally.both) {
        fflush(stdout);
        fprintf(stderr, "pwbench: %s and %s have no pair and transport in common\n",
                path[0], path[1]);
        return FAILED;
    }
    printf("\nof %d figures, B is slower in %d and faster in %d; the others are within the "
           "noise\n", tally.both, tally.slower, tally.faster);
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "pwbench: the results could not all be written\n");
        return FAILED;
    }
    return 0;
}

int pw_matrix_diff(const char *a, const char *b)
{
    const char *const path[2] = { a, b };
    struct pw_matrix m[2];
    int code = FAILED;

    if (!read_one(a, &m[0]))
        return FAILED;
    if (read_one(b, &m[1])) {
        code = print_all(path, m);
        pw_matrix_fini(&m[1]);
    }
    pw_matrix_fini(&m[0]);
    return code;
}
