/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz.h - the fuzzer's parts, and the rule that makes what it does legal.
 *
 * All memory lies in slots. A program that changes a buffer while a device is at
 * it has itself to blame, so a slot is changed, and read into, by one thread that
 * has it for itself; threads that share it get it and have it written out. Other
 * slots change meanwhile, and what one thread unmaps the next one maps. To get and put
 * a slot while others change it is legal, too, as long as nobody uses what is pinned.
 *
 * A slot's shadow says byte by byte what the program wrote there.
 */
#ifndef PINWHEEL_TESTS_FUZZ_H
#define PINWHEEL_TESTS_FUZZ_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pinwheel/budget.h"
#include "tests/cache/oracle.h"

enum {
    PAGE = 4096,
    SLOTS = 48, SLOT_MAX = 2 << 20,     /* bytes */
    CELL_PAGES = 16, CELL_LEN = CELL_PAGES * PAGE, CELLS = 24,
    THREADS_MAX = 48, HELD_MAX = 8, CHILDREN_MAX = 2,
};

enum kind {
    NOTHING,
    MAPPED,             /* mmap where the kernel likes */
    CELL,               /* mmap in a window of adjacent cells */
    REUSED,             /* mmap where something has just been unmapped */
    LARGE,              /* malloc of a mapping of its own */
    SMALL,              /* malloc in an arena: shares pages with its neighbours */
    SHARED,             /* anonymous shared memory */
    FILED,              /* a memfd, shared */
    PRIVATE_FILE,       /* a memfd, MAP_PRIVATE */
    SEGMENT,            /* System V */
    BREAK,              /* at the program break */
    HUGE,               /* transparent huge pages, where there are any */
    KINDS,
};
extern const char *const kind_names[KINDS];

struct slot {
    int state;                  /* 0 free, -1 one thread's own, n > 0 shared by n */
    enum kind kind;
    unsigned char *addr;
    size_t len;
    unsigned char *shadow;      /* SLOT_MAX bytes */
    int fd;                     /* its file, or -1 */
    int cell;                   /* of CELL */
    bool one;                   /* surely of one mapping: mremap takes it whole, or
                                 * leaves it alone when it fails */
};

/* What a thread does, for the count and the story. */
enum op {
    OP_MAKE, OP_RELEASE, OP_WRITE, OP_GET, OP_PUT, OP_IN, OP_OUT, OP_LOOK, OP_SPAN, OP_RACE,
    OP_HOLD, OP_TRIM, OP_PROGRESS, OP_FORK, OP_FORK_WRITES, OP_FORK_USES, OP_SPAWN,
    OP_THREAD, OP_OBJECT, OP_MALLOC_TRIM,
    OP_UNMAP_MAP, OP_MAP_OVER, OP_MOVE_AWAY, OP_MOVE_ONTO, OP_DONTUNMAP,
    OP_SHRINK_GROW, OP_TRADE, OP_DONTNEED, OP_DONTNEED_LOCKED, OP_GUARD, OP_FREE_LAZILY,
    OP_PROCESS_MADVISE, OP_SYSCALL_UNMAP, OP_SYSCALL_DONTNEED, OP_PROTECT,
    OP_REMOVE, OP_PUNCH, OP_TRUNCATE, OP_OPEN_TRUNC, OP_REMAP_SEGMENT, OP_REALLOC,
    OP_BREAK_DOWN_UP, OP_SPLIT, OP_RAW_UNMAP,
    OPS,
};
extern const char *const op_names[OPS];

struct record {
    uint64_t when;              /* of CLOCK_MONOTONIC, ns */
    uint64_t step;              /* of its thread */
    enum op op;
    int result;
    uintptr_t start, end;
    unsigned extra;             /* get, put: the region's number */
};
enum { RECORDS = 1 << 14 };

/* Got by one thread and put later, by any. */
struct held {
    int busy;
    struct pw_region *region;
    uintptr_t start, end;
};

struct worker {
    pthread_t thread;
    unsigned id;
    bool child;                 /* in a forked child: its own slot is all it has */
    uint64_t random;            /* state */
    uint64_t step;              /* loops done */
    pid_t children[CHILDREN_MAX];
    unsigned char *data;        /* SLOT_MAX bytes for what I/O brings */
    uint64_t counts[OPS];
    uint64_t refused, again, busy;
    uint64_t logged;
    struct record *log;
};

struct fuzz {
    uint64_t seed;
    unsigned n_threads;
    uint64_t steps;             /* each thread's, 0: by time */
    const char *monitor_name;
    struct pw_monitor *monitor;
    struct oracle *oracle;
    struct pw_budget *budget;
    struct pw_regcache *cache;
    bool raw;                   /* the monitor sees calls that pass by the library */
    bool raw_maps;              /* and memory is mapped by them */
    bool heap;                  /* all slots are LARGE or SMALL */
    long (*raw_munmap)(void *, size_t);
    long (*raw_mmap)(void *, size_t, long);
    bool stop;
    struct slot slots[SLOTS];
    struct held held[HELD_MAX];
    struct worker workers[THREADS_MAX];
};
extern struct fuzz fuzz;

/* ---- fuzz_story.c ---- */

void note(struct worker *w, enum op op, const void *addr, size_t len, int result,
          unsigned extra);

/* Tell what is wrong, all that is known of that address, and end the process. */
_Noreturn void mismatch(struct worker *w, const void *addr, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A call that cannot fail has. */
_Noreturn void trouble(struct worker *w, const char *what);

/* From here on who is ended by a signal of its own making says where. */
void story_open(void);

/* ---- fuzz_slots.c ---- */

uint64_t draw(struct worker *w);
static inline size_t below(struct worker *w, size_t n) { return draw(w) % n; }

bool slot_take(struct slot *s);         /* for oneself */
bool slot_share(struct slot *s);
void slot_leave(struct slot *s);
struct slot *slot_of_cell(int cell);    /* NULL: none, just now */

void slots_open(void);
void slot_make(struct worker *w, struct slot *s);       /* NOTHING: could not */
void slot_release(struct worker *w, struct slot *s);

/* mmap; with raw_maps past the library as often as not. NULL: no. */
void *map_pages(struct worker *w, void *at, size_t len, int flags, int fd);

/* The program writes there, shadow included. */
void slot_write(struct worker *w, struct slot *s, size_t from, size_t len);
bool slot_private(const struct slot *s);

void brk_take(void);                    /* nobody else moves the break */
void brk_leave(void);

/* ---- fuzz_changes.c ---- */

void slot_change(struct worker *w, struct slot *s);

/* ---- fuzz_use.c ---- */

void use_in(struct worker *w, struct slot *s);
void use_out(struct worker *w, struct slot *s);
void use_look(struct worker *w, struct slot *s);
void use_span(struct worker *w, struct slot *s);
void use_hold(struct worker *w, struct slot *s);
void use_in_race(struct worker *w, const struct slot *s);
void use_memory(struct worker *w, unsigned char *addr, size_t len);     /* no slot */
void held_put_some(struct worker *w);
void held_put_all(struct worker *w);
void slot_agrees(struct worker *w, struct slot *s);

/* ---- fuzz_process.c ---- */

/* One of fork and its kin, threads that come and go, objects loaded and unloaded.
 * own: a slot that the worker has for itself, perhaps an empty one. */
void process_step(struct worker *w, struct slot *own);

/* Look after children that were left running; wait: until they end. */
void children_reap(struct worker *w, bool wait);

/* dlopen of what lies beside the program. */
void *load_object(const char *file);

#endif
