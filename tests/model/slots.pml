/* slots.pml: the ring with slots: threads die, are buried, their slots are used again; writers are stopped; fences.
 *
 * Modelled. The ring of stamp.pml (word per cell, claim at the tail, cancel, PAD), and NS slots for NT threads: a thread
 * holds its slot's robust mutex for life, the word names the slot. A thread may die at each MAYDIE: the mutex is then DIED,
 * and the undertaker helps the tail on, walks released..tail, turns the slot's words into PAD, clears its fence and
 * only then frees the slot for the next thread; it may die in the middle and starts again. A producer may be stopped at each
 * MAYSTOP, for ever as far as anybody knows. Two positions: `journaled` goes on behind CANCELLED, `released` does
 * not, unless the keeper fences the claim's cells off: the entry first, then the word CANCELLED -> PAD. Producers load
 * `released`, then the fence, and never claim across it.
 * Asserted: a cell is written by one only (own[]), what is appended is what was written; with a writer stopped the journal
 * is complete and everybody else has published; when it goes on everybody has, all slots are free and all is released.
 *
 * Left out: the stamp (stamp.pml); how death is seen (dead.pml); more than one fence, two keepers, the epoch of R5; leases,
 * sleeper bits and doorbells in the burial; slots that are retired (B2 B3 B4); weak memory.
 *
 * Without its rule each of these must fail (the sizes are in run.sh):
 *   -DNOHELP       R1   burial walks released..tail and does not help the tail on: a claim at the tail survives its slot
 *   -DEARLY        R2   the slot is free before its words are PAD
 *   -DONEPOS       R3   the journal stops where `released` stops         (STOPS=1)
 *   -DNOKCANCEL    R4   the keeper does not cancel                       (STOPS=1, NOREADER)
 *   -DNOFENCE      R5   no fence: one stopped writer fills the partition (STOPS=1, ONECELL)
 *   -DFENCEFIRST   R5   burial clears the fence before the words: a fence stays for ever          (STOPS=1)
 *   -DFENCELOADED  R5   producers load the fence before `released`: a claim across a fence        (STOPS=1, ONECELL)
 * A frame that fits nowhere beside a fence waits for the stopped writer; with -DONECELL none is that long, and nobody waits.
 * [guards ONE-WRITER] */
#ifndef CAP
#define CAP 4           /* cells */
#endif
#ifndef NT
#define NT 2            /* threads */
#endif
#ifndef NS
#define NS 2            /* slots: 1 or 2 */
#endif
#ifndef K
#define K 1             /* events per thread */
#endif
#ifndef CRASHES
#define CRASHES 1       /* of threads, and as many of the undertaker */
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef CANCELS
#define CANCELS 1       /* of writers that are neither dead nor stopped */
#endif
#define MAXP   24
#define LAP(p) ((p) / CAP + 1)
#define IX(p)  ((p) % CAP)

#define CLAIMED   1
#define COMMITTED 2
#define PAD       3
#define CANCELLED 4

byte wlap[CAP], wst[CAP], wslot[CAP], wlen[CAP];        /* the words */
byte data[CAP];
byte tail, released, journaled;
byte fslot, fcell, flen;                                /* the fence: fslot = slot + 1, 0 = none */
byte mutex[NS];                                         /* 0 free, thread + 1, BURYING or DIED */
#define BURYING 50
#define DIED    99

/* ghosts: what really happened */
byte own[CAP];                                          /* thread + 1 that may still write this cell */
byte holder[NS];                                        /* the last thread that held the slot */
bool dead[NT], done[NT], stopped[NT], wake[NT];
byte crashes, cancels, stops, ucrashes;
byte ok_count, seen;
bool committed_at[MAXP];

#define WORD_IS(p, state) (wlap[IX(p)] == LAP(p) && wst[IX(p)] == state)
#define HANGS(s) (mutex[s] == DIED || (stopped[holder[s]] && !wake[holder[s]]))
#define MAYDIE  if :: d_step { crashes < CRASHES -> crashes++; dead[id] = true; mutex[s] = DIED }; goto over :: true fi
#define MAYSTOP if :: d_step { stops < STOPS -> stops++; stopped[id] = true } :: true fi; !(stopped[id] && !wake[id])

inline disown(who)
{
  z = 0; do :: z < CAP -> if :: own[z] == who + 1 -> own[z] = 0 :: else fi; z++ :: else -> break od; z = 0
}

inline clear_fence(s)
{
  atomic { if :: fslot == s + 1 -> fslot = 0; disown(holder[s]) :: else fi }
}

