# SPDX-License-Identifier: BSD-3-Clause
# The tools a user runs. pwbench is an MPI program and knows nothing of pinwheel
# but its name; pwinfo knows pinwheel's parts and nothing of MPI.

if BUILD_MODULE
bin_PROGRAMS += tools/pwbench
tools_pwbench_SOURCES = \
	tools/cores.c tools/cores.h \
	tools/pwbench.c tools/pwbench.h \
	tools/pwbench_check.c \
	tools/pwbench_compare.c \
	tools/pwbench_launch.c tools/pwbench_launch.h \
	tools/pwbench_names.c \
	tools/pwbench_peers.c tools/pwbench_peers.h \
	tools/pwbench_single.c \
	tools/pwbench_table.c tools/pwbench_table.h \
	tools/pwbench_tests.c tools/pwbench_tests.h \
	tools/sizes.c tools/sizes.h
tools_pwbench_CPPFLAGS = $(AM_CPPFLAGS) $(OMPI_CPPFLAGS) -DPW_MPIRUN='"$(MPIRUN)"'
tools_pwbench_LDADD = $(OMPI_LIBS) -lm

bin_PROGRAMS += tools/pwinfo
tools_pwinfo_SOURCES = \
	tools/cores.c tools/cores.h \
	tools/json.c tools/json.h \
	tools/pwinfo.c tools/pwinfo.h \
	tools/pwinfo_devices.c \
	tools/pwinfo_facts.c \
	tools/pwinfo_json.c \
	tools/pwinfo_probe.c \
	tools/pwinfo_text.c
tools_pwinfo_LDADD = libpwnic.la libpinwheel.la
endif
