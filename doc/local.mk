# SPDX-License-Identifier: BSD-3-Clause
# Man pages are installed from dist_man_MANS.

dist_man_MANS += doc/pwbench.1 doc/pwinfo.1
EXTRA_DIST += README.md ARCHITECTURE.md doc/wire.md doc/costs.md
