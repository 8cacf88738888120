/* SPDX-License-Identifier: BSD-3-Clause */
/* trap.c - threads and signal handlers that change memory while any allocation or
 * lock inside of a hook ends the program.
 *
 *     trap_hooks          exit status 0: nothing was caught, and all was heard
 *     trap_hooks malloc   allocate inside of a hook: it must be caught
 *     trap_hooks lock     lock a mutex there: it must be caught
 *
 * The hooks tell a witness when a thread enters and leaves one; it counts per
 * thread. The functions that allocate and lock are defined here, in front of those
 * of whatever allocator is preloaded, which they go on to.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "regcache/hooks.h"
#include "regcache/hooks_entry.h"
#include "regcache/raw.h"

enum { THREADS = 3, ROUNDS = 4000, SIGNAL_US = 300, FORKS = 20, CAUGHT = 3 };
#define PAGE ((size_t)4096)
#define MIB ((size_t)1 << 20)

static __thread int depth __attribute__((tls_model("initial-exec")));
static __thread bool provoking __attribute__((tls_model("initial-exec")));

static void caught(const char *what)
{
    static const char where[] = "# inside of a hook: ";

    (void)!write(2, where, sizeof where - 1);
    (void)!write(2, what, strlen(what));
    (void)!write(2, "\n", 1);
    _exit(CAUGHT);
}

static void *next(const char *name, void **kept)
{
    if (!*kept)
        *kept = dlsym(RTLD_NEXT, name);
    return *kept;
}

/* ---- what must not be called inside of a hook ---- */

