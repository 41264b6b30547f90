/* own_bus.h: the private bus of a benchmark, and the payloads that go through it. See own_bus.c. */
#ifndef BENCH_OWN_BUS_H
#define BENCH_OWN_BUS_H

#include "measure.h"
#include "roles.h"

#include <evbus/evbus.h>

#define PATIENCE_NS 10000000000u /* what comes later than this is lost */

#define PAYLOAD_MIN 64
#define PAYLOAD_MAX 8192
#define DIGITS      16

/* A payload of exactly `len` bytes: {"p":0,"seq":"0000000000000001","at":"0000000000000000","x":"x..."} */
struct payload {
    size_t len;
    char text[PAYLOAD_MAX];
};

/* Who fills in what. FULL: the library makes the id, takes the time and checks the JSON: what a service pays. READY: the caller gives id and
 * time, and says that it is JSON: what the bus itself costs. STAMPED: the library makes the id and takes the time. */
enum envelope { FULL, READY, STAMPED };

struct variant {
    size_t payload_len;
    enum envelope envelope;
};

const char *envelope_name(enum envelope envelope);

/* main() of a benchmark: options, a bus of its own, all runs, the report; the bus is removed whatever happens, a signal
 * included. measure_all returns as children_run(). */
int own_bus_benchmark(int argc, char **argv, const char *question, bool has_journal,
                      int (*measure_all)(const struct placement *, const struct bench_options *, struct table *));

const char *own_bus_folder(void); /* where it remembers; "": nowhere */
const char *own_bus_name(void);
int own_bus_anew(void); /* outside of roles: another one takes its place, nothing in its files. 0 or 1 */
/* Likewise a second bus, as if on another host; it is removed with the first. Its name; NULL: it could not be made. */
const char *own_bus_twin_anew(void);

#define TOPIC_OF_KEYS "bench.keys.sent" /* of a log with N_PARTITIONS of them; the other topics' logs have one */
#define N_PARTITIONS  4

/* In a role: a handle, a reader of one topic, a membership of a group that receives it and ends with its last member.
 * NULL after a line on stderr. */
struct evbus *own_bus_open(enum evbus_wait wait);
struct evbus *own_bus_open_twin(enum evbus_wait wait);
struct evbus_reader *own_bus_read(struct evbus *bus, const char *topic, bool pin);
struct evbus_subscription *own_bus_join(struct evbus *bus, const char *group, const char *topic, evbus_handler *handler,
                                        void *context);

/* In a role: evbus_run() until *n_handled, which its handlers and maybe those of others count up, has come to n, or a handler has set
 * *failed. It is stopped up to 10 ms later, unless a handler does so. 0; 1 after a line on stderr: nothing was handled for PATIENCE_NS. */
int own_bus_run(struct evbus *bus, struct evbus_subscription *subscription, const _Atomic uint64_t *n_handled,
                uint64_t n, const _Atomic int *failed);

void payload_make(struct payload *payload, size_t len, unsigned producer);
void payload_next(struct payload *payload); /* seq + 1 */
void payload_copy_seq(struct payload *to, const struct payload *from);
void payload_set_seq(struct payload *to, const char *text, size_t len); /* as that one's; too short: left as it is */
void payload_set_number(struct payload *payload, uint64_t seq);
void payload_set_last(struct payload *payload); /* seq = 99...9: there is nothing behind it */
void payload_set_at(struct payload *payload, uint64_t at_ns);
uint64_t payload_at(const char *text);
uint64_t payload_seq(const char *text);
unsigned payload_producer(const char *text);
bool payload_is_last(const char *text, size_t len);
bool payload_equals(const struct payload *expected,
                    const struct evbus_delivery *delivery); /* every byte; nothing lost */

/* The event that a variant publishes. event_next: another id when it is ours to give. */
struct evbus_event event_make(const struct variant *variant, const char *topic, const char *payload_text);
void event_next(struct evbus_event *event, const struct variant *variant);

#endif
