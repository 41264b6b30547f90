/* rig.h: backends in a test: bridges that append made-up events, and write down all that they are told.
 *
 * A rig has one broker and some bridges. Only rig_pump() calls fds() and service(), sleeps as long as they say, and
 * serves those alone whose descriptors are ready or whose time has come; so a backend that does not wake up when it
 * should fails its test. That callbacks come from within service() alone is looked at in each of them. */
#ifndef RIG_H
#define RIG_H

#include "backend.h"
#include "config.h"

#include "await.h"

#define RIG_LOG       "lomash.orders"
#define RIG_CREATED   "lomash.orders.created"
#define RIG_CANCELLED "lomash.orders.cancelled"
#define RIG_REFUNDED  "lomash.orders.refunded"
#define RIG_BRIDGES   4
#define RIG_STREAMS   4

/* An event, by what matters here. Its payload and key tell the position. */
struct rig_event {
    const char *topic;
    uint64_t position;
    uint64_t prev;
};

/* What stood in a stream. */
struct rig_entry {
    char id[64];
    bool is_event; /* the rest is only then */
    bool is_foreign;
    char origin[37];
    char topic[128];
    uint32_t partition;
    uint64_t position;
    uint64_t prev;
    char payload[64]; /* its beginning */
    char error[160];  /* else */
};

struct rig_stream {
    char name[128];
    struct rig_entry *entries;
    size_t n;
    size_t n_empty;   /* arrived() with n 0 */
    bool is_at_end;   /* that was the last */
    size_t n_arrived; /* with more */
    size_t n_resets;
    bool is_asking;   /* more() is called again whenever something has arrived */
    bool is_refusing; /* arrived() says false */
    size_t most;      /* entries in one arrived() */
};

struct rig_mark {
    char topic[128]; /* "": NULL */
    uint64_t position, epoch, incarnation;
};

struct rig_answer {
    uint64_t ticket;
    enum backend_result result;
    char why[300];
};

struct rig_bridge {
    struct rig *rig;
    struct backend *backend;
    char origin[37];
    struct config config;
    bool is_serving;
    bool is_here;
    size_t n_states; /* told; those that only warn are not counted */
    char why[300];
    struct rig_answer *answers;
    size_t n_answers;
    uint64_t n_tickets;
    size_t n_marks_answers;
    enum backend_result marks_result;
    struct rig_mark marks[8];
    char ends[8][64]; /* of each mark */
    size_t n_marks;
    uint32_t marks_partition;
    struct rig_stream streams[RIG_STREAMS];
    size_t n_streams;
    size_t n_trimmed;
    uint64_t trimmed;
    char kept_from[64], kept_for[128], dropped[256];
    void (*on_answer)(struct rig_bridge *bridge, const struct rig_answer *answer);  /* NULL: nothing */
    void (*on_entry)(struct rig_bridge *bridge, const struct backend_entry *entry); /* NULL: nothing */
};

struct rig {
    void *broker;
    struct config config;
    struct rig_bridge *bridges[RIG_BRIDGES];
    size_t n_bridges;
};

/* A broker, empty. The test may change rig.config before a bridge is opened. */
struct rig rig_make(enum config_layout layout);
void rig_end(struct rig *rig);

/* n: which bus, 1 or 2 ... It is waited for until it is there. */
struct rig_bridge *rig_open(struct rig *rig, unsigned n);
struct rig_bridge *rig_open_away(struct rig *rig, unsigned n); /* it is not waited for */
void rig_close(struct rig_bridge *bridge);

/* Waits for the backends' descriptors as long as they say, and lets them work. */
void rig_pump(struct rig *rig, uint64_t until_ms);

/* While an expression is false; false: it did not come true in AWAIT_MS. */
#define rig_until(rig, expression)                                         \
    __extension__({                                                        \
        uint64_t rig_until_ = await_now_ms() + AWAIT_MS;                   \
        bool rig_came_ = false;                                            \
        while (!(rig_came_ = (expression)) && await_now_ms() < rig_until_) \
            rig_pump(rig, rig_until_);                                     \
        rig_came_;                                                         \
    })

struct rig_life {
    uint64_t epoch, incarnation;
};
#define RIG_FIRST ((struct rig_life){1, 1})

/* A batch: begin, add, send. Its ticket. Whatever the events were made of is gone when add() has returned. */
uint64_t rig_send(struct rig_bridge *bridge, uint32_t partition, struct rig_life life, const struct rig_event *events,
                  size_t n);
enum backend_result rig_await(struct rig_bridge *bridge, uint64_t ticket);
enum backend_result rig_append(struct rig_bridge *bridge, uint32_t partition, struct rig_life life,
                               const struct rig_event *events, size_t n);

/* One event, with everything that there may be; the life of `event` is the caller's. */
struct evbus_delivery rig_delivery(const struct rig_event *event, uint32_t partition, char text[64],
                                   struct evbus_version *version);

/* marks of created and cancelled (layout=log: of the log), waited for. */
enum backend_result rig_ask(struct rig_bridge *bridge, uint32_t partition);

/* Listens, and asks for more whenever something has come. */
struct rig_stream *rig_listen(struct rig_bridge *bridge, const char *stream, const char *id);
struct rig_stream *rig_listen_once(struct rig_bridge *bridge, const char *stream,
                                   const char *id); /* the test asks for more */

/* The entries of a stream, read by a bridge of its own from the beginning to the end; into stream 0 of that bridge,
 * which is to be closed. */
struct rig_bridge *rig_read_all(struct rig *rig, const char *stream);

/* That it is this event. */
void rig_expect_entry(const struct rig_entry *entry, const struct rig_event *event, uint32_t partition);

/* That all of a stream is these events, with layout=topic those of its topic, and no other. */
void rig_expect_stream(struct rig *rig, const char *name, uint32_t partition, const struct rig_event *events, size_t n);

#endif