#define FORWARD(type, name, parameters, arguments)                  \
    type name parameters                                            \
    {                                                               \
        static void *kept;                                          \
        type (*f) parameters;                                       \
                                                                    \
        if (depth > 0)                                              \
            caught(#name);                                          \
        f = (__extension__ (type (*) parameters)next(#name, &kept)); \
        return f arguments;                                         \
    }

/* dlsym() may allocate before calloc is known. */
static char early[4096];
static size_t early_used;

void *calloc(size_t n, size_t size)
{
    static void *kept;
    static __thread bool looking __attribute__((tls_model("initial-exec")));
    void *(*f)(size_t, size_t);

    if (depth > 0)
        caught("calloc");
    if (looking) {
        early_used += (n * size + 15) & ~(size_t)15;
        return early_used <= sizeof early ? early + early_used - ((n * size + 15) & ~(size_t)15)
                                          : NULL;
    }
    looking = true;
    f = (__extension__ (void *(*)(size_t, size_t))next("calloc", &kept));
    looking = false;
    return f(n, size);
}

void free(void *p)
{
    static void *kept;
    void (*f)(void *);

    if (depth > 0)
        caught("free");
    if ((char *)p >= early && (char *)p < early + sizeof early)
        return;
    f = (__extension__ (void (*)(void *))next("free", &kept));
    f(p);
}

FORWARD(void *, malloc, (size_t size), (size))
FORWARD(void *, realloc, (void *p, size_t size), (p, size))
FORWARD(void *, memalign, (size_t align, size_t size), (align, size))
FORWARD(void *, aligned_alloc, (size_t align, size_t size), (align, size))
FORWARD(int, posix_memalign, (void **out, size_t align, size_t size), (out, align, size))
FORWARD(int, pthread_mutex_lock, (pthread_mutex_t *m), (m))
FORWARD(int, pthread_mutex_trylock, (pthread_mutex_t *m), (m))
FORWARD(int, pthread_rwlock_rdlock, (pthread_rwlock_t *l), (l))
FORWARD(int, pthread_rwlock_wrlock, (pthread_rwlock_t *l), (l))
FORWARD(int, pthread_spin_lock, (pthread_spinlock_t *l), (l))
FORWARD(int, pthread_cond_wait, (pthread_cond_t *c, pthread_mutex_t *m), (c, m))
FORWARD(int, sem_wait, (sem_t *s), (s))

/* ---- the witness ---- */

static const char *provoke = "";
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static void *volatile leaked;
static uint64_t hooks_seen;

static void witness(int step)
{
    depth += step;
    if (step < 0)
        return;
    __atomic_add_fetch(&hooks_seen, 1, __ATOMIC_RELAXED);
    if (!provoking)
        return;
    if (!strcmp(provoke, "malloc"))
        leaked = malloc(1);
    if (!strcmp(provoke, "lock"))
        pthread_mutex_lock(&mutex);
}

/* ---- what goes on ---- */

static struct pw_monitor *monitor;
static uint64_t missed;     /* calls after which the word had not moved */
static int stop;

static void unmap(void *p, size_t len)
{
    uint64_t before = __atomic_load_n(monitor->word, __ATOMIC_ACQUIRE);

    if (munmap(p, len) || __atomic_load_n(monitor->word, __ATOMIC_ACQUIRE) == before)
        __atomic_add_fetch(&missed, 1, __ATOMIC_RELAXED);
}

static void *map(size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        abort();
    *(volatile char *)p = 1;
    return p;
}

static void change_pages(void)
{
    char *p = map(8 * PAGE);

    madvise(p, PAGE, MADV_DONTNEED);
    mprotect(p, PAGE, PROT_NONE);
    mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mremap(p + 4 * PAGE, 4 * PAGE, 2 * PAGE, 0);
    unmap(p, 6 * PAGE);
}

/* Also while the thread is in malloc, or in a hook. */
static void handler(int sig)
{
    int before = errno;

    (void)sig;
    change_pages();
    errno = before;
}

static void allocate(unsigned *seed)
{
    void *blocks[16];

    for (int i = 0; i < 16; i++) {
        size_t size = (size_t)rand_r(seed) % (i % 4 ? 4 * PAGE : MIB);

        blocks[i] = i % 5 ? malloc(size) : calloc(1, size);
        if (i % 3 == 0)
            blocks[i] = realloc(blocks[i], 2 * size + 1);
        if (blocks[i])
            memset(blocks[i], 1, size < PAGE ? size : PAGE);
    }
    for (int i = 0; i < 16; i++)
        free(blocks[i]);
}

static void *churn(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;

    for (int i = 0; i < ROUNDS && !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        change_pages();
        if (i % 8 == 0)
            allocate(&seed);
    }
    return NULL;
}

static int child(void)
{
    unsigned seed = 1;

    change_pages();
    allocate(&seed);
    return missed != 0;
}

static int fork_now_and_then(void)
{
    int status, bad = 0;

    for (int i = 0; i < FORKS; i++) {
        pid_t pid = fork();

        if (!pid)
            _exit(child());
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
            bad++;
    }
    return bad;
}

static void listen_meanwhile(void)
{
    struct pw_change c[64];
    struct pw_watch w;
    char *p = map(PAGE);
    struct pw_range r = { (uintptr_t)p, (uintptr_t)p + PAGE };
    uint64_t upto;

    for (int i = 0; i < 2000; i++) {
        if (!monitor->ops->watch(monitor, r, &w))
            monitor->ops->fresh(monitor, r, &w);
        while (monitor->ops->changes(monitor, c, 64, &upto) == 64)
            ;
    }
}

static void open_monitor(void)
{
    char why[PW_MONITOR_WHY_MAX];

    if (!pw_hooks_monitor.open(&monitor, why))
        return;
    fprintf(stderr, "# no hooks: %s\n", why);
    exit(77);
}

int main(int argc, char **argv)
{
    struct itimerval tick = { { 0, SIGNAL_US }, { 0, SIGNAL_US } };
    struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_RESTART };
    pthread_t threads[THREADS];
    int bad;

    open_monitor();
    __atomic_store_n(&pw_hooks.witness, witness, __ATOMIC_RELAXED);
    if (argc > 1) {
        provoke = argv[1];
        provoking = true;
        change_pages();
        return 1;
    }
    sigaction(SIGPROF, &sa, NULL);
    setitimer(ITIMER_PROF, &tick, NULL);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, churn, (void *)(i + 1));
    listen_meanwhile();
    bad = fork_now_and_then();
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    memset(&tick, 0, sizeof tick);
    setitimer(ITIMER_PROF, &tick, NULL);
    printf("# %llu hooks, %llu calls not heard, %d children failed\n",
           (unsigned long long)hooks_seen, (unsigned long long)missed, bad);
    return missed || bad || hooks_seen < (uint64_t)THREADS * ROUNDS;
}
