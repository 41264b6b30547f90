/* pending.pml: one partition of a group: take, run, finish, followers of a held key, dead letters, takeover, `low`.
 *
 * Modelled. NE events, event e has key e % KEYS. cursor = {position, epoch}; NP entries, each ONE word {state, position, epoch,
 * attempts, followers}; each store to them is a CAS that carries the lease epoch. A member is a process: a lease thread, which
 * alone takes (EMPTY -> RUN with attempt 1, then the cursor; or TAKEN, the cursor, DEAD: of what no handler may get, UNFITS),
 * skips, scans, hands out, times out and publishes dead letters, and NH handler threads beside it, which only CAS
 * TAKEN or WAIT -> RUN (attempts + 1) and RUN -> EMPTY, SCAN, WAIT or DEAD. Outcomes: OK, RETRY, REJECT, RELEASE. What is OK
 * the lease thread may finish itself, and take the next event, by one CAS of the word (the chain): where it is at its first
 * attempt, nobody waits behind it, and the other entries are empty; then the cursor. The
 * holder's process may be killed at any step (CRASHES); its lease is then free at once. A hung holder may be fenced (FENCES):
 * it runs on as a zombie, and may take the lease again. An entry may be fenced by its own lease thread (TIMEOUTS).
 * Takeover: cursor stamped, then each word; what it finds in
 *   RUN    stays RUN: nobody of this epoch runs it, so it is to be run alone: RUN -> SOLO, on the attempt that was charged
 *   SOLO   died alone, if the lease was free and the word is of the epoch just before: DEAD (crashed) if its attempts are
 *          spent, else RUN with one more; if its holder was fenced, or that can not be told, RUN as it is
 * Asserted: nothing runs twice at once or again after its end, unless its first runner was fenced; order per key; a timed-out
 * handler changes nothing; a dead letter as failed had MAXA failures, as crashed it was alone in its process each time; in the
 * end each event is finished or has a dead letter, never both; with LOW: nothing below a keeper's low is still needed.
 *
 * Left out: the lease word itself, burial, handover, who stores low (lease.pml); several partitions in one process (alone
 * means alone in the process); not-before, DEFER, the outage guard, park, seek; fields beside the words; a full dead letter
 * ring; narrow epochs, attempts and positions (P6); power loss (P10); weak memory.
 *
 * Without its rule each of these must fail:
 *   -DEMPTYFIRST       P1    finish empties the entry, then looks for followers: a crash between loses them
 *   -DFLAGLATE         P2    the followers bit is set after the cursor has moved
 *   -DHANDLERSCANS     P2    a handler thread scans, beside a moving cursor   (KEYS=1)
 *   -DPLAINCURSOR      P3    the cursor is stored without its epoch
 *   -DPLAINPEND        P3    an entry is stored without its epoch
 *   -DKEEPAHEAD        P4    a new holder keeps entries at or beyond the cursor
 *   -DCURSORFIRST      P4    the cursor moves before the entry is stored
 *   -DGOESON           P4    a holder whose CAS of the cursor fails runs the entry that it has stored for it
 *   -DCHAINCURSOR      P4    the chain moves the cursor before it stores the word
 *   -DCHAINGOESON      P4    a chain whose CAS of the cursor fails runs its event
 *   -DCHAINFOLLOWERS   P2    the chain goes on in spite of followers   (KEYS=1)
 *   -DPENDFIRST        P5    low is read from the entries first
 *   -DCHARGEALL        P7    who died in company is charged for it
 *   -DONESOLO          P7    waiting to be run alone and running alone are one state: dying while it waits counts as crashed
 *   -DSOLOBESIDE       P7    a SOLO runs beside others
 *   -DFENCEDCRASHED    P7    a SOLO of a fenced holder counts as crashed   (NM=3)
 *   -DRELEASECHARGES   P7    RELEASE charges an attempt
 *   -DNOATTEMPT        P8    a finish does not compare attempts
 *   -DTIMEOUTFREE      P8    a timeout charges nothing (as RELEASE, or in an outage): the next run looks like the late one
 *   -DNODEAD           P10   REJECT publishes its dead letter from RUN: the handler is called again after a crash
 *   -DDEADLATE         P10   the entry is emptied, then its dead letter is published
 * Run pan with -E: threads of the dead, and handlers without work, stand for ever.
 * [guards ORDER] */
