/* test_header.c: the examples of the public headers are built and run, and the tables there say what the code does.
 *
 * An example stands here word for word; that it does is checked against the header's text, blanks apart. */
#include "fixture.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
#define EXAMPLE(use)                                                                                                 \
    use(struct evbus *bus;                                                                                           \
    evbus_open(&bus, &(struct evbus_options){.service = "order-payment-service"});                                   \
    evbus_publish(bus, &(struct evbus_event){.topic = "lomash.orders.created", .key = "10248",                       \
                                             .payload = "{\"orderId\":\"10248\"}"}, NULL);                           \
    evbus_close(bus))
/* clang-format on */

#define AS_TEXT(...) #__VA_ARGS__
#define AS_CODE(...) __VA_ARGS__

/* Without blanks, and without what makes a comment. */
static char *squeezed(const char *text, bool is_comment)
{
    char *out = malloc(strlen(text) + 1), *to = out;
    bool at_beginning = true;
    for (; *text != '\0'; text++) {
        if (*text == '\n')
            at_beginning = true;
        else if (is_comment && at_beginning && *text == '*' && text[1] == ' ')
            at_beginning = false;
        else if (!isspace((unsigned char)*text)) {
            *to++ = *text;
            at_beginning = false;
        }
    }
    *to = '\0';
    return out;
}

static char *read_header(const char *name)
{
    const char *source = getenv("EVBUS_SOURCE");
    char path[1024];
    if (source == NULL) { /* as `meson test` sets it; by hand: beside this file */
        static const char here[] = __FILE__;
        snprintf(path, sizeof path, "%.*s/../../include/evbus/%s", (int)(strrchr(here, '/') - here), here, name);
    } else {
        snprintf(path, sizeof path, "%s/include/evbus/%s", source, name);
    }
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return NULL;
    char *text = calloc(1, 1 << 17);
    size_t len = fread(text, 1, (1 << 17) - 1, file);
    fclose(file);
    cr_assert_gt(len, 1000u);
    return text;
}

Test(header, the_example_at_its_head_is_the_one_that_runs_here)
{
    char *text = read_header("evbus.h");
    if (text == NULL)
        cr_skip_test("the header is not found: set EVBUS_SOURCE");
    char *head = strstr(text, "*/");
    cr_assert_not_null(head);
    *head = '\0';
    char *header = squeezed(text, true), *example = squeezed(EXAMPLE(AS_TEXT) ";", false);
    cr_expect_not_null(strstr(header, example), "evbus.h does not say\n%s\nin its first comment", EXAMPLE(AS_TEXT));
    free(header);
    free(example);
    free(text);
}

Test(header, there_is_no_example_that_no_test_runs)
{
    static const char *const headers[] = {"evbus.h", "admin.h"};
    for (size_t i = 0; i < 2; i++) {
        char *text = read_header(headers[i]);
        if (text == NULL)
            cr_skip_test("the header is not found: set EVBUS_SOURCE");
        unsigned n = 0;
        for (const char *at = text; (at = strstr(at, "\n *     ")) != NULL; at++) /* code stands 5 columns in */
            n += strncmp(at + 8, "struct evbus *bus;", 18) == 0 || strncmp(at + 8, "int rc = evbus_", 15) == 0;
        cr_expect_eq(n, i == 0 ? 1u : 0u, "%s has %u examples", headers[i], n);
        free(text);
    }
}

static void run_example(void)
{
    EXAMPLE(AS_CODE);
}

Test(header, the_example_publishes_an_order)
{
    struct fixture f = fixture_make((struct fixture_options){
        .catalogue = "{\"namespace\":\"lomash\",\"tests\":true,\"defaults\":{\"partitions\":1,\"ring\":\"64KiB\"},"
                     "\"topics\":{\"lomash.orders.created\":{\"producers\":[\"order-payment-service\"]}}}"});
    struct evbus_reader *reader;
    struct evbus_delivery got = {.size = sizeof got};
    setenv("EVBUS_BUS", f.name, 1);
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    run_example();
    cr_assert_eq(evbus_reader_next(reader, &got, 0), EVBUS_OK, "%s", evbus_message(NULL));
    cr_expect_str_eq(got.topic, "lomash.orders.created");
    cr_expect_str_eq(got.key, "10248");
    cr_expect_str_eq(got.payload, "{\"orderId\":\"10248\"}");
    cr_expect_str_eq(got.service, "order-payment-service");
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(header, every_code_has_its_value_for_ever)
{
    static const struct {
        enum evbus_code code;
        int value;
    } rows[] = {
        {EVBUS_OK, 0},           {EVBUS_ENOTFOUND, -1},   {EVBUS_ETIMEOUT, -2},   {EVBUS_EINVAL, -3},
        {EVBUS_ENOBUS, -4},      {EVBUS_ESTALE, -5},      {EVBUS_ELAYOUT, -6},    {EVBUS_ECORRUPT, -7},
        {EVBUS_ENOSPC, -8},      {EVBUS_ELIMIT, -9},      {EVBUS_EIO, -10},       {EVBUS_EFULL, -11},
        {EVBUS_EAGAIN, -12},     {EVBUS_EPAUSED, -13},    {EVBUS_EDENIED, -14},   {EVBUS_EPERM, -15},
        {EVBUS_ECATALOGUE, -16}, {EVBUS_ECONFIG, -17},    {EVBUS_EBUSY, -18},     {EVBUS_EFORKED, -19},
        {EVBUS_EFENCED, -20},    {EVBUS_EDUPLICATE, -21}, {EVBUS_ECONFLICT, -22}, {EVBUS_EEXHAUSTED, -23},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_expect_eq((int)rows[i].code, rows[i].value);
        for (size_t k = 0; k < i; k++)
            cr_expect_str_neq(evbus_strerror(rows[i].value), evbus_strerror(rows[k].value));
        cr_expect_str_neq(evbus_strerror(rows[i].value), "an unknown code");
    }
    cr_expect_str_eq(evbus_strerror(-24), "an unknown code");
    cr_expect_str_eq(evbus_strerror(1), "an unknown code");
    cr_expect_str_eq(evbus_strerror(EVBUS_EFULL), "the ring is full");
}

Test(header, the_library_tells_the_headers_version)
{
    char expected[32];
    snprintf(expected, sizeof expected, "%d.%d.%d", EVBUS_VERSION_MAJOR, EVBUS_VERSION_MINOR, EVBUS_VERSION_PATCH);
    cr_expect_str_eq(evbus_version(), expected);
}
