// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/* share.c - descriptors through which others map what is exported.
 *
 * Start at share_mmap() and mapping_fault(). export.h says what must always hold.
 *
 * A share descriptor is a file that the control descriptor keeps and gives out again. It
 * refers to the words, to no control descriptor and no mm, so it keeps none alive.
 */
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/pfn_t.h>
#include <linux/slab.h>

#include "export.h"

/* What one mmap() made. Its parts, when it is split or moved, have it in common. */
struct pwk_mapping {
	struct kref ref;
	struct pwk_export *export;
	struct page *late;		/* what it shows when the export is dropped */
};

static void mapping_free(struct kref *ref)
{
	struct pwk_mapping *mapping = container_of(ref, struct pwk_mapping, ref);

	pwk_export_put(mapping->export);
	__free_page(mapping->late);
	kfree(mapping);
}

static void mapping_open(struct vm_area_struct *vma)
{
	struct pwk_mapping *mapping = vma->vm_private_data;

	kref_get(&mapping->ref);
	pwk_count(PWK_MAPPINGS, 1);
}

static void mapping_close(struct vm_area_struct *vma)
{
	struct pwk_mapping *mapping = vma->vm_private_data;

	pwk_count(PWK_MAPPINGS, -1);
	kref_put(&mapping->ref, mapping_free);
}

static vm_fault_t insert_page(struct vm_area_struct *vma, pgoff_t at)
{
	struct pwk_mapping *mapping = vma->vm_private_data;
	struct pwk_export *export = mapping->export;
	unsigned long addr = vma->vm_start + ((at - vma->vm_pgoff) << PAGE_SHIFT);

	if (export->dropped)
		return vmf_insert_pfn(vma, addr, page_to_pfn(mapping->late));
	return vmf_insert_pfn(vma, addr, pwk_export_pfn(export, at));
}

/* The page asked for, and its neighbours, which will be asked for next. */
static vm_fault_t mapping_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct pwk_mapping *mapping = vma->vm_private_data;
	struct pwk_export *export = mapping->export;
	pgoff_t at = vma->vm_pgoff, end = at + vma_pages(vma);
	vm_fault_t ret;

	pwk_chunk_bounds(vmf->pgoff, &at, &end);
	down_read(&export->lock);
	ret = insert_page(vma, vmf->pgoff);
	for (; ret == VM_FAULT_NOPAGE && at < end; at++)
		if (insert_page(vma, at) != VM_FAULT_NOPAGE)
			break;
	pwk_count(export->dropped ? PWK_LATE_FAULTS : PWK_FAULTS, 1);
	up_read(&export->lock);
	return ret;
}

/* 2 MiB by one entry, where the export has them as a huge page and the mapping has room
 * for it. Where that is so does not change but by dropping, so threads that fault at the
 * same time never insert both kinds.
 */
static vm_fault_t mapping_huge_fault(struct vm_fault *vmf, pwk_fault_size size)
{
	struct vm_area_struct *vma = vmf->vma;
	struct pwk_mapping *mapping = vma->vm_private_data;
	struct pwk_export *export = mapping->export;
	unsigned long addr = vmf->address & PMD_MASK, pfn = 0;
	vm_fault_t ret = VM_FAULT_FALLBACK;
	pgoff_t at;

	if (size != PWK_FAULT_PMD || addr < vma->vm_start || addr + PMD_SIZE > vma->vm_end)
		return ret;
	at = linear_page_index(vma, addr);
	if (!IS_ALIGNED(at, PWK_CHUNK_PAGES))
		return ret;

	down_read(&export->lock);
	if (!export->dropped)
		pfn = pwk_export_huge_pfn(export, at);
	if (pfn) {
		ret = vmf_insert_pfn_pmd(vmf, pfn_to_pfn_t(pfn), vmf->flags & FAULT_FLAG_WRITE);
		pwk_count(PWK_HUGE_FAULTS, 1);
	}
	up_read(&export->lock);
	return ret;
}

static const struct vm_operations_struct mapping_ops = {
	.open = mapping_open,
	.close = mapping_close,
	.fault = mapping_fault,
	.huge_fault = mapping_huge_fault,
};

static struct pwk_mapping *mapping_make(struct pwk_export *export)
{
	struct pwk_mapping *mapping = kzalloc(sizeof(*mapping), GFP_KERNEL_ACCOUNT);

	if (!mapping)
		return NULL;
	mapping->late = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!mapping->late) {
		kfree(mapping);
		return NULL;
	}
	kref_init(&mapping->ref);
	mapping->export = export;
	return mapping;
}

