# SPDX-License-Identifier: BSD-3-Clause
# Man pages are installed from dist_man_MANS.
