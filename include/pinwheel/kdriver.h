/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* kdriver.h - what /dev/pinwheel and a program say to each other.
 *
 * The one header that the kernel module (kdriver/) and user space share. It compiles
 * in both. Every structure has the same layout for 32 and 64 bits; what is reserved
 * must be 0, and a bit that is not known is refused with EINVAL, so that it can get a
 * meaning later. Versions: PW_KD_VERSION changes when something here changes its
 * meaning; what is added since shows in pw_kd_info.services or in a number of a call
 * that answers ENOTTY.
 *
 * Three kinds of descriptor:
 *
 *     control   open("/dev/pinwheel"): EDQUOT, the user has it open too often. Belongs to
 *               the process image (mm) that opened it: a fork()ed child's calls answer
 *               EXDEV, but for PW_KD_INFO. Closing the last copy ends every watch and
 *               takes back every export; what is mapped of it is no copy.
 *     share     PW_KD_SHARE. Whoever is given it, and has the same effective user, may
 *               map what the control descriptor exports. It keeps nothing alive.
 *     pool      PW_KD_POOL. Pages of its own, which live until the last mapping and the
 *               last descriptor are gone.
 *
 * Generation words. A control descriptor has an array of 64-bit words, which it and its
 * share descriptors map read-only at offset 0. Word 0 moves with every change of
 * anything watched. Word s, from PW_KD_FIRST_SLOT on, is that of slot s: in its low
 * byte the last event (enum pw_kd_event), above it a count. A change moves the slot's
 * word first and word 0 after it, both before the change returns to whoever made it;
 * so does the end of all watches, but PW_KD_DROP moves the slot's word alone.
 * A slot that is given out again goes on counting, so no value comes twice, and word 0
 * only grows. A fork()ed child has its parent's words mapped, until it maps others.
 */
#ifndef PINWHEEL_KDRIVER_H
#define PINWHEEL_KDRIVER_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define PW_KD_PATH "/dev/pinwheel"
#define PW_KD_VERSION 1

/* pw_kd_info.services */
#define PW_KD_SERVICE_WATCH  (1u << 0)
#define PW_KD_SERVICE_POOL   (1u << 1)
#define PW_KD_SERVICE_ATTACH (1u << 2)
#define PW_KD_SERVICE_NIC    (1u << 3)  /* a later version's */

/* fstatfs().f_type of share and pool descriptors, and of no other file. */
#define PW_KD_MAGIC 0x70696e77

/* Words of 8 bytes; slots below belong to the driver. */
#define PW_KD_FIRST_SLOT 8

/* Exports lie at file offsets from here on, in a share descriptor. */
#define PW_KD_EXPORTS (1ull << 32)

/* What a watched range's last change was: the low byte of its word. */
enum pw_kd_event {
    PW_KD_NONE = 0,
    PW_KD_UNMAP = 1,        /* munmap, mmap over it, mremap, brk, shmdt */
    PW_KD_DISCARD = 2,      /* pages dropped or moved: madvise, hole punch, truncate,
                             * reclaim, migration, copy on write */
    PW_KD_PROTECT = 3,      /* mprotect took away a right that was asked for */
    PW_KD_GONE = 4,         /* the process image ended: exit, exec */
    PW_KD_DROPPED = 5,      /* PW_KD_DROP, or the control descriptor was closed */
};

/* What is done to memory: pw_kd_watch.access. At least READ. */
#define PW_KD_READ  (1u << 0)
#define PW_KD_WRITE (1u << 1)

struct pw_kd_info {
    __u32 version;          /* out: PW_KD_VERSION of the driver */
    __u32 services;         /* out: PW_KD_SERVICE_... */
    __u64 words_bytes;      /* out: to map at offset 0; slots are below this / 8 */
    __u64 user_bytes;       /* out: pinned for this user now, by pools and exports */
    __u64 user_bytes_max;   /* out: how many may be, when this process asks: of the
                             * driver's limit for a user and, but for CAP_IPC_LOCK,
                             * RLIMIT_MEMLOCK the smaller */
    __u64 id;               /* out: of this control descriptor, and of no other one since
                             * the driver was loaded; not 0 */
    __u64 reserved[3];
};

/* PW_KD_WATCH and PW_KD_EXPORT. [start, end): multiples of 4 KiB, of this process.
 * A change of them that is going on is waited for. On return the slot's word is `word`
 * as long as nothing has happened; what happens from now on moves it. */
