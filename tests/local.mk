# SPDX-License-Identifier: BSD-3-Clause
# The suites. A test is a program or script that prints TAP; HACKING.md says how
# to add one. `make check` runs all; ./check runs it with a summary.

unit_tests =
nic_tests =
cache_tests =
stale_tests =
malloc_tests =
model_tests =
mpi_tests =
net_tests =
tools_tests =
vm_tests =
build_tests =
sanitize_tests =
debug_tests =

include tests/unit/local.mk
include tests/nic/local.mk
include tests/cache/local.mk
include tests/malloc/local.mk
include tests/model/local.mk
if BUILD_MODULE
include tests/mpi/local.mk
include tests/net/local.mk
endif
include tests/tools/local.mk
include tests/vm/local.mk
include tests/build/local.mk

if HAVE_CRITERION
TESTS += $(unit_tests)
endif
TESTS += $(nic_tests) $(cache_tests) $(stale_tests) $(malloc_tests) $(model_tests) $(mpi_tests) $(net_tests) $(tools_tests) \
	$(vm_tests) $(build_tests) $(sanitize_tests) $(debug_tests)
EXTRA_DIST += tests/arrows tests/run-tap

# What a test may rely on. Absolute paths, for tests change directory.
AM_TESTS_ENVIRONMENT = \
	PW_SRC='$(abs_top_srcdir)'; export PW_SRC; \
	PW_BUILD='$(abs_top_builddir)'; export PW_BUILD; \
	PW_MPIRUN='$(MPIRUN)'; export PW_MPIRUN; \
	PW_MPICC='$(MPICC)'; export PW_MPICC; \
	PW_OMPI_INFO='$(OMPI_INFO)'; export PW_OMPI_INFO; \
	OMPI_ALLOW_RUN_AS_ROOT=1; export OMPI_ALLOW_RUN_AS_ROOT; \
	OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM; \
	OMPI_MCA_mca_base_component_path='SYSTEM_DEFAULT:$(abs_top_builddir)/components'; \
	export OMPI_MCA_mca_base_component_path;

LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
LOG_COMPILER = $(top_srcdir)/tests/run-tap

# For ./check: everything that make builds, the tests' programs too, in one make
# so that nothing is built twice at once; and the names behind a TESTS given on
# the command line.
check-programs: config.h
	$(AM_V_at)$(MAKE) $(AM_MAKEFLAGS) all-am $(check_PROGRAMS) $(check_LTLIBRARIES)
show-tests:
	@for t in $(TESTS); do echo $$t; done
.PHONY: check-programs show-tests
