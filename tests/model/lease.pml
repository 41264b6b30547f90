/* lease.pml: the lease of a group's partition: burial, takeover, handover, fencing, and the low that its holder publishes.
 *
 * Modelled. M members share P partitions of N events each. Per partition: lease = {epoch, slot}, cursor = {position, epoch},
 * NP entries = {state, position, epoch}, low: a word each; every store but that of low is a CAS of the whole word. A member has
 * per partition a lease thread (take, run, handover, low) and a handler thread beside it (finish).
 *   death      the member is killed at any step (CRASHES). Who sees a lease of the dead frees it: load {epoch, slot}, see the
 *              slot dead, CAS to {epoch, 0}. The undertaker frees them all, then the slot is used again by a new member
 *              (REBIRTHS; with 0 the undertaker is stopped)
 *   takeover   of a free lease by CAS {epoch, 0} -> {epoch + 1, me}; of one whose lease thread hangs (FENCES) by CAS
 *              {epoch, him} -> {epoch + 1, me}: he wakes as a zombie at any step, and may take it again. Then: stamp the cursor,
 *              then all entries, then read them: drop what lies at or beyond the cursor, RUN -> WAIT
 *   handover   CAS to {epoch, 0} with nothing in RUN (HANDOVERS)
 * low = min(cursor, entries), cursor first, word by word, then a plain store: by the holder, and late by a zombie. It is
 * stored when the shared word differs from what is so.
 * Asserted: never two holders of a partition that are alive and not fenced, nor two such handlers of one event; an event that
 * is finished is not run again; low is never above an event that is not finished; in the end all are finished and low is
 * at the end.
 *
 * Left out: keys, followers, attempts, dead letters (pending.pml); fair shares; `released` and its generation (pin.pml,
 * release.pml); slots' mutexes (dead.pml, slots.pml); epochs that wrap; weak memory.
 *
 * A plain store of low is right only while the cursor never goes back: after a seek a zombie's late store is above what is
 * needed (-DSEEKS=1 must fail). With -DLOWEPOCH low is {position, epoch}, stamped at a takeover, stored by CAS: that passes.
 * Cursor before entries matters only if a takeover decides in the CAS that stamps (-DMERGED): -DWORDSFIRST passes.
 *
 * Without its rule each of these must fail:
 *   -DREADEARLY             P3   the entries are read before they are all stamped
 *   -DPLAINPEND             P3   an entry is stored without its epoch
 *   -DMERGED -DWORDSFIRST   P3   entries are stamped and judged before the cursor is stamped
 *   -DPENDFIRST             P5   low is read from the entries first: a zombie's is too high
 *   -DLOWCACHE              P5   low is stored when it differs from the holder's own last: a zombie's old one stays for ever
 *   -DSEEKS=1               P11  the cursor goes back, and low is a plain store
 *   -DDEADFIRST             B6   a helper sees the slot dead, then loads the lease: it frees a living one's
 *   -DHANDRUN               P3   a lease is handed over with something in RUN
 * Run pan with -E: who has nothing to do stands for ever.
 * [guards ONE-HOLDER] */
#ifndef P
#define P 1             /* partitions */
#endif
#ifndef M
#define M 2             /* members */
#endif
#ifndef N
#define N 2             /* events of a partition */
#endif
#ifndef NP
#define NP 2            /* entries of a partition */
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef REBIRTHS
#define REBIRTHS CRASHES
#endif
#ifndef FENCES
#define FENCES 1
#endif
#ifndef HANDOVERS
#define HANDOVERS 0
#endif
#ifndef SEEKS
#define SEEKS 0
#endif
#define NONE  255
#define LIVES (CRASHES + 2)

#define EMPTY 0
#define TAKEN 1
#define RUN   2
#define WAIT  3

byte lease_epoch[P], lease_slot[P];                     /* one word; slot is member + 1, 0: free */
byte cursor[P], cursor_epoch[P];                        /* one word */
byte st[P * NP], pos[P * NP], ep[P * NP];               /* the entries' words */
byte low[P];
#ifdef LOWEPOCH
byte low_epoch[P];                                      /* one word with low */
#endif
byte alive[M];                                          /* which life of the slot; 0: the kernel says dead */

