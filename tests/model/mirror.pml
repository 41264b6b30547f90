/* mirror.pml: a mirror's leader brings in what happened elsewhere, is stopped anywhere, and another one takes over.
 *
 * Modelled. Events 0..K-1 of elsewhere, to be brought in in order. Leaders 1..N: each takes the word from whoever has it, at any time;
 * reads what is there, up to the tail, and cancels the claims that it meets; and goes on behind it: claim at the tail, look at the
 * word, commit by CAS (or pad); cancelled: again. A leader that is stopped for ever is one that takes no more steps: every interleaving
 * has that. The last one is not stopped.
 * Asserted [guards FENCE]: no event is brought in twice, none before the one before it; in the end all are there.
 *
 * Left out: several partitions (claims of one thread are one at a time), other producers, readers that cancel (they do what a new leader
 * does), the ring's end, memory orders: the two full fences make the two looks as they are here.
 *
 * Without its rule each of these must fail:
 *   -DNOLOOK       a leader does not look at the word before it commits
 *   -DLOOKFIRST    it looks before its claim, not behind it
 *   -DNOCANCEL     a new leader passes over claims
 *   -DREADFIRST    it reads before it takes the word
 */
#ifndef N
#define N 3
#endif
#ifndef K
#define K 2
#endif
#define CELLS 8

byte word;                              /* who leads */
byte tail;
byte state[CELLS];                      /* of each cell: 0, or whose claim; then DONE, CANCELLED, PAD */
byte event_of[CELLS];
byte n_brought[K];
byte n_in;                              /* ghost: how many are there */

#define DONE      101
#define CANCELLED 102
#define PAD       103

inline read()
{
  e = 0;
  p = 0;
  do
  :: p < tail ->
     atomic {
       if
       :: state[p] == DONE && event_of[p] >= e -> e = event_of[p] + 1
#ifndef NOCANCEL
       :: state[p] != me && state[p] != 0 && state[p] < DONE -> state[p] = CANCELLED
#endif
       :: else
       fi
     };
     p++
  :: else -> break
  od
}

proctype Leader(byte me)
{
  byte e, p, mine, seen;
#ifdef READFIRST
  read();
#endif
  atomic { if :: word < me -> word = me :: else -> goto over fi };
#ifndef READFIRST
  read();
#endif
  do
  :: e < K ->
#ifdef LOOKFIRST
     seen = word;
#endif
     atomic { if :: tail < CELLS -> mine = tail; state[mine] = me; event_of[mine] = e; tail++ :: else -> goto over fi };
#ifndef LOOKFIRST
     seen = word;
#endif
#ifdef NOLOOK
     seen = me;
#endif
     if
     :: seen != me -> state[mine] = PAD; goto over
     :: else
     fi;
     atomic {
       if
       :: state[mine] == me ->
          state[mine] = DONE;
          n_brought[e]++;
          assert(n_brought[e] == 1 && n_in == e);
          n_in++;
          e++
       :: else -> state[mine] = PAD
       fi
     }
  :: else -> break
  od;
  if
  :: me == N -> assert(n_in == K)
  :: else
  fi;
over:
  skip
}

init
{
  byte i = 1;
  atomic {
    do
    :: i <= N -> run Leader(i); i++
    :: else -> break
    od
  }
}
