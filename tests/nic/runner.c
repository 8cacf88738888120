/* SPDX-License-Identifier: BSD-3-Clause */
/* runner.c - one conformance case in a process of its own.
 *
 * A backend under test may crash, hang, or leave processes behind: the case gets
 * its own process group, a time limit, and a page shared with its processes in
 * which they write what failed. Start at case_run().
 */
#include "hosts.h"
#include "suite.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* A busy machine is some times as slow as it is alone. */
enum { SLOWER = SANITIZED ? 5 : 1, BUSY = 3, LINES = 12 };

/* Shared by all processes of a case. A line is written by who drew its number. */
struct report {
    int failures;
    int skipped;
    char why[512];
    char lines[LINES][320];
};

static struct report *report;
static const struct nic_case *running;

unsigned suite_patience_ms = 8000 * BUSY * SLOWER;
static unsigned slower = BUSY * SLOWER;
static unsigned fewer = 1;

void suite_slow_down(unsigned factor)
{
    suite_patience_ms *= factor;
    slower *= factor;
}

void suite_shorten(unsigned factor)
{
    fewer *= factor;
}

/* Not so few that what is seen by its number is not seen any more. */
unsigned cycles(unsigned n)
{
    enum { LEAST = 16 };
    unsigned less = n / fewer > LEAST ? n / fewer : LEAST;

    return less < n ? less : n ? n : 1;
}

unsigned rounds(const struct subject *subject, unsigned n)
{
    n /= SLOWER;
    if (subject->slow)
        n /= 10;
    return cycles(n);
}

void case_fail(const char *file, int line, const char *text, ...)
{
    const char *base = strrchr(file, '/');
    va_list args;
    int at, n;

    /* A case that was skipped leaves its other processes without a partner. */
    if (__atomic_load_n(&report->skipped, __ATOMIC_ACQUIRE))
        return;
    n = __atomic_fetch_add(&report->failures, 1, __ATOMIC_RELAXED);
    if (n >= LINES)
        return;
    at = snprintf(report->lines[n], sizeof report->lines[n], "%s:%d: ",
                  base ? base + 1 : file, line);
    va_start(args, text);
    vsnprintf(report->lines[n] + at, sizeof report->lines[n] - (size_t)at, text, args);
    va_end(args);
}

bool case_failed(void)
{
    return __atomic_load_n(&report->failures, __ATOMIC_RELAXED) != 0;
}

bool case_has_parties(void)
{
    return running->parties;
}

void case_skip(const char *why, ...)
{
    va_list args;

    va_start(args, why);
    vsnprintf(report->why, sizeof report->why, why, args);
    va_end(args);
    __atomic_store_n(&report->skipped, 1, __ATOMIC_RELEASE);
    _exit(0);
}

void case_abort(void)
{
    _exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

__attribute__((noreturn))
static void child_run(const struct nic_case *c, const struct subject *subject)
{
    struct pw_nic_info info;
    char why[PW_NIC_WHY_MAX] = "";

    running = c;
    setpgid(0, 0);
    signal(SIGPIPE, SIG_IGN);
    REQUIRE_EQ(hosts_enter_case(), 0);
    if (subject->prepare)
        subject->prepare(subject);
    if (c != setup_cases && subject->ops->probe(&info, why))
        case_skip("%s", why);
    c->run(subject);
    exit(case_failed());
}

/* Its wait status, or -1 when it had to be killed. */
static int child_wait(pid_t pid, double until)
{
    int status;
    pid_t got;

    while (!(got = waitpid(pid, &status, WNOHANG)) || (got < 0 && errno == EINTR)) {
        struct timespec nap = { .tv_nsec = 2000000 };

        if (now() > until) {
            kill(-pid, SIGKILL);
            waitpid(pid, &status, 0);
            return -1;
        }
        nanosleep(&nap, NULL);
    }
    kill(-pid, SIGKILL);    /* processes that it left behind */
    return status;
}

static void outcome_add(struct outcome *out, const char *text)
{
    size_t at = strlen(out->text);

    snprintf(out->text + at, sizeof out->text - at, "%s\n", text);
}

static void outcome_judge(struct outcome *out, int status, unsigned limit)
{
    char line[128];

    for (int i = 0; i < report->failures && i < LINES; i++)
        outcome_add(out, report->lines[i]);
    if (report->failures > LINES) {
        snprintf(line, sizeof line, "and %d more", report->failures - LINES);
        outcome_add(out, line);
    }
    if (status == -1)
        snprintf(line, sizeof line, "not finished after %u s", limit);
    else if (WIFSIGNALED(status))
        snprintf(line, sizeof line, "killed by signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status) && !report->failures)
        snprintf(line, sizeof line, "exit status %d", WEXITSTATUS(status));
    else
        line[0] = 0;
    if (line[0])
        outcome_add(out, line);
    out->verdict = status || report->failures ? FAILED : PASSED;
    if (out->verdict == PASSED && report->skipped) {
        out->verdict = SKIPPED;
        outcome_add(out, report->why);
    }
}

void case_run(const struct nic_case *c, const struct subject *subject,
              struct outcome *out)
{
    unsigned limit = c->seconds * slower;
    double start = now();
    pid_t pid;
    int status;

    memset(out, 0, sizeof *out);
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fflush(NULL);
    pid = report == MAP_FAILED ? -1 : fork();
    if (pid < 0) {
        out->verdict = FAILED;
        outcome_add(out, "no memory for another process");
        return;
    }
    if (!pid)
        child_run(c, subject);
    setpgid(pid, pid);
    status = child_wait(pid, start + limit);
    outcome_judge(out, status, limit);
    out->seconds = now() - start;
    munmap(report, sizeof *report);
}
