/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* compat.h - where the kernels from 6.1 to 6.12 differ. No other file asks which one it
 * is built for.
 */
#ifndef PINWHEEL_KDRIVER_COMPAT_H
#define PINWHEEL_KDRIVER_COMPAT_H

#include <linux/mm.h>
#include <linux/version.h>

/* 6.3 made vm_flags a field that only functions may write. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void pwk_vm_flags(struct vm_area_struct *vma, vm_flags_t set, vm_flags_t clear)
{
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
}
#else
static inline void pwk_vm_flags(struct vm_area_struct *vma, vm_flags_t set, vm_flags_t clear)
{
	vm_flags_mod(vma, set, clear);
}
#endif

/* 6.6 made the size that a huge fault is about an order. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
typedef enum page_entry_size pwk_fault_size;
#define PWK_FAULT_PMD PE_SIZE_PMD
#else
typedef unsigned int pwk_fault_size;
#define PWK_FAULT_PMD PMD_ORDER
#endif

#endif
