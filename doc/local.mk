# SPDX-License-Identifier: BSD-3-Clause
# Man pages are installed from dist_man_MANS.

dist_man_MANS += doc/pinwheel-malloc.7 doc/pwbench.1 doc/pwbench-calibrate.1 \
	doc/pwbench-matrix.1 doc/pwinfo.1

# The library's pages, one for each header.
dist_man_MANS += doc/pw_budget.3 doc/pw_heap.3 doc/pw_live.3 doc/pw_malloc.3 \
	doc/pw_monitor.3 doc/pw_pin.3 doc/pw_pool.3 doc/pw_process_pool.3 \
	doc/pw_regcache.3 doc/pw_uring.3

# A function's name leads to the page that has it.
budget_names = doc/pw_budget_charge.3 doc/pw_budget_close.3 doc/pw_budget_credit.3 \
	doc/pw_budget_describe.3 doc/pw_budget_forked.3 doc/pw_budget_open.3
heap_names = doc/pw_heap_alloc.3 doc/pw_heap_describe.3 doc/pw_heap_fork_child.3 \
	doc/pw_heap_fork_parent.3 doc/pw_heap_fork_prepare.3 doc/pw_heap_free.3 \
	doc/pw_heap_open.3 doc/pw_heap_resize.3 doc/pw_heap_touch.3 \
	doc/pw_heap_usable.3
live_names = doc/pw_live_close.3 doc/pw_live_open.3 doc/pw_live_read.3 \
	doc/pw_live_tell.3 doc/pw_live_update.3
malloc_names = doc/pw_malloc_describe.3
monitor_names = doc/pw_event_name.3 doc/pw_monitor_close.3 doc/pw_monitor_open.3 \
	doc/pw_monitors.3
pin_names = doc/pw_pin_ops.3
pool_names = doc/pw_pages_name.3 doc/pw_pool_alloc.3 doc/pw_pool_back.3 doc/pw_pool_base.3 \
	doc/pw_pool_close.3 doc/pw_pool_contains.3 doc/pw_pool_describe.3 \
	doc/pw_pool_extent.3 \
	doc/pw_pool_fd.3 doc/pw_pool_free.3 doc/pw_pool_hold.3 doc/pw_pool_map.3 \
	doc/pw_pool_nodes.3 doc/pw_pool_open.3 doc/pw_pool_probe.3 doc/pw_pool_release.3 \
	doc/pw_pool_reserve.3 doc/pw_pool_size.3 doc/pw_pool_steady.3 \
	doc/pw_pool_unmap.3 doc/pw_pool_usable.3
process_pool_names = doc/pw_process_pool_get.3 doc/pw_process_pool_put.3
regcache_names = doc/pw_regcache_close.3 doc/pw_regcache_get.3 doc/pw_regcache_open.3 \
	doc/pw_regcache_progress.3 doc/pw_regcache_put.3 doc/pw_regcache_stats.3 \
	doc/pw_regcache_trim.3 doc/pw_regcache_trust.3
uring_names = doc/pw_uring_close.3 doc/pw_uring_open.3 doc/pw_uring_pin.3 \
	doc/pw_uring_read.3 doc/pw_uring_write.3
function_pages = $(budget_names) $(heap_names) $(live_names) $(malloc_names) \
	$(monitor_names) $(pin_names) $(pool_names) $(process_pool_names) \
	$(regcache_names) $(uring_names)
nodist_man_MANS = $(function_pages)
CLEANFILES += $(function_pages)

leads_to = $(AM_V_at)mkdir -p doc && echo .so man3/
$(budget_names): ; $(leads_to)pw_budget.3 > $@
$(heap_names): ; $(leads_to)pw_heap.3 > $@
$(live_names): ; $(leads_to)pw_live.3 > $@
$(malloc_names): ; $(leads_to)pw_malloc.3 > $@
$(monitor_names): ; $(leads_to)pw_monitor.3 > $@
$(pin_names): ; $(leads_to)pw_pin.3 > $@
$(pool_names): ; $(leads_to)pw_pool.3 > $@
$(process_pool_names): ; $(leads_to)pw_process_pool.3 > $@
$(regcache_names): ; $(leads_to)pw_regcache.3 > $@
$(uring_names): ; $(leads_to)pw_uring.3 > $@

exampledir = $(docdir)/examples
dist_example_DATA = doc/examples/regcache.c
