/* listener.c: one slot's places among the sleepers of the logs whose topics it wants. */
#include "listener.h"

int listener_join(struct listener *listener, const struct memory *memory, uint32_t slot, const struct topic_set *wanted,
                  struct error *err)
{
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        if (topic_set_is_empty(&wanted[l]))
            continue;
        struct log_head *head = memory->logs[l].head;
        if (listener->places[l] == 0) {
            uint32_t place;
            int rc = doorbell_join(head, slot, &place, err);
            if (rc != EVBUS_OK)
                return rc;
            listener->places[l] = place + 1;
        }
        doorbell_want(head, listener->places[l] - 1, &wanted[l]);
    }
    return EVBUS_OK;
}

void listener_set(const struct listener *listener, const struct memory *memory, const struct topic_set *wanted)
{
    for (uint32_t l = 0; l < memory_n_logs(memory); l++)
        if (!topic_set_is_empty(&wanted[l]))
            doorbell_set(memory->logs[l].head, listener->places[l] - 1);
}

void listener_clear(const struct listener *listener, const struct memory *memory, const struct topic_set *wanted)
{
    for (uint32_t l = 0; l < memory_n_logs(memory); l++)
        if (!topic_set_is_empty(&wanted[l]))
            doorbell_clear(memory->logs[l].head, listener->places[l] - 1);
}
