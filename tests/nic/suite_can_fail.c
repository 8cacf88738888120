/* SPDX-License-Identifier: BSD-3-Clause */
/* suite_can_fail.c - does the conformance suite notice a NIC that breaks a promise?
 *
 * Each line of the table runs one case on a fake NIC with one fault; the case must
 * fail, after it passed on the same NIC without the fault. Prints TAP.
 */
#include <stdio.h>
#include <string.h>

#include "subjects.h"
#include "suite.h"

struct mutant {
    const char *name;           /* what is wrong with the NIC; NULL ends a list */
    const char *with;           /* the case that must notice */
    struct fake_nic_faults faults;
    uint32_t breaks;
    bool pending, kernel;
};

static const struct mutant mutants[] = {
    { "loses a frame", "send and send_inline mixed", .faults.drop_every = 997 },
    { "loses a frame", "order holds both ways", .faults.drop_every = 997 },
    { "loses a frame", "a full queue is -EAGAIN", .faults.drop_every = 50 },
    { "loses a frame", "frames arrive when their sender has closed",
      .faults.drop_every = 7 },
    { "loses a frame", "nine NICs", .faults.drop_every = 37 },
    { "loses a frame", "upcalls may send", .faults.drop_every = 997 },
    { "loses a frame", "ping-pong asleep", .faults.drop_every = 97 },
    { "loses a frame", "four threads share", .faults.drop_every = 997 },
    { "loses a frame", "a process is killed", .faults.drop_every = 97 },
    { "duplicates a frame", "send and send_inline mixed", .faults.duplicate_every = 997 },
    { "duplicates a frame", "in one to three pieces", .faults.duplicate_every = 97 },
    { "duplicates a frame", "frames arrive when their process",
      .faults.duplicate_every = 97 },
    { "duplicates a frame", "nine NICs", .faults.duplicate_every = 37 },
    { "swaps two frames", "send and send_inline mixed", .faults.swap_every = 997 },
    { "swaps two frames", "order holds through a small queue", .faults.swap_every = 997 },
    { "swaps two frames", "four threads share", .faults.swap_every = 97 },
    { "changes a bit", "in one to three pieces", .faults.corrupt_every = 97 },
    { "changes a bit", "order holds for frames of any size", .faults.corrupt_every = 97 },
    { "changes a bit", "inline frames of every size", .faults.corrupt_every = 97 },
    { "changes a bit", "imm keeps", .faults.corrupt_every = 5 },
    { "changes a bit", "nine NICs", .faults.corrupt_every = 37 },
    { "leaks a descriptor", "opening and closing", .breaks = FAKE_BREAK_LEAK },
    { "leaks a descriptor", "connecting and closing", .breaks = FAKE_BREAK_LEAK },
    { "takes any address", "an address cut short", .breaks = FAKE_BREAK_ANY_ADDRESS },
    { "takes any address", "foreign bytes", .breaks = FAKE_BREAK_ANY_ADDRESS },
    { "takes any address", "a changed byte", .breaks = FAKE_BREAK_ANY_ADDRESS },
    { "connects to nobody", "a closed NIC's", .breaks = FAKE_BREAK_NO_REFUSAL },
    { "connects to nobody", "a killed process's", .breaks = FAKE_BREAK_NO_REFUSAL },
    { "lets other jobs in", "frames of another job", .breaks = FAKE_BREAK_ANY_JOB },
    { "forgets early frames", "frames sent before the peer",
      .breaks = FAKE_BREAK_EARLY_LOST },
    { "forgets early frames", "a queue to who has not", .breaks = FAKE_BREAK_EARLY_LOST },
    { "cuts large frames short", "a frame too large", .breaks = FAKE_BREAK_FRAME_MAX },
    { "forgets the third piece", "in one to three pieces", .breaks = FAKE_BREAK_IOV },
    { "lets inline frames pass", "send and send_inline mixed",
      .breaks = FAKE_BREAK_INLINE_FIRST },
    { "never says -EAGAIN", "a full queue is -EAGAIN", .breaks = FAKE_BREAK_UNBOUNDED },
    { "never says -EAGAIN", "the default queue", .breaks = FAKE_BREAK_UNBOUNDED },
    { "never says -EAGAIN", "a queue to who has not", .breaks = FAKE_BREAK_UNBOUNDED },
    { "takes frames it has no room for", "a full queue is -EAGAIN",
      .breaks = FAKE_BREAK_LIE },
    { "stops for one full queue", "one full queue", .breaks = FAKE_BREAK_ALL_STALL },
    { "serves the same one first", "sixteen senders have", .breaks = FAKE_BREAK_STARVE },
    { "loses a frame", "sixteen senders to one", .faults.drop_every = 997 },
    { "swaps two frames", "sixteen senders have", .faults.swap_every = 97 },
    { "never says -EAGAIN", "sixteen senders to one", .breaks = FAKE_BREAK_UNBOUNDED },
    { "names another peer", "nine NICs", .breaks = FAKE_BREAK_COOKIE },
    { "writes after the frame", "finds its data, pool", .breaks = FAKE_BREAK_PUT_LATE },
    { "writes after the frame", "finds its data, other", .breaks = FAKE_BREAK_PUT_LATE },
    { "copies a byte more", "put and get over pool", .breaks = FAKE_BREAK_OVERRUN },
    { "copies a byte more", "put and get over other", .breaks = FAKE_BREAK_OVERRUN },
    { "copies a byte more", "own side that is pinned", .breaks = FAKE_BREAK_OVERRUN },
    { "begins where the pin does", "own side that is pinned", .faults.own_first = true },
    { "takes bad addresses", "bad addresses are", .breaks = FAKE_BREAK_NO_FAULT },
    { "takes bad addresses", "an atomic on a bad", .breaks = FAKE_BREAK_NO_FAULT },
    { "says NONE and copies", "put and get over pool", .breaks = FAKE_BREAK_NO_REACH },
    { "says NONE and copies", "put and get over other", .breaks = FAKE_BREAK_NO_REACH },
    { "copies by the kernel unasked", "no kernel copies", .breaks = FAKE_BREAK_KERNEL,
      .kernel = true },
    { "tears atomics", "fetch-adds of two", .breaks = FAKE_BREAK_TORN },
    { "tears atomics", "a lock made of", .breaks = FAKE_BREAK_TORN },
    { "returns what is new", "every atomic of every", .breaks = FAKE_BREAK_RESULT },
    { "returns what is new", "atomics use all 64", .breaks = FAKE_BREAK_RESULT },
    { "takes unaligned atomics", "an unaligned atomic",
      .breaks = FAKE_BREAK_UNALIGNED },
    { "tells of no caller", "a caller can be connected", .breaks = FAKE_BREAK_NO_CALLER },
    { "tells of no caller", "a caller is told of until", .breaks = FAKE_BREAK_NO_CALLER },
    { "tells of no caller", "a caller that has left", .breaks = FAKE_BREAK_NO_CALLER },
    { "tells of no caller", "a caller that was killed", .breaks = FAKE_BREAK_NO_CALLER },
    { "forgets early frames", "a caller can be connected",
      .breaks = FAKE_BREAK_EARLY_LOST },
    { "sleeps on", "a caller ends", .breaks = FAKE_BREAK_DEAF },
    { "sleeps on", "wait sees", .breaks = FAKE_BREAK_DEAF },
    { "sleeps on", "a frame from a process", .breaks = FAKE_BREAK_DEAF },
    { "sleeps on", "ping-pong asleep", .breaks = FAKE_BREAK_DEAF },
    { "sleeps on", "two senders wake", .breaks = FAKE_BREAK_DEAF },
    { "sleeps too long", "wait ends in time where", .breaks = FAKE_BREAK_OVERSLEEP },
    { "does not sleep", "wait sleeps", .breaks = FAKE_BREAK_SPIN },
    { "closes over its frames", "frames arrive when their sender has closed",
      .breaks = FAKE_BREAK_CLOSE_LOSES },
    { "closes over its frames", "frames arrive when their process",
      .breaks = FAKE_BREAK_CLOSE_LOSES },
    { "closes over its frames", "frames arrive when their sender has disconnected",
      .breaks = FAKE_BREAK_CLOSE_LOSES },
    { "tells nobody that it left", "frames arrive when their sender has closed",
      .breaks = FAKE_BREAK_NO_DOWN },
    { "tells nobody that it left", "a receiver closes", .breaks = FAKE_BREAK_NO_DOWN },
    { "tells nobody that it left", "a receiver disconnects",
      .breaks = FAKE_BREAK_NO_DOWN },
    { "tells nobody that it left", "a process is killed", .breaks = FAKE_BREAK_NO_DOWN },
    { "tells nobody that it left", "a peer leaves that never",
      .breaks = FAKE_BREAK_NO_DOWN },
    { "closes over its frames", "frames arrive that nobody saw",
      .breaks = FAKE_BREAK_CLOSE_LOSES },
    { "tells nobody that it left", "one of nine leaves", .breaks = FAKE_BREAK_NO_DOWN },
    { "tells it twice", "a receiver closes", .breaks = FAKE_BREAK_DOWN_TWICE },
    { "tells it twice", "a process is killed", .breaks = FAKE_BREAK_DOWN_TWICE },
    { "takes death for good order", "a process is killed",
      .breaks = FAKE_BREAK_DOWN_CAUSE },
    { "takes good order for death", "frames arrive when their process",
      .breaks = FAKE_BREAK_DOWN_CAUSE },
    { "sends to the dead", "a process is killed", .breaks = FAKE_BREAK_NO_EPIPE },
    { "sends to the dead", "a receiver disconnects", .breaks = FAKE_BREAK_NO_EPIPE },
    { "completes twice", "in one to three pieces", .breaks = FAKE_BREAK_COMPLETE_TWICE,
      .pending = true },
    { "completes twice", "put and get over pool", .breaks = FAKE_BREAK_COMPLETE_TWICE,
      .pending = true },
    { "does not count upcalls", "inline frames of every size",
      .breaks = FAKE_BREAK_SLEEPY_PROGRESS },
    { 0 }
};

