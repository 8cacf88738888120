# SPDX-License-Identifier: BSD-3-Clause
# Tests in virtual machines: a script runs tests/vm/run and joins vm_tests. Programs of
# its own that it runs inside are check_PROGRAMS.

# The longest first, for ./check runs two of them at a time.
vm_tests += tests/vm/cache tests/vm/fuzz tests/vm/pool tests/vm/gigabytes tests/vm/attach \
	tests/vm/machine tests/vm/module tests/vm/dkms tests/vm/watch
EXTRA_DIST += tests/vm/attach tests/vm/bench tests/vm/boot.sh tests/vm/dkms tests/vm/furnish.sh \
	tests/vm/init tests/vm/jobs tests/vm/machine tests/vm/module tests/vm/newest tests/vm/numa \
	tests/vm/pool tests/vm/prepare tests/vm/rdma tests/vm/run tests/vm/verbs tests/vm/watch

# Two machines, and a cable.
EXTRA_DIST += tests/vm/agent tests/vm/cable tests/vm/joined.sh tests/vm/pair

check_PROGRAMS += tests/vm/calls tests/vm/changes tests/vm/cycles
told = tests/vm/told.c tests/vm/told.h
watched = tests/vm/watched.c tests/vm/watched.h $(told)
tests_vm_calls_SOURCES = tests/vm/calls.c $(watched)
tests_vm_changes_SOURCES = tests/vm/changes.c $(watched)
tests_vm_cycles_SOURCES = tests/vm/cycles.c $(watched)

check_PROGRAMS += tests/vm/attached tests/vm/churn
tests_vm_attached_SOURCES = tests/vm/attached.c tests/vm/peer.c tests/vm/peer.h
tests_vm_churn_SOURCES = tests/vm/churn.c tests/vm/peer.c tests/vm/peer.h

# The registration cache over the driver.
EXTRA_DIST += tests/vm/cache
check_PROGRAMS += tests/vm/cached
tests_vm_cached_SOURCES = tests/vm/cached.c tests/cache/oracle.c tests/cache/oracle.h \
	tests/cache/kept.c tests/cache/kept.h
tests_vm_cached_LDADD = libpinwheel.la
tests_vm_cached_LDFLAGS = $(cache_ldflags)

check_PROGRAMS += tests/vm/pinned
tests_vm_pinned_SOURCES = tests/vm/pinned.c tests/vm/pinned.h tests/vm/pinned_pins.c \
	tests/vm/pinned_stories.c $(told)
tests_vm_pinned_LDADD = $(IBVERBS_LIBS)

# Pools of reserved pages of 1 GiB.
EXTRA_DIST += tests/vm/gigabytes
check_PROGRAMS += tests/vm/gigantic
tests_vm_gigantic_SOURCES = tests/vm/gigantic.c
tests_vm_gigantic_LDADD = libpinwheel.la
tests_vm_gigantic_LDFLAGS = $(cache_ldflags)

EXTRA_DIST += tests/vm/fuzz tests/vm/fuzz.sh
check_PROGRAMS += tests/vm/fuzz_kdriver
tests_vm_fuzz_kdriver_SOURCES = tests/vm/fuzz.h tests/vm/fuzz_areas.c tests/vm/fuzz_calls.c \
	tests/vm/fuzz_kdriver.c tests/vm/fuzz_ops.c

# Not among ./check's: see there.
debug_tests += tests/vm/debug-kernel
EXTRA_DIST += tests/vm/debug-kernel tests/vm/debug.config tests/vm/prepare-debug

if BUILD_MODULE
vm_tests += tests/vm/jobs tests/vm/numa tests/vm/rdma tests/vm/verbs tests/vm/cable tests/vm/newest
check_PROGRAMS += tests/vm/places tests/vm/pinned_ranks
tests_vm_pinned_ranks_SOURCES = tests/vm/pinned_ranks.c
tests_vm_pinned_ranks_CPPFLAGS = $(mpi_cppflags)
tests_vm_pinned_ranks_LDADD = $(mpi_libs)
tests_vm_places_SOURCES = tests/vm/places.c
tests_vm_places_CPPFLAGS = $(mpi_cppflags)
tests_vm_places_LDADD = $(mpi_libs)
endif