/* a member's private memory */
byte my[M * P];                                         /* epoch of the lease that it believes to hold, 0: none */
byte hand[M * P], hand_i[M * P], hand_epoch[M * P];      /* event + 1 in the partition's handler thread, and where */
#ifdef LOWCACHE
byte stored[M * P];
#endif

/* ghosts: what really happened */
byte lives[M];
bool lives_on[M * LIVES];                               /* alive[m] == life, for provided() */
bool fenced[M * P];                                     /* its belief is no longer right */
bool hand_fenced[M * P];
bool finished[P * N];
byte crashes, rebirths, fences, handovers, seeks;

#define E(i)      (p * NP + i)
#define H         (me * P + p)
#define MINE      my[H]
#define ANOTHERS  (lease_slot[p] != 0 && lease_slot[p] != me + 1)
#define LEASE_IS(e, s) (lease_epoch[p] == e && lease_slot[p] == s)
#if NP == 1
#define NEEDED(p) (st[p] != EMPTY && pos[p] < cursor[p] -> pos[p] : cursor[p])
#define IDLE(p)   (st[p] == EMPTY)
#else
#define LESS(a, b) ((a) < (b) -> (a) : (b))
#define POS(i)    (st[i] != EMPTY -> pos[i] : N)
#define NEEDED(p) LESS(cursor[p], LESS(POS(p * NP), POS(p * NP + 1)))
#define IDLE(p)   (st[p * NP] == EMPTY && st[p * NP + 1] == EMPTY)
#endif
#define COMPLETE(p) (cursor[p] == N && IDLE(p) && low[p] == N)

inline forget()
{
  hand[H] = 0; hand_i[H] = 0; hand_epoch[H] = 0; hand_fenced[H] = false; i = 0
}

/* the moment at which a lease becomes mine */
inline becomes_mine()
{
  k = 0;
  do
  :: k < M -> assert(k == me || my[k * P + p] == 0 || alive[k] == 0 || fenced[k * P + p]); k++
  :: else -> break
  od;
  k = 0;
  lease_epoch[p] = e + 1; lease_slot[p] = me + 1; MINE = e + 1; fenced[H] = false
}

inline give_up()
{
  atomic { if :: !LEASE_IS(MINE, me + 1) -> MINE = 0; fenced[H] = false :: else fi; goto next }
}

inline stamp_cursor()
{
  atomic {
    if
    :: cursor_epoch[p] < MINE -> cursor_epoch[p] = MINE
    :: cursor_epoch[p] > MINE -> give_up()
    :: else
    fi }
}

/* what a takeover makes of an entry that it has read */
inline judge()
{
  if
  :: st[E(i)] != EMPTY && pos[E(i)] >= cursor[p] -> st[E(i)] = EMPTY
  :: st[E(i)] == RUN && pos[E(i)] < cursor[p] -> st[E(i)] = WAIT
  :: else
  fi
}

inline stamp_entries()
{
  i = 0;
  do
  :: i < NP ->
     atomic {
       if
       :: ep[E(i)] < MINE -> ep[E(i)] = MINE;
#ifdef MERGED
            judge()
#endif
       :: ep[E(i)] > MINE -> give_up()
       :: else
       fi;
       i++ }
  :: else -> break
  od;
  i = 0
}

inline read_entries()
{
#ifndef MERGED
  i = 0;
  do
  :: i < NP ->
     atomic {
       if :: ep[E(i)] > MINE -> give_up() :: else fi;
       judge();
       i++ }
  :: else -> break
  od;
  i = 0
#else
  skip
#endif
}

inline take_over()
{
#ifdef LOWEPOCH
  atomic { if :: low_epoch[p] < MINE -> low_epoch[p] = MINE :: else fi };
#endif
#ifdef WORDSFIRST
  stamp_entries();
  stamp_cursor();
  read_entries()
#elif defined(READEARLY)
  stamp_cursor();
  read_entries();
  stamp_entries()
#else
  stamp_cursor();
  stamp_entries();
  read_entries()
#endif
}

inline read_low_entries()
{
  i = 0;
  do
  :: i < NP -> atomic { if :: st[E(i)] != EMPTY && pos[E(i)] < l -> l = pos[E(i)] :: else fi; i++ }
  :: else -> break
  od;
  i = 0
}

