/* SPDX-License-Identifier: BSD-3-Clause */
/* units.c - the parts of the tools that need neither MPI nor a machine. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/json.h"
#include "tools/pwbench_csv.h"
#include "tools/pwbench_pattern.h"
#include "tools/pwbench_plot.h"
#include "tools/pwbench_table.h"
#include "tools/sizes.h"

/* ---- sizes ---- */

static void expect_sizes(const char *text, const char *plain)
{
    struct pw_sizes sizes;
    char out[PW_SIZES_TEXT];

    cr_assert(eq(int, pw_sizes_parse(text, &sizes), 0), "%s", text);
    pw_sizes_format(&sizes, out);
    cr_expect(eq(str, out, (char *)plain), "%s", text);
}

Test(sizes, suffixes_are_powers_of_1024)
{
    expect_sizes("8,4K,1M", "8,4096,1048576");
    expect_sizes("0,1g,2k", "0,1073741824,2048");
}

Test(sizes, a_range_doubles)
{
    expect_sizes("1:8", "1,2,4,8");
    expect_sizes("3:13", "3,6,12");
    expect_sizes("0,512:2K,7", "0,512,1024,2048,7");
    expect_sizes("5:5", "5");
}

Test(sizes, what_is_no_list_is_refused)
{
    static const char *const bad[] = {
        "", ",", "8,", ",8", "8,,8", "8 ", " 8", "-8", "+8", "8K:", ":8", "0:8", "8:4",
        "8KB", "eight", "1:2:3", "99999999999999999999", "9000000000G",
    };
    struct pw_sizes sizes;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect(eq(int, pw_sizes_parse(bad[i], &sizes), -EINVAL), "\"%s\"", bad[i]);
}

Test(sizes, a_list_that_is_too_long_is_refused)
{
    struct pw_sizes sizes;
    char text[2 * PW_SIZES_MAX + 2] = "";

    for (int i = 0; i < PW_SIZES_MAX; i++)
        strcat(text, i ? ",1" : "1");
    cr_expect(eq(int, pw_sizes_parse(text, &sizes), 0));
    strcat(text, ",1");
    cr_expect(eq(int, pw_sizes_parse(text, &sizes), -E2BIG));
}

Test(sizes, the_largest_is_found_wherever_it_stands)
{
    struct pw_sizes sizes;

    pw_sizes_parse("8,1M,4K", &sizes);
    cr_expect(eq(sz, pw_sizes_largest(&sizes), 1048576));
}

/* ---- table ---- */

Test(table, median)
{
    double odd[] = { 9, 1, 5 }, even[] = { 4, 1, 3, 2 };

    cr_expect(epsilon_eq(dbl, pw_median(odd, 3), 5, 1e-9));
    cr_expect(epsilon_eq(dbl, pw_median(even, 4), 2.5, 1e-9));
    cr_expect(isnan(pw_median(odd, 0)));
}

static const struct pw_table three = { .n_columns = 3, .column = { "us", "a", "b" } };

Test(table, the_best_peer_is_the_fastest_and_never_the_subject)
{
    struct pw_row latency = { .test = PW_LATENCY, .value = { 1, 4, 2 } };
    struct pw_row rate = { .test = PW_BW, .value = { 9, 4, 2 } };

    cr_expect(eq(int, pw_row_best_peer(&three, &latency), 2));
    cr_expect(epsilon_eq(dbl, pw_row_ratio(&three, &latency), 0.5, 1e-9));
    cr_expect(eq(int, pw_row_best_peer(&three, &rate), 1));
    cr_expect(epsilon_eq(dbl, pw_row_ratio(&three, &rate), 4.0 / 9, 1e-9));
}

Test(table, what_was_not_measured_is_not_compared)
{
    struct pw_row peer = { .test = PW_LATENCY, .value = { 1, NAN, 2 } };
    struct pw_row alone = { .test = PW_LATENCY, .value = { 1, NAN, NAN } };
    struct pw_row without = { .test = PW_BW, .value = { NAN, 4, 2 } };

    cr_expect(eq(int, pw_row_best_peer(&three, &peer), 2));
    cr_expect(eq(int, pw_row_best_peer(&three, &alone), 0));
    cr_expect(isnan(pw_row_ratio(&three, &alone)));
    cr_expect(isnan(pw_row_ratio(&three, &without)));
}

Test(table, csv_leaves_fields_empty)
{
    struct pw_row row = { .test = PW_PUT, .buffers = PW_ALLOC_MEM, .bytes = 8, .ranks = 2,
                          .value = { 1.25, NAN, NAN } };
    struct pw_table table = three;
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    cr_assert(eq(int, pw_table_add(&table, &row), 0));
    cr_expect(eq(int, pw_csv_write(&table, f), 0));
    fclose(f);
    cr_expect(eq(str, text, "test,bytes,buffers,ranks,us,best_peer,best_peer_name,ratio,a,b\n"
                            "put,8,alloc_mem,2,1.25,,,,,\n"));
    free(text);
    pw_table_fini(&table);
}

