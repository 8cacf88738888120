/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_install.c - have every system call of interest pass by hooks_entry.c.
 *
 * Start at survey(): all objects that are loaded are looked through, each once. In
 * the C library, in the dynamic linker, and in a few libraries that are known to
 * make such calls themselves, the calls are patched. Any other object that makes
 * one blinds us: then nothing is vouched for any more.
 *
 * Others patch too. Open MPI's patcher and UCX's UCM overwrite the first 12 or 13
 * bytes of the C library's functions with a jump to their own; these make the call
 * by syscall(), which is patched here, so they are left alone: a function is either
 * hooked (its system call is patched) or joined (somebody else's jump is at its
 * entry, and a trial call of it was seen to arrive). To patch, they make the page
 * writable, which hooks_entry.c sees; nothing is vouched for until it is not any
 * more, and then everything is looked at again.
 *
 * What this file knows of objects and functions is only touched inside of
 * dl_iterate_phdr(), whose lock also keeps objects from being unloaded meanwhile.
 * Trial calls are made outside of it, for who patched may want locks.
 */
#include "hooks_install.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "hooks_entry.h"
#include "hooks_trial.h"
#include "owner.h"
#include "patch.h"
#include "raw.h"
#include "scan.h"

#define PAGE ((uintptr_t)4096)
enum { SITES = 96, OBJECTS = 512, ENTRY = 16, BLIND_MAX = 200 };

/* Their own calls are patched, like the C library's: names begin so. */
static const char *const patched_objects[] = {
    "libucm.so",        /* brk, in its replacement of brk and sbrk */
    "libasan.so", "libtsan.so", "liblsan.so", "libubsan.so", "libhwasan.so",
    "libtcmalloc", "libjemalloc", NULL
};

/* Their calls whose number cannot be told are known, and harmless: futex. */
static const char *const known_objects[] = { "libgomp.so", NULL };

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

static struct {
    unsigned long long adds, subs;      /* of objects, when surveyed last */
    uint64_t objects;                   /* pw_hooks.objects, then */
    struct known {
        uintptr_t base;
        uint64_t print;
    } known[OBJECTS];                   /* objects that were looked through */
    unsigned n_known;
    uintptr_t loaded;                   /* the function that the dynamic linker calls
                                         * when it has loaded or unloaded, or 0 */
    bool told;                          /* that one is hooked */
    unsigned opens;
    int err;                            /* the first that went wrong in a survey */
    char why[PW_MONITOR_WHY_MAX];
} state;

/* Why something is not seen, once it is so. */
static struct verdict {
    uint64_t said;              /* 1: being written, 2: it holds */
    char why[BLIND_MAX];
} passed_by, untold, broken;

/* May the dynamic linker be asked? Its lock is not made free in a forked child, and
 * another thread of the parent may have held it. */
static struct pw_owner asked;
static bool calm;

/* A folder for each thread, and each has a link to the one they are in. The C
 * library's __libc_single_threaded does not come back when threads have ended. */
static bool alone_here(void)
{
    struct stat st;

    return !stat("/proc/self/task", &st) && st.st_nlink == 3;
}

static void before_fork(void)
{
    calm = pw_owner_is_here(&asked) && alone_here();
}

static void in_child(void)
{
    *asked.mark = calm;
}

static int ask_with_care(void)
{
    int err;

    if (asked.mark)
        return 0;
    err = pw_owner_init(&asked);
    return err ? err : -pthread_atfork(before_fork, NULL, in_child);
}

static const char *holds(const struct verdict *v)
{
    return __atomic_load_n(&v->said, __ATOMIC_ACQUIRE) == 2 ? v->why : NULL;
}

const char *pw_hooks_blind(bool alone)
{
    return holds(&broken) ? holds(&broken) : alone ? holds(&passed_by) : NULL;
}

const char *pw_hooks_untold(void)
{
    return holds(&broken) ? holds(&broken) : holds(&untold);
}

static void lose(void)
{
    pw_records_end(pw_hooks.records,
                   pw_records_begin(pw_hooks.records, PW_RANGE_ALL, PW_EV_LOST));
}

