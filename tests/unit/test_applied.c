/* test_applied.c: the catalogue as it was applied, and the ids that its topics were given. */
#include "applied.h"
#include "folder.h"

#include <criterion/criterion.h>
#include <string.h>

static const uint8_t uuid[16] = {7};

Test(applied, gives_back_text_and_ids_as_they_were)
{
    struct folder folder = folder_make();
    struct error err = {""};
    char text[] = "{ \"namespace\": \"test\",\n  \"topics\": {} }\n";
    struct applied before = {.ids = json_pack("{s:[s,s],s:[]}", "test.b", "test.b.two", "test.b.one", "test.a"),
                             .text = text,
                             .len = sizeof text - 1};
    struct applied after = {.ids = NULL};
    cr_expect_not(applied_is_there(folder.path));
    cr_expect_eq(applied_read(folder.path, uuid, &after, &err), EVBUS_ENOTFOUND);
    cr_assert_eq(applied_write(folder.path, uuid, &before, &err), EVBUS_OK, "%s", err.text);
    cr_expect(applied_is_there(folder.path));
    cr_assert_eq(applied_read(folder.path, uuid, &after, &err), EVBUS_OK, "%s", err.text);
    cr_expect_str_eq(after.text, text);
    cr_expect_eq(after.len, sizeof text - 1);
    cr_expect(json_equal(after.ids, before.ids));
    applied_free(&after);
    json_decref(before.ids);
}
