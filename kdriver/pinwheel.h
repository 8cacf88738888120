/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* pinwheel.h - the driver's own structures; user space has include/pinwheel/kdriver.h.
 *
 *     main.c      the device, control descriptors, which call goes where
 *     words.c     generation words and slots
 *     watch.c     ranges whose changes move a word
 *     export.c    ranges whose pages are pinned, so that others can map them
 *     share.c     descriptors through which they do
 *     pool.c      pinned hugepages
 *     user.c      what each user has pinned, and may
 *     inode.c     files that are in no directory
 *     counters.c  what sysfs shows
 *     compat.h    where kernels differ
 *
 * Locks, in this order: control->lock, mmap_lock (of the calling process),
 * share->lock, export->lock. An interval notifier's callback takes none of them: it
 * moves words, by atomic instructions, and returns. Nothing is unpinned, unmapped or
 * freed there.
 */
#ifndef PINWHEEL_KDRIVER_INNER_H
#define PINWHEEL_KDRIVER_INNER_H

#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/uidgid.h>
#include <linux/xarray.h>

#include "compat.h"
#include "../include/pinwheel/kdriver.h"

struct pwk_user;
struct pwk_export;
struct pwk_share;

/* words.c: what a control descriptor and its share descriptors map read-only. Freed
 * with the last who refers to it.
 */
struct pwk_words {
	struct kref ref;
	atomic64_t *word;		/* vmalloc_user() */
	unsigned int slots;		/* number of words */
	struct file *file;		/* what mappings refer to */
};

/* A range that is watched; an export has one, too. Embedded, or alone. */
struct pwk_slot {
	struct mmu_interval_notifier notifier;
	struct pwk_words *words;
	unsigned int number;
	u32 access;
	struct pwk_export *export;	/* NULL: only watched */
};

/* A control descriptor. */
struct pwk_control {
	struct mm_struct *mm;		/* mmgrab()bed: the structure, not the memory */
	u64 id;				/* of no other descriptor */
	kuid_t uid;			/* effective, of who opened it */
	struct pwk_user *user;		/* who opened it */
	struct mutex lock;		/* slots, and what is made on first use */
	struct xarray slots;		/* by number: struct pwk_slot */
	struct pwk_words *words;
	struct pwk_share *share;	/* made on first use */
};

/* words.c */
struct pwk_words *pwk_words_make(void);		/* NULL: no memory */
void pwk_words_put(struct pwk_words *words);
void pwk_word_move(struct pwk_words *words, unsigned int number,
		   enum pw_kd_event event);	/* any context */
void pwk_words_move(struct pwk_words *words, unsigned int slot,
		    enum pw_kd_event event);	/* the slot's, then word 0; likewise */
/* 0, -EINVAL, -EACCES. */
int pwk_words_mmap(struct pwk_words *words, struct vm_area_struct *vma);

/* watch.c. Under control->lock but for the notifier's callback. */
int pwk_slot_open(struct pwk_control *control, u64 start, u64 end, u32 access,
		  struct pwk_slot **out, u64 *word);
void pwk_slot_close(struct pwk_control *control, struct pwk_slot *slot,
		    enum pw_kd_event event);	/* moves its word alone, and frees it */

/* export.c, share.c. Under control->lock. */
int pwk_export_open(struct pwk_control *control, struct pw_kd_watch *arg);
/* Mappings show nothing more. Its slot's word has moved; the slot is gone already. */
void pwk_export_close(struct pwk_export *export);
struct file *pwk_share_file(struct pwk_control *control);	/* or ERR_PTR() */
void pwk_share_close(struct pwk_control *control);

/* pool.c */
struct file *pwk_pool_file(u64 size);		/* or ERR_PTR() */

/* user.c: any process context. */
struct pwk_user *pwk_user_get(void);		/* the calling one; NULL: no memory */
void pwk_user_put(struct pwk_user *user);
int pwk_user_charge(struct pwk_user *user, u64 bytes);	/* 0, -EDQUOT */
void pwk_user_uncharge(struct pwk_user *user, u64 bytes);
u64 pwk_user_bytes(struct pwk_user *user);
u64 pwk_user_bytes_max(void);			/* of the calling process */
int pwk_user_open(struct pwk_user *user);	/* 0, -EDQUOT: has the device open too often */
void pwk_user_close(struct pwk_user *user);

/* inode.c: a file that is in no directory, with an address space of its own; or
 * ERR_PTR(). It holds ops->owner. Not under mmap_lock.
 * huge: its mappings by page frame may have huge entries.
 */
struct file *pwk_file_make(const char *name, const struct file_operations *ops,
			   void *private, loff_t size, bool huge);

/* counters.c: never negative; gauges go down again. */
enum pwk_counter {
	PWK_CONTROLS, PWK_WATCHES, PWK_EXPORTS, PWK_MAPPINGS, PWK_POOLS,	/* gauges */
	PWK_EXPORT_PAGES, PWK_POOL_PAGES,		/* gauges, of 4 KiB */
	PWK_EVENTS_UNMAP, PWK_EVENTS_DISCARD, PWK_EVENTS_PROTECT, PWK_EVENTS_PASSED,
	PWK_FAULTS, PWK_HUGE_FAULTS, PWK_LATE_FAULTS,	/* of exports; of those taken back */
	PWK_REFUSED,					/* calls that a limit refused */
	PWK_COUNTERS
};

extern atomic64_t pwk_counters[PWK_COUNTERS];
extern const struct attribute_group *pwk_counter_groups[];

static inline void pwk_count(enum pwk_counter which, s64 n)
{
	atomic64_add(n, &pwk_counters[which]);
}

#endif
