/* json.c: is it JSON? json_check() and jansson must say the same, and find the same members and texts.
 *
 * Input: the text. They may differ where they are meant to: ours ends at 128 levels, jansson's at 2048; jansson refuses
 * numbers that no double or 64 bits hold, lone surrogates, and NULs in names, which are JSON; and it takes a NUL byte
 * for the text's end. */
#include "json.h"

#include "fuzz.h"

#include <jansson.h>

#define FLAGS (JSON_DECODE_ANY | JSON_ALLOW_NUL)

static bool may_refuse(const json_error_t *fault)
{
    enum json_error_code code = json_error_code(fault);
    return code == json_error_numeric_overflow || code == json_error_null_byte_in_key ||
           strncmp(fault->text, "invalid Unicode", strlen("invalid Unicode")) == 0;
}

static void compare_text(const json_t *value, const char *slice, size_t slice_len)
{
    size_t wanted_len = json_string_length(value);
    char *text = malloc(wanted_len + 1);
    must(text != NULL, "no memory");
    must(json_string_decode(slice, slice_len, text, wanted_len) == (ptrdiff_t)wanted_len &&
             memcmp(text, json_string_value(value), wanted_len) == 0,
         "jansson reads another text of %zu bytes", wanted_len);
    must(wanted_len == 0 || json_string_decode(slice, slice_len, text, wanted_len - 1) == -1, "it needs no room");
    free(text);
}

/* Each member of the top-level object, by its name. */
static void compare_members(json_t *root, const char *text, size_t len)
{
    for (void *at = json_object_iter(root); at != NULL; at = json_object_iter_next(root, at)) {
        const char *name = json_object_iter_key(at), *slice = NULL;
        json_t *value = json_object_iter_value(at);
        size_t slice_len = 0;
        must(json_member(text, len, name, &slice, &slice_len), "no member \"%s\"", name);
        must(slice >= text && slice_len <= (size_t)(text + len - slice), "member \"%s\" lies outside", name);
        json_t *found = json_loadb(slice, slice_len, FLAGS, NULL);
        must(found != NULL && json_equal(found, value), "member \"%s\" is %.*s", name, (int)slice_len, slice);
        json_decref(found);
        if (json_is_string(value))
            compare_text(value, slice, slice_len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = fuzz_copy(data, len, false);
    struct json_fault fault = {0, NULL};
    json_error_t theirs = {.text = ""};
    bool is_json = json_check(text, len, &fault);
    json_t *root = json_loadb(text, len, FLAGS, &theirs);
    if (is_json) {
        must(json_is_utf8(text, len), "JSON that is not UTF-8");
        must(root != NULL || may_refuse(&theirs), "jansson refuses it: %s", theirs.text);
    } else {
        must(fault.what != NULL && fault.at <= len, "a fault at %zu of %zu", fault.at, len);
        must(root == NULL || strstr(fault.what, "inside each other") != NULL || memchr(text, '\0', len) != NULL,
             "jansson takes it, ours says at %zu: %s", fault.at, fault.what);
    }
    if (is_json && json_is_object(root))
        compare_members(root, text, len);
    json_decref(root);
    free(text);
    return 0;
}
