/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_library.c - see rdm_library.h. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "rdm_library.h"

void rdm_library_use(struct rdm_library *library, const char *file)
{
    pthread_mutex_lock(&library->lock);
    library->use = file;
    library->handle = NULL;
    pthread_mutex_unlock(&library->lock);
}

/* The first that is missing, NULL: none. */
static const char *symbols_read(const struct rdm_library *library, void *handle)
{
    for (const struct rdm_symbol *s = library->symbols; s->name; s++) {
        void *symbol = dlsym(handle, s->name);

        if (!symbol)
            return s->name;
        memcpy((char *)library->functions + s->at, &symbol, sizeof(symbol));
    }
    return NULL;
}

static bool library_open(struct rdm_library *library, char why[PW_NIC_WHY_MAX])
{
    const char *file = library->use ? library->use : library->file, *missing;
    void *handle;

    library->prepare();
    handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (library->settle)
        library->settle();
    if (!handle) {
        snprintf(why, PW_NIC_WHY_MAX, "%s cannot be loaded, which Debian has in %s: %.150s",
                 library->name, library->package, dlerror());
        return false;
    }
    missing = symbols_read(library, handle);
    if (missing) {
        snprintf(why, PW_NIC_WHY_MAX, "%s is no %s: it has no %s", file, library->name,
                 missing);
        dlclose(handle);
        return false;
    }
    library->handle = handle;
    return true;
}

void *rdm_library_load(struct rdm_library *library, char why[PW_NIC_WHY_MAX])
{
    bool there;

    pthread_mutex_lock(&library->lock);
    there = library->handle || library_open(library, why);
    pthread_mutex_unlock(&library->lock);
    return there ? library->functions : NULL;
}
