/* keeper.pml: two keepers of one file, the first of which may sleep at any step and is deposed by the second; fdatasync may fail.
 *
 * Modelled. A ring of CAP cells, an event a cell; `released` passes nothing that is not synced (a log whose readers wait for the disk),
 * or, with -DMEMORY, that is not journaled: then what a failed sync loses may be gone from the ring, and is told by not_synced. The
 * keeper moves `released`, and so does a producer that needs room. With -DDIES the first keeper may be killed at any step; with -DCUT the
 * power may be cut at any step.
 * journaled and synced are {position, term}: a keeper first puts its term there (unless a later one stands there), then starts at
 * synced; it moves them by CAS of its own term. Copy out of the ring into private memory, look at `released`, write the copy. A
 * file is an inode with a page cache and a disk: fdatasync brings all of the cache to disk; or fails, and any page that it should have
 * brought there may be gone, back to what the disk has; the kernel tells it once to each descriptor that was open (errseq), so to a keeper
 * of the same file, too, and not to who opens it later. Then a draft is made (a second inode), the term looked at, everything
 * copied into it and synced, and it takes the name. A keeper of a later term takes drafts away after it has stamped.
 * Asserted: what lies below synced and was not told as lost (acknowledged) stands on the disk of the file that has the name, whenever
 * synced or the name moves, at a cut, and at the end; all of it is written at the end, as nobody waits for ever.
 *
 * Left out: several files, marks, the ring's words and claims (slots.pml), three keepers, a cut of the power between two writes
 * of one fdatasync (tests/crash/test_power.c). Run pan with -E: keepers wait for work.
 *
 * [guards DURABLE] Without its rule (J4) each of these must fail.
 *   -DINPLACE        written from the ring's cell itself, after the look at `released`
 *   -DNOCHECK        `released` is not looked at after the copy
 *   -DNOTERM         the words carry no term
 *   -DFROMJOURNALED  a new keeper starts at journaled, not at synced
 *   -DRETRYSYNC      after a failed fdatasync it is called again, and believed
 *   -DNOSWEEP        drafts of the one before stay
 *   -DDRAFTLATE      the term is looked at before the draft is made
 *   -DNOTELL         (with -DMEMORY) what is lost is not told
 *   -DSTAMPLATE      a term is stamped without looking whether a later one stands there
 */
#ifndef CAP
#define CAP 2
#endif
#ifndef NE
#define NE 3
#endif
#ifndef FAILS
#define FAILS 1
#endif
#define INODES 4

#ifdef MEMORY
#define LIMIT jpos
#else
#define LIMIT spos
#endif

typedef inode { byte cache[NE]; byte disk[NE] }

byte cell[CAP];
byte tail, released;
byte jpos, jterm, spos, sterm;
byte named;                             /* which inode has the name */
inode file[INODES];
byte n_inodes = 1, fails;
byte errors[INODES];                    /* that each inode has had */
bit is_draft[INODES];                   /* it waits for the name */
byte not_synced;                        /* what lies below may be lost: told before synced passes it */
bit acked[NE];                          /* synced has passed it, and it was not told so */
bit killed;                             /* the first keeper */

inline durable()
{
  atomic {
    k = 0;
    do
    :: k < spos -> assert(!acked[k] || file[named].disk[k] == k + 1); k++
    :: else -> break
    od;
    k = 0
  }
}

proctype Producer()
{
  do
  :: tail < NE ->
     do
     :: tail < released + CAP -> break
     :: atomic { tail >= released + CAP && LIMIT > released -> released = LIMIT }
     od;
     atomic { cell[tail % CAP] = tail + 1; tail++ }
  :: else -> break
  od
}

/* The event at q: out of the ring, or, where that has it no more, out of the file. */
inline fetch(q)
{
  b = cell[q % CAP];
#ifndef NOCHECK
  if
  :: released > q ->
     b = file[fd].cache[q];
#ifdef MEMORY
     if
     :: b != q + 1 ->                   /* lost: neither the ring nor the file has it */
        b = 0;
#ifndef NOTELL
        atomic { if :: not_synced < q + 1 -> not_synced = q + 1 :: else fi }
#endif
     :: else
     fi
#endif
  :: else
  fi
#endif
}

