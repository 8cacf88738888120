// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/* user.c - what each user has pinned, and may.
 *
 * A user is known here as long as somebody refers to it. What it has pinned counts
 * twice: against RLIMIT_MEMLOCK, together with what io_uring, perf and others charge to
 * the same user (user_struct.locked_vm), and against user_limit. It is charged to the
 * user and not to a process, so whoever gives it back may be another, later one.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/slab.h>

#include "pinwheel.h"

static unsigned long user_limit;
module_param(user_limit, ulong, 0644);
MODULE_PARM_DESC(user_limit, "MiB that each user may have pinned by pools and exports (0: half of the memory)");

static unsigned int descriptors = 1024;
module_param(descriptors, uint, 0644);
MODULE_PARM_DESC(descriptors, "how often each user may have the device open at once (1024)");

struct pwk_user {
	struct list_head list;
	struct user_struct *account;
	unsigned int ref;		/* under users_lock, as the list */
	atomic_t descriptors;
	atomic_long_t pages;
};

static LIST_HEAD(users);
static DEFINE_SPINLOCK(users_lock);

static struct pwk_user *user_find(struct user_struct *account)
{
	struct pwk_user *user;

	list_for_each_entry(user, &users, list)
		if (user->account == account)
			return user;
	return NULL;
}

struct pwk_user *pwk_user_get(void)
{
	struct pwk_user *made = kzalloc(sizeof(*made), GFP_KERNEL), *user;

	if (!made)
		return NULL;
	spin_lock(&users_lock);
	user = user_find(current_user());
	if (!user) {
		user = made;
		made = NULL;
		user->account = get_uid(current_user());
		list_add(&user->list, &users);
	}
	user->ref++;
	spin_unlock(&users_lock);
	kfree(made);
	return user;
}

void pwk_user_put(struct pwk_user *user)
{
	spin_lock(&users_lock);
	if (--user->ref)
		user = NULL;
	else
		list_del(&user->list);
	spin_unlock(&users_lock);
	if (!user)
		return;
	free_uid(user->account);
	kfree(user);
}

int pwk_user_open(struct pwk_user *user)
{
	if (atomic_inc_return(&user->descriptors) <= READ_ONCE(descriptors))
		return 0;
	atomic_dec(&user->descriptors);
	pwk_count(PWK_REFUSED, 1);
	return -EDQUOT;
}

void pwk_user_close(struct pwk_user *user)
{
	atomic_dec(&user->descriptors);
}

/* Adds, unless the sum would be above the limit. */
static bool add_below(atomic_long_t *sum, unsigned long pages, unsigned long limit)
{
	long old = atomic_long_read(sum);

	do {
		if (pages > limit || (unsigned long)old > limit - pages)
			return false;
	} while (!atomic_long_try_cmpxchg(sum, &old, old + pages));
	return true;
}

static u64 limit_of_all(void)
{
	u64 limit = READ_ONCE(user_limit), memory = (u64)totalram_pages() << PAGE_SHIFT;

	return limit ? min(limit, memory >> 20) << 20 : memory / 2;
}

/* Pages. */
static unsigned long limit_of_caller(void)
{
	if (capable(CAP_IPC_LOCK))
		return LONG_MAX;
	return min_t(unsigned long, rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT, LONG_MAX);
}

int pwk_user_charge(struct pwk_user *user, u64 bytes)
{
	unsigned long pages = bytes >> PAGE_SHIFT;

	if (!add_below(&user->pages, pages, limit_of_all() >> PAGE_SHIFT))
		goto refused;
	if (!add_below(&user->account->locked_vm, pages, limit_of_caller()))
		goto uncharge;
	return 0;

uncharge:
	atomic_long_sub(pages, &user->pages);
refused:
	pwk_count(PWK_REFUSED, 1);
	return -EDQUOT;
}

void pwk_user_uncharge(struct pwk_user *user, u64 bytes)
{
	atomic_long_sub(bytes >> PAGE_SHIFT, &user->account->locked_vm);
	atomic_long_sub(bytes >> PAGE_SHIFT, &user->pages);
}

u64 pwk_user_bytes(struct pwk_user *user)
{
	return (u64)atomic_long_read(&user->pages) << PAGE_SHIFT;
}

u64 pwk_user_bytes_max(void)
{
	return min_t(u64, limit_of_all(), (u64)limit_of_caller() << PAGE_SHIFT);
}
