# SPDX-License-Identifier: BSD-3-Clause
# MPI programs and the scripts that run them. A program is one line in
# mpi_programs and its sources; a script that prints TAP joins mpi_tests.

mpi_programs = \
	tests/mpi/absent \
	tests/mpi/allocmem \
	tests/mpi/attached \
	tests/mpi/big \
	tests/mpi/buffers \
	tests/mpi/churn \
	tests/mpi/colls \
	tests/mpi/connect \
	tests/mpi/copied \
	tests/mpi/datatypes \
	tests/mpi/eager \
	tests/mpi/firstuse \
	tests/mpi/heapfork \
	tests/mpi/hold \
	tests/mpi/idle \
	tests/mpi/silent \
	tests/mpi/many \
	tests/mpi/neighbours \
	tests/mpi/pt2pt \
	tests/mpi/spawn \
	tests/mpi/threads \
	tests/mpi/trunc \
	tests/mpi/win \
	tests/mpi/winops \
	tests/mpi/winwhose
check_PROGRAMS += $(mpi_programs) tests/mpi/deny
check_LTLIBRARIES += libpwstory.la

libpwstory_la_SOURCES = tests/mpi/counters.c tests/mpi/counters.h tests/mpi/story.c \
	tests/mpi/story.h tests/mpi/window.c tests/mpi/window.h
libpwstory_la_CPPFLAGS = $(mpi_cppflags)

mpi_cppflags = $(AM_CPPFLAGS) $(OMPI_CPPFLAGS)
mpi_libs = libpwstory.la $(OMPI_LIBS)

tests_mpi_absent_SOURCES = tests/mpi/absent.c
tests_mpi_absent_CPPFLAGS = $(mpi_cppflags)
tests_mpi_absent_LDADD = $(mpi_libs)
tests_mpi_allocmem_SOURCES = tests/mpi/allocmem.c
tests_mpi_allocmem_CPPFLAGS = $(mpi_cppflags)
tests_mpi_allocmem_LDADD = $(mpi_libs)
tests_mpi_attached_SOURCES = tests/mpi/attached.c
tests_mpi_attached_CPPFLAGS = $(mpi_cppflags)
tests_mpi_attached_LDADD = $(mpi_libs)
tests_mpi_big_SOURCES = tests/mpi/big.c
tests_mpi_big_CPPFLAGS = $(mpi_cppflags)
tests_mpi_big_LDADD = $(mpi_libs)
tests_mpi_buffers_SOURCES = tests/mpi/buffers.c
tests_mpi_buffers_CPPFLAGS = $(mpi_cppflags)
tests_mpi_buffers_LDADD = $(mpi_libs) -ldl
tests_mpi_churn_SOURCES = tests/mpi/churn.c
tests_mpi_churn_CPPFLAGS = $(mpi_cppflags)
tests_mpi_churn_LDADD = $(mpi_libs)
tests_mpi_colls_SOURCES = tests/mpi/colls.c
tests_mpi_colls_CPPFLAGS = $(mpi_cppflags)
tests_mpi_colls_LDADD = $(mpi_libs)
tests_mpi_connect_SOURCES = tests/mpi/connect.c
tests_mpi_connect_CPPFLAGS = $(mpi_cppflags)
tests_mpi_connect_LDADD = $(mpi_libs)
tests_mpi_eager_SOURCES = tests/mpi/eager.c
tests_mpi_eager_CPPFLAGS = $(mpi_cppflags)
tests_mpi_eager_LDADD = $(mpi_libs)
tests_mpi_firstuse_SOURCES = tests/mpi/firstuse.c
tests_mpi_firstuse_CPPFLAGS = $(mpi_cppflags)
tests_mpi_firstuse_LDADD = $(mpi_libs)
tests_mpi_copied_SOURCES = tests/mpi/copied.c
tests_mpi_copied_CPPFLAGS = $(mpi_cppflags)
tests_mpi_copied_LDADD = $(mpi_libs)
tests_mpi_datatypes_SOURCES = tests/mpi/datatypes.c
tests_mpi_datatypes_CPPFLAGS = $(mpi_cppflags)
tests_mpi_datatypes_LDADD = $(mpi_libs)
tests_mpi_heapfork_SOURCES = tests/mpi/heapfork.c
tests_mpi_heapfork_CPPFLAGS = $(mpi_cppflags)
tests_mpi_heapfork_LDADD = $(mpi_libs)
tests_mpi_hold_SOURCES = tests/mpi/hold.c
tests_mpi_hold_CPPFLAGS = $(mpi_cppflags)
tests_mpi_hold_LDADD = $(mpi_libs)
tests_mpi_idle_SOURCES = tests/mpi/idle.c
tests_mpi_idle_CPPFLAGS = $(mpi_cppflags)
tests_mpi_idle_LDADD = $(mpi_libs)
tests_mpi_silent_SOURCES = tests/mpi/silent.c
tests_mpi_silent_CPPFLAGS = $(mpi_cppflags)
tests_mpi_silent_LDADD = $(mpi_libs)
tests_mpi_many_SOURCES = tests/mpi/many.c
tests_mpi_many_CPPFLAGS = $(mpi_cppflags)
tests_mpi_many_LDADD = $(mpi_libs)
tests_mpi_neighbours_SOURCES = tests/mpi/neighbours.c
tests_mpi_neighbours_CPPFLAGS = $(mpi_cppflags)
tests_mpi_neighbours_LDADD = $(mpi_libs)
tests_mpi_pt2pt_SOURCES = tests/mpi/pt2pt.c
tests_mpi_pt2pt_CPPFLAGS = $(mpi_cppflags)
tests_mpi_pt2pt_LDADD = $(mpi_libs)
tests_mpi_spawn_SOURCES = tests/mpi/spawn.c
tests_mpi_spawn_CPPFLAGS = $(mpi_cppflags)
tests_mpi_spawn_LDADD = $(mpi_libs)
tests_mpi_threads_SOURCES = tests/mpi/threads.c
tests_mpi_threads_CPPFLAGS = $(mpi_cppflags)
tests_mpi_threads_LDADD = $(mpi_libs)
tests_mpi_trunc_SOURCES = tests/mpi/trunc.c
tests_mpi_trunc_CPPFLAGS = $(mpi_cppflags)
tests_mpi_trunc_LDADD = $(mpi_libs)
tests_mpi_win_SOURCES = tests/mpi/win.c
tests_mpi_win_CPPFLAGS = $(mpi_cppflags)
tests_mpi_win_LDADD = $(mpi_libs)
tests_mpi_winops_SOURCES = tests/mpi/winops.c
tests_mpi_winops_CPPFLAGS = $(mpi_cppflags)
tests_mpi_winops_LDADD = $(mpi_libs)
tests_mpi_winwhose_SOURCES = tests/mpi/winwhose.c
tests_mpi_winwhose_CPPFLAGS = $(mpi_cppflags)
tests_mpi_winwhose_LDADD = $(OMPI_LIBS)
tests_mpi_deny_SOURCES = tests/mpi/deny.c

