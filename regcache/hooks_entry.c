/* SPDX-License-Identifier: BSD-3-Clause */
/* hooks_entry.c - what runs in the place of a patched syscall instruction.
 *
 * Start at pw_hooks_syscall(): say what will change, let the kernel change it, say
 * that it is over. pw_hooks_enter brings it the registers and takes back the
 * result, so that to the code around the instruction nothing has happened but the
 * system call: all registers are kept that the kernel keeps, the 128 bytes below
 * the stack pointer too.
 *
 * This file and those it calls are compiled without vector registers (which the
 * entry does not save) and without sanitizers.
 */
#include "hooks_entry.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "raw.h"

struct pw_hooks pw_hooks;

#if defined(__x86_64__)

/* CFA: the stack pointer at the instruction that was replaced. A debugger and a
 * thread's cancellation find their way through by it. */
__asm__(".text\n"
        ".balign 16\n"
        ".globl pw_hooks_enter\n"
        ".hidden pw_hooks_enter\n"
        ".type pw_hooks_enter, @function\n"
        "pw_hooks_enter:\n"
        "    .cfi_startproc\n"
        "    .cfi_def_cfa %rsp, 136\n"
        "    .cfi_offset %rip, -136\n"
        "    push %rbp\n"
        "    .cfi_def_cfa_offset 144\n"
        "    .cfi_offset %rbp, -144\n"
        "    mov %rsp, %rbp\n"
        "    .cfi_def_cfa_register %rbp\n"
        "    push %r9\n"
        "    push %r8\n"
        "    push %r10\n"
        "    push %rdx\n"
        "    push %rsi\n"
        "    push %rdi\n"
        "    push %rax\n"
        "    mov %rsp, %rdi\n"
        "    mov 8(%rbp), %rsi\n"
        "    and $-16, %rsp\n"
        "    call pw_hooks_syscall\n"
        "    lea -48(%rbp), %rsp\n"
        "    pop %rdi\n"
        "    pop %rsi\n"
        "    pop %rdx\n"
        "    pop %r10\n"
        "    pop %r8\n"
        "    pop %r9\n"
        "    pop %rbp\n"
        "    .cfi_def_cfa %rsp, 136\n"
        "    .cfi_restore %rbp\n"
        "    pop %rcx\n"
        "    .cfi_def_cfa_offset 128\n"
        "    .cfi_register %rip, %rcx\n"
        "    lea 128(%rsp), %rsp\n"
        "    .cfi_def_cfa_offset 0\n"
        "    jmp *%rcx\n"
        "    .cfi_endproc\n"
        ".size pw_hooks_enter, . - pw_hooks_enter\n");

#else

void pw_hooks_enter(void)
{
}

#endif

/* Which of our pages does an mprotect concern? A bit each. */
static uint64_t text_concerned(const struct pw_call *c)
{
    unsigned n = __atomic_load_n(&pw_hooks.n_text, __ATOMIC_ACQUIRE);
    uint64_t bits = 0;

    for (unsigned i = 0; i < n; i++)
        if (pw_hooks.text[i] - c->arg[0] < c->arg[1])
            bits |= (uint64_t)1 << i;
    return bits;
}

static struct pw_mark everything(void)
{
    return pw_records_begin(pw_hooks.records, PW_RANGE_ALL, PW_EV_LOST);
}

static long perform(const struct pw_call *c)
{
    return pw_raw6(c->nr, (long)c->arg[0], (long)c->arg[1], (long)c->arg[2],
                   (long)c->arg[3], (long)c->arg[4], (long)c->arg[5]);
}

/* Somebody makes the pages of our patches writable, to patch them too, or has
 * done. Until they are no more, nothing is vouched for; then all is looked through
 * again, before anything is. A call that fails may have changed the first pages. */
static long protect_text(const struct pw_call *c, uint64_t pages)
{
    bool writable = c->arg[2] & PROT_WRITE;
    struct pw_mark mark = everything();
    uint64_t before = 0;
    long result;

    if (writable)
        before = __atomic_fetch_or(&pw_hooks.text_writable, pages, __ATOMIC_ACQ_REL);
    result = perform(c);
    if (writable ? result == -EINVAL : !result)
        __atomic_fetch_and(&pw_hooks.text_writable, before | ~pages, __ATOMIC_ACQ_REL);
    pw_records_end(pw_hooks.records, mark);
    return result;
}

static void tell(struct pw_range range, unsigned cause)
{
    pw_records_end(pw_hooks.records, pw_records_begin(pw_hooks.records, range, cause));
}

/* Calls that change no memory by themselves, but what can be known of it. */
static void notice(const struct pw_call *c, unsigned nr)
{
    switch (nr) {
    case SYS_mprotect:
    case SYS_pkey_mprotect:
        if (c->arg[2] & PROT_EXEC)
            tell((struct pw_range){ c->arg[0], c->arg[0] + c->arg[1] }, PW_CAUSE_CODE);
        break;
    case SYS_io_uring_setup:
    case SYS_io_uring_enter:
    case SYS_io_uring_register:
        if (!__atomic_exchange_n(&pw_hooks.rings, 1, __ATOMIC_ACQ_REL))
            tell(PW_RANGE_ALL, PW_EV_LOST);
        break;
    }
}

static long record(const struct pw_call *c, unsigned nr, uintptr_t from)
{
    struct pw_mark marks[PW_EFFECTS_MAX];
    struct pw_effect effects[PW_EFFECTS_MAX];
    int n = pw_effects(c, effects);
    long result;

    for (int i = 0; i < n; i++) {
        if (nr == SYS_munmap && from - pw_hooks.loader.start <
            pw_hooks.loader.end - pw_hooks.loader.start)
            effects[i].cause = PW_EV_DLCLOSE;
        marks[i] = pw_records_begin(pw_hooks.records, effects[i].range, effects[i].cause);
    }
    result = perform(c);
    while (n--)
        pw_records_end(pw_hooks.records, marks[n]);
    if (__atomic_load_n(&pw_hooks.late, __ATOMIC_RELAXED) &&
        pw_effects_new(c, result, &effects[0]))
        tell(effects[0].range, effects[0].cause);
    return result;
}

/* from: the address after the instruction that was replaced. Named in assembly. */
long pw_hooks_syscall(const struct pw_call *c, uintptr_t from);

__attribute__((used)) long pw_hooks_syscall(const struct pw_call *c, uintptr_t from)
{
    void (*witness)(int) = __atomic_load_n(&pw_hooks.witness, __ATOMIC_RELAXED);
    unsigned nr = pw_call_nr(c);
    uint64_t text = 0;
    long result;

    if (witness)
        witness(1);
    if (nr == SYS_mprotect || nr == SYS_pkey_mprotect)
        text = text_concerned(c);
    notice(c, nr);
    result = text ? protect_text(c, text) : record(c, nr, from);
    if (witness)
        witness(-1);
    return result;
}

void pw_hooks_objects_changed(void)
{
    __atomic_add_fetch(&pw_hooks.objects, 1, __ATOMIC_ACQ_REL);
    if (__atomic_load_n(&pw_hooks.numbers[0], __ATOMIC_RELAXED))
        tell((struct pw_range){ 0, 0 }, PW_CAUSE_OBJECTS);
}
