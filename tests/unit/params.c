/* SPDX-License-Identifier: BSD-3-Clause */
/* params.c - what a user may set, and what is answered to the rest.
 *
 * Open MPI's side is played here: its registration keeps where each value goes,
 * and a test puts there what a user typed.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "btl/params.h"
#include "btl/pinwheel.h"
#include "pinwheel/monitor.h"
#include "pinwheel/nic.h"
#include "regcache/number.h"

enum { MOST = 48 };

static struct {
    const char *name, *help;
    char **value;
} params[MOST];
static int n_params, fail_at = -1;

mca_btl_base_component_t mca_btl_pinwheel_component;

int mca_base_component_var_register(const mca_base_component_t *component, const char *name,
                                    const char *help, mca_base_var_type_t type,
                                    mca_base_var_enum_t *enumerator, int bind,
                                    mca_base_var_flag_t flags, mca_base_var_info_lvl_t level,
                                    mca_base_var_scope_t scope, void *storage)
{
    (void)component;
    (void)enumerator;
    (void)bind;
    (void)flags;
    (void)level;
    (void)scope;
    cr_assert(lt(int, n_params, MOST));
    cr_assert(eq(int, type, MCA_BASE_VAR_TYPE_STRING));
    if (n_params == fail_at)
        return OPAL_ERR_OUT_OF_RESOURCE;
    params[n_params].name = name;
    params[n_params].help = help;
    params[n_params].value = storage;
    return n_params++;
}

static void registered(void)
{
    cr_assert(eq(int, pw_params_register(), OPAL_SUCCESS));
}

TestSuite(params, .init = registered);

static void set(const char *name, const char *text)
{
    for (int i = 0; i < n_params; i++)
        if (!strcmp(params[i].name, name)) {
            *params[i].value = (char *)(uintptr_t)text;
            return;
        }
    cr_fatal("no parameter %s", name);
}

static int check(char why[256])
{
    why[0] = '\0';
    return pw_params_check(why, 256);
}

/* ---- registration ---- */

Test(params, each_has_a_name_of_its_own_and_a_help_text)
{
    for (int i = 0; i < n_params; i++) {
        cr_expect(lt(sz, 20, strlen(params[i].help)), "%s", params[i].name);
        for (int j = 0; j < i; j++)
            cr_expect(ne(int, strcmp(params[i].name, params[j].name), 0), "%s",
                      params[i].name);
    }
}

Test(params, an_error_of_the_registration_is_passed_on)
{
    int all = n_params;

    for (fail_at = 0; fail_at < all; fail_at++) {
        n_params = 0;
        cr_expect(eq(int, pw_params_register(), OPAL_ERR_OUT_OF_RESOURCE), "at %d", fail_at);
    }
}

/* ---- values ---- */

Test(params, defaults_are_allowed)
{
    char why[256];

    cr_expect(eq(int, check(why), 0), "%s", why);
    cr_expect(eq(str, why, ""));
}

Test(params, what_was_set_is_what_holds)
{
    char why[256];

    set("eager_limit", "4096");
    set("queue_size", "1M");
    set("pool_size", "2g");
    set("chunk", "8k");
    set("sleep_us", "0");
    set("pool_pages", "thp");
    cr_expect(eq(int, check(why), 0), "%s", why);
    cr_expect(eq(sz, pw_params.eager_limit, 4096));
    cr_expect(eq(sz, pw_params.queue_size, 1 << 20));
    cr_expect(eq(sz, pw_params.pool_size, (size_t)2 << 30));
    cr_expect(eq(sz, pw_params.chunk, 8192));
    cr_expect(eq(sz, pw_params.sleep_us, 0));
    cr_expect(eq(int, pw_params.pool_pages, PW_PAGES_THP));
}

Test(params, each_kind_of_page_has_its_name)
{
    const struct { const char *name; enum pw_pages pages; } kinds[] = {
        { "auto", PW_PAGES_AUTO }, { "kdriver", PW_PAGES_KDRIVER }, { "2m", PW_PAGES_2M },
        { "1g", PW_PAGES_1G }, { "thp", PW_PAGES_THP }, { "4k", PW_PAGES_4K },
    };
    char why[256];

    for (int i = 0; i < 4; i++) {
        set("pool_pages", kinds[i].name);
        cr_expect(eq(int, check(why), 0), "%s", why);
        cr_expect(eq(int, pw_params.pool_pages, kinds[i].pages), "%s", kinds[i].name);
    }
}

