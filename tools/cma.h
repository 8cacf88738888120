/* SPDX-License-Identifier: BSD-3-Clause */
/* cma.h - the kernel copies from another process's memory: process_vm_readv(). */
#ifndef PW_TOOLS_CMA_H
#define PW_TOOLS_CMA_H

#include <stddef.h>
#include <sys/types.h>

/* All of it: 0, or -errno, -EIO for less than len bytes. */
int pw_cma_read(pid_t from, void *to, const void *at, size_t len);

/* What such an error means, a sentence's part of at most len bytes. Returns err. */
int pw_cma_why(int err, char *why, size_t len);

#endif
