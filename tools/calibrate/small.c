/* SPDX-License-Identifier: BSD-3-Clause */
/* small.c - a cache line from core to core, a wake-up, a mapping. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "calibrate.h"
#include "pinwheel/clock.h"

enum { TURNS = 2000, WAKES = 40, MAPS = 20, PAGE_2M = 2 << 20 };

/* One line, which both write in turn; and what a woken one tells. */
struct word {
    uint32_t turn;
    char pad[60];
    uint32_t asleep;
    uint64_t woken_ns;
};

static struct word *word_open(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void word_close(struct word *w) { munmap(w, 4096); }

/* ---- a line ---- */

static void wait_turn(struct word *w, uint32_t turn)
{
    while (__atomic_load_n(&w->turn, __ATOMIC_ACQUIRE) != turn)
        ;
}

static void answer(void *arg)
{
    struct word *w = arg;

    for (uint32_t i = 0; i < TURNS; i++) {
        wait_turn(w, 2 * i + 1);
        __atomic_store_n(&w->turn, 2 * i + 2, __ATOMIC_RELEASE);
    }
}

/* Half a round trip; 0: the partner could not be had on that CPU. */
static uint64_t line(int a, int b)
{
    struct word *w = word_open();
    uint64_t start = 0, end = 0;
    pid_t pid = -1;

    if (w && calib_bind(a))
        pid = calib_partner(b, answer, w);
    for (uint32_t i = 0; pid > 0 && i < TURNS; i++) {
        if (i == TURNS / 10)
            start = pw_now_ns();
        __atomic_store_n(&w->turn, 2 * i + 1, __ATOMIC_RELEASE);
        wait_turn(w, 2 * i + 2);
    }
    end = pw_now_ns();
    if (pid > 0 && !calib_partner_end(pid))
        pid = -1;
    if (w)
        word_close(w);
    return pid > 0 ? (end - start) / (2 * (TURNS - TURNS / 10)) + 1 : 0;
}

int calib_pairs(const int *cpus, int n, uint64_t budget_ns, struct pw_calibration *c)
{
    uint64_t start = pw_now_ns();

    c->n_pairs = 0;
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++) {
            uint64_t ns;

            if (c->n_pairs == PW_CALIB_PAIRS ||
                (c->n_pairs && pw_now_ns() - start >= budget_ns))
                return 0;
            ns = line(cpus[i], cpus[j]);
            if (!ns)
                return calib_fail(-EIO, "CPUs %d and %d cannot be used", cpus[i], cpus[j]);
            c->pairs[c->n_pairs++] = (struct pw_calib_pair){ (uint64_t)cpus[i],
                                                              (uint64_t)cpus[j], ns };
        }
    return 0;
}

/* ---- a wake-up ---- */

static long futex(uint32_t *at, int op, uint32_t value)
{
    return syscall(SYS_futex, at, op, value, NULL, NULL, 0);
}

static void sleep_and_tell(void *arg)
{
    struct word *w = arg;

    for (uint32_t i = 0; i < WAKES; i++) {
        __atomic_store_n(&w->asleep, i + 1, __ATOMIC_RELEASE);
        while (__atomic_load_n(&w->turn, __ATOMIC_ACQUIRE) == i)
            futex(&w->turn, FUTEX_WAIT, i);
        __atomic_store_n(&w->woken_ns, pw_now_ns(), __ATOMIC_RELEASE);
    }
}

int calib_wake(int here, int there, struct pw_calibration *c)
{
    struct pw_samples s = { .n = 0 };
    struct word *w = word_open();
    pid_t pid = -1;

    if (w && calib_bind(here))
        pid = calib_partner(there, sleep_and_tell, w);
    if (pid < 0)
        return calib_fail(-errno, "CPUs %d and %d cannot be used: %s", here, there,
                          strerror(errno));
    for (uint32_t i = 0; i < WAKES; i++) {
        uint64_t woken, start;

        while (__atomic_load_n(&w->asleep, __ATOMIC_ACQUIRE) != i + 1)
            ;
        usleep(200);            /* it is deep asleep by then */
        __atomic_store_n(&w->woken_ns, 0, __ATOMIC_RELAXED);
        start = pw_now_ns();
        __atomic_store_n(&w->turn, i + 1, __ATOMIC_RELEASE);
        futex(&w->turn, FUTEX_WAKE, 1);
        while (!(woken = __atomic_load_n(&w->woken_ns, __ATOMIC_ACQUIRE)))
            ;
        pw_samples_add(&s, woken > start ? woken - start : 1);
    }
    c->wake = pw_samples_typical(&s);
    if (!calib_partner_end(pid))
        return calib_fail(-EIO, "the process on CPU %d did not end well", there);
    word_close(w);
    return 0;
}

/* ---- a mapping ---- */

int calib_map(struct pw_calibration *c)
{
    struct pw_samples map = { .n = 0 }, touch = { .n = 0 };
    int err = 0;

    for (int i = 0; i < MAPS && !err; i++) {
        int fd = memfd_create("pinwheel-calibrate", MFD_CLOEXEC);
        uint64_t start = pw_now_ns(), mapped;
        char *p;

        if (fd < 0 || ftruncate(fd, PAGE_2M))
            err = errno;
        p = err ? MAP_FAILED
                : mmap(NULL, PAGE_2M, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        mapped = pw_now_ns();
        if (p != MAP_FAILED) {
            for (size_t at = 0; at < PAGE_2M; at += 4096)
                *(volatile char *)(p + at) = 1;
            pw_samples_add(&touch, pw_now_ns() - mapped);
            pw_samples_add(&map, mapped - start);
            munmap(p, PAGE_2M);
        } else if (!err) {
            err = errno;
        }
        if (fd >= 0)
            close(fd);
    }
    c->map = pw_samples_typical(&map);
    c->touch = pw_samples_typical(&touch);
    return err ? calib_fail(-err, "2 MiB of shared memory: %s", strerror(err)) : 0;
}