/* The only case whose name holds that text. */
static const struct nic_case *case_find(const char *text)
{
    const struct nic_case *found = NULL;

    for (unsigned i = 0; all_cases[i]; i++)
        for (const struct nic_case *c = all_cases[i]; c->name; c++)
            if (strstr(c->name, text)) {
                if (found)
                    return NULL;
                found = c;
            }
    return found;
}

static enum verdict run(const struct mutant *m, const struct nic_case *c, bool faulty,
                        struct outcome *out)
{
    struct fake_nic_traits traits = traits_plain();
    unsigned patience = suite_patience_ms;
    struct subject subject;

    traits.pending = m->pending;
    if (m->kernel)
        traits.pool_reach = traits.other_reach = PW_REACH_KERNEL;
    if (faulty) {
        traits.faults = m->faults;
        traits.breaks = m->breaks;
        suite_patience_ms /= 60;    /* what must come will not */
    }
    subject = subject_fake("fake", &traits);
    case_run(c, &subject, out);
    suite_patience_ms = patience;
    return out->verdict;
}

/* NULL, or what is wrong with the suite. */
static const char *judge(const struct mutant *m, const struct nic_case *c,
                         struct outcome *out)
{
    if (!c)
        return "no case has this in its name, or several have";
    if (run(m, c, false, out) != PASSED)
        return "the case does not pass without the fault";
    /* What two threads do to each other shows by chance, on a busy machine seldom. */
    for (int tries = 0; tries < 20; tries++)
        if (run(m, c, true, out) == FAILED)
            return NULL;
    return "the case did not notice";
}

int main(void)
{
    unsigned n = 0, failed = 0;
    struct outcome out;

    for (const struct mutant *m = mutants; m->name; m++) {
        const char *wrong = judge(m, case_find(m->with), &out);

        printf("%s %u - a NIC that %s is noticed: %s\n", wrong ? "not ok" : "ok", ++n,
               m->name, m->with);
        if (wrong)
            printf("# %s\n", wrong);
        failed += wrong != NULL;
        fflush(stdout);
    }
    printf("1..%u\n", n);
    return failed != 0;
}
