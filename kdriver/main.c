// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/* main.c - /dev/pinwheel: control descriptors, and which call goes where.
 *
 * Start at control_ioctl(). A control descriptor belongs to the mm that opened it; what
 * it has made is undone when its last copy is closed, by whichever process.
 */
#include <linux/file.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "pinwheel.h"

static unsigned short mode = 0600;
module_param(mode, ushort, 0444);
MODULE_PARM_DESC(mode, "rights of the device node, where udev does not say otherwise (0600)");

static atomic64_t last_id;

static int control_open(struct inode *inode, struct file *file)
{
	struct pwk_control *control;
	int err = -ENOMEM;

	if (!current->mm)
		return -EINVAL;
	control = kzalloc(sizeof(*control), GFP_KERNEL_ACCOUNT);
	if (!control)
		return -ENOMEM;
	control->user = pwk_user_get();
	if (!control->user)
		goto free_control;
	err = pwk_user_open(control->user);
	if (err)
		goto put_user;
	err = -ENOMEM;
	control->words = pwk_words_make();
	if (!control->words)
		goto close_user;

	control->mm = current->mm;
	mmgrab(control->mm);
	control->id = atomic64_inc_return(&last_id);
	control->uid = current_euid();
	mutex_init(&control->lock);
	xa_init_flags(&control->slots, XA_FLAGS_ALLOC);
	file->private_data = control;
	pwk_count(PWK_CONTROLS, 1);
	return nonseekable_open(inode, file);

close_user:
	pwk_user_close(control->user);
put_user:
	pwk_user_put(control->user);
free_control:
	kfree(control);
	return err;
}

/* Words move before what is exported goes: word 0, too, where all slots are to end. */
static void slot_drop(struct pwk_control *control, struct pwk_slot *slot, bool all)
{
	struct pwk_export *export = slot->export;

	pwk_slot_close(control, slot, PW_KD_DROPPED);
	if (all)
		pwk_word_move(control->words, 0, PW_KD_DROPPED);
	if (export)
		pwk_export_close(export);
}

static int control_release(struct inode *inode, struct file *file)
{
	struct pwk_control *control = file->private_data;
	struct pwk_slot *slot;
	unsigned long number;

	mutex_lock(&control->lock);
	xa_for_each(&control->slots, number, slot)
		slot_drop(control, slot, true);
	pwk_share_close(control);
	mutex_unlock(&control->lock);

	xa_destroy(&control->slots);
	pwk_words_put(control->words);
	mmdrop(control->mm);
	pwk_user_close(control->user);
	pwk_user_put(control->user);
	kfree(control);
	pwk_count(PWK_CONTROLS, -1);
	return 0;
}

