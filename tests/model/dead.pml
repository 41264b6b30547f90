/* dead.pml: death is seen by two loads: dead(slot) = slot.tid set and the owner in the slot's lock word another.
 *
 * Modelled. One slot, used by two threads again and again (lock, store tid, claim, commit, clear tid, unlock); each may die at
 * any step: the kernel then sets the lock word to DIED. One word {lap, state} that the slot claims. An undertaker locks the
 * dead slot's mutex, may be stopped for ever right then, turns the word into PAD, clears the tid, unlocks. A helper that needs
 * no mutex reads the word FIRST, then dead(slot), and turns the same claim into PAD.
 * Asserted: nobody turns a living thread's claim into PAD; in the end no claim of the dead is left, whoever is stopped.
 *
 * Left out: more words (slots.pml has the walk), readers that cancel, equal tids in two pid namespaces (B5), the second
 * witness, the byte lock held by a mapping (B4); weak memory.
 *
 * Without its rule (B6) each of these must fail. Run pan with -E: a slot that a stopped undertaker holds is lost.
 *   -DDEADFIRST   the helper looks whether the slot is dead, then reads the word: it hits the slot's next thread
 *   -DTIDLATE     a thread claims before slot.tid is stored: its death can not be seen without the mutex
 *   -DTIDEARLY    the undertaker clears slot.tid before the last word is clean: stopped there it hides the death
 * [guards PROGRESS] */
#define CLAIMED   1
#define COMMITTED 2
#define PAD       3
#define DIED      99
#define CRASHES   2

byte lock, tid;                         /* the slot: the owner in the mutex, and the tid that the owner wrote */
byte lap, state;                        /* the word */

/* ghosts: what really happened */
byte claimant;
bool is_dead[4];
byte crashes;

#define MAYDIE if :: d_step { crashes < CRASHES -> crashes++; is_dead[me] = true; lock = DIED }; goto over :: true fi

proctype Owner(byte me)
{
  byte n;
  do
  :: n < 2 ->
     atomic { lock == 0 -> lock = me };
#ifndef TIDLATE
     MAYDIE;
     tid = me;
#endif
     MAYDIE;
     atomic { state != CLAIMED -> lap++; state = CLAIMED; claimant = me };
#ifdef TIDLATE
     MAYDIE;
     tid = me;
#endif
     MAYDIE;
     atomic { assert(state == CLAIMED && claimant == me); state = COMMITTED };
     MAYDIE;
     tid = 0;
     MAYDIE;
     lock = 0;
     n++
  :: else -> break
  od;
over:
  skip
}

proctype Undertaker(byte me)
{
  bool is_stopped;
end:
  do
  :: atomic { lock == DIED -> lock = me };
#ifdef TIDEARLY
     tid = 0;
#endif
     if :: is_stopped = true :: true fi;
     !is_stopped;
     atomic { if :: state == CLAIMED && is_dead[claimant] -> state = PAD :: else fi };
     tid = 0;
     lock = 0
  od
}

proctype Helper()
{
  byte l, s, t, tries;
  bool seen_dead;
end:
  do                                    /* futile looks are bounded, so that an end is reached */
  :: atomic { state == CLAIMED && (tries < 4 || (tid != 0 && lock != tid)) -> if :: tries < 4 -> tries++ :: else fi };
#ifdef DEADFIRST
     t = tid;
     seen_dead = (t != 0 && lock != t);
     atomic { l = lap; s = state };
#else
     atomic { l = lap; s = state };
     t = tid;
     seen_dead = (t != 0 && lock != t);
#endif
     if
     :: seen_dead && s == CLAIMED ->
          atomic { if :: lap == l && state == CLAIMED -> assert(is_dead[claimant]); state = PAD :: else fi }
     :: else
     fi
  od
}

init
{
  atomic { run Owner(1); run Owner(2); run Undertaker(3); run Helper() };
  timeout;
  assert(state != CLAIMED)
}
