/* slots.pml: the ring with slots: threads die, are buried, their slots are used again; writers are stopped; fences.
 *
 * Modelled. The ring of stamp.pml (word per cell, claim at the tail, cancel, PAD), and NS slots for NT threads: a thread
 * holds its slot's robust mutex for life, the word names the slot. A thread may die at each ORDIE: the mutex is then DIED,
 * and the undertaker helps the tail on, walks released..tail, turns the slot's words into PAD, drops its fences and
 * only then frees the slot for the next thread; it may die in the middle and starts again. A producer may be stopped at each
 * MAYSTOP, for ever as far as anybody knows. Two positions: `journaled` goes on behind CANCELLED, `released` does
 * not, unless somebody fences the claim's cells off. NR processes release and fence, each may sleep between any two steps
 * or (RDEATHS) die there. With -DRUNS thread 0 publishes a run of two frames by one claim, as in stamp.pml: it stores the
 * second's word without a look at what stands there, however long it slept before.
 *
 *   fence   an entry of the table that names the same cell and slot is taken over, else a free one: {cell, len, slot, nonce};
 *           then CAS word CANCELLED -> PAD that keeps the slot; then: is the entry over? drop it
 *   over    the word at its cell is not CANCELLED or PAD with its slot. Anybody may drop such an entry (CAS, with the nonce)
 *   claim   loads `released`, then each entry. A claim that would overlap a fence becomes a PAD up to its first cell, at its first
 *           cell a PAD of its cells that keeps its slot: so the word there stays the writer's, lap after lap
 *   writer  its CANCELLED -> PAD fails: CAS the PAD's slot to nobody, then drop its entries
 *
 * Asserted: a cell, and the word of a run's second frame, is written by one only (own[]), what is appended is committed, and
 * is what was written; nobody stands at a word of an older lap before the tail; with a writer stopped the journal is complete
 * and everybody else has published; when it goes on everybody has, all slots are free, all is released, and no fence
 * stands that is not over.
 *
 * Left out: the stamp (stamp.pml); how death is seen (dead.pml); leases, sleeper bits and doorbells in the burial; slots that
 * are retired (B2 B3 B4); who drops a fence of the dead before the undertaker does; weak memory.
 *
 * Without its rule each of these must fail (the sizes are in run.sh):
 *   -DNOHELP       R1   burial walks released..tail and does not help the tail on: a claim at the tail survives its slot
 *   -DEARLY        R2   the slot is free before its words are PAD
 *   -DONEPOS       R3   the journal stops where `released` stops         (STOPS=1)
 *   -DNOKCANCEL    R4   the keeper does not cancel                       (STOPS=1, NOREADER)
 *   -DNOFENCE      R5   no fence: one stopped writer fills the partition (STOPS=1, ONECELL)
 *   -DFENCEFIRST   R5   burial drops the fences before the words: a fence stays for ever          (STOPS=1)
 *   -DFENCELOADED  R5   producers load the fences before `released`: a claim across a fence       (STOPS=1, ONECELL)
 *   -DENTRYLATE    R5   the word is PAD before the entry stands: a claim across a fence           (STOPS=1, ONECELL)
 *   -DNOSLOT       R5   the PAD in a fence's cells keeps no slot: the fence is taken for over     (STOPS=1, ONECELL)
 *   -DTAKEBACK     R5   who loses the CAS takes its entry back unseen: a living fence is lost     (STOPS=1, NR=2)
 *   -DKEEPSLOT     R5   a writer that goes on leaves its slot in the PAD: a late entry never ends (KCANCELS=1, NR=2, RDEATHS=1)
 *   -DNONONCE      R5   entries are dropped by value without a nonce: a later fence is dropped    (KCANCELS=2, NR=2, CAP=1)
 *   -DFENCESHORT   R20  a run's fence has its first frame alone: a claim where its writer stores the second's word    (RUNS)
 * A frame that fits nowhere beside the fences waits for the stopped writer; with -DONECELL none is that long, and nobody waits.
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
#ifndef KCANCELS
#define KCANCELS 0      /* likewise, by the keeper */
#endif
#ifndef NR
#define NR 1            /* who releases and fences */
#endif
#ifndef RDEATHS
#define RDEATHS 0       /* of the second of them, at any step */
#endif
#ifdef RUNS             /* thread 0 publishes one run of two frames of a cell, the others K frames of a cell */
#define FIRST 1
#else
#define FIRST sz
#endif
#define NF 2            /* entries for fences */
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
byte fslot[NF], fcell[NF], flen[NF], fnonce[NF];        /* the fences: fslot = slot + 1, 0 = none */
byte nonces, rdeaths;
#define NOBODY 9
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
#if CRASHES > 0
#define ORDIE   :: d_step { crashes < CRASHES -> crashes++; dead[id] = true; mutex[s] = DIED }; goto over
#else
#define ORDIE
#endif
#if STOPS > 0
#define MAYSTOP if :: d_step { stops < STOPS -> stops++; stopped[id] = true }; wake[id] :: true fi
#else
#define MAYSTOP skip
#endif

