/* host.h: a host in a test: a bus that remembers, real evbus-bridges of it, numbered events, and what has been seen of them.
 *
 * The events of all hosts of a test are numbered by host and order; topic, key, payload and the rest follow from the number. Whatever is read, on a bus or
 * at the broker, is compared with that byte for byte, must be there once, and in order per host and key: what is not so ends the test, with the bridges'
 * last words. */
#ifndef HOST_H
#define HOST_H

#include "await.h"
#include "child.h"
#include "redis.h"

#include <evbus/evbus.h>

#define HOST_COUNT   4    /* numbers 1..3 */
#define HOST_KEYS    7    /* a key is always of the same topic */
#define HOST_TOPICS  3    /* test.a.one, test.a.two, test.b.one */
#define HOST_EVENTS  8192 /* of one host */
#define HOST_BRIDGES 2
#define HOST_MS      (HAS_SANITIZER ? 120000 : 60000)

extern const char *const host_topics[HOST_TOPICS];

/* What has been seen at one place. */
struct host_tally {
    char whose[80];
    uint32_t n[HOST_COUNT]; /* by host */
    uint32_t last[HOST_COUNT][HOST_KEYS];
    bool has[HOST_COUNT][HOST_EVENTS];
    char where[HOST_COUNT][HOST_EVENTS][96]; /* it stands, as its reader knows it */
};

struct host {
    unsigned number;
    char name[64]; /* of the bus */
    struct evbus *bus;
    struct evbus_reader *reader;
    struct host_tally seen; /* on its bus */
    struct child bridges[HOST_BRIDGES];
    bool runs[HOST_BRIDGES];
    unsigned n_starts;
};

/* Makes its bus; where: EVBUS_KEEPER_NEVER: its bridges are the keepers. The life is the test's process's, which removes all of it. */
struct host *host_make(enum evbus_keeper keeper);

/* Its memory is lost, as by a restart of the machine; the journal brings it back. No bridge runs. */
void host_forget_memory(struct host *host);

/* A bridge of it; settings: of --set, divided by blanks; NULL: none. */
void host_bridge(struct host *host, unsigned bridge, const char *broker, const char *settings);
void host_bridge_kill(struct host *host, unsigned bridge);
int host_bridge_end(struct host *host, unsigned bridge); /* by SIGTERM: its exit code */
bool host_bridge_has_said(const struct host *host, unsigned bridge, const char *text);
/* It leads and the broker is there. */
void host_await_bridge(const struct host *host, unsigned bridge);

/* Its next n events; each is acknowledged, or the test ends. */
void host_publish(struct host *host, uint32_t n);
uint32_t host_published(unsigned number);

/* One more event of each key of each host has come to all of them: so what was before it has come too, and nothing comes twice any more. */
void host_settle(struct host *const *hosts, unsigned n);
/* It has all that was published. */
void host_await(struct host *host, unsigned number);
void host_look(struct host *host); /* what is there now */

/* All that there is at a Redis, with layout=topic. */
void host_look_at_redis(struct host_tally *tally, const struct redis_server *server);
/* It is all that the first n hosts have published. */
void host_expect_redis(const struct redis_server *server, unsigned n);

/* The test ends here, with what bridges have said last. */
__attribute__((format(printf, 1, 2), noreturn)) void host_fail(const char *format, ...);
#define host_expect(expression) ((expression) ? (void)0 : host_fail("%s:%d: %s", __FILE__, __LINE__, #expression))

/* Waits under HOST_MS. */
#define host_until(expression)                                                    \
    do {                                                                          \
        uint64_t host_until_ = await_now_ms() + HOST_MS;                          \
        while (!(expression)) {                                                   \
            if (await_now_ms() >= host_until_)                                    \
                host_fail("%s:%d: in vain: %s", __FILE__, __LINE__, #expression); \
            await_pause();                                                        \
        }                                                                         \
    } while (0)

const char *host_folder(void); /* of all hosts of this process */

#endif
