/* topic.c: grammar, patterns, topic -> log, key -> its partition.
 *
 *     topic     lomash.orders.created                3 or 4 segments of a-z 0-9 -, each begins with a letter
 *               \___________/                        its log: the first two, so order per key holds across a service
 *     pattern   lomash.*.created                     `*`  one segment, whatever it is
 *               lomash.content.**                    `**` one or more, only at the end
 *
 * Source of the grammar: the ADR's "Topic Naming Convention" and its examples with 3 and 4 segments.
 *
 * A key's partition is the high half of its XXH3-64 modulo the number of partitions; the low half stands in the frame
 * as key_hash and tells keys apart there. Halves that share no bits: within a partition key_hash is still spread
 * evenly. Every process, and every release, must choose alike, or an event overtakes an older one of its key: the
 * numbers are nailed down in tests/unit/test_topic.c, as is all of this. */
#include "topic.h"

#include <stdio.h>
#include <string.h>
#define XXH_INLINE_ALL /* the calls are as long as the work on such short texts */
#include <xxhash.h>

enum { SEGMENTS_MIN = 3, SEGMENTS_MAX = 4 };

static bool is_letter(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_allowed(char c)
{
    return is_letter(c) || (c >= '0' && c <= '9') || c == '-';
}

/* What is wrong with segment number n of a name? */
static int segment_check(const char *what, const char *name, unsigned n, const char *segment, size_t len,
                         struct error *err)
{
    if (len == 0)
        return error_set(err, EVBUS_EINVAL, "%s \"%s\": segment %u is empty", what, name, n);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)segment[i];
        if (is_allowed(segment[i]) && (i > 0 || is_letter(segment[i])))
            continue;
        char found[8];
        snprintf(found, sizeof found, c > ' ' && c < 0x7f ? "'%c'" : "0x%02x", c);
        return error_set(err, EVBUS_EINVAL, "%s \"%s\": segment %u has %s %s; %s", what, name, n, found,
                         i == 0 ? "at its beginning" : "in it",
                         is_allowed(segment[i]) ? "it must begin with a letter" : "a-z, 0-9 and - are allowed");
    }
    return EVBUS_OK;
}

/* Checks topics and patterns alike. */
static int segments_check(const char *what, const char *name, bool is_pattern, struct error *err)
{
    if (name == NULL)
        return error_set(err, EVBUS_EINVAL, "%s is missing", what);
    if (strlen(name) > TOPIC_LEN_MAX)
        return error_set(err, EVBUS_EINVAL, "%s \"%.40s...\" has %zu bytes; at most %d are allowed", what, name,
                         strlen(name), TOPIC_LEN_MAX);
    unsigned n = 0;
    bool is_open = false;
    for (const char *segment = name;; segment++) {
        size_t len = strcspn(segment, ".");
        bool is_last = segment[len] == '\0';
        n++;
        is_open = is_pattern && len == 2 && memcmp(segment, "**", 2) == 0;
        if (is_open && !is_last)
            return error_set(err, EVBUS_EINVAL, "%s \"%s\": ** may only stand at the end", what, name);
        if (!is_open && !(is_pattern && len == 1 && *segment == '*')) {
            int rc = segment_check(what, name, n, segment, len, err);
            if (rc != EVBUS_OK)
                return rc;
        }
        if (is_last)
            break;
        segment += len;
    }
    if (n > SEGMENTS_MAX || (n < SEGMENTS_MIN && !is_open))
        return error_set(err, EVBUS_EINVAL, "%s \"%s\" has %u segment%s; %d or %d are allowed%s", what, name, n,
                         n == 1 ? "" : "s", SEGMENTS_MIN, SEGMENTS_MAX,
                         is_pattern && n < SEGMENTS_MIN ? ", or end it with .**" : "");
    return EVBUS_OK;
}

int topic_check(const char *name, struct error *err)
{
    return segments_check("topic", name, false, err);
}

int topic_pattern_check(const char *pattern, struct error *err)
{
    return segments_check("pattern", pattern, true, err);
}

bool topic_matches(const char *pattern, const char *topic)
{
    for (;;) {
        if (strcmp(pattern, "**") == 0)
            return true;
        size_t pattern_len = strcspn(pattern, "."), topic_len = strcspn(topic, ".");
        bool is_any = pattern_len == 1 && *pattern == '*';
        if (!is_any && (pattern_len != topic_len || memcmp(pattern, topic, topic_len) != 0))
            return false;
        pattern += pattern_len;
        topic += topic_len;
        if (*pattern == '\0' || *topic == '\0')
            return *pattern == *topic;
        pattern++; /* the dots */
        topic++;
    }
}

void topic_log(const char *topic, char *out_log)
{
    size_t len = strcspn(topic, ".");
    if (topic[len] == '.')
        len += 1 + strcspn(topic + len + 1, ".");
    if (len > TOPIC_LEN_MAX)
        len = TOPIC_LEN_MAX;
    memcpy(out_log, topic, len);
    out_log[len] = '\0';
}

uint64_t topic_key_hash(const char *key, size_t key_len, const uint8_t id[16])
{
    return key_len > 0 ? XXH3_64bits(key, key_len) : XXH3_64bits(id, 16);
}

uint32_t topic_partition(uint64_t key_hash, uint32_t n_partitions)
{
    uint32_t high = (uint32_t)(key_hash >> 32);
    return (n_partitions & (n_partitions - 1)) == 0 ? high & (n_partitions - 1) : high % n_partitions;
}
