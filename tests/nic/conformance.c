/* SPDX-License-Identifier: BSD-3-Clause */
/* conformance.c - does a NIC backend keep what pinwheel/nic.h promises?
 *
 * Runs all cases on every backend that was built, or on those named, and on the
 * fake NIC as the suite's own control. Prints TAP. Exit status 1 when a case
 * failed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hosts.h"
#include "subjects.h"
#include "suite.h"

enum { NAMES_MAX = 16, BETWEEN_HOSTS = 3 };     /* so many times as slow */

struct selection {
    const char *nics[NAMES_MAX];
    unsigned n_nics;
    const char *backend;        /* or NULL: all */
    const char *text;           /* part of a case's name, or NULL */
    const char *without;        /* the same of those that are left out */
    const char *device;         /* instead of the subjects' own, or NULL */
    unsigned slower, fewer;     /* 0: not said */
    bool list, backends, times;
};

struct tally {
    unsigned n, failed;
};

static int usage(FILE *out, int status)
{
    fprintf(out,
            "usage: conformance [--nic NAME]... [--backend NAME] [--case TEXT]\n"
            "                   [--device DEV] [--hosts PID,PID] [--slower N] [--fewer N]\n"
            "                   [--times] [--list | --backends]\n"
            "  --nic NAME      only this one; see --list. May be given several times\n"
            "  --backend NAME  only the NICs of this backend\n"
            "  --case TEXT     only cases with TEXT in their name\n"
            "  --without TEXT  no cases with TEXT in their name\n"
            "  --device DEV    networks by this device, not by the loopback\n"
            "  --hosts PID,PID  only cases with several processes, and only networks: these\n"
            "                  processes on the two hosts of which these are\n"
            "  --slower N      all limits are N times as long, as on an emulated machine\n"
            "  --fewer N       what is done again and again, N times less often\n"
            "  --times         say how long each case took\n"
            "  --list          print the NICs and the cases, run nothing\n"
            "  --backends      print the backends that were built, run nothing\n");
    return status;
}

static int parse(struct selection *sel, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--list"))
            sel->list = true;
        else if (!strcmp(argv[i], "--backends"))
            sel->backends = true;
        else if (!strcmp(argv[i], "--times"))
            sel->times = true;
        else if (!strcmp(argv[i], "--backend") && i + 1 < argc)
            sel->backend = argv[++i];
        else if (!strcmp(argv[i], "--nic") && i + 1 < argc && sel->n_nics < NAMES_MAX)
            sel->nics[sel->n_nics++] = argv[++i];
        else if (!strcmp(argv[i], "--case") && i + 1 < argc)
            sel->text = argv[++i];
        else if (!strcmp(argv[i], "--without") && i + 1 < argc)
            sel->without = argv[++i];
        else if (!strcmp(argv[i], "--device") && i + 1 < argc)
            sel->device = argv[++i];
        else if (!strcmp(argv[i], "--slower") && i + 1 < argc)
            sel->slower = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--fewer") && i + 1 < argc)
            sel->fewer = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--hosts") && i + 1 < argc && !hosts_choose(argv[i + 1]))
            i++;
        else
            return -1;
    }
    return 0;
}

static bool nic_selected(const struct selection *sel, const struct subject *s)
{
    if (hosts_chosen() && !s->device)
        return false;
    if (sel->backend && strcmp(sel->backend, s->ops->name))
        return false;
    for (unsigned i = 0; i < sel->n_nics; i++)
        if (!strcmp(sel->nics[i], s->name))
            return true;
    return !sel->n_nics;
}

static bool case_selected(const struct selection *sel, const struct nic_case *c)
{
    if (sel->without && strstr(c->name, sel->without))
        return false;
    return (c->parties || !hosts_chosen()) && (!sel->text || strstr(c->name, sel->text));
}

static void print_text(const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");

        printf("# %.*s\n", (int)len, text);
        text += len + (text[len] == '\n');
    }
}

static void run_one(const struct selection *sel, const struct subject *subject,
                    const struct nic_case *c, struct tally *tally)
{
    struct outcome out;

    case_run(c, subject, &out);
    tally->n++;
    tally->failed += out.verdict == FAILED;
    printf("%s %u - %s: %s", out.verdict == FAILED ? "not ok" : "ok", tally->n,
           subject->name, c->name);
    if (out.verdict == SKIPPED)
        printf(" # SKIP %.*s", (int)strcspn(out.text, "\n"), out.text);
    printf("\n");
    if (out.verdict == FAILED)
        print_text(out.text);
    if (sel->times)
        printf("# %.2f s\n", out.seconds);
    fflush(stdout);
}

static void run_subject(const struct selection *sel, const struct subject *subject,
                        struct tally *tally)
{
    for (unsigned i = 0; all_cases[i]; i++)
        for (const struct nic_case *c = all_cases[i]; c->name; c++) {
            if (!case_selected(sel, c))
                continue;
            if (sel->list)
                printf("%s: %s\n", subject->name, c->name);
            else
                run_one(sel, subject, c, tally);
        }
}

/* Where the time for a backend's library is not worth it: PW_TEST_WITHOUT_NIC=ofi,ucx, and
 * what begins so. */
static bool left_out(const char *name)
{
    const char *word = getenv("PW_TEST_WITHOUT_NIC");

    while (word && *word) {
        size_t len = strcspn(word, ",");

        if (len && !strncmp(name, word, len))
            return true;
        word += len + (word[len] == ',');
    }
    return false;
}

/* Each once: the subjects of a backend stand together. */
static int print_backends(const struct subject *subjects)
{
    const char *last = "";

    for (const struct subject *s = subjects; s->name; s++) {
        if (strcmp(last, s->ops->name))
            printf("%s\n", s->ops->name);
        last = s->ops->name;
    }
    return 0;
}

static int run_selected(const struct selection *sel, struct subject *subjects)
{
    struct tally tally = { 0 };
    unsigned matched = 0, skipped = 0;

    for (struct subject *s = subjects; s->name; s++) {
        if (!nic_selected(sel, s))
            continue;
        if (left_out(s->name)) {
            skipped++;
            continue;
        }
        matched++;
        if (sel->device && s->device)
            s->device = sel->device;
        run_subject(sel, s, &tally);
    }
    if (skipped && !matched) {
        printf("1..0 # SKIP left out by PW_TEST_WITHOUT_NIC\n");
        return 0;
    }
    if (!matched) {
        fprintf(stderr, "conformance: no NIC of that name was built\n");
        return 2;
    }
    if (!sel->list)
        printf("1..%u\n", tally.n);
    return tally.failed != 0;
}

int main(int argc, char **argv)
{
    struct selection sel = { 0 };
    struct subject *subjects;
    int status;

    if (parse(&sel, argc, argv))
        return usage(stderr, 2);
    if (hosts_chosen())
        suite_slow_down(BETWEEN_HOSTS);
    if (sel.slower)
        suite_slow_down(sel.slower);
    if (sel.fewer)
        suite_shorten(sel.fewer);
    subjects = subjects_all();
    if (!subjects)
        return 2;
    status = sel.backends ? print_backends(subjects) : run_selected(&sel, subjects);
    free(subjects);
    return status;
}
