/* scene.h: a bus of one log, one partition and 64 cells, on which a process publishes and another consumes all the time, and
 * operations that are killed or stopped meanwhile. What everybody did stands in ledgers outside the bus.
 *
 * Events go to the groups crew and other. A member of `other` is one of the two neighbours; crew's members are the actors, and
 * the test itself takes over what they leave behind. */
#ifndef SCENE_H
#define SCENE_H

#include "child.h"
#include "fixture.h"
#include "ledger.h"
#include "touch.h"

#define SCENE_KEYS  3
#define SCENE_HANDS 4    /* events that an actor has in hand at most */
#define SCENE_MS    1000 /* every living process goes on within so long after a fault */

enum { CREW, OTHER, SCENE_GROUPS };                             /* ledgers */
enum { NEIGHBOUR, ACTOR, PARTNER, CLAIMER, TESTER, PRODUCERS }; /* producers */

/* What is to become of an actor at its point. */
enum fate {
    WHOLE,
    NOTED,
    KILLED,
    STOPPED,
    HELD_UP /* stopped again and again, at each stride-th instruction of our own text, and continued */
};

struct scene;
struct operation;

/* A process that carries out one operation. Lies in memory that it shares with the test, but for what is its own. */
struct actor {
    struct scene *scene;
    const struct operation *operation;
    enum fate fate;
    struct touch_point point;
    uint32_t offset; /* of HELD_UP's first stop: 0..stride - 1 */
    uint32_t stride;
    _Atomic uint32_t n_ours; /* instructions */
    _Atomic uint32_t n_stops;
    uint32_t producer;
    uint32_t member; /* of crew; 0: none */
    uint64_t patience_ns;
    bool finds_corpse; /* another has made it */
    _Atomic int is_ready;
    _Atomic int may_go;
    _Atomic int has_come; /* to its point */
    struct touch_points points;
    struct child child;
    /* its own */
    struct evbus *bus;
    struct evbus_subscription *sub;
    struct evbus_reader *reader;
    struct evbus_delivery hands[SCENE_HANDS];
    unsigned n_hands;
};

struct scene_shared {
    struct ledger ledgers[SCENE_GROUPS];
    _Atomic uint32_t next[PRODUCERS]; /* number of each one's next event */
    _Atomic uint32_t n_members;       /* of crew, born so far */
    _Atomic int gate;                 /* 0: the neighbours stand still */
    _Atomic int is_consuming;         /* with the gate closed, too */
    _Atomic int is_idle[2];           /* the neighbours say that they do */
    _Atomic uint64_t n_done[2];       /* what they have done */
    _Atomic uint64_t n_calls[2];      /* likewise: that have returned, also with nothing */
    struct actor actors[3];
};

struct scene {
    struct fixture f;
    struct scene_shared *shared;
    struct child neighbours[2];
    struct child claimer; /* pid 0: none */
    struct evbus_reader *letters;
    uint32_t heir;               /* our number as a member of crew */
    uint32_t settled[PRODUCERS]; /* below it nothing is open */
    uint32_t baseline;           /* slots in use */
    unsigned n_trials;
    uint64_t wedged; /* who did not go on in time */
    uint64_t slowest_ns;
};

/* One thing that is done on a bus. */
struct operation {
    const char *name;
    uintptr_t starts_at;  /* function at whose call the watching begins; 0: at once */
    bool has_claim;       /* a producer is stopped in its claim */
    bool is_first;        /* which is cancelled, and all groups are behind it */
    bool fills;           /* the log of dead letters, so the scene is made anew now and then */
    bool is_corpse;       /* it needs one: is warmed up last */
    bool waits_for_store; /* neighbours go on from its first store on, or they would be faster */
    bool (*warm_up)(struct actor *actor);
    bool (*act)(struct actor *actor);
};

struct scene scene_make(void);
void scene_end(struct scene *scene);

/* The neighbours stand still, and there are events that crew has not taken. */
void scene_hold(struct scene *scene);
void scene_go(struct scene *scene);

/* A child that is warmed up and waits. */
void scene_start(struct scene *scene, struct actor *actor, const struct operation *operation, enum fate fate,
                 struct touch_point point);

/* Lets it go until it has ended or is stopped. true: as it should. *out_came: to its point. */
bool scene_let(struct scene *scene, struct actor *actor, bool *out_came);

/* The same for one that is held up. */
bool scene_let_held_up(struct scene *scene, struct actor *actor);

/* A stopped one goes on to its end, or is killed. */
bool scene_continue(struct actor *actor);
void scene_kill(struct actor *actor);

/* After all actors have ended: somebody handles what is left, the neighbours go on, nothing is wrong. deep: nothing is pinned,
 * claimed, fenced or kept by the dead either. false: it has been printed. */
bool scene_settle(struct scene *scene, bool deep);

/* Prints what the ledgers say. true: nothing is wrong. */
bool scene_print(struct scene *scene);

/* --- for operations, in the actor's process ---------------------------------------------------------------------------- */

struct ledger *scene_ledger(struct actor *actor);
bool scene_publish(struct scene *scene, struct evbus *bus, uint32_t producer, uint64_t timeout_ns);
bool scene_publish_batch(struct scene *scene, struct evbus *bus, uint32_t producer, uint64_t timeout_ns);

/* Takes one more event. false: none comes in time, or it has as many in hand as it may. */
bool scene_take(struct actor *actor, uint64_t timeout_ns);

/* Finishes what it took as the n-th of those in hand. */
bool scene_finish(struct actor *actor, unsigned n, enum evbus_outcome outcome);

/* A process that is a member of crew, has two events in hand, and what else the dead may leave, and is killed. */
bool scene_make_corpse(struct actor *actor, bool with_claims);

#endif