/* Refused, by a sentence with the parameter, the value and what is allowed. */
static void expect_refused(const char *name, const char *text)
{
    char why[256], said[64];

    snprintf(said, sizeof said, "btl_pinwheel_%s=%s: must be ", name, text ? text : "");
    n_params = 0;
    registered();
    set(name, text);
    cr_expect(eq(int, check(why), -EINVAL), "%s=%s", name, text ? text : "NULL");
    cr_expect(eq(ptr, strstr(why, said), why), "%s", why);
    cr_expect(ne(ptr, strstr(why, "leave it out"), NULL), "%s", why);
    set(name, !strcmp(name, "pool_pages") || !strcmp(name, "monitor") ||
              !strcmp(name, "bulk") || !strcmp(name, "costs") || !strcmp(name, "want") ?
              "auto" :
              !strcmp(name, "trust") ? "full" : !strcmp(name, "sleep_us") ? "1000" : "65536");
}

Test(params, a_size_out_of_range_is_refused)
{
    expect_refused("eager_limit", "255");
    expect_refused("eager_limit", "1g");
    expect_refused("max_send_size", "1023");
    expect_refused("chunk", "1023");
    expect_refused("queue_size", "4095");
    expect_refused("queue_size", "128m");
    expect_refused("sleep_us", "1000001");
    expect_refused("pin_bytes", "4095");
    expect_refused("pin_regions", "17m");
    expect_refused("pin_host_bytes", "2000000g");
}

Test(params, a_queue_of_no_power_of_two_is_refused)
{
    expect_refused("queue_size", "100000");
    expect_refused("queue_size", "65537");
}

Test(params, what_is_no_number_is_refused)
{
    expect_refused("eager_limit", "");
    expect_refused("eager_limit", NULL);
    expect_refused("eager_limit", "many");
    expect_refused("eager_limit", "-1");
    expect_refused("eager_limit", "4096x");
    expect_refused("sleep_us", "1.5");
}

Test(params, an_unknown_kind_of_page_is_refused)
{
    expect_refused("pool_pages", "");
    expect_refused("pool_pages", NULL);
    expect_refused("pool_pages", "2M");
    expect_refused("pool_pages", "huge");
    expect_refused("pool_pages", "autos");
}

Test(params, the_way_of_long_messages_has_a_name)
{
    static const struct { const char *name; enum pw_bulk bulk; } ways[] = {
        { "stream", PW_BULK_STREAM }, { "kernel", PW_BULK_KERNEL }, { "auto", PW_BULK_AUTO },
    };
    char why[256];

    for (int i = 0; i < 3; i++) {
        set("bulk", ways[i].name);
        cr_expect(eq(int, check(why), 0), "%s", why);
        cr_expect(eq(int, pw_params.bulk, ways[i].bulk), "%s", ways[i].name);
    }
    expect_refused("bulk", "");
    expect_refused("bulk", NULL);
    expect_refused("bulk", "cma");
}

Test(params, what_is_wanted_of_several_paths_has_a_name)
{
    static const struct { const char *name; enum pw_want want; } all[] = {
        { "latency", PW_WANT_LATENCY }, { "bandwidth", PW_WANT_BANDWIDTH },
        { "auto", PW_WANT_AUTO },
    };
    char why[256];

    for (int i = 0; i < 3; i++) {
        set("want", all[i].name);
        cr_expect(eq(int, check(why), 0), "%s", why);
        cr_expect(eq(int, pw_params.want, all[i].want), "%s", all[i].name);
    }
    expect_refused("want", "");
    expect_refused("want", NULL);
    expect_refused("want", "speed");
}

Test(params, costs_are_a_word_or_a_file)
{
    char why[256];

    set("costs", "default");
    cr_expect(eq(int, check(why), 0), "%s", why);
    set("costs", "/some/where");
    cr_expect(eq(int, check(why), 0), "%s", why);
    expect_refused("costs", "");
    expect_refused("costs", NULL);
}