proctype Member(byte me; byte life; byte p) provided (lives_on[me * LIVES + life])
{
  byte e, s, i, c, k, l;
next:
  atomic { e = 0; s = 0; i = 0; c = 0; k = 0; l = 0;
    if
    :: MINE == 0 && !COMPLETE(p) && lease_slot[p] == 0 -> e = lease_epoch[p]; goto take
    :: MINE == 0 && !COMPLETE(p) && ANOTHERS && alive[lease_slot[p] - 1] != 0 && fences < FENCES ->
         e = lease_epoch[p]; s = lease_slot[p]; goto fence
#ifdef DEADFIRST
    :: ANOTHERS && alive[lease_slot[p] - 1] == 0 -> s = lease_slot[p]; goto bury
#else
    :: ANOTHERS && alive[lease_slot[p] - 1] == 0 -> e = lease_epoch[p]; s = lease_slot[p]; goto bury
#endif
    :: MINE != 0 && !LEASE_IS(MINE, me + 1) -> give_up()
    :: MINE != 0 && cursor_epoch[p] == MINE && cursor[p] < N && (st[E(0)] == EMPTY || st[E(NP - 1)] == EMPTY) ->
         c = cursor[p]; i = (st[E(0)] == EMPTY -> 0 : NP - 1); goto work
    :: MINE != 0 && hand[H] == 0 && ep[E(0)] == MINE && (st[E(0)] == TAKEN || st[E(0)] == WAIT) -> i = 0; goto run_it
#if NP > 1
    :: MINE != 0 && hand[H] == 0 && ep[E(1)] == MINE && (st[E(1)] == TAKEN || st[E(1)] == WAIT) -> i = 1; goto run_it
#endif
#ifdef LOWCACHE
    :: MINE != 0 && stored[H] != NEEDED(p) -> goto publish_low
#else
    :: MINE != 0 && low[p] != NEEDED(p) -> goto publish_low
#endif
#ifdef HANDRUN
    :: MINE != 0 && handovers < HANDOVERS && !COMPLETE(p) -> goto hand_over
#else
    :: MINE != 0 && handovers < HANDOVERS && !COMPLETE(p) &&
       (hand[H] == 0 || hand_epoch[H] != MINE) -> goto hand_over
#endif
#if SEEKS > 0
    :: MINE != 0 && seeks < SEEKS && cursor_epoch[p] == MINE && cursor[p] == N && IDLE(p) -> seeks++; goto seek
#endif
    fi };
take:
  atomic { if :: LEASE_IS(e, 0) -> becomes_mine() :: else -> goto next fi };
  take_over();
  goto next;
fence:
  atomic {
    if
    :: LEASE_IS(e, s) && alive[s - 1] != 0 && fences < FENCES -> fences++; fenced[(s - 1) * P + p] = true;
         hand_fenced[(s - 1) * P + p] = true;
         becomes_mine()
    :: else -> goto next
    fi };
  take_over();
  goto next;
bury:
#ifdef DEADFIRST
  atomic { e = lease_epoch[p]; if :: lease_slot[p] != s -> goto next :: else fi };
#endif
  atomic { if :: LEASE_IS(e, s) -> lease_slot[p] = 0 :: else fi; goto next };
work:                                                   /* take: the entry, then the cursor */
#ifdef PLAINPEND
  atomic { st[E(i)] = TAKEN; pos[E(i)] = c; ep[E(i)] = MINE };
#else
  atomic { if :: ep[E(i)] == MINE && st[E(i)] == EMPTY -> st[E(i)] = TAKEN; pos[E(i)] = c :: else -> give_up() fi };
#endif
  atomic { if :: cursor_epoch[p] == MINE && cursor[p] == c -> cursor[p] = c + 1 :: else -> give_up() fi; goto next };
run_it:
  atomic {
    if
    :: ep[E(i)] == MINE && (st[E(i)] == TAKEN || st[E(i)] == WAIT) ->
         st[E(i)] = RUN; hand[H] = pos[E(i)] + 1; hand_i[H] = i; hand_epoch[H] = MINE; hand_fenced[H] = fenced[H];
         if
         :: !fenced[H] -> assert(!finished[p * N + pos[E(i)]]);
              k = 0;
              do
              :: k < M -> assert(k == me || hand[k * P + p] != hand[H] || hand_fenced[k * P + p]); k++
              :: else -> break
              od
         :: else
         fi
    :: else -> give_up()
    fi;
    goto next };
publish_low:
#ifdef PENDFIRST
  l = N;
  read_low_entries();
  atomic { if :: cursor[p] < l -> l = cursor[p] :: else fi };
#else
  l = cursor[p];
  read_low_entries();
#endif
  atomic {
#ifdef LOWEPOCH
    if :: low_epoch[p] == MINE -> low[p] = l :: else fi;
#else
    low[p] = l;
#endif
#ifdef LOWCACHE
    stored[H] = l;
#endif
    k = 0; do :: k < low[p] -> assert(finished[p * N + k]); k++ :: else -> break od;
    goto next };
hand_over:
  atomic { if :: LEASE_IS(MINE, me + 1) -> lease_slot[p] = 0; handovers++ :: else fi; give_up() };
#if SEEKS > 0
seek:                                                   /* back to 0: low first; the generation of `released` is pin.pml's */
#ifdef LOWEPOCH
  atomic { if :: low_epoch[p] == MINE -> low[p] = 0 :: else -> give_up() fi };
#else
  low[p] = 0;
#endif
  atomic {
    if
    :: cursor_epoch[p] == MINE && cursor[p] == N ->
         assert(low[p] == 0);
         cursor[p] = 0; k = 0; do :: k < N -> finished[p * N + k] = false; k++ :: else -> break od
    :: else
    fi;
    goto next }
#endif
}

