# SPDX-License-Identifier: BSD-3-Clause
# Criterion units. One test is three lines:
#   unit_tests += tests/unit/NAME
#   tests_unit_NAME_SOURCES = tests/unit/NAME.c
#   tests_unit_NAME_LDADD = $(unit_libs)

unit_libs = $(pw_inner_libs) $(unit_main) $(CRITERION_LIBS)

if HAVE_CRITERION
check_PROGRAMS += $(unit_tests)
endif

# Criterion's own main() does not run under ThreadSanitizer.
EXTRA_DIST += tests/unit/plain_main.c
unit_main =
if SANITIZE_THREAD
unit_main += libplainmain.la
check_LTLIBRARIES += libplainmain.la
libplainmain_la_SOURCES = tests/unit/plain_main.c
endif

# The pool.
unit_tests += tests/unit/books tests/unit/pool tests/unit/pool_refused
tests_unit_books_SOURCES = tests/unit/books.c
tests_unit_books_LDADD = $(unit_libs)
tests_unit_pool_SOURCES = tests/unit/pool.c
tests_unit_pool_LDADD = $(unit_libs)
tests_unit_pool_refused_SOURCES = tests/unit/pool_refused.c \
	tests/unit/pool_fake_sys.c tests/unit/pool_fake_sys.h
tests_unit_pool_refused_LDADD = $(unit_libs)

# A program's heap in it.
unit_tests += tests/unit/books_runs tests/unit/heap tests/unit/heap_refused \
	tests/unit/malloc_params tests/unit/process_pool tests/unit/still
tests_unit_books_runs_SOURCES = tests/unit/books_runs.c
tests_unit_books_runs_LDADD = $(unit_libs)
tests_unit_heap_SOURCES = tests/unit/heap.c
tests_unit_heap_LDADD = $(unit_libs)
tests_unit_heap_refused_SOURCES = tests/unit/heap_refused.c \
	tests/unit/pool_fake_sys.c tests/unit/pool_fake_sys.h
tests_unit_heap_refused_LDADD = $(unit_libs)
tests_unit_malloc_params_SOURCES = tests/unit/malloc_params.c regcache/malloc_params.c
tests_unit_malloc_params_LDADD = $(unit_libs)
tests_unit_process_pool_SOURCES = tests/unit/process_pool.c
tests_unit_process_pool_LDADD = $(unit_libs)
tests_unit_still_SOURCES = tests/unit/still.c
tests_unit_still_LDADD = $(unit_libs)

# The backends over libfabric, UCX and libibverbs.
if HAVE_LIBFABRIC
unit_tests += tests/unit/ofi
endif
if HAVE_UCX
unit_tests += tests/unit/ucx tests/unit/ucx_reads
endif
if HAVE_IBVERBS
unit_tests += tests/unit/verbs tests/unit/verbs_cache tests/unit/verbs_ports tests/unit/verbs_steps
unit_tests += tests/unit/verbs_rest
endif
rdm_pair = tests/unit/rdm_pair.c tests/unit/rdm_pair.h
tests_unit_ofi_SOURCES = tests/unit/ofi.c $(rdm_pair)
tests_unit_ofi_LDADD = $(unit_libs)
tests_unit_ucx_SOURCES = tests/unit/ucx.c $(rdm_pair)
tests_unit_ucx_LDADD = $(unit_libs)
tests_unit_ucx_reads_SOURCES = tests/unit/ucx_reads.c $(rdm_pair)
tests_unit_ucx_reads_LDADD = $(unit_libs)
fake_verbs = tests/unit/fake_verbs.c tests/unit/fake_verbs.h
tests_unit_verbs_SOURCES = tests/unit/verbs.c $(fake_verbs) $(rdm_pair)
tests_unit_verbs_LDADD = $(unit_libs)
tests_unit_verbs_cache_SOURCES = tests/unit/verbs_cache.c $(fake_verbs) $(pair) \
	tests/unit/fake_monitor.c tests/unit/fake_monitor.h
