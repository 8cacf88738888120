/* SPDX-License-Identifier: BSD-3-Clause */
/* subjects.c - see subjects.h. */
#include "subjects.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/fake_share.h"

static void fake_prepare(const struct subject *subject)
{
    fake_nic_reset();
    *fake_nic_traits(subject->ops) = *(const struct fake_nic_traits *)subject->arg;
}

struct fake_nic_traits traits_plain(void)
{
    fake_nic_reset();
    return *fake_nic_traits(&fake_nic_ops);
}

struct subject subject_fake(const char *name, const struct fake_nic_traits *traits)
{
    return (struct subject){
        .name = name, .ops = &fake_nic_ops, .one_process = true,
        .slow = traits->pending, .prepare = fake_prepare, .die = fake_nic_die,
        .arg = traits,
    };
}

enum { FAKES = 4 };

static struct fake_nic_traits traits[FAKES];

static void fakes_make(struct subject *out)
{
    for (int i = 0; i < FAKES; i++)
        traits[i] = traits_plain();
    traits[1].other_reach = PW_REACH_KERNEL;
    traits[2].flags = PW_NIC_LOSSLESS | PW_NIC_SAME_HOST;
    traits[2].pool_reach = traits[2].other_reach = PW_REACH_NONE;
    traits[3].pending = true;
    out[0] = subject_fake("fake", &traits[0]);
    out[1] = subject_fake("fake-kernel", &traits[1]);
    out[2] = subject_fake("fake-frames", &traits[2]);
    out[3] = subject_fake("fake-pending", &traits[3]);
}

enum { BACKENDS_MAX = 16 };

/* Where the driver is, or a fake of it: peers map what is pinned. */
static void attach_prepare(const struct subject *subject)
{
    (void)subject;
    fake_share_install();
}

/* Of libfabric's providers, this one. */
static void ofi_prepare(const struct subject *subject)
{
    setenv("FI_PROVIDER", subject->arg, 1);
}

static unsigned ofi_make(struct subject *out, const struct pw_nic_ops *ops)
{
    static const struct {
        const char *name, *provider;
    } providers[] = { { "ofi", "tcp;ofi_rxm" }, { "ofi-net", "net" } };
    unsigned n = sizeof providers / sizeof *providers;

    for (unsigned i = 0; i < n; i++)
        out[i] = (struct subject){ .name = providers[i].name, .ops = ops, .device = "lo",
                                   .prepare = ofi_prepare, .arg = providers[i].provider };
    return n;
}

/* Each backend as it is, networks by the loopback; others once more where peers are not
 * trusted. */
static unsigned backends_make(struct subject *out)
{
    static char names[BACKENDS_MAX][32];
    unsigned n = 0;

    for (unsigned i = 0; pw_nic_backends[i] && i < BACKENDS_MAX; i++) {
        const struct pw_nic_ops *ops = pw_nic_backends[i];

        const char *device = ops->devices ? "lo" : NULL;

        if (!strcmp(ops->name, "ofi")) {
            n += ofi_make(out + n, ops);
            continue;
        }
        out[n++] = (struct subject){ .name = ops->name, .ops = ops, .device = device };
        if (device)
            continue;   /* what comes by a wire is copied anyway */
        snprintf(names[i], sizeof names[i], "%s-copy", ops->name);
        out[n++] = (struct subject){ .name = names[i], .ops = ops, .distrust = true };
        if (!strcmp(ops->name, "shm"))
            out[n++] = (struct subject){ .name = "shm-attach", .ops = ops,
                                         .prepare = attach_prepare };
    }
    return n;
}

struct subject *subjects_all(void)
{
    struct subject *out = calloc(2 * BACKENDS_MAX + 1 + FAKES + 1, sizeof *out);

    if (out)
        fakes_make(out + backends_make(out));
    return out;
}

const struct nic_case *const all_cases[] = {
    setup_cases, address_cases, frame_cases, pressure_cases, memory_cases,
    atomic_cases, crowd_cases, sixteen_cases, wait_cases, leave_cases,
    caller_cases, answer_cases, NULL
};
