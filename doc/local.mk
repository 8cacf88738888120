# SPDX-License-Identifier: BSD-3-Clause
# Man pages are installed from dist_man_MANS.

dist_man_MANS += doc/pwbench.1 doc/pwinfo.1