/* Of every backend of this build. */
Test(params, what_a_nic_backend_lets_be_set)
{
    const struct pw_nic_setting *s;
    char name[64], why[256], said[128];

    for (int i = 0; pw_nic_backends[i]; i++)
        for (s = pw_nic_backends[i]->settings; s && s->name; s++) {
            snprintf(name, sizeof name, "%s_%s", pw_nic_backends[i]->name, s->name);
            set(name, s->initial);
            cr_expect(eq(int, check(why), 0), "%s", why);
            set(name, "banana");
            cr_expect(eq(int, check(why), -EINVAL), "%s", name);
            snprintf(said, sizeof said, "btl_pinwheel_%s=banana: must be ", name);
            cr_expect(eq(ptr, strstr(why, said), why), "%s", why);
            snprintf(said, sizeof said, "leave it out for %s", s->initial);
            cr_expect(ne(ptr, strstr(why, said), NULL), "%s", why);
            set(name, s->initial);
        }
}

Test(params, monitors_are_known_by_name)
{
    char why[256];

    for (int i = 0; pw_monitors[i]; i++) {
        set("monitor", pw_monitors[i]->name);
        cr_expect(eq(int, check(why), 0), "%s", why);
        cr_expect(eq(str, pw_params.monitor, (char *)pw_monitors[i]->name));
    }
    set("monitor", "auto");
    cr_expect(eq(int, check(why), 0), "%s", why);
}

Test(params, an_unknown_monitor_is_refused)
{
    char why[256];

    expect_refused("monitor", "");
    expect_refused("monitor", NULL);
    expect_refused("monitor", "Hooks");
    expect_refused("monitor", "autos");
    set("monitor", "telescope");
    cr_expect(eq(int, check(why), -EINVAL));
    for (int i = 0; pw_monitors[i]; i++)
        cr_expect(ne(ptr, strstr(why, pw_monitors[i]->name), NULL), "%s", why);
}

Test(params, peers_are_trusted_unless_they_are_not_to_be)
{
    char why[256];

    cr_expect(eq(int, check(why), 0), "%s", why);
    cr_expect(not(pw_params.distrust));
    set("trust", "copy");
    cr_expect(eq(int, check(why), 0), "%s", why);
    cr_expect(pw_params.distrust);
    set("trust", "full");
    cr_expect(eq(int, check(why), 0), "%s", why);
    cr_expect(not(pw_params.distrust));
}

Test(params, an_unknown_trust_is_refused)
{
    expect_refused("trust", "");
    expect_refused("trust", NULL);
    expect_refused("trust", "Copy");
    expect_refused("trust", "copyright");
    expect_refused("trust", "none");
}

Test(params, no_value_is_too_long_for_the_sentence)
{
    char text[1000], why[64];

    memset(text, '9', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    set("eager_limit", text);
    memset(why, 'x', sizeof why);
    cr_expect(eq(int, pw_params_check(why, 60), -EINVAL));
    cr_expect(eq(sz, strlen(why), 59));
    cr_expect(eq(chr, why[60], 'x'));

    set("eager_limit", "16384");
    set("monitor", text);
    cr_expect(eq(int, pw_params_check(why, 60), -EINVAL));
    cr_expect(eq(sz, strlen(why), 59));
    cr_expect(eq(chr, why[60], 'x'));
}

/* ---- numbers ---- */

static void expect_number(const char *text, size_t value)
{
    size_t n = 1;

    cr_expect(eq(int, pw_number_parse(text, &n), 0), "\"%s\"", text);
    cr_expect(eq(sz, n, value), "\"%s\"", text);
}

Test(params, a_number_may_be_followed_by_a_unit)
{
    expect_number("0", 0);
    expect_number("16384", 16384);
    expect_number("007", 7);
    expect_number("16k", 16384);
    expect_number("16K", 16384);
    expect_number("1m", 1 << 20);
    expect_number("1M", 1 << 20);
    expect_number("2g", (size_t)2 << 30);
    expect_number("2G", (size_t)2 << 30);
    expect_number("18446744073709551615", SIZE_MAX);
    expect_number("17179869183g", (size_t)17179869183u << 30);
}

Test(params, a_number_is_not_followed_by_anything_else)
{
    const char *wrong[] = { "", "k", " 1", "1 ", "+1", "-1", "0x10", "1kb", "1kk", "1t", "1.0",
                            "1e3", "18446744073709551616", "17179869184g",
                            "99999999999999999999999", "one" };
    size_t n = 77;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_expect(eq(int, pw_number_parse(wrong[i], &n), -EINVAL), "\"%s\"", wrong[i]);
    cr_expect(eq(int, pw_number_parse(NULL, &n), -EINVAL));
    cr_expect(eq(sz, n, 77), "untouched");
}
