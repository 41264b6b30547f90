/* topic.h: grammar, patterns, topic -> log, key -> its partition. See topic.c. */
#ifndef EVBUS_TOPIC_H
#define EVBUS_TOPIC_H

#include "error.h"

#define TOPIC_LEN_MAX 127 /* bytes */

/* Is it a topic: 3 or 4 segments of 1 or more of a-z 0-9 -, each starting with a letter, joined by dots? EVBUS_OK or
 * EVBUS_EINVAL with a message that says which segment and what is wrong with it. */
int topic_check(const char *name, struct error *err);

/* Is it a pattern? As topic_check, but a segment may be `*` (one segment), and a last segment `**` (one or more). */
int topic_pattern_check(const char *pattern, struct error *err);

/* Does a topic fit a pattern? Both have been checked. */
bool topic_matches(const char *pattern, const char *topic);

/* The log of a topic: its first two segments. out_log: TOPIC_LEN_MAX + 1 bytes. */
void topic_log(const char *topic, char *out_log);

/* XXH3-64 of the key's bytes, or of the 16 bytes of the id when there is no key. */
uint64_t topic_key_hash(const char *key, size_t key_len, const uint8_t id[16]);

/* The partition of a hash: its high half modulo the number of partitions. */
uint32_t topic_partition(uint64_t key_hash, uint32_t n_partitions);

#endif
