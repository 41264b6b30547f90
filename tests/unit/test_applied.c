/* test_applied.c: the catalogue as it was applied, and the ids that its topics were given. */
#include "applied.h"

#include "allocations.h"
#include "archive.h"
#include "folder.h"
#include "memory_make.h"

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

/* An id that is left out moves all behind it. */
#if CAN_FAIL_ALLOCATIONS
Test(applied, is_not_written_where_memory_has_run_out_for_any_of_its_ids)
{
    struct archive archive = archive_make((struct archive_options){.keeper = false});
    struct memory *memory = &archive.bus->memory;
    static const char text[] = "{\"namespace\":\"test\"}";
    struct applied before, after;
    struct error err = {""};
    cr_assert_eq(memory_save_applied(memory, text, sizeof text - 1, &err), EVBUS_OK, "%s", err.text);
    cr_assert_eq(applied_read(memory->state.folder, memory->control->uuid, &before, &err), EVBUS_OK, "%s", err.text);
    for (long nth = 1;; nth++) {
        fail_allocation(nth);
        int rc = memory_save_applied(memory, text, sizeof text - 1, &err);
        bool has_struck = fail_allocation(0);
        cr_assert_eq(applied_read(memory->state.folder, memory->control->uuid, &after, &err), EVBUS_OK, "%s", err.text);
        cr_expect(json_equal(after.ids, before.ids), "allocation %ld (%d): an id is missing", nth, rc);
        cr_expect_eq(rc, has_struck ? EVBUS_ENOSPC : EVBUS_OK, "allocation %ld: %d", nth, rc);
        applied_free(&after);
        if (!has_struck)
            break;
    }
    applied_free(&before);
    evbus_close(archive.bus);
    evbus_remove(archive.name);
}
#endif
