# SPDX-License-Identifier: BSD-3-Clause
# The kernel module is made by the kernel's build system and not by plain make: see
# kdriver/Makefile. It comes along in the tarball.

EXTRA_DIST += kdriver/60-pinwheel.rules kdriver/Kbuild kdriver/Makefile kdriver/compat.h \
	kdriver/counters.c kdriver/deb kdriver/dkms.conf kdriver/export.c kdriver/export.h \
	kdriver/inode.c kdriver/main.c kdriver/pinwheel.h kdriver/pool.c kdriver/share.c \
	kdriver/user.c kdriver/watch.c kdriver/words.c
