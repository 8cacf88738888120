// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/* words.c - generation words: pages that the driver writes and programs read.
 *
 * A word is written by pwk_word_move() alone, and never goes back. Whoever moves one
 * may be inside a notifier's callback, or two of them on two processors: hence atomic
 * instructions and nothing else.
 *
 * A mapping refers to the pages and to a file that is good for nothing, not to the
 * descriptor that it was made with: closing that ends the watches although the words
 * are still mapped. They stand still then.
 */
#include <linux/file.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "pinwheel.h"

#define WORDS_PER_PAGE (PAGE_SIZE / sizeof(atomic64_t))
#define SLOTS_MAX 1000000u

static unsigned int slots = 16384 - PW_KD_FIRST_SLOT;
module_param(slots, uint, 0644);
MODULE_PARM_DESC(slots, "ranges that one descriptor may watch at once (16376); rounded up to whole pages of words");

static const struct file_operations words_fops = {
	.owner = THIS_MODULE,
};

static unsigned int words_number(void)
{
	unsigned int n = clamp(READ_ONCE(slots), 1u, SLOTS_MAX);

	return round_up(n + PW_KD_FIRST_SLOT, WORDS_PER_PAGE);
}

struct pwk_words *pwk_words_make(void)
{
	struct pwk_words *words = kzalloc(sizeof(*words), GFP_KERNEL);
	loff_t bytes;

	if (!words)
		return NULL;
	kref_init(&words->ref);
	words->slots = words_number();
	bytes = words->slots * sizeof(*words->word);
	words->word = vmalloc_user(bytes);
	if (!words->word)
		goto free_words;
	words->file = pwk_file_make("words", &words_fops, NULL, bytes, false);
	if (IS_ERR(words->file))
		goto free_word;
	return words;

free_word:
	vfree(words->word);
free_words:
	kfree(words);
	return NULL;
}

static void words_free(struct kref *ref)
{
	struct pwk_words *words = container_of(ref, struct pwk_words, ref);

	fput(words->file);
	vfree(words->word);
	kfree(words);
}

void pwk_words_put(struct pwk_words *words)
{
	kref_put(&words->ref, words_free);
}

void pwk_word_move(struct pwk_words *words, unsigned int number, enum pw_kd_event event)
{
	atomic64_t *word = &words->word[number];
	s64 old = atomic64_read(word), next;

	do {
		next = (s64)(((((u64)old) >> 8) + 1) << 8 | event);
	} while (!atomic64_try_cmpxchg(word, &old, next));
}

/* The slot's first: who finds word 0 where it was need not look at the slot's. */
void pwk_words_move(struct pwk_words *words, unsigned int slot, enum pw_kd_event event)
{
	pwk_word_move(words, slot, event);
	pwk_word_move(words, 0, event);
}

/* Under mmap_lock. */
int pwk_words_mmap(struct pwk_words *words, struct vm_area_struct *vma)
{
	int err;

	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (vma->vm_flags & (VM_WRITE | VM_EXEC))
		return -EACCES;
	pwk_vm_flags(vma, 0, VM_MAYWRITE | VM_MAYEXEC);
	err = remap_vmalloc_range(vma, words->word, vma->vm_pgoff);
	if (err)
		return err;
	vma_set_file(vma, words->file);
	return 0;
}