#ifndef NE
#define NE 3            /* events */
#endif
#ifndef KEYS
#define KEYS 2
#endif
#ifndef NM
#define NM 2            /* members */
#endif
#ifndef NH
#define NH 2            /* handler threads of a member */
#endif
#ifndef MAXA
#define MAXA 2          /* attempts */
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef FENCES
#define FENCES 0
#endif
#ifndef TIMEOUTS
#define TIMEOUTS 0
#endif
#ifndef RETRIES
#define RETRIES 0
#endif
#ifndef REJECTS
#define REJECTS 0
#endif
#ifndef RELEASES
#define RELEASES 0
#endif
#ifndef UNFITS
#define UNFITS 0
#endif
#define NP     2        /* entries */
#define KEY(e) ((e) % KEYS)
#define NONE   255

#define EMPTY 0
#define TAKEN 1         /* no handler may get it; the cursor has perhaps not moved yet */
#define RUN   2         /* in a handler, or about to be, the cursor has perhaps not moved yet; found at a takeover: to be run alone */
#define SOLO  3         /* in a handler, alone */
#define WAIT  4         /* to be tried again, or a follower whose turn it is */
#define SCAN  5         /* done; its followers are still to be found */
#define DEAD  6         /* its dead letter is still to be published */

byte lease, epoch;                                      /* one word: {member + 1, epoch}; 0: free */
byte cursor, cursor_epoch;                              /* one word */
byte st[NP], pos[NP], ep[NP], att[NP];                  /* the entries' words ... */
bool fol[NP];                                           /* ... and their followers bits */
byte low;

/* a member's private memory: what each handler thread has been given; job_epoch 0: it is idle */
byte job_epoch[NM * NH], job_entry[NM * NH], job_pos[NM * NH], job_att[NM * NH];
bool job_solo[NM * NH], job_new[NM * NH];               /* new: its word is RUN already */

/* ghosts: what really happened */
bool dead[NM], started[NM];
byte crashes, fences, timeouts, retries, rejects, releases, unfits;
byte running[NM * NH];                                  /* event + 1 in the handler */
bool timed_out[NM * NH];
bool finished[NE];
byte letters[NE], failures[NE];

#define SETTLED(e) (finished[e] || letters[e] > 0)
#define HOLDS      (lease == me + 1 && epoch == my)

/* the word as the handler thread left it when it began; the followers bit may have been set meanwhile */
#ifdef NOATTEMPT
#define SAME_ATT   true
#else
#define SAME_ATT   (att[i] == a)
#endif
#define MY_RUN     (ep[i] == job_epoch[H] && pos[i] == job_pos[H] && SAME_ATT && st[i] == (job_solo[H] -> SOLO : RUN))
#define H          (me * NH + h)

inline job_ends()
{
  d_step { running[H] = 0; job_epoch[H] = 0; job_entry[H] = 0; job_pos[H] = 0; job_att[H] = 0; job_solo[H] = false;
           job_new[H] = false; timed_out[H] = false; i = 0; a = 0; e = 0; k = 0; won = false }
}

