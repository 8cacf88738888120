# SPDX-License-Identifier: BSD-3-Clause
# Why the registration cache's protocol is right: a model of it, and the machine's
# answer to what the model takes for granted.

model_tests += tests/model/protocol tests/model/litmus
EXTRA_DIST += tests/model/protocol tests/model/regcache.pml

check_PROGRAMS += tests/model/litmus
tests_model_litmus_SOURCES = tests/model/litmus.c
