/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_objects.c - one loaded object: which of its calls are patched, who passes by.
 *
 * Start at pw_objects_look(), then visit(). In the C library, in the dynamic linker,
 * and in a few libraries that are known to make such calls themselves, the calls are
 * patched. Any other object that makes one blinds us: then nothing is vouched for any
 * more. The same holds for code that is made at run time.
 */
#include "hooks_objects.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "fnv.h"
#include "hooks_entry.h"
#include "hooks_install.h"
#include "hooks_sites.h"
#include "hooks_verdict.h"
#include "raw.h"
#include "scan.h"

enum { OBJECTS = 512 };

/* Their own calls are patched, like the C library's: names begin so. */
static const char *const patched_objects[] = {
    "libucm.so",        /* brk, in its replacement of brk and sbrk */
    "libasan.so", "libtsan.so", "liblsan.so", "libubsan.so", "libhwasan.so",
    "libtcmalloc", "libjemalloc", NULL
};

/* Their calls whose number cannot be told are known, and harmless: futex. */
static const char *const known_objects[] = { "libgomp.so", NULL };

static struct {
    struct known {
        uintptr_t base;
        uint64_t print;
    } known[OBJECTS];                   /* objects that were looked through */
    unsigned n_known;
    uintptr_t loaded;                   /* the function that the dynamic linker calls
                                         * when it has loaded or unloaded, or 0 */
    bool told;                          /* that one is hooked */
} state;

/* ---- its calls ---- */

struct object {
    const char *name;           /* without its folder */
    bool patch;
    bool loader;
    bool known;                 /* what it calls by numbers that cannot be told */
    struct pw_text text;
};

static const char *number_name(int nr)
{
    switch (nr) {
    case SYS_munmap:            return "munmap";
    case SYS_mmap:              return "mmap";
    case SYS_mremap:            return "mremap";
    case SYS_madvise:           return "madvise";
    case SYS_process_madvise:   return "process_madvise";
    case SYS_brk:               return "brk";
    case SYS_shmat:             return "shmat";
    case SYS_io_uring_setup:    return "io_uring_setup";
    }
    return "a system call";
}

static bool of_interest(int nr)
{
    for (int i = 0; pw_effect_numbers[i]; i++)
        if (pw_effect_numbers[i] == nr)
            return true;
    return false;
}

static void passes_by(const struct pw_raw_call *call, bool is_any, const char *who)
{
    const char *what = is_any || call->nr < 0 ? "any call" : number_name(call->nr);

    if (is_any || pw_scan_dangerous(call))
        pw_hooks_say(PW_PASSED_BY, "%s is called past the C library by %s: use the uffd "
                     "monitor", what, who);
    if (is_any || pw_scan_untold(call))
        pw_hooks_say(PW_UNTOLD, "%s is called past the C library by %s, and userfaultfd "
                     "does not tell of all that it can do", what, who);
}

static void visit(void *ctx, const struct pw_raw_call *call)
{
    const struct object *o = ctx;
    struct pw_range any = pw_functions_any();
    uintptr_t at = (uintptr_t)call->at;
    bool is_any = any.start <= at && at < any.end;
    int err = -ENOSPC;

    if (call->nr < 0 && !is_any && o->known)
        return;
    if (!is_any && !of_interest(call->nr) && !pw_scan_dangerous(call) &&
        !pw_scan_untold(call))
        return;
    /* Of the dynamic linker's calls one matters: it maps into what it has reserved,
     * protects what it has relocated, and moves no break. */
    if (o->loader && call->nr != SYS_munmap)
        return;
    if (o->patch && call->certain)
        err = pw_sites_add(&o->text, at, PW_PATCH_SYSCALL);
    if (err == -EPERM || err == -ENOMEM)
        pw_hooks_fail(err,
                      err == -EPERM ? "%s of %s may not be patched (a security module?)"
                                    : "no room near %s of %s for a patch",
                      number_name(call->nr), o->name);
    else if (err)
        passes_by(call, is_any, o->name);
}

/* ---- which one is it? ---- */

/* What tells an object from another that is loaded to its place later: its segments
 * and its notes, one of which is the linker's hash of the whole. */
static uint64_t print_of(const struct dl_phdr_info *info)
{
    uint64_t print = pw_fnv64(PW_FNV64, info->dlpi_phdr,
                              info->dlpi_phnum * sizeof *info->dlpi_phdr);

    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];

        if (p->p_type == PT_NOTE)
            print = pw_fnv64(print, (const void *)(info->dlpi_addr + p->p_vaddr),
                             p->p_memsz);
    }
    return print;
}

/* Has it been looked through? It has now. */
static bool known(const struct dl_phdr_info *info)
{
    struct known k = { info->dlpi_addr, print_of(info) };

    for (unsigned i = 0; i < state.n_known; i++)
        if (state.known[i].base == k.base && state.known[i].print == k.print)
            return true;
    if (state.n_known == OBJECTS)
        state.n_known = 0;
    state.known[state.n_known++] = k;
    return false;
}

static bool is_libc(const struct dl_phdr_info *info)
{
    return pw_object_contains(info, pw_functions_any().start);
}

static bool is_loader(const struct dl_phdr_info *info)
{
    return pw_object_contains(info, pw_hooks.loader.start);
}

static bool is_among(const char *const *names, const char *name)
{
    for (; *names; names++)
        if (!strncmp(name, *names, strlen(*names)))
            return true;
    return false;
}

