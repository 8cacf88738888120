/* SPDX-License-Identifier: BSD-3-Clause */
/* address.c - the address of a process: as short as was promised, what the NICs gave comes
 * out, and nothing is believed. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "btl/core/address.h"
#include "btl/nic/shm.h"
#include "btl/nic/tcp_wire.h"
#include "tests/unit/draw.h"

enum { LIMIT = 256, TIMES = 20000 };

static void draw_bytes(uint64_t *state, void *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)out)[i] = (uint8_t)draw(state);
}

static void part_set(struct pw_part *p, const char *name, const void *addr, size_t len)
{
    *p = (struct pw_part){ .name = (const uint8_t *)name, .name_len = strlen(name),
                           .len = len };
    memcpy(p->addr, addr, len);
}

/* Out and in again; how long it was. */
static int there_and_back(const struct pw_part parts[], int n)
{
    uint8_t bytes[PW_ADDRESS_MAX], *exact;
    struct pw_part back[PW_KEY_NICS];
    int len = pw_address_write(parts, n, bytes, sizeof(bytes));

    cr_assert(lt(int, 0, len));
    exact = malloc((size_t)len);
    memcpy(exact, bytes, (size_t)len);
    cr_assert(eq(int, pw_address_read(exact, (size_t)len, back), n));
    for (int i = 0; i < n; i++) {
        cr_assert(eq(sz, back[i].len, parts[i].len));
        cr_assert(eq(sz, back[i].name_len, parts[i].name_len));
        cr_assert(eq(int, memcmp(back[i].name, parts[i].name, parts[i].name_len), 0));
        cr_assert(eq(int, memcmp(back[i].addr, parts[i].addr, sizeof(back[i].addr)), 0));
    }
    free(exact);
    return len;
}

/* ---- how long ---- */

/* As they are made: where nothing is known of a byte it is drawn. */
static void shm_part(struct pw_part *p, uint64_t *state)
{
    struct shm_address a = { .magic = SHM_MAGIC, .version = SHM_VERSION, .job = 4000000000,
                             .uid = 4000000000 };

    draw_bytes(state, a.id, sizeof(a.id));
    draw_bytes(state, a.secret, sizeof(a.secret));
    draw_bytes(state, a.boot, sizeof(a.boot));
    draw_bytes(state, &a.net, sizeof(a.net));
    part_set(p, "shm", &a, sizeof(a));
}

static void tcp_part(struct pw_part *p, uint64_t *state, uint8_t family, uint64_t host)
{
    struct tcp_address a = { .mark = TCP_MARK, .version = TCP_VERSION, .family = family,
                             .prefix = 24, .host = host, .job = 4000000000 };

    draw_bytes(state, &a.port, sizeof(a.port));
    draw_bytes(state, a.ip, family == 4 ? 4 : 16);
    draw_bytes(state, a.secret, sizeof(a.secret));
    part_set(p, "tcp", &a, sizeof(a));
}

static int rails(uint64_t *state, bool shm, uint8_t family)
{
    struct pw_part parts[PW_KEY_NICS];
    uint64_t host = draw(state);

    for (int i = 0; i < PW_KEY_NICS; i++)
        if (shm && !i)
            shm_part(&parts[i], state);
        else
            tcp_part(&parts[i], state, family, host);
    return there_and_back(parts, PW_KEY_NICS);
}

Test(address, as_many_rails_as_there_may_be_take_256_bytes_at_most)
{
    uint64_t state = 1;

    for (int i = 0; i < 1000; i++) {
        cr_assert(le(int, rails(&state, false, 4), LIMIT));
        cr_assert(le(int, rails(&state, true, 4), LIMIT));
        cr_assert(le(int, rails(&state, false, 6), LIMIT));
        cr_assert(le(int, rails(&state, true, 6), LIMIT));
    }
}

Test(address, what_two_parts_have_in_common_is_said_once)
{
    struct pw_part parts[2];
    uint8_t addr[100];
    uint64_t state = 2;

    draw_bytes(&state, addr, sizeof(addr));
    part_set(&parts[0], "one", addr, sizeof(addr));
    addr[50] ^= 1;
    part_set(&parts[1], "one", addr, sizeof(addr));
    cr_expect(eq(int, there_and_back(parts, 2), 3 + 5 + 101 + 2 + 1 + 2 + 1));
    part_set(&parts[1], "two", addr, sizeof(addr));
    cr_expect(eq(int, there_and_back(parts, 2), 3 + 5 + 101 + 5 + 101));
}

/* ---- any bytes ---- */

static void draw_part(struct pw_part *p, uint64_t *state, const struct pw_part *before)
{
    static const char *const names[] = { "shm", "tcp", "ofi" };
    size_t len = (size_t)(draw(state) % (PW_NIC_ADDRESS_MAX + 1));
    uint8_t addr[PW_NIC_ADDRESS_MAX];

    for (size_t i = 0; i < len; i++)
        addr[i] = draw(state) % 3 || !before ? (uint8_t)(draw(state) % 3) : before->addr[i];
    part_set(p, names[draw(state) % 3], addr, len);
}

