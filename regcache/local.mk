# SPDX-License-Identifier: BSD-3-Clause
# libpinwheel: no MPI, no NIC.

noinst_LTLIBRARIES += libpinwheel.la
libpinwheel_la_SOURCES = \
	regcache/books.c regcache/books.h \
	regcache/pages.c regcache/pages.h \
	regcache/pool.c regcache/pool_sys.h \
	regcache/populate.c regcache/populate.h \
	regcache/segment.c regcache/segment.h \
	regcache/sys.c regcache/sys.h