/* ---- share descriptors ---- */

static bool lies_before(struct rb_node *a, const struct rb_node *b)
{
	return rb_entry(a, struct pwk_export, node)->first <
		rb_entry(b, struct pwk_export, node)->first;
}

static int lies_where(const void *at, const struct rb_node *node)
{
	const struct pwk_export *export = rb_entry(node, struct pwk_export, node);

	if (*(const pgoff_t *)at < export->first)
		return -1;
	return *(const pgoff_t *)at >= export->end;
}

/* Referenced; NULL: none has all of [first, end). */
static struct pwk_export *share_find(struct pwk_share *share, pgoff_t first, pgoff_t end)
{
	struct pwk_export *export = NULL;
	struct rb_node *node;

	mutex_lock(&share->lock);
	node = rb_find(&first, &share->exports, lies_where);
	if (node && end <= rb_entry(node, struct pwk_export, node)->end) {
		export = rb_entry(node, struct pwk_export, node);
		kref_get(&export->ref);
	}
	mutex_unlock(&share->lock);
	return export;
}

static int share_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct pwk_share *share = file->private_data;
	vm_flags_t clear = VM_MAYEXEC;
	struct pwk_export *export;
	struct pwk_mapping *mapping;

	if (!uid_eq(current_euid(), share->uid))
		return -EACCES;
	if (vma->vm_pgoff < PW_KD_EXPORTS >> PAGE_SHIFT)
		return pwk_words_mmap(share->words, vma);
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;

	export = share_find(share, vma->vm_pgoff, vma->vm_pgoff + vma_pages(vma));
	if (!export)
		return -ENXIO;
	if (!(export->access & PW_KD_WRITE))
		clear |= VM_MAYWRITE;
	if (vma->vm_flags & VM_EXEC || (clear & VM_MAYWRITE && vma->vm_flags & VM_WRITE)) {
		pwk_export_put(export);
		return -EACCES;
	}
	mapping = mapping_make(export);
	if (!mapping) {
		pwk_export_put(export);
		return -ENOMEM;
	}
	/* VM_IO, so that nobody has it inherited after all, by madvise(). */
	pwk_vm_flags(vma, VM_PFNMAP | VM_IO | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP, clear);
	vma->vm_ops = &mapping_ops;
	vma->vm_private_data = mapping;
	pwk_count(PWK_MAPPINGS, 1);
	return 0;
}

static int share_release(struct inode *inode, struct file *file)
{
	struct pwk_share *share = file->private_data;

	pwk_words_put(share->words);
	kfree(share);
	return 0;
}

static const struct file_operations share_fops = {
	.owner = THIS_MODULE,
	.mmap = share_mmap,
	.get_unmapped_area = thp_get_unmapped_area,
	.release = share_release,
	.llseek = noop_llseek,
};

/* The control descriptor's, made on first use. */
int pwk_share_ready(struct pwk_control *control)
{
	struct pwk_share *share;
	struct file *file;

	if (control->share)
		return 0;
	share = kzalloc(sizeof(*share), GFP_KERNEL_ACCOUNT);
	if (!share)
		return -ENOMEM;
	mutex_init(&share->lock);
	share->exports = RB_ROOT;
	share->next = PW_KD_EXPORTS;
	share->uid = control->uid;
	share->words = control->words;
	file = pwk_file_make("share", &share_fops, share, 0, true);
	if (IS_ERR(file)) {
		kfree(share);
		return PTR_ERR(file);
	}
	kref_get(&share->words->ref);
	share->file = file;
	control->share = share;
	return 0;
}

struct file *pwk_share_file(struct pwk_control *control)
{
	int err = pwk_share_ready(control);

	return err ? ERR_PTR(err) : get_file(control->share->file);
}

/* When every export is closed. */
void pwk_share_close(struct pwk_control *control)
{
	if (control->share)
		fput(control->share->file);
	control->share = NULL;
}

void pwk_share_add(struct pwk_export *export)
{
	struct pwk_share *share = export->share;

	mutex_lock(&share->lock);
	rb_add(&export->node, &share->exports, lies_before);
	mutex_unlock(&share->lock);
}

void pwk_share_remove(struct pwk_export *export)
{
	struct pwk_share *share = export->share;

	mutex_lock(&share->lock);
	rb_erase(&export->node, &share->exports);
	mutex_unlock(&share->lock);

	down_write(&export->lock);
	export->dropped = true;
	up_write(&export->lock);
	unmap_mapping_range(share->file->f_mapping, (loff_t)export->first << PAGE_SHIFT,
			    pwk_export_bytes(export), 1);
}
