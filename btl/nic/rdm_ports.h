/* SPDX-License-Identifier: BSD-3-Clause */
/* rdm_ports.h - RDMA devices, as the kernel lists them (/sys/class/infiniband,
 * Documentation/ABI/stable/sysfs-class-infiniband). No library is loaded for that.
 *
 * Any thread, but for rdm_ports_use().
 */
#ifndef PW_RDM_PORTS_H
#define PW_RDM_PORTS_H

#include <dirent.h>
#include <stdbool.h>

/* Where they are listed; for tests: that folder instead. */
const char *rdm_ports_folder(void);
void rdm_ports_use(const char *path);

/* The name of the next entry of such a folder that is open, "." and ".." left out; NULL: that
 * was the last, or there is no folder. Good until the next call. */
const char *rdm_ports_next(DIR *dir);

/* Is there any device? And in a folder of another kind of them? */
bool rdm_ports_any(void);
bool rdm_ports_in(const char *path);

/* Does the kernel make the ports of that device of a network interface (rxe, siw)? NULL: of
 * any. */
bool rdm_ports_software(const char *device);

#endif
