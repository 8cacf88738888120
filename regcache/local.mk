# SPDX-License-Identifier: BSD-3-Clause
# libpinwheel: no MPI, no NIC.

noinst_LTLIBRARIES += libpinwheel.la
libpinwheel_la_SOURCES =