tests_unit_verbs_cache_LDADD = $(unit_libs)
tests_unit_verbs_ports_SOURCES = tests/unit/verbs_ports.c $(fake_verbs)
tests_unit_verbs_ports_LDADD = $(unit_libs)
tests_unit_verbs_steps_SOURCES = tests/unit/verbs_steps.c tests/unit/steps.c tests/unit/steps.h \
	$(fake_verbs) $(rdm_pair)
tests_unit_verbs_steps_LDADD = $(unit_libs)
tests_unit_verbs_rest_SOURCES = tests/unit/verbs_rest.c $(fake_verbs) tests/unit/draw.h
tests_unit_verbs_rest_LDADD = $(unit_libs)

# What they share, over a library of the tests' own.
if HAVE_RDM
unit_tests += tests/unit/rdm_fuzz tests/unit/rdm_lies tests/unit/rdm_lock
endif
fake_port = tests/unit/fake_port.c tests/unit/fake_port.h
tests_unit_rdm_lock_SOURCES = tests/unit/rdm_lock.c
tests_unit_rdm_lock_LDADD = $(unit_libs)
tests_unit_rdm_lies_SOURCES = tests/unit/rdm_lies.c $(fake_port) $(rdm_pair)
tests_unit_rdm_lies_LDADD = $(unit_libs)
tests_unit_rdm_fuzz_SOURCES = tests/unit/rdm_fuzz.c tests/unit/rdm_fuzz.h \
	tests/unit/rdm_fuzz_wire.c tests/unit/draw.h $(fake_port)
tests_unit_rdm_fuzz_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=clock_gettime -Wl,--wrap=getrandom \
	-Wl,--wrap=rdm_thread_start -Wl,--wrap=usleep
tests_unit_rdm_fuzz_LDADD = $(unit_libs)

# Peers that call first.
unit_tests += tests/unit/callers
tests_unit_callers_SOURCES = tests/unit/callers.c $(pair)
tests_unit_callers_LDADD = $(unit_libs)

# The address of a process.
unit_tests += tests/unit/address
tests_unit_address_SOURCES = tests/unit/address.c tests/unit/draw.h
tests_unit_address_LDADD = $(unit_libs)

# Which devices are used, and which of them with which of a peer.
unit_tests += tests/unit/select tests/unit/rails
tests_unit_select_SOURCES = tests/unit/select.c
tests_unit_select_LDADD = $(unit_libs)
tests_unit_rails_SOURCES = tests/unit/rails.c
tests_unit_rails_LDADD = $(unit_libs)
unit_tests += tests/unit/paths
tests_unit_paths_SOURCES = tests/unit/paths.c $(pair)
tests_unit_paths_LDADD = $(unit_libs)
unit_tests += tests/unit/failover
tests_unit_failover_SOURCES = tests/unit/failover.c $(pair)
tests_unit_failover_LDADD = $(unit_libs)

# Transfers in pieces.
unit_tests += tests/unit/share tests/unit/stripe
tests_unit_share_SOURCES = tests/unit/share.c
tests_unit_share_LDADD = $(unit_libs)
tests_unit_stripe_SOURCES = tests/unit/stripe.c $(pair)
tests_unit_stripe_LDADD = $(unit_libs)

# How much memory a queue of shm takes.
unit_tests += tests/unit/queue
tests_unit_queue_SOURCES = tests/unit/queue.c \
	tests/unit/pool_fake_sys.c tests/unit/pool_fake_sys.h
tests_unit_queue_LDADD = $(unit_libs)

# Between hosts, over the loopback.
unit_tests += tests/unit/lend tests/unit/tcp tests/unit/tcp_fuzz tests/unit/tcp_memory \
	tests/unit/tcp_strangers
