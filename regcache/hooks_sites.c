/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_sites.c - the calls that are patched, and the C library's functions they are in.
 *
 * Start at pw_sites_add(); then pw_functions_settle(), and pw_sites_mend() for what
 * others did.
 */
#include "hooks_sites.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "hooks_entry.h"
#include "hooks_trial.h"
#include "hooks_verdict.h"

#define PAGE ((uintptr_t)4096)
enum { SITES = 96, ENTRY = 16 };

enum function_state { ABSENT, HOOKED, JOINED };

static struct function {
    const char *name;
    bool optional;              /* old C libraries have none, or it matters little */
    uintptr_t start, end;
    enum function_state state;
    bool tried;                 /* when joined */
    unsigned char entry[ENTRY]; /* as we left it */
} functions[] = {
    { .name = "syscall" }, { .name = "munmap" }, { .name = "mmap" },
    { .name = "mremap" }, { .name = "madvise" }, { .name = "brk" },
    { .name = "mprotect" }, { .name = "shmat" }, { .name = "shmdt" },
    { .name = "ftruncate" }, { .name = "truncate" },
    { .name = "posix_madvise", .optional = true },
    { .name = "process_madvise", .optional = true },
    { .name = "pkey_mprotect", .optional = true },
    { .name = "remap_file_pages", .optional = true },
    { .name = "fallocate", .optional = true },
};
enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

static struct site {
    struct pw_site patch;
    bool covered;               /* by somebody else's jump, as in now */
    unsigned char now[2];
    bool seen;                  /* in this survey */
} sites[SITES];
static unsigned n_sites;

bool pw_object_contains(const struct dl_phdr_info *info, uintptr_t addr)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];

        if (p->p_type == PT_LOAD &&
            addr - (info->dlpi_addr + p->p_vaddr) < p->p_memsz)
            return true;
    }
    return false;
}

/* ---- the calls ---- */

/* Somebody who makes this page writable shall be noticed. */
static bool guard_page(uintptr_t at)
{
    unsigned n = pw_hooks.n_text;

    for (unsigned i = 0; i < n; i++)
        if (pw_hooks.text[i] == (at & ~(PAGE - 1)))
            return true;
    if (n == PW_TEXT_PAGES)
        return false;
    pw_hooks.text[n] = at & ~(PAGE - 1);
    __atomic_store_n(&pw_hooks.n_text, n + 1, __ATOMIC_RELEASE);
    return true;
}

int pw_sites_add(const struct pw_text *text, uintptr_t at, enum pw_patch_kind kind)
{
    struct site *s = &sites[n_sites];
    int err;

    for (unsigned i = 0; i < n_sites; i++)
        if (sites[i].patch.at == at)
            return pw_patch_arm(&sites[i].patch);
    if (n_sites == SITES)
        return -ENOSPC;
    err = pw_patch_lay(text, at, kind, &s->patch);
    if (!err && !(guard_page(at) && guard_page(s->patch.pad)))
        err = -ENOSPC;
    if (!err)
        err = pw_patch_arm(&s->patch);
    if (err)
        return err;
    s->covered = false;
    s->seen = true;
    n_sites++;
    return 0;
}

void pw_sites_unsee(void)
{
    for (unsigned i = 0; i < n_sites; i++)
        sites[i].seen = false;
}

void pw_sites_see(const struct dl_phdr_info *info)
{
    for (unsigned i = 0; i < n_sites; i++)
        sites[i].seen |= pw_object_contains(info, sites[i].patch.at);
}

void pw_sites_drop_unseen(void)
{
    for (unsigned i = 0; i < n_sites; )
        if (sites[i].seen) {
            i++;
        } else {
            pw_patch_forget(&sites[i].patch);
            sites[i] = sites[--n_sites];
        }
}

bool pw_sites_any_in(struct pw_range range)
{
    for (unsigned i = 0; i < n_sites; i++)
        if (sites[i].patch.at - range.start < range.end - range.start && !sites[i].covered)
            return true;
    return false;
}

/* ---- functions of the C library ---- */

bool pw_functions_found(void)
{
    return functions[0].start != 0;
}

void pw_functions_find(void *libc)
{
    for (unsigned i = 0; i < FUNCTIONS; i++)
        functions[i].start = (uintptr_t)dlsym(libc, functions[i].name);
}

struct pw_range pw_functions_any(void)
{
    return (struct pw_range){ functions[0].start, functions[0].end };
}

