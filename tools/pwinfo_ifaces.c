/* SPDX-License-Identifier: BSD-3-Clause */
/* pwinfo_ifaces.c - the network interfaces, and which of them a job would use: asked of the
 * backends and decided by the code that a job has (btl/core/select.h). */
#include "pwinfo.h"

#include <stdlib.h>
#include <string.h>

#include "btl/core/engine.h"

static const char *told(const char *option, const char *variable)
{
    const char *value = option ? option : getenv(variable);

    return value ? value : "";
}

static struct pw_wish wish(const struct pw_facts *f)
{
    return (struct pw_wish){ .nics = f->nics_wish, .include = f->if_include,
                             .exclude = f->if_exclude };
}

/* What the environment sets of them; pwinfo changes nothing else. */
static int backend_set(const struct pw_nic_ops *ops, char why[PW_NIC_WHY_MAX])
{
    const struct pw_nic_setting *s = ops->settings;
    int err = 0;

    for (; s && s->name && !err; s++) {
        char name[96];
        const char *text;

        snprintf(name, sizeof(name), "OMPI_MCA_btl_pinwheel_%s_%s", ops->name, s->name);
        text = getenv(name);
        err = text ? ops->set(s, text, why) : 0;
    }
    return err;
}

int pw_facts_wish(struct pw_facts *f, const char *include, const char *exclude,
                  char why[PW_NIC_WHY_MAX])
{
    struct pw_wish w;
    int err = 0;

    memset(f, 0, sizeof(*f));
    f->nics_wish = told(NULL, "OMPI_MCA_btl_pinwheel_nics");
    f->if_include = told(include, "OMPI_MCA_btl_pinwheel_if_include");
    f->if_exclude = told(exclude, "OMPI_MCA_btl_pinwheel_if_exclude");
    for (int i = 0; pw_nic_backends[i] && !err; i++)
        err = backend_set(pw_nic_backends[i], why);
    w = wish(f);
    return err ? err : pw_wish_check(&w, pw_nic_backends, why);
}

static void judge(struct pw_fact_interface *n, const struct pw_facts *f)
{
    const char *why = n->it.why[0] ? n->it.why : f->nics_wish[0] ?
                      "no backend that btl_pinwheel_nics names drives it" :
                      "no backend of this build drives it";

    for (int i = 0; i < f->n_candidates; i++) {
        const struct pw_candidate *c = &f->candidates[i];

        if (!c->has_device || strcmp(c->device.name, n->it.name))
            continue;
        if (c->chosen) {
            size_t at = strlen(n->by);
            snprintf(n->by + at, sizeof(n->by) - at, "%s%s", at ? ", " : "", c->ops->name);
        } else {
            why = c->why;
        }
    }
    if (n->by[0])
        pw_verdict_yes(&n->used, "");
    else
        pw_verdict_no(&n->used, "%s", why);
}

void pw_facts_interfaces(struct pw_facts *f)
{
    static struct pw_iface all[PW_DEVICES_MAX];
    struct pw_wish w = wish(f);
    int n = pw_ifaces_list(all, PW_DEVICES_MAX);

    f->n_candidates = pw_candidates(pw_nic_backends, f->nics_wish, f->candidates,
                                    PW_CANDIDATES);
    pw_select(&w, f->candidates, f->n_candidates, PW_KEY_NICS);
    f->interfaces_error = n < 0 ? n : 0;
    f->all_interfaces = n < 0 ? 0 : n;
    f->n_interfaces = n < 0 ? 0 : n > PW_DEVICES_MAX ? PW_DEVICES_MAX : n;
    for (int i = 0; i < f->n_interfaces; i++) {
        f->interfaces[i].it = all[i];
        judge(&f->interfaces[i], f);
    }
}
