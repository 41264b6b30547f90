/* What evbus_publish() does and refuses. */
#include "fixture.h"

#include <criterion/criterion.h>
#include <string.h>

Test(publish, what_was_published_is_read_byte_for_byte)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader;
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    cr_assert_eq(fixture_publish(f.bus, "k1", "{\"price\": 1.10}"), EVBUS_OK, "%s", evbus_message(f.bus));
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_reader_next(reader, &got, 1000000000), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_expect_str_eq(got.payload, "{\"price\": 1.10}");
    cr_expect_str_eq(got.key, "k1");
    cr_expect_str_eq(got.topic, "test.a.one");
    cr_expect_str_eq(got.service, "tester");
    evbus_reader_close(reader);
    fixture_end(&f);
}
