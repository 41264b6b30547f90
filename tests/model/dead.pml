/* dead.pml: death is seen by two loads: dead(slot) = slot.tid set and the owner in the slot's lock word another.
 *
 * Modelled. One slot, used by two threads again and again (lock, store tid, claim, commit, clear tid, unlock); each may die at
 * any step: the kernel then sets the lock word to DIED. One word {lap, state} that the slot claims. An undertaker locks the
 * dead slot's mutex, may be stopped for ever right then, turns the word into PAD, clears the tid, unlocks. A helper that needs
 * no mutex reads the word FIRST, then dead(slot), and turns the same claim into PAD.
 * The second witness: each life of a thread has a number, whose byte is free once it is dead. A death may be LOST: the
 * kernel leaves the lock word as it is. An asker reads the slot's number, asks, may be stopped, then stores the number
 * in `gone`. dead(slot) is also witness == gone. The undertaker buries what is lost without the mutex, and retires the
 * slot. Asserted: nobody turns a living thread's claim into PAD; in the end no claim of the dead is left, whoever is
 * stopped.
 *
 * Left out: more words (slots.pml has the walk), readers that cancel, equal tids in two pid namespaces (B5), what keeps
 * the byte locked (witness.c); weak memory.
 *
 * Without its rule (B6) each of these must fail. Run pan with -E: a slot that a stopped undertaker holds is lost.
 *   -DDEADFIRST   the helper looks whether the slot is dead, then reads the word: it hits the slot's next thread
 *   -DTIDLATE     a thread claims before slot.tid is stored: its death can not be seen without the mutex
 *   -DTIDEARLY    the undertaker clears slot.tid before the last word is clean: stopped there it hides the death
 * And for the second witness (B2, B3, B4):
 *   -DGONEFLAG     `gone` is a flag of the slot, not the number of who is gone: it hits the slot's next owner
 *   -DWITNESSLATE  the owner stores its tid before its number: with the last owner's number, which is gone, it looks
 *                  dead
 *   -DNOWITNESS    nobody asks: a death that the kernel does not tell is never known
 * [guards PROGRESS] */
#define CLAIMED   1
#define COMMITTED 2
#define PAD       3
#define DIED      99
#define CRASHES   2

byte lock, tid;                         /* the slot: the owner in the mutex, and the tid that the owner wrote */
byte witness, gone;                     /* the owner's number, and whose byte was found free */
bool retired;
byte lap, state;                        /* the word */

/* ghosts: what really happened */
byte claimant;                          /* a number */
byte numbers;                           /* that were given */
bool is_dead[6];                        /* by number; its byte is free, too */
byte crashes;

#define MAYDIE if                                                                        \
  :: d_step { crashes < CRASHES -> crashes++; is_dead[number] = true; lock = DIED }; goto over \
  :: d_step { crashes < CRASHES -> crashes++; is_dead[number] = true }; goto over /* LOST */ \
  :: true                                                                                \
fi
#ifdef GONEFLAG
#define IS_GONE (gone != 0)
#else
#define IS_GONE (gone == witness)
#endif
#define IS_DEAD (tid != 0 && (lock != tid || IS_GONE))

/* A thread that comes again after its death is another process's, with the same tid. */
proctype Owner(byte me)
{
  byte n, number;
again:
  atomic { numbers++; number = numbers };
  do
  :: n < 2 ->
     atomic { lock == 0 -> lock = me };
#ifdef WITNESSLATE
     tid = me;
     witness = number;
#else
     witness = number;
#ifndef TIDLATE
     MAYDIE;
     tid = me;
#endif
#endif
     MAYDIE;
     atomic { state != CLAIMED -> lap++; state = CLAIMED; claimant = number };
#ifdef TIDLATE
     MAYDIE;
     tid = me;
#endif
     MAYDIE;
     atomic { assert(state == CLAIMED && claimant == number); state = COMMITTED };
     MAYDIE;
     tid = 0;
     MAYDIE;
     lock = 0;
     n++
  :: else -> break
  od;
  goto ended;
over:
  n++;
  if :: n < 2 -> goto again :: else fi;
ended:
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
  :: atomic { tid != 0 && witness == gone && lock == tid && !retired -> assert(is_dead[witness]) }; /* lost */
     atomic { if :: state == CLAIMED && is_dead[claimant] -> state = PAD :: else fi };
     retired = true;
     tid = 0
  od
}

/* Asks about the slot's process; only who is not known to be dead. */
proctype Asker()
{
  byte before, w, tries;
end:
  do
  :: atomic { tid != 0 && lock == tid && (tries < 1 || (is_dead[witness] && gone != witness)) ->
              if :: tries < 1 -> tries++ :: else fi; before = gone };
     w = witness;
     if
     :: is_dead[w] ->                   /* by now; and we may be stopped here for as long as we like */
#ifdef GONEFLAG
          gone = 1
#else
          atomic { if :: gone == before -> gone = w :: else fi }
#endif
     :: else
     fi;
     d_step { before = 0; w = 0 }
  od
}

proctype Helper()
{
  byte l, s, t, tries;
  bool seen_dead;
end:
  do                                    /* futile looks are bounded, so that an end is reached */
  :: atomic { state == CLAIMED && (tries < 1 || IS_DEAD) -> if :: tries < 1 -> tries++ :: else fi };
#ifdef DEADFIRST
     t = tid;
     seen_dead = (t != 0 && lock != t);
     if :: t != 0 && !seen_dead -> seen_dead = IS_GONE :: else fi;
     atomic { l = lap; s = state };
#else
     atomic { l = lap; s = state };
     t = tid;
     seen_dead = (t != 0 && lock != t);
     if :: t != 0 && !seen_dead -> seen_dead = IS_GONE :: else fi;
#endif
     if
     :: seen_dead && s == CLAIMED ->
          atomic { if :: lap == l && state == CLAIMED -> assert(is_dead[claimant]); state = PAD :: else fi }
     :: else
     fi;
     d_step { l = 0; s = 0; t = 0; seen_dead = false }
  od
}

init
{
  atomic {
    run Owner(1); run Owner(2); run Undertaker(3); run Helper();
#ifndef NOWITNESS
    run Asker()
#endif
  };
  timeout;
  assert(state != CLAIMED)
}
