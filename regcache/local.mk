# SPDX-License-Identifier: BSD-3-Clause
# libpinwheel: no MPI, no NIC. What is installed is a shared library of it, which
# the components use too: one process has one interception and one pool. Units
# link the objects themselves, for they look behind the contracts.

noinst_LTLIBRARIES += libpwregcache.la
libpwregcache_la_LIBADD = libpwhooks.la
libpwregcache_la_SOURCES = \
	regcache/account.c regcache/account.h \
	regcache/arena.h \
	regcache/barrier.h \
	regcache/bits.h \
	regcache/books.c regcache/books.h \
	regcache/budget.c regcache/budget_sys.h \
	regcache/cache.h \
	regcache/doubts.c regcache/doubts.h \
	regcache/fnv.h \
	regcache/frames.c regcache/frames.h \
	regcache/heap.c regcache/heap_fork.c \
	regcache/hooks.c regcache/hooks.h \
	regcache/hooks_install.c regcache/hooks_install.h \
	regcache/hooks_objects.c regcache/hooks_objects.h \
	regcache/hooks_sites.c regcache/hooks_sites.h \
	regcache/hooks_trial.c regcache/hooks_trial.h \
	regcache/hooks_verdict.c regcache/hooks_verdict.h \
	regcache/index.c regcache/index.h \
	regcache/kdriver.c regcache/kdriver.h \
	regcache/live.c \
	regcache/maps.c regcache/maps.h \
	regcache/miss.c \
	regcache/monitor.c regcache/monitors.h \
	regcache/nodes.c \
	regcache/none.c \
	regcache/owner.h \
	regcache/pages.c regcache/pages.h \
	regcache/patch.c regcache/patch.h \
	regcache/pool.c regcache/pool_inner.h regcache/pool_sys.h \
	regcache/choose.c regcache/populate.c regcache/populate.h \
	regcache/process_pool.c \
	regcache/raw.h \
	regcache/records_memory.c \
	regcache/regcache.c \
	regcache/retire.c \
	regcache/scan.c regcache/scan.h \
	regcache/seats.c \
	regcache/segment.c regcache/segment.h \
	regcache/selftest.c \
	regcache/still.c regcache/still.h \
	regcache/sys.c regcache/sys.h \
	regcache/uffd.c regcache/uffd.h \
	regcache/uring.c

# What runs in the place of a system call: without vector registers, which the way
# to it does not save, and without what a sanitizer would have it call.
noinst_LTLIBRARIES += libpwhooks.la
libpwhooks_la_CFLAGS = -std=gnu11 -Wall -Wextra -fvisibility=hidden -pthread \
	-mgeneral-regs-only
libpwhooks_la_SOURCES = \
	regcache/hooks_effects.c regcache/hooks_effects.h \
	regcache/hooks_entry.c regcache/hooks_entry.h \
	regcache/records.c regcache/records.h

lib_LTLIBRARIES += libpinwheel.la
libpinwheel_la_SOURCES =
libpinwheel_la_LIBADD = libpwregcache.la
libpinwheel_la_LDFLAGS = $(AM_LDFLAGS) -version-info 0:0:0 -Wl,-z,now -Wl,-z,defs \
	-Wl,-Bsymbolic -Wl,-z,nodelete

# Preloaded, it takes malloc's place: so the compiler is not to know what malloc
# does, and libpinwheel, whose pool it uses, stays a library of its own.
lib_LTLIBRARIES += libpinwheel-malloc.la
libpinwheel_malloc_la_SOURCES = \
	regcache/malloc.c \
	regcache/malloc_arena.c regcache/malloc_arena.h \
	regcache/malloc_fork.c regcache/malloc_fork.h \
	regcache/malloc_next.c regcache/malloc_next.h \
	regcache/malloc_params.c regcache/malloc_params.h \
	regcache/malloc_tell.h \
	regcache/number.h
libpinwheel_malloc_la_CFLAGS = $(AM_CFLAGS) -fno-builtin
libpinwheel_malloc_la_LIBADD = libpinwheel.la
libpinwheel_malloc_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared \
	-Wl,-z,now -Wl,-z,defs
