/* SPDX-License-Identifier: BSD-3-Clause */
/* write.c - results as JSON. What read.c reads back, the topology aside. */
#include <errno.h>

#include "topology.h"

static const char *const measure_key[PW_MEASURES] = { "latency_ns", "throughput_mb_s" };

static void write_pairs(const struct pw_matrix *m, struct pw_json *j)
{
    pw_json_open(j, "pairs", '[');
    for (int i = 0; i < m->n_pairs; i++) {
        const struct pw_pair *p = &m->pair[i];

        pw_json_open(j, NULL, '{');
        pw_json_integer(j, "a", p->a);
        pw_json_integer(j, "b", p->b);
        if (p->n_shares) {
            pw_json_open(j, "shares", '[');
            for (int s = 0; s < p->n_shares; s++)
                pw_json_string(j, NULL, p->shares[s]);
            pw_json_close(j, ']');
        } else {
            pw_json_null(j, "shares");
        }
        pw_json_close(j, '}');
    }
    pw_json_close(j, ']');
}

static void write_points(const struct pw_matrix *m, const struct pw_point *point,
                         const char *key, struct pw_json *j)
{
    pw_json_open(j, key, '[');
    for (int i = 0; i < m->n_pairs; i++) {
        if (!point[i].samples) {
            pw_json_null(j, NULL);
            continue;
        }
        pw_json_open(j, NULL, '{');
        pw_json_number(j, "median", point[i].median);
        pw_json_number(j, "p10", point[i].p10);
        pw_json_number(j, "p90", point[i].p90);
        pw_json_integer(j, "samples", point[i].samples);
        pw_json_close(j, '}');
    }
    pw_json_close(j, ']');
}

static bool measured(const struct pw_matrix *m, const struct pw_result *r)
{
    for (int k = 0; k < PW_MEASURES; k++)
        for (int i = 0; i < m->n_pairs; i++)
            if (r->point[k][i].samples)
                return true;
    return false;
}

static void write_results(const struct pw_matrix *m, struct pw_json *j)
{
    pw_json_open(j, "transports", '{');
    for (int i = 0; i < m->n_results; i++) {
        const struct pw_result *r = &m->result[i];

        if (!measured(m, r)) {
            pw_json_null(j, r->name);
            continue;
        }
        pw_json_open(j, r->name, '{');
        for (int k = 0; k < PW_MEASURES; k++)
            write_points(m, r->point[k], measure_key[k], j);
        pw_json_close(j, '}');
    }
    pw_json_close(j, '}');

    pw_json_open(j, "left_out", '{');
    for (int i = 0; i < m->n_results; i++)
        if (*m->result[i].reason)
            pw_json_string(j, m->result[i].name, m->result[i].reason);
    pw_json_close(j, '}');
}

static void write_versions(const struct pw_matrix *m, struct pw_json *j)
{
    pw_json_open(j, "versions", '{');
    pw_json_string(j, "pinwheel", m->pinwheel);
    pw_json_string(j, "kernel", m->kernel);
    pw_json_string(j, "libc", m->libc);
    if (*m->hwloc)
        pw_json_string(j, "hwloc", m->hwloc);
    else
        pw_json_null(j, "hwloc");
    pw_json_close(j, '}');
}

int pw_matrix_write(const struct pw_matrix *m, const struct pw_topology *topology,
                    FILE *to)
{
    struct pw_json j = { .to = to };

    pw_json_open(&j, NULL, '{');
    pw_json_string(&j, "format", "pwbench matrix 1");
    pw_json_string(&j, "date", m->date);
    pw_json_string(&j, "host", m->host);
    pw_json_string(&j, "cpu", m->cpu);
    write_versions(m, &j);
    pw_json_number(&j, "load", m->load);
    pw_json_number(&j, "seconds", m->seconds);
    pw_json_integer(&j, "latency_bytes", PW_WORD_BYTES);
    pw_json_integer(&j, "message_bytes", (long long)m->size);
    pw_topology_write(topology, &j, "topology", m->core, m->n_cores);
    pw_json_open(&j, "cores", '[');
    for (int i = 0; i < m->n_cores; i++)
        pw_json_integer(&j, NULL, m->core[i]);
    pw_json_close(&j, ']');
    write_pairs(m, &j);
    write_results(m, &j);
    pw_json_close(&j, '}');

    errno = 0;
    if (fflush(to) || ferror(to))
        return errno ? -errno : -EIO;
    return 0;
}
