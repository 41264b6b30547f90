/* letters.c: the dead letters of all groups, as an operator has them: looked at, which consumes nothing; then what was wrong is
 * mended, and they are replayed to the group that gave them up, and to no other. */
#include "conductor.h"

#include <stdio.h>
#include <string.h>

#define TIMEOUT_NS (5 * NS_PER_S)

static int add(void *context, const struct evbus_dead_letter *from)
{
    struct demo *demo = context;
    size_t len;
    if (demo->n_letters == LETTERS_MAX)
        return 0;
    struct letter *letter = &demo->letters[demo->n_letters++];
    *letter = (struct letter){.group = N_GROUPS,
                              .topic = topic_of(from->topic),
                              .n_attempts = from->n_attempts,
                              .state = from->state,
                              .n_replays = from->n_replays};
    for (int group = 0; group < N_GROUPS; group++)
        if (strcmp(from->group, group_names[group]) == 0)
            letter->group = (enum group)group;
    (void)evbus_key_of_member(from->event->payload, from->event->payload_len, "orderId", letter->order, &len);
    if (from->n_attempts > 0)
        (void)snprintf(letter->error, sizeof letter->error, "%s", from->attempts[from->n_attempts - 1].error);
    if (from->settled_ns != 0)
        (void)snprintf(letter->settled_by, sizeof letter->settled_by, "%s", from->settled_service);
    return 0;
}

bool letters_read(struct demo *demo)
{
    static const struct evbus_dead_letters_filter all = {.size = sizeof all, .with_settled = true};
    demo->n_letters = 0;
    if (evbus_dead_letters(demo->bus, &all, add, demo) == EVBUS_OK)
        return true;
    complain("the dead letters: %s", evbus_message(demo->bus));
    return false;
}

bool letters_replay(struct demo *demo)
{
    static const struct evbus_dead_letters_filter mails = {.size = sizeof mails, .group = "notification-service"};
    struct evbus_settle_options options = {.size = sizeof options,
                                           .filter = &mails,
                                           .timeout_ns = TIMEOUT_NS,
                                           .reason = "the customer's address is mended"};
    struct evbus_settle_result result = {.size = sizeof result};
    for (size_t i = 0; i < demo->n_letters; i++)
        progress_say(demo, "a dead letter of %s: order %s, after %zu attempts: %s",
                     demo->letters[i].group < N_GROUPS ? group_names[demo->letters[i].group] : "nobody",
                     demo->letters[i].order, demo->letters[i].n_attempts, demo->letters[i].error);
    atomic_store(&demo->board->address_is_mended, true);
    if (evbus_dead_letters_replay(demo->bus, &options, NULL, NULL, &result) != EVBUS_OK) {
        complain("the dead letters: %s", evbus_message(demo->bus));
        return false;
    }
    progress_say(demo, "its address is mended; %llu replayed, to that group alone", (unsigned long long)result.n_done);
    return true;
}
