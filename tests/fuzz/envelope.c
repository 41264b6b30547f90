/* envelope.c: text -> event -> text. What was read is whole, and reads the same again when it has been written.
 *
 * Input: the text. */
#include "envelope.h"

#include "json.h"
#include "topic.h"

#include "fuzz.h"

#define NS_PER_MS UINT64_C(1000000)

/* As a reader gets it: the same, each text with its NUL. */
static struct evbus_delivery deliver(const struct envelope *envelope, const char *payload)
{
    static const uint8_t nil[16];
    struct evbus_delivery delivery = {
        .topic = envelope->topic,
        .timestamp_ns = envelope->timestamp_ns / NS_PER_MS != 0 ? envelope->timestamp_ns
                                                                : NS_PER_MS, /* 0: it has none */
        .version_major = envelope->version_major,
        .version_minor = envelope->version_minor,
        .payload = payload,
        .payload_len = envelope->payload_len,
    };
    memcpy(delivery.id, envelope->id, sizeof delivery.id);
    if (memcmp(delivery.id, nil, sizeof nil) == 0)
        delivery.id[0] = 1;
    return delivery;
}

static char *format(const struct evbus_delivery *delivery, size_t *out_len)
{
    size_t len = evbus_envelope_format(delivery, NULL, 0);
    char *text = malloc(len), *half = malloc(len / 2);
    must(text != NULL && half != NULL, "no memory");
    must(evbus_envelope_format(delivery, text, len) == len, "another length with room");
    must(evbus_envelope_format(delivery, half, len / 2) == len, "another length with half the room");
    must(memcmp(text, half, len / 2) == 0, "another beginning with half the room");
    must(memchr(text, '\n', len) == NULL && memchr(text, '\r', len) == NULL, "more than a line");
    free(half);
    *out_len = len;
    return text;
}

static void read_again(const struct envelope *before)
{
    struct envelope after;
    struct error err = {""};
    size_t len, again_len;
    char *payload = fuzz_copy(before->payload, before->payload_len, true);
    struct evbus_delivery delivery = deliver(before, payload);
    char *text = format(&delivery, &len);
    must(envelope_parse(text, len, &after, &err) == EVBUS_OK, "%.*s: %s", (int)len, text, err.text);
    must(memcmp(after.id, delivery.id, sizeof after.id) == 0 && strcmp(after.topic, before->topic) == 0 &&
             after.timestamp_ns == delivery.timestamp_ns / NS_PER_MS * NS_PER_MS &&
             after.version_major == before->version_major && after.version_minor == before->version_minor,
         "%.*s is another event", (int)len, text);
    must(after.payload_len == before->payload_len, "a payload of %zu bytes", after.payload_len);
    for (size_t i = 0; i < after.payload_len; i++) {
        char was = payload[i] == '\n' || payload[i] == '\r' ? ' ' : payload[i];
        must(after.payload[i] == was, "%.*s: byte %zu of the payload has changed", (int)len, text, i);
    }
    char *payload_again = fuzz_copy(after.payload, after.payload_len, true);
    delivery = deliver(&after, payload_again);
    char *again = format(&delivery, &again_len);
    must(again_len == len && memcmp(text, again, len) == 0, "%.*s is written otherwise", (int)len, text);
    free(payload_again);
    free(again);
    free(text);
    free(payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = fuzz_copy(data, len, false);
    struct envelope envelope;
    struct error err = {""};
    uint64_t ns = 0;
    int rc = envelope_parse(text, len, &envelope, &err);
    must(rc == EVBUS_OK || (rc == EVBUS_EINVAL && err.text[0] != '\0'), "%d %s", rc, err.text);
    if (rc == EVBUS_OK) {
        must(json_check(text, len, NULL) && json_check(envelope.payload, envelope.payload_len, NULL), "no JSON");
        must(topic_check(envelope.topic, NULL) == EVBUS_OK && envelope.version_major != 0, "no event");
        read_again(&envelope);
    }
    if (envelope_time_parse(text, len, &ns, &err) == EVBUS_OK) {
        char shown[32];
        uint64_t again = 0;
        envelope_time_format(ns, shown);
        must(envelope_time_parse(shown, strlen(shown), &again, &err) == EVBUS_OK && again == ns / NS_PER_MS * NS_PER_MS,
             "%s: %s", shown, err.text);
    }
    free(text);
    return 0;
}