proctype Handler(byte me; byte h) provided (!dead[me])
{
  byte i, a, e, k;
  bool won;
  do
  :: atomic { job_epoch[H] != 0 && running[H] == 0 ->   /* begin */
       i = job_entry[H];
       won = job_new[H] ||
             (ep[i] == job_epoch[H] && pos[i] == job_pos[H] && att[i] == job_att[H] &&
              (job_solo[H] && st[i] == RUN || !job_solo[H] && (st[i] == TAKEN || st[i] == WAIT)));
       if
       :: !won -> job_ends()
       :: else ->
            e = job_pos[H];
            if
            :: job_new[H] -> a = job_att[H]             /* it does not look again: a fence is found when it is finished */
            :: else ->
#ifdef CHARGEALL
                 a = att[i] + 1;
#else
                 a = (job_solo[H] -> att[i] : att[i] + 1);
#endif
                 att[i] = a; st[i] = (job_solo[H] -> SOLO : RUN)
            fi;
            if
            :: job_epoch[H] == epoch && !timed_out[H] ->
                 assert(!SETTLED(e));
                 k = 0;
                 do
                 :: k < NM * NH -> assert(running[k] != e + 1 || job_epoch[k] != epoch || timed_out[k]); k++
                 :: else -> break
                 od;
                 k = 0;
                 do :: k < e -> assert(KEY(k) != KEY(e) || SETTLED(k)); k++ :: else -> break od;
                 k = 0
            :: else
            fi;
            running[H] = e + 1
       fi }
  :: atomic { running[H] != 0 ->                        /* OK */
       won = MY_RUN;
       if
       :: won ->
            assert(!timed_out[H]); assert(!SETTLED(e)); finished[e] = true;
#ifdef EMPTYFIRST
            st[i] = EMPTY; att[i] = 0
#elif defined(HANDLERSCANS)
            finished[e] = false
#else
            st[i] = (fol[i] -> SCAN : EMPTY); att[i] = 0
#endif
       :: else                                          /* EFENCED */
       fi };
#ifdef EMPTYFIRST
     atomic { k = e + 1; do :: k < cursor && KEY(k) != KEY(e) -> k++ :: else -> break od;
       if :: won && fol[i] && k < cursor && ep[i] == job_epoch[H] && st[i] == EMPTY -> st[i] = WAIT; pos[i] = k :: else fi };
#endif
#ifdef HANDLERSCANS
     if
     :: won ->
          atomic { k = e + 1; do :: k < cursor && KEY(k) != KEY(e) -> k++ :: else -> break od;
            if :: k == cursor -> k = NONE :: else fi; won = fol[i] };
          atomic {
            if
            :: MY_RUN && fol[i] == won -> finished[e] = true; att[i] = 0;
                 if :: k == NONE -> st[i] = EMPTY; fol[i] = false :: else -> st[i] = WAIT; pos[i] = k fi
            :: MY_RUN && fol[i] != won -> finished[e] = true; st[i] = SCAN; att[i] = 0          /* seen: look again */
            :: else
            fi }
     :: else
     fi;
#endif
     job_ends()
  :: atomic { running[H] != 0 && retries < RETRIES -> retries++;
       if
       :: MY_RUN -> assert(!timed_out[H]); failures[e]++;
            if :: a >= MAXA -> assert(failures[e] >= MAXA); st[i] = DEAD :: else -> st[i] = WAIT fi
       :: else
       fi;
       job_ends() }
  :: atomic { running[H] != 0 && releases < RELEASES -> releases++;
       if
       :: MY_RUN -> st[i] = WAIT;
#ifndef RELEASECHARGES
            att[i] = a - 1
#endif
       :: else
       fi;
       job_ends() }
#ifdef NODEAD
  :: atomic { running[H] != 0 && rejects < REJECTS -> rejects++; letters[e]++ };
     atomic { if :: MY_RUN -> st[i] = (fol[i] -> SCAN : EMPTY); att[i] = 0 :: else fi; job_ends() }
#else
  :: atomic { running[H] != 0 && rejects < REJECTS -> rejects++;
       if :: MY_RUN -> st[i] = DEAD :: else fi;
       job_ends() }
#endif
  od
}

/* private memory: is a handler thread of this lease at entry x; is one alone; is none busy; one that is idle */
#define AT(n, x)   (job_epoch[me * NH + n] == my && job_entry[me * NH + n] == x && !timed_out[me * NH + n])
#define IDLE(n)    (job_epoch[me * NH + n] == 0)
#if NH == 1
#define HAS_JOB(x) AT(0, x)
#define ALL_IDLE   IDLE(0)
#define ONE_IDLE   IDLE(0)
#define SOLO_OUT   (job_solo[me])
#else
#define HAS_JOB(x) (AT(0, x) || AT(1, x))
#define ALL_IDLE   (IDLE(0) && IDLE(1))
#define ONE_IDLE   (IDLE(0) || IDLE(1))
#define SOLO_OUT   (job_solo[me * NH] || job_solo[me * NH + 1])
#endif
#ifdef SOLOBESIDE
#define MAY_SOLO   ONE_IDLE
#define MAY_RUN    ONE_IDLE
#else
#define MAY_SOLO   ALL_IDLE
#define MAY_RUN    (ONE_IDLE && !SOLO_OUT)
#endif
#define READY(x)   (ep[x] == my && (st[x] == TAKEN || st[x] == WAIT) && !HAS_JOB(x))
#define MARKED(x)  (ep[x] == my && st[x] == RUN && !HAS_JOB(x))
#define IS(x, s)   (ep[x] == my && st[x] == s)
#define WORKS(x)   (ep[x] == my && (st[x] == RUN || st[x] == SOLO) && HAS_JOB(x))

