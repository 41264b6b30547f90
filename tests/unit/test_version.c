/* test_version.c: one version has one spelling. */
#include "version.h"

#include <criterion/criterion.h>
#include <string.h>

Test(version, reads_major_and_minor)
{
    static const struct {
        const char *text;
        uint16_t major, minor;
    } rows[] = {
        {"1.0", 1, 0}, {"2.0", 2, 0}, {"1", 1, 0}, {"7.12", 7, 12}, {"65535.65535", 65535, 65535},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint16_t major = 99, minor = 99;
        struct error err = {""};
        int rc = version_parse(rows[i].text, strlen(rows[i].text), &major, &minor, &err);
        cr_expect_eq(rc, EVBUS_OK, "%s: %s", rows[i].text, err.text);
        cr_expect(major == rows[i].major && minor == rows[i].minor, "%s became %u.%u", rows[i].text, major, minor);
    }
}

Test(version, refuses_every_other_spelling)
{
    static const char *const rows[] = {
        "",      ".",    "1.",  ".1",   "0",    "0.1",   "01.0", "1.00",    "1.01",    "+1.0",
        "-1.0",  "1.-1", "1,0", " 1.0", "1.0 ", "1.0.0", "v1",   "65536.0", "1.65536", "99999999999999999999.0",
        "1.0e1", "one",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint16_t major = 99, minor = 98;
        struct error err = {""};
        int rc = version_parse(rows[i], strlen(rows[i]), &major, &minor, &err);
        cr_expect_eq(rc, EVBUS_EINVAL, "\"%s\" passed as %u.%u", rows[i], major, minor);
        cr_expect(strstr(err.text, rows[i]) != NULL, "\"%s\": the message must show it: %s", rows[i], err.text);
        cr_expect(major == 99 && minor == 98, "\"%s\": results must be untouched on failure", rows[i]);
    }
}

Test(version, stops_at_the_length_it_was_given)
{
    uint16_t major = 0, minor = 0;
    cr_assert_eq(version_parse("1.25", 3, &major, &minor, NULL), EVBUS_OK);
    cr_assert(major == 1 && minor == 2);
    cr_assert_eq(version_parse("1\0000", 3, &major, &minor, NULL), EVBUS_EINVAL, "a NUL is no digit");
}