static int control_info(struct pwk_control *control, void __user *arg)
{
	struct pw_kd_info info = {
		.version = PW_KD_VERSION,
		.services = PW_KD_SERVICE_WATCH | PW_KD_SERVICE_POOL |
			    PW_KD_SERVICE_ATTACH,
		.words_bytes = control->words->slots * sizeof(u64),
		.user_bytes = pwk_user_bytes(control->user),
		.user_bytes_max = pwk_user_bytes_max(),
		.id = control->id,
	};

	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

static int control_watch(struct pwk_control *control, struct pw_kd_watch *watch)
{
	struct pwk_slot *slot;
	int err = pwk_slot_open(control, watch->start, watch->end, watch->access, &slot,
				&watch->word);

	if (!err)
		watch->slot = slot->number;
	return err;
}

static int slot_drop_number(struct pwk_control *control, u32 number)
{
	struct pwk_slot *slot = xa_load(&control->slots, number);

	if (!slot)
		return -ENOENT;
	slot_drop(control, slot, false);
	return 0;
}

/* WATCH or EXPORT. Where the answer cannot be written, it has not been. */
static int ioctl_watch(struct pwk_control *control, void __user *arg,
		       int (*call)(struct pwk_control *control, struct pw_kd_watch *watch))
{
	struct pw_kd_watch watch;
	int err;

	if (copy_from_user(&watch, arg, sizeof(watch)))
		return -EFAULT;
	if (memchr_inv(watch.reserved, 0, sizeof(watch.reserved)))
		return -EINVAL;
	watch.slot = 0;
	watch.word = 0;
	watch.offset = 0;
	watch.id = control->id;
	if (mutex_lock_interruptible(&control->lock))
		return -EINTR;
	err = call(control, &watch);
	if (!err && copy_to_user(arg, &watch, sizeof(watch))) {
		slot_drop_number(control, watch.slot);
		err = -EFAULT;
	}
	mutex_unlock(&control->lock);
	return err;
}

static int ioctl_drop(struct pwk_control *control, const void __user *arg)
{
	struct pw_kd_slot drop;
	int err;

	if (copy_from_user(&drop, arg, sizeof(drop)))
		return -EFAULT;
	if (drop.reserved)
		return -EINVAL;
	if (mutex_lock_interruptible(&control->lock))
		return -EINTR;
	err = slot_drop_number(control, drop.slot);
	mutex_unlock(&control->lock);
	return err;
}

/* A new descriptor; its number is known to the process before the file is behind it. */
static int fd_give(struct file *file, int fd, s32 __user *answer)
{
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	if (put_user(fd, answer)) {
		put_unused_fd(fd);
		fput(file);
		return -EFAULT;
	}
	fd_install(fd, file);
	return 0;
}

static int ioctl_share(struct pwk_control *control, struct pw_kd_share __user *arg)
{
	struct pw_kd_share share;
	struct file *file;
	int fd;

	if (copy_from_user(&share, arg, sizeof(share)))
		return -EFAULT;
	if (share.reserved)
		return -EINVAL;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	if (mutex_lock_interruptible(&control->lock)) {
		put_unused_fd(fd);
		return -EINTR;
	}
	file = pwk_share_file(control);
	mutex_unlock(&control->lock);
	return fd_give(file, fd, &arg->fd);
}

static int ioctl_pool(struct pw_kd_pool __user *arg)
{
	struct pw_kd_pool pool;
	int fd;

	if (copy_from_user(&pool, arg, sizeof(pool)))
		return -EFAULT;
	if (pool.reserved || memchr_inv(pool.reserved2, 0, sizeof(pool.reserved2)))
		return -EINVAL;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	return fd_give(pwk_pool_file(pool.size), fd, &arg->fd);
}

static long control_ioctl(struct file *file, unsigned int call, unsigned long user)
{
	struct pwk_control *control = file->private_data;
	void __user *arg = (void __user *)user;

	if (call == PW_KD_INFO)
		return control_info(control, arg);
	if (_IOC_TYPE(call) == PW_KD_IOC && control->mm != current->mm)
		return -EXDEV;
	switch (call) {
	case PW_KD_WATCH:
		return ioctl_watch(control, arg, control_watch);
	case PW_KD_DROP:
		return ioctl_drop(control, arg);
	case PW_KD_EXPORT:
		return ioctl_watch(control, arg, pwk_export_open);
	case PW_KD_SHARE:
		return ioctl_share(control, arg);
	case PW_KD_POOL:
		return ioctl_pool(arg);
	default:
		return -ENOTTY;
	}
}

static int control_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct pwk_control *control = file->private_data;

	return pwk_words_mmap(control->words, vma);
}

static const struct file_operations control_fops = {
	.owner = THIS_MODULE,
	.open = control_open,
	.release = control_release,
	.unlocked_ioctl = control_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = control_mmap,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "pinwheel",
	.fops = &control_fops,
	.groups = pwk_counter_groups,
};

static int __init pinwheel_init(void)
{
	device.mode = mode & 0666;
	return misc_register(&device);
}

static void __exit pinwheel_exit(void)
{
	misc_deregister(&device);
}

module_init(pinwheel_init);
module_exit(pinwheel_exit);

MODULE_DESCRIPTION("Watches memory for RDMA and shared memory transports, and pins it");
MODULE_AUTHOR("The pinwheel authors");
MODULE_LICENSE("Dual BSD/GPL");
