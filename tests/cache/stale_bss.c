/* SPDX-License-Identifier: BSD-3-Clause */
/* stale_bss.c - an object with memory of its own, to be loaded and unloaded. */

__attribute__((visibility("default"), aligned(4096))) unsigned char stale_bss[1 << 20];
