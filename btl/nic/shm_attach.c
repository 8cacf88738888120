/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_attach.c - memory that a peer exports, mapped here.
 *
 * Start at shm_attach_get(). Each peer has a table of what is mapped of it, by the
 * key's offset, which is never given twice. A mapping costs two system calls and its
 * faults, so a region is mapped when that pays: at its first use when it is a
 * window's or the transfer is long, else at its second use.
 *
 * Always true: a mapping shows the pages that the region had when it was exported.
 * The peer's word tells whether they still are the region's. So it is looked at
 * before they are touched, to waste nothing, and after they were read, to believe
 * what was read; one that has moved is final.
 *
 * A key is the peer's word only: it leads to an entry of equal key or to none, and
 * to addresses inside of a mapping of what the peer itself has exported.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "pinwheel/kdriver.h"
#include "shm.h"

/* Mappings of one peer at most, and their bytes: page tables take a 512th of that. */
enum { SHM_MAPPINGS = 64 };
#define SHM_MAPPED_MOST ((uint64_t)16 << 30)

/* From so many bytes on the first transfer is worth a mapping: what mapping costs at
 * all, two calls and the first fault, is then a few hundredths of the copy. */
enum { SHM_LONG = 256 << 10 };

/* Regions remembered that were used once, or cannot be mapped. One that is forgotten is
 * used by other means once more, or tried in vain once more. */
enum { SHM_NOTES = 256 };

enum { PAGE = 4096, HUGE_PAGE = 2 << 20 };

struct shm_mapping {
    struct shm_key key;         /* as the peer wrote it; slot 0: this one is free */
    char *at;                   /* the region's first byte */
    void *area;                 /* what is mapped, and how long */
    size_t area_len;
    unsigned users;
    bool stale;                 /* to be unmapped by its last user */
    uint64_t used;              /* when, in uses of this table */
};

enum shm_note_state { SHM_NEW, SHM_ONCE, SHM_WANTED, SHM_REFUSED };

struct shm_note {
    uint64_t offset;
    enum shm_note_state state;
};

struct shm_attach {
    int fd;                     /* the peer's share descriptor */
    uint64_t words_bytes;
    const uint64_t *words;      /* mapped with the first region */
    bool threads;               /* the lock is needed */
    pthread_mutex_t lock;       /* all below, and mapping and unmapping */
    struct shm_mapping *last;   /* used last */
    unsigned n;                 /* entries below that are or were in use */
    uint64_t uses, bytes;
    struct shm_mapping mappings[SHM_MAPPINGS];
    struct shm_note notes[SHM_NOTES];
};

static void table_lock(struct shm_attach *a)
{
    if (a->threads)
        pthread_mutex_lock(&a->lock);
}

static void table_unlock(struct shm_attach *a)
{
    if (a->threads)
        pthread_mutex_unlock(&a->lock);
}

