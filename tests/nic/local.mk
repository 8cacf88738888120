# SPDX-License-Identifier: BSD-3-Clause
# The conformance suite that every NIC backend passes.