inline begin(m)
{
  lives[m]++; alive[m] = lives[m]; lives_on[m * LIVES + lives[m]] = true;
  run Member(m, lives[m], 0);
#if P > 1
  run Member(m, lives[m], 1)
#endif
}

proctype Handler(byte me; byte p)
{
  byte i;
  do
  :: atomic { hand[H] != 0 ->
       i = hand_i[H];
       if
       :: ep[E(i)] == hand_epoch[H] && st[E(i)] == RUN && pos[E(i)] == hand[H] - 1 ->
            assert(!finished[p * N + pos[E(i)]]);
            finished[p * N + pos[E(i)]] = true; st[E(i)] = EMPTY
       :: else                                          /* EFENCED */
       fi;
       forget() }
  od
}

/* the kernel kills; the undertaker frees all leases of the dead, then the slot */
proctype Death(byte me)
{
  byte p, e, i;
  do
  :: atomic { alive[me] != 0 && crashes < CRASHES && (my[me * P] != 0 || my[me * P + P - 1] != 0) ->
       crashes++; lives_on[me * LIVES + alive[me]] = false; alive[me] = 0; p = 0;
       do
       :: p < P -> MINE = 0; fenced[H] = false; forget();
#ifdef LOWCACHE
            stored[H] = 0;
#endif
            p++
       :: else -> break
       od;
       p = 0 };
#if REBIRTHS == 0
     break                                              /* the undertaker is stopped: helpers do */
#else
     do
     :: p < P ->
        atomic { if :: lease_slot[p] == me + 1 -> e = lease_epoch[p] :: else -> e = NONE fi };
        atomic { if :: LEASE_IS(e, me + 1) -> lease_slot[p] = 0 :: else fi; p++; e = 0 }
     :: else -> break
     od;
     if
     :: atomic { rebirths < REBIRTHS -> rebirths++; p = 0; begin(me); p = 0 }
     :: true -> break
     fi
#endif
  od
}

byte x;
init
{
  atomic {
    x = 0;
    do
    :: x < M ->
         begin(x); run Death(x);
         run Handler(x, 0);
#if P > 1
         run Handler(x, 1);
#endif
         x++
    :: else -> break
    od;
    x = 0 };
  timeout;                                              /* nothing can move any more: nobody alive has anything to do */
  x = 0;
  do :: x < P * N -> assert(finished[x]); x++ :: else -> break od;
  x = 0;
  do :: x < P -> assert(COMPLETE(x)); x++ :: else -> break od
}
