// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/* inode.c - files that are in no directory, each with an inode and so an address space
 * of its own: what is mapped of one can be taken from all who map it, and of no other.
 *
 * They lie in a file system that nobody can mount. It refers to the module and lives as
 * long as one of its files; so nothing is left to do when the module is unloaded.
 */
#include <linux/file.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>

#include "pinwheel.h"

static struct vfsmount *mount;
static int users;

static int init_context(struct fs_context *fc)
{
	return init_pseudo(fc, PW_KD_MAGIC) ? 0 : -ENOMEM;
}

static struct file_system_type pinwheel_fs = {
	.name = "pinwheel",
	.owner = THIS_MODULE,
	.init_fs_context = init_context,
	.kill_sb = kill_anon_super,
};

static struct file *file_in(struct vfsmount *mnt, const char *name,
			    const struct file_operations *ops, void *private,
			    loff_t size, bool huge)
{
	struct inode *inode = alloc_anon_inode(mnt->mnt_sb);
	struct file *file;

	if (IS_ERR(inode))
		return ERR_CAST(inode);
	/* Only mappings of such an inode are asked for huge entries by frame number. */
	if (huge)
		inode_set_flags(inode, S_DAX, S_DAX);
	inode->i_size = size;
	file = alloc_file_pseudo(inode, mnt, name, O_RDWR, ops);
	if (IS_ERR(file)) {
		iput(inode);
		return file;
	}
	file->private_data = private;
	return file;
}

/* Its release() is called when the last who refers to it is gone. */
struct file *pwk_file_make(const char *name, const struct file_operations *ops,
			   void *private, loff_t size, bool huge)
{
	struct file *file;
	int err = simple_pin_fs(&pinwheel_fs, &mount, &users);

	if (err)
		return ERR_PTR(err);
	__module_get(ops->owner);
	file = file_in(mount, name, ops, private, size, huge);
	if (IS_ERR(file))
		module_put(ops->owner);
	simple_release_fs(&mount, &users);
	return file;
}
