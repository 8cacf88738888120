/* SPDX-License-Identifier: BSD-3-Clause */
/* Reads a file into one buffer three times: it is pinned; is pinned still; is pinned
 * anew, for its memory was unmapped and is other memory now. See pw_regcache(3). */
#include <err.h>
#include <fcntl.h>
#include <pinwheel/regcache.h>
#include <pinwheel/uring.h>
#include <stdio.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
    enum { SIZE = 1 << 20, RW = PROT_READ | PROT_WRITE, OWN = MAP_PRIVATE | MAP_ANONYMOUS };
    int fd = open(argv[argc - 1], O_RDONLY);
    char *buf = (char *)mmap(NULL, SIZE, RW, OWN, -1, 0);
    struct pw_regcache_config config = { .pin = &pw_uring_pin };
    struct pw_regcache_stats n;
    struct pw_regcache *cache;
    struct pw_region *region;
    struct pw_uring *ring;

    if (pw_uring_open(NULL, &ring) || pw_monitor_open("auto", &config.monitor, NULL))
        errx(1, "no io_uring here, or no memory");
    config.pin_ctx = ring;
    if (pw_regcache_open(&config, &cache))
        errx(1, "no memory");
    for (int i = 0; i < 3; i++, buf[0] = '?') {
        if (i == 2 && munmap(buf, SIZE) == 0)
            buf = (char *)mmap(buf, SIZE, RW, OWN | MAP_FIXED, -1, 0);
        if (pw_regcache_get(cache, buf, SIZE, PW_WRITE, &region))
            errx(1, "cannot be pinned");
        ssize_t got = pw_uring_read(ring, fd, region->handle, buf, SIZE, 0);
        pw_regcache_put(cache, region);
        pw_regcache_stats(cache, &n);
        printf("%zd bytes: %.12s: %lu hits, %lu misses\n", got, buf, n.hits, n.misses);
    }
    pw_regcache_close(cache);
    pw_monitor_close(config.monitor);
    pw_uring_close(ring);
}
