# SPDX-License-Identifier: BSD-3-Clause
# Tests between hosts, which are namespaces (hosts.sh). A script that prints TAP joins
# net_tests; programs of its own that it runs are check_PROGRAMS.

check_PROGRAMS += tests/net/host
tests_net_host_SOURCES = tests/net/host.c

check_PROGRAMS += tests/net/stream
tests_net_stream_SOURCES = tests/net/stream.c
tests_net_stream_CPPFLAGS = $(mpi_cppflags)
tests_net_stream_LDADD = $(mpi_libs)

check_PROGRAMS += tests/net/away
tests_net_away_SOURCES = tests/net/away.c
tests_net_away_CPPFLAGS = $(mpi_cppflags)
tests_net_away_LDADD = $(mpi_libs)

check_PROGRAMS += tests/net/passive
tests_net_passive_SOURCES = tests/net/passive.c
tests_net_passive_CPPFLAGS = $(mpi_cppflags)
tests_net_passive_LDADD = $(mpi_libs)

check_PROGRAMS += tests/net/stranger
tests_net_stranger_SOURCES = tests/net/stranger.c

check_PROGRAMS += tests/net/timeline_stream
tests_net_timeline_stream_SOURCES = tests/net/timeline.c
tests_net_timeline_stream_CPPFLAGS = $(mpi_cppflags)
tests_net_timeline_stream_LDADD = $(mpi_libs)

net_tests += tests/net/machine tests/net/conformance tests/net/programs tests/net/faults \
	tests/net/rails tests/net/strangers tests/net/addresses
EXTRA_DIST += tests/net/addresses tests/net/agent tests/net/bench tests/net/conformance \
	tests/net/faults tests/net/hosts.sh tests/net/lib.sh tests/net/machine \
	tests/net/programs tests/net/rails tests/net/shell tests/net/strangers tests/net/timeline