inline bury(s)
{
#ifdef FENCEFIRST
  clear_fence(s);
#endif
#ifndef NOHELP
  do
  :: atomic { wlap[IX(tail)] == LAP(tail) -> tail = tail + wlen[IX(tail)] }
  :: atomic { wlap[IX(tail)] != LAP(tail) -> break }
  od;
#endif
  skip;
again:
  q = released;
  do
  :: q < tail ->
     atomic {
       if
       :: wlap[IX(q)] != LAP(q) -> goto again           /* released and claimed again meanwhile */
       :: else ->
            if
            :: wslot[IX(q)] == s && (wst[IX(q)] == CLAIMED || wst[IX(q)] == CANCELLED) ->
                 wst[IX(q)] = PAD; disown(holder[s])
            :: else
            fi;
            q = q + wlen[IX(q)]
       fi }
  :: else -> break
  od;
#ifndef FENCEFIRST
  clear_fence(s);
#endif
  q = 0
}

proctype Undertaker()
{
  byte q, z, s;
end:
  do
  :: atomic { mutex[0] == DIED -> s = 0; mutex[0] = BURYING };
work:
#ifdef EARLY
     mutex[s] = 0;
#endif
     bury(s);
     if :: ucrashes < CRASHES -> atomic { ucrashes++; mutex[s] = DIED } :: mutex[s] = 0 fi
#if NS > 1
  :: atomic { mutex[1] == DIED -> s = 1; mutex[1] = BURYING }; goto work
#endif
  od
}

proctype Producer(byte id)
{
  byte p, need, sz, j, i, ol, os, osl, oln, s, r, fs, fc, fl, z;
  bool ispad, won;
  atomic {
    if
    :: mutex[0] == 0 -> s = 0
#if NS > 1
    :: mutex[1] == 0 -> s = 1
#endif
    fi;
    mutex[s] = id + 1; holder[s] = id };
next:
  if :: i == K -> goto finish :: else fi;
#ifdef ONECELL
  sz = 1;
#else
  if :: sz = 1 :: sz = 2 fi;
#endif
retry:
  p = tail;
  d_step { ol = wlap[IX(p)]; os = wst[IX(p)]; osl = wslot[IX(p)]; oln = wlen[IX(p)] };
  if
  :: ol == LAP(p) -> d_step { if :: tail == p -> tail = p + oln :: else fi }; goto retry
  :: ol > LAP(p) -> goto retry
  :: else
  fi;
#ifdef FENCELOADED
  d_step { fs = fslot; fc = fcell; fl = flen };
  r = released;
#else
  r = released;
  d_step { fs = fslot; fc = fcell; fl = flen };
#endif
  if
  :: IX(p) + sz > CAP -> ispad = true; need = CAP - IX(p)
  :: else -> ispad = false; need = sz
  fi;
  if
  :: fs != 0 && sz > fc && sz > CAP - (fc + fl) ->      /* fits nowhere beside the fence: wait, or we pad for ever */
       (tail != p || released != r || fslot != fs); goto retry
  :: fs != 0 && !(sz > fc && sz > CAP - (fc + fl)) && IX(p) < fc + fl && fc < IX(p) + need ->
       ispad = true; need = fc + fl - IX(p)
  :: else
  fi;
  if
  :: p + need > r + CAP -> (tail != p || released != r || fslot != fs); goto retry
  :: else
  fi;
  atomic {                                              /* the claim */
    won = (wlap[IX(p)] == ol && wst[IX(p)] == os && wslot[IX(p)] == osl && wlen[IX(p)] == oln);
    if
    :: won ->
         wlap[IX(p)] = LAP(p); wslot[IX(p)] = s; wlen[IX(p)] = need;
         if
         :: ispad -> wst[IX(p)] = PAD
         :: else ->
              wst[IX(p)] = CLAIMED;
              z = 0;
              do
              :: z < need -> assert(own[IX(p + z)] == 0); own[IX(p + z)] = id + 1; z++
              :: else -> break
              od;
              z = 0
         fi
    :: else
    fi };
  if :: !won -> goto retry :: else fi;
  MAYDIE;
  if :: ispad :: else -> MAYSTOP fi;
  d_step { if :: tail == p -> tail = p + need :: else fi };
  if :: ispad -> goto retry :: else fi;
  MAYSTOP;
  j = 0;
  do
  :: j < need -> atomic { assert(own[IX(p + j)] == id + 1); data[IX(p + j)] = p; j++ }
  :: else -> break
  od;
  MAYDIE;
  atomic {                                              /* the commit */
    won = (WORD_IS(p, CLAIMED) && wslot[IX(p)] == s);
    if :: won -> wst[IX(p)] = COMMITTED; committed_at[p] = true; disown(id) :: else fi };
  if
  :: won -> i++; ok_count++; goto next
  :: else ->                                            /* cancelled: say PAD, publish again */
       MAYDIE;
       MAYSTOP;
       atomic {
         won = (WORD_IS(p, CANCELLED) && wslot[IX(p)] == s);
         if :: won -> wst[IX(p)] = PAD; disown(id) :: else fi };
       if
       :: won
       :: else -> MAYDIE; atomic { assert(fslot == s + 1); fslot = 0; disown(id) }      /* fenced meanwhile */
       fi;
       goto retry
  fi;
finish:
  skip; d_step { done[id] = true; mutex[s] = 0 };
over:
  skip
}