inline give(x, event, attempts, alone, is_new)
{
  d_step {
    h = (IDLE(0) -> 0 : 1);
    job_epoch[H] = my; job_entry[H] = x; job_pos[H] = event; job_att[H] = attempts; job_solo[H] = alone;
    job_new[H] = is_new; h = 0 }
}

inline any(x)           /* each of the entries is tried first */
{
  if :: x = 0 :: x = 1 fi
}

/* Handler thread n has handled what may be finished together with the take of the next event. */
#ifdef CHAINFOLLOWERS
#define UNFOLLOWED(x) true
#else
#define UNFOLLOWED(x) (!fol[x])
#endif
#define FIRST_RUN(n, x) (job_epoch[me * NH + n] == my && running[me * NH + n] != 0 && job_entry[me * NH + n] == x && \
                         ep[x] == my && st[x] == RUN && pos[x] == job_pos[me * NH + n] && att[x] == 1 && \
                         !job_solo[me * NH + n] && UNFOLLOWED(x))
#define CHAINS(n)  (FIRST_RUN(n, 0) && st[1] == EMPTY || FIRST_RUN(n, 1) && st[0] == EMPTY)
#if NH == 1
#define CAN_CHAIN  (cursor_epoch == my && cursor < NE && CHAINS(0))
#else
#define CAN_CHAIN  (cursor_epoch == my && cursor < NE && (CHAINS(0) || CHAINS(1)))
#endif

#define CAN_TAKE (cursor_epoch == my && cursor < NE && (st[0] == EMPTY || st[1] == EMPTY || \
                  KEY(pos[0]) == KEY(cursor) || KEY(pos[1]) == KEY(cursor)))