tests_unit_lend_SOURCES = tests/unit/lend.c
tests_unit_lend_LDADD = $(unit_libs)
tests_unit_tcp_SOURCES = tests/unit/tcp.c tests/unit/tcp_rig.h
tests_unit_tcp_LDADD = $(unit_libs)
tests_unit_tcp_memory_SOURCES = tests/unit/tcp_memory.c tests/unit/tcp_rig.h
tests_unit_tcp_memory_LDADD = $(unit_libs)
tests_unit_tcp_strangers_SOURCES = tests/unit/tcp_strangers.c tests/unit/tcp_rig.h
tests_unit_tcp_strangers_LDADD = $(unit_libs)
tests_unit_tcp_fuzz_SOURCES = tests/unit/tcp_fuzz.c tests/unit/tcp_rig.h tests/unit/draw.h
tests_unit_tcp_fuzz_LDADD = $(unit_libs)
unit_tests += tests/unit/tcp_watch
tests_unit_tcp_watch_SOURCES = tests/unit/tcp_watch.c tests/unit/tcp_rig.h
tests_unit_tcp_watch_LDADD = $(unit_libs)

# Memory that peers attach.
unit_tests += tests/unit/attach
tests_unit_attach_SOURCES = tests/unit/attach.c tests/unit/fake_share.c tests/unit/fake_share.h
tests_unit_attach_LDADD = $(unit_libs)

# What ways of moving bytes cost.
unit_tests += tests/unit/costs tests/unit/costs_file tests/unit/adapt tests/unit/rescue
unit_tests += tests/unit/trial
tests_unit_costs_file_SOURCES = tests/unit/costs_file.c
tests_unit_costs_file_LDADD = $(unit_libs)
tests_unit_costs_SOURCES = tests/unit/costs.c
tests_unit_costs_LDADD = $(unit_libs)
unit_tests += tests/unit/measure tests/unit/samples
tests_unit_measure_SOURCES = tests/unit/measure.c
tests_unit_measure_LDADD = $(unit_libs)
tests_unit_samples_SOURCES = tests/unit/samples.c
tests_unit_samples_LDADD = $(unit_libs)
tests_unit_adapt_SOURCES = tests/unit/adapt.c
tests_unit_adapt_LDADD = $(unit_libs)
tests_unit_trial_SOURCES = tests/unit/trial.c
tests_unit_trial_LDADD = $(unit_libs)
tests_unit_rescue_SOURCES = tests/unit/rescue.c $(pair)
tests_unit_rescue_LDADD = $(unit_libs)

# The registration cache: what it asks the kernel.
unit_tests += tests/unit/maps
tests_unit_maps_SOURCES = tests/unit/maps.c tests/unit/child.h
tests_unit_maps_LDADD = $(unit_libs)
unit_tests += tests/unit/monitor
tests_unit_monitor_SOURCES = tests/unit/monitor.c
tests_unit_monitor_LDADD = $(unit_libs)
unit_tests += tests/unit/uffd tests/unit/doubts
tests_unit_uffd_SOURCES = tests/unit/uffd.c tests/unit/child.h
tests_unit_uffd_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=pw_maps_find
tests_unit_uffd_LDADD = $(unit_libs) -ldl
tests_unit_doubts_SOURCES = tests/unit/doubts.c
tests_unit_doubts_LDADD = $(unit_libs)
unit_tests += tests/unit/kdriver
tests_unit_kdriver_SOURCES = tests/unit/kdriver.c tests/unit/child.h \
	tests/unit/fake_driver.c tests/unit/fake_driver.h
tests_unit_kdriver_LDADD = $(unit_libs)
unit_tests += tests/unit/uring
tests_unit_uring_SOURCES = tests/unit/uring.c tests/unit/child.h
tests_unit_uring_LDADD = $(unit_libs)

# Counters that others read.
unit_tests += tests/unit/live
tests_unit_live_SOURCES = tests/unit/live.c
tests_unit_live_LDADD = $(unit_libs)

# Network interfaces.
unit_tests += tests/unit/ifaces tests/unit/ifaces_net tests/unit/ifaces_parse
tests_unit_ifaces_SOURCES = tests/unit/ifaces.c
tests_unit_ifaces_LDADD = $(unit_libs)
tests_unit_ifaces_net_SOURCES = tests/unit/ifaces_net.c
tests_unit_ifaces_net_LDADD = $(unit_libs)
tests_unit_ifaces_parse_SOURCES = tests/unit/ifaces_parse.c tests/unit/draw.h
tests_unit_ifaces_parse_LDADD = $(unit_libs)