inline disown(who)
{
  z = 0; do :: z < CAP -> if :: own[z] == who + 1 -> own[z] = 0 :: else fi; z++ :: else -> break od; z = 0
}

/* Entry f, as it was read, is over: the word at its cell is not its writer's. */
#define IS_OVER(c, fs) (!(wslot[c] == fs - 1 && (wst[c] == CANCELLED || wst[c] == PAD)))

#define COVERS(e, z) (fslot[e] != 0 && !IS_OVER(fcell[e], fslot[e]) && fcell[e] <= z && z < fcell[e] + flen[e])
#define IS_FREE(z) (z < CAP && !COVERS(0, z) && !COVERS(1, z))
/* Is there room for a frame of sz cells (1 or 2; CAP is 4 at most) beside the fences? */
#define FITS (sz == 1 && (IS_FREE(0) || IS_FREE(1) || IS_FREE(2) || IS_FREE(3)) || \
              sz == 2 && IS_FREE(1) && (IS_FREE(0) || IS_FREE(2)) || sz == 2 && IS_FREE(2) && IS_FREE(3))
#ifdef NONONCE
#define SAME_NONCE(e, x) true
#else
#define SAME_NONCE(e, x) (fnonce[e] == x)
#endif
inline drop(ef, es, ec, el, en)
{
  d_step {
    if :: fslot[ef] == es && fcell[ef] == ec && flen[ef] == el && SAME_NONCE(ef, en) ->
            fslot[ef] = 0; fcell[ef] = 0; flen[ef] = 0; fnonce[ef] = 0
       :: else fi }
}

/* The writer, or its burial: its cells are nobody's from here on. */
inline end_fences(s, c)
{
#ifndef KEEPSLOT
  atomic { if :: wst[c] == PAD && wslot[c] == s -> wslot[c] = NOBODY; disown(holder[s]) :: else fi };
#endif
  f = 0;
  do
  :: f < NF -> d_step {
       if :: fslot[f] == s + 1 && fcell[f] == c ->
               fslot[f] = 0; fcell[f] = 0; flen[f] = 0; fnonce[f] = 0
          :: else fi; f++ }
  :: else -> break
  od;
#ifdef KEEPSLOT
  atomic { disown(holder[s]) };
#endif
  f = 0
}

inline bury_fences(s)
{
  q = 0;
  do
  :: q < NF -> c = fcell[q]; if :: fslot[q] == s + 1 -> end_fences(s, c) :: else fi; q++
  :: else -> break
  od;
  q = 0; c = 0
}

inline bury(s)
{
#ifdef FENCEFIRST
  bury_fences(s);
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
                 wst[IX(q)] = PAD; wslot[IX(q)] = NOBODY; disown(holder[s])
            :: else
            fi;
            q = q + wlen[IX(q)]
       fi }
  :: else -> break
  od;
#ifndef FENCEFIRST
  bury_fences(s);
#endif
  q = 0
}

