// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/*
 * pool.c - pinned hugepages: a file that a process fills, maps, and passes on.
 *
 * Start at pool_fault(). The pages are compound pages of 2 MiB from the page
 * allocator, on no list that reclaim, compaction or migration look at, so they stay
 * where they are. To the memory management they are a file's pages: the core maps one
 * by a single huge entry where address and offset agree, counts it, splits the entry
 * when a part is unmapped, and lets get_user_pages() have it. pool->pages has a
 * reference to each of them, every entry that maps one another, so a page is freed
 * when nobody has it any more, whoever that was: the file's release, which comes after
 * the last mapping and the last descriptor, drops what is left.
 *
 * A page belongs to the user who filled it: page_private() is that user, who is
 * charged until the page leaves the pool. What a NIC or a pipe still holds of it then
 * is on the account of whoever pinned it.
 *
 * pool->lock guards who adds and who takes away. A fault maps a page with the page's
 * lock held and after it has seen that the page still is the pool's; DRAIN takes it
 * out and unmaps it with both locks held. So nothing of a drained page is mapped.
 * mmap_lock, then pool->lock, then a page's.
 */
#include <linux/file.h>
#include <linux/nodemask.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "pinwheel.h"

#define PWK_UNIT_SHIFT	21
#define PWK_UNIT	((unsigned long)SZ_2M)
#define PWK_UNIT_ORDER	(PWK_UNIT_SHIFT - PAGE_SHIFT)
#define PWK_UNIT_PAGES	(PWK_UNIT >> PAGE_SHIFT)

struct pwk_pool {
	struct mutex lock;		/* who adds and takes away */
	struct address_space *mapping;
	unsigned long units;		/* of addresses */
	unsigned long filled;		/* of pages; under the lock */
	struct xarray pages;		/* by offset / 2 MiB */
};

/* Not __GFP_MOVABLE: pages that stay for long do not belong where memory is to be
 * taken offline, and get_user_pages() with FOLL_LONGTERM would move them away. A memory
 * cgroup is charged, and where it has no room that is one more reason for NULL.
 */
static struct page *unit_alloc(int node)
{
	gfp_t gfp = GFP_HIGHUSER | __GFP_COMP | __GFP_ZERO | __GFP_NOWARN |
		    __GFP_RETRY_MAYFAIL | __GFP_ACCOUNT;

	if (node == NUMA_NO_NODE)
		return alloc_pages(gfp, PWK_UNIT_ORDER);
	return alloc_pages_node(node, gfp | __GFP_THISNODE, PWK_UNIT_ORDER);
}

/* For the caller, who is charged already. Or ERR_PTR of -ENOMEM, -EINTR. */
static struct page *unit_make(int node)
{
	struct pwk_user *user;
	struct page *page;

	if (fatal_signal_pending(current))
		return ERR_PTR(-EINTR);
	user = pwk_user_get();
	if (!user)
		return ERR_PTR(-ENOMEM);
	page = unit_alloc(node);
	if (!page) {
		pwk_user_put(user);
		return ERR_PTR(-ENOMEM);
	}
	set_page_private(page, (unsigned long)user);
	pwk_count(PWK_POOL_PAGES, PWK_UNIT_PAGES);
	return page;
}

static void unit_drop(struct page *page)
{
	struct pwk_user *user = (struct pwk_user *)page_private(page);

	set_page_private(page, 0);
	put_page(page);
	pwk_count(PWK_POOL_PAGES, -(s64)PWK_UNIT_PAGES);
	pwk_user_uncharge(user, PWK_UNIT);
	pwk_user_put(user);
}

/* The page with a reference, or NULL. */
static struct page *pool_get(struct pwk_pool *pool, unsigned long unit)
{
	struct page *page;

	mutex_lock(&pool->lock);
	page = xa_load(&pool->pages, unit);
	if (page)
		get_page(page);
	mutex_unlock(&pool->lock);
	return page;
}

static unsigned long pool_missing(struct pwk_pool *pool, unsigned long first,
				  unsigned long end)
{
	unsigned long unit, missing = end - first;
	struct page *page;

	xa_for_each_range(&pool->pages, unit, page, first, end - 1)
		missing--;
	return missing;
}

