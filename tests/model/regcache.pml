/* SPDX-License-Identifier: BSD-3-Clause */
/* regcache.pml - the registration cache's protocol, for Spin to try in every order.
 *
 * Threads get, put, change the memory, evict and end, in all interleavings, on a
 * CPU whose stores wait in a buffer (x86-TSO): a thread's loads can overtake its own
 * stores. Names are those of regcache/ and include/pinwheel/regcache_hit.h; each
 * inline here is the function of that name there. tests/model/protocol runs this as
 * it is, and once with each of the defines below, which take out what the protocol
 * needs; then Spin must find what goes wrong.
 *
 * One address is enough: each change concerns it, and a request for other addresses
 * is one that does not fit (misfit). The index is not modelled: what it says is a
 * hint, so here it says anything. What a thread looks at first is any region.
 *
 * What stands in one atomic is one access to what others see, and what follows from
 * it in the thread itself; a store into the own buffer is nothing that others see.
 *
 * Checked:
 *   - A get gives a region that was pinned with pages mapped there at some moment
 *     between its call and its return. So a thread that has mapped memory, and then
 *     gets it, gets its own, whatever others do meanwhile.
 *   - It is pinned while somebody holds it, and its number is nobody else's.
 *   - When all is put, nothing is left retired (so no last put went unnoticed),
 *     and what the seats count is nothing.
 *   - Nobody gets stuck.
 */

#ifndef THREADS
#define THREADS 2
#endif
#ifndef NUMBERS
#define NUMBERS 2               /* max_regions */
#endif
#ifndef CHANGES
#define CHANGES 2               /* as many changes are made at most */
#endif
#define DEEP 2                  /* stores that wait in a CPU */

/* What each thread does: a number of things, of these kinds, in any order. What was
 * got is put sooner or later, by whichever thread. */
#define GET     1
#define MISFIT  2
#define CHANGE  4
#define EVICT   8
#define END     16
#define ANYTHING 31
#ifndef DO0
#define DO0 ANYTHING
#define DO1 ANYTHING
#define TIMES0 2
#define TIMES1 2
#endif

/* ---- memory, and the CPUs' buffers before it ---- */

#define EMPTY 0                 /* of a card */
#define LIVE_CARD 1

#define CARD(n) (n)
#define SEEN NUMBERS
#define GETS(seat, n) (NUMBERS + 1 + ((seat) * NUMBERS + (n)) * 2)
#define PUTS(seat, n) (GETS(seat, n) + 1)

byte waiting[THREADS];
byte where[THREADS * DEEP];
byte what[THREADS * DEEP];
byte mem[NUMBERS + 1 + THREADS * NUMBERS * 2];

inline store(address, value)
{
    d_step {
        waiting[me] < DEEP ->
        where[me * DEEP + waiting[me]] = address;
        what[me * DEEP + waiting[me]] = value;
        waiting[me]++
    }
}

/* A thread sees its own stores at once. */
#define newest(a) \
    (waiting[me] > 1 && where[me * DEEP + 1] == (a) -> what[me * DEEP + 1] : \
     (waiting[me] > 0 && where[me * DEEP + 0] == (a) -> what[me * DEEP + 0] : mem[a]))

#define fenced (waiting[me] == 0)

inline pw_more(counter)
{
    d_step {
        waiting[me] < DEEP ->
        where[me * DEEP + waiting[me]] = counter;
        what[me * DEEP + waiting[me]] = newest(counter) + 1;
        waiting[me]++
    }
}

inline drip(t)
{
    d_step {
        waiting[t] > 0 ->
        mem[where[t * DEEP + 0]] = what[t * DEEP + 0];
        where[t * DEEP + 0] = where[t * DEEP + 1];
        what[t * DEEP + 0] = what[t * DEEP + 1];
        where[t * DEEP + 1] = 0;
        what[t * DEEP + 1] = 0;
        waiting[t]--
    }
}

active proctype buffers()
{
end:
    do
    :: drip(0)
    :: drip(1)
#if THREADS > 2
    :: drip(2)
#endif
    od
}

/* ---- what rc->lock guards ---- */

bool lock;
mtype = { FREE, PRIVATE, LIVE, RETIRED, DOOMED };
mtype state[NUMBERS] = FREE;
byte base[NUMBERS];             /* gets less puts of threads that ended */

/* Taking and dropping a lock are fences. */
#define lock_taken !lock && fenced -> lock = true
#define UNLOCK atomic { fenced -> lock = false; settle_counts(0); settle_counts(1) }

/* Only differences count, and only to who has the lock: so equal amounts of both are
 * taken off, that fewer states differ. */