proctype Undertaker()
{
  byte q, z, s, f, c;
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

inline forget()                                         /* what was loaded, before it is loaded again: fewer states */
{
  p = 0; ol = 0; os = 0; osl = 0; oln = 0; r = 0; need = 0; ispad = false; keep = NOBODY
}

proctype Producer(byte id)
{
  byte p, need, sz, j, i, ol, os, osl, oln, s, r, f, fs, fc, fl, fn, z, keep, c;
  bool ispad, won, met;
  atomic {
    if
    :: mutex[0] == 0 -> s = 0
#if NS > 1
    :: mutex[1] == 0 -> s = 1
#endif
    fi;
    mutex[s] = id + 1; holder[s] = id };
next:
#ifdef RUNS
  if :: i == (id == 0 -> 1 : K) -> goto finish :: else fi;
  sz = (id == 0 -> 2 : 1);
#else
  if :: i == K -> goto finish :: else fi;
#ifdef ONECELL
  sz = 1;
#else
  if :: sz = 1 :: sz = 2 fi;
#endif
#endif
retry:
  p = tail;
  d_step { ol = wlap[IX(p)]; os = wst[IX(p)]; osl = wslot[IX(p)]; oln = wlen[IX(p)] };
  if
  :: ol == LAP(p) -> d_step { if :: tail == p -> tail = p + oln :: else fi; forget() }; goto retry
  :: ol > LAP(p) -> d_step { forget() }; goto retry
  :: else
  fi;
#ifndef FENCELOADED
  r = released;
#endif
  if
  :: IX(p) + sz > CAP -> ispad = true; need = CAP - IX(p)
  :: else -> ispad = false; need = sz
  fi;
  f = 0; keep = NOBODY; met = false;
  if
  :: nonces == 0                                          /* nobody has fenced yet: the flag `fenced` */
  :: else ->
    do
    :: f < NF ->
       d_step { fs = fslot[f]; fc = fcell[f]; fl = flen[f]; fn = fnonce[f] };
       if
       :: fs != 0 && IX(p) < fc + fl && fc < IX(p) + need ->
            if
            :: IS_OVER(fc, fs) -> drop(f, fs, fc, fl, fn)
            :: else ->
                 ispad = true; met = true;
                 if :: fc == IX(p) -> need = fl; keep = fs - 1 :: else -> need = fc - IX(p) fi
            fi
       :: else
       fi;
       f++
    :: else -> break
    od
  fi;
  f = 0; fs = 0; fc = 0; fl = 0; fn = 0;
#ifdef FENCELOADED
  r = released;
#endif
#ifdef NOSLOT
  keep = NOBODY;
#endif
  if :: met && !FITS -> met = false; FITS; goto retry :: else -> met = false fi;      /* or we pad for ever */
  if
  :: p + need > r + CAP -> (tail != p || released != r); d_step { forget() }; goto retry
  :: else
  fi;
  atomic {                                              /* the claim */
    won = (wlap[IX(p)] == ol && wst[IX(p)] == os && wslot[IX(p)] == osl && wlen[IX(p)] == oln);
    if
    :: won ->
         wlap[IX(p)] = LAP(p); wlen[IX(p)] = need;
         if
         :: ispad -> wst[IX(p)] = PAD; wslot[IX(p)] = keep
         :: else ->
              wst[IX(p)] = CLAIMED; wslot[IX(p)] = s;
              z = 0;
              do
              :: z < need -> assert(own[IX(p + z)] == 0); own[IX(p + z)] = id + 1; z++
              :: else -> break
              od;
              z = 0
         fi
    :: else
    fi;
    if :: won -> ol = 0; os = 0; osl = 0; oln = 0; r = 0; keep = NOBODY :: else -> forget() fi };
  if :: !won -> goto retry :: else fi;
  if :: ispad :: else -> MAYSTOP fi;
  if
  ORDIE
  :: d_step { if :: tail == p -> tail = p + need :: else fi; need = 0 }
  fi;
  if :: ispad -> goto retry :: else fi;
  MAYSTOP;
  atomic {
    j = 0;
    do :: j < sz -> assert(own[IX(p + j)] == id + 1); data[IX(p + j)] = p + j / FIRST * FIRST; j++ :: else -> break od;
    j = 0 };
#ifdef RUNS
  if
  :: sz > FIRST -> atomic {                             /* the second frame's word */
       assert(own[IX(p + FIRST)] == id + 1);
       wlap[IX(p + FIRST)] = LAP(p); wst[IX(p + FIRST)] = COMMITTED;
       wslot[IX(p + FIRST)] = s; wlen[IX(p + FIRST)] = sz - FIRST }
  :: else
  fi;
#endif
  if
  ORDIE
  :: atomic {                                           /* the commit */
       won = (WORD_IS(p, CLAIMED) && wslot[IX(p)] == s && wlen[IX(p)] == sz);
       if
       :: won ->
            wst[IX(p)] = COMMITTED; wlen[IX(p)] = FIRST; committed_at[p] = true; committed_at[p + sz - FIRST] = true;
            disown(id)
       :: else
       fi }
  fi;
  if
  :: won -> d_step { i++; ok_count = ok_count + sz / FIRST; p = 0; won = false }; goto next
  :: else ->                                            /* cancelled: say PAD, publish again */
       MAYSTOP;
       if
       ORDIE
       :: atomic {
            won = (WORD_IS(p, CANCELLED) && wslot[IX(p)] == s);
            if :: won -> wst[IX(p)] = PAD; wslot[IX(p)] = NOBODY; disown(id) :: else fi }
       fi;
       if
       :: won
       :: else ->                                       /* fenced meanwhile */
            if
            ORDIE
            :: assert(wst[IX(p)] == PAD && wslot[IX(p)] == s); c = IX(p)
            fi;
            end_fences(s, c); c = 0
       fi;
       p = 0; goto retry
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
            od;
            j = 0 };
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
     fi;
     d_step { l = 0; s = 0; sl = 0; n = 0; intact = false }
  od
}

