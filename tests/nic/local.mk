# SPDX-License-Identifier: BSD-3-Clause
# The conformance suite that every NIC backend passes, and the proof that a fake
# NIC which breaks a promise does not.

conformance_suite = \
	tests/nic/address_cases.c \
	tests/nic/answer_cases.c \
	tests/nic/atomic_cases.c \
	tests/nic/caller_cases.c \
	tests/nic/crowd_cases.c \
	tests/nic/frame_cases.c \
	tests/nic/hosts.c tests/nic/hosts.h \
	tests/nic/leave_cases.c \
	tests/nic/memory_cases.c \
	tests/nic/party.c tests/nic/party.h \
	tests/nic/pressure_cases.c \
	tests/nic/rig.c tests/nic/rig.h \
	tests/nic/runner.c \
	tests/nic/setup_cases.c \
	tests/nic/sixteen_cases.c \
	tests/nic/subjects.c tests/nic/subjects.h \
	tests/nic/suite.h \
	tests/nic/wait_cases.c \
	tests/unit/fake_share.c tests/unit/fake_share.h \
	$(fake_nic)

# Each backend has a test of its own, so that they may run side by side; the longest first.
nic_scripts = tests/nic/ofi tests/nic/ucx tests/nic/verbs tests/nic/tcp tests/nic/shm tests/nic/fake \
	tests/nic/backends
EXTRA_DIST += $(nic_scripts) tests/nic/backend.sh
nic_tests += $(nic_scripts) tests/nic/suite_can_fail
check_PROGRAMS += tests/nic/conformance tests/nic/suite_can_fail
tests_nic_conformance_SOURCES = tests/nic/conformance.c $(conformance_suite)
tests_nic_conformance_LDADD = $(pw_inner_libs) -lm
tests_nic_suite_can_fail_SOURCES = tests/nic/suite_can_fail.c $(conformance_suite)
tests_nic_suite_can_fail_LDADD = $(pw_inner_libs) -lm
