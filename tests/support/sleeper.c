/* sleeper.c: a producer that is stopped in the middle of its claim. */
#include "sleeper.h"

#include "bus.h"
#include "clock.h"
#include "load.h"
#include "step.h"

#include <signal.h>
#include <unistd.h>

struct bed {
    const struct ring *ring;
    uint64_t pos; /* where the claim is going to stand */
};

static bool stop_when_claimed(void *context, uint64_t n, uintptr_t pc)
{
    const struct bed *bed = context;
    (void)n;
    (void)pc;
    uint64_t word = atomic_load_explicit(ring_word(bed->ring, bed->pos), memory_order_acquire);
    if (word_lap(word) != ring_lap(bed->ring, bed->pos) || word_state(word) != WORD_CLAIMED)
        return true;
    kill(getpid(), SIGSTOP);
    return false;
}

int sleeper_publish(struct evbus *bus, uint32_t producer, uint64_t number)
{
    struct bed bed = {.ring = &bus->memory.logs[0].rings[0]};
    bed.pos = ring_tail(bed.ring);
    step_begin(stop_when_claimed, &bed);
    int rc = load_publish(bus, producer, number, 5 * CLOCK_NS_PER_S);
    step_end();
    return rc;
}