inline settle_counts(n)
{
    if
    :: mem[GETS(me, n)] && mem[PUTS(me, n)] ->
        mem[GETS(me, n)] = mem[GETS(me, n)] - mem[PUTS(me, n)];
        mem[PUTS(me, n)] = 0
    :: else
    fi
}

/* ---- the monitor, and the memory it watches ---- */

byte left = CHANGES;
byte word;
bool written[CHANGES];          /* records: each is of the whole memory */
byte going_on;
byte frame = 1;                 /* mapped now; never the same one again */

/* ---- what is true, whatever the cache believes ---- */

byte pinned[NUMBERS];           /* the frame, 0: none */
byte holders[NUMBERS];          /* gets that were answered and not put */
byte in_hand[NUMBERS];          /* of those, not yet on their way back */
byte running = THREADS;

#define handed_out(n) \
    assert(pinned[n] != 0);             /* not unpinned */ \
    assert(pinned[n] >= mapped);        /* nor stale */ \
    holders[n]++

/* ---- pw_retire_barrier(), and the sum over all seats ---- */

/* First a fence of the caller's own, then one in each running thread at some moment
 * until the call returns. The other way round a thread could still see the card that
 * the caller is about to empty, after its fence: a put would not notice. */
inline pw_retire_barrier()
{
#ifdef NO_MEMBARRIER
    skip
#else
#ifndef OWN_FENCE_MISSING
    fenced;
#endif
#if THREADS > 2
    if
    :: waiting[(me + 1) % 3] == 0 -> waiting[(me + 2) % 3] == 0
    :: waiting[(me + 2) % 3] == 0 -> waiting[(me + 1) % 3] == 0
    fi
#else
    waiting[1 - me] == 0
#endif
#endif
}

/* In a byte, where 0 - 1 + 1 is 0. */
inline add_gets(seat, n) { refs = refs + newest(GETS(seat, n)) }
inline add_puts(seat, n) { refs = refs - newest(PUTS(seat, n)) }

#if THREADS > 2
#define first_seat 2
inline other_gets(n) { add_gets(0, n); add_gets(1, n) }
inline other_puts(n) { add_puts(0, n); add_puts(1, n) }
#else
#define first_seat 1
inline other_gets(n) { add_gets(0, n) }
inline other_puts(n) { add_puts(0, n) }
#endif

inline pw_refs(n)
{
    refs = base[n];
#ifdef GETS_SUMMED_FIRST
    other_gets(n);
    add_gets(first_seat, n);
    other_puts(n);
    add_puts(first_seat, n)
#else
    other_puts(n);
    add_puts(first_seat, n);
    other_gets(n);
    add_gets(first_seat, n)
#endif
}

/* ---- regions leave ---- */

#define bit(n) (1 << (n))

inline reap(n)
{
    if
    :: state[n] == RETIRED ->
        pw_refs(n);
        atomic {
            if
            :: refs == 0 -> state[n] = DOOMED; doomed = doomed | bit(n)
            :: else -> refs = 0
            fi
        }
    :: else
    fi
}

inline pw_reap()
{
    if
    :: retired ->
        pw_retire_barrier();
        if
        :: retired & bit(0) -> reap(0)
        :: else
        fi;
        if
        :: retired & bit(1) -> reap(1)
        :: else
        fi;
        retired = 0
    :: else
    fi
}

inline pw_retire(n)
{
    state[n] = RETIRED;
    retired = retired | bit(n);
    store(CARD(n), EMPTY)
}

inline unpin(n)
{
    atomic {
        assert(holders[n] == 0);
        assert(pinned[n] != 0);
        pinned[n] = 0
    }
    atomic { !lock && fenced -> state[n] = FREE; doomed = doomed & ~bit(n) }
}

inline pw_unpin_all()
{
    do
    :: doomed & bit(0) -> unpin(0)
    :: doomed & bit(1) -> unpin(1)
    :: else -> break
    od
}

/* Where `gone` says so. */
inline pw_regcache_reap(n)
{
    if
    :: gone ->
        atomic { lock_taken; gone = false }
        reap(n);
        UNLOCK;
        pw_unpin_all()
    :: else
    fi
}

/* The changes told so far, under the lock. A record that is not written yet is not
 * gone beyond. */
inline pw_drain()
{
    upto = word;
    do
    :: atomic {
        newest(SEEN) < upto && written[newest(SEEN)] ->
#ifdef SEEN_MOVES_FIRST
        pw_more(SEEN);
#endif
        if
        :: state[0] == LIVE -> pw_retire(0)
        :: else
        fi;
        if
        :: state[1] == LIVE -> pw_retire(1)
        :: else
        fi;
#ifndef SEEN_MOVES_FIRST
        pw_more(SEEN)
#endif
    }
    :: atomic { !(newest(SEEN) < upto && written[newest(SEEN)]) -> break }
    od;
    drained = newest(SEEN) >= upto;
    upto = 0;
    pw_reap()
}

