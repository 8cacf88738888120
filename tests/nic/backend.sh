# SPDX-License-Identifier: BSD-3-Clause
# backend.sh - the conformance suite on the backend that the calling script is named for.
backend=${0##*/}
suite=${PW_BUILD:?}/tests/nic/conformance
if ! "$suite" --backends | grep -qx "$backend"; then
    echo "1..0 # SKIP the backend $backend was not built"
    exit 0
fi
exec "$suite" --backend "$backend" "$@"
