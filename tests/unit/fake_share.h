/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_share.h - /dev/pinwheel's attach service without the driver.
 *
 * A control descriptor is a memfd. To export memory is to put pages of that memfd
 * in its place, with what was there in them, so whoever maps the descriptor at the
 * export's offset has the very same memory, in this process and in others. What the
 * driver would notice by itself a test says by fake_share_change().
 *
 *     fake_share_install();
 *     pw_nic_shm.open(&config, &nic);      config.attach
 *
 * One thread at a time exports and changes. After DROP the memory stays as it is.
 */
#ifndef PW_FAKE_SHARE_H
#define PW_FAKE_SHARE_H

#include <stdint.h>

#include "pinwheel/kdriver.h"

struct fake_share {
    int open_error, info_error, share_error, map_error; /* of all that follow; 0: none */
    int export_error;           /* of the next export_errors */
    unsigned export_errors;
    unsigned interrupts;        /* so many calls are EINTR first */
    uint32_t version, services;
    uint64_t words_bytes;       /* as PW_KD_INFO says it */
    uint64_t other_id;          /* not 0: EXPORT answers as another descriptor */
    unsigned exports, drops;    /* done */
    unsigned maps;              /* of exports, tried */
};
extern struct fake_share fake_share;

/* For the NICs opened from now on. All as it should be; counts are 0. */
void fake_share_install(void);

/* Something has happened to that address: the words of all exports that hold it move. */
void fake_share_change(const void *addr, enum pw_kd_event event);

#endif
