/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_monitor.c - see fake_monitor.h. Changes are kept in a ring; one who fell
 * behind by more than it holds is told that everything is lost. */
#include <errno.h>
#include <string.h>

#include "fake_monitor.h"

static struct fake_monitor *fake(struct pw_monitor *m)
{
    return (struct fake_monitor *)(void *)m;
}

static int fake_open(struct pw_monitor **out, char why[PW_MONITOR_WHY_MAX])
{
    (void)out;
    (void)why;
    return -ENODEV;
}

static void fake_close(struct pw_monitor *m)
{
    (void)m;
}

static int fake_watch(struct pw_monitor *super, struct pw_range r, struct pw_watch *w)
{
    struct fake_monitor *m = fake(super);
    int err = 0;

    pthread_mutex_lock(&m->lock);
    if (m->watch_errors) {
        m->watch_errors--;
        err = m->watch_error;
    } else if (m->watch_most && r.end - r.start > m->watch_most) {
        err = -EOPNOTSUPP;
    } else {
        w->since = m->word;
        m->watches++;
    }
    pthread_mutex_unlock(&m->lock);
    return err;
}

static void fake_unwatch(struct pw_monitor *super, struct pw_range r, struct pw_watch *w)
{
    (void)r;
    (void)w;
    __atomic_add_fetch(&fake(super)->unwatches, 1, __ATOMIC_RELAXED);
}

static bool overlap(struct pw_range a, struct pw_range b)
{
    return a.start < b.end && b.start < a.end;
}

static int fake_fresh(struct pw_monitor *super, struct pw_range r,
                      const struct pw_watch *w)
{
    struct fake_monitor *m = fake(super);
    int fresh;

    pthread_mutex_lock(&m->lock);
    fresh = m->word - w->since <= FAKE_CHANGES;
    for (uint64_t i = w->since; fresh && i < m->word; i++)
        fresh = !overlap(m->change[i % FAKE_CHANGES].range, r);
    pthread_mutex_unlock(&m->lock);
    return fresh;
}

static int fake_changes(struct pw_monitor *super, struct pw_change *out, int n,
                        uint64_t *upto)
{
    struct fake_monitor *m = fake(super);
    bool silent;
    int k = 0;

    pthread_mutex_lock(&m->lock);
    m->asked++;
    if (m->word - m->told > FAKE_CHANGES) {
        out[k++] = (struct pw_change){ { 0, UINTPTR_MAX }, PW_EV_LOST };
        m->told = m->word;
    }
    silent = m->speechless || (m->hesitates && m->told < m->word && m->hesitates--);
    while (!silent && k < n && m->told < m->word)
        out[k++] = m->change[m->told++ % FAKE_CHANGES];
    *upto = m->told;
    pthread_mutex_unlock(&m->lock);
    return k;
}

static const struct pw_monitor_ops fake_ops = {
    .name = "fake",
    .what = "changes when a test says so",
    .open = fake_open,
    .close = fake_close,
    .watch = fake_watch,
    .unwatch = fake_unwatch,
    .fresh = fake_fresh,
    .changes = fake_changes,
};

void fake_monitor_init(struct fake_monitor *m)
{
    pthread_mutexattr_t shared;

    memset(m, 0, sizeof(*m));
    m->super.ops = &fake_ops;
    m->super.word = &m->word;
    m->super.sees = PW_EV_ALL;
    pthread_mutexattr_init(&shared);
    pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&m->lock, &shared);
}

void fake_monitor_tell(struct fake_monitor *m, struct pw_change change)
{
    pthread_mutex_lock(&m->lock);
    m->change[m->word % FAKE_CHANGES] = change;
    __atomic_store_n(&m->word, m->word + 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&m->lock);
}

void fake_monitor_change(struct fake_monitor *m, void *addr, size_t len)
{
    uintptr_t start = (uintptr_t)addr;

    fake_monitor_tell(m, (struct pw_change){ { start, start + len }, PW_EV_UNMAP });
}
