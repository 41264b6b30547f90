/* letters.c: the dead letters of all groups, read as anybody may: by a reader, from the earliest; it consumes nothing.
 *
 * A group that dies between a letter and its own note of it writes the letter again, with the same id: we keep one of
 * each. */
#include "conductor.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static bool is_known(const struct demo *demo, const uint8_t id[16])
{
    for (size_t i = 0; i < demo->n_letters; i++)
        if (memcmp(demo->letters[i].id, id, 16) == 0)
            return true;
    return false;
}

static void copy_string(const json_t *object, const char *name, char *out_text, size_t size)
{
    const char *text = json_string_value(json_object_get(object, name));
    (void)snprintf(out_text, size, "%s", text != NULL ? text : "");
}

static void add(struct demo *demo, const struct evbus_delivery *event)
{
    if (is_known(demo, event->id) || demo->n_letters == LETTERS_MAX)
        return;
    char text[256];
    struct letter *letter = &demo->letters[demo->n_letters];
    json_t *root = json_loadb(event->payload, event->payload_len, 0, NULL);
    const json_t *attempts = json_object_get(root, "attempts");
    *letter = (struct letter){.group = N_GROUPS, .n_attempts = json_array_size(attempts)};
    memcpy(letter->id, event->id, 16);
    copy_string(root, "group", text, sizeof text);
    for (int group = 0; group < N_GROUPS; group++)
        if (strcmp(text, group_names[group]) == 0)
            letter->group = (enum group)group;
    copy_string(root, "topic", text, sizeof text);
    letter->topic = topic_of(text);
    copy_string(json_object_get(json_object_get(root, "event"), "payload"), "orderId", letter->order,
                sizeof letter->order);
    if (letter->n_attempts > 0)
        copy_string(json_array_get(attempts, letter->n_attempts - 1), "error", letter->error, sizeof letter->error);
    json_decref(root);
    demo->n_letters++;
}

bool letters_read(struct demo *demo)
{
    static const char *const pattern = "lomash.dlq.*";
    struct evbus_reader *reader = NULL;
    struct evbus_delivery event = {.size = sizeof event};
    demo->n_letters = 0;
    int rc = evbus_reader_open(&reader, demo->bus,
                               &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                              .patterns = &pattern,
                                                              .n_patterns = 1,
                                                              .from = EVBUS_FROM_EARLIEST});
    while (rc == EVBUS_OK && (rc = evbus_reader_next(reader, &event, 0)) == EVBUS_OK)
        add(demo, &event);
    evbus_reader_close(reader);
    if (rc != EVBUS_ETIMEOUT)
        complain("the dead letters: %s", evbus_message(demo->bus));
    return rc == EVBUS_ETIMEOUT;
}
