/* SPDX-License-Identifier: BSD-3-Clause */
/* compat.c - which Open MPI we let ourselves be loaded by. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

/* Whatever this machine has. */
#define PW_OMPI_SERIES "4.1"
#include "btl/compat.h"

Test(compat, a_release_of_our_series_is_ours)
{
    cr_expect(pw_ompi_is_ours("4.1.0"));
    cr_expect(pw_ompi_is_ours("4.1.4"));
    cr_expect(pw_ompi_is_ours("4.1.10"));
    cr_expect(pw_ompi_is_ours("4.1.4rc1"));
}

Test(compat, a_build_from_a_repository_is_ours_too)
{
    cr_expect(pw_ompi_is_ours("v4.1.4"));
    cr_expect(pw_ompi_is_ours("v4.1.4rc1, ident"));
    cr_expect(pw_ompi_is_ours("v4.1.4, ident: 4.1.4, repo rev: v4.1.4, May 26, 2022"));
}

Test(compat, another_series_is_not)
{
    cr_expect(not(pw_ompi_is_ours("5.0.3")));
    cr_expect(not(pw_ompi_is_ours("v5.0.3")));
    cr_expect(not(pw_ompi_is_ours("4.0.7")));
    cr_expect(not(pw_ompi_is_ours("4.10.1")), "only begins like it");
    cr_expect(not(pw_ompi_is_ours("14.1.4")));
    cr_expect(not(pw_ompi_is_ours("3.4.1")));
}

Test(compat, what_is_no_version_is_not)
{
    cr_expect(not(pw_ompi_is_ours("")));
    cr_expect(not(pw_ompi_is_ours("v")));
    cr_expect(not(pw_ompi_is_ours("4")));
    cr_expect(not(pw_ompi_is_ours("4.1")));
    cr_expect(not(pw_ompi_is_ours("4.1rc1")));
    cr_expect(not(pw_ompi_is_ours("vv4.1.4")));
    cr_expect(not(pw_ompi_is_ours("V4.1.4")));
    cr_expect(not(pw_ompi_is_ours("unknown")));
}
