/* test_topic.c: the grammar of topics and patterns, which topics a pattern fits, and numbers that may never change. */
#include "topic.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LETTERS_60 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define N(rows)    (sizeof(rows) / sizeof(rows)[0])

Test(topic, takes_what_the_grammar_allows)
{
    static const char *const rows[] = {
        "lomash.orders.created",
        "lomash.content.blog.published",
        "a.b.c",
        "a1.b-2.c-",
        "a.b.c.d",
        LETTERS_60 "." LETTERS_60 ".abcde", /* 127 bytes */
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct error err = {""};
        cr_expect_eq(topic_check(rows[i], &err), EVBUS_OK, "%s: %s", rows[i], err.text);
        cr_expect_eq(topic_pattern_check(rows[i], &err), EVBUS_OK, "as a pattern, %s: %s", rows[i], err.text);
    }
}

Test(topic, says_what_is_wrong_with_a_topic)
{
    static const struct {
        const char *name, *message;
    } rows[] = {
        {"", "segment 1 is empty"},
        {"lomash", "has 1 segment; 3 or 4 are allowed"},
        {"lomash.orders", "has 2 segments; 3 or 4 are allowed"},
        {"a.b.c.d.e", "has 5 segments; 3 or 4 are allowed"},
        {".a.b.c", "segment 1 is empty"},
        {"a..b", "segment 2 is empty"},
        {"a.b.", "segment 3 is empty"},
        {"lomash.Orders.created", "segment 2 has 'O' at its beginning; a-z, 0-9 and - are allowed"},
        {"lomash.orders.Created", "segment 3 has 'C' at its beginning"},
        {"lomash.orders.2created", "segment 3 has '2' at its beginning; it must begin with a letter"},
        {"lomash.-orders.created", "segment 2 has '-' at its beginning; it must begin with a letter"},
        {"lomash.or_ders.created", "segment 2 has '_' in it"},
        {"lomash.or ders.created", "segment 2 has 0x20 in it"},
        {"lomash.orders.cr\xc3\xa9\xc3\xa9", "segment 3 has 0xc3 in it"},
        {"lomash.orders.created\n", "segment 3 has 0x0a in it"},
        {"lomash.*.created", "segment 2 has '*' at its beginning"},
        {"lomash.orders.**", "segment 3 has '*' at its beginning"},
        {LETTERS_60 "." LETTERS_60 ".abcdef", "has 128 bytes; at most 127 are allowed"},
        {NULL, "topic is missing"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct error err = {""};
        cr_expect_eq(topic_check(rows[i].name, &err), EVBUS_EINVAL, "%s passed", rows[i].name);
        cr_expect(strstr(err.text, rows[i].message) != NULL, "%s: \"%s\" must say \"%s\"", rows[i].name, err.text,
                  rows[i].message);
    }
}

Test(topic, says_what_is_wrong_with_a_pattern)
{
    static const struct {
        const char *pattern, *message;
    } rows[] = {
        {"", "segment 1 is empty"},
        {"*", "has 1 segment; 3 or 4 are allowed, or end it with .**"},
        {"lomash.orders", "has 2 segments; 3 or 4 are allowed, or end it with .**"},
        {"**.created", "** may only stand at the end"},
        {"lomash.**.created", "** may only stand at the end"},
        {"lomash.***", "segment 2 has '*' at its beginning"},
        {"lomash.ord*.created", "segment 2 has '*' in it"},
        {"a.b.c.d.**", "has 5 segments"},
        {"*.*.*.*.*", "has 5 segments"},
        {"lomash.orders.", "segment 3 is empty"},
        {NULL, "pattern is missing"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct error err = {""};
        cr_expect_eq(topic_pattern_check(rows[i].pattern, &err), EVBUS_EINVAL, "%s passed", rows[i].pattern);
        cr_expect(strstr(err.text, rows[i].message) != NULL, "%s: \"%s\" must say \"%s\"", rows[i].pattern, err.text,
                  rows[i].message);
    }
}

Test(topic, fits_patterns_segment_by_segment)
{
    static const struct {
        const char *pattern, *topic;
        bool fits;
    } rows[] = {
        {"lomash.orders.created", "lomash.orders.created", true},
        {"lomash.orders.created", "lomash.orders.create", false},
        {"lomash.orders.create", "lomash.orders.created", false},
        {"lomash.orders.created", "lomash.orders.created.again", false},
        {"lomash.orders.created.again", "lomash.orders.created", false},
        {"lomash.*.created", "lomash.orders.created", true},
        {"lomash.*.created", "lomash.orders.cancelled", false},
        {"lomash.*.created", "lomash.customers.review.created", false},
        {"lomash.*.*.created", "lomash.customers.review.created", true},
        {"lomash.*.*", "lomash.orders.created", true},
        {"lomash.*.*", "lomash.content.blog.published", false},
        {"*.*.*", "lomash.orders.created", true},
        {"*.*.*", "lomash.content.blog.published", false},
        {"lomash.content.**", "lomash.content.blog.published", true},
        {"lomash.content.**", "lomash.content.published", true},
        {"lomash.content.**", "lomash.contents.published", false},
        {"lomash.content.blog.**", "lomash.content.blog.published", true},
        {"lomash.content.blog.**", "lomash.content.blog", false}, /* ** is one or more */
        {"lomash.**", "lomash.orders.created", true},
        {"lomash.**", "lomas.orders.created", false},
        {"**", "lomash.content.blog.published", true},
        {"*.**", "lomash.orders.created", true},
        {"*.orders.**", "lomash.orders.created", true},
    };
    for (size_t i = 0; i < N(rows); i++) {
        cr_expect_eq(topic_pattern_check(rows[i].pattern, NULL), EVBUS_OK, "%s is no pattern", rows[i].pattern);
        cr_expect_eq(topic_matches(rows[i].pattern, rows[i].topic), rows[i].fits, "%s %s %s", rows[i].pattern,
                     rows[i].fits ? "must fit" : "must not fit", rows[i].topic);
    }
}

Test(topic, belongs_to_the_log_of_its_first_two_segments)
{
    static const char *const rows[][2] = {
        {"lomash.orders.created", "lomash.orders"},
        {"lomash.content.blog.published", "lomash.content"},
        {"a.b.c", "a.b"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        char log[TOPIC_LEN_MAX + 1];
        topic_log(rows[i][0], log);
        cr_expect_str_eq(log, rows[i][1]);
    }
}

/* Another release that hashes otherwise would send a key's next event to another partition: overtaken. */
Test(topic, sends_a_key_to_the_same_partition_for_ever)
{
    static const uint8_t nil[16] = {0}, id[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    static const struct {
        const char *key;
        uint64_t hash;
        uint32_t of_4, of_7;
    } rows[] = {
        {"10248", UINT64_C(0xc29f6dae1e3dcb27), 2, 2},
        {"order-1", UINT64_C(0x5fc46503368e2876), 3, 5},
        {"\xc3\xa9", UINT64_C(0xf7940a006cf10cb3), 0, 2},
    };
    for (size_t i = 0; i < N(rows); i++) {
        uint64_t hash = topic_key_hash(rows[i].key, strlen(rows[i].key), nil);
        cr_expect_eq(hash, rows[i].hash, "%s: 0x%016" PRIx64, rows[i].key, hash);
        cr_expect_eq(topic_partition(hash, 4), rows[i].of_4, "%s of 4: %u", rows[i].key, topic_partition(hash, 4));
        cr_expect_eq(topic_partition(hash, 7), rows[i].of_7, "%s of 7: %u", rows[i].key, topic_partition(hash, 7));
    }
    cr_expect_eq(topic_key_hash(NULL, 0, id), UINT64_C(0xeb5aeb9a32450f6a), "no key: 0x%016" PRIx64,
                 topic_key_hash(NULL, 0, id));
    cr_expect_eq(topic_key_hash("k", 1, id), topic_key_hash("k", 1, nil), "with a key, the id does not count");
}

Test(topic, spreads_keys_over_all_partitions)
{
    static const uint8_t nil[16] = {0};
    enum { N_KEYS = 64000, N_PARTITIONS = 64 };
    unsigned counts[N_PARTITIONS] = {0};
    for (int i = 0; i < N_KEYS; i++) {
        char key[16];
        int len = snprintf(key, sizeof key, "%d", 10000 + i);
        counts[topic_partition(topic_key_hash(key, (size_t)len, nil), N_PARTITIONS)]++;
    }
    for (int i = 0; i < N_PARTITIONS; i++) /* 1000 expected, standard deviation 32 */
        cr_expect(counts[i] > 800 && counts[i] < 1200, "partition %d has %u of %d keys", i, counts[i], N_KEYS);
}
