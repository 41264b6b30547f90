/* doorbell.pml: sleep and wake on sleeper bits and futex bells, with store buffers.
 *
 * Modelled. Promela is sequentially consistent, so the two stores that matter, a producer's commit and a sleeper's bit,
 * go through a store buffer that empties itself at any later moment, as on x86-64 (TSO). A fence waits until it is empty.
 *   producer   commit, fence, look at each sleeper's bit; set, and this sleep not rung yet: bell + 1, then futex_wake, then
 *              rung = this sleep. It never clears a bit.
 *   sleeper    seq = bell; sleeps + 1; set my bit, fence, look again; futex_wait(bell, seq), asleep only if the bell is still seq;
 *              awake: clear my bit
 * Two producers with one event each, two sleepers that must see both. With -DSTOP=1 one producer is stopped or dead between
 * its look and its wake.
 * Asserted, when nothing moves any more: every sleeper has seen every commit. With STOP only if the last commit was followed
 * by a whole round of looking and ringing (lastRang): a later publish mends a lost ring, a clock is not needed; that
 * burial and keeper ring when there is no later publish (D5) is not modelled.
 *
 * With -DRUNG one wake ends a sleep (rung); searched with one sleeper, whose state it doubles.
 * Left out: burial and keeper as wakers (D5), bits of the dead (D6), topics that a sleeper names, the 250 ms bound,
 * the futexes of full rings; orders weaker than TSO: there a full fence stands where x86-64 has the locked CAS (D2).
 *
 * Without its rule each of these must fail (a sleeper sleeps although an event is there). Run pan with -E: sleeping for ever
 * is no error here.
 *   -DNOFENCEP               D1   no fence between a producer's commit and its look
 *   -DNOFENCES               D1   no fence between a sleeper's bit and its look
 *   -DNOBELL                 D1   the wake does not change the futex word
 *   -DSHARED                 D3   two sleepers share a bit, and each clears it
 *   -DWAKERCLEARS -DSTOP=1   D4   the waker clears the bit and stops before the wake: the next one rings nobody
 *   -DRUNG -DRUNGFIRST -DSTOP=1 D4   the waker says that it has rung, and stops before the wake: the next one rings nobody
 * [guards WOKEN] */
#ifndef NSL
#define NSL 2           /* sleepers */
#endif
#define NPR 2           /* producers */
#ifndef STOP
#define STOP 0
#endif
#ifdef SHARED
#define BIT(i) 0
#else
#define BIT(i) i
#endif

byte committed;                         /* events that are visible */
bool commit_buffered[NPR];              /* a commit that is still in its producer's store buffer */
bool sbit[NSL];                         /* the sleeper bits */
bool bit_buffered[NSL];                 /* a bit that is still in its sleeper's store buffer */
byte bell[NSL];
byte sleeps[NSL];                       /* counted by the sleeper before its bit */
byte rung[NSL];                         /* which sleep was ended by a wake; stored by the waker, after it */
bool asleep[NSL];

/* ghosts: what really happened */
byte saw[NSL];
byte stops;
bool lastRang;                          /* a whole round of looking and ringing lies behind the last commit */

proctype Drain()                        /* store buffers empty themselves, sooner or later */
{
end:
  do
  :: atomic { commit_buffered[0] -> commit_buffered[0] = false; committed++; lastRang = false }
  :: atomic { commit_buffered[1] -> commit_buffered[1] = false; committed++; lastRang = false }
  :: atomic { bit_buffered[0] -> bit_buffered[0] = false; sbit[BIT(0)] = true }
#if NSL > 1
  :: atomic { bit_buffered[1] -> bit_buffered[1] = false; sbit[BIT(1)] = true }
#endif
  od
}

proctype Producer(byte id)
{
  byte i, c0, s;
  bool b;
  commit_buffered[id] = true;
#ifndef NOFENCEP
  !commit_buffered[id];
#endif
  c0 = committed;
  do
  :: i < NSL ->
     b = sbit[BIT(i)];
#ifdef RUNG
     s = sleeps[i];
     b = b && rung[i] != s;
#endif
     if
     :: b ->
#ifdef RUNGFIRST
          rung[i] = s;
#endif
#ifdef WAKERCLEARS
          sbit[BIT(i)] = false;
#endif
          if :: d_step { stops < STOP -> stops++ }; goto over :: true fi;
#ifndef NOBELL
          bell[i]++;
#endif
          asleep[i] = false;            /* futex_wake */
#ifdef RUNG
          rung[i] = s
#else
          skip
#endif
     :: else
     fi;
     i++
  :: else -> break
  od;
  atomic { if :: committed == c0 -> lastRang = true :: else fi };
over:
  skip
}

proctype Sleeper(byte id)
{
  byte seq;
end:
  do
  :: saw[id] < committed -> saw[id] = committed
  :: else ->
     seq = bell[id];
#ifdef RUNG
     sleeps[id]++;
#endif
     bit_buffered[id] = true;
#ifndef NOFENCES
     !bit_buffered[id];
#endif
     if
     :: saw[id] < committed -> skip
     :: else ->
          atomic { if :: bell[id] == seq -> asleep[id] = true :: else fi };     /* futex_wait: the kernel compares */
          !asleep[id]
     fi;
     atomic { !bit_buffered[id]; sbit[BIT(id)] = false };
     if :: committed == NPR && saw[id] == NPR -> break :: else fi
  od
}

byte x;
init
{
  atomic { run Drain(); run Producer(0); run Producer(1); run Sleeper(0);
#if NSL > 1
    run Sleeper(1);
#endif
  };
  timeout;
  x = 0;
  do
  :: x < NSL -> assert(saw[x] == committed || (STOP > 0 && !lastRang)); x++
  :: else -> break
  od
}
