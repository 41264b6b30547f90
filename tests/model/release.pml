/* release.pml: `released` without a journal: several advance it at once, a reader's low and a new group's pin bound it.
 *
 * Modelled. released = {position, generation} is one word. Whoever needs room, and the keeper, advances it: load the word,
 * load the lows one by one, walk the words of the ring from there, behind COMMITTED and PAD only and not beyond the least
 * low, then CAS the whole word. A reading group cancels a claim that it is tired of, goes on behind it, and stores its low
 * after each event that it has copied out. A second group is created at any moment: it stores its wish as its low, CASes the
 * generation on, loads `released` again and starts at max(wish, released); from there on all is promised to it. It
 * never reads on. Frames of 1 or (CAP >= 4) 2 cells; a producer that is cancelled says PAD and publishes
 * again.
 * Asserted: nothing that is promised to the pin, and nothing that the reader has not copied, is released, claimed again or
 * changed; a cell is written by one only (own[]); in the end everybody has published, or the
 * pin alone holds back the room it needs, and the reader has seen every event once.
 *
 * Left out: a journal (slots.pml); deaths and stops (an advancer that stops changes nothing; slots.pml has the others);
 * the lag of R6 and the futex of R7: who waits looks again whenever an advance could succeed.
 *
 * Without its rule each of these must fail:
 *   -DPASSCANCELLED   R3   an advance goes on behind CANCELLED: its writer may still write there   (CAP=2, K=2)
 *   -DNOGEN           R8   the CAS compares the position alone
 *   -DLATE            R8   the pin stores its low after it has moved the generation on
 *   -DLOWSFIRST       R8   an advance loads the lows before the word
 * [guards NEVER-TORN] */
#ifndef CAP
#define CAP 4           /* cells */
#endif
#ifndef K
#define K 1             /* events of producer 0; the others publish one each */
#endif
#ifndef NP
#define NP 2            /* producers */
#endif
#ifndef CANCELS
#define CANCELS 1
#endif
#define MAXP   24
#define NONE   255
#define LAP(p) ((p) / CAP + 1)
#define IX(p)  ((p) % CAP)

#define CLAIMED   1
#define COMMITTED 2
#define PAD       3
#define CANCELLED 4

byte wlap[CAP], wst[CAP], wlen[CAP];                    /* the words; the slot is left out: no slot is used again here */
byte data[CAP];
byte tail;
byte released, gen;                                     /* one word */
byte low_reader, low_pin = NONE;                        /* NONE: no such group */

/* ghosts: what really happened */
byte own[CAP];                                          /* producer + 1 that may still write this cell */
bool done[NP];
byte end_of_want[NP];                                   /* a waiting producer's claim would end here */
byte cancels, ok_count, seen;
byte promised = NONE;                                   /* where the pin starts */

#define WORD_IS(p, state) (wlap[IX(p)] == LAP(p) && wst[IX(p)] == state)
#ifdef PASSCANCELLED
#define PASSABLE(p) (WORD_IS(p, COMMITTED) || WORD_IS(p, PAD) || WORD_IS(p, CANCELLED))
#else
#define PASSABLE(p) (WORD_IS(p, COMMITTED) || WORD_IS(p, PAD))
#endif
#define CAN_ADVANCE (released < low_reader && released < low_pin && PASSABLE(released))

inline load_lows()
{
  al = low_reader;
  atomic { if :: low_pin < al -> al = low_pin :: else fi }
}

inline advance()
{
#ifdef LOWSFIRST
  load_lows();
  d_step { ap = released; ag = gen; aq = ap };
#else
  d_step { ap = released; ag = gen; aq = ap };
  load_lows();
#endif
  do
  :: atomic { PASSABLE(aq) && aq + wlen[IX(aq)] <= al -> aq = aq + wlen[IX(aq)] }
  :: else -> break
  od;
  atomic {
    if
#ifdef NOGEN
    :: aq > ap && released == ap ->
#else
    :: aq > ap && released == ap && gen == ag ->
#endif
         released = aq;
         assert(promised == NONE || released <= promised);
         assert(released <= low_reader)
    :: else
    fi;
    ap = 0; ag = 0; aq = 0; al = 0 }
}

inline disown()
{
  z = 0; do :: z < need -> own[IX(p + z)] = 0; z++ :: else -> break od; z = 0
}