/* Said once, then everything is dropped. */
static void say(struct verdict *v, const char *format, const char *what,
                const char *object)
{
    uint64_t none = 0;

    if (!__atomic_compare_exchange_n(&v->said, &none, 1, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        return;
    snprintf(v->why, sizeof v->why, format, what, object);
    __atomic_store_n(&v->said, 2, __ATOMIC_RELEASE);
    lose();
}

static bool may_ask(void)
{
    return pw_owner_is_here(&asked);
}

static void fail(int err, const char *format, const char *what, const char *object)
{
    if (!state.err)
        snprintf(state.why, sizeof state.why, format, what, object);
    state.err = state.err ? state.err : err;
}

/* ---- one object ---- */

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

static int add_site(const struct object *o, uintptr_t at, enum pw_patch_kind kind)
{
    struct site *s = &sites[n_sites];
    int err;

    for (unsigned i = 0; i < n_sites; i++)
        if (sites[i].patch.at == at)
            return pw_patch_arm(&sites[i].patch);
    if (n_sites == SITES)
        return -ENOSPC;
    err = pw_patch_lay(&o->text, at, kind, &s->patch);
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

static void passes_by(const struct pw_raw_call *call, bool is_any, const char *who)
{
    const char *what = is_any || call->nr < 0 ? "any call" : number_name(call->nr);

    if (is_any || pw_scan_dangerous(call))
        say(&passed_by, "%s is called past the C library by %s: use the uffd monitor",
            what, who);
    if (is_any || pw_scan_untold(call))
        say(&untold, "%s is called past the C library by %s, and userfaultfd does not "
            "tell of all that it can do", what, who);
}

static void visit(void *ctx, const struct pw_raw_call *call)
{
    const struct object *o = ctx;
    const struct function *any = &functions[0];     /* syscall() */
    uintptr_t at = (uintptr_t)call->at;
    bool is_any = any->start <= at && at < any->end;
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
        err = add_site(o, at, PW_PATCH_SYSCALL);
    if (err == -EPERM || err == -ENOMEM)
        fail(err, err == -EPERM ? "%s of %s may not be patched (a security module?)"
                                : "no room near %s of %s for a patch",
             number_name(call->nr), o->name);
    else if (err)
        passes_by(call, is_any, o->name);
}

/* ---- functions of the C library ---- */

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
            fail(-ENODEV, "the C library has no %s()%s", f->name, "");
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
        fail(-ENODEV, "the C library's %s() could not be hooked%s", f->name, "");
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

static bool all_as_left(void)
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

static bool contains(const struct dl_phdr_info *info, uintptr_t addr)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];

        if (p->p_type == PT_LOAD &&
            addr - (info->dlpi_addr + p->p_vaddr) < p->p_memsz)
            return true;
    }
    return false;
}

static uint64_t mix(uint64_t print, const void *data, size_t size)
{
    const unsigned char *p = data;

    while (size--)
        print = (print ^ *p++) * 0x100000001b3;     /* FNV-1a */
    return print;
}

/* What tells an object from another that is loaded to its place later: its segments
 * and its notes, one of which is the linker's hash of the whole. */
static uint64_t print_of(const struct dl_phdr_info *info)
{
    uint64_t print = mix(0xcbf29ce484222325, info->dlpi_phdr,
                         info->dlpi_phnum * sizeof *info->dlpi_phdr);

    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];

        if (p->p_type == PT_NOTE)
            print = mix(print, (const void *)(info->dlpi_addr + p->p_vaddr), p->p_memsz);
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
    return contains(info, functions[0].start);
}

static bool is_loader(const struct dl_phdr_info *info)
{
    return contains(info, pw_hooks.loader.start);
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
           contains(info, (uintptr_t)&pw_scan);
}

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

static uintptr_t end_of(const struct pw_frames *frames, uintptr_t start)
{
    long n = frames->count ? pw_frames_find(frames, start) : -1;

    return n >= 0 && pw_frames_start(frames, (size_t)n) == start
               ? pw_frames_end(frames, (size_t)n) : 0;
}

static void find_functions(const struct pw_frames *frames)
{
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        struct function *f = &functions[i];

        f->end = f->start ? end_of(frames, f->start) : 0;
        if (f->start && f->end < f->start)
            f->end = f->start;
    }
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
    if (end_of(&o->text.frames, state.loaded) == at + 1 &&
        *(const unsigned char *)at == 0xc3)
        state.told = !add_site(o, at, PW_PATCH_NOTICE);
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
        find_functions(&o.text.frames);
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
    for (unsigned i = 0; is_libc(info) && i < FUNCTIONS; i++)
        settle(&functions[i]);
}

/* ---- all objects ---- */

struct survey {
    unsigned objects;           /* looked at in this pass */
    unsigned long long adds, subs;
    bool amiss;                 /* something was not as we left it */
    bool again;                 /* unloaded meanwhile */
};

