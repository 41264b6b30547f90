/* stamp.pml: one ring: claim, write, commit, cancel, release, the stamp that readers poll, and runs of frames by one claim.
 *
 * Modelled. A frame starts at position p and owns cells p .. p+len-1 (mod CAP). word[cell] = {lap, state, slot, len} is one
 * 64-bit atomic, so each load or CAS of it is one step here. NP producers claim by CAS on word[tail], anybody helps the
 * tail on, the payload is written cell by cell, the header last with PRE(p), the commit is a CAS on the word, and then
 * a CAS PRE(p) -> STAMP(p) whose result nobody looks at. The reader takes STAMP(p) as a commit without a look at the word,
 * else the word decides; it cancels a claim when it is tired of waiting, and then goes on behind it. Cells of a cancelled
 * claim are released only after its writer has said PAD or is dead. A producer may die at each ORDIE.
 * A run is one claim of two frames: until the commit word[p] has the length of both, so that who cancels, buries or steps over
 * takes both; the second frame's header gets its STAMP, its word is stored COMMITTED, before the commit makes word[p] the
 * first frame's alone and both are seen. Frames of 1 or 2 cells, a run of 1 + 1, with -DLONGRUN of 1 + 2 and 2 + 1, too.
 * Asserted: only a committed frame is delivered, whole, once, in its producer's order, both of a run or none; no cell and no
 * word of a second frame is written below `released`; nobody stands at a word of an older lap before the tail; what the keeper
 * appends to the journal is committed, and is what was written; in the end everybody alive has published and nothing committed
 * is missed.
 *
 * Left out: slots that are used again, burial, stops (slots.pml); who advances `released` without a journal (release.pml);
 * checksums; runs of more than two; who looks for the next frame behind a damaged word (it may find the second frame of a
 * cancelled run); weak memory (Promela is sequentially consistent; the fences of R14 are the code's affair).
 *
 * Without its rule each of these must fail:
 *   -DSTAMPSTORE   R19   the stamp is a plain store: a writer that slept after its commit hits a cell that is used again
 *   -DSTAMPFIRST   R19   the stamp is set before the commit: a cancelled frame looks committed
 *   -DNOWORD       R19   the reader trusts the stamp alone: a death between commit and stamp hides a committed frame
 *   -DRUNLATE      R20   the second frame's word is stored behind the commit: a reader stands where nothing is
 *   -DRUNWHOLE     R20   the commit keeps the run's length: the second frame is hidden
 *   -DRUNSHORT     R20   a cancelled run's PAD has the first frame's length: the second, which is published again, comes to light
 *   -DRUNSPLIT     R20   the tail moves by the first frame alone: the second's cells are claimed again
 * [guards WHOLE] */
#ifndef CAP
#define CAP 2           /* cells */
#endif
#ifndef NP
#define NP 2            /* producers */
#endif
#ifndef K
#define K 1             /* events per producer */
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef CANCELS
#define CANCELS 1       /* of living writers; dead ones are cancelled as often as needed */
#endif
#define MAXP   32
#define LAP(p) ((p) / CAP + 1)
#define IX(p)  ((p) % CAP)

#define CLAIMED   1
#define COMMITTED 2
#define PAD       3
#define CANCELLED 4

byte wlap[CAP], wst[CAP], wslot[CAP], wlen[CAP];        /* the words */
byte data[CAP];                                         /* payload: the position of its frame */
byte size[CAP];                                         /* the length in a frame's header */
byte stamp[CAP];                                        /* first 8 bytes of each cell: PRE, STAMP or payload */
#define PRE(p)   (2 * (p) + 2)
#define STAMP(p) (2 * (p) + 3)
#define PAYLOAD  1
byte tail, released;

/* ghosts: what really happened */
bool dead[NP], done[NP];
byte crashes, cancels;
byte told[NP];                                          /* events of which a publish has returned */
byte seen;                                              /* events that the reader delivered, or finds in the journal */
byte event_at[MAXP];                                    /* what is committed there: 0, or */
#define EVENT(id, n) (16 * (id) + (n))                  /* a producer's n-th, from 1 on */

#define WORD_IS(p, state) (wlap[IX(p)] == LAP(p) && wst[IX(p)] == state)
#define MY_WORD_IS(state) (WORD_IS(p, state) && wslot[IX(p)] == id && wlen[IX(p)] == sz)
#define ORDIE :: atomic { crashes < CRASHES -> crashes++; dead[id] = true }; goto over