# How much may be pinned.
budget_rig = tests/unit/budget_rig.c tests/unit/budget_rig.h
unit_tests += tests/unit/budget tests/unit/budget_host tests/unit/budget_refused
tests_unit_budget_SOURCES = tests/unit/budget.c $(budget_rig)
tests_unit_budget_LDADD = $(unit_libs)
tests_unit_budget_host_SOURCES = tests/unit/budget_host.c $(budget_rig)
tests_unit_budget_host_LDADD = $(unit_libs)
tests_unit_budget_refused_SOURCES = tests/unit/budget_refused.c $(budget_rig)
tests_unit_budget_refused_LDADD = $(unit_libs)

# The registration cache, over a fake monitor and a fake pin backend.
cache_rig = tests/unit/regcache_rig.h tests/unit/fake_monitor.c \
	tests/unit/fake_monitor.h tests/unit/fake_pin.c tests/unit/fake_pin.h
unit_tests += tests/unit/regcache tests/unit/regcache_merge
tests_unit_regcache_SOURCES = tests/unit/regcache.c $(cache_rig)
tests_unit_regcache_LDADD = $(unit_libs)
tests_unit_regcache_merge_SOURCES = tests/unit/regcache_merge.c $(cache_rig)
tests_unit_regcache_merge_LDADD = $(unit_libs)
unit_tests += tests/unit/regcache_threads tests/unit/regcache_fork
tests_unit_regcache_threads_SOURCES = tests/unit/regcache_threads.c $(cache_rig)
tests_unit_regcache_threads_LDADD = $(unit_libs)
tests_unit_regcache_fork_SOURCES = tests/unit/regcache_fork.c $(cache_rig)
tests_unit_regcache_fork_LDADD = $(unit_libs)

# The fake NIC, for tests of what uses NICs: add $(fake_nic) to a test's sources.
fake_nic = tests/unit/fake_nic.c tests/unit/fake_nic.h \
	tests/unit/fake_control.c \
	tests/unit/fake_wire.c tests/unit/fake_wire.h \
	tests/unit/fake_work.c tests/unit/fake_world.h
unit_tests += tests/unit/fake_nic_test
tests_unit_fake_nic_test_SOURCES = tests/unit/fake_nic_test.c $(fake_nic)
tests_unit_fake_nic_test_LDADD = $(unit_libs)

# The core, with two engines in one process over the fake NIC.
pair = tests/unit/pair.c tests/unit/pair.h $(fake_nic)
unit_tests += tests/unit/endpoint tests/unit/path
tests_unit_endpoint_SOURCES = tests/unit/endpoint.c $(pair)
tests_unit_endpoint_LDADD = $(unit_libs)
tests_unit_path_SOURCES = tests/unit/path.c
tests_unit_path_LDADD = $(unit_libs)
unit_tests += tests/unit/transfer
tests_unit_transfer_SOURCES = tests/unit/transfer.c $(pair)
tests_unit_transfer_LDADD = $(unit_libs)
unit_tests += tests/unit/serve
tests_unit_serve_SOURCES = tests/unit/serve.c $(pair)
tests_unit_serve_LDADD = $(unit_libs)
unit_tests += tests/unit/serve_fuzz
tests_unit_serve_fuzz_SOURCES = tests/unit/serve_fuzz.c tests/unit/draw.h $(pair)
tests_unit_serve_fuzz_LDADD = $(unit_libs)
unit_tests += tests/unit/guard
tests_unit_guard_SOURCES = tests/unit/guard.c $(pair)
tests_unit_guard_LDADD = $(unit_libs)
unit_tests += tests/unit/connect
tests_unit_connect_SOURCES = tests/unit/connect.c $(pair)
tests_unit_connect_LDADD = $(unit_libs)
unit_tests += tests/unit/threads
tests_unit_threads_SOURCES = tests/unit/threads.c $(pair)
tests_unit_threads_LDADD = $(unit_libs)
unit_tests += tests/unit/regions tests/unit/idle
tests_unit_regions_SOURCES = tests/unit/regions.c $(pair)
tests_unit_regions_LDADD = $(unit_libs)
unit_tests += tests/unit/pinning
tests_unit_pinning_SOURCES = tests/unit/pinning.c $(pair)
tests_unit_pinning_LDADD = $(unit_libs)
tests_unit_idle_SOURCES = tests/unit/idle.c $(pair)
tests_unit_idle_LDADD = $(unit_libs)