proctype Lease(byte me) provided (!dead[me])
{
  byte my, i, e, k, h;
  bool won, was_free, is_unfit;
start:
  atomic {
    (me == 0 || started[me - 1]) && (lease == 0 || lease != me + 1 && fences < FENCES) ->        /* the first time in order */
    was_free = (lease == 0);
    if :: !was_free -> fences++ :: else fi;
    started[me] = true;
    lease = me + 1; epoch++; my = epoch; i = 0; e = 0; k = 0; won = false };
  atomic { if :: epoch == my -> cursor_epoch = my :: else -> goto start fi };
  do
  :: i < NP ->
     atomic {
       if
       :: ep[i] < my && epoch == my ->
            if
#ifndef KEEPAHEAD
            :: st[i] != EMPTY && pos[i] >= cursor -> st[i] = EMPTY; att[i] = 0; fol[i] = false
            :: st[i] == SOLO && pos[i] < cursor ->
#else
            :: st[i] == SOLO ->
#endif
                 if
#ifdef FENCEDCRASHED
                 :: true ->
#else
                 :: was_free && ep[i] + 1 == my ->
#endif
                      if
                      :: att[i] >= MAXA -> assert(failures[pos[i]] >= MAXA); st[i] = DEAD
                      :: else -> st[i] = RUN; att[i]++
                      fi
#ifndef FENCEDCRASHED
                 :: else -> st[i] = RUN
#endif
                 fi
#ifdef ONESOLO
            :: st[i] == RUN && pos[i] < cursor -> st[i] = SOLO
#endif
            :: else
            fi;
            ep[i] = my
       :: else -> goto start                            /* somebody's newer epoch */
       fi;
       i++ }
  :: else -> break
  od;
  i = 0;
  do
  :: atomic { !HOLDS -> goto start }
  :: atomic { CAN_TAKE && MAY_RUN ->                    /* look at the next event */
       e = cursor; i = 0;
       do :: i < NP && (st[i] == EMPTY || KEY(pos[i]) != KEY(e) || pos[i] >= e) -> i++ :: else -> break od };
     if
     :: i < NP ->                                       /* its key is held: skip it */
#ifndef FLAGLATE
          atomic { won = (ep[i] == my && st[i] != EMPTY && KEY(pos[i]) == KEY(e)); if :: won -> fol[i] = true :: else fi };
#else
          won = true;
#endif
          if
          :: won ->
#ifdef PLAINCURSOR
               cursor = e + 1
#else
               atomic { if :: cursor_epoch == my && cursor == e -> cursor = e + 1 :: else fi }
#endif
#ifdef FLAGLATE
               ; atomic { if :: ep[i] == my && st[i] != EMPTY -> fol[i] = true :: else fi }
#endif
          :: else
          fi
     :: else ->                                         /* take it */
          atomic { i = 0; do :: i < NP && st[i] != EMPTY -> i++ :: else -> break od };
          if
          :: i < NP ->
#ifdef CURSORFIRST
               atomic { won = (cursor_epoch == my && cursor == e); if :: won -> cursor = e + 1 :: else fi };
#else
               won = true;
#endif
               if :: unfits < UNFITS -> unfits++; is_unfit = true :: true fi;
               if
               :: won ->
#ifdef PLAINPEND
                    atomic { st[i] = (is_unfit -> TAKEN : RUN); pos[i] = e; ep[i] = my; att[i] = (is_unfit -> 0 : 1); fol[i] = false };
#else
                    atomic {
                      won = (ep[i] == my && st[i] == EMPTY);
                      if
                      :: won -> st[i] = (is_unfit -> TAKEN : RUN); pos[i] = e; att[i] = (is_unfit -> 0 : 1); fol[i] = false
                      :: else
                      fi };
#endif
#ifndef CURSORFIRST
                    if
                    :: won ->
#ifdef PLAINCURSOR
                         cursor = e + 1
#else
                         atomic {
                           if
                           :: cursor_epoch == my && cursor == e -> cursor = e + 1
                           :: else ->                   /* the lease is lost: what it has just stored is not its to run */
#ifndef GOESON
                                is_unfit = false; goto start
#else
                                skip
#endif
                           fi }
#endif
                    :: else
                    fi
#endif
                    ;
                    if
                    :: won && !is_unfit -> give(i, e, 1, false, true)
                    :: won && is_unfit -> atomic { if :: IS(i, TAKEN) && pos[i] == e -> st[i] = DEAD :: else fi }
                    :: else
                    fi
               :: else
               fi
          :: else
          fi
     fi;
     atomic { i = 0; e = 0; won = false; is_unfit = false }
  :: atomic { CAN_CHAIN -> e = cursor; h = (CHAINS(0) -> 0 : 1); i = job_entry[H] };
#ifdef CHAINCURSOR
     atomic { if :: cursor_epoch == my && cursor == e -> cursor = e + 1 :: else -> goto start fi };
#endif
     atomic {                                           /* finish and take: one CAS */
       won = FIRST_RUN(h, i);
       if
       :: won ->
            k = pos[i];
            assert(!timed_out[H]); assert(!SETTLED(k)); finished[k] = true;
            pos[i] = e; fol[i] = false; k = 0;
            running[H] = 0; job_epoch[H] = 0; job_entry[H] = 0; job_pos[H] = 0; job_att[H] = 0; job_new[H] = false
       :: else
       fi;
       h = 0 };
#ifndef CHAINCURSOR
     atomic {
       if
       :: !won
       :: won && cursor_epoch == my && cursor == e -> cursor = e + 1
       :: won && !(cursor_epoch == my && cursor == e) ->
#ifndef CHAINGOESON
            goto start
#else
            skip
#endif
       fi };
#endif
     if :: won -> give(i, e, 1, false, true) :: else fi;
     atomic { i = 0; e = 0; won = false }
  :: atomic { (READY(0) || READY(1)) && MAY_RUN -> any(i); if :: READY(i) :: else -> i = 1 - i fi; give(i, pos[i], att[i], false, false); i = 0 }
#ifdef ONESOLO
  :: atomic { (IS(0, SOLO) && !HAS_JOB(0) || IS(1, SOLO) && !HAS_JOB(1)) && MAY_SOLO ->
       i = (IS(0, SOLO) && !HAS_JOB(0) -> 0 : 1); st[i] = RUN; give(i, pos[i], att[i], true, false); i = 0 }
#else
  :: atomic { (MARKED(0) || MARKED(1)) && MAY_SOLO -> any(i); if :: MARKED(i) :: else -> i = 1 - i fi; give(i, pos[i], att[i], true, false); i = 0 }
#endif
  :: atomic { IS(0, SCAN) || IS(1, SCAN) -> i = (IS(0, SCAN) -> 0 : 1); e = pos[i];
       k = e + 1; do :: k < cursor && KEY(k) != KEY(e) -> k++ :: else -> break od };
     atomic {
       if
       :: IS(i, SCAN) && pos[i] == e && k < cursor -> st[i] = WAIT; pos[i] = k
       :: IS(i, SCAN) && pos[i] == e && k >= cursor -> st[i] = EMPTY; fol[i] = false
       :: else
       fi;
       i = 0; e = 0; k = 0 }
  :: atomic { IS(0, DEAD) || IS(1, DEAD) -> i = (IS(0, DEAD) -> 0 : 1); e = pos[i] };
#ifndef DEADLATE
     atomic { assert(!finished[e]); if :: letters[e] < 2 -> letters[e]++ :: else fi };
#endif
     atomic { if :: IS(i, DEAD) && pos[i] == e -> st[i] = (fol[i] -> SCAN : EMPTY); att[i] = 0 :: else fi };
#ifdef DEADLATE
     letters[e]++;
#endif
     atomic { i = 0; e = 0 }
  :: atomic { timeouts < TIMEOUTS && (WORKS(0) || WORKS(1)) ->          /* an entry's handler hangs */
       timeouts++; i = (WORKS(0) -> 0 : 1);
       h = (AT(0, i) -> 0 : 1);
       timed_out[H] = true; failures[pos[i]]++;
#ifdef TIMEOUTFREE
       st[i] = WAIT; att[i]--;
#else
       st[i] = (att[i] >= MAXA -> DEAD : WAIT);
#endif
       i = 0; h = 0 }
  od
}

