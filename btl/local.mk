# SPDX-License-Identifier: BSD-3-Clause
# The NIC backends, the core, and the Open MPI components made of both.

noinst_LTLIBRARIES += libpwnic.la
libpwnic_la_SOURCES =

noinst_LTLIBRARIES += libpwcore.la
libpwcore_la_SOURCES =
