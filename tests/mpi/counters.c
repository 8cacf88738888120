/* SPDX-License-Identifier: BSD-3-Clause */
/* counters.c - a transport's counters by name; see counters.h. */
#include "counters.h"

#include <string.h>

#include "story.h"

enum { TEXT = 256 };

struct info {
    char name[TEXT], what[TEXT];
    int class, readonly, continuous;
    MPI_Datatype type;
};

static void tools_open(void)
{
    static bool open;
    int level;

    if (!open)
        MPI_T_init_thread(MPI_THREAD_SINGLE, &level);
    open = true;
}

static bool info_get(int i, struct info *v)
{
    int name = TEXT, what = TEXT, verbosity, bind, atomic;
    MPI_T_enum values;

    return MPI_T_pvar_get_info(i, v->name, &name, &verbosity, &v->class, &v->type, &values,
                               v->what, &what, &bind, &v->readonly, &v->continuous,
                               &atomic) == MPI_SUCCESS;
}

int counters_named(const char *prefix)
{
    int all = 0, n = 0;
    struct info v;

    tools_open();
    MPI_T_pvar_get_num(&all);
    for (int i = 0; i < all; i++)
        if (info_get(i, &v) && !strncmp(v.name, prefix, strlen(prefix))) {
            expect(strlen(v.what) > 5, "%s has no description", v.name);
            expect(v.class == MPI_T_PVAR_CLASS_COUNTER || v.class == MPI_T_PVAR_CLASS_LEVEL,
                   "%s is of class %d", v.name, v.class);
            expect(v.type == MPI_UNSIGNED_LONG_LONG, "%s is of another type", v.name);
            expect(v.continuous && v.readonly, "%s is to be started or written", v.name);
            n++;
        }
    return n;
}

/* Counters count from when their handle was made, levels do not (MPI 3.1, 14.3.7);
 * so handles are kept. */
static unsigned long long read_at(int i, const char *name)
{
    static struct { char name[TEXT]; MPI_T_pvar_handle handle; } known[64];
    static MPI_T_pvar_session session;
    unsigned long long value = 0;
    int k = 0, count = 0;

    while (k < 64 && known[k].name[0] && strcmp(known[k].name, name))
        k++;
    if (!session)
        MPI_T_pvar_session_create(&session);
    if (!known[k].name[0]) {
        expect(MPI_T_pvar_handle_alloc(session, i, NULL, &known[k].handle, &count) ==
               MPI_SUCCESS && count == 1, "%s has no handle", name);
        strcpy(known[k].name, name);
    }
    expect(MPI_T_pvar_read(session, known[k].handle, &value) == MPI_SUCCESS,
           "%s cannot be read", name);
    return value;
}

unsigned long long counter(const char *name)
{
    int all = 0;
    struct info v;

    tools_open();
    MPI_T_pvar_get_num(&all);
    for (int i = 0; i < all; i++)
        if (info_get(i, &v) && !strcmp(v.name, name))
            return read_at(i, name);
    story_fail(__FILE__, __LINE__, "a counter", "there is no %s", name);
    return 0;
}