struct pw_kd_watch {
    __u64 start, end;
    __u32 access;           /* PW_KD_READ, PW_KD_WRITE */
    __u32 slot;             /* out */
    __u64 word;             /* out */
    __u64 offset;           /* out, EXPORT: where start lies in a share descriptor. Never
                             * given twice; equal to start modulo 2 MiB, so that huge
                             * pages can be mapped as such */
    __u64 id;               /* out: as pw_kd_info.id. Another one than before: somebody
                             * has closed the descriptor, and its number is another's */
    __u64 reserved[2];
};

struct pw_kd_slot {
    __u32 slot;
    __u32 reserved;
};

struct pw_kd_share {
    __s32 fd;               /* out: close-on-exec */
    __u32 reserved;
};

/* PW_KD_POOL. size: a multiple of 2 MiB, of addresses; no page is taken yet. */
struct pw_kd_pool {
    __u64 size;
    __s32 fd;               /* out: close-on-exec; fstat() tells the size, which
                             * nobody can change */
    __u32 reserved;
    __u64 reserved2[2];
};

/* On a pool descriptor. offset, len: multiples of 2 MiB, inside the pool; len > 0. */
struct pw_kd_part {
    __u64 offset, len;
    __s32 node;             /* FILL: NUMA node; -1: by the caller's memory policy.
                             * DRAIN: 0 */
    __u32 reserved;
};

struct pw_kd_pool_info {
    __u64 size;             /* out: bytes of addresses */
    __u64 filled;           /* out: bytes of pages behind them */
    __u64 reserved[2];
};

/* On a control descriptor. Any thread; may be interrupted (EINTR) before anything was
 * done. Besides: EFAULT for an argument that is not readable or writable, EINVAL for
 * one out of bounds or with reserved bits, ENOTTY for a call that does not exist.
 *
 *   INFO    0
 *   WATCH   0; ENOENT  part of the range is not mapped
 *              EACCES  not with these rights
 *              ENOSPC  no slot is free
 *              EXDEV   the descriptor is another process image's
 *              ENOMEM
 *   EXPORT  as WATCH, and the pages are pinned until DROP;
 *              EDQUOT  over RLIMIT_MEMLOCK or the driver's limit for the user
 *              EOPNOTSUPP  memory that cannot be pinned (a device's)
 *              EAGAIN  it changed while it was being pinned
 *   DROP    0; ENOENT  no such slot. Ends a watch, or takes back an export: who has it
 *              mapped finds the word moved, and pages of no meaning from then on
 *   SHARE   0; EMFILE, ENFILE, ENOMEM
 *   POOL    0; EMFILE, ENFILE, ENOMEM
 *
 * On a pool descriptor, from any process that has it:
 *
 *   FILL    0; pinned pages of 2 MiB are behind that part now, zeroed where there were
 *              none; ENOMEM  no such pages are left, nothing was added
 *              EDQUOT  over a limit, as EXPORT; charged to the calling user
 *              EINVAL  also: no such node
 *   DRAIN   0; that part has no pages any more
 *   POOL_INFO  0
 *
 * mmap() of a share descriptor at [offset, offset + len) of an export: MAP_SHARED, with
 * rights that the export has; EACCES not with these, or another user; ENXIO no such
 * export (any more). A mapping is never torn away: when the export is taken back, it
 * shows pages of no meaning, and the slot's word tells. It is not inherited by fork().
 * mmap() of a pool descriptor: MAP_SHARED; by huge entries where the address is equal to
 * the offset modulo 2 MiB; usable for get_user_pages, so that a NIC can register it. A
 * touch where there is no page fills the 2 MiB around it, as FILL does with node -1, and
 * is a SIGBUS where FILL would fail. Inherited by fork(), shared. */
#define PW_KD_IOC 0xb9
#define PW_KD_INFO      _IOR(PW_KD_IOC, 0x00, struct pw_kd_info)
#define PW_KD_WATCH     _IOWR(PW_KD_IOC, 0x01, struct pw_kd_watch)
#define PW_KD_EXPORT    _IOWR(PW_KD_IOC, 0x02, struct pw_kd_watch)
#define PW_KD_DROP      _IOW(PW_KD_IOC, 0x03, struct pw_kd_slot)
#define PW_KD_SHARE     _IOWR(PW_KD_IOC, 0x04, struct pw_kd_share)
#define PW_KD_POOL      _IOWR(PW_KD_IOC, 0x05, struct pw_kd_pool)
#define PW_KD_FILL      _IOW(PW_KD_IOC, 0x10, struct pw_kd_part)
#define PW_KD_DRAIN     _IOW(PW_KD_IOC, 0x11, struct pw_kd_part)
#define PW_KD_POOL_INFO _IOR(PW_KD_IOC, 0x12, struct pw_kd_pool_info)
/* 0x20 to 0x3f: the NIC service. */

#endif
