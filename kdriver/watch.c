// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/* watch.c - ranges whose changes move a word.
 *
 * Start at pwk_slot_open(). The kernel calls invalidate() before it changes the range's
 * page tables: whoever makes the change goes on only after the words have moved.
 *
 * The word that a program gets is read before anything else. Changes that begin after
 * the notifier is in place move it away from that; those that had begun before are
 * waited for, and then the range is looked at. So no change is missed, and one while a
 * watch is being made may show as one that came right after it.
 *
 * No notifier is removed from inside a callback. One whose process image has ended is
 * removed when the descriptor is closed; the notifier keeps the mm_struct until then.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "pinwheel.h"

static vm_flags_t rights(u32 access)
{
	return (access & PW_KD_READ ? VM_READ : 0) | (access & PW_KD_WRITE ? VM_WRITE : 0);
}

/* 0, -ENOENT, -EACCES. Under mmap_lock. */
static int range_check(struct mm_struct *mm, unsigned long start, unsigned long end, u32 access)
{
	vm_flags_t want = rights(access);
	struct vm_area_struct *vma;
	struct vma_iterator vmi;
	int err = 0;

	vma_iter_init(&vmi, mm, start);
	for_each_vma_range(vmi, vma, end) {
		if (vma->vm_start > start)
			return -ENOENT;
		if ((vma->vm_flags & want) != want)
			err = -EACCES;
		start = vma->vm_end;
	}
	return start < end ? -ENOENT : err;
}

/* Does the change take away a right that the slot's owner asked for? Whoever changes
 * protections of its own mm has mmap_lock: mprotect, which has the new rights in the vma
 * already (mm/mprotect.c), the NUMA scan (kernel/sched/fair.c), userfaultfd, and the scan
 * of a page map (fs/proc/task_mmu.c). Of a change from another mm's process nothing is
 * known.
 */
static bool takes_right(const struct pwk_slot *slot, const struct mmu_notifier_range *range)
{
	const struct interval_tree_node *node = &slot->notifier.interval_tree;

	if (range->mm != current->mm)
		return true;
	return range_check(range->mm, max(range->start, node->start),
			   min(range->end, node->last + 1), slot->access) != 0;
}

static enum pw_kd_event event_of(const struct pwk_slot *slot,
				 const struct mmu_notifier_range *range)
{
	/* exit_mmap() unmaps all after it has said that the image is gone. */
	if (!atomic_read(&range->mm->mm_users))
		return PW_KD_GONE;
	switch (range->event) {
	case MMU_NOTIFY_PROTECTION_PAGE:
	case MMU_NOTIFY_SOFT_DIRTY:
		return PW_KD_NONE;
	case MMU_NOTIFY_PROTECTION_VMA:
		return takes_right(slot, range) ? PW_KD_PROTECT : PW_KD_NONE;
	case MMU_NOTIFY_UNMAP:
		return PW_KD_UNMAP;
	case MMU_NOTIFY_RELEASE:
		return PW_KD_GONE;
	default:
		return PW_KD_DISCARD;
	}
}

static void count_event(enum pw_kd_event event)
{
	switch (event) {
	case PW_KD_NONE:
		pwk_count(PWK_EVENTS_PASSED, 1);
		break;
	case PW_KD_UNMAP:
		pwk_count(PWK_EVENTS_UNMAP, 1);
		break;
	case PW_KD_DISCARD:
		pwk_count(PWK_EVENTS_DISCARD, 1);
		break;
	case PW_KD_PROTECT:
		pwk_count(PWK_EVENTS_PROTECT, 1);
		break;
	default:
		break;
	}
}

static bool invalidate(struct mmu_interval_notifier *notifier,
		       const struct mmu_notifier_range *range, unsigned long seq)
{
	struct pwk_slot *slot = container_of(notifier, struct pwk_slot, notifier);
	enum pw_kd_event event = event_of(slot, range);

	mmu_interval_set_seq(notifier, seq);
	if (event != PW_KD_NONE)
		pwk_words_move(slot->words, slot->number, event);
	count_event(event);
	return true;
}

static const struct mmu_interval_notifier_ops notifier_ops = {
	.invalidate = invalidate,
};

/* The lowest number that is free, and keeps that slot findable: who looks for words that
 * have moved reads few.
 */
static int number_take(struct pwk_control *control, struct pwk_slot *slot)
{
	struct xa_limit limit = XA_LIMIT(PW_KD_FIRST_SLOT, control->words->slots - 1);
	int err = xa_alloc(&control->slots, &slot->number, slot, limit, GFP_KERNEL_ACCOUNT);

	if (err != -EBUSY)
		return err;
	pwk_count(PWK_REFUSED, 1);
	return -ENOSPC;
}

static int range_check_locked(struct mm_struct *mm, u64 start, u64 end, u32 access)
{
	int err = mmap_read_lock_killable(mm);

	if (err)
		return err;
	err = range_check(mm, start, end, access);
	mmap_read_unlock(mm);
	return err;
}

static int notifier_insert(struct pwk_control *control, struct pwk_slot *slot, u64 start, u64 end)
{
	int err = mmu_interval_notifier_insert(&slot->notifier, control->mm, start, end - start,
					       &notifier_ops);

	if (err)
		return err;
	mmu_interval_read_begin(&slot->notifier);
	err = range_check_locked(control->mm, start, end, slot->access);
	if (err)
		mmu_interval_notifier_remove(&slot->notifier);
	return err;
}

/* 0, -EINVAL, -ENOENT, -EACCES, -ENOSPC, -ENOMEM, -EINTR. By the process that the
 * descriptor belongs to.
 */
int pwk_slot_open(struct pwk_control *control, u64 start, u64 end, u32 access,
		  struct pwk_slot **out, u64 *word)
{
	struct pwk_slot *slot;
	int err;

	if (start >= end || end > TASK_SIZE || !PAGE_ALIGNED(start | end))
		return -EINVAL;
	if (!(access & PW_KD_READ) || access & ~(PW_KD_READ | PW_KD_WRITE))
		return -EINVAL;
	slot = kzalloc(sizeof(*slot), GFP_KERNEL_ACCOUNT);
	if (!slot)
		return -ENOMEM;
	slot->words = control->words;
	slot->access = access;
	err = number_take(control, slot);
	if (err)
		goto free;
	*word = atomic64_read(&slot->words->word[slot->number]);
	err = notifier_insert(control, slot, start, end);
	if (err)
		goto give_back;
	pwk_count(PWK_WATCHES, 1);
	*out = slot;
	return 0;

give_back:
	xa_erase(&control->slots, slot->number);
free:
	kfree(slot);
	return err;
}

void pwk_slot_close(struct pwk_control *control, struct pwk_slot *slot, enum pw_kd_event event)
{
	mmu_interval_notifier_remove(&slot->notifier);
	pwk_word_move(slot->words, slot->number, event);
	xa_erase(&control->slots, slot->number);
	pwk_count(PWK_WATCHES, -1);
	kfree(slot);
}
