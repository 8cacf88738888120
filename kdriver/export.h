/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* export.h - what export.c pins and share.c maps.
 *
 * An export is
 *     shared    in its share's tree: mmap() finds it, a fault maps its frames
 *     dropped   out of the tree; its pages are no longer pinned, and a fault maps the one
 *               page that the mapping has of its own
 *     gone      freed, with the last mapping
 *
 * Always true: while an entry of any page table maps a frame of an export, the export
 * holds a pin on it. A fault asks whether it is dropped and inserts under export->lock;
 * dropping says so under the same lock, then zaps every mapping, then unpins.
 *
 * Locks, after control->lock and mmap_lock: share->lock, export->lock.
 */
#ifndef PINWHEEL_KDRIVER_EXPORT_H
#define PINWHEEL_KDRIVER_EXPORT_H

#include <linux/huge_mm.h>
#include <linux/rbtree.h>
#include <linux/rwsem.h>

#include "pinwheel.h"

#define PWK_CHUNK_PAGES HPAGE_PMD_NR

/* Up to 2 MiB, by file offset. */
struct pwk_chunk {
	struct page *first;
	struct page **pages;		/* NULL: frames one after the other from the first */
};

struct pwk_export {
	struct kref ref;		/* the control's, and one of each mmap() */
	struct pwk_share *share;	/* outlives the control's and every mapping's */
	struct rb_node node;		/* share->exports; under share->lock */
	pgoff_t first, end;		/* where it lies in a share descriptor */
	u32 access;
	struct pwk_user *user;		/* who is charged */
	struct rw_semaphore lock;
	bool dropped;
	struct pwk_chunk chunks[];	/* not to be looked at when dropped */
};

struct pwk_share {
	struct file *file;		/* which owns this */
	struct pwk_words *words;
	kuid_t uid;			/* who may map */
	struct mutex lock;
	struct rb_root exports;
	u64 next;			/* first offset that was never given; control->lock */
};

static inline u64 pwk_export_bytes(const struct pwk_export *export)
{
	return (u64)(export->end - export->first) << PAGE_SHIFT;
}

/* The part of [*first, *end) that lies in the same chunk as at. */
static inline void pwk_chunk_bounds(pgoff_t at, pgoff_t *first, pgoff_t *end)
{
	*first = max(*first, round_down(at, PWK_CHUNK_PAGES));
	*end = min(*end, round_down(at, PWK_CHUNK_PAGES) + PWK_CHUNK_PAGES);
}

/* export.c. pfn and huge_pfn: under export->lock, of one that is not dropped. */
unsigned long pwk_export_pfn(const struct pwk_export *export, pgoff_t at);
/* Of a chunk that can be mapped by one entry, and is all there; or 0. */
unsigned long pwk_export_huge_pfn(const struct pwk_export *export, pgoff_t at);
void pwk_export_put(struct pwk_export *export);

/* share.c. Under control->lock. */
int pwk_share_ready(struct pwk_control *control);	/* 0, -errno: control->share is made */
void pwk_share_add(struct pwk_export *export);
void pwk_share_remove(struct pwk_export *export);	/* dropped; no mapping shows it more */

#endif
