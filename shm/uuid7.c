/* uuid7.c: an id for each event, without asking anybody.
 *
 *    0         6     8              12         16 bytes, the first the highest
 *   +---------+-----+--------------+----------+
 *   | unix ms |7 hhh| 10 + 30 bits |   tail   |     hhh and the 30 bits: a counter of 42 bits
 *   +---------+-----+--------------+----------+
 *
 *   growing  RFC 9562 section 6.2, method 1: a new millisecond seeds the counter with 41 random bits (the highest is 0:
 *            room for 2^41 ids), each further id of it adds one. A clock that stepped back is not followed: the last
 *            millisecond goes on until the clock has caught up, and when its counter is full, the next one begins.
 *            So the bytes of one state's ids only ever grow.
 *   unique   threads, processes and hosts draw seed and tail alone: 73 random bits within the same millisecond.
 *   fast     randomness costs a system call: 0.26 us for a few bytes, 0.67 us for 256. So 256 are drawn at a time: an
 *            id takes 4 of them for its tail, a new millisecond 8 more for the seed. 4 KiB at a time would save 3 ns an
 *            id on average, but the one id in 1000 that draws them would wait 7 us.
 *   fork     a copied pool would make the child repeat its parent's ids byte by byte. The whole state therefore lies
 *            in a page of its own with MADV_WIPEONFORK: the kernel gives the child zeros, which mean a fresh state.
 *            Why not compare getpid(): a system call per id, and in two pid namespaces two processes may both be 1.
 *            Why not pthread_atfork(): clone() and _Fork() do not call it, and it would need a global.
 *            A resumed copy of a virtual machine is the one twin that nobody here can see.
 *
 * Text goes through libuuid. Checked by tests/unit/test_uuid7.c. */
#include "uuid7.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <uuid/uuid.h>

#define COUNTER_MAX ((UINT64_C(1) << 42) - 1)
#define SEED_BITS   41
#define LOW_BITS    30 /* of the counter: they stand behind the variant, the 12 above them behind the version */
#define LOW_MASK    ((UINT64_C(1) << LOW_BITS) - 1)

static_assert(sizeof(struct uuid7_pool) <= 4096, "one page holds it");

static int open_pool(struct uuid7_state *state, struct error *err)
{
    struct uuid7_pool *pool = mmap(NULL, sizeof *pool, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool == MAP_FAILED)
        return error_no_memory(err, "event ids");
    if (madvise(pool, sizeof *pool, MADV_WIPEONFORK) != 0) {
        int code = error_set(err, EVBUS_EIO, "event ids need madvise(MADV_WIPEONFORK), Linux 4.14 or newer: %s%s",
                             strerror(errno), error_mend(errno));
        munmap(pool, sizeof *pool);
        return code;
    }
    state->pool = pool;
    return EVBUS_OK;
}

/* All of random[] anew. A call may wait (early after boot) and be interrupted; a short answer is never wrong. */
static int refill(struct uuid7_pool *pool, struct error *err)
{
    size_t n_drawn = 0;
    while (n_drawn < sizeof pool->random) {
        ssize_t n = getrandom(pool->random + n_drawn, sizeof pool->random - n_drawn, 0);
        if (n > 0)
            n_drawn += (size_t)n;
        else if (n == 0 || errno != EINTR)
            return error_set(err, EVBUS_EIO,
                             "no randomness for event ids: getrandom: %s; does a seccomp filter forbid it?",
                             n == 0 ? "no bytes" : strerror(errno));
    }
    pool->n_left = sizeof pool->random;
    return EVBUS_OK;
}

/* Bytes of the pool; none is handed out twice. */
static void take(struct uuid7_pool *pool, void *out_bytes, size_t n_bytes)
{
    pool->n_left -= n_bytes;
    memcpy(out_bytes, pool->random + pool->n_left, n_bytes);
}

int uuid7_make(struct uuid7_state *state, uint64_t wall_ns, uint8_t out_id[16], struct error *err)
{
    if (state->pool == NULL) {
        int rc = open_pool(state, err);
        if (rc != EVBUS_OK)
            return rc;
    }
    struct uuid7_pool *pool = state->pool;
    uint64_t seed;
    uint32_t tail;
    if (pool->n_left < sizeof seed + sizeof tail) {
        int rc = refill(pool, err);
        if (rc != EVBUS_OK)
            return rc;
    }

    uint64_t ms = wall_ns / 1000000;
    if (pool->counter == COUNTER_MAX && ms <= pool->last_ms)
        ms = pool->last_ms + 1;
    if (ms > pool->last_ms || pool->counter == 0) {
        pool->last_ms = ms;
        take(pool, &seed, sizeof seed);
        pool->counter = seed >> (64 - SEED_BITS);
    }
    pool->counter++; /* so a counter of 0 is never handed out and means a fresh pool */
    take(pool, &tail, sizeof tail);

    uint64_t high = htobe64(pool->last_ms << 16 | UINT64_C(7) << 12 | pool->counter >> LOW_BITS);
    uint64_t low = htobe64(UINT64_C(2) << 62 | (pool->counter & LOW_MASK) << 32 | tail);
    memcpy(out_id, &high, 8);
    memcpy(out_id + 8, &low, 8);
    return EVBUS_OK;
}

void uuid7_close(struct uuid7_state *state)
{
    if (state->pool != NULL)
        munmap(state->pool, sizeof *state->pool);
    state->pool = NULL;
}

void uuid7_format(const uint8_t id[16], char out_text[37])
{
    uuid_unparse_lower(id, out_text);
}

bool uuid7_parse(const char *text, size_t len, uint8_t out_id[16])
{
    char terminated[37];
    uuid_t id;
    if (len != sizeof terminated - 1)
        return false;
    memcpy(terminated, text, len);
    terminated[len] = '\0';
    if (uuid_parse(terminated, id) != 0)
        return false;
    memcpy(out_id, id, sizeof id);
    return true;
}
