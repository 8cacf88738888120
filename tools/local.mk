# SPDX-License-Identifier: BSD-3-Clause
# The tools a user runs. pwbench is an MPI program and knows nothing of pinwheel
# but its name; pwinfo knows pinwheel's parts and nothing of MPI.

# pwbench matrix: without hwloc it does not know what cores share, without jansson it
# cannot compare two results.
matrix = \
	tools/matrix/bell.c tools/matrix/bell.h \
	tools/matrix/diff.c \
	tools/matrix/host.c \
	tools/matrix/link.h \
	tools/matrix/matrix.h \
	tools/matrix/onecopy.c \
	tools/matrix/options.c \
	tools/matrix/point.c \
	tools/matrix/read.c \
	tools/matrix/result.c \
	tools/matrix/ring.c \
	tools/matrix/run.c \
	tools/matrix/slots.c tools/matrix/slots.h \
	tools/matrix/stream.c \
	tools/matrix/svg.c \
	tools/matrix/table.c \
	tools/matrix/topology.c tools/matrix/topology.h \
	tools/matrix/transports.c \
	tools/matrix/write.c

# pwbench limit: the same messages as a test's, between two processes without MPI.
limit = \
	tools/limit/check.c \
	tools/limit/lane.h \
	tools/limit/limit.h \
	tools/limit/main.c \
	tools/limit/run.c \
	tools/limit/ways.c

EXTRA_DIST += tools/pwbench_mpich.c tools/instructions/instructions \
	tools/instructions/profile.awk tools/peers/peers tools/steps/perftest

if BUILD_MODULE
bin_PROGRAMS += tools/pwbench
pwbench_tests = \
	tools/clock.h \
	tools/cores.c tools/cores.h \
	tools/pwbench.h \
	tools/pwbench_calibrate.c \
	tools/pwbench_check.c \
	tools/pwbench_cli.c tools/pwbench_cli.h \
	tools/pwbench_cli_single.c \
	tools/pwbench_compute.c \
	tools/pwbench_figures.c tools/pwbench_figures.h \
	tools/pwbench_group.c \
	tools/pwbench_init.c \
	tools/pwbench_memory.c \
	tools/pwbench_names.c \
	tools/pwbench_pattern.c tools/pwbench_pattern.h \
	tools/pwbench_require.c \
	tools/pwbench_single.c \
	tools/pwbench_tests.c tools/pwbench_tests.h \
	tools/pwbench_variant.h \
	tools/sizes.c tools/sizes.h
tools_pwbench_SOURCES = $(pwbench_tests) \
	tools/cma.c tools/cma.h \
	tools/json.c tools/json.h \
	tools/pair.c tools/pair.h \
	$(limit) \
	$(matrix) \
	tools/pwbench.c \
	tools/pwbench_cli_compare.c \
	tools/pwbench_compare.c \
	tools/pwbench_csv.c tools/pwbench_csv.h \
	tools/pwbench_from.c \
	tools/pwbench_gnuplot.c \
	tools/pwbench_launch.c tools/pwbench_launch.h \
	tools/pwbench_osu.c tools/pwbench_osu.h \
	tools/pwbench_peers.c tools/pwbench_peers.h \
	tools/pwbench_plot.c tools/pwbench_plot.h \
	tools/pwbench_regcache.c \
	tools/pwbench_table.c tools/pwbench_table.h \
	tools/pwbench_variant.c
tools_pwbench_CPPFLAGS = $(AM_CPPFLAGS) $(OMPI_CPPFLAGS) $(HWLOC_CFLAGS) \
	$(JANSSON_CFLAGS) -DPW_MPIRUN='"$(MPIRUN)"' \
	-DPW_DRIVERS='"$(pkglibexecdir)"'
tools_pwbench_LDADD = $(OMPI_LIBS) $(HWLOC_LIBS) $(JANSSON_LIBS) -lm

# The tests for MPICH, which pwbench compare starts as one of the peers. Its compiler is
# a script that takes ours, and automake knows one MPI for a program. -w: what is to be
# warned of was, above, and MPICH's header makes gcc see an overflow.
if HAVE_MPICH
pwbench_mpich_sources = $(addprefix $(top_srcdir)/,tools/pwbench_mpich.c $(pwbench_tests))
pkglibexec_SCRIPTS = tools/pwbench-mpich
CLEANFILES += tools/pwbench-mpich
tools/pwbench-mpich: $(pwbench_mpich_sources)
	$(AM_V_CCLD)$(MKDIR_P) tools && \
	MPICH_CC='$(CC)' '$(MPICC_MPICH)' $(AM_CPPFLAGS) $(CPPFLAGS) $(AM_CFLAGS) $(CFLAGS) \
		$(AM_LDFLAGS) $(LDFLAGS) -w -o $@.tmp $(filter %.c,$(pwbench_mpich_sources)) && \
	mv $@.tmp $@
