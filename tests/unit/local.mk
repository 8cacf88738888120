# SPDX-License-Identifier: BSD-3-Clause
# Criterion units. One test is three lines:
#   unit_tests += tests/unit/NAME
#   tests_unit_NAME_SOURCES = tests/unit/NAME.c
#   tests_unit_NAME_LDADD = $(unit_libs)

unit_libs = $(pw_libs) $(CRITERION_LIBS)

if HAVE_CRITERION
check_PROGRAMS += $(unit_tests)
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
