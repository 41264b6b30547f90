/* stamp.pml: one ring: claim, write, commit, cancel, release, and the stamp that readers poll.
 *
 * Modelled. A frame starts at position p and owns cells p .. p+len-1 (mod CAP). word[cell] = {lap, state, slot, len} is one
 * 64-bit atomic, so each load or CAS of it is one step here. NP producers claim by CAS on word[tail], anybody helps the
 * tail on, the payload is written cell by cell, the header last with PRE(p), the commit is a CAS on the word, and then
 * a CAS PRE(p) -> STAMP(p) whose result nobody looks at. The reader takes STAMP(p) as a commit without a look at the word,
 * else the word decides; it cancels a claim when it is tired of waiting, and then goes on behind it. Cells of a cancelled
 * claim are released only after its writer has said PAD or is dead. A producer may die at each MAYDIE.
 * Asserted: only a committed frame is delivered, whole, once; no cell is written below `released`; what the keeper appends to
 * the journal is what was written; in the end everybody alive has published and nothing committed is missed.
 *
 * Left out: slots that are used again, burial, stops (slots.pml); who advances `released` without a journal (release.pml);
 * checksums; weak memory (Promela is sequentially consistent; the fences of R14 are the code's affair).
 *
 * Without its rule each of these must fail:
 *   -DSTAMPSTORE   R19   the stamp is a plain store: a writer that slept after its commit hits a cell that is used again
 *   -DSTAMPFIRST   R19   the stamp is set before the commit: a cancelled frame looks committed
 *   -DNOWORD       R19   the reader trusts the stamp alone: a death between commit and stamp hides a committed frame
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
byte data[CAP];                                         /* payload: the position it was written for */
byte stamp[CAP];                                        /* first 8 bytes of each cell: PRE, STAMP or payload */
#define PRE(p)   (2 * (p) + 2)
#define STAMP(p) (2 * (p) + 3)
#define PAYLOAD  1
byte tail, released;

/* ghosts: what really happened */
bool dead[NP], done[NP];
byte crashes, cancels;
byte ok_count;                                          /* publishes that returned */
byte seen;                                              /* events that the reader delivered, or finds in the journal */
bool committed_at[MAXP];

#define WORD_IS(p, state) (wlap[IX(p)] == LAP(p) && wst[IX(p)] == state)
#define MAYDIE if :: atomic { crashes < CRASHES -> crashes++; dead[id] = true }; goto over :: true fi

proctype Producer(byte id)
{
  byte p, need, sz, j, i, ol, os, osl, oln;
  bool ispad, won;
next:
  if :: i == K -> goto finish :: else fi;
  if :: sz = 1 :: sz = 2 fi;
retry:
  p = tail;
  d_step { ol = wlap[IX(p)]; os = wst[IX(p)]; osl = wslot[IX(p)]; oln = wlen[IX(p)] };
  MAYDIE;
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
    fi };
  if :: !won -> goto retry :: else fi;
  MAYDIE;
  d_step { if :: tail == p -> tail = p + need :: else fi };
  if :: ispad -> goto retry :: else fi;
  j = 1;
  do
  :: j < need ->
       MAYDIE;
       atomic { assert(p >= released); data[IX(p + j)] = p; stamp[IX(p + j)] = PAYLOAD; j++ }
  :: else -> break
  od;
  MAYDIE;
#ifdef STAMPFIRST
  atomic { assert(p >= released); data[IX(p)] = p; stamp[IX(p)] = STAMP(p) };
#else
  atomic { assert(p >= released); data[IX(p)] = p; stamp[IX(p)] = PRE(p) };
#endif
  MAYDIE;
  d_step {                                              /* the commit */
    won = (WORD_IS(p, CLAIMED) && wslot[IX(p)] == id);
    if :: won -> wst[IX(p)] = COMMITTED; committed_at[p] = true :: else fi };
  if
  :: won ->
       MAYDIE;
#ifdef STAMPSTORE
       stamp[IX(p)] = STAMP(p);
#else
       d_step { if :: stamp[IX(p)] == PRE(p) -> stamp[IX(p)] = STAMP(p) :: else fi };
#endif
       i++; ok_count++; goto next
  :: else ->                                            /* cancelled: say PAD, publish again */
       MAYDIE;
       d_step { assert(WORD_IS(p, CANCELLED) && wslot[IX(p)] == id); wst[IX(p)] = PAD };
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
    :: pos < released -> if :: committed_at[pos] -> seen++ :: else fi; pos++
    :: else -> break
    od }
}

/* copy, fence, released <= p; this position is in the private copy */
inline deliver()
{
  j = 0; intact = true;
  do
  :: j < n -> if :: data[IX(pos + j)] != pos -> intact = false :: else fi; j++
  :: else -> break
  od;
  if
  :: released > pos -> read_journal()
  :: else -> assert(intact); assert(committed_at[pos]); seen++; pos = pos + n
  fi
}

proctype Reader()
{
  byte pos, l, s, sl, n, j;
  bool intact;
end:
  do
  :: stamp[IX(pos)] == STAMP(pos) ->                    /* the fast path: no look at the word */
       n = wlen[IX(pos)];                               /* in the code: the length in the copied header, bounded */
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
     fi
  od
}

/* appends and releases in order; turns the words of the dead into PAD */
proctype Keeper()
{
  byte j;
end:
  do
  :: WORD_IS(released, COMMITTED) ->
       j = 0;
       do
       :: j < wlen[IX(released)] ->
            assert(data[IX(released + j)] == released);
            assert(j == 0 && (stamp[IX(released)] == PRE(released) || stamp[IX(released)] == STAMP(released)) ||
                   j > 0 && stamp[IX(released + j)] == PAYLOAD);
            j++
       :: else -> break
       od;
       released = released + wlen[IX(released)]
  :: WORD_IS(released, PAD) -> released = released + wlen[IX(released)]
  :: (WORD_IS(released, CANCELLED) || WORD_IS(released, CLAIMED)) && dead[wslot[IX(released)]] -> wst[IX(released)] = PAD
  od
}

byte x, total;
init
{
  atomic {
    x = 0; do :: x < NP -> run Producer(x); x++ :: else -> break od;
    run Reader(); run Keeper() };
  timeout;                                              /* nothing can move any more */
  x = 0; do :: x < NP -> assert(done[x] || dead[x]); x++ :: else -> break od;
  x = 0; do :: x < MAXP -> if :: committed_at[x] -> total++ :: else fi; x++ :: else -> break od;
  assert(total == seen);
  assert(ok_count <= total && total <= ok_count + CRASHES)
}
