/* SPDX-License-Identifier: BSD-3-Clause */
/* matrix_units.c - the arithmetic of pwbench matrix. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tools/matrix/matrix.h"

Test(matrix, percentiles_lie_between_neighbours)
{
    double values[] = { 5, 1, 2, 4, 3 };
    struct pw_point p = pw_point_of(values, 5);

    cr_expect(epsilon_eq(dbl, p.median, 3, 1e-9));
    cr_expect(epsilon_eq(dbl, p.p10, 1.4, 1e-9));
    cr_expect(epsilon_eq(dbl, p.p90, 4.6, 1e-9));
    cr_expect(eq(int, p.samples, 5));
}

Test(matrix, a_median_of_two_is_between)
{
    double values[] = { 4, 1 };

    cr_expect(epsilon_eq(dbl, pw_point_of(values, 2).median, 2.5, 1e-9));
}

Test(matrix, one_sample_is_all_there_is)
{
    double value = 7;
    struct pw_point p = pw_point_of(&value, 1);

    cr_expect(epsilon_eq(dbl, p.p10, 7, 1e-9));
    cr_expect(epsilon_eq(dbl, p.median, 7, 1e-9));
    cr_expect(epsilon_eq(dbl, p.p90, 7, 1e-9));
}

Test(matrix, of_no_samples_there_is_no_figure)
{
    cr_expect(eq(int, pw_point_of(NULL, 0).samples, 0));
}

Test(matrix, each_core_is_paired_with_each_other_once)
{
    static const int core[] = { 3, 0, 7 };
    struct pw_matrix m;

    cr_assert(eq(int, pw_matrix_init(&m, core, 3), 0));
    cr_expect(eq(int, m.n_pairs, 3));
    cr_expect(eq(int, pw_matrix_pair(&m, 3, 0), 0));
    cr_expect(eq(int, pw_matrix_pair(&m, 7, 3), 1), "either way round");
    cr_expect(eq(int, pw_matrix_pair(&m, 0, 7), 2));
    cr_expect(eq(int, pw_matrix_pair(&m, 3, 3), -1));
    cr_expect(eq(int, pw_matrix_pair(&m, 0, 1), -1));
    pw_matrix_fini(&m);
}

Test(matrix, a_core_alone_is_paired_with_itself)
{
    static const int core[] = { 5 };
    struct pw_matrix m;

    cr_assert(eq(int, pw_matrix_init(&m, core, 1), 0));
    cr_expect(eq(int, m.n_pairs, 1));
    cr_expect(eq(int, pw_matrix_pair(&m, 5, 5), 0));
    pw_matrix_fini(&m);
}

Test(matrix, there_is_room_for_so_many_transports)
{
    static const int core[] = { 0, 1 };
    struct pw_matrix m;
    char name[8];

    cr_assert(eq(int, pw_matrix_init(&m, core, 2), 0));
    for (int i = 0; i < PW_TRANSPORTS_MAX; i++) {
        snprintf(name, sizeof name, "t%d", i);
        cr_assert(ne(ptr, pw_matrix_add(&m, name), NULL));
    }
    cr_expect(eq(ptr, pw_matrix_add(&m, "more"), NULL));
    cr_expect(eq(ptr, (void *)pw_matrix_find(&m, "t3"), &m.result[3]));
    cr_expect(eq(ptr, (void *)pw_matrix_find(&m, "more"), NULL));
    pw_matrix_fini(&m);
}