inline put_second_word()
{
  if
  :: first < sz ->
       if
       ORDIE
       :: atomic {
            assert(p + first >= released);
            wlap[IX(p + first)] = LAP(p); wst[IX(p + first)] = COMMITTED;
            wslot[IX(p + first)] = id; wlen[IX(p + first)] = sz - first }
       fi
  :: else
  fi
}

proctype Producer(byte id)
{
  byte p, sz, first, need, j, i, ol, os, osl, oln;
  bool ispad, won;
next:
  if :: i == K -> goto finish :: else fi;
  if
  :: sz = 1; first = 1
  :: sz = 2; first = 2
  :: sz = 2; first = 1                                  /* a run */
#ifdef LONGRUN
  :: sz = 3; first = 1
  :: sz = 3; first = 2
#endif
  fi;
retry:
  if
  ORDIE
  :: p = tail
  fi;
  d_step { ol = wlap[IX(p)]; os = wst[IX(p)]; osl = wslot[IX(p)]; oln = wlen[IX(p)] };
  if
  :: ol == LAP(p) -> d_step { if :: tail == p -> tail = p + oln :: else fi }; goto retry
  :: ol > LAP(p) -> goto retry
  :: else
  fi;
  if
  :: IX(p) + sz > CAP -> ispad = true; need = CAP - IX(p)
  :: else -> ispad = false; need = sz
  fi;
  if
  :: p + need > released + CAP -> (tail != p || p + need <= released + CAP); goto retry
  :: else
  fi;
  d_step {                                              /* the claim */
    won = (wlap[IX(p)] == ol && wst[IX(p)] == os && wslot[IX(p)] == osl && wlen[IX(p)] == oln);
    if
    :: won -> wlap[IX(p)] = LAP(p); wslot[IX(p)] = id; wlen[IX(p)] = need;
              if :: ispad -> wst[IX(p)] = PAD :: else -> wst[IX(p)] = CLAIMED fi
    :: else
    fi;
    ol = 0; os = 0; osl = 0; oln = 0 };
  if :: !won -> goto retry :: else fi;
  if
  ORDIE
#ifdef RUNSPLIT
  :: d_step { if :: tail == p && !ispad -> tail = p + first :: tail == p && ispad -> tail = p + need :: else fi; need = 0 }
#else
  :: d_step { if :: tail == p -> tail = p + need :: else fi; need = 0 }
#endif
  fi;
  if :: ispad -> goto retry :: else fi;
  j = 1;
  do
  :: j < sz ->
       if
       ORDIE
       :: atomic {
            assert(p >= released);
            data[IX(p + j)] = (j < first -> p : p + first);
            if
            :: j == first -> size[IX(p + j)] = sz - first; stamp[IX(p + j)] = STAMP(p + first)
            :: else -> stamp[IX(p + j)] = PAYLOAD
            fi;
            j++ }
       fi
  :: else -> break
  od;
  j = 0;
  if
  ORDIE
#ifdef STAMPFIRST
  :: atomic { assert(p >= released); data[IX(p)] = p; size[IX(p)] = first; stamp[IX(p)] = STAMP(p) }
#else
  :: atomic { assert(p >= released); data[IX(p)] = p; size[IX(p)] = first; stamp[IX(p)] = PRE(p) }
#endif
  fi;
#ifndef RUNLATE
  put_second_word();
#endif
  if
  ORDIE
  :: d_step {                                           /* the commit */
       won = MY_WORD_IS(CLAIMED);
       if
       :: won ->
            wst[IX(p)] = COMMITTED; event_at[p] = EVENT(id, told[id] + 1);
#ifndef RUNWHOLE
            wlen[IX(p)] = first;
#endif
            if :: first < sz -> event_at[p + first] = EVENT(id, told[id] + 2) :: else fi
       :: else
       fi }
  fi;
  if
  :: won ->
#ifdef RUNLATE
       put_second_word();
#endif
       if
       ORDIE
#ifdef STAMPSTORE
       :: stamp[IX(p)] = STAMP(p)
#else
       :: d_step { if :: stamp[IX(p)] == PRE(p) -> stamp[IX(p)] = STAMP(p) :: else fi }
#endif
       fi;
       d_step { i++; if :: first < sz -> told[id] = told[id] + 2 :: else -> told[id]++ fi }; goto next
  :: else ->                                            /* cancelled: say PAD, publish again */
       if
       ORDIE
       :: d_step {
            assert(MY_WORD_IS(CANCELLED)); wst[IX(p)] = PAD;
#ifdef RUNSHORT
            wlen[IX(p)] = first
#endif
            }
       fi;
       goto retry
  fi;
finish:
  done[id] = true;
over:
  skip
}