/* Pages onto list, as many as that, charged to the caller. What a failure leaves there
 * is charged, too. 0, -ENOMEM, -EDQUOT, -EINTR for who is killed.
 */
static int pages_make(struct list_head *list, unsigned long n, int node)
{
	struct pwk_user *user = pwk_user_get();
	struct page *page;
	int err;

	if (!user)
		return -ENOMEM;
	err = pwk_user_charge(user, (u64)n << PWK_UNIT_SHIFT);
	if (err)
		goto put;
	for (; n; n--) {
		page = unit_make(node);
		if (IS_ERR(page)) {
			err = PTR_ERR(page);
			break;
		}
		list_add(&page->lru, list);
		cond_resched();
	}
	pwk_user_uncharge(user, (u64)n << PWK_UNIT_SHIFT);
put:
	pwk_user_put(user);
	return err;
}

static void pages_drop(struct list_head *list)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, list, lru) {
		list_del(&page->lru);
		unit_drop(page);
	}
}

/* Places for pages first, so that nothing is refused once the first page is there to be
 * seen. Under the lock, and with pages enough in list.
 */
static int pool_add(struct pwk_pool *pool, unsigned long first, unsigned long end,
		    struct list_head *list)
{
	unsigned long unit;
	struct page *page;
	int err = 0;

	for (unit = first; unit < end && !err; unit++)
		err = xa_reserve(&pool->pages, unit, GFP_KERNEL_ACCOUNT);
	if (err) {
		while (unit-- > first)
			xa_release(&pool->pages, unit);
		return err;
	}
	for (unit = first; unit < end; unit++) {
		if (xa_load(&pool->pages, unit))
			continue;
		page = list_first_entry(list, struct page, lru);
		list_del(&page->lru);
		/* The core maps by a huge entry what ends within the file: by this. */
		page_folio(page)->index = unit << PWK_UNIT_ORDER;
		xa_store(&pool->pages, unit, page, GFP_KERNEL_ACCOUNT);
		pool->filled++;
	}
	return 0;
}

/* Zeroing takes its time, so without the lock. Who drains meanwhile makes us look
 * again; what is too much in the end goes back.
 */
static int pool_fill(struct pwk_pool *pool, unsigned long first, unsigned long end,
		     int node)
{
	unsigned long have = 0, missing;
	LIST_HEAD(list);
	int err = 0;

	mutex_lock(&pool->lock);
	while ((missing = pool_missing(pool, first, end)) > have) {
		mutex_unlock(&pool->lock);
		err = pages_make(&list, missing - have, node);
		have = missing;
		if (err)
			goto drop;
		mutex_lock(&pool->lock);
	}
	err = pool_add(pool, first, end, &list);
	mutex_unlock(&pool->lock);
drop:
	pages_drop(&list);
	return err;
}

/* The core maps vmf->page, and by a huge entry all of the page that it is part of where
 * that fits.
 */
static vm_fault_t pool_fault(struct vm_fault *vmf)
{
	struct pwk_pool *pool = vmf->vma->vm_file->private_data;
	unsigned long unit = vmf->pgoff >> PWK_UNIT_ORDER;
	struct page *page;

	if (unit >= pool->units)
		return VM_FAULT_SIGBUS;
	for (;;) {
		page = pool_get(pool, unit);
		if (!page) {
			if (pool_fill(pool, unit, unit + 1, NUMA_NO_NODE))
				return VM_FAULT_SIGBUS;
			continue;
		}
		lock_page(page);
		if (xa_load(&pool->pages, unit) == page)
			break;
		unlock_page(page);
		put_page(page);
	}
	vmf->page = page + (vmf->pgoff & (PWK_UNIT_PAGES - 1));
	return VM_FAULT_LOCKED;
}

static const struct vm_operations_struct pool_vm_ops = {
	.fault = pool_fault,
};

/* Not to be expanded: there is nothing behind the end. That also keeps mlock() and
 * khugepaged away, who would look for the pages where they are not.
 */
static int pool_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct pwk_pool *pool = file->private_data;
	unsigned long pages = pool->units << PWK_UNIT_ORDER;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_pgoff > pages || vma_pages(vma) > pages - vma->vm_pgoff)
		return -EINVAL;
	pwk_vm_flags(vma, VM_DONTEXPAND, 0);
	vma->vm_ops = &pool_vm_ops;
	return 0;
}

