/* SPDX-License-Identifier: BSD-3-Clause */
/* steps.c - see steps.h. The other process traces the one that started it (ptrace): a
 * breakpoint in steps_begin() stops that, then it goes by single steps until it is in
 * steps_end().
 */
#define _GNU_SOURCE
#include "steps.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

struct steps_shared {
    int state;                  /* atomic: enum state */
    unsigned n;
    struct steps_turn turn[STEPS_TURNS];
    void *apart[STEPS_APART];
};

enum state { STARTING, READY, REFUSED, ENDED };

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

static struct steps_shared *shared;
static pid_t traced;

__attribute__((noinline)) void steps_begin(void)
{
    __asm__ volatile("int3" ::: "memory");
}

__attribute__((noinline)) void steps_end(void)
{
    __asm__ volatile("" ::: "memory");
}

static uint64_t pc_of(const struct user_regs_struct *regs)
{
    return regs->rip;
}

static bool is_call(uint64_t pc)
{
    errno = 0;
    return (ptrace(PTRACE_PEEKTEXT, traced, pc, NULL) & 0xffff) == 0x050f && !errno;
}

static bool is_apart(uint64_t pc)
{
    for (int i = 0; i < STEPS_APART && shared->apart[i]; i++)
        if (pc == (uintptr_t)shared->apart[i])
            return true;
    return false;
}

/* Of the traced one; a signal is its own matter. */
static bool go(enum __ptrace_request how, int signal)
{
    int status;

    if (ptrace(how, traced, NULL, (void *)(intptr_t)signal))
        return false;
    return waitpid(traced, &status, __WALL) == traced && WIFSTOPPED(status) &&
           WSTOPSIG(status) == SIGTRAP;
}

static bool turn(void)
{
    struct steps_turn *t = &shared->turn[shared->n];
    struct user_regs_struct regs;
    uint64_t until = 0, pc;
    bool apart = false;

    if (shared->n == STEPS_TURNS || ptrace(PTRACE_GETREGS, traced, NULL, &regs))
        return false;
    while ((pc = pc_of(&regs)) != (uintptr_t)steps_end) {
        if (apart && regs.rsp > until)
            apart = false;
        if (!apart && is_apart(pc)) {
            apart = true;
            until = regs.rsp;
        }
        if (!apart && is_call(pc))
            t->calls++;
        if (!go(PTRACE_SINGLESTEP, 0) || ptrace(PTRACE_GETREGS, traced, NULL, &regs))
            return false;
        if (pc_of(&regs) != pc)
            *(apart ? &t->apart : &t->instructions) += 1;
    }
    shared->n++;
    return true;
}

/* Until the traced one has ended, or says that it is done. */
static void trace(void)
{
    int status;

    traced = getppid();
    if (ptrace(PTRACE_SEIZE, traced, NULL, NULL)) {
        __atomic_store_n(&shared->state, REFUSED, __ATOMIC_RELEASE);
        return;
    }
    __atomic_store_n(&shared->state, READY, __ATOMIC_RELEASE);
    while (waitpid(traced, &status, __WALL) == traced && WIFSTOPPED(status)) {
        int signal = WSTOPSIG(status);

        if (signal == SIGTRAP && __atomic_load_n(&shared->state, __ATOMIC_ACQUIRE) == ENDED) {
            ptrace(PTRACE_DETACH, traced, NULL, NULL);
            return;
        }
        if (signal == SIGTRAP && !turn())
            return;
        ptrace(PTRACE_CONT, traced, NULL, (void *)(intptr_t)(signal == SIGTRAP ? 0 : signal));
    }
}

bool steps_open(struct steps *s, void *const apart[STEPS_APART], const char **why)
{
    *why = "there is no memory";
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                  -1, 0);
    if (shared == MAP_FAILED)
        return false;
    memcpy(shared->apart, apart, sizeof(shared->apart));
    s->shared = shared;
    *why = "no process can be started";
    s->pid = fork();
    if (s->pid < 0)
        return false;
    if (!s->pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        trace();
        _exit(0);
    }
    prctl(PR_SET_PTRACER, s->pid, 0, 0, 0);
    while (__atomic_load_n(&shared->state, __ATOMIC_ACQUIRE) == STARTING)
        usleep(1000);
    *why = "a process may not trace another one here";
    return __atomic_load_n(&shared->state, __ATOMIC_ACQUIRE) == READY;
}

int steps_close(struct steps *s, struct steps_turn *out)
{
    unsigned n;

    __atomic_store_n(&shared->state, ENDED, __ATOMIC_RELEASE);
    steps_begin();
    if (waitpid(s->pid, NULL, 0) != s->pid)
        return -1;
    n = shared->n;
    memcpy(out, shared->turn, n * sizeof(*out));
    munmap(shared, sizeof(*shared));
    return (int)n;
}

#else

void steps_begin(void) {}
void steps_end(void) {}

bool steps_open(struct steps *s, void *const apart[STEPS_APART], const char **why)
{
    (void)s;
    (void)apart;
    *why = "what is counted are instructions of x86_64, and no sanitizer's";
    return false;
}

int steps_close(struct steps *s, struct steps_turn *out)
{
    (void)s;
    (void)out;
    return -1;
}

#endif
