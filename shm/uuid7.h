/* uuid7.h: event ids, RFC 9562 version 7: sorted by time, unique on all hosts. The lesson is in uuid7.c. */
#ifndef EVBUS_UUID7_H
#define EVBUS_UUID7_H

#include "error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uuid7_pool {
    uint64_t last_ms;
    uint64_t counter; /* of the last id; 0: none was made yet */
    uint64_t n_left;  /* bytes at the front of random[] that are not used yet */
    uint8_t random[256];
};

/* Of one thread. Zeroed = fresh; in a forked child it is fresh again by itself. */
struct uuid7_state {
    struct uuid7_pool *pool; /* in a page that the kernel zeroes in a forked child */
};

/* The next id, greater than all that this state made before. Returns EVBUS_OK, or EVBUS_EIO when the kernel gives no
 * memory or no randomness. */
int uuid7_make(struct uuid7_state *state, uint64_t wall_ns, uint8_t out_id[16], struct error *err);

/* Gives the page back; the state is fresh afterwards. A zeroed state is fine. */
void uuid7_close(struct uuid7_state *state);

/* Any UUID, not only version 7: 36 characters, lower case out, either case in, no braces, nothing around it. */
void uuid7_format(const uint8_t id[16], char out_text[37]);
bool uuid7_parse(const char *text, size_t len, uint8_t out_id[16]);

#endif