/* ---- a get that hits, and a put ---- */

/* Give it back, or what was not taken: who retired it may have seen us. */
inline pw_unhold(n)
{
    pw_more(PUTS(me, n));
    gone = newest(CARD(n)) == EMPTY
}

inline pw_hold(n)
{
#ifdef CARD_BEFORE_COUNT
    held = newest(CARD(n)) == LIVE_CARD;
    atomic {
        pw_more(GETS(me, n));
        if
        :: held -> handed_out(n)
        :: else
        fi
    }
#else
    pw_more(GETS(me, n));
    atomic {
        held = newest(CARD(n)) == LIVE_CARD;
#ifndef CARD_BEFORE_WORD
        if
        :: held -> handed_out(n)
        :: else
        fi
#endif
    }
#endif
}

inline not_held(n)
{
    pw_unhold(n);
#ifdef FAILED_HOLD_LEAVES
    gone = false;
#endif
    pw_regcache_reap(n)
}

inline pw_fresh()
{
    seen = newest(SEEN);
    atomic { held = seen == word; seen = 0 }
}

/* What this thread found last, or what the index says. */
inline any_region()
{
    if
    :: hint = 0
    :: hint = 1
    fi
}

inline pw_regcache_get()
{
    atomic { mapped = frame; found = NUMBERS }
#ifndef CARD_BEFORE_WORD
    pw_fresh();
    if
    :: held ->
        any_region();
        pw_hold(hint);
        if
        :: held -> found = hint
        :: else -> not_held(hint)
        fi
    :: else
    fi;
#else
    any_region();
    pw_hold(hint);
    if
    :: held ->
        pw_fresh();
        if
        :: held -> d_step { handed_out(hint); found = hint }
        :: else -> not_held(hint)
        fi
    :: else -> not_held(hint)
    fi;
#endif
    if
    :: held
    :: else -> pw_regcache_get_slow()
    fi;
    atomic {
        if
        :: found < NUMBERS -> in_hand[found]++
        :: else
        fi;
        found = 0; hint = 0; held = false; mapped = 0
    }
}

inline pw_regcache_put(n)
{
    pw_unhold(n);
#ifdef PUT_DOES_NOT_LOOK
    gone = false;
#endif
    pw_regcache_reap(n)
}

/* A get of other addresses looks at this region, and does not want it. */
inline misfit()
{
    atomic { any_region(); pw_more(GETS(me, hint)) }
    not_held(hint);
    hint = 0
}

/* ---- a get that misses ---- */

/* Under the lock: nobody retires meanwhile. */
inline take(n)
{
    atomic { pw_more(GETS(me, n)); handed_out(n) }
}

inline find()
{
    if
    :: state[0] == LIVE -> found = 0
    :: state[1] == LIVE -> found = 1
    :: state[0] != LIVE && state[1] != LIVE -> found = NUMBERS
    fi
}

inline number_take()
{
    if
    :: state[0] == FREE -> mine = 0
    :: state[0] != FREE && state[1] == FREE -> mine = 1
    :: state[0] != FREE && state[1] != FREE -> mine = NUMBERS
    fi;
    if
    :: mine < NUMBERS -> assert(holders[mine] == 0); state[mine] = PRIVATE
    :: else
    fi
}

/* The word first, then what is going on. Refused: this caller's alone. */
inline watch()
{
    since = word;
#ifdef CHANGES_NOT_MARKED
    watched = true
#else
    watched = going_on == 0
#endif
}

inline pin(n)
{
    d_step { assert(pinned[n] == 0); pinned[n] = frame }
}

inline publish(n)
{
    state[n] = LIVE;
    store(CARD(n), LIVE_CARD)
}

#ifdef NOT_LOOKED_AGAIN
#define fresh true
#else
#define fresh (word == since)
#endif

inline settle()
{
    atomic { lock_taken; state[mine] = RETIRED; found = mine }
    if
    :: watched ->
        pw_drain();
        atomic {
            if
            :: drained && !fresh -> found = NUMBERS     /* -EAGAIN */
            :: drained && fresh ->
                find();
                if
                :: found == NUMBERS -> found = mine; publish(mine)
                :: else
                fi
            :: !drained
            fi;
            drained = false
        }
    :: else
    fi;
    if
    :: found < NUMBERS -> take(found)
    :: else
    fi;
    if
    :: found != mine -> reap(mine)
    :: else
    fi;
    UNLOCK;
    pw_unpin_all()
}

