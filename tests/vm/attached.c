/* SPDX-License-Identifier: BSD-3-Clause */
/* attached.c - what is exported by one process and mapped by another, story by story.
 *
 *   attached [STORY...]
 *
 * Runs as root in a machine with the driver loaded; see tests/vm/attach. Each story has
 * two processes, an owner and a guest, which do what the story says, and ends with
 * nothing exported and nothing mapped.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"

enum { RO = PROT_READ, RW = PROT_READ | PROT_WRITE };
enum { KD_RO = PW_KD_READ, KD_RW = PW_KD_READ | PW_KD_WRITE };

static struct peer owner, guest;
static long control, share, guest_share;    /* descriptors */
static long owner_words, guest_words;       /* addresses */
static const char device[] = PW_KD_PATH;
static const char file_path[] = "/tmp/attach.file";
static const char disk_path[] = "/tmp/disk/file";
static const char memory_name[] = "memory";
static const char sleep_path[] = "/run/busybox/sleep";
static const char *const sleep_args[] = { "sleep", "1000", NULL };

/* ---- what stories are made of ---- */

static long map_share(struct peer *p, long fd, uint64_t offset, size_t len, int prot)
{
    return call(p, SYS_mmap, 0, (long)len, prot, MAP_SHARED, fd, (long)offset);
}

static long map_words(struct peer *p, long fd)
{
    return map_share(p, fd, 0, 4 * PAGE, PROT_READ);
}

static long export(long addr, size_t len, unsigned access)
{
    board->watch = (struct pw_kd_watch){ .start = (uint64_t)addr, .end = (uint64_t)addr + len,
                                         .access = access };
    return call(&owner, SYS_ioctl, control, PW_KD_EXPORT, (long)&board->watch);
}

static long drop(unsigned slot)
{
    board->drop = (struct pw_kd_slot){ .slot = slot };
    return call(&owner, SYS_ioctl, control, PW_KD_DROP, (long)&board->drop);
}

static long unmap(struct peer *p, long addr, size_t len)
{
    return call(p, SYS_munmap, addr, (long)len);
}