static void pool_drain_one(struct pwk_pool *pool, unsigned long unit)
{
	struct page *page;

	mutex_lock(&pool->lock);
	page = xa_load(&pool->pages, unit);
	if (page) {
		lock_page(page);
		xa_erase(&pool->pages, unit);
		pool->filled--;
		unmap_mapping_range(pool->mapping, (loff_t)unit << PWK_UNIT_SHIFT,
				    PWK_UNIT, 1);
		unlock_page(page);
		unit_drop(page);
	}
	mutex_unlock(&pool->lock);
}

static void pool_drain(struct pwk_pool *pool, unsigned long first, unsigned long end)
{
	unsigned long unit;
	struct page *page;

	xa_for_each_range(&pool->pages, unit, page, first, end - 1) {
		pool_drain_one(pool, unit);
		cond_resched();
	}
}

static bool node_has_memory(int node)
{
	return node >= 0 && node < MAX_NUMNODES && node_state(node, N_MEMORY);
}

static long pool_part(struct pwk_pool *pool, unsigned int cmd, void __user *arg)
{
	struct pw_kd_part part;
	u64 size = (u64)pool->units << PWK_UNIT_SHIFT;
	unsigned long first, end;

	if (copy_from_user(&part, arg, sizeof(part)))
		return -EFAULT;
	if (part.reserved || !part.len || part.offset > size ||
	    part.len > size - part.offset ||
	    !IS_ALIGNED(part.offset | part.len, PWK_UNIT))
		return -EINVAL;
	first = part.offset >> PWK_UNIT_SHIFT;
	end = first + (part.len >> PWK_UNIT_SHIFT);

	if (cmd == PW_KD_FILL) {
		if (part.node != NUMA_NO_NODE && !node_has_memory(part.node))
			return -EINVAL;
		return pool_fill(pool, first, end, part.node);
	}
	if (part.node)
		return -EINVAL;
	pool_drain(pool, first, end);
	return 0;
}

static long pool_info(struct pwk_pool *pool, void __user *arg)
{
	struct pw_kd_pool_info info = {
		.size = (u64)pool->units << PWK_UNIT_SHIFT,
	};

	mutex_lock(&pool->lock);
	info.filled = (u64)pool->filled << PWK_UNIT_SHIFT;
	mutex_unlock(&pool->lock);
	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

static long pool_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct pwk_pool *pool = file->private_data;

	switch (cmd) {
	case PW_KD_FILL:
	case PW_KD_DRAIN:
		return pool_part(pool, cmd, (void __user *)arg);
	case PW_KD_POOL_INFO:
		return pool_info(pool, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static int pool_release(struct inode *inode, struct file *file)
{
	struct pwk_pool *pool = file->private_data;
	unsigned long unit;
	struct page *page;

	xa_for_each(&pool->pages, unit, page) {
		unit_drop(page);
		cond_resched();
	}
	xa_destroy(&pool->pages);
	kfree(pool);
	pwk_count(PWK_POOLS, -1);
	return 0;
}

static const struct file_operations pool_fops = {
	.owner = THIS_MODULE,
	.mmap = pool_mmap,
	.get_unmapped_area = thp_get_unmapped_area,
	.unlocked_ioctl = pool_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = pool_release,
};

struct file *pwk_pool_file(u64 size)
{
	struct pwk_pool *pool;
	struct file *file;

	if (!size || size > MAX_LFS_FILESIZE || !IS_ALIGNED(size, PWK_UNIT))
		return ERR_PTR(-EINVAL);
	pool = kzalloc(sizeof(*pool), GFP_KERNEL_ACCOUNT);
	if (!pool)
		return ERR_PTR(-ENOMEM);
	mutex_init(&pool->lock);
	xa_init(&pool->pages);
	pool->units = size >> PWK_UNIT_SHIFT;

	file = pwk_file_make("pinwheel-pool", &pool_fops, pool, size, false);
	if (IS_ERR(file)) {
		kfree(pool);
		return file;
	}
	pool->mapping = file->f_mapping;
	pwk_count(PWK_POOLS, 1);
	return file;
}