/* the cells up to `released` may be overwritten: what was committed there is read in the journal */
inline read_journal()
{
  atomic {
    do
    :: pos < released -> if :: event_at[pos] != 0 -> seen++ :: else fi; pos++
    :: else -> break
    od }
}

/* copy, fence, released <= p; this position is in the private copy */
inline deliver()
{
  d_step {
    j = 0; intact = true;
    do
    :: j < n -> if :: data[IX(pos + j)] != pos -> intact = false :: else fi; j++
    :: else -> break
    od;
    j = 0 };
  if
  :: released > pos -> read_journal()
  :: else -> assert(intact); assert(event_at[pos] != 0); seen++; pos = pos + n
  fi;
  d_step { n = 0; intact = false }
}

proctype Reader()
{
  byte pos, l, s, sl, n, j;
  bool intact;
end:
  do
  :: stamp[IX(pos)] == STAMP(pos) ->                    /* the fast path: no look at the word */
       n = size[IX(pos)];
       deliver()
#ifdef NOWORD
  :: atomic { wlap[IX(pos)] > LAP(pos) || (wlap[IX(pos)] == LAP(pos) && wst[IX(pos)] != COMMITTED) ->
#else
  :: atomic { wlap[IX(pos)] >= LAP(pos) ->              /* an older lap: nothing is published here yet */
#endif
       l = wlap[IX(pos)]; s = wst[IX(pos)]; sl = wslot[IX(pos)]; n = wlen[IX(pos)] };
     if
     :: l != LAP(pos) -> assert(released > pos); read_journal()
     :: l == LAP(pos) && s == COMMITTED -> deliver()
     :: l == LAP(pos) && (s == PAD || s == CANCELLED) -> pos = pos + n
     :: l == LAP(pos) && s == CLAIMED ->
          if
          :: cancels < CANCELS || dead[sl] ->
               d_step {
                 if
                 :: wlap[IX(pos)] == l && wst[IX(pos)] == CLAIMED && wslot[IX(pos)] == sl ->
                      wst[IX(pos)] = CANCELLED;
                      if :: !dead[sl] -> cancels++ :: else fi
                 :: else
                 fi }
          :: true -> (wst[IX(pos)] != CLAIMED || wlap[IX(pos)] != l || dead[sl])        /* patience */
          fi
     fi;
     d_step { l = 0; s = 0; sl = 0; n = 0 }
  od
}

/* appends and releases in order; turns the words of the dead into PAD */
proctype Keeper()
{
  byte j;
end:
  do
  :: atomic { WORD_IS(released, COMMITTED) ->
       assert(event_at[released] != 0);
       j = 0;
       do
       :: j < wlen[IX(released)] ->
            assert(data[IX(released + j)] == released);
            assert(size[IX(released)] == wlen[IX(released)]);
            assert(j == 0 && (stamp[IX(released)] == PRE(released) || stamp[IX(released)] == STAMP(released)) ||
                   j > 0 && stamp[IX(released + j)] == PAYLOAD);
            j++
       :: else -> break
       od;
       j = 0;
       released = released + wlen[IX(released)] }
  :: atomic { WORD_IS(released, PAD) -> released = released + wlen[IX(released)] }
  :: atomic { (WORD_IS(released, CANCELLED) || WORD_IS(released, CLAIMED)) && dead[wslot[IX(released)]] ->
       wst[IX(released)] = PAD }
  :: atomic { tail > released && wlap[IX(released)] != LAP(released) -> assert(false) }
  od
}

byte x, y, total, found[NP];
init
{
  atomic {
    x = 0; do :: x < NP -> run Producer(x); x++ :: else -> break od;
    run Reader(); run Keeper() };
  timeout;                                              /* nothing can move any more */
  x = 0; do :: x < NP -> assert(done[x] || dead[x]); x++ :: else -> break od;
  x = 0;
  do                                                    /* each event once, in its producer's order */
  :: x < MAXP && event_at[x] != 0 ->
       y = event_at[x] / 16; found[y]++; total++; assert(event_at[x] == EVENT(y, found[y])); x++
  :: x < MAXP && event_at[x] == 0 -> x++
  :: else -> break
  od;
  assert(total == seen);
  x = 0; do :: x < NP -> assert(found[x] >= told[x] && (found[x] == told[x] || dead[x])); x++ :: else -> break od
}
