/* SPDX-License-Identifier: BSD-3-Clause */
/* misbehave.c - a NIC library that prints when it is loaded, has a strange
 * version, and under the name of libibverbs crashes. For the tests of pwinfo. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT const char *ucp_get_version_string(void);

const char *ucp_get_version_string(void)
{
    return "7.\xff\"\n";
}

__attribute__((constructor))
static void loaded(void)
{
    Dl_info me;

    puts("a library says hello");
    fflush(stdout);
    if (dladdr((void *)loaded, &me) && strstr(me.dli_fname, "libibverbs"))
        abort();
}
