# SPDX-License-Identifier: BSD-3-Clause
# The tools: what they print, and what they say when something is wrong.

if HAVE_CRITERION
unit_tests += tests/tools/units tests/tools/matrix_units
endif
tests_tools_matrix_units_SOURCES = tests/tools/matrix_units.c \
	tools/matrix/matrix.h tools/matrix/result.c
tests_tools_matrix_units_CPPFLAGS = $(AM_CPPFLAGS)
tests_tools_matrix_units_LDADD = $(unit_libs)
tests_tools_units_SOURCES = tests/tools/units.c \
	tools/cores.c tools/cores.h \
	tools/json.c tools/json.h \
	tools/pwbench_csv.c tools/pwbench_csv.h \
	tools/pwbench_gnuplot.c tools/pwbench_plot.h \
	tools/pwbench_names.c \
	tools/pwbench_osu.c tools/pwbench_osu.h \
	tools/pwbench_pattern.c tools/pwbench_pattern.h \
	tools/pwbench_peers.c tools/pwbench_peers.h \
	tools/pwbench_table.c tools/pwbench_table.h \
	tools/pwbench_variant.c tools/pwbench_variant.h \
	tools/sizes.c tools/sizes.h
tests_tools_units_CPPFLAGS = $(AM_CPPFLAGS)
tests_tools_units_LDADD = $(unit_libs) -lm

tools_scripts = tests/tools/options tests/tools/single tests/tools/compare \
	tests/tools/plot tests/tools/limit tests/tools/osu tests/tools/instructions tests/tools/calibrate \
	tests/tools/matrix tests/tools/peers \
	tests/tools/pwinfo tests/tools/pwinfo_net tests/tools/regcache
EXTRA_DIST += $(tools_scripts) tests/tools/fake-mpirun tests/tools/fake-osu \
	tests/tools/tap.sh

if BUILD_MODULE
tools_tests += $(tools_scripts)

# For LD_PRELOAD and dlopen(); -rpath makes libtool build a shared object of a
# library that is not installed.
check_LTLIBRARIES += tests/tools/cheat.la tests/tools/corrupt.la tests/tools/forbid.la \
	tests/tools/misbehave.la tests/tools/refuse.la
preloaded = -module -avoid-version -shared -rpath /nowhere
tests_tools_cheat_la_SOURCES = tests/tools/cheat.c
tests_tools_cheat_la_LDFLAGS = $(AM_LDFLAGS) $(preloaded)
tests_tools_corrupt_la_SOURCES = tests/tools/corrupt.c
tests_tools_corrupt_la_CPPFLAGS = $(AM_CPPFLAGS) $(OMPI_CPPFLAGS)
tests_tools_corrupt_la_LDFLAGS = $(AM_LDFLAGS) $(preloaded)
tests_tools_corrupt_la_LIBADD = $(OMPI_LIBS)
tests_tools_forbid_la_SOURCES = tests/tools/forbid.c
tests_tools_forbid_la_LDFLAGS = $(AM_LDFLAGS) $(preloaded)
tests_tools_misbehave_la_SOURCES = tests/tools/misbehave.c
tests_tools_misbehave_la_LDFLAGS = $(AM_LDFLAGS) $(preloaded)
tests_tools_refuse_la_SOURCES = tests/tools/refuse.c
tests_tools_refuse_la_LDFLAGS = $(AM_LDFLAGS) $(preloaded)

check_PROGRAMS += tests/tools/regcache-bad
tests_tools_regcache_bad_SOURCES = tests/tools/bad_cache.c $(regcache_driver)
endif
