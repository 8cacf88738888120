# SPDX-License-Identifier: BSD-3-Clause
# Tests of the build itself, and the sanitized builds of the units.