static void drop_unseen(void)
{
    for (unsigned i = 0; i < n_sites; )
        if (sites[i].seen) {
            i++;
        } else {
            pw_patch_forget(&sites[i].patch);
            sites[i] = sites[--n_sites];
        }
}

static int see_sites(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct survey *v = arg;

    (void)size;
    if (!v->objects++)
        for (unsigned i = 0; i < n_sites; i++)
            sites[i].seen = false;
    v->subs = info->dlpi_subs;
    for (unsigned i = 0; i < n_sites; i++)
        sites[i].seen |= contains(info, sites[i].patch.at);
    return 0;
}

static void mend_all(struct survey *v)
{
    v->amiss = !all_as_left();
    if (!v->amiss)
        return;
    for (unsigned i = 0; i < n_sites; i++)
        if (!mend(&sites[i]) && !in_libc(&sites[i]))
            say(&broken, "%s%s is patched by somebody else, who is not known",
                "the dynamic linker or a library", "");
}

static int look(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct survey *v = arg;

    (void)size;
    if (!v->objects++) {
        v->again = info->dlpi_subs != v->subs;
        if (v->again)
            return 1;
        drop_unseen();
        mend_all(v);
    }
    if (!known(info) || (v->amiss && is_libc(info)))
        examine(info);
    v->adds = info->dlpi_adds;
    return 0;
}

/* true: something had been undone, so that changes were missed. */
static bool survey(void)
{
    uint64_t objects = __atomic_load_n(&pw_hooks.objects, __ATOMIC_ACQUIRE);
    struct survey v;

    do {
        v = (struct survey){ 0 };
        dl_iterate_phdr(see_sites, &v);
        v.objects = 0;
        dl_iterate_phdr(look, &v);
    } while (v.again);
    /* What dlmopen() and LD_AUDIT load has its own C library, and is in no list
     * but the count. */
    if (v.adds - v.subs > v.objects)
        say(&passed_by, "%s%s has a C library of its own: use the uffd monitor",
            "what dlmopen() loaded", "");
    __atomic_store_n(&state.adds, v.adds, __ATOMIC_RELAXED);
    __atomic_store_n(&state.subs, v.subs, __ATOMIC_RELAXED);
    __atomic_store_n(&state.objects, objects, __ATOMIC_RELEASE);
    return v.amiss;
}

/* Is everything as the last survey left it? */
static int glance(struct dl_phdr_info *info, size_t size, void *arg)
{
    bool *clean = arg;

    (void)size;
    *clean = info->dlpi_adds == __atomic_load_n(&state.adds, __ATOMIC_RELAXED) &&
             info->dlpi_subs == __atomic_load_n(&state.subs, __ATOMIC_RELAXED) &&
             all_as_left();
    return 1;
}

/* In a child that may not ask: does what the parent found still hold? */
static bool as_at_fork(void)
{
    return state.told && state.objects == __atomic_load_n(&pw_hooks.objects,
                                                          __ATOMIC_ACQUIRE) &&
           all_as_left();
}

/* Does each function that somebody else has patched still come by here? */
static void try_joined(void)
{
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        struct function *f = &functions[i];

        if (f->state != JOINED || f->tried)
            continue;
        f->tried = pw_hooks_trial(f->name, f->start);
        if (!f->tried)
            say(&broken, "%s() is patched by somebody who does not pass it on%s", f->name,
                "");
    }
}

/* A spin lock in memory that fork wipes: a child never finds it taken. */
static void lock(void)
{
    while (__atomic_exchange_n(&pw_hooks.records->lock, 1, __ATOMIC_ACQUIRE))
        pw_raw3(SYS_sched_yield, 0, 0, 0);
}

static void unlock(void)
{
    __atomic_store_n(&pw_hooks.records->lock, 0, __ATOMIC_RELEASE);
}

bool pw_hooks_check(bool alone)
{
    bool clean = false;

    if (__atomic_load_n(&pw_hooks.rings, __ATOMIC_ACQUIRE)) {
        say(&passed_by, "%s%s can change memory unseen: use the uffd monitor",
            "a ring of io_uring", "");
        say(&untold, "%s%s can change memory in ways that userfaultfd does not tell of",
            "a ring of io_uring", "");
    }
    if (!may_ask() && !as_at_fork())
        say(&broken, "%s%s has loaded objects or was patched since it was forked",
            "this process", "");
    if (pw_hooks_blind(alone))
        return false;
    if (!may_ask())
        return true;
    dl_iterate_phdr(glance, &clean);
    if (clean)
        return true;
    lock();
    if (survey()) {
        try_joined();
        lose();
    }
    if (state.err)
        say(&broken, "%s%s", state.why, "");
    unlock();
    return !pw_hooks_blind(alone);
}

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
    return contains(info, *(const uintptr_t *)arg);
}