mpi_tests += tests/mpi/cache tests/mpi/contact tests/mpi/programs tests/mpi/jobs \
	tests/mpi/deaths tests/mpi/params \
	tests/mpi/costs tests/mpi/machine tests/mpi/poolmalloc tests/mpi/version \
	tests/mpi/windows
EXTRA_DIST += tests/mpi/lib.sh tests/mpi/cache tests/mpi/contact tests/mpi/programs \
	tests/mpi/forks.py tests/mpi/jobs tests/mpi/meet.sh tests/mpi/deaths \
	tests/mpi/params tests/mpi/costs tests/mpi/machine tests/mpi/poolmalloc tests/mpi/version \
	tests/mpi/windows

# The components as they would be had they been built for another Open MPI.
check_LTLIBRARIES += tests/mpi/foreign/mca_btl_pinwheel.la
tests_mpi_foreign_mca_btl_pinwheel_la_SOURCES = $(mca_btl_pinwheel_la_SOURCES)
tests_mpi_foreign_mca_btl_pinwheel_la_CPPFLAGS = $(mca_btl_pinwheel_la_CPPFLAGS) \
	-DPW_OMPI_SERIES='"5.0"'
tests_mpi_foreign_mca_btl_pinwheel_la_CFLAGS = $(mca_btl_pinwheel_la_CFLAGS)
tests_mpi_foreign_mca_btl_pinwheel_la_LDFLAGS = $(mca_btl_pinwheel_la_LDFLAGS) \
	-rpath /nowhere
tests_mpi_foreign_mca_btl_pinwheel_la_LIBADD = $(mca_btl_pinwheel_la_LIBADD)