endif

# What pwbench regcache starts: one program for each cache. Without the headers of
# UCX 1.13, regcache-ucx says so.
pkglibexec_PROGRAMS = tools/regcache/regcache-pinwheel tools/regcache/regcache-ucx \
	tools/regcache/regcache-grdma tools/regcache/regcache-plain
regcache_driver = \
	tools/clock.h \
	tools/cores.c tools/cores.h \
	tools/regcache/bench.c tools/regcache/bench.h \
	tools/regcache/changes.c \
	tools/regcache/driver.c tools/regcache/driver.h \
	tools/regcache/hits.c \
	tools/regcache/layout.c \
	tools/regcache/loops.h \
	tools/regcache/pins.c tools/regcache/pins.h \
	tools/regcache/proof.c tools/regcache/proof.h
tools_regcache_regcache_pinwheel_SOURCES = tools/regcache/pinwheel.c $(regcache_driver)
tools_regcache_regcache_pinwheel_LDADD = libpinwheel.la
tools_regcache_regcache_ucx_SOURCES = tools/regcache/ucx.c $(regcache_driver)
tools_regcache_regcache_ucx_CPPFLAGS = $(AM_CPPFLAGS) $(UCX_CFLAGS)
tools_regcache_regcache_ucx_LDADD = $(UCX_LIBS)
tools_regcache_regcache_grdma_SOURCES = tools/regcache/grdma.c $(regcache_driver)
tools_regcache_regcache_grdma_CPPFLAGS = $(AM_CPPFLAGS) $(OPAL_CPPFLAGS)
tools_regcache_regcache_grdma_CFLAGS = $(AM_CFLAGS) $(OPAL_CFLAGS)
tools_regcache_regcache_grdma_LDADD = $(OPAL_LIBS)
tools_regcache_regcache_plain_SOURCES = tools/regcache/plain.c $(regcache_driver)

# What pwbench calibrate starts.
pkglibexec_PROGRAMS += tools/calibrate/calibrate
tools_calibrate_calibrate_SOURCES = \
	tools/calibrate/calibrate.c tools/calibrate/calibrate.h \
	tools/calibrate/copies.c \
	tools/calibrate/partner.c \
	tools/calibrate/small.c \
	tools/calibrate/transfers.c \
	tools/cores.c tools/cores.h
tools_calibrate_calibrate_LDADD = libpwcore.la libpwnic.la libpinwheel.la

# tools/instructions/instructions counts what its messages execute; run from here only.
noinst_PROGRAMS += tools/instructions/turns
tools_instructions_turns_SOURCES = tools/instructions/turns.c
tools_instructions_turns_CPPFLAGS = $(AM_CPPFLAGS) $(OMPI_CPPFLAGS)
tools_instructions_turns_LDADD = $(OMPI_LIBS)

# tools/steps/perftest counts what a message takes over an RDMA port that the kernel makes.
noinst_PROGRAMS += tools/steps/steps tools/steps/pingpong
tools_steps_steps_SOURCES = tools/steps/steps.c
tools_steps_pingpong_SOURCES = tools/steps/pingpong.c
tools_steps_pingpong_LDADD = libpwcore.la libpwnic.la libpinwheel.la

# tools/peers/peers counts the memory that a rank takes for its peers; run from here only.
noinst_PROGRAMS += tools/peers/usage
tools_peers_usage_SOURCES = tools/peers/usage.c
tools_peers_usage_CPPFLAGS = $(AM_CPPFLAGS) $(OMPI_CPPFLAGS)
tools_peers_usage_LDADD = $(OMPI_LIBS)

bin_PROGRAMS += tools/pwinfo
tools_pwinfo_SOURCES = \
	tools/clock.h \
	tools/cores.c tools/cores.h \
	tools/json.c tools/json.h \
	tools/pwinfo.c tools/pwinfo.h \
	tools/pwinfo_cache.c \
	tools/pwinfo_costs.c \
	tools/pwinfo_devices.c \
	tools/pwinfo_facts.c \
	tools/pwinfo_hosts.c \
	tools/pwinfo_ifaces.c \
	tools/pwinfo_json.c \
	tools/pwinfo_live.c \
	tools/pwinfo_peers.c tools/pwinfo_peers.h \
	tools/pwinfo_peers_print.c \
	tools/pwinfo_probe.c \
	tools/pwinfo_text.c
tools_pwinfo_LDADD = libpwcore.la libpwnic.la libpinwheel.la
endif
