/* SPDX-License-Identifier: BSD-3-Clause */
/* read.c - results back from JSON. Somebody may have cut, edited or mixed up the
 * file: everything that is used is looked at first. By jansson. */
#include <errno.h>
#include <string.h>

#include "matrix.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#ifdef HAVE_JANSSON
#include <jansson.h>

static const char *const measure_key[PW_MEASURES] = { "latency_ns", "throughput_mb_s" };

struct reading {
    struct pw_matrix *m;
    char *why;          /* PW_WHY bytes; "" as long as all is well */
};

/* Only the first thing that is wrong is told. Always false. */
static bool wrong(struct reading *r, const char *key, const char *what)
{
    if (!*r->why)
        snprintf(r->why, PW_WHY, "\"%s\" %s", key, what);
    return false;
}

static bool read_text(struct reading *r, const json_t *from, const char *key,
                      char out[PW_TEXT])
{
    const char *text = json_string_value(json_object_get(from, key));

    if (!text)
        return wrong(r, key, "is not a text");
    snprintf(out, PW_TEXT, "%s", text);
    return true;
}

static bool read_core(struct reading *r, const json_t *value, const char *key, int *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) >= PW_CORES_MAX)
        return wrong(r, key, "is not the number of a core");
    *out = (int)json_integer_value(value);
    return true;
}

static bool read_cores(struct reading *r, const json_t *root)
{
    const json_t *list = json_object_get(root, "cores");
    size_t n = json_array_size(list);
    int core[PW_CORES_MAX];

    if (n == 0 || n > PW_CORES_MAX)
        return wrong(r, "cores", "is not a list of cores");
    for (size_t i = 0; i < n; i++)
        if (!read_core(r, json_array_get(list, i), "cores", &core[i]))
            return false;
    if (pw_matrix_init(r->m, core, (int)n))
        return wrong(r, "cores", "is more than fits into memory");
    return true;
}

static bool read_shares(struct reading *r, const json_t *list, struct pw_pair *pair)
{
    if (!json_is_array(list) && !json_is_null(list))
        return wrong(r, "shares", "is neither a list nor null");
    for (size_t i = 0; i < json_array_size(list) && i < PW_SHARES_MAX; i++) {
        const char *text = json_string_value(json_array_get(list, i));

        if (!text)
            return wrong(r, "shares", "has something in it that is not a text");
        snprintf(pair->shares[pair->n_shares++], sizeof *pair->shares, "%s", text);
    }
    return true;
}

static bool read_pairs(struct reading *r, const json_t *root)
{
    const json_t *list = json_object_get(root, "pairs");

    if (!json_is_array(list) || json_array_size(list) != (size_t)r->m->n_pairs)
        return wrong(r, "pairs", "is not a list of all pairs of the cores");
    for (int i = 0; i < r->m->n_pairs; i++) {
        const json_t *from = json_array_get(list, (size_t)i);
        struct pw_pair *pair = &r->m->pair[i];

        if (!read_core(r, json_object_get(from, "a"), "a", &pair->a) ||
            !read_core(r, json_object_get(from, "b"), "b", &pair->b) ||
            !read_shares(r, json_object_get(from, "shares"), pair))
            return false;
    }
    return true;
}

static bool read_point(struct reading *r, const json_t *from, const char *key,
                       struct pw_point *out)
{
    const json_t *median = json_object_get(from, "median");
    const json_t *p10 = json_object_get(from, "p10"), *p90 = json_object_get(from, "p90");
    const json_t *samples = json_object_get(from, "samples");

    if (json_is_null(from))
        return true;
    if (!json_is_number(median) || !json_is_number(p10) || !json_is_number(p90) ||
        !json_is_integer(samples) || json_integer_value(samples) < 1)
        return wrong(r, key, "has a point without median, p10, p90 or samples");
    out->median = json_number_value(median);
    out->p10 = json_number_value(p10);
    out->p90 = json_number_value(p90);
    out->samples = json_integer_value(samples) > 1000000000
                       ? 1000000000 : (int)json_integer_value(samples);
    if (!(out->p10 > 0 && out->p10 <= out->median && out->median <= out->p90))
        return wrong(r, key, "has a point with p10, median and p90 out of order");
    return true;
}