Test(address, whatever_nics_give_comes_out)
{
    uint64_t state = 3;

    for (int i = 0; i < TIMES; i++) {
        struct pw_part parts[PW_KEY_NICS];
        int n = (int)(draw(&state) % (PW_KEY_NICS + 1));

        for (int k = 0; k < n; k++)
            draw_part(&parts[k], &state, k ? &parts[k - 1] : NULL);
        there_and_back(parts, n);
    }
}

Test(address, nothing_is_written_behind_the_room)
{
    struct pw_part parts[2];
    uint64_t state = 4;
    uint8_t bytes[400];
    int len;

    tcp_part(&parts[0], &state, 4, 1);
    tcp_part(&parts[1], &state, 4, 1);
    len = pw_address_write(parts, 2, bytes, sizeof(bytes));
    for (int room = 0; room <= len; room++) {
        memset(bytes, 0x5a, sizeof(bytes));
        cr_assert(eq(int, pw_address_write(parts, 2, bytes, (size_t)room),
                     room < len ? -ENOSPC : len));
        cr_assert(eq(u8, bytes[room], 0x5a));
    }
}

/* ---- what is no address ---- */

static int read_exact(const uint8_t *bytes, size_t len, struct pw_part parts[PW_KEY_NICS])
{
    uint8_t *exact = malloc(len ? len : 1);
    int n;

    memcpy(exact, bytes, len);
    n = pw_address_read(exact, len, parts);
    /* Their names go with it. */
    for (int i = 0; i < n; i++) {
        cr_assert(le(sz, parts[i].len, PW_NIC_ADDRESS_MAX));
        cr_assert(lt(sz, 0, parts[i].name_len));
        cr_assert(parts[i].name >= exact &&
                  parts[i].name + parts[i].name_len <= exact + len);
    }
    free(exact);
    return n;
}

#define REFUSED(...)                                                                    \
    do {                                                                                \
        const uint8_t bytes_[] = { 0x70, 4, __VA_ARGS__ };                              \
        struct pw_part parts_[PW_KEY_NICS];                                             \
                                                                                        \
        cr_expect(eq(int, read_exact(bytes_, sizeof(bytes_), parts_), -EINVAL));        \
    } while (0)

Test(address, what_does_not_add_up_is_refused)
{
    struct pw_part parts[PW_KEY_NICS];
    const uint8_t good[] = { 0x70, 4, 2, 1, 'x', 2, 1, 7, 8, 0, 3, 129, 0, 9 };

    cr_assert(eq(int, read_exact(good, sizeof(good), parts), 2));
    cr_expect(eq(u8, parts[1].addr[0], 7));
    cr_expect(eq(u8, parts[1].addr[1], 8));
    cr_expect(eq(u8, parts[1].addr[2], 9));
    for (size_t len = 0; len < sizeof(good); len++)
        cr_expect(eq(int, read_exact(good, len, parts), -EINVAL), "%zu bytes of it", len);
    REFUSED(1, 0, 1, 0, 'a');                   /* no name */
    REFUSED(1, 1, 'x', 2, 2, 7, 8, 9);          /* a run that goes beyond the part */
    REFUSED(1, 1, 'x', 2, 130);                 /* another */
    REFUSED(1, 1, 'x', 193, 255, 192);          /* a part longer than any */
    REFUSED(1, 1, 'x', 2, 1, 7, 8, 0);          /* something behind the end */
    REFUSED(5, 1, 'x', 0, 0, 0, 0, 0, 0, 0, 0, 0);      /* more than there may be */
}

Test(address, another_version_is_none)
{
    uint8_t bytes[] = { 0x70, 4, 0 };
    struct pw_part parts[PW_KEY_NICS];

    cr_assert(eq(int, read_exact(bytes, sizeof(bytes), parts), 0));
    bytes[1]--;
    cr_expect(eq(int, read_exact(bytes, sizeof(bytes), parts), -EINVAL));
    bytes[1]++;
    bytes[0]++;
    cr_expect(eq(int, read_exact(bytes, sizeof(bytes), parts), -EINVAL));
}

/* Addresses in which some bytes were changed, some cut off or put behind, and noise. */
Test(address, nonsense_is_survived)
{
    uint64_t state = 5;
    int taken = 0;

    for (int i = 0; i < TIMES; i++) {
        struct pw_part parts[PW_KEY_NICS], back[PW_KEY_NICS];
        uint8_t bytes[PW_ADDRESS_MAX];
        int len, n = 1 + (int)(draw(&state) % PW_KEY_NICS), times = (int)(draw(&state) % 4);

        for (int k = 0; k < n; k++)
            draw_part(&parts[k], &state, k ? &parts[k - 1] : NULL);
        len = pw_address_write(parts, n, bytes, sizeof(bytes));
        cr_assert(lt(int, 0, len));
        for (int k = 0; k < times; k++)
            bytes[draw(&state) % (unsigned)len] = (uint8_t)draw(&state);
        if (draw(&state) % 4 == 0)
            len = (int)(draw(&state) % ((unsigned)len + 1));
        if (draw(&state) % 16 == 0)
            draw_bytes(&state, bytes + 3, sizeof(bytes) - 3);
        n = read_exact(bytes, (size_t)len, back);
        taken += n >= 0;
    }
    cr_expect(lt(int, 0, taken));
    cr_expect(lt(int, taken, TIMES));
}
