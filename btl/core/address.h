/* SPDX-License-Identifier: BSD-3-Clause */
/* address.h - the address of a process: those of its NICs, in few bytes. */
#ifndef PW_ADDRESS_H
#define PW_ADDRESS_H

#include <stddef.h>
#include <stdint.h>

#include "engine.h"

/* One NIC's share of it. */
struct pw_part {
    const uint8_t *name;                /* of its backend; not ended by a 0 */
    size_t name_len;
    size_t len;
    uint8_t addr[PW_NIC_ADDRESS_MAX];   /* zeros behind len */
};

enum { PW_ADDRESS_MAX = PW_KEY_NICS * (PW_NIC_ADDRESS_MAX + 20) };

/* Its length, or -ENOSPC; nothing behind `room` is written. n <= PW_KEY_NICS. */
int pw_address_write(const struct pw_part parts[], int n, void *out, size_t room);

/* How many parts there are, in the order of the peer's NICs; their names lie in addr.
 * -EINVAL: that is no address of this version. */
int pw_address_read(const void *addr, size_t len, struct pw_part parts[PW_KEY_NICS]);

#endif