static bool read_result(struct reading *r, const char *name, const json_t *from)
{
    struct pw_result *result;

    if (strlen(name) >= sizeof result->name || strspn(name, "abcdefghijklmnopqrstuvwxyz"
                                                       "0123456789_-") != strlen(name))
        return wrong(r, "transports", "has a name in it that is none");
    result = pw_matrix_add(r->m, name);
    if (!result)
        return wrong(r, "transports", "has too many in it");
    if (json_is_null(from))
        return true;
    for (int k = 0; k < PW_MEASURES; k++) {
        const json_t *list = json_object_get(from, measure_key[k]);

        if (!json_is_array(list) || json_array_size(list) != (size_t)r->m->n_pairs)
            return wrong(r, measure_key[k], "is not a list with a point for each pair");
        for (int i = 0; i < r->m->n_pairs; i++)
            if (!read_point(r, json_array_get(list, (size_t)i), measure_key[k],
                            &result->point[k][i]))
                return false;
    }
    return true;
}

static bool read_results(struct reading *r, json_t *root)
{
    json_t *list = json_object_get(root, "transports"), *from;
    const json_t *reasons = json_object_get(root, "left_out");
    const char *name;

    if (!json_is_object(list) || !json_is_object(reasons))
        return wrong(r, json_is_object(list) ? "left_out" : "transports",
                     "is not an object");
    json_object_foreach(list, name, from)
        if (!read_result(r, name, from))
            return false;
    for (int i = 0; i < r->m->n_results; i++) {
        struct pw_result *result = &r->m->result[i];
        const char *reason = json_string_value(json_object_get(reasons, result->name));

        if (reason)
            snprintf(result->reason, PW_WHY, "%s", reason);
    }
    return true;
}

static bool read_head(struct reading *r, const json_t *root)
{
    const json_t *versions = json_object_get(root, "versions");
    const json_t *size = json_object_get(root, "message_bytes");
    const json_t *seconds = json_object_get(root, "seconds");
    const json_t *load = json_object_get(root, "load");

    if (!json_is_integer(size) || json_integer_value(size) < 1)
        return wrong(r, "message_bytes", "is not a number of bytes");
    if (!json_is_number(seconds))
        return wrong(r, "seconds", "is not a number");
    if (!json_is_number(load))
        return wrong(r, "load", "is not a number");
    r->m->load = json_number_value(load);
    r->m->size = (size_t)json_integer_value(size);
    r->m->seconds = json_number_value(seconds);
    return read_text(r, root, "date", r->m->date) &&
           read_text(r, root, "host", r->m->host) && read_text(r, root, "cpu", r->m->cpu) &&
           read_text(r, versions, "pinwheel", r->m->pinwheel) &&
           read_text(r, versions, "kernel", r->m->kernel) &&
           read_text(r, versions, "libc", r->m->libc);
}

static bool read_all(struct reading *r, json_t *root)
{
    const char *format = json_string_value(json_object_get(root, "format"));

    if (!format || strncmp(format, "pwbench matrix ", 15))
        return wrong(r, "format", "does not say \"pwbench matrix\"");
    if (strcmp(format, "pwbench matrix 1"))
        return wrong(r, "format", "is of another version of pwbench");
    return read_cores(r, root) && read_head(r, root) && read_pairs(r, root) &&
           read_results(r, root);
}

int pw_matrix_read(const char *path, struct pw_matrix *out, char why[PW_WHY])
{
    struct reading r = { .m = out, .why = why };
    json_error_t at;
    json_t *root;
    FILE *f = fopen(path, "re");
    int err;

    *why = '\0';
    memset(out, 0, sizeof *out);
    if (!f) {
        err = -errno;
        snprintf(why, PW_WHY, "%s", strerror(-err));
        return err;
    }
    root = json_loadf(f, JSON_REJECT_DUPLICATES, &at);
    fclose(f);
    if (!root) {
        snprintf(why, PW_WHY, "it is not JSON: line %d: %.120s", at.line, at.text);
        return -EINVAL;
    }
    err = read_all(&r, root) ? 0 : -EINVAL;
    json_decref(root);
    if (err)
        pw_matrix_fini(out);
    return err;
}

#else

int pw_matrix_read(const char *path, struct pw_matrix *out, char why[PW_WHY])
{
    (void)path;
    memset(out, 0, sizeof *out);
    snprintf(why, PW_WHY, "built without jansson (Debian package libjansson-dev), which "
             "reads JSON");
    return -ENOSYS;
}

#endif
