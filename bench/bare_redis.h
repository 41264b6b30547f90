/* bare_redis.h: a client of Redis that does nothing but send, receive and compare. See bare_redis.c. */
#ifndef BENCH_BARE_REDIS_H
#define BENCH_BARE_REDIS_H

#include "own_bus.h"

#include <hiredis/hiredis.h>

/* As evbus.conf has them by default: batch_events, batches. */
enum { BARE_BATCH = 128, BARE_UNDER_WAY = 4 };

#define BARE_KEY_LEN 4
void bare_key(uint64_t seq, char out[BARE_KEY_LEN + 1]); /* which key the seq-th event has, whoever sends it */

enum bare_way { BARE_SCRIPT, BARE_MULTI, BARE_XADD };

/* Requests, as bytes, made before time begins. */
struct bare_requests {
    char *bytes;
    size_t len, cap;
    size_t n;           /* batches */
    size_t *ends;       /* of each */
    unsigned n_replies; /* of each but the last */
    unsigned n_replies_last;
};

/* The events first..first + n - 1 for one stream, as `way` appends them; n is all that there will be of it in one go. script_sha: of
 * append.lua. false: no memory. */
bool bare_prepare(struct bare_requests *out, enum bare_way way, const char *stream, const char *script_sha,
                  size_t payload_len, uint64_t first, size_t n);
void bare_forget(struct bare_requests *requests);

/* The ten fields of event seq, name and value by turns, after "XADD stream *": as redis-benchmark wants them. */
enum { BARE_WORDS = 23, BARE_PAYLOAD = 12 /* which of them it is */, BARE_WORD_MAX = PAYLOAD_MAX + 1 };
void bare_words(const char *stream, size_t payload_len, uint64_t seq, char words[BARE_WORDS][BARE_WORD_MAX]);

struct bare {
    int fd;
    redisReader *reader;
};

int bare_connect(struct bare *out, const char *socket); /* 0 or 1 */
void bare_close(struct bare *bare);
int bare_send(const struct bare *bare, const char *bytes, size_t len);
redisReply *bare_reply(const struct bare *bare); /* NULL after a line on stderr; an error is one */
__attribute__((format(printf, 2, 3))) redisReply *bare_ask(const struct bare *bare, const char *format, ...);

/* append.lua; its SHA. 0 or 1 */
int bare_load_script(const struct bare *bare, char out_sha[41]);

/* All of them, with at most BARE_UNDER_WAY batches unanswered. 0 or 1 */
int bare_run(const struct bare *bare, const struct bare_requests *requests);

/* What a stream has. Told in the order of the stream; 0, or what ends it. */
struct bare_entry {
    const char *id;
    const redisReply *pairs; /* name, value, ... */
};
const redisReply *bare_field(const struct bare_entry *entry, const char *name); /* NULL: it has none */

/* One XREAD of what stands behind *id, which goes on to the last that came: at most `count`, up to `block_ms` (0: it does not wait). 0: all that
 * came were told; 1: a failure; 2: nothing came. */
enum { BARE_ID_SIZE = 48, BARE_NOTHING = 2 };
int bare_read(const struct bare *bare, const char *stream, unsigned count, unsigned block_ms, char id[BARE_ID_SIZE],
              int (*each)(void *context, const struct bare_entry *entry), void *context);

#endif
