# SPDX-License-Identifier: BSD-3-Clause
# Criterion units. One test is three lines:
#   unit_tests += tests/unit/NAME
#   tests_unit_NAME_SOURCES = tests/unit/NAME.c
#   tests_unit_NAME_LDADD = $(unit_libs)

unit_libs = $(pw_libs) $(CRITERION_LIBS)

if HAVE_CRITERION
check_PROGRAMS += $(unit_tests)
endif