Test(table, tests_without_buffers_have_a_dash)
{
    cr_expect(eq(str, (char *)pw_test_buffers(PW_BARRIER, PW_MALLOC), "-"));
    cr_expect(eq(str, (char *)pw_test_buffers(PW_RATE, PW_ALLOC_MEM), "alloc_mem"));
}

/* What is not such a file, tests/tools/plot has. */
Test(table, csv_is_read_as_it_was_written)
{
    static const struct pw_row rows[] = {
        { PW_LATENCY, PW_ALLOC_MEM, 4096, 2, { 0.75, NAN, 1.5 }, false, 0 },
        { PW_BARRIER, PW_MALLOC, 0, 8, { 12345.5, 0, NAN }, false, 0 },
    };
    struct pw_table table = { .n_columns = 3, .column = { "ucx", "pinwheel", "mpich" } };
    struct pw_table again;
    char *text = NULL, *twice = NULL;
    size_t len;
    int line;
    FILE *f = open_memstream(&text, &len);

    for (int r = 0; r < 2; r++)
        cr_assert(eq(int, pw_table_add(&table, &rows[r]), 0));
    cr_assert(eq(int, pw_csv_write(&table, f), 0));
    fclose(f);

    f = fmemopen(text, len, "r");
    cr_assert(eq(int, pw_csv_read(&again, f, &line), 0));
    fclose(f);
    cr_expect(eq(int, line, 3));
    f = open_memstream(&twice, &len);
    cr_assert(eq(int, pw_csv_write(&again, f), 0));
    fclose(f);
    cr_expect(eq(str, twice, text));
    free(text);
    free(twice);
    pw_table_fini(&table);
    pw_table_fini(&again);
}

Test(table, a_limit_is_read_as_it_was_written)
{
    static const struct pw_row row = { PW_LATENCY, PW_MALLOC, 8, 2, { 3 }, false, 2 };
    static const struct pw_row none = { PW_BARRIER, PW_MALLOC, 0, 2, { 3 }, false, NAN };
    struct pw_table table = { .n_columns = 1, .has_limit = true, .column = { "pinwheel" } };
    struct pw_table again;
    char *text = NULL;
    size_t len;
    int line;
    FILE *f = open_memstream(&text, &len);

    cr_assert(eq(int, pw_table_add(&table, &row), 0));
    cr_assert(eq(int, pw_table_add(&table, &none), 0));
    cr_assert(eq(int, pw_csv_write(&table, f), 0));
    fclose(f);
    cr_expect(eq(str, text, "test,bytes,buffers,ranks,pinwheel,best_peer,best_peer_name,"
                            "ratio,limit,limit_ratio\nlatency,8,malloc,2,3,,,,2,1.5\n"
                            "barrier,0,-,2,3,,,,,\n"));

    f = fmemopen(text, len, "r");
    cr_assert(eq(int, pw_csv_read(&again, f, &line), 0));
    fclose(f);
    cr_expect(again.has_limit);
    cr_expect(eq(int, again.n_columns, 1));
    cr_expect(epsilon_eq(dbl, again.rows[0].limit, 2, 1e-9));
    cr_expect(isnan(again.rows[1].limit));
    free(text);
    pw_table_fini(&table);
    pw_table_fini(&again);
}

Test(table, a_rates_limit_is_over_it)
{
    struct pw_table table = { .n_columns = 1, .has_limit = true };
    struct pw_row latency = { .test = PW_LATENCY, .value = { 3 }, .limit = 2 };
    struct pw_row bw = { .test = PW_BW, .value = { 10 }, .limit = 20 };

    cr_expect(epsilon_eq(dbl, pw_row_limit_ratio(&table, &latency), 1.5, 1e-9));
    cr_expect(epsilon_eq(dbl, pw_row_limit_ratio(&table, &bw), 2, 1e-9));
    table.has_limit = false;
    cr_expect(isnan(pw_row_limit_ratio(&table, &bw)));
}

/* ---- plots ---- */

static char *commands_for(const struct pw_table *table, int panels)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    cr_expect(eq(int, pw_gnuplot_write(table, f), panels));
    fclose(f);
    return text;
}

Test(plot, without_a_test_over_sizes_there_is_nothing_to_draw)
{
    struct pw_row row = { .test = PW_RATE, .bytes = 8, .ranks = 2, .value = { 1, 2, 3 } };
    struct pw_table table = three;
    char *text;

    cr_assert(eq(int, pw_table_add(&table, &row), 0));
    text = commands_for(&table, 0);
    cr_expect(eq(str, text, ""));
    free(text);
    pw_table_fini(&table);
}