/* kills the holder: all its threads at once */
proctype Killer()
{
  byte m, h, n;
  do
  :: atomic { crashes < CRASHES && lease != 0 -> crashes++; m = lease - 1; dead[m] = true; lease = 0; n = 0; h = 0;
       do :: h < NH -> if :: running[m * NH + h] != 0 -> n++ :: else fi; h++ :: else -> break od;
       h = 0;
       do
       :: h < NH ->
            if
            :: running[m * NH + h] != 0 ->
                 if
                 :: n == 1 && job_solo[m * NH + h] && job_epoch[m * NH + h] == epoch -> failures[running[m * NH + h] - 1]++
                 :: else
                 fi
            :: else
            fi;
            running[m * NH + h] = 0; job_epoch[m * NH + h] = 0; job_new[m * NH + h] = false; h++
       :: else -> break
       od;
       m = 0; h = 0; n = 0 }
  od
}

/* low = min(cursor, entries), word by word */
proctype Keeper()
{
  byte l, i, k;
  do
  :: low < NE && (cursor > low) ->
#ifdef PENDFIRST
     atomic { l = NE; i = 0 };
     do :: i < NP -> atomic { if :: st[i] != EMPTY && pos[i] < l -> l = pos[i] :: else fi; i++ } :: else -> break od;
     atomic { if :: cursor < l -> l = cursor :: else fi };
#else
     atomic { l = cursor; i = 0 };
     do :: i < NP -> atomic { if :: st[i] != EMPTY && pos[i] < l -> l = pos[i] :: else fi; i++ } :: else -> break od;
#endif
     atomic {
       if :: l > low -> low = l; k = 0; do :: k < low -> assert(SETTLED(k)); k++ :: else -> break od :: else fi;
       k = 0; i = 0; l = 0 }
  od
}

byte x;
init
{
  atomic {
    x = 0;
    do
    :: x < NM ->
         run Lease(x); run Handler(x, 0);
#if NH > 1
         run Handler(x, 1);
#endif
         x++
    :: else -> break
    od;
    run Killer();
#if defined(LOW) || defined(PENDFIRST)
    run Keeper();
#endif
    x = 0 };
  timeout;                                              /* nothing can move any more: nobody alive has anything to do */
  x = 0; do :: x < NE -> assert(SETTLED(x) && !(finished[x] && letters[x] > 0)); x++ :: else -> break od;
  x = 0; do :: x < NP -> assert(st[x] == EMPTY); x++ :: else -> break od
}
