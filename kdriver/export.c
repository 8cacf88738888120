// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/* export.c - ranges whose pages are pinned, so that others can map them.
 *
 * Start at pwk_export_open(). export.h says what must always hold.
 *
 * When the owner unmaps the range, or ends, nothing happens here: the word of the
 * export's slot has moved, and the old pages stay pinned, and mapped by whoever attached
 * them, until the owner drops the export or its control descriptor is closed. So none of
 * them is anybody else's while it can be seen.
 */
#include <linux/backing-dev.h>
#include <linux/slab.h>

#include "export.h"

#define OFFSETS_END BIT_ULL(62)	/* nobody gets there: 2^62 bytes exported */
#define PIN_TRIES 4

static pgoff_t chunk_index(const struct pwk_export *export, pgoff_t at)
{
	return at / PWK_CHUNK_PAGES - export->first / PWK_CHUNK_PAGES;
}

unsigned long pwk_export_pfn(const struct pwk_export *export, pgoff_t at)
{
	const struct pwk_chunk *chunk = &export->chunks[chunk_index(export, at)];
	pgoff_t first = export->first, end = export->end;

	pwk_chunk_bounds(at, &first, &end);
	if (chunk->pages)
		return page_to_pfn(chunk->pages[at - first]);
	return page_to_pfn(chunk->first) + (at - first);
}

unsigned long pwk_export_huge_pfn(const struct pwk_export *export, pgoff_t at)
{
	const struct pwk_chunk *chunk = &export->chunks[chunk_index(export, at)];
	pgoff_t first = export->first, end = export->end;

	pwk_chunk_bounds(at, &first, &end);
	if (end - first < PWK_CHUNK_PAGES || chunk->pages)
		return 0;
	return IS_ALIGNED(page_to_pfn(chunk->first), PWK_CHUNK_PAGES) ?
		page_to_pfn(chunk->first) : 0;
}

static void export_free(struct kref *ref)
{
	struct pwk_export *export = container_of(ref, struct pwk_export, ref);

	pwk_user_put(export->user);
	kvfree(export);
}

void pwk_export_put(struct pwk_export *export)
{
	kref_put(&export->ref, export_free);
}

static bool consecutive(struct page **pages, unsigned int n)
{
	unsigned int i;

	for (i = 1; i < n; i++)
		if (page_to_pfn(pages[i]) != page_to_pfn(pages[0]) + i)
			return false;
	return true;
}

static int chunk_pin(struct pwk_chunk *chunk, unsigned long addr, unsigned int n,
		     unsigned int flags)
{
	struct page **pages = kmalloc_array(n, sizeof(*pages), GFP_KERNEL_ACCOUNT);
	unsigned int done = 0;
	int got;

	if (!pages)
		return -ENOMEM;
	while (done < n) {
		got = pin_user_pages_fast(addr + done * PAGE_SIZE, n - done, flags, pages + done);
		if (got <= 0)
			goto unpin;
		done += got;
	}
	chunk->first = pages[0];
	if (consecutive(pages, n))
		kfree(pages);
	else
		chunk->pages = pages;
	return 0;

unpin:
	unpin_user_pages(pages, done);
	kfree(pages);
	return got ? got : -EFAULT;
}

/* Of the chunks before `end`, which are pinned. */
static void export_unpin(struct pwk_export *export, pgoff_t end)
{
	bool dirty = export->access & PW_KD_WRITE;
	pgoff_t first, last, at;

	for (at = export->first; at < end; at = last) {
		struct pwk_chunk *chunk = &export->chunks[chunk_index(export, at)];

		first = export->first;
		last = end;
		pwk_chunk_bounds(at, &first, &last);
		if (chunk->pages)
			unpin_user_pages_dirty_lock(chunk->pages, last - first, dirty);
		else
			unpin_user_page_range_dirty_lock(chunk->first, last - first, dirty);
		kfree(chunk->pages);
		chunk->pages = NULL;
		cond_resched();
	}
}

static int export_pin(struct pwk_export *export, unsigned long start)
{
	unsigned int flags = FOLL_LONGTERM | (export->access & PW_KD_WRITE ? FOLL_WRITE : 0);
	pgoff_t at, first, end;
	int err;

	for (at = export->first; at < export->end; at = end) {
		first = export->first;
		end = export->end;
		pwk_chunk_bounds(at, &first, &end);
		err = fatal_signal_pending(current) ? -EINTR :
			chunk_pin(&export->chunks[chunk_index(export, at)],
				  start + ((at - export->first) << PAGE_SHIFT), end - at, flags);
		if (err) {
			export_unpin(export, at);
			return err;
		}
		cond_resched();
	}
	return 0;
}

/* Is there memory that must not be pinned for long? What get_user_pages lets pass: huge
 * entries of page frames, before 6.12, and before 6.5 files whose writes their file
 * system has to see.
 */
