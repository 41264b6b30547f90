/* compare.h: one partition here and at the broker, event by event. See compare.c. */
#ifndef EVBUS_BRIDGE_COMPARE_H
#define EVBUS_BRIDGE_COMPARE_H

#include "backend.h"

#define COMPARE_ID_SIZE 64

enum compare_what {
    COMPARE_SAME,
    COMPARE_MISSING, /* it is not there, and stands at or before the mark */
    COMPARE_LOST,    /* it was there, as the bridge knows, and is not any more: the mark stands before it */
    COMPARE_TWICE,
    COMPARE_UNKNOWN, /* it is there, and the journal has none like it */
    COMPARE_DIFFERS, /* in `field` */
    COMPARE_ORDER,   /* it stands behind a later one */
    COMPARE_BEYOND   /* it stands there, and the mark before it */
};

/* For scripts: "missing", ... */
const char *compare_name(enum compare_what what);

/* The first in the order of positions. */
struct compare_difference {
    enum compare_what what;
    uint64_t position;
    char event_id[40];            /* ""; nobody has told */
    char stream[128];             /* where it stands, or should */
    char ids[2][COMPARE_ID_SIZE]; /* as the broker calls what stands there; "": nothing does */
    char field[64];               /* DIFFERS: the first; "": not looked for yet */
    uint64_t mark;                /* of that stream */
    struct entry *ours;           /* how it should be; NULL: there is none */
    char *texts;                  /* what `ours` points into */
};

/* A stream, as one partition has it. */
struct compare_lane {
    uint64_t mark;             /* of the last event that was appended */
    uint64_t last;             /* likewise, as the bridge has noted it; 0: nothing */
    char end[COMPARE_ID_SIZE]; /* what stands behind it is younger than the mark */
    uint64_t first;            /* position of the first that is there; 0: none has come */
    uint64_t most;             /* the highest that has come so far */
};

struct compare_seen;

struct compare_part {
    char log[128];
    uint32_t partition;
    bool is_by_line; /* as its broker's backend_class */
    uint64_t oldest; /* what stands before it is not kept here any more */
    uint64_t began;  /* what stands before it was never to go out */
    uint64_t out;    /* what stands before it has gone out */
    uint64_t tail;   /* what stands at or behind it was published while we looked */
    struct compare_seen *seen;
    size_t n_seen, room;
    size_t at;       /* those before it have met their events */
    uint64_t passed; /* the last position that the journal has shown */
    struct {
        uint64_t n, hash;
    } here, there;       /* of what is compared */
    uint64_t n_doubtful; /* differ: but a trim that has overtaken the reading would look the same */
    uint64_t n_behind;   /* here: still to go out */
    uint64_t n_trimmed;  /* here: the stream begins behind them */
    uint64_t n_retired;  /* there: not kept here any more */
    struct compare_difference first;
};

/* In this order: all that stands in the streams, each in its order; then all that stands in the journal, in order of positions; then end. */

/* An entry that says it is this partition's, and does not stand behind the lane's end. false: no memory. */
bool compare_entry(struct compare_part *part, struct compare_lane *lane, const char *stream,
                   const struct backend_entry *entry, uint64_t position, uint64_t prev);
void compare_begin(struct compare_part *part);
/* lane: of the stream where it should be; NULL: of a topic that came while we looked. false: no memory. */
bool compare_event(struct compare_part *part, const struct compare_lane *lane, const char *stream, const char *origin,
                   const struct evbus_delivery *event);
/* Something that is not ours to compare stands there. */
void compare_pass(struct compare_part *part, uint64_t position, bool has_lost);
void compare_end(struct compare_part *part);

/* The journal is gone through once more: all that it has shown is forgotten, what stands there is not. */
void compare_again(struct compare_part *part);

/* Then, of those that differ, all entries once more: which are those of the difference, and what is it? */
bool compare_wants_more(const struct compare_part *part);
void compare_explain(struct compare_part *part, const char *stream, const struct compare_lane *lane,
                     const struct backend_entry *entry, uint64_t position);

/* What was seen is forgotten; log, partition and is_by_line stay. */
void compare_forget(struct compare_part *part);

/* The value of a field; NULL: there is none. */
const struct entry_field *compare_field(const struct backend_entry *entry, const char *name);
/* A decimal number of at most 48 bits. */
bool compare_number(const struct entry_field *field, uint64_t *out);

#endif
