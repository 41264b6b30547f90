/* test_key.c: the partition key that stands in a payload. */
#include <evbus/evbus.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N(rows)   (sizeof(rows) / sizeof(rows)[0])
#define KEY_BYTES 256

/* From memory of exactly its size, so that a sanitizer sees any read behind it. */
static int key_of(const char *payload, size_t len, const char *name, char *out_key, size_t *out_len)
{
    char *exact = malloc(len > 0 ? len : 1);
    memcpy(exact, payload, len);
    int rc = evbus_key_of_member(exact, len, name, out_key, out_len);
    free(exact);
    return rc;
}

Test(key, it_is_a_strings_decoded_text_or_a_numbers_or_booleans_as_it_stands_there)
{
    static const struct {
        const char *payload, *name, *expected;
    } rows[] = {
        {"{\"orderId\":\"10248\"}", "orderId", "10248"},
        {" { \"a\" : 1 , \"orderId\" :\t\"x\" } ", "orderId", "x"},
        {"{\"a\":\"\\u00fc\\n\\\"\\\\\\/\"}", "a", "\xc3\xbc\n\"\\/"},
        {"{\"a\":\"\\ud83d\\ude00\"}", "a", "\xf0\x9f\x98\x80"},
        {"{\"a\":\"\xe2\x82\xac\"}", "a", "\xe2\x82\xac"},
        {"{\"a\":1.10}", "a", "1.10"},
        {"{\"a\":1.1}", "a", "1.1"},
        {"{\"a\":-0}", "a", "-0"},
        {"{\"a\":12345678901234567890123}", "a", "12345678901234567890123"},
        {"{\"a\":1E+5}", "a", "1E+5"},
        {"{\"a\":true}", "a", "true"},
        {"{\"a\":false}", "a", "false"},
        {"{\"a\":1,\"a\":2}", "a", "2"},
        {"{\"\\u0061\":\"escaped\"}", "a", "escaped"},
        {"{\"b\":{\"a\":1},\"a\":2}", "a", "2"},
        {"{\"\":\"of no name\"}", "", "of no name"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        char key[KEY_BYTES];
        size_t len = 4711;
        int rc = key_of(rows[i].payload, strlen(rows[i].payload), rows[i].name, key, &len);
        cr_assert_eq(rc, EVBUS_OK, "%s: %s", rows[i].payload, evbus_message(NULL));
        cr_expect_str_eq(key, rows[i].expected, "%s", rows[i].payload);
        cr_expect_eq(len, strlen(rows[i].expected), "%s", rows[i].payload);
    }
}

Test(key, what_gives_no_key_is_refused_with_what_was_found)
{
    static const struct {
        const char *payload, *says[2];
    } rows[] = {
        {"{\"a\":", {"not JSON", "at byte 5"}},
        {"", {"not JSON", "at byte 0"}},
        {"[\"a\"]", {"no member \"a\"", NULL}},
        {"\"a\"", {"no member \"a\"", NULL}},
        {"null", {"no member \"a\"", NULL}},
        {"{}", {"no member \"a\"", NULL}},
        {"{\"A\":1}", {"no member \"a\"", NULL}},
        {"{\"b\":{\"a\":1}}", {"no member \"a\"", NULL}},
        {"{\"a\":null}", {"\"a\" is null", "a string, a number or a boolean"}},
        {"{\"a\":{}}", {"\"a\" is an object", "a string, a number or a boolean"}},
        {"{\"a\":[1]}", {"\"a\" is an array", "a string, a number or a boolean"}},
        {"{\"a\":\"\"}", {"\"a\" is empty", "1..255"}},
        {"{\"a\":\"\\ud800\"}", {"half a surrogate", NULL}},
        {"{\"a\":\"x\\u0000y\"}", {"\"a\" holds a NUL", NULL}},
    };
    for (size_t i = 0; i < N(rows); i++) {
        char key[KEY_BYTES];
        size_t len = 4711;
        memset(key, 0x5a, sizeof key);
        int rc = key_of(rows[i].payload, strlen(rows[i].payload), "a", key, &len);
        cr_expect_eq(rc, EVBUS_EINVAL, "%s: %d", rows[i].payload, rc);
        for (size_t k = 0; k < N(rows[i].says); k++)
            if (rows[i].says[k] != NULL)
                cr_expect_not_null(strstr(evbus_message(NULL), rows[i].says[k]), "%s: %s", rows[i].payload,
                                   evbus_message(NULL));
        cr_expect_eq(len, 4711u, "%s: untouched on failure", rows[i].payload);
        for (size_t k = 0; k < sizeof key; k++)
            cr_assert_eq(key[k], 0x5a, "%s: untouched on failure", rows[i].payload);
    }
}

Test(key, it_has_255_bytes_at_most)
{
    static const struct {
        const char *label, *before, *unit, *after;
        size_t unit_bytes; /* of the key */
    } rows[] = {
        {"a string", "{\"a\":\"", "x", "\"}", 1},
        {"an escaped string", "{\"a\":\"", "\\u0078", "\"}", 1},
        {"letters of 3 bytes", "{\"a\":\"", "\xe2\x82\xac", "\"}", 3},
        {"escaped letters of 3 bytes", "{\"a\":\"", "\\u20ac", "\"}", 3},
        {"a number", "{\"a\":", "1", "}", 1},
    };
    for (size_t i = 0; i < N(rows); i++)
        for (size_t n = 255 / rows[i].unit_bytes; n <= 255 / rows[i].unit_bytes + 1; n++) {
            char payload[4096], key[KEY_BYTES];
            size_t len = 0;
            strcpy(payload, rows[i].before);
            for (size_t k = 0; k < n; k++)
                strcat(payload, rows[i].unit);
            strcat(payload, rows[i].after);
            int rc = key_of(payload, strlen(payload), "a", key, &len);
            if (n * rows[i].unit_bytes <= 255) {
                cr_expect_eq(rc, EVBUS_OK, "%s: %s", rows[i].label, evbus_message(NULL));
                cr_expect_eq(len, 255u, "%s", rows[i].label);
                cr_expect_eq(key[255], '\0', "%s: NUL-terminated", rows[i].label);
            } else {
                cr_expect_eq(rc, EVBUS_EINVAL, "%s", rows[i].label);
                cr_expect_not_null(strstr(evbus_message(NULL), "255"), "%s", evbus_message(NULL));
            }
        }
}

Test(key, the_length_is_optional_and_nothing_else_is)
{
    char key[KEY_BYTES] = "";
    static const char payload[] = "{\"a\":\"k\"}";
    cr_expect_eq(evbus_key_of_member(payload, strlen(payload), "a", key, NULL), EVBUS_OK);
    cr_expect_str_eq(key, "k");
    cr_expect_eq(evbus_key_of_member(NULL, 0, "a", key, NULL), EVBUS_EINVAL);
    cr_expect_str_eq(evbus_message(NULL), "payload is NULL");
    cr_expect_eq(evbus_key_of_member(payload, strlen(payload), NULL, key, NULL), EVBUS_EINVAL);
    cr_expect_str_eq(evbus_message(NULL), "name is NULL");
    cr_expect_eq(evbus_key_of_member(payload, strlen(payload), "a", NULL, NULL), EVBUS_EINVAL);
    cr_expect_str_eq(evbus_message(NULL), "out_key is NULL");
}