/* Nor does a transport need to be one that has a colour. */
Test(plot, a_panel_holds_one_test_of_so_many_ranks)
{
    static const struct pw_row rows[] = {
        { PW_BW, PW_MALLOC, 8, 2, { 1, 2, NAN }, false, 0 },
        { PW_BW, PW_MALLOC, 8, 4, { 3, 4, NAN }, false, 0 },
        { PW_BW, PW_MALLOC, 64, 4, { 5, 6, NAN }, false, 0 },
    };
    struct pw_table table = three;
    char *text;

    for (int r = 0; r < 3; r++)
        cr_assert(eq(int, pw_table_add(&table, &rows[r]), 0));
    text = commands_for(&table, 2);
    cr_expect(strstr(text, "$panel0 << END\n8 1 2 NaN\nEND\n") != NULL);
    cr_expect(strstr(text, "$panel1 << END\n8 3 4 NaN\n64 5 6 NaN\nEND\n") != NULL);
    cr_expect(strstr(text, "title 'bw, malloc, 4 ranks'") != NULL);
    cr_expect(strstr(text, "title 'a'") != NULL);
    cr_expect(strstr(text, "title 'b'") == NULL);
    free(text);
    pw_table_fini(&table);
}

/* ---- patterns ---- */

static const struct pw_place place = { 3, 1, 7 };

Test(pattern, each_round_sender_and_slot_has_its_own)
{
    static const struct pw_place others[] = { { 4, 1, 7 }, { 3, 2, 7 }, { 3, 1, 8 } };
    struct pw_wrong wrong;
    char mem[64];

    for (int i = 0; i < 3; i++) {
        pw_pattern_fill(mem, sizeof mem, &others[i]);
        cr_expect(not(pw_pattern_verify(mem, sizeof mem, &place, &wrong)), "%d", i);
    }
    pw_pattern_fill(mem, sizeof mem, &place);
    cr_expect(pw_pattern_verify(mem, sizeof mem, &place, &wrong));
}

Test(pattern, the_first_wrong_byte_is_found_wherever_it_stands)
{
    struct pw_wrong wrong;
    char mem[27];

    for (size_t at = 0; at < sizeof mem; at++) {
        pw_pattern_fill(mem, sizeof mem, &place);
        mem[at] ^= 1;
        cr_assert(not(pw_pattern_verify(mem, sizeof mem, &place, &wrong)));
        cr_expect(eq(sz, wrong.at, at));
        cr_expect(eq(int, wrong.is, (unsigned char)mem[at]));
        cr_expect(eq(int, wrong.wanted, pw_pattern_byte(&place, at)));
    }
}

Test(pattern, a_byte_behind_the_message_is_found)
{
    char mem[5 + PW_GUARD];
    struct pw_wrong wrong;

    pw_poison(mem, 5);
    cr_expect(pw_guard_verify(mem, 5, &wrong));
    mem[5 + PW_GUARD - 1] ^= 1;
    cr_assert(not(pw_guard_verify(mem, 5, &wrong)));
    cr_expect(eq(sz, wrong.at, 5 + PW_GUARD - 1));
}

/* ---- JSON ---- */

static char *json_of(const char *value)
{
    char *text = NULL;
    size_t len;
    struct pw_json j = { .to = open_memstream(&text, &len) };

    pw_json_string(&j, NULL, value);
    fclose(j.to);
    return text;
}

static void expect_json(const char *value, const char *wanted)
{
    char *text = json_of(value);

    cr_expect(eq(str, text, (char *)wanted));
    free(text);
}

Test(json, strings_are_escaped)
{
    expect_json("", "\"\"");
    expect_json("a \"b\" \\ /", "\"a \\\"b\\\" \\\\ /\"");
    expect_json("\n\t\x01\x1f\x7f", "\"\\n\\t\\u0001\\u001f\\u007f\"");
}

Test(json, utf8_passes_and_other_bytes_are_replaced)
{
    expect_json("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80",
                "\"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80\"");
    expect_json("\xff", "\"\\ufffd\"");                             /* never UTF-8 */
    expect_json("\xc3", "\"\\ufffd\"");                             /* cut short */
    expect_json("\xe2\x82", "\"\\ufffd\\ufffd\"");                  /* cut short */
    expect_json("\xc0\x80", "\"\\ufffd\\ufffd\"");                  /* overlong */
    expect_json("\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"");       /* surrogate */
    expect_json("\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");  /* too high */
}

Test(json, values_nest)
{
    char *text = NULL;
    size_t len;
    struct pw_json j = { .to = open_memstream(&text, &len) };

    pw_json_open(&j, NULL, '{');
    pw_json_open(&j, "empty", '[');
    pw_json_close(&j, ']');
    pw_json_open(&j, "list", '[');
    pw_json_integer(&j, NULL, -3);
    pw_json_bool(&j, NULL, true);
    pw_json_null(&j, NULL);
    pw_json_close(&j, ']');
    pw_json_close(&j, '}');
    fclose(j.to);
    cr_expect(eq(str, text, "{\n  \"empty\": [],\n  \"list\": [\n    -3,\n    true,\n"
                            "    null\n  ]\n}\n"));
    free(text);
}