proctype Producer(byte id)
{
  byte p, need, sz, i, j, z, ol, os, on, r;
  byte ap, ag, aq, al;
  bool ispad, won;
next:
  if :: i == (id == 0 -> K : 1) -> goto finish :: else fi;
#if CAP < 4
  sz = 1;
#else
  if :: sz = 1 :: sz = 2 fi;
#endif
retry:
  p = tail;
  atomic { ol = wlap[IX(p)]; os = wst[IX(p)]; on = wlen[IX(p)];
    if
    :: ol == LAP(p) -> ol = 0; os = 0; goto help
    :: ol > LAP(p) -> goto retry
    :: else -> on = 0
    fi };
  atomic { r = released;
    if
    :: IX(p) + sz > CAP -> ispad = true; need = CAP - IX(p)
    :: else -> ispad = false; need = sz
    fi };
  if
  :: p + need > r + CAP ->
       atomic { end_of_want[id] = p + need; ol = 0; os = 0; need = 0; ispad = 0 };
endwait:
       (tail != p || released != r || CAN_ADVANCE);         /* for ever: init looks whether only the pin is to blame */
       atomic { end_of_want[id] = 0; p = 0; r = 0 };
       if :: CAN_ADVANCE -> advance() :: else fi;
       goto retry
  :: else -> r = 0
  fi;
  atomic {                                              /* the claim */
    won = (wlap[IX(p)] == ol && wst[IX(p)] == os);
    if
    :: won ->
         assert(promised == NONE || p + need <= promised + CAP);
         assert(p + need <= low_reader + CAP);
         wlap[IX(p)] = LAP(p); wlen[IX(p)] = need;
         if :: ispad -> wst[IX(p)] = PAD :: else -> wst[IX(p)] = CLAIMED fi;
         z = 0;
         do
         :: z < need ->
              assert(own[IX(p + z)] == 0);
              if :: !ispad -> own[IX(p + z)] = id + 1 :: else fi;
              z++
         :: else -> break
         od;
         z = 0
    :: else
    fi;
    ol = 0; os = 0;
    if :: won -> won = 0 :: else -> p = 0; need = 0; ispad = 0; goto retry fi };
  atomic {
    if :: tail == p -> tail = p + need :: else fi;
    if :: ispad -> ispad = 0; p = 0; need = 0; goto retry :: else fi };
  atomic {
    do :: j < need -> assert(own[IX(p + j)] == id + 1); data[IX(p + j)] = p; j++ :: else -> break od;
    j = 0 };
  atomic {                                              /* the commit */
    if
    :: WORD_IS(p, CLAIMED) -> wst[IX(p)] = COMMITTED; i++; ok_count++; disown(); p = 0; need = 0; goto next
    :: else
    fi };
  atomic { assert(WORD_IS(p, CANCELLED)); wst[IX(p)] = PAD; disown(); p = 0; need = 0 };
  goto retry;
help:
  atomic { if :: tail == p -> tail = p + on :: else fi; p = 0; on = 0; goto retry };
finish:
  done[id] = true
}

/* its low holds `released` back, so it needs no check after the copy */
proctype Reader()
{
  byte pos, j, n;
end:
  do
  :: atomic { WORD_IS(pos, COMMITTED) -> n = wlen[IX(pos)]; seen++ };
     atomic {
       do :: j < n -> assert(data[IX(pos + j)] == pos); j++ :: else -> break od;
       assert(released <= pos); pos = pos + n; j = 0; n = 0 };
     low_reader = pos
  :: atomic { WORD_IS(pos, PAD) || WORD_IS(pos, CANCELLED) -> pos = pos + wlen[IX(pos)] };
     low_reader = pos
  :: atomic { WORD_IS(pos, CLAIMED) && cancels < CANCELS -> cancels++; wst[IX(pos)] = CANCELLED }
  od
}

proctype Keeper()
{
  byte ap, ag, aq, al;
end:
  do
  :: CAN_ADVANCE -> advance()
  od
}

proctype Create()
{
  byte wish, n;
  if :: wish = 0 :: wish = tail fi;                     /* earliest, latest */
#ifndef LATE
  low_pin = wish;
#endif
  gen++;
#ifdef LATE
  low_pin = wish;
#endif
  d_step { n = released; if :: wish > n -> n = wish :: else fi; promised = n };
  low_pin = n
}

byte x;
init
{
  atomic {
    x = 0; do :: x < NP -> run Producer(x); x++ :: else -> break od;
    run Reader(); run Keeper(); run Create() };
  timeout;
  assert(low_reader == tail && seen == ok_count);
  assert(released <= promised && low_pin == promised);
  x = 0;
  do
  :: x < NP -> assert(done[x] || end_of_want[x] > promised + CAP); x++          /* the pin alone may make it wait */
  :: else -> break
  od;
  if :: promised < tail -> assert(data[IX(promised)] == promised || WORD_IS(promised, PAD)) :: else fi
}