inline read_journal()
{
  atomic {
    do
    :: pos < released -> if :: committed_at[pos] -> seen++ :: else fi; pos++
    :: else -> break
    od }
}

proctype Reader()
{
  byte pos, l, s, sl, n, j;
  bool intact;
end:
  do
  :: atomic { (wlap[IX(pos)] >= LAP(pos) || released > pos) ->
       l = wlap[IX(pos)]; s = wst[IX(pos)]; sl = wslot[IX(pos)]; n = wlen[IX(pos)] };
     if
     :: l != LAP(pos) -> assert(released > pos); read_journal()
     :: l == LAP(pos) && s == COMMITTED ->
          atomic {
            j = 0; intact = true;
            do
            :: j < n -> if :: data[IX(pos + j)] != pos -> intact = false :: else fi; j++
            :: else -> break
            od };
          if
          :: released > pos -> read_journal()
          :: else -> assert(intact); seen++; pos = pos + n
          fi
     :: l == LAP(pos) && (s == PAD || s == CANCELLED) -> pos = pos + n
     :: l == LAP(pos) && s == CLAIMED ->
          if
          :: cancels < CANCELS || HANGS(sl) ->
               d_step {
                 if
                 :: wlap[IX(pos)] == l && wst[IX(pos)] == CLAIMED && wslot[IX(pos)] == sl ->
                      wst[IX(pos)] = CANCELLED;
                      if :: !HANGS(sl) -> cancels++ :: else fi
                 :: else
                 fi }
          :: true -> (wst[IX(pos)] != CLAIMED || wlap[IX(pos)] != l || HANGS(sl))       /* patience */
          fi
     fi
  od
}

#define AT_RELEASED(state) (released < journaled && wst[IX(released)] == state)
proctype Keeper()
{
  byte j;
end:
  do
  :: atomic { WORD_IS(journaled, COMMITTED) ->
       j = 0;
       do :: j < wlen[IX(journaled)] -> assert(data[IX(journaled + j)] == journaled); j++ :: else -> break od;
       j = 0;
       journaled = journaled + wlen[IX(journaled)] }
  :: atomic { WORD_IS(journaled, PAD) -> journaled = journaled + wlen[IX(journaled)] }
#ifdef ONEPOS
  :: atomic { WORD_IS(journaled, CANCELLED) && journaled != released -> skip }
#else
  :: atomic { WORD_IS(journaled, CANCELLED) -> journaled = journaled + wlen[IX(journaled)] }
#endif
#ifndef NOKCANCEL
  :: atomic { WORD_IS(journaled, CLAIMED) && HANGS(wslot[IX(journaled)]) -> wst[IX(journaled)] = CANCELLED }
#endif
  :: atomic { AT_RELEASED(COMMITTED) || AT_RELEASED(PAD) -> released = released + wlen[IX(released)] }
#ifndef NOFENCE
  :: atomic { AT_RELEASED(CANCELLED) && fslot == 0 ->
       fcell = IX(released); flen = wlen[IX(released)]; fslot = wslot[IX(released)] + 1 };
     atomic { if :: wst[IX(released)] == CANCELLED -> wst[IX(released)] = PAD :: else -> fslot = 0 fi }
#endif
  od
}

byte x, total;
init
{
  atomic {
    x = 0; do :: x < NT -> run Producer(x); x++ :: else -> break od;
#ifndef NOREADER
    run Reader();
#endif
    run Keeper(); run Undertaker() };
  timeout;
#if STOPS > 0
  /* everybody who can move has: whoever is stopped stands alone, and the journal is complete */
  x = 0;
  do
  :: x < NT -> assert(done[x] || dead[x] || stopped[x] || NS < NT
#ifndef ONECELL
       || fslot != 0
#endif
       ); x++
  :: else -> break
  od;
  assert(journaled >= tail);
  x = 0; do :: x < NT -> wake[x] = true; x++ :: else -> break od;
  timeout;
#endif
  x = 0; do :: x < NT -> assert(done[x] || dead[x]); x++ :: else -> break od;
  x = 0; do :: x < NS -> assert(mutex[x] == 0); x++ :: else -> break od;
  x = 0; do :: x < CAP -> assert(own[x] == 0); x++ :: else -> break od;
  assert(fslot == 0);
  assert(released == tail && journaled == tail);
  x = 0; do :: x < MAXP -> if :: committed_at[x] -> total++ :: else fi; x++ :: else -> break od;
#ifndef NOREADER
  assert(total == seen);
#endif
  assert(ok_count == total)
}