void pw_hooks_check_code(struct pw_range range)
{
    enum { OVERLAP = 64 };
    unsigned char code[4096];
    long pid = pw_raw3(SYS_getpid, 0, 0, 0);

    if (may_ask() && dl_iterate_phdr(in_object, &range.start))
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

/* ---- the first time ---- */

static void listen(bool on)
{
    static const unsigned short rings[] = { SYS_io_uring_setup, SYS_io_uring_enter,
                                            SYS_io_uring_register, 0 };
    uint64_t bits[8] = { 0 };

    for (int i = 0; on && pw_effect_numbers[i]; i++)
        bits[pw_effect_numbers[i] / 64] |= (uint64_t)1 << pw_effect_numbers[i] % 64;
    for (int i = 0; on && rings[i]; i++)
        bits[rings[i] / 64] |= (uint64_t)1 << rings[i] % 64;
    for (int i = 0; i < 8; i++)
        __atomic_store_n(&pw_hooks.numbers[i], bits[i], __ATOMIC_RELEASE);
}

struct loader {
    const void *in;             /* an address in its data or code */
    struct pw_range text;
};

static int find_loader(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct loader *l = arg;

    (void)size;
    if (!contains(info, (uintptr_t)l->in))
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
static int find_symbols(char why[PW_MONITOR_WHY_MAX])
{
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    const struct r_debug *debug = dlsym(RTLD_DEFAULT, "_r_debug");
    struct loader l = { .in = debug };

    if (!libc || !debug) {
        snprintf(why, PW_MONITOR_WHY_MAX, "no GNU C library is loaded as libc.so.6 (a "
                 "static program?): its functions cannot be hooked");
        return -ENODEV;
    }
    for (unsigned i = 0; i < FUNCTIONS; i++)
        functions[i].start = (uintptr_t)dlsym(libc, functions[i].name);
    dlclose(libc);
    dl_iterate_phdr(find_loader, &l);
    pw_hooks.loader = l.text;
    state.loaded = debug->r_brk;
    return 0;
}

static bool loader_hooked(void)
{
    for (unsigned i = 0; i < n_sites; i++)
        if (sites[i].patch.at - pw_hooks.loader.start <
            pw_hooks.loader.end - pw_hooks.loader.start && !sites[i].covered)
            return true;
    return false;
}

static int install(bool alone, char why[PW_MONITOR_WHY_MAX])
{
    int err;

    err = ask_with_care();
    if (!err && !pw_hooks.records)
        err = pw_records_create(&pw_hooks.records);
    if (err) {
        snprintf(why, PW_MONITOR_WHY_MAX, "no memory that fork wipes (Linux 4.14 has it)");
        return err;
    }
    if (!may_ask()) {
        snprintf(why, PW_MONITOR_WHY_MAX, "this process was forked beside other threads, "
                 "one of which may have held the dynamic linker's lock");
        return -ENODEV;
    }
    if (!functions[0].start && (err = find_symbols(why)))
        return err;
    state.err = 0;
    __atomic_store_n(&pw_hooks.text_writable, 0, __ATOMIC_RELEASE);
    listen(true);
    survey();
    if (!loader_hooked())
        fail(-ENODEV, "the dynamic linker's %s could not be hooked%s", "munmap", "");
    if (!state.err)
        try_joined();
    if (state.err) {
        memcpy(why, state.why, sizeof state.why);
        return state.err;
    }
    if (pw_hooks_blind(alone)) {
        snprintf(why, PW_MONITOR_WHY_MAX, "%s", pw_hooks_blind(alone));
        return -ENODEV;
    }
    return 0;
}

int pw_hooks_acquire(bool alone, char why[PW_MONITOR_WHY_MAX])
{
    int err;

#if !defined(__x86_64__)
    snprintf(why, PW_MONITOR_WHY_MAX, "system calls are hooked on x86_64 only");
    return -ENODEV;
#endif
    err = install(alone, why);
    if (!err)
        state.opens++;
    else if (!state.opens)
        listen(false);
    return err;
}

void pw_hooks_release(void)
{
    if (!--state.opens)
        listen(false);
}

bool pw_hooks_told_of_objects(void)
{
    return state.told;
}
