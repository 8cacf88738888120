# SPDX-License-Identifier: BSD-3-Clause
# The registration cache against real memory: the staleness matrix and the fuzzer.

stale_tests += tests/cache/stale
cache_tests += tests/cache/stale_can_fail tests/cache/fuzz tests/cache/fuzz_can_fail
EXTRA_DIST += tests/cache/cells.sh tests/cache/fuzz tests/cache/fuzz_can_fail \
	tests/cache/stale tests/cache/stale_can_fail

# They use the library that is installed, from where it is built: the objects that they
# load lie beside them.
cache_ldflags = $(AM_LDFLAGS) -no-install
cache_kept = tests/cache/kept.c tests/cache/kept.h
cache_oracle = tests/cache/oracle.c tests/cache/oracle.h $(cache_kept)
cache_stale = tests/cache/stale.c tests/cache/stale.h \
	tests/cache/stale_advice.c tests/cache/stale_files.c tests/cache/stale_heap.c \
	tests/cache/stale_maps.c tests/cache/stale_odd.c tests/cache/stale_process.c \
	tests/cache/stale_raw.c tests/cache/stale_ring.h tests/cache/broken.c \
	tests/cache/broken.h
cache_fuzz = tests/cache/fuzz.c tests/cache/fuzz.h \
	tests/cache/fuzz_changes.c tests/cache/fuzz_process.c tests/cache/fuzz_slots.c \
	tests/cache/fuzz_story.c tests/cache/fuzz_use.c tests/cache/broken.c \
	tests/cache/broken.h

check_PROGRAMS += tests/cache/stale_cell tests/cache/fuzz_cache
tests_cache_stale_cell_SOURCES = $(cache_stale) $(cache_oracle)
tests_cache_stale_cell_LDADD = libpinwheel.la
tests_cache_stale_cell_LDFLAGS = $(cache_ldflags)
tests_cache_fuzz_cache_SOURCES = $(cache_fuzz) $(cache_oracle)
tests_cache_fuzz_cache_LDADD = libpinwheel.la
tests_cache_fuzz_cache_LDFLAGS = $(cache_ldflags)

# The same by RDMA, in a virtual machine that has a port: tests/vm/cache.
if HAVE_IBVERBS
check_PROGRAMS += tests/cache/stale_rdma tests/cache/fuzz_rdma tests/cache/rdma_peer
endif
cache_side = tests/cache/rdma_side.c tests/cache/rdma_side.h
cache_rdma = tests/cache/oracle_rdma.c tests/cache/oracle.h $(cache_kept) $(cache_side)
tests_cache_stale_rdma_SOURCES = $(cache_stale) $(cache_rdma)
tests_cache_stale_rdma_LDADD = libpwnic.la libpinwheel.la
tests_cache_stale_rdma_LDFLAGS = $(cache_ldflags)
tests_cache_fuzz_rdma_SOURCES = $(cache_fuzz) $(cache_rdma)
tests_cache_fuzz_rdma_LDADD = libpwnic.la libpinwheel.la
tests_cache_fuzz_rdma_LDFLAGS = $(cache_ldflags)
tests_cache_rdma_peer_SOURCES = tests/cache/rdma_peer.c $(cache_side)
tests_cache_rdma_peer_LDADD = libpwnic.la libpinwheel.la
tests_cache_rdma_peer_LDFLAGS = $(cache_ldflags)

check_LTLIBRARIES += tests/cache/stale_bss.la tests/cache/stale_int80.la \
	tests/cache/stale_raw_any.la tests/cache/stale_raw_few.la tests/cache/stale_raw_map.la
tests_cache_stale_bss_la_SOURCES = tests/cache/stale_bss.c
tests_cache_stale_bss_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -rpath /nowhere
tests_cache_stale_int80_la_SOURCES = tests/cache/stale_int80.c
tests_cache_stale_int80_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -rpath /nowhere
tests_cache_stale_raw_few_la_SOURCES = tests/cache/stale_raw_few.c
tests_cache_stale_raw_few_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version \
	-rpath /nowhere
tests_cache_stale_raw_map_la_SOURCES = tests/cache/stale_raw_map.c
tests_cache_stale_raw_map_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version \
	-rpath /nowhere
tests_cache_stale_raw_any_la_SOURCES = tests/cache/stale_raw_any.c
tests_cache_stale_raw_any_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version \
	-rpath /nowhere

# The instructions of a hit.
cache_tests += tests/cache/hitpath
EXTRA_DIST += tests/cache/hitpath
check_PROGRAMS += tests/cache/hitpath_code
tests_cache_hitpath_code_SOURCES = tests/cache/hitpath_code.c
tests_cache_hitpath_code_LDADD = libpinwheel.la
tests_cache_hitpath_code_LDFLAGS = $(cache_ldflags)

# No allocation, no lock in a hook.
cache_tests += tests/cache/trap
EXTRA_DIST += tests/cache/trap
check_PROGRAMS += tests/cache/trap_hooks
tests_cache_trap_hooks_SOURCES = tests/cache/trap.c
tests_cache_trap_hooks_LDADD = libpwregcache.la
