/* SPDX-License-Identifier: BSD-3-Clause */
/* frames.c - where the functions of a loaded object begin and end.
 *
 * .eh_frame_hdr is a table sorted by the functions' first addresses, with a
 * pointer to each one's description (FDE), which has its length; how the length is
 * written is told by the common part (CIE) it points to.
 *
 * Source: Linux Standard Base, Core, "Exception Frames" (chapter 10.6), and the
 * DWARF standard for the letters of an augmentation.
 */
#include "frames.h"

#include <string.h>

enum {      /* how a pointer is written: the low half its size, the high one its base */
    ABSOLUTE = 0x00, UDATA4 = 0x03, UDATA8 = 0x04, SDATA4 = 0x0b, SDATA8 = 0x0c,
    SIZE_MASK = 0x0f, PC_RELATIVE = 0x10, TABLE_RELATIVE = 0x30,
    HEADER = 12,
};

static int32_t i32(const void *p)
{
    int32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t u64(const void *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

bool pw_frames_open(struct pw_frames *f, const void *header, size_t size)
{
    const unsigned char *h = header;

    if (size < HEADER || h[0] != 1 || h[2] != UDATA4 || h[3] != (TABLE_RELATIVE | SDATA4) ||
        (h[1] != (PC_RELATIVE | SDATA4)))
        return false;
    f->header = h;
    f->count = (uint32_t)i32(h + 8);
    f->table = (const int32_t *)(const void *)(h + HEADER);
    return (uintptr_t)f->table % sizeof *f->table == 0 && f->count &&
           f->count <= (size - HEADER) / (2 * sizeof *f->table);
}

uintptr_t pw_frames_start(const struct pw_frames *f, size_t number)
{
    return (uintptr_t)f->header + (uintptr_t)(intptr_t)f->table[2 * number];
}

long pw_frames_find(const struct pw_frames *f, uintptr_t addr)
{
    size_t low = 0, high = f->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (pw_frames_start(f, mid) <= addr)
            low = mid + 1;
        else
            high = mid;
    }
    return (long)low - 1;
}

static const unsigned char *skip_leb(const unsigned char *p)
{
    while (*p & 0x80)
        p++;
    return p + 1;
}

static size_t size_of(unsigned encoding)
{
    switch (encoding & SIZE_MASK) {
    case UDATA4: case SDATA4: return 4;
    case ABSOLUTE: case UDATA8: case SDATA8: return 8;
    }
    return 0;
}

/* The size in which functions' addresses and lengths are written; 0: unknown. */
static size_t cie_size(const unsigned char *cie)
{
    const unsigned char *p = cie + 8;
    const char *letters;

    if (*p != 1 && *p != 3)
        return 0;
    letters = (const char *)p + 1;
    p = (const unsigned char *)letters + strlen(letters) + 1;
    p = skip_leb(skip_leb(p));          /* alignment of code, of data */
    p = skip_leb(p);                    /* return address' register */
    if (letters[0] != 'z')
        return letters[0] ? 0 : 8;
    p = skip_leb(p);
    for (letters++; *letters; letters++) {
        switch (*letters) {
        case 'R':
            return size_of(*p);
        case 'L':
            p++;
            break;
        case 'P':
            if (!size_of(*p))
                return 0;
            p += 1 + size_of(*p);
            break;
        case 'S': case 'B':
            break;
        default:
            return 0;
        }
    }
    return 8;
}

uintptr_t pw_frames_end(const struct pw_frames *f, size_t number)
{
    const unsigned char *fde = f->header + f->table[2 * number + 1];
    size_t size;

    /* A length of all ones says that a longer one follows, which no linker writes
     * for objects below 4 GiB. */
    if (i32(fde) == -1 || i32(fde) == 0 || i32(fde + 4) == 0)
        return 0;
    size = cie_size(fde + 4 - i32(fde + 4));
    if (size == 4)
        return pw_frames_start(f, number) + (uint32_t)i32(fde + 12);
    if (size == 8)
        return pw_frames_start(f, number) + u64(fde + 16);
    return 0;
}