# The interception of system calls.
unit_tests += tests/unit/records tests/unit/hooks_effects
tests_unit_records_SOURCES = tests/unit/records.c tests/unit/child.h
tests_unit_records_LDADD = $(unit_libs)
tests_unit_hooks_effects_SOURCES = tests/unit/hooks_effects.c
tests_unit_hooks_effects_LDADD = $(unit_libs)
unit_tests += tests/unit/patch
tests_unit_patch_SOURCES = tests/unit/patch.c tests/unit/child.h
tests_unit_patch_LDADD = $(unit_libs)
unit_tests += tests/unit/hooks tests/unit/hooks_others
tests_unit_hooks_SOURCES = tests/unit/hooks.c tests/unit/hooks_ears.h tests/unit/child.h
tests_unit_hooks_LDADD = $(unit_libs)
tests_unit_hooks_others_SOURCES = tests/unit/hooks_others.c tests/unit/hooks_ears.h \
	tests/unit/child.h
tests_unit_hooks_others_LDADD = $(unit_libs)
# Loaded by the latter, at run time.
check_LTLIBRARIES += hooks_object.la
hooks_object_la_SOURCES = tests/unit/hooks_object.c
hooks_object_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared \
	-rpath $(abs_top_builddir)

# What stands in headers alone.
unit_tests += tests/unit/atomic tests/unit/copy
tests_unit_atomic_SOURCES = tests/unit/atomic.c
tests_unit_atomic_LDADD = $(unit_libs)
tests_unit_copy_SOURCES = tests/unit/copy.c
tests_unit_copy_LDADD = $(unit_libs)

# Who may not talk to the shm NIC.
unit_tests += tests/unit/barrier
tests_unit_barrier_SOURCES = tests/unit/barrier.c
tests_unit_barrier_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=pthread_create
tests_unit_barrier_LDADD = $(unit_libs)
unit_tests += tests/unit/strangers
tests_unit_strangers_SOURCES = tests/unit/strangers.c
tests_unit_strangers_LDADD = $(unit_libs)
unit_tests += tests/unit/ring
tests_unit_ring_SOURCES = tests/unit/ring.c
tests_unit_ring_LDADD = $(unit_libs)

# What a peer may write into shared memory.
unit_tests += tests/unit/hostile tests/unit/ring_fuzz
tests_unit_hostile_SOURCES = tests/unit/hostile.c tests/unit/draw.h
tests_unit_hostile_LDADD = $(unit_libs)
tests_unit_ring_fuzz_SOURCES = tests/unit/ring_fuzz.c tests/unit/draw.h
tests_unit_ring_fuzz_LDADD = $(unit_libs)

# Pieces of the module that can do without Open MPI itself, not without its headers.
if BUILD_MODULE
unit_tests += tests/unit/compat tests/unit/params
tests_unit_compat_SOURCES = tests/unit/compat.c
tests_unit_compat_CPPFLAGS = $(AM_CPPFLAGS) $(OPAL_CPPFLAGS)
tests_unit_compat_CFLAGS = $(AM_CFLAGS) $(OPAL_CFLAGS)
tests_unit_compat_LDADD = $(unit_libs)
tests_unit_params_SOURCES = tests/unit/params.c btl/params.c
tests_unit_params_CPPFLAGS = $(AM_CPPFLAGS) $(OPAL_CPPFLAGS)
tests_unit_params_CFLAGS = $(AM_CFLAGS) $(OPAL_CFLAGS)
tests_unit_params_LDADD = $(unit_libs)
endif