static bool to_be_patched(const struct dl_phdr_info *info, const char *name)
{
    return is_libc(info) || is_loader(info) || is_among(patched_objects, name);
}

/* In the C library and its like, syscall() makes any call; the numbers of the others
 * are loaded farther from them. Our own library knows what it does. */
static bool is_known(const struct dl_phdr_info *info, const struct object *o)
{
    return o->patch || o->loader || is_among(known_objects, o->name) ||
           pw_object_contains(info, (uintptr_t)&pw_scan);
}

/* ---- looking through it ---- */

static void find_frames(const struct dl_phdr_info *info, struct pw_frames *out)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];

        if (p->p_type == PT_GNU_EH_FRAME &&
            pw_frames_open(out, (const void *)(info->dlpi_addr + p->p_vaddr), p->p_memsz))
            return;
    }
    out->count = 0;
}

/* The function is empty: an instruction that returns, and padding after it. */
static void listen_to_loader(const struct object *o)
{
    static const unsigned char endbr[] = { 0xf3, 0x0f, 0x1e, 0xfa };
    uintptr_t at = state.loaded;

    if (!at || at < o->text.start || at >= o->text.end)
        return;
    if (!memcmp((const void *)at, endbr, sizeof endbr))
        at += sizeof endbr;
    if (pw_function_end(&o->text.frames, state.loaded) == at + 1 &&
        *(const unsigned char *)at == 0xc3)
        state.told = !pw_sites_add(&o->text, at, PW_PATCH_NOTICE);
}

static void examine(const struct dl_phdr_info *info)
{
    const char *slash = strrchr(info->dlpi_name, '/');
    struct object o = { .name = slash ? slash + 1 : info->dlpi_name };

    if (!*o.name)
        o.name = "the program";
    o.patch = to_be_patched(info, o.name);
    o.loader = is_loader(info);
    o.known = is_known(info, &o);
    find_frames(info, &o.text.frames);
    if (is_libc(info))
        pw_functions_measure(&o.text.frames);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];

        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X) || !(p->p_flags & PF_R))
            continue;
        o.text.start = info->dlpi_addr + p->p_vaddr;
        o.text.end = o.text.start + p->p_memsz;
        o.text.prot = PROT_READ | PROT_EXEC | (p->p_flags & PF_W ? PROT_WRITE : 0);
        if (o.loader && !state.told)
            listen_to_loader(&o);
        pw_scan((const void *)o.text.start, p->p_memsz, visit, &o);
    }
    if (is_libc(info))
        pw_functions_settle();
}

void pw_objects_look(const struct dl_phdr_info *info, bool amiss)
{
    if (!known(info) || (amiss && is_libc(info)))
        examine(info);
}

/* ---- code that is made at run time ---- */

static void visit_made(void *ctx, const struct pw_raw_call *call)
{
    (void)ctx;
    if (pw_scan_dangerous(call) || pw_scan_untold(call))
        passes_by(call, false, "code made at run time");
}

/* Code of objects is looked at when they are loaded, and is mended elsewhere. */
static int in_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    return pw_object_contains(info, *(const uintptr_t *)arg);
}

void pw_hooks_check_code(struct pw_range range)
{
    enum { OVERLAP = 64 };
    unsigned char code[4096];
    long pid = pw_raw3(SYS_getpid, 0, 0, 0);

    if (pw_hooks_may_ask() && dl_iterate_phdr(in_object, &range.start))
        return;
    for (uintptr_t at = range.start; at < range.end; at += sizeof code - OVERLAP) {
        size_t len = range.end - at < sizeof code ? range.end - at : sizeof code;
        struct iovec local = { code, len }, remote = { (void *)at, len };
        long got = pw_raw6(SYS_process_vm_readv, pid, (long)&local, 1, (long)&remote, 1, 0);

        if (got <= 0)
            return;     /* it is gone */
        pw_scan(code, (size_t)got, visit_made, NULL);
    }
}

/* ---- the C library and the dynamic linker ---- */

struct loader {
    const void *in;             /* an address in its data or code */
    struct pw_range text;
};

static int find_loader(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct loader *l = arg;

    (void)size;
    if (!pw_object_contains(info, (uintptr_t)l->in))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];

        if (p->p_type == PT_LOAD && p->p_flags & PF_X) {
            l->text.start = info->dlpi_addr + p->p_vaddr;
            l->text.end = l->text.start + p->p_memsz;
        }
    }
    return 1;
}

/* Whose functions these are: the C library's own, not those of an object that was
 * loaded before it and has its own (tcmalloc has). */
int pw_objects_find_libc(char why[PW_MONITOR_WHY_MAX])
{
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    const struct r_debug *debug = dlsym(RTLD_DEFAULT, "_r_debug");
    struct loader l = { .in = debug };

    if (!libc || !debug) {
        snprintf(why, PW_MONITOR_WHY_MAX, "no GNU C library is loaded as libc.so.6 (a "
                 "static program?): its functions cannot be hooked");
        return -ENODEV;
    }
    pw_functions_find(libc);
    dlclose(libc);
    dl_iterate_phdr(find_loader, &l);
    pw_hooks.loader = l.text;
    state.loaded = debug->r_brk;
    return 0;
}

bool pw_hooks_told_of_objects(void)
{
    return state.told;
}
