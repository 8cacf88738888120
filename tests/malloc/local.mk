# SPDX-License-Identifier: BSD-3-Clause
# libpinwheel-malloc, preloaded into programs that tell what is wrong.

malloc_tests += tests/malloc/blocks.sh tests/malloc/forks.sh
EXTRA_DIST += tests/malloc/blocks.sh tests/malloc/forks.sh tests/malloc/lib.sh

check_PROGRAMS += tests/malloc/blocks tests/malloc/forks
tests_malloc_blocks_SOURCES = tests/malloc/blocks.c tests/malloc/told.h
tests_malloc_blocks_CFLAGS = $(AM_CFLAGS) -fno-builtin
tests_malloc_forks_SOURCES = tests/malloc/forks.c tests/malloc/told.h
tests_malloc_forks_CFLAGS = $(AM_CFLAGS) -fno-builtin