inline make()
{
#ifdef PIN_BEFORE_WATCH
    pin(mine);
    watch();
#else
    watch();
    pin(mine);
#endif
    settle();
    atomic { since = 0; watched = false }
}

inline pw_evict()
{
    atomic {
        lock_taken;
        if
        :: state[0] == LIVE -> mine = 0
        :: state[1] == LIVE -> mine = 1
        :: state[0] != LIVE && state[1] != LIVE -> mine = NUMBERS
        fi
    }
    if
    :: mine < NUMBERS ->
        pw_refs(mine);
        atomic {
            if
            :: refs == 0 -> pw_retire(mine)
            :: else -> refs = 0
            fi
        }
        pw_reap()
    :: else
    fi;
    mine = 0;
    UNLOCK;
    pw_unpin_all()
}

inline pw_regcache_get_slow()
{
    atomic { lock_taken }
    pw_drain();
    atomic {
        found = NUMBERS;
        if
        :: drained -> find()
        :: else
        fi;
        drained = false;
        if
        :: found == NUMBERS -> number_take()
        :: else
        fi
    }
    if
    :: found < NUMBERS -> take(found)
    :: else
    fi;
    UNLOCK;
    pw_unpin_all();
    if
    :: found < NUMBERS
    :: found == NUMBERS && mine < NUMBERS -> make()
    :: found == NUMBERS && mine == NUMBERS -> pw_evict()    /* -ENOMEM */
    fi;
    mine = 0
}

/* ---- what else threads do ---- */

/* Another thread can map, and get, the same address between the change and the end:
 * that is a get which finds the new frame. */
inline change()
{
#ifdef WORD_MOVES_LAST
    frame++;
    atomic { fenced -> seen = word; word++ }
    atomic { written[seen] = true; seen = 0 }
#else
    atomic { fenced -> going_on++ }
    atomic { seen = word; word++ }
    atomic { written[seen] = true; seen = 0 }
    frame++;
    going_on--
#endif
}

/* The destructor. A thread that starts later takes the seat. */
inline thread_ends()
{
    atomic {
        lock_taken;
#ifndef ENDS_WITHOUT_A_WORD
        base[0] = base[0] + mem[GETS(me, 0)] - mem[PUTS(me, 0)];
        base[1] = base[1] + mem[GETS(me, 1)] - mem[PUTS(me, 1)];
#endif
        mem[GETS(me, 0)] = 0;
        mem[PUTS(me, 0)] = 0;
        mem[GETS(me, 1)] = 0;
        mem[PUTS(me, 1)] = 0
    }
    UNLOCK
}

/* Of what somebody got, this thread or another. */
inline choose_from_hand()
{
    if
    :: in_hand[0] -> hint = 0
    :: in_hand[1] -> hint = 1
    fi;
    in_hand[hint]--;
    holders[hint]--
}

#define may(kind) times && (does & kind)

proctype thread(byte me; byte times; byte does)
{
    byte hint, found, mine, refs, retired, doomed, upto, since, seen, mapped;
    bool held, drained, watched, gone;

    do
    :: may(GET) -> times--; pw_regcache_get()
    :: may(MISFIT) -> times--; misfit()
    :: atomic { may(CHANGE) && left -> times--; left-- }
        change()
    :: may(EVICT) -> times--; pw_evict()
    :: may(END) -> times--; thread_ends()
    :: atomic { in_hand[0] || in_hand[1] -> choose_from_hand() }
        pw_regcache_put(hint);
        hint = 0
    :: atomic {
        (!times || (does == CHANGE && !left)) && !in_hand[0] && !in_hand[1] ->
        break
    }
    od;
    atomic { fenced -> running-- }
}

init
{
    byte n, t;

    atomic {
        run thread(0, TIMES0, DO0);
        run thread(1, TIMES1, DO1);
#if THREADS > 2
        run thread(2, TIMES2, DO2)
#endif
    }
    running == 0;
#ifndef ALLOWED_TO_LEAVE_SOME
    d_step {
        assert(!lock);
        for (n : 0 .. NUMBERS - 1) {
            assert(holders[n] == 0);
            assert(state[n] == FREE || state[n] == LIVE);       /* none is left */
            assert((state[n] == LIVE) == (pinned[n] != 0));
            for (t : 0 .. THREADS - 1) {
                base[n] = base[n] + mem[GETS(t, n)] - mem[PUTS(t, n)]
            }
            assert(base[n] == 0)
        }
    }
#endif
}
