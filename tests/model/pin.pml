/* pin.pml: a group is created (or seeks back) while `released`, or the journal's `oldest`, is advanced.
 *
 * Modelled. word = {position, generation}, one 64-bit atomic. Two advancers: load the word, load the lows one by one, CAS the
 * whole word to the least low. One group that moves on. One group that is created: store the low (0: pins whatever is
 * left), CAS generation + 1, load the word again, start at max(wish, position), store that as the low.
 * Asserted: once the new group has its start, the position never passes it.
 *
 * Left out: the ring behind it (release.pml has words, cells and producers), several creations at once, a generation that
 * wraps (16 bits: 65536 creations between one advancer's load and CAS).
 *
 * Without its rule (R8; P11 for `oldest`) each of these must fail. Run pan with -E: an advancer waits for more to release.
 *   -DNOGEN       the CAS compares the position alone
 *   -DLATE        the low is stored after the generation has moved on
 *   -DLOWSFIRST   an advancer loads the lows before the word
 */
#define TAIL 3
#define NONE 255

byte position, generation;              /* the word */
byte low_old, low_new = NONE;           /* NONE: no such group */
byte start = NONE;                      /* ghost: what the new group was promised */

inline load_lows()
{
  l = low_old;
  atomic { if :: low_new < l -> l = low_new :: else fi }
}

proctype Advance()
{
  byte p, g, l;
end:
  do
  :: position < TAIL ->
#ifdef LOWSFIRST
     load_lows();
     atomic { p = position; g = generation };
#else
     atomic { p = position; g = generation };
     load_lows();
#endif
     atomic {
       if
#ifdef NOGEN
       :: l > p && position == p -> position = l
#else
       :: l > p && position == p && generation == g -> position = l
#endif
       :: else
       fi;
       assert(start == NONE || position <= start) }
  od
}

proctype Other()
{
  do :: low_old < TAIL -> low_old++ :: else -> break od
}

proctype Create(byte wish)
{
  byte p;
#ifndef LATE
  low_new = 0;
#endif
  generation++;
#ifdef LATE
  low_new = 0;
#endif
  p = position;
  if :: wish > p -> p = wish :: else fi;
  start = p;
  low_new = p
}

init
{
  atomic { run Advance(); run Advance(); run Other(); run Create(1) }
}
