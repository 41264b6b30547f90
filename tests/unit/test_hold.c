/* test_hold.c: one thread at a time has a hold, until it lets go or is dead. */
#include "hold.h"

#include "slot.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>

static struct slot *slots;
static _Atomic uint32_t hold;

static void before(void)
{
    slots = calloc(SLOTS_MAX + 1, sizeof *slots);
}

static void after(void)
{
    free(slots);
}

TestSuite(hold, .init = before, .fini = after, .timeout = 60);

static void live(uint32_t slot)
{
    atomic_store((_Atomic uint32_t *)(void *)&slots[slot].mutex, 1000 + slot);
    atomic_store(&slots[slot].witness, 100 + slot);
    atomic_store(&slots[slot].tid, (int32_t)(1000 + slot));
}

static void die(uint32_t slot)
{
    atomic_store((_Atomic uint32_t *)(void *)&slots[slot].mutex, SLOT_DIED_BIT);
}

Test(hold, it_is_its_takers_until_he_lets_go)
{
    live(1);
    live(SLOTS_MAX);
    cr_expect_eq(hold_slot(&hold), 0u);
    cr_expect(hold_take(&hold, slots, 1));
    cr_expect_eq(hold_slot(&hold), 1u);
    cr_expect_not(hold_take(&hold, slots, SLOTS_MAX));
    cr_expect_not(hold_take(&hold, slots, 1), "not twice");
    hold_leave(&hold, SLOTS_MAX);
    cr_expect_eq(hold_slot(&hold), 1u, "only by its holder");
    hold_leave(&hold, 1);
    cr_expect_eq(hold_slot(&hold), 0u);
    cr_expect(hold_take(&hold, slots, SLOTS_MAX));
    cr_expect_eq(hold_slot(&hold), (uint32_t)SLOTS_MAX);
}

Test(hold, a_dead_holders_is_taken_over)
{ /* B2 B3 B9 [guards PROGRESS] */
    live(1);
    live(2);
    live(3);
    cr_expect(hold_take(&hold, slots, 1));
    die(1);
    cr_expect(hold_take(&hold, slots, 2), "dead by the first witness");
    cr_expect_not(hold_take(&hold, slots, 3));
    atomic_store(&slots[2].gone, 102);
    cr_expect(hold_take(&hold, slots, 3), "dead by the second");
    atomic_store(&slots[3].gone, 102);
    cr_expect_not(hold_take(&hold, slots, 1), "another process is gone");
    atomic_store(&slots[3].tid, 0);
    cr_expect(hold_take(&hold, slots, 1), "nobody has that slot: somebody has scribbled on the word");
}

Test(hold, every_holder_has_another_number_and_they_wrap)
{ /* B6 */
    live(1);
    cr_expect(hold_take(&hold, slots, 1));
    uint32_t first = atomic_load(&hold);
    hold_leave(&hold, 1);
    cr_expect(hold_take(&hold, slots, 1));
    cr_expect_neq(atomic_load(&hold), first, "who read the word of the last holder takes nothing from this one");
    atomic_store(&hold, HOLD_WORD((1u << 22) - 1, 0));
    cr_expect(hold_take(&hold, slots, 1));
    cr_expect_eq(hold_slot(&hold), 1u);
    hold_leave(&hold, 1);
    cr_expect_eq(hold_slot(&hold), 0u);
}

struct turn {
    uint32_t slot;
    unsigned n;
};
static unsigned plain; /* only the holder touches it: ThreadSanitizer sees it, too */

static void *take_turns(void *context)
{
    struct turn *turn = context;
    while (turn->n < 2000) {
        if (!hold_take(&hold, slots, turn->slot))
            continue;
        plain++;
        turn->n++;
        hold_leave(&hold, turn->slot);
    }
    return NULL;
}

Test(hold, two_never_have_it_at_once)
{
    struct turn turns[3] = {{1, 0}, {2, 0}, {3, 0}};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        live(turns[i].slot);
        cr_assert_eq(pthread_create(&threads[i], NULL, take_turns, &turns[i]), 0);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    cr_expect_eq(plain, 6000u);
}
