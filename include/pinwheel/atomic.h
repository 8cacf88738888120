/* SPDX-License-Identifier: BSD-3-Clause */
/* atomic.h - one atomic operation on memory that other processes change too.
 *
 * Used by NICs that reach a peer's memory with load and store, and by the
 * target of an atomic that came in a frame: both use the CPU's own atomic
 * instructions, so they exclude each other and the program's own.
 */
#ifndef PINWHEEL_ATOMIC_H
#define PINWHEEL_ATOMIC_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "pinwheel/nic.h"

static inline size_t pw_atomic_width(enum pw_atomic_type type)
{
    return type == PW_INT32 || type == PW_FLOAT ? 4 : 8;
}

static inline int64_t pw_atomic_new_int(const struct pw_atomic *a, int64_t old,
                                        int64_t operand)
{
    switch (a->op) {
    case PW_ATOMIC_ADD:  return (int64_t)((uint64_t)old + (uint64_t)operand);
    case PW_ATOMIC_AND:  return old & operand;
    case PW_ATOMIC_OR:   return old | operand;
    case PW_ATOMIC_XOR:  return old ^ operand;
    case PW_ATOMIC_LAND: return old && operand;
    case PW_ATOMIC_LOR:  return old || operand;
    case PW_ATOMIC_LXOR: return !old != !operand;
    case PW_ATOMIC_SWAP: return operand;
    case PW_ATOMIC_MIN:  return old < operand ? old : operand;
    case PW_ATOMIC_MAX:  return old > operand ? old : operand;
    case PW_ATOMIC_CSWAP: break;
    }
    return old;
}

static inline bool pw_atomic_new_float(const struct pw_atomic *a, double old,
                                       double operand, double *out)
{
    switch (a->op) {
    case PW_ATOMIC_ADD:  *out = old + operand; return true;
    case PW_ATOMIC_SWAP: *out = operand; return true;
    case PW_ATOMIC_MIN:  *out = old < operand ? old : operand; return true;
    case PW_ATOMIC_MAX:  *out = old > operand ? old : operand; return true;
    default: return false;
    }
}

/* The bits that op leaves behind when `old` was there. */
static inline bool pw_atomic_next(const struct pw_atomic *a, uint64_t old,
                                  uint64_t *out)
{
    double d, e;
    float f;

    if (a->op == PW_ATOMIC_CSWAP || a->op == PW_ATOMIC_SWAP) {
        *out = a->operand;
        return true;
    }
    switch (a->type) {
    case PW_INT32:
        *out = (uint32_t)pw_atomic_new_int(a, (int32_t)old, (int32_t)a->operand);
        return true;
    case PW_INT64:
        *out = (uint64_t)pw_atomic_new_int(a, (int64_t)old, (int64_t)a->operand);
        return true;
    case PW_FLOAT: {
        float x, y;
        uint32_t lo = (uint32_t)old, lp = (uint32_t)a->operand;
        memcpy(&x, &lo, 4);
        memcpy(&y, &lp, 4);
        if (!pw_atomic_new_float(a, x, y, &d))
            return false;
        f = (float)d;
        memcpy(&lo, &f, 4);
        *out = lo;
        return true;
    }
    case PW_DOUBLE:
        memcpy(&d, &old, 8);
        memcpy(&e, &a->operand, 8);
        if (!pw_atomic_new_float(a, d, e, &d))
            return false;
        memcpy(out, &d, 8);
        return true;
    }
    return false;
}

/* Apply to *target; *result (may be NULL) gets the bits that were there.
 * 0, or -EINVAL  target not aligned to its type
 *       -EOPNOTSUPP  that operation does not exist for that type (bitwise and
 *                    logical ones on floating point). Sequentially consistent. */
static inline int pw_atomic_apply(const struct pw_atomic *a, void *target,
                                  uint64_t *result)
{
    size_t width = pw_atomic_width(a->type);
    uint64_t old, next;

    if ((uintptr_t)target % width)
        return -EINVAL;
    if (!pw_atomic_next(a, 0, &next))
        return -EOPNOTSUPP;

    if (width == 4) {
        uint32_t *t = (uint32_t *)target, seen;
        if (a->op == PW_ATOMIC_ADD && a->type == PW_INT32) {
            seen = __atomic_fetch_add(t, (uint32_t)a->operand, __ATOMIC_SEQ_CST);
        } else {
            seen = __atomic_load_n(t, __ATOMIC_RELAXED);
            do {
                if (a->op == PW_ATOMIC_CSWAP)
                    seen = (uint32_t)a->compare;
                pw_atomic_next(a, seen, &next);
            } while (!__atomic_compare_exchange_n(t, &seen, (uint32_t)next, false,
                                                  __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
                     && a->op != PW_ATOMIC_CSWAP);
        }
        old = seen;
    } else {
        uint64_t *t = (uint64_t *)target;
        if (a->op == PW_ATOMIC_ADD && a->type == PW_INT64) {
            old = __atomic_fetch_add(t, a->operand, __ATOMIC_SEQ_CST);
        } else {
            old = __atomic_load_n(t, __ATOMIC_RELAXED);
            do {
                if (a->op == PW_ATOMIC_CSWAP)
                    old = a->compare;
                pw_atomic_next(a, old, &next);
            } while (!__atomic_compare_exchange_n(t, &old, next, false,
                                                  __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
                     && a->op != PW_ATOMIC_CSWAP);
        }
    }
    if (result)
        *result = old;
    return 0;
}

#endif
