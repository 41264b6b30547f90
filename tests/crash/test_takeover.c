/* A takeover of a partition that another one overtakes at any instruction. */
#include "step.h"
#include "trial.h"

#include "lease.h"
#include "slot.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ME = 1, OTHER = 2 };

struct bed {
    struct group_part *part;
    struct slot *slots;
    uint64_t at; /* instruction before which the other comes */
    bool has_come;
    bool is_taken; /* by the other */
    uint16_t epoch;
};

static void live(struct slot *slot)
{
    int tid = (int)syscall(SYS_gettid);
    memcpy(&slot->mutex, &tid, sizeof tid); /* as the kernel sees who holds it */
    atomic_store(&slot->tid, tid);
}

static struct bed bed_make(void)
{
    struct bed bed = {.part = aligned_alloc(64, sizeof(struct group_part)),
                      .slots = aligned_alloc(64, 8 * sizeof(struct slot))};
    cr_assert(bed.part != NULL && bed.slots != NULL);
    memset(bed.slots, 0, 8 * sizeof(struct slot));
    live(&bed.slots[ME]);
    live(&bed.slots[OTHER]);
    return bed;
}

static bool take_it_away(void *context, uint64_t n, uintptr_t pc)
{
    struct bed *bed = context;
    (void)pc;
    if (n < bed->at)
        return true;
    bed->has_come = true;
    bed->is_taken = lease_take(bed->part, bed->slots, OTHER, lease_holder(bed->part), &bed->epoch);
    return false;
}

/* [guards ONE-HOLDER] P3 */
Test(takeover, overtaken_at_any_instruction_leaves_the_words_to_who_has_the_lease, .timeout = 240)
{
    if (!STEP_WORKS)
        cr_skip_test("x86-64 only");
    struct bed bed = bed_make();
    uint64_t stride = trial_is_slow()
                          ? 7
                          : 1; /* a sanitizer's checks are most of the steps, and each trial makes them all */
    bed.has_come = true;
    for (bed.at = 1; bed.has_come; bed.at += stride) {
        uint16_t epoch = 0;
        memset(bed.part, 0, sizeof *bed.part);
        atomic_store(&bed.part->lease, LEASE_WORD(7, 0));
        bed.has_come = bed.is_taken = false;
        step_begin(take_it_away, &bed);
        bool is_ours = lease_take(bed.part, bed.slots, ME, 0, &epoch);
        step_end();
        if (!is_ours) {
            cr_assert(bed.is_taken && lease_is_held(bed.part, bed.epoch, OTHER), "instruction %lu: nobody has it",
                      (unsigned long)bed.at);
            continue;
        }
        uint16_t held = LEASE_EPOCH(atomic_load(&bed.part->lease));
        cr_assert_eq(CURSOR_EPOCH(atomic_load(&bed.part->cursor)), held, "instruction %lu", (unsigned long)bed.at);
        for (uint32_t i = 0; i < PENDING_MAX; i++)
            cr_assert_eq((uint16_t)(atomic_load(&bed.part->pending[i]) >> 8), held,
                         "instruction %lu: two act on the partition, word %u is of %u, the lease of %u",
                         (unsigned long)bed.at, i, (unsigned)(uint16_t)(atomic_load(&bed.part->pending[i]) >> 8), held);
    }
    cr_assert_gt(bed.at, 200u, "it was not stepped");
    free(bed.part);
    free(bed.slots);
}
