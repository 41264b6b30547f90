/* peers.h: one shape for all who carry events between two processes of a host, so that all are measured by the same loops. See peers.c. */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include "limits.h"
#include "own_bus.h"

struct peer;

enum peer_aim {
    PEER_ROUND_TRIP, /* both sides send and receive */
    PEER_STREAM,     /* side 0 sends, side 1 receives */
    PEER_SEND,       /* there is only side 0 */
};

/* What one measurement is about; in memory that its processes share. Those that come from begin() are the parent's, which its children
 * have a copy of. */
struct peer_job {
    struct barrier barrier;
    _Atomic unsigned n_done;
    const struct placement *placement;
    const struct peer *peer;
    enum peer_aim aim;
    bool spins;
    bool is_put; /* events may wait for each other: peer->put, else peer->send */
    size_t len;  /* of each event */
    size_t n;    /* without the warm-up */
    size_t n_warm;
    uint64_t budget_ns; /* ends it earlier where it is slow; streams: 0 */
    uint64_t took_ns;   /* streams: for all but the warm-up */
    void *state;        /* of begin() */
    char names[2][32];  /* "/...", this run's own: for a peer's queue to each side, where it has one */
};

struct peer_side;
typedef int peer_take(struct peer_side *side, const void *bytes, size_t len); /* 0; 1: it is not what was due */

/* A role's own. */
struct peer_side {
    struct peer_job *job;
    int index;
    peer_take *take;
    void *state; /* of open() */

    /* The loops'. */
    struct samples *samples;
    struct payload payload; /* sent, or due */
    uint64_t taken_ns, since_ns;
    size_t n_taken, n_moves;
    bool is_last;
};

enum { PEER_NOTHING = 2 }; /* nothing is there */

/* All return 0, or 1 after a line on stderr. Side 0 sends to side 1 and the other way round, by ways of their own. */
struct peer {
    const char *name;
    const char *program, *package; /* that must be in PATH, and Debian's package of it; NULL: none */
    const void *variant;           /* the peer's own: what a row of its table is about */
    bool can_spin, can_block;
    bool waits_spinning; /* where it spins, receive() waits by itself */
    bool is_ours;        /* the others are told in what it takes */
    bool is_synced;      /* on disk before a sender is told */
    bool has_helper; /* a thread or daemon works along: sides are pinned only where there is a processor for it, too */

    int (*begin)(struct peer_job *job);    /* in the parent, before there are sides. NULL: nothing */
    int (*end)(struct peer_job *job);      /* likewise, after them; after a begin() that failed, too */
    int (*open)(struct peer_side *side);   /* in a role, not pinned yet */
    void (*close)(struct peer_side *side); /* after all went well; NULL: nothing */
    int (*send)(struct peer_side *side, const void *bytes, size_t len); /* waits for room; on return it is the peer's */
    int (*put)(struct peer_side *side, const void *bytes, size_t len);  /* the same, by and by; NULL: as send */
    int (*flush)(struct peer_side *side);                               /* all that was put is the peer's; with put */
    /* Gives take() one or more events and finishes (acknowledges) them. Nothing there: waits for one, or returns PEER_NOTHING. */
    int (*receive)(struct peer_side *side, bool waits);
};

/* The order of a table. */
struct peer_choice {
    const struct peer *peer; /* NULL: its headers were missing when we were built */
    const char *name;        /* then: who that would be, and Debian's package of them */
    const char *package;
};

extern const struct peer_choice ipc_peers[], broker_peers[]; /* peer and name NULL behind the last */

/* Fills in those that can be measured; says on stderr who is left out, and why. Their number. */
size_t peers_choose(const struct peer_choice *all, const struct peer **out, size_t cap);

/* Half a round trip. n: samples, at most. */
int peers_round_trip(const struct peer *peer, bool spins, size_t len, size_t n, const struct placement *placement,
                     struct samples *out);
/* Events per second, counted where they arrive, or, with PEER_SEND, where they leave. */
int peers_stream(const struct peer *peer, enum peer_aim aim, bool is_put, bool spins, size_t len, size_t n,
                 const struct placement *placement, double *out_per_s);

void guarantees_print(FILE *to); /* as Markdown */

#endif