uintptr_t pw_function_end(const struct pw_frames *frames, uintptr_t start)
{
    long n = frames->count ? pw_frames_find(frames, start) : -1;

    return n >= 0 && pw_frames_start(frames, (size_t)n) == start
               ? pw_frames_end(frames, (size_t)n) : 0;
}

void pw_functions_measure(const struct pw_frames *frames)
{
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        struct function *f = &functions[i];

        f->end = f->start ? pw_function_end(frames, f->start) : 0;
        if (f->start && f->end < f->start)
            f->end = f->start;
    }
}

/* The jumps that patchers write at a function's entry. */
static bool is_jump(const unsigned char *p)
{
    static const unsigned char endbr[] = { 0xf3, 0x0f, 0x1e, 0xfa };

    if (!memcmp(p, endbr, sizeof endbr))
        p += sizeof endbr;
    return *p == 0xe9 || *p == 0xeb || (p[0] == 0xff && p[1] == 0x25) ||
           (p[0] == 0x49 && (p[1] & 0xf8) == 0xb8 && p[10] == 0x41 && p[11] == 0xff) ||
           (p[0] == 0x48 && (p[1] & 0xf8) == 0xb8 && p[10] == 0xff);
}

static bool in_function(const struct site *s, const struct function *f)
{
    return f->start <= s->patch.at && s->patch.at < f->end;
}

static bool in_libc(const struct site *s)
{
    for (unsigned i = 0; i < FUNCTIONS; i++)
        if (in_function(s, &functions[i]))
            return true;
    return false;
}

static void settle(struct function *f)
{
    const unsigned char *entry = (const unsigned char *)f->start;
    bool joined, hooked = false;

    if (!entry) {
        if (!f->optional)
            pw_hooks_fail(-ENODEV, "the C library has no %s()%s", f->name, "");
        return;
    }
    joined = is_jump(entry);

    for (unsigned i = 0; i < n_sites; i++)
        hooked |= in_function(&sites[i], f) && !sites[i].covered;
    /* The same jump as before has been tried. */
    f->tried = f->tried && f->state == JOINED && !memcmp(f->entry, entry, ENTRY);
    f->state = joined ? JOINED : hooked ? HOOKED : ABSENT;
    memcpy(f->entry, entry, ENTRY);
    if (!guard_page(f->start))
        f->state = ABSENT;
    if (f->state == ABSENT && !f->optional)
        pw_hooks_fail(-ENODEV, "the C library's %s() could not be hooked%s", f->name, "");
}

void pw_functions_settle(void)
{
    for (unsigned i = 0; i < FUNCTIONS; i++)
        settle(&functions[i]);
}

void pw_functions_try(void)
{
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        struct function *f = &functions[i];

        if (f->state != JOINED || f->tried)
            continue;
        f->tried = pw_hooks_trial(f->name, f->start);
        if (!f->tried)
            pw_hooks_say(PW_BROKEN, "%s() is patched by somebody who does not pass it on%s",
                         f->name, "");
    }
}

/* ---- what others did ---- */

/* Mend what can be. A site under somebody else's jump is his until he takes it
 * away. */
static bool mend(struct site *s)
{
    const unsigned char *at = (const unsigned char *)s->patch.at;

    if (pw_patch_undone(&s->patch))
        s->covered = pw_patch_arm(&s->patch) != 0;
    else
        s->covered = !pw_patch_intact(&s->patch);
    memcpy(s->now, at, sizeof s->now);
    return !s->covered;
}

static bool site_as_left(const struct site *s)
{
    return s->covered ? !memcmp(s->now, (const void *)s->patch.at, sizeof s->now)
                      : pw_patch_intact(&s->patch);
}

bool pw_sites_as_left(void)
{
    for (unsigned i = 0; i < n_sites; i++)
        if (!site_as_left(&sites[i]))
            return false;
    for (unsigned i = 0; i < FUNCTIONS; i++)
        if (functions[i].start &&
            memcmp(functions[i].entry, (const void *)functions[i].start, ENTRY))
            return false;
    return true;
}

void pw_sites_mend(void)
{
    for (unsigned i = 0; i < n_sites; i++)
        if (!mend(&sites[i]) && !in_libc(&sites[i]))
            pw_hooks_say(PW_BROKEN, "%s%s is patched by somebody else, who is not known",
                         "the dynamic linker or a library", "");
}
