/* SPDX-License-Identifier: BSD-3-Clause */
/* plain_main.c - runs Criterion tests without Criterion's runner.
 *
 * ThreadSanitizer fixes where memory may be mapped, and the arena that
 * Criterion 2.4 shares with its sandboxes does not fit there: no test starts
 * (Criterion issue 274). So builds with -fsanitize=thread link this main() and
 * these few functions in front of Criterion's. Each test runs in a process of
 * its own, and what it tells is TAP, as from --tap.
 *
 * Known to it are the fields of Test() and TestSuite() that our tests use: init,
 * fini, signal, exit_code, timeout, disabled. A parameterized test fails.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIMIT_S = 120, STATUS_FAILED = 101, STATUS_SKIPPED = 102, REASON_MAX = 256 };

/* The linker's names for the ends of the sections that Test() and TestSuite()
 * fill; weak, for a program may have no TestSuite(). */
extern struct criterion_test *__start_cr_tst[] __attribute__((weak));
extern struct criterion_test *__stop_cr_tst[] __attribute__((weak));
extern struct criterion_suite *__start_cr_sts[] __attribute__((weak));
extern struct criterion_suite *__stop_cr_sts[] __attribute__((weak));

static const struct criterion_test *current;    /* in the test's process */
static int failed;
static char *reason;        /* of a skip; shared with the test's process */

static const struct criterion_test_extra_data *suite_of(const struct criterion_test *t)
{
    for (struct criterion_suite **s = __start_cr_sts; s < __stop_cr_sts; s++)
        if (*s && !strcmp((*s)->name, t->category))
            return (*s)->data;
    return NULL;
}

/* ---- what the macros call, in the test's process ---- */

void criterion_internal_test_setup(void)
{
    const struct criterion_test_extra_data *suite = suite_of(current);

    if (suite && suite->init)
        suite->init();
    if (current->data->init)
        current->data->init();
}

void criterion_internal_test_main(void (*test)(void))
{
    test();
}

void criterion_internal_test_teardown(void)
{
    const struct criterion_test_extra_data *suite = suite_of(current);

    if (current->data->fini)
        current->data->fini();
    if (suite && suite->fini)
        suite->fini();
}

void cri_assert_node_send(const char *file, size_t line, struct cri_assert_node *tree)
{
    __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
    printf("# %s:%zu: failed", file, line);
    if (tree->nchild && tree->children[0].repr)
        printf(": %s", tree->children[0].repr);
    if (tree->message && *tree->message)
        printf(" (%s)", tree->message);
    putchar('\n');
}

void criterion_continue_test(void)
{
}

void criterion_abort_test(void)
{
    exit(STATUS_FAILED);
}

void criterion_skip_test(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(reason, REASON_MAX, format, args);
    va_end(args);
    exit(STATUS_SKIPPED);
}

/* ---- the runner ---- */

static pid_t start(const struct criterion_test *t)
{
    double limit = t->data->timeout > 0 ? t->data->timeout : LIMIT_S;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid)
        return pid;

    current = t;
    alarm(limit < 1 ? 1 : (unsigned)limit);
    t->test();
    /* exit() and not _exit(): ThreadSanitizer reports at exit. */
    exit(failed ? STATUS_FAILED : 0);
}

static void report(unsigned n, const struct criterion_test *t, int status)
{
    const char *why = "";
    bool passed = true;

    if (WIFSIGNALED(status)) {
        passed = t->data->signal && WTERMSIG(status) == t->data->signal;
        why = WTERMSIG(status) == SIGALRM ? "timed out" : strsignal(WTERMSIG(status));
    } else if (WEXITSTATUS(status) == STATUS_SKIPPED) {
        printf("ok %u - %s::%s # SKIP %s\n", n, t->category, t->name, reason);
        return;
    } else {
        passed = !t->data->signal && WEXITSTATUS(status) == t->data->exit_code;
        if (!passed && WEXITSTATUS(status) != STATUS_FAILED)
            why = "wrong exit status";
    }
    printf("%sok %u - %s::%s%s%s\n", passed ? "" : "not ", n, t->category, t->name,
           *why && !passed ? ": " : "", passed ? "" : why);
}

/* Of what tests/run-tap says to Criterion, --tap=FILE is heard. */
int main(int argc, char **argv)
{
    unsigned n = 0;
    int status;

    for (int i = 1; i < argc; i++)
        if (!strncmp(argv[i], "--tap=", 6) && !freopen(argv[i] + 6, "a", stdout))
            return 1;
    reason = mmap(NULL, REASON_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (reason == MAP_FAILED) {
        perror("plain_main: mmap");
        return 1;
    }
    for (struct criterion_test **p = __start_cr_tst; p < __stop_cr_tst; p++) {
        const struct criterion_test *t = *p;
        pid_t pid;

        if (!t)
            continue;
        n++;
        if (t->data->disabled) {
            printf("ok %u - %s::%s # SKIP disabled\n", n, t->category, t->name);
            continue;
        }
        if (t->data->kind_ != CR_TEST_NORMAL) {
            printf("not ok %u - %s::%s: this runner has no parameterized tests\n", n,
                   t->category, t->name);
            continue;
        }
        pid = start(t);
        if (pid < 0 || waitpid(pid, &status, 0) != pid) {
            perror("plain_main: fork or waitpid");
            return 1;
        }
        report(n, t, status);
    }
    printf("1..%u\n", n);
    return 0;
}
