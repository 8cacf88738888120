# SPDX-License-Identifier: BSD-3-Clause
# Tests of the build itself, and the sanitized builds of the units.

EXTRA_DIST += tests/build/clang tests/build/commands tests/build/configure \
	tests/build/distribution tests/build/harness tests/build/install \
	tests/build/interface tests/build/library tests/build/sanitize-address \
	tests/build/sanitize-thread tests/build/sanitize.sh tests/build/tap.sh

if BUILD_MODULE
build_tests += tests/arrows tests/build/interface
endif
if BUILD_TESTS
build_tests += tests/build/distribution tests/build/install tests/build/clang \
	tests/build/configure tests/build/library tests/build/commands tests/build/harness
sanitize_tests += tests/build/sanitize-address tests/build/sanitize-thread
endif
