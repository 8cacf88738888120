# SPDX-License-Identifier: BSD-3-Clause
# MPI programs and the scripts that run them. A program is built with
#   check_PROGRAMS += tests/mpi/NAME
#   tests_mpi_NAME_SOURCES = tests/mpi/NAME.c
#   tests_mpi_NAME_CPPFLAGS = $(AM_CPPFLAGS) $(OMPI_CPPFLAGS)
#   tests_mpi_NAME_LDADD = $(OMPI_LIBS)
# and a script that runs it, printing TAP, joins mpi_tests and EXTRA_DIST.