static int range_suits(unsigned long start, unsigned long end, u32 access)
{
	VMA_ITERATOR(vmi, current->mm, start);
	struct vm_area_struct *vma;
	int err = 0;

	if (mmap_read_lock_killable(current->mm))
		return -EINTR;
	for_each_vma_range(vmi, vma, end) {
		if (vma->vm_flags & (VM_IO | VM_PFNMAP))
			err = -EOPNOTSUPP;
		if (access & PW_KD_WRITE && vma->vm_flags & VM_SHARED && vma->vm_file &&
		    mapping_can_writeback(vma->vm_file->f_mapping))
			err = -EOPNOTSUPP;
	}
	mmap_read_unlock(current->mm);
	return err;
}

static bool for_now(int err)
{
	return err == -EAGAIN || err == -EBUSY || err == -ENOMEM;
}

/* Pin what the range has, and be sure that it has it still: a change that begins after
 * the word was read moves it, and one that began before is waited for. Pinning itself
 * may move pages, or fail to (ENOMEM), so there is more than one try.
 */
static int export_settle(struct pwk_export *export, struct pwk_slot *slot,
			 const struct pw_kd_watch *arg, u64 *word)
{
	atomic64_t *now = &slot->words->word[slot->number];
	int tries, err = 0;

	for (tries = 0; tries < PIN_TRIES; tries++) {
		*word = atomic64_read_acquire(now);
		mmu_interval_read_begin(&slot->notifier);
		err = range_suits(arg->start, arg->end, arg->access);
		if (!err)
			err = export_pin(export, arg->start);
		/* Pairs with the callback, which moves the word before pages change. */
		smp_mb();
		if (err == -EINTR)
			return err;
		if (atomic64_read(now) == *word && !for_now(err))
			return err ? -EOPNOTSUPP : 0;
		if (!err)
			export_unpin(export, export->end);
	}
	return err == -ENOMEM ? -ENOMEM : -EAGAIN;
}

/* Addresses and file offsets are equal modulo 2 MiB, so chunks are of both. */
static struct pwk_export *export_make(struct pwk_share *share, struct pwk_user *user,
				      const struct pw_kd_watch *arg)
{
	u64 offset = share->next + ((arg->start - share->next) & (PMD_SIZE - 1));
	struct pwk_export *export;
	pgoff_t first, end;

	if (offset + (arg->end - arg->start) > OFFSETS_END)
		return ERR_PTR(-ENOSPC);
	first = offset >> PAGE_SHIFT;
	end = first + ((arg->end - arg->start) >> PAGE_SHIFT);
	export = kvzalloc(struct_size(export, chunks, (end - 1) / PWK_CHUNK_PAGES -
				      first / PWK_CHUNK_PAGES + 1), GFP_KERNEL_ACCOUNT);
	if (!export)
		return ERR_PTR(-ENOMEM);
	kref_init(&export->ref);
	init_rwsem(&export->lock);
	export->share = share;
	export->first = first;
	export->end = end;
	export->access = arg->access;
	export->user = user;
	return export;
}

int pwk_export_open(struct pwk_control *control, struct pw_kd_watch *arg)
{
	struct pwk_export *export;
	struct pwk_user *user;
	struct pwk_slot *slot;
	int err = pwk_share_ready(control);

	if (err)
		return err;
	user = pwk_user_get();
	if (!user)
		return -ENOMEM;
	err = pwk_slot_open(control, arg->start, arg->end, arg->access, &slot, &arg->word);
	if (err)
		goto put_user;
	/* Before tables are made, which the range may be too long for. */
	err = pwk_user_charge(user, arg->end - arg->start);
	if (err)
		goto close;
	export = export_make(control->share, user, arg);
	err = PTR_ERR_OR_ZERO(export);
	if (err)
		goto uncharge;
	err = export_settle(export, slot, arg, &arg->word);
	if (err)
		goto free;

	pwk_share_add(export);
	control->share->next = (u64)export->end << PAGE_SHIFT;
	pwk_count(PWK_EXPORTS, 1);
	pwk_count(PWK_EXPORT_PAGES, export->end - export->first);
	slot->export = export;
	arg->slot = slot->number;
	arg->offset = (u64)export->first << PAGE_SHIFT;
	return 0;

free:
	kvfree(export);
uncharge:
	pwk_user_uncharge(user, arg->end - arg->start);
close:
	pwk_slot_close(control, slot, PW_KD_DROPPED);
put_user:
	pwk_user_put(user);
	return err;
}

/* The slot's word has moved by now: who sees pages of no meaning can know. */
void pwk_export_close(struct pwk_export *export)
{
	pwk_share_remove(export);
	export_unpin(export, export->end);
	pwk_user_uncharge(export->user, pwk_export_bytes(export));
	pwk_count(PWK_EXPORTS, -1);
	pwk_count(PWK_EXPORT_PAGES, -(s64)(export->end - export->first));
	pwk_export_put(export);
}