proctype Keeper(byte id)
{
  byte p, b, k, q, fd, ours, seen;
  bool failed;
#ifdef DIES
  {
#endif
#ifdef NOTERM
  p = spos;
#else
#ifdef STAMPLATE
  atomic { jterm = id };
  atomic { sterm = id; p = spos };
#else
  atomic { if :: jterm > id -> goto deposed :: else -> jterm = id fi };
  atomic { if :: sterm > id -> goto deposed :: else -> sterm = id; p = spos fi };
#endif
#endif
#ifdef FROMJOURNALED
  p = jpos;
#endif
#ifndef NOSWEEP
  atomic { is_draft[1] = 0; is_draft[2] = 0; is_draft[3] = 0 };
#endif
  atomic { fd = named; seen = errors[fd] };
end:
  do
  :: p < tail && !failed ->             /* append one */
#ifdef INPLACE
     b = (released <= p); if :: b -> file[fd].cache[p] = cell[p % CAP] :: else fi;
#else
     fetch(p); file[fd].cache[p] = b;
#endif
     p++;
     atomic {
       if
#ifndef NOTERM
       :: jterm != id -> goto deposed
#endif
       :: else -> if :: p > jpos -> jpos = p :: else fi
       fi
     }
  :: p > spos && !failed ->             /* fdatasync */
     atomic {
       if
       :: errors[fd] == seen -> k = 0; do :: k < NE -> file[fd].disk[k] = file[fd].cache[k]; k++ :: else -> break od
       :: errors[fd] != seen -> seen = errors[fd]; failed = true
       :: fails < FAILS -> fails++; errors[fd]++; seen = errors[fd]; failed = true; k = 0;
          do
          :: k < NE -> if :: file[fd].cache[k] = file[fd].disk[k] :: skip fi; k++
          :: else -> break
          od
       fi;
       k = 0
     };
#ifdef RETRYSYNC
     if :: failed -> failed = false; atomic { k = 0; do :: k < NE -> file[fd].disk[k] = file[fd].cache[k]; k++ :: else -> break od; k = 0 } :: else fi;
#endif
     if
     :: failed ->
#if defined(MEMORY) && !defined(NOTELL)
        atomic { if :: not_synced < released -> not_synced = released :: else fi }
#else
        skip
#endif
     :: else ->
moved:  atomic {
          if
#ifndef NOTERM
          :: sterm != id -> goto deposed
#endif
          :: else ->
             k = spos;
             do
             :: k < p -> acked[k] = (k >= not_synced); k++
             :: else -> break
             od;
             k = 0;
             if :: p > spos -> spos = p :: else fi
          fi
        };
        durable();
        atomic { if :: LIMIT > released -> released = LIMIT :: else fi }
     fi
  :: failed ->                          /* the file is made anew */
#ifdef DRAFTLATE
     if :: sterm != id -> goto deposed :: else fi;
#endif
     atomic { n_inodes < INODES -> ours = n_inodes; n_inodes++; is_draft[ours] = 1 };
#ifndef DRAFTLATE
#ifndef NOTERM
     if :: sterm != id -> goto deposed :: else fi;
#endif
#endif
     q = 0;
     do
     :: q < p ->
        if :: q < spos -> b = file[fd].cache[q] :: else -> fetch(q) fi;
        file[ours].cache[q] = b; q++
     :: else -> break
     od;
     atomic { k = 0; do :: k < NE -> file[ours].disk[k] = file[ours].cache[k]; k++ :: else -> break od; k = 0 };
     atomic {
       if
#ifndef NOSWEEP
       :: !is_draft[ours] -> goto end   /* it has been taken away: by a later term; or by one before that has slept: again */
#endif
       :: else -> named = ours; is_draft[ours] = 0
       fi
     };
     durable();
     fd = ours; seen = errors[fd]; failed = false;
     goto moved
  od;
deposed:
  skip
#ifdef DIES
  } unless { id == 1 && killed }
#endif
}

#ifdef CUT
proctype Cut()                          /* of the power, at any step */
{
  byte k;
  durable()
}
#endif

#ifdef DIES
proctype Killer()
{
  if
  :: killed = 1
  :: skip
  fi
}
#endif

byte x;
init
{
  atomic {
    run Producer();
    run Keeper(1);
    run Keeper(2);
#ifdef DIES
    run Killer();
#endif
#ifdef CUT
    run Cut();
#endif
    skip
  };
  timeout;
  assert(tail == NE && spos == NE);
  x = 0;
  do
  :: x < NE ->
     assert(!acked[x] || file[named].disk[x] == x + 1);
     assert(fails > 0 || acked[x]);
     x++
  :: else -> break
  od
}