#ifdef FENCESHORT
#define FENCED(n) 1
#else
#define FENCED(n) (n)
#endif
#define AT_RELEASED(state) (released < journaled && wst[IX(released)] == state)
/* The second may die here, and never does the rest. */
#define MAYVANISH if :: d_step { me == 1 && rdeaths < RDEATHS -> rdeaths++ }; goto gone :: true fi
proctype Keeper()
{
  byte j;
end:
  do
  :: atomic { WORD_IS(journaled, COMMITTED) ->
       assert(committed_at[journaled]);
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
  :: atomic { WORD_IS(journaled, CLAIMED) && (HANGS(wslot[IX(journaled)]) || cancels < KCANCELS) ->
       if :: HANGS(wslot[IX(journaled)]) :: else -> cancels++ fi;
       wst[IX(journaled)] = CANCELLED }
#endif
  :: atomic { tail > journaled && wlap[IX(journaled)] != LAP(journaled) -> assert(false) }
  od
}

proctype Releaser(byte me)
{
  byte r, l, s, n, f, q, fn;
end:
  do
  :: atomic { AT_RELEASED(COMMITTED) || AT_RELEASED(PAD) -> released = released + wlen[IX(released)] }
#ifndef NOFENCE
  :: atomic { AT_RELEASED(CANCELLED) -> r = IX(released); l = wlap[r]; s = wslot[r] + 1; n = FENCED(wlen[r]) };
#ifdef ENTRYLATE
     atomic { if :: wlap[r] == l && wst[r] == CANCELLED && wslot[r] == s - 1 -> wst[r] = PAD :: else -> goto next fi };
#endif
     /* the entry: the one that names it already, else a free one, else one that is over */
     d_step {
       q = NF; f = 0;
       do :: f < NF -> if :: fslot[f] != 0 && IS_OVER(fcell[f], fslot[f]) -> q = f :: else fi; f++ :: else -> break od;
       f = 0;
       do :: f < NF -> if :: fslot[f] == 0 -> q = f :: else fi; f++ :: else -> break od;
       f = 0;
       do :: f < NF -> if :: fslot[f] == s && fcell[f] == r -> q = f :: else fi; f++ :: else -> break od;
       f = q; q = 0;
       if
       :: f < NF -> nonces++; fn = nonces; fslot[f] = s; fcell[f] = r; flen[f] = n; fnonce[f] = fn
       :: else
       fi };
     if :: f == NF -> goto next :: else fi;
     MAYVANISH;
#ifndef ENTRYLATE
     atomic {
       if
       :: wlap[r] == l && wst[r] == CANCELLED && wslot[r] == s - 1 -> wst[r] = PAD
       :: else ->
#ifdef TAKEBACK
            drop(f, s, r, n, fn)
#endif
       fi };
     MAYVANISH;
#endif
     if :: IS_OVER(r, s) -> drop(f, s, r, n, fn) :: else fi;
next:
     skip; d_step { r = 0; l = 0; s = 0; n = 0; f = 0; fn = 0 }
#endif
  od;
gone:
  skip
}

byte x, total;
init
{
  atomic {
    x = 0; do :: x < NT -> run Producer(x); x++ :: else -> break od;
#ifndef NOREADER
    run Reader();
#endif
    run Keeper(); run Undertaker();
    x = 0; do :: x < NR -> run Releaser(x); x++ :: else -> break od };
  timeout;
#if STOPS > 0
  /* everybody who can move has: whoever is stopped stands alone, and the journal is complete */
  x = 0;
  do
  :: x < NT -> assert(done[x] || dead[x] || stopped[x] || NS < NT
#ifndef ONECELL
       || fslot[0] != 0 || fslot[NF - 1] != 0
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
  x = 0; do :: x < NF -> assert(fslot[x] == 0 || IS_OVER(fcell[x], fslot[x])); x++ :: else -> break od;
  assert(released == tail && journaled == tail);
  x = 0; do :: x < MAXP -> if :: committed_at[x] -> total++ :: else fi; x++ :: else -> break od;
#ifndef NOREADER
  assert(total == seen);
#endif
  assert(ok_count == total)
}
