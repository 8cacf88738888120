/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_process.c - forks, threads that come and go, objects loaded and unloaded.
 *
 * A child is a torn picture of what the other threads were at: it uses only the
 * slot that its forker had for itself, and takes no lock of ours.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cache/fuzz.h"

enum { CHILD_SECONDS = 150, STACK = 256 << 10, ON_STACK = 64 << 10 };

/* For the core to show where it stands. */
static void hung(int number)
{
    (void)number;
    static const char text[] = "a forked child hangs\n";
    ssize_t n = write(2, text, sizeof text - 1);
    (void)n;
    abort();
}

static pid_t start_child(struct worker *w, enum op op, const struct slot *own)
{
    pid_t pid = fork();
    if (pid < 0)
        trouble(w, "fork");
    if (pid == 0) {
        w->child = true;
        signal(SIGALRM, hung);
        alarm(CHILD_SECONDS);
    } else {
        note(w, op, own->addr, own->addr ? own->len : 0, pid, 0);
    }
    return pid;
}

static void child_ended(struct worker *w, int status)
{
    if (status == 0)
        return;
    if (WIFEXITED(status)) {
        fprintf(stderr, "thread %u, step %llu: a forked child failed with %d\n", w->id,
                (unsigned long long)w->step, WEXITSTATUS(status));
        _exit(WEXITSTATUS(status));
    }
    mismatch(w, NULL, "a forked child was ended by signal %d", WTERMSIG(status));
}

static void wait_for(struct worker *w, pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) != pid)
        if (errno != EINTR)
            trouble(w, "waitpid");
    child_ended(w, status);
}

void children_reap(struct worker *w, bool wait)
{
    for (int i = 0; i < CHILDREN_MAX; i++) {
        int status;
        if (!w->children[i])
            continue;
        pid_t pid = waitpid(w->children[i], &status, wait ? 0 : WNOHANG);
        if (pid == w->children[i]) {
            w->children[i] = 0;
            child_ended(w, status);
        }
    }
}

/* Leave it running, if there is room. Alone, nothing depends on how long it runs. */
static void leave_running(struct worker *w, pid_t pid)
{
    if (fuzz.n_threads > 1)
        for (int i = 0; i < CHILDREN_MAX; i++)
            if (!w->children[i]) {
                w->children[i] = pid;
                return;
            }
    wait_for(w, pid);
}

static void fork_writes(struct worker *w, struct slot *own)
{
    bool write = own->kind != NOTHING && slot_private(own);
    pid_t pid = start_child(w, write ? OP_FORK_WRITES : OP_FORK, own);
    if (pid == 0) {
        if (write)
            memset(own->addr, 0xee, own->len);
        _exit(0);
    }
    if (write && below(w, 2))
        slot_write(w, own, 0, own->len);
    /* A file is shared, however it is mapped: the child is not to write where we cut
     * it next (SIGBUS). */
    if (write && own->kind == PRIVATE_FILE)
        wait_for(w, pid);
    else
        leave_running(w, pid);
}

static void child_uses(struct worker *w, struct slot *own)
{
    /* A file is shared, however it is mapped, and the break needs a lock. */
    bool changeable = slot_private(own) && own->kind != PRIVATE_FILE && own->kind != BREAK;
    for (size_t n = 1 + below(w, 4); n > 0 && own->kind != NOTHING; n--) {
        use_out(w, own);
        if (!changeable)
            break;
        use_in(w, own);
        slot_change(w, own);
        if (own->kind == NOTHING)
            break;
        use_look(w, own);
        use_in(w, own);
        slot_agrees(w, own);
    }
    _exit(0);
}

static void fork_uses(struct worker *w, struct slot *own)
{
    if (own->kind == NOTHING)
        return;
    pid_t pid = start_child(w, OP_FORK_USES, own);
    if (pid == 0)
        child_uses(w, own);
    wait_for(w, pid);
}

static void spawn(struct worker *w)
{
    char *argv[] = { "true", NULL }, *env[] = { NULL };
    pid_t pid;
    if (posix_spawnp(&pid, "true", NULL, NULL, argv, env))
        return;
    w->counts[OP_SPAWN]++;
    wait_for(w, pid);
}

/* A thread with a buffer on its stack, which the next one will have too. */
static void *short_life(void *arg)
{
    unsigned char buffer[ON_STACK];
    use_memory(arg, buffer, sizeof buffer);
    return NULL;
}

static void short_thread(struct worker *w)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK);
    int err = pthread_create(&thread, &attr, short_life, w);
    pthread_attr_destroy(&attr);
    if (err)
        return;
    pthread_join(thread, NULL);
    w->counts[OP_THREAD]++;
}

void *load_object(const char *file)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n < 0)
        return NULL;
    path[n] = 0;
    char *end = strrchr(path, '/') + 1;
    snprintf(end, sizeof path - (size_t)(end - path), ".libs/%s", file);
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static void object(struct worker *w)
{
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    if (pthread_mutex_trylock(&one))
        return;
    void *handle = load_object("stale_bss.so");
    unsigned char *bss = handle ? dlsym(handle, "stale_bss") : NULL;
    if (!bss)
        trouble(w, "dlopen of stale_bss.so");
    use_memory(w, bss, ON_STACK);
    dlclose(handle);
    w->counts[OP_OBJECT]++;
    pthread_mutex_unlock(&one);
}

void process_step(struct worker *w, struct slot *own)
{
    static const enum op steps[] = {
        OP_FORK_WRITES, OP_FORK_WRITES, OP_FORK_WRITES, OP_FORK_USES, OP_FORK_USES,
        OP_THREAD, OP_THREAD, OP_THREAD, OP_THREAD, OP_MALLOC_TRIM, OP_MALLOC_TRIM,
        OP_OBJECT, OP_SPAWN,
    };
    children_reap(w, false);
    switch (steps[below(w, sizeof steps / sizeof steps[0])]) {
    case OP_FORK_WRITES: fork_writes(w, own); break;
    case OP_FORK_USES: fork_uses(w, own); break;
    case OP_THREAD: short_thread(w); break;
    case OP_OBJECT: object(w); break;
    case OP_SPAWN: spawn(w); break;
    default:
        brk_take();
        malloc_trim(0);
        brk_leave();
        w->counts[OP_MALLOC_TRIM]++;
        break;
    }
}