/* Anonymous memory of small pages. */
static long small(size_t len)
{
    long addr = call(&owner, SYS_mmap, 0, (long)len, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    call(&owner, SYS_madvise, addr, (long)len, MADV_NOHUGEPAGE);
    return addr;
}

static bool share_to_guest(void)
{
    share = call(&owner, SYS_ioctl, control, PW_KD_SHARE, (long)&board->share) == 0 ?
        board->share.fd : -1;
    guest_share = peer_pass(&owner, share, &guest);
    guest_words = map_words(&guest, guest_share);
    return guest_words > 0;
}

/* Two new processes, of that user. */
static bool begin_as(uid_t uid)
{
    peer_start(&owner);
    peer_start(&guest);
    if (uid) {
        call(&owner, SYS_setresuid, uid, uid, uid);
        call(&guest, SYS_setresuid, uid, uid, uid);
    }
    control = call(&owner, SYS_openat, AT_FDCWD, (long)device, O_RDWR | O_CLOEXEC);
    owner_words = map_words(&owner, control);
    return same(control >= 0, 1, "the device is open") && share_to_guest();
}

static bool begin(void) { return begin_as(0); }

static bool nothing_left(void)
{
    bool is = counter_becomes("controls", 0);

    is &= counter_becomes("exports", 0);
    is &= counter_becomes("export_pages", 0);
    is &= counter_becomes("mappings", 0);
    return is && counter_becomes("watches", 0);
}

static bool end(void)
{
    peer_end(&owner, SIGKILL);
    peer_end(&guest, SIGKILL);
    return nothing_left();
}

static int event_now(void)
{
    return (int)(peer_word(&guest, guest_words, board->watch.slot) & 0xff);
}

/* As the guest sees it. */
static bool word_moved(void)
{
    return peer_word(&guest, guest_words, board->watch.slot) != board->watch.word;
}

/* An export of small pages, filled by the owner with 1 and mapped by the guest. */
static long owned, seen;
static size_t extent;

static bool attach_small(size_t len)
{
    extent = len;
    owned = small(len);
    peer_fill(&owner, owned, len, 1);
    if (!same(export(owned, len, KD_RW), 0, "EXPORT"))
        return false;
    seen = map_share(&guest, guest_share, board->watch.offset, len, RW);
    return seen > 0 && same(peer_wrong(&guest, seen, len, 1), 0, "bytes that differ");
}

/* ---- memory of all kinds ---- */

static long memory_anonymous(size_t len) { return small(len); }

static long memory_thp(size_t len)
{
    long addr = call(&owner, SYS_mmap, 0, (long)(len + HUGE_PAGE), RW,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    addr = (long)(((unsigned long)addr + HUGE_PAGE - 1) & -HUGE_PAGE);
    call(&owner, SYS_madvise, addr, (long)len, MADV_HUGEPAGE);
    return addr;
}

static long memory_hugetlb(size_t len)
{
    return call(&owner, SYS_mmap, 0, (long)len, RW,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
}

static long memory_of_file(long fd, size_t len, int flags)
{
    call(&owner, SYS_ftruncate, fd, (long)len);
    return call(&owner, SYS_mmap, 0, (long)len, RW, flags, fd, 0);
}

static long memory_memfd(size_t len)
{
    return memory_of_file(call(&owner, SYS_memfd_create, (long)memory_name, 0), len, MAP_SHARED);
}

static long memory_huge_memfd(size_t len)
{
    return memory_of_file(call(&owner, SYS_memfd_create, (long)memory_name, MFD_HUGETLB), len,
                          MAP_SHARED);
}

static long memory_private_file(size_t len)
{
    return memory_of_file(call(&owner, SYS_openat, AT_FDCWD, (long)file_path, O_RDWR | O_CREAT, 0600),
                          len, MAP_PRIVATE);
}

static long memory_stack(size_t len)
{
    return call(&owner, SYS_mmap, 0, (long)len, RW,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_STACK, -1, 0);
}

static long memory_shm(size_t len)
{
    return call(&owner, SYS_shmat, call(&owner, SYS_shmget, IPC_PRIVATE, (long)len, 01600), 0, 0);
}

static const struct kind {
    const char *name;
    long (*make)(size_t len);
} kinds[] = {
    { "anonymous memory", memory_anonymous },
    { "transparent huge pages", memory_thp },
    { "reserved huge pages", memory_hugetlb },
    { "a memfd", memory_memfd },
    { "a memfd of huge pages", memory_huge_memfd },
    { "a file's private pages", memory_private_file },
    { "a stack", memory_stack },
    { "a SysV segment", memory_shm },
};

/* Whole huge pages, and edges in the midst of them. */
static bool both_ways(const struct kind *kind, size_t skip, size_t len)
{
    long base = kind->make(4 * HUGE_PAGE), addr = base + (long)skip, at;
    bool is;

    if (!same(base > 0, 1, "there is such memory"))
        return false;
    peer_fill(&owner, addr, len, 1);
    is = same(export(addr, len, KD_RW), 0, "EXPORT");
    is = is && same((long)(board->watch.offset % HUGE_PAGE), addr % (long)HUGE_PAGE, "offset modulo 2 MiB");
    at = is ? map_share(&guest, guest_share, board->watch.offset, len, RW) : -1;
    if (!same(at > 0, 1, "it is mapped"))
        return false;
    is = is && same(peer_wrong(&guest, at, len, 1), 0, "owner to guest");
    peer_fill(&guest, at, len, 2);
    is = is && same(peer_wrong(&owner, addr, len, 2), 0, "guest to owner");
    peer_fill(&owner, addr, len, 3);
    is = is && same(peer_wrong(&guest, at, len, 3), 0, "owner to guest again");
    is = is && same(word_moved(), 0, "the word has moved");
    is = is && same(counter("export_pages"), (long)(len / PAGE), "pages exported");
    is = is && same(drop(board->watch.slot), 0, "DROP");
    is = is && same(unmap(&guest, at, len), 0, "munmap by the guest");
    is = is && same(peer_wrong(&owner, addr, len, 3), 0, "the owner's afterwards");
    unmap(&owner, base, 4 * HUGE_PAGE);
    return is;
}

/* Are there any of those that kind is of? */
static bool there_are(const struct kind *kind)
{
    FILE *f = fopen("/proc/sys/vm/nr_hugepages", "r");
    long pages = 0;

    if (!f || fscanf(f, "%ld", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return pages || (kind->make != memory_hugetlb && kind->make != memory_huge_memfd);
}

static void all_kinds(void)
{
    bool is = begin();

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!there_are(&kinds[i]))
            continue;
        right(is && both_ways(&kinds[i], 0, 4 * HUGE_PAGE), "%s, both ways", kinds[i].name);
        right(is && both_ways(&kinds[i], 3 * PAGE, 2 * HUGE_PAGE + 7 * PAGE),
              "%s, from and to the midst of 2 MiB", kinds[i].name);
        right(is && both_ways(&kinds[i], HUGE_PAGE + 511 * PAGE, PAGE), "%s, one page",
              kinds[i].name);
    }
    right(end(), "nothing of that is left");
}

static void reading_only(void)
{
    bool is = begin();
    long addr, at;

    for (size_t i = 0; is && i < sizeof kinds / sizeof *kinds; i++) {
        if (!there_are(&kinds[i]))
            continue;
        addr = kinds[i].make(2 * HUGE_PAGE);
        peer_fill(&owner, addr, 2 * HUGE_PAGE, 1);
        call(&owner, SYS_mprotect, addr, 2 * HUGE_PAGE, RO);
        is = same(export(addr, 2 * HUGE_PAGE, KD_RO), 0, "EXPORT");
        at = map_share(&guest, guest_share, board->watch.offset, 2 * HUGE_PAGE, RO);
        is = is && same(peer_wrong(&guest, at, 2 * HUGE_PAGE, 1), 0, "bytes that differ");
        is = is && same(word_moved(), 0, "the word has moved");
        is = is && same(map_share(&guest, guest_share, board->watch.offset, PAGE, RW), -EACCES, "writing");
        is = is && same(call(&guest, SYS_mprotect, at, PAGE, RW), -EACCES, "writing later");
        is = is && same(drop(board->watch.slot), 0, "DROP");
        unmap(&guest, at, 2 * HUGE_PAGE);
        unmap(&owner, addr, 2 * HUGE_PAGE);
        if (!is)
            printf("that was %s\n", kinds[i].name);
    }
    right(is, "what is exported for reading is read, and not written");
    right(end(), "nothing of that is left");
}

/* ---- how many faults ---- */

static long faults_of_guest(void)
{
    call(&guest, SYS_getrusage, RUSAGE_SELF, (long)&board->usage);
    return board->usage.ru_minflt + board->usage.ru_majflt;
}

static bool few_faults(long addr, size_t len, long huge, long small_ones)
{
    long before[3] = { counter("huge_faults"), counter("faults") }, at;
    bool is;

    peer_fill(&owner, addr, len, 1);
    is = same(export(addr, len, KD_RW), 0, "EXPORT");
    at = map_share(&guest, guest_share, board->watch.offset, len, RW);
    before[2] = faults_of_guest();
    is = is && same(peer_wrong(&guest, at, len, 1), 0, "bytes that differ");
    is = is && same(counter("huge_faults") - before[0], huge, "huge faults");
    is = is && same(counter("faults") - before[1], small_ones, "other faults");
    is = is && same(faults_of_guest() - before[2] <= huge + small_ones, 1, "the kernel counts as many");
    before[2] = faults_of_guest();
    peer_fill(&guest, at, len, 2);
    is = is && same(peer_wrong(&guest, at, len, 2), 0, "bytes that differ when written");
    is = is && same(counter("huge_faults") - before[0] + counter("faults") - before[1],
                    huge + small_ones, "faults after the second and third time");
    is = is && same(faults_of_guest() - before[2], 0, "the kernel's of these");
    unmap(&guest, at, len);
    drop(board->watch.slot);
    unmap(&owner, addr, len);
    return is;
}

/* 2 MiB aligned, of small pages that do not follow each other: the second of each 2 MiB is
   there before the first. Pages touched in turn may follow each other where a huge page was
   freed before, and the driver then maps them as one, as it should. */
static long scattered(size_t len)
{
    long addr = (small(len + HUGE_PAGE) | (long)(HUGE_PAGE - 1)) + 1;

    for (size_t at = PAGE; at < len; at += HUGE_PAGE)
        peer_fill(&owner, addr + (long)at, PAGE, 1);
    return addr;
}

static void counts(void)
{
    bool is = begin();

    /* What the guest's own code touches for the first time is no fault of ours. */
    peer_fill(&guest, call(&guest, SYS_mmap, 0, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), PAGE, 1);
    is = is && same(peer_wrong(&guest, guest_words, 8, 0) <= 8, 1, "a word is read");
    faults_of_guest();
    right(is && few_faults(memory_hugetlb(64 * MiB), 64 * MiB, 32, 0),
          "64 MiB of reserved huge pages take 32 faults, once");
    right(is && few_faults(memory_thp(64 * MiB), 64 * MiB, 32, 0),
          "64 MiB of transparent huge pages take 32 faults, once");
    right(is && few_faults(memory_of_file(call(&owner, SYS_memfd_create, (long)memory_name, MFD_HUGETLB),
                                          16 * MiB, MAP_SHARED), 16 * MiB, 8, 0),
          "16 MiB of a memfd of huge pages take 8 faults, once");
    right(is && few_faults(scattered(8 * MiB), 8 * MiB, 0, 4),
          "8 MiB of small pages take 4 faults, once");
    right(is && few_faults(scattered(8 * MiB) + (long)PAGE, 4 * MiB, 0, 3),
          "4 MiB of small pages that lie in 6 take 3 faults");
    right(end(), "nothing of that is left");
}

/* ---- bounds, rights, refusals ---- */

static void bounds(void)
{
    size_t len = 5 * PAGE;
    uint64_t first, second;
    bool is = begin();
    long addr = small(3 * len), at;

    peer_fill(&owner, addr, 3 * len, 1);
    is = is && same(export(addr, len, KD_RW), 0, "EXPORT");
    first = board->watch.offset;
    is = is && same(export(addr + (long)len, len, KD_RW), 0, "EXPORT of what lies behind it");
    second = board->watch.offset;
    is = is && same((long)(second - first), (long)len, "they are neighbours in the file, too");
    right(is && same(map_share(&guest, guest_share, first - PAGE, len, RO), -ENXIO, "before") &&
          same(map_share(&guest, guest_share, first, len + PAGE, RO), -ENXIO, "over the end") &&
          same(map_share(&guest, guest_share, first + PAGE, len, RO), -ENXIO, "into the next") &&
          same(map_share(&guest, guest_share, first, 2 * len, RO), -ENXIO, "two of them") &&
          same(map_share(&guest, guest_share, second + len, PAGE, RO), -ENXIO, "behind") &&
          same(map_share(&guest, guest_share, 1ull << 62, PAGE, RO), -ENXIO, "far behind"),
          "what is in no export, or in two, cannot be mapped");
    at = map_share(&guest, guest_share, second + PAGE, 2 * PAGE, RW);
    is = is && same(peer_wrong(&guest, at, 2 * PAGE, 1) > 0, 1, "not the first page");
    peer_fill(&guest, at, 2 * PAGE, 2);
    right(is && same(peer_wrong(&owner, addr + (long)(len + PAGE), 2 * PAGE, 2), 0, "the part") &&
          same(peer_wrong(&owner, addr, len + PAGE, 1), 0, "before it"),
          "a part can, and is that part");
    right(is && same(call(&guest, SYS_mmap, 0, PAGE, RO, MAP_PRIVATE, guest_share, (long)first), -EINVAL,
                     "MAP_PRIVATE") &&
          same(map_share(&guest, guest_share, first, PAGE, PROT_READ | PROT_EXEC), -EACCES, "PROT_EXEC") &&
          same(call(&guest, SYS_mprotect, at, PAGE, PROT_READ | PROT_EXEC), -EACCES, "PROT_EXEC later") &&
          same(map_share(&guest, guest_share, 0, PAGE, RW), -EACCES, "words that can be written"),
          "private, or to be executed, or to write words, it is not");
    right(is && same(call(&guest, SYS_mremap, at, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE), -EFAULT, "longer") &&
          same(call(&guest, SYS_mremap, at, 0, 2 * PAGE, MREMAP_MAYMOVE), -EFAULT, "twice") &&
          same(call(&guest, SYS_madvise, at, 2 * PAGE, MADV_DOFORK), -EINVAL, "for children"),
          "nor can it grow, or be inherited after all");
    right(end(), "nothing of that is left");
}

static void refusals(void)
{
    bool is = begin();
    long addr = small(4 * PAGE), fd, beyond, huge, at;

    right(is && same(export(addr + 1, PAGE, KD_RO), -EINVAL, "unaligned") &&
          same(export(addr, 0, KD_RO), -EINVAL, "empty") &&
          same(export(addr, PAGE, 0), -EINVAL, "no right") &&
          same(export(addr, PAGE, PW_KD_WRITE), -EINVAL, "to write only") &&
          same(export(addr, PAGE, 4 | KD_RO), -EINVAL, "unknown rights"),
          "EXPORT of what makes no sense is EINVAL");
    unmap(&owner, addr + (long)PAGE, PAGE);
    right(is && same(export(addr, 3 * PAGE, KD_RO), -ENOENT, "a hole"), "of what is not mapped, ENOENT");
    call(&owner, SYS_mprotect, addr, PAGE, PROT_NONE);
    call(&owner, SYS_mprotect, addr + (long)(2 * PAGE), PAGE, RO);
    right(is && same(export(addr, PAGE, KD_RO), -EACCES, "PROT_NONE") &&
          same(export(addr + (long)(2 * PAGE), 2 * PAGE, KD_RW), -EACCES, "PROT_READ"),
          "of what the owner may not use so, EACCES");

    fd = call(&owner, SYS_memfd_create, (long)memory_name, 0);
    beyond = memory_of_file(fd, 4 * PAGE, MAP_SHARED);
    call(&owner, SYS_ftruncate, fd, PAGE);
    right(is && same(export(beyond, 4 * PAGE, KD_RW), -EOPNOTSUPP, "beyond a file's end"),
          "of a file that is shorter than that, EOPNOTSUPP");
    huge = memory_hugetlb(HUGE_PAGE);
    is = is && same(export(huge, HUGE_PAGE, KD_RW), 0, "EXPORT");
    at = map_share(&owner, share, board->watch.offset, HUGE_PAGE, RW);
    peer_fill(&owner, at, HUGE_PAGE, 1);
    is = is && same(export(at, HUGE_PAGE, KD_RW), -EOPNOTSUPP, "huge");
    owned = small(PAGE);
    is = is && same(export(owned, PAGE, KD_RW), 0, "EXPORT");
    at = map_share(&owner, share, board->watch.offset, PAGE, RW);
    peer_fill(&owner, at, PAGE, 1);
    right(is && same(export(at, PAGE, KD_RW), -EOPNOTSUPP, "small"),
          "of what was attached, EOPNOTSUPP, large or small");
    right(same(drop(4000), -ENOENT, "DROP"), "there is no such slot to drop");
    right(is && same(counter("exports"), 2, "exports") &&
          same(counter("export_pages"), HUGE_PAGE / PAGE + 1, "pages") &&
          same(counter("watches"), 2, "watches"), "what was refused has left nothing");
    right(end(), "nothing of all that is left");
}

/* A file system that writes pages to a disk has to know who writes into them. */
static void on_disk(void)
{
    bool is = begin();
    long fd = call(&owner, SYS_openat, AT_FDCWD, (long)disk_path, O_RDWR | O_CREAT, 0600);
    long addr = memory_of_file(fd, 4 * PAGE, MAP_SHARED), at;

    is = is && same(addr > 0, 1, "the file is mapped");
    peer_fill(&owner, addr, 4 * PAGE, 1);
    right(is && same(export(addr, 4 * PAGE, KD_RW), -EOPNOTSUPP, "EXPORT"),
          "of a file on a disk, to be written, EOPNOTSUPP");
    is = is && same(export(addr, 4 * PAGE, KD_RO), 0, "EXPORT");
    at = map_share(&guest, guest_share, board->watch.offset, 4 * PAGE, RO);
    right(is && same(peer_wrong(&guest, at, 4 * PAGE, 1), 0, "bytes that differ"), "to be read, it is");
    addr = memory_of_file(fd, 4 * PAGE, MAP_PRIVATE);
    peer_fill(&owner, addr, 4 * PAGE, 2);
    is = is && same(export(addr, 4 * PAGE, KD_RW), 0, "EXPORT");
    at = map_share(&guest, guest_share, board->watch.offset, 4 * PAGE, RW);
    is = is && same(peer_wrong(&guest, at, 4 * PAGE, 2), 0, "bytes that differ");
    peer_fill(&guest, at, 4 * PAGE, 3);
    right(is && same(peer_wrong(&owner, addr, 4 * PAGE, 3), 0, "bytes that differ"),
          "so are its private pages, to be written");
    right(end(), "nothing of that is left");
}

static void other_users(void)
{
    bool is = begin() && attach_small(3 * PAGE);

    call(&guest, SYS_setresuid, -1, 1000, 0);
    right(is && same(map_share(&guest, guest_share, board->watch.offset, PAGE, RO), -EACCES, "an export") &&
          same(map_share(&guest, guest_share, 0, PAGE, RO), -EACCES, "words"),
          "another user maps nothing, although it has the descriptor");
    call(&guest, SYS_setresuid, -1, 0, 0);
    right(map_share(&guest, guest_share, board->watch.offset, PAGE, RO) > 0, "who is the same again, does");
    right(end(), "nothing of that is left");

    is = begin_as(1000) && attach_small(3 * PAGE);
    right(is, "a user who is not root exports and attaches");
    right(end(), "nothing of that is left");

    peer_start(&owner);
    peer_start(&guest);
    call(&owner, SYS_setresuid, 1000, 1000, 1000);
    control = call(&owner, SYS_openat, AT_FDCWD, (long)device, O_RDWR | O_CLOEXEC);
    is = same(call(&owner, SYS_ioctl, control, PW_KD_SHARE, (long)&board->share), 0, "SHARE");
    guest_share = peer_pass(&owner, board->share.fd, &guest);
    owned = small(PAGE);
    is = is && same(export(owned, PAGE, KD_RW), 0, "EXPORT");
    right(is && same(map_share(&guest, guest_share, board->watch.offset, PAGE, RO), -EACCES, "root"),
          "root has no right to what another user exports");
    right(end(), "nothing of that is left");
}

static void limits(void)
{
    long before = counter("refused"), addr, first;
    bool is = begin_as(1000);
    FILE *f;

    board->limit = (struct rlimit){ MiB, MiB };
    call(&owner, SYS_setrlimit, RLIMIT_MEMLOCK, (long)&board->limit);
    addr = small(8 * MiB);
    is = is && same(export(addr, MiB + PAGE, KD_RW), -EDQUOT, "more than RLIMIT_MEMLOCK");
    is = is && same(export(addr, MiB - PAGE, KD_RW), 0, "less");
    first = board->watch.slot;
    is = is && same(export(addr + (long)MiB, 2 * PAGE, KD_RW), -EDQUOT, "more, together");
    is = is && same(export(addr + (long)MiB, PAGE, KD_RW), 0, "as much as may be");
    is = is && same(drop((unsigned)first), 0, "DROP");
    is = is && same(export(addr + (long)MiB, MiB - PAGE, KD_RW), 0, "again");
    right(is && same(counter("refused"), before + 2, "refused"), "RLIMIT_MEMLOCK is kept, and counted when reached");
    right(end(), "nothing of that is left");

    f = fopen("/sys/module/pinwheel/parameters/user_limit", "w");
    is = f && fprintf(f, "4") > 0 && fclose(f) == 0 && begin();
    addr = small(8 * MiB);
    is = is && same(export(addr, 4 * MiB + PAGE, KD_RW), -EDQUOT, "more than user_limit");
    is = is && same(export(addr, 4 * MiB, KD_RW), 0, "as much");
    is = is && same(export(addr, PAGE, KD_RW), -EDQUOT, "any more");
    right(is, "so is the driver's limit for each user, for root, too");
    f = fopen("/sys/module/pinwheel/parameters/user_limit", "w");
    right(f && fprintf(f, "0") > 0 && fclose(f) == 0 && end(), "nothing of that is left");
}

/* ---- what the guest does with its mapping ---- */

static void cut_to_pieces(void)
{
    size_t len = 4 * HUGE_PAGE;
    bool is = begin();
    long addr = memory_hugetlb(len), at, moved, room;

    peer_fill(&owner, addr, len, 1);
    is = is && same(export(addr, len, KD_RW), 0, "EXPORT");
    at = map_share(&guest, guest_share, board->watch.offset, len, RW);
    is = is && same(peer_wrong(&guest, at, len, 1), 0, "bytes that differ");
    is = is && same(unmap(&guest, at + (long)(HUGE_PAGE + 5 * PAGE), 3 * PAGE), 0, "munmap amid");
    is = is && same(counter("mappings"), 2, "mappings");
    is = is && same(call(&guest, SYS_mprotect, at + (long)(2 * HUGE_PAGE + PAGE), PAGE, RO), 0, "mprotect");
    is = is && same(counter("mappings"), 4, "mappings");
    right(is && same(peer_wrong(&guest, at, HUGE_PAGE, 1), 0, "the first 2 MiB"),
          "a mapping in four pieces is four");
    room = call(&guest, SYS_mmap, 0, 2 * HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    moved = call(&guest, SYS_mremap, at, HUGE_PAGE, HUGE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                 (room | (long)(HUGE_PAGE - 1)) + 1 - (long)(3 * PAGE));
    is = is && same(moved > 0, 1, "mremap");
    is = is && same(peer_wrong(&guest, moved, HUGE_PAGE, 1), 0, "what was moved");
    peer_fill(&guest, moved, HUGE_PAGE, 2);
    right(is && same(peer_wrong(&owner, addr, HUGE_PAGE, 2), 0, "written there"), "one that was moved shows the same");
    is = is && same(call(&guest, SYS_mprotect, at + (long)(3 * HUGE_PAGE), HUGE_PAGE, RO), 0, "mprotect");
    is = is && same(call(&guest, SYS_mprotect, at + (long)(3 * HUGE_PAGE), HUGE_PAGE, RW), 0, "and back");
    peer_fill(&guest, at + (long)(3 * HUGE_PAGE), HUGE_PAGE, 3);
    right(is && same(peer_wrong(&owner, addr + (long)(3 * HUGE_PAGE), HUGE_PAGE, 3), 0, "written"),
          "one whose rights were taken and given back is written");
    is = is && same(drop(board->watch.slot), 0, "DROP");
    right(is && same(peer_wrong(&guest, moved, HUGE_PAGE, 0), 0, "moved") &&
          same(peer_wrong(&guest, at + (long)HUGE_PAGE, 5 * PAGE, 0), 0, "before the hole") &&
          same(peer_wrong(&guest, at + (long)(2 * HUGE_PAGE + PAGE), PAGE, 0), 0, "read-only") &&
          same(peer_wrong(&guest, at + (long)(3 * HUGE_PAGE), HUGE_PAGE, 0), 0, "the end"),
          "every piece is taken back");
    right(end(), "nothing of that is left");
}

static void forks(void)
{
    bool is = begin() && attach_small(9 * PAGE);
    long child;

    right(is && same(peer_child_reads(&guest, seen), SIGSEGV, "signal") &&
          same(counter("mappings"), 1, "mappings"), "a child of the guest has no mapping");
    child = peer_fork(&owner);
    peer_fill(&owner, owned, extent, 2);
    is = is && same(peer_wrong(&guest, seen, extent, 2), 0, "what the owner wrote after the fork");
    peer_fill(&guest, seen, extent, 3);
    right(is && same(peer_wrong(&owner, owned, extent, 3), 0, "what the guest wrote") &&
          same(word_moved(), 0, "the word has moved"), "the owner's fork changes nothing");
    is = is && same(drop(board->watch.slot), 0, "DROP while the child is there");
    right(is && same(peer_wrong(&guest, seen, extent, 0), 0, "afterwards"), "nor does a child keep an export");
    kill((pid_t)child, SIGKILL);
    right(end(), "nothing of that is left");

    /* The child has the control descriptor, too: that is open until both are gone. */
    is = begin() && attach_small(9 * PAGE);
    child = peer_fork(&owner);
    peer_end(&owner, SIGKILL);
    is = is && same(peer_wrong(&guest, seen, extent, 1), 0, "what the owner had");
    right(is && same(event_now(), PW_KD_GONE, "event"), "an owner that is killed leaves what its child's descriptor holds");
    kill((pid_t)child, SIGKILL);
    right(is && counter_becomes("exports", 0) && same(peer_wrong(&guest, seen, extent, 0), 0, "afterwards") &&
          same(event_now(), PW_KD_DROPPED, "event"), "until the child ends, too");
    right(end(), "nothing of that is left");
}

/* ---- taking back ---- */

/* The owner's frame numbers. */
static void frames_of(struct peer *p, long addr, size_t pages, uint64_t *frames)
{
    char path[64];
    int fd;

    snprintf(path, sizeof path, "/proc/%d/pagemap", p->pid);
    fd = open(path, O_RDONLY);
    if (pread(fd, frames, pages * 8, (off_t)((unsigned long)addr / PAGE * 8)) != (ssize_t)(pages * 8))
        memset(frames, 0, pages * 8);
    close(fd);
    for (size_t i = 0; i < pages; i++)
        frames[i] &= (1ull << 55) - 1;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* How many of the frames are now behind other memory of the owner, much of it new? */
static long frames_again(uint64_t *frames, size_t pages, long *addr, size_t len)
{
    uint64_t *now = malloc(len / PAGE * 8);
    long again = 0;

    *addr = small(len);
    peer_fill(&owner, *addr, len, 77);
    frames_of(&owner, *addr, len / PAGE, now);
    qsort(frames, pages, 8, by_value);
    for (size_t i = 0; i < len / PAGE; i++)
        again += now[i] && bsearch(&now[i], frames, pages, 8, by_value) != NULL;
    if (!now[0])
        again = -1;
    free(now);
    return again;
}

static void owner_unmaps(const struct kind *kind)
{
    enum { PAGES = 1024 };
    uint64_t frames[PAGES];
    size_t len = PAGES * PAGE;
    bool is = begin();
    long addr = kind->make(len), at, other = 0;

    peer_fill(&owner, addr, len, 1);
    is = is && same(export(addr, len, KD_RW), 0, "EXPORT");
    at = map_share(&guest, guest_share, board->watch.offset, len, RW);
    is = is && same(peer_wrong(&guest, at, len / 2, 1), 0, "bytes that differ");
    frames_of(&owner, addr, PAGES, frames);
    is = is && same(word_moved(), 0, "moved before");
    unmap(&owner, addr, len);
    right(is && same(word_moved(), 1, "moved") && same(event_now(), PW_KD_UNMAP, "event"),
          "%s: when the owner unmaps, the word moves", kind->name);
    is = is && same(frames_again(frames, PAGES, &other, 32 * MiB), 0, "frames that are used again");
    right(is && same(peer_wrong(&guest, at, len, 1), 0, "bytes that differ"),
          "%s: the guest sees the old pages, which are nobody else's", kind->name);
    peer_fill(&guest, at, len, 2);
    is = is && same(peer_wrong(&owner, other, 32 * MiB, 77), 0, "the owner's other memory");
    is = is && same(drop(board->watch.slot), 0, "DROP") && same(event_now(), PW_KD_DROPPED, "event");
    unmap(&owner, other, 32 * MiB);
    other = small(48 * MiB);
    peer_fill(&owner, other, 48 * MiB, 78);
    is = is && same(peer_wrong(&guest, at, len, 0), 0, "bytes that are of anybody");
    peer_fill(&guest, at, len, 3);
    right(is && same(peer_wrong(&owner, other, 48 * MiB, 78), 0, "the owner's new memory") &&
          same(counter("export_pages"), 0, "pages exported"),
          "%s: when it is dropped, the guest reads and writes nobody's", kind->name);
    right(is && same(map_share(&guest, guest_share, board->watch.offset, len, RW), -ENXIO, "mmap"),
          "%s: and cannot map it again", kind->name);
    right(end(), "nothing of that is left");
}

static bool late_page_is_its_own(void)
{
    bool is = begin() && attach_small(3 * HUGE_PAGE);
    long again, late = counter("late_faults");

    again = map_share(&guest, guest_share, board->watch.offset, extent, RW);
    is = is && same(drop(board->watch.slot), 0, "DROP");
    peer_fill(&guest, seen, PAGE, 5);
    is = is && same(peer_wrong(&guest, again, extent, 0), 0, "what the other mapping shows");
    is = is && same(counter("late_faults") > late, 1, "it is counted");
    return same(counter("late_faults") - late <= 5, 1, "few faults") && is;
}

static void taking_back(void)
{
    bool is;
    long status;

    for (size_t i = 0; i < 3; i++)
        if (there_are(&kinds[i]))
            owner_unmaps(&kinds[i]);
    right(late_page_is_its_own(), "two mappings of what is dropped have nothing in common");
    right(end(), "nothing of that is left");

    is = begin() && attach_small(2 * HUGE_PAGE);
    peer_end(&owner, SIGKILL);
    right(is && counter_becomes("exports", 0) && same(peer_wrong(&guest, seen, extent, 0), 0, "bytes") &&
          same(event_now(), PW_KD_DROPPED, "event") && same(map_share(&guest, guest_share, board->watch.offset, PAGE, RO), -ENXIO, "mmap"),
          "when the owner is killed, it is taken back");
    right(map_words(&guest, guest_share) > 0, "the words can be mapped still");
    right(end(), "nothing of that is left");

    is = begin() && attach_small(2 * HUGE_PAGE);
    peer_end(&guest, SIGKILL);
    is = is && counter_becomes("mappings", 0) && same(counter("exports"), 1, "exports");
    right(is && same(peer_wrong(&owner, owned, extent, 1), 0, "bytes") && same(drop(board->watch.slot), 0, "DROP"),
          "when the guest is killed, the owner has lost nothing");
    right(end(), "nothing of that is left");

    is = begin() && attach_small(2 * HUGE_PAGE);
    send(owner.sock, "", 0, 0);     /* no order: the owner waits for one no more */
    right(is && waitpid(owner.pid, NULL, 0) == owner.pid && counter_becomes("exports", 0) &&
          same(peer_wrong(&guest, seen, extent, 0), 0, "bytes"), "so it is when the owner exits");
    close(owner.sock);
    owner.pid = 0;
    right(end(), "nothing of that is left");

    is = begin() && attach_small(2 * HUGE_PAGE);
    status = call(&owner, SYS_execve, (long)sleep_path, (long)sleep_args, 0);
    right(is && same(status, -EPIPE, "execve") && counter_becomes("exports", 0) &&
          same(peer_wrong(&guest, seen, extent, 0), 0, "bytes"), "and when it becomes another program");
    right(end(), "nothing of that is left");
}

static void every_order(void)
{
    static const char *const orders[] = { "cso", "cos", "sco", "soc", "ocs", "osc" };
    for (size_t i = 0; i < 6; i++) {
        bool is = begin() && attach_small(2 * HUGE_PAGE);

        for (const char *o = orders[i]; *o; o++)
            if (*o == 'c')
                call(&owner, SYS_close, control);
            else if (*o == 's')
                is &= call(&owner, SYS_close, share) == 0 && call(&guest, SYS_close, guest_share) == 0;
            else
                is &= unmap(&guest, seen, HUGE_PAGE) == 0;
        is = is && same(counter("exports"), 0, "exports") && same(counter("export_pages"), 0, "pages");
        is = is && same(peer_wrong(&guest, seen + (long)HUGE_PAGE, HUGE_PAGE, 0), 0, "bytes");
        is = is && same(event_now(), PW_KD_DROPPED, "event");
        right(is && same(peer_wrong(&owner, owned, extent, 1), 0, "the owner's"),
              "closed in the order %s (control, share, mapped)", orders[i]);
        right(end(), "nothing of that is left");
    }
}

static long users_of_module(void)
{
    FILE *f = fopen("/sys/module/pinwheel/refcnt", "r");
    long users = -1;

    if (!f || fscanf(f, "%ld", &users) != 1)
        users = -1;
    if (f)
        fclose(f);
    return users;
}

static void in_use(void)
{
    bool is = begin() && attach_small(3 * PAGE);

    peer_end(&owner, SIGKILL);
    call(&guest, SYS_close, guest_share);
    unmap(&guest, guest_words, 4 * PAGE);
    is = is && counter_becomes("exports", 0);
    right(is && same(users_of_module() > 0, 1, "it has users"), "a mapping alone keeps the module");
    right(end() && same(users_of_module(), 0, "users"), "and nothing else does");
}

/* ---- what changes while it is pinned ---- */

struct changer {
    char *range;
    size_t len;
    volatile bool stop;
};

static void *change(void *arg)
{
    struct changer *c = arg;

    for (size_t i = 0; !c->stop; i += 17)
        madvise(c->range + i * PAGE % c->len, PAGE, MADV_DONTNEED);
    return NULL;
}

/* Until one is refused: on an idle machine, nearly each. */
static long export_while_changing(struct changer *c)
{
    enum { THREADS = 2, SECONDS = 120 };
    time_t late = time(NULL) + SECONDS;
    struct pw_kd_watch watch = { .start = (uint64_t)c->range, .end = (uint64_t)c->range + c->len,
                                 .access = KD_RW };
    int fd = open(device, O_RDWR | O_CLOEXEC), err = 0;
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, change, c);
    while (!err && time(NULL) < late) {
        err = ioctl(fd, PW_KD_EXPORT, &watch) ? errno : 0;
        board->drop = (struct pw_kd_slot){ .slot = watch.slot };
        if (!err)
            ioctl(fd, PW_KD_DROP, &board->drop);
        watch.offset = watch.word = watch.slot = 0;
        watch.id = 0;
    }
    c->stop = true;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    close(fd);
    return -err;
}

static void changes(void)
{
    struct changer c = { .len = 64 * MiB };

    c.range = mmap(NULL, c.len, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(c.range, c.len, MADV_NOHUGEPAGE);
    right(same(export_while_changing(&c), -EAGAIN, "EXPORT"),
          "memory that goes on changing while it is pinned is refused");
    munmap(c.range, c.len);
    right(nothing_left(), "nothing of that is left");
}

/* ---- many ---- */

/* A page of each that is not given back would be 40 MiB, and a script sees that. */
static void thousands(void)
{
    enum { TIMES = 10000 };
    int fd = open(device, O_RDWR | O_CLOEXEC), done = 0;
    char *memory = mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct pw_kd_share given = { 0 };

    if (ioctl(fd, PW_KD_SHARE, &given) == 0)
        while (done < TIMES) {
            struct pw_kd_watch watch = { .start = (uint64_t)memory, .end = (uint64_t)memory + PAGE,
                                         .access = KD_RW };
            struct pw_kd_slot slot = { 0 };
            char *at;

            *memory = (char)done;
            if (ioctl(fd, PW_KD_EXPORT, &watch))
                break;
            slot.slot = watch.slot;
            at = mmap(NULL, PAGE, RW, MAP_SHARED, given.fd, (off_t)watch.offset);
            if (at == MAP_FAILED || *at != (char)done || ioctl(fd, PW_KD_DROP, &slot) || *at)
                break;
            munmap(at, PAGE);
            done++;
        }
    right(same(done, TIMES, "times"), "memory is exported, mapped and taken back 10000 times");
    munmap(memory, PAGE);
    close(given.fd);
    close(fd);
    right(nothing_left(), "nothing of that is left");
}

/* ---- */

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*tell)(void);
    } stories[] = {
        { "all_kinds", all_kinds }, { "reading_only", reading_only }, { "counts", counts },
        { "bounds", bounds }, { "refusals", refusals }, { "on_disk", on_disk },
        { "other_users", other_users }, { "limits", limits }, { "cut_to_pieces", cut_to_pieces }, { "forks", forks },
        { "taking_back", taking_back }, { "every_order", every_order }, { "in_use", in_use },
        { "changes", changes }, { "thousands", thousands },
    };

    for (size_t i = 0; i < sizeof stories / sizeof *stories; i++) {
        bool wanted = argc == 1;

        for (int j = 1; j < argc; j++)
            wanted |= strcmp(argv[j], stories[i].name) == 0;
        if (wanted)
            stories[i].tell();
    }
    return 0;
}