static void count(struct shm_peer *p, uint64_t *counter, uint64_t n)
{
    if (p->nic->config.threads)
        __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
    else
        __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* ---- what a peer shares ---- */

/* Only the driver makes what lies in a file system like that of our own descriptor:
 * another file could be cut while we look at it. */
static bool from_driver(const struct shm_nic *nic, int fd)
{
    struct statfs ours, theirs;

    return !fstatfs(nic->share.fd, &ours) && !fstatfs(fd, &theirs) &&
           ours.f_type == theirs.f_type;
}

struct shm_attach *shm_attach_open(struct shm_nic *nic, int fd, uint64_t words_bytes)
{
    struct shm_attach *a = NULL;

    if (fd >= 0 && nic->share.fd >= 0 && words_bytes / 8 > PW_KD_FIRST_SLOT &&
        words_bytes <= PW_KD_EXPORTS && from_driver(nic, fd))
        a = calloc(1, sizeof(*a));
    if (!a) {
        shm_fd_close(&fd);
        return NULL;
    }
    a->fd = fd;
    a->words_bytes = words_bytes;
    a->threads = nic->config.threads;
    pthread_mutex_init(&a->lock, NULL);
    return a;
}

static void unmap(struct shm_attach *a, struct shm_mapping *m)
{
    munmap(m->area, m->area_len);
    a->bytes -= (uint64_t)m->key.pages * PAGE;
    *m = (struct shm_mapping){ .at = NULL };
}

void shm_attach_close(struct shm_attach *a)
{
    if (!a)
        return;
    for (unsigned i = 0; i < a->n; i++)
        if (a->mappings[i].key.slot)
            unmap(a, &a->mappings[i]);
    if (a->words)
        munmap((void *)(uintptr_t)a->words, a->words_bytes);
    pthread_mutex_destroy(&a->lock);
    shm_fd_close(&a->fd);
    free(a);
}

/* ---- keys ---- */

/* In the region, and a region that could be. */
static bool key_covers(const struct shm_attach *a, const struct shm_key *k, uint64_t remote,
                       size_t len)
{
    uint64_t size = (uint64_t)k->pages * PAGE, off = remote - k->start;

    return k->slot >= PW_KD_FIRST_SLOT && k->slot < a->words_bytes / 8 && size &&
           k->offset >= PW_KD_EXPORTS && k->offset % PAGE == 0 &&
           k->offset <= INT64_MAX - size && k->start % PAGE == 0 &&
           size <= SHM_MAPPED_MOST && off <= size && len <= size - off;
}

/* The table of that peer, and what is in the key; NULL: nothing to attach to. */
static struct shm_attach *key_read(struct shm_peer *p, uint64_t remote, size_t len,
                                   const struct pw_nic_key *key, struct shm_key *k)
{
    struct shm_attach *a;

    /* Pairs with the release in shm_hear(). */
    if (!key || !__atomic_load_n(&p->heard, __ATOMIC_ACQUIRE) || !p->attach)
        return NULL;
    memcpy(k, key, sizeof(*k));
    a = p->attach;
    return k->slot && key_covers(a, k, remote, len) ? a : NULL;
}

/* ---- the table; its lock is held ---- */

/* k is no free entry's: its slot is not 0. */
static bool mapping_is(const struct shm_mapping *m, const struct shm_key *k)
{
    return m->key.offset == k->offset && !memcmp(&m->key, k, sizeof(*k)) && !m->stale;
}

static struct shm_mapping *mapping_find(struct shm_attach *a, const struct shm_key *k)
{
    if (a->last && mapping_is(a->last, k))
        return a->last;
    for (unsigned i = 0; i < a->n; i++)
        if (mapping_is(&a->mappings[i], k))
            return &a->mappings[i];
    return NULL;
}

static bool fresh(const struct shm_attach *a, const struct shm_key *k)
{
    return __atomic_load_n(&a->words[k->slot], __ATOMIC_RELAXED) == k->word;
}

static struct shm_note *note_of(struct shm_attach *a, uint64_t offset)
{
    return &a->notes[(offset / PAGE * UINT64_C(0x9e3779b97f4a7c15)) >> 56];
}

_Static_assert(SHM_NOTES == 1 << 8, "as many as the hash gives");

static enum shm_note_state noted(struct shm_attach *a, uint64_t offset)
{
    const struct shm_note *note = note_of(a, offset);

    return note->offset == offset ? note->state : SHM_NEW;
}

static void note(struct shm_attach *a, uint64_t offset, enum shm_note_state state)
{
    *note_of(a, offset) = (struct shm_note){ offset, state };
}

/* Not to be believed any more, and not to be mapped again. */
static void expire(struct shm_peer *p, struct shm_mapping *m)
{
    if (!m->stale) {
        m->stale = true;
        note(p->attach, m->key.offset, SHM_REFUSED);
        count(p, &p->nic->nic.counts.attach_stale, 1);
    }
    if (!m->users)
        unmap(p->attach, m);
}

/* One that is of no use any more, else the one unused for longest; NULL: all have a
 * user. */
static struct shm_mapping *oldest(struct shm_attach *a)
{
    struct shm_mapping *found = NULL;

    for (unsigned i = 0; i < a->n; i++) {
        struct shm_mapping *m = &a->mappings[i];
        if (!m->key.slot || m->users)
            continue;
        if (!fresh(a, &m->key))
            return m;
        if (!found || m->used < found->used)
            found = m;
    }
    return found;
}

/* A free entry, and room for so many bytes; NULL: all that is mapped is in use. */
static struct shm_mapping *room_make(struct shm_peer *p, uint64_t bytes)
{
    struct shm_attach *a = p->attach;
    struct shm_mapping *m;
    unsigned i;

    for (;;) {
        for (i = 0; i < a->n && a->mappings[i].key.slot; i++)
            ;
        if (i < SHM_MAPPINGS && a->bytes + bytes <= SHM_MAPPED_MOST)
            break;
        m = oldest(a);
        if (!m)
            return NULL;
        /* Used again, it is to be mapped again. */
        note(a, m->key.offset, SHM_ONCE);
        unmap(a, m);
        count(p, &p->nic->nic.counts.attach_evicted, 1);
    }
    if (i == a->n)
        a->n++;
    return &a->mappings[i];
}

static bool words_map(struct shm_attach *a)
{
    void *words;

    if (a->words)
        return true;
    words = shm_device->mmap(NULL, a->words_bytes, PROT_READ, MAP_SHARED, a->fd, 0);
    if (words == MAP_FAILED)
        return false;
    a->words = words;
    return true;
}

/* At an address that is equal to its offset modulo 2 MiB where there are 2 MiB, so that
 * huge entries can be used. */
static bool region_map(struct shm_attach *a, struct shm_mapping *m, const struct shm_key *k)
{
    size_t size = (size_t)k->pages * PAGE, slack = size >= HUGE_PAGE ? HUGE_PAGE : 0;
    int prot = PROT_READ | (k->writable ? PROT_WRITE : 0);
    char *area = NULL, *at = NULL;

    if (slack) {
        area = mmap(NULL, size + slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1, 0);
        if (area == MAP_FAILED)
            return false;
        at = area + ((k->offset - (uint64_t)(uintptr_t)area) & (HUGE_PAGE - 1));
    }
    at = shm_device->mmap(at, size, prot, MAP_SHARED | (slack ? MAP_FIXED : 0), a->fd,
                          (off_t)k->offset);
    if (at == MAP_FAILED) {
        if (slack)
            munmap(area, size + slack);
        return false;
    }
    *m = (struct shm_mapping){ .key = *k, .at = at, .area = slack ? area : at,
                               .area_len = size + slack };
    a->bytes += size;
    return true;
}

static struct shm_mapping *mapping_make(struct shm_peer *p, const struct shm_key *k)
{
    struct shm_attach *a = p->attach;
    struct shm_mapping *m = NULL;

    if (words_map(a) && fresh(a, k))
        m = room_make(p, (uint64_t)k->pages * PAGE);
    if (m && region_map(a, m, k)) {
        count(p, &p->nic->nic.counts.attached, 1);
        return m;
    }
    note(a, k->offset, SHM_REFUSED);
    count(p, &p->nic->nic.counts.attach_refused, 1);
    return NULL;
}

/* ---- at work ---- */

bool shm_attach_wanted(struct shm_peer *p, uint64_t remote, size_t len,
                       const struct pw_nic_key *key)
{
    enum shm_note_state state;
    struct shm_attach *a;
    struct shm_key k;
    bool wanted;

    a = key_read(p, remote, len, key, &k);
    if (!a)
        return false;
    table_lock(a);
    wanted = mapping_find(a, &k);
    if (!wanted && (state = noted(a, k.offset)) != SHM_REFUSED) {
        wanted = state != SHM_NEW || k.often || len >= SHM_LONG;
        note(a, k.offset, wanted ? SHM_WANTED : SHM_ONCE);
    }
    table_unlock(a);
    return wanted;
}

/* Under the lock: 0, -ENOENT, -EOPNOTSUPP. */
static int mapping_take(struct shm_peer *p, const struct shm_key *k, struct shm_mapping **out)
{
    struct shm_attach *a = p->attach;
    struct shm_mapping *m = mapping_find(a, k);

    if (!m) {
        if (noted(a, k->offset) != SHM_WANTED)
            return -ENOENT;
        m = mapping_make(p, k);
        if (!m)
            return -EOPNOTSUPP;
    } else if (!fresh(a, k)) {
        expire(p, m);
        return -EOPNOTSUPP;
    }
    m->users++;
    m->used = ++a->uses;
    a->last = *out = m;
    return 0;
}

int shm_attach_get(struct shm_peer *p, uint64_t remote, size_t len,
                   const struct pw_nic_key *key, bool write, char **at,
                   struct shm_mapping **m)
{
    struct shm_attach *a;
    struct shm_key k;
    int err;

    a = key_read(p, remote, len, key, &k);
    if (!a || (write && !k.writable))
        return -ENOENT;
    table_lock(a);
    err = mapping_take(p, &k, m);
    table_unlock(a);
    if (!err)
        *at = (*m)->at + (remote - k.start);
    return err;
}

/* Under the lock. */
static void release(struct shm_peer *p, struct shm_mapping *m, bool same)
{
    m->users--;
    if (!same)
        expire(p, m);
}

bool shm_attach_put(struct shm_peer *p, struct shm_mapping *m, size_t len)
{
    struct shm_attach *a = p->attach;
    bool same;

    /* What was copied, either way, was so before the word is read. Pairs with the
     * driver, which moves it before the change returns to its maker. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    table_lock(a);
    same = fresh(a, &m->key);
    release(p, m, same);
    table_unlock(a);
    if (same)
        count(p, &p->nic->nic.counts.attach_bytes, len);
    return same;
}

/* A change that came while we were at it has come after us, which it may as well have;
 * only of an export that was taken back our pages may have been nobody's already. */
bool shm_attach_put_once(struct shm_peer *p, struct shm_mapping *m)
{
    struct shm_attach *a = p->attach;
    uint64_t word = m->key.word, now;
    unsigned event;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    table_lock(a);
    now = __atomic_load_n(&a->words[m->key.slot], __ATOMIC_RELAXED);
    event = now & 0xff;
    release(p, m, now == word);
    table_unlock(a);
    return now == word || (event != PW_KD_DROPPED && event != PW_KD_GONE);
}
