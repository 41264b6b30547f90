/* cloudevents.c: any line is converted or refused with its reason; what was converted comes back as the same, and slices.c and the
 * library's json.c agree on what JSON is.
 *
 * Input: the line. Both ways are tried. */
#include "cloudevents.h"
#include "json.h"

#include "fuzz.h"

typedef bool conversion(struct slice line, struct converted *out);

/* slices.c goes two levels deeper. */
static void compare_json(struct slice text)
{
    struct json_fault fault = {0, NULL};
    size_t at = 0, depth = 0;
    const char *what = slice_fault(text, &at, &depth);
    bool is_json = json_check(text.at, text.len, &fault);
    must(what == NULL || at <= text.len, "a fault at %zu of %zu", at, text.len);
    if (what == NULL)
        must(is_json || (depth > 128 && strstr(fault.what, "inside each other") != NULL), "json.c says at %zu: %s",
             fault.at, fault.what);
    else
        must(!is_json, "slices.c says at %zu: %s", at, what);
    const char *walk = NULL;
    struct slice name, value;
    while (what == NULL && slice_next(text, &walk, &name, &value)) {
        char *decoded = malloc(name.len);
        must(decoded != NULL &&
                 slice_text(name, decoded, name.len) == json_string_decode(name.at, name.len, decoded, name.len),
             "another name: %.*s", (int)name.len, name.at);
        must(value.at >= text.at && value.len <= (size_t)(text.at + text.len - value.at), "a value lies outside");
        free(decoded);
    }
}

/* Where a line became another, that other becomes one which becomes that other again. */
static void convert(struct slice line, conversion *there, conversion *back)
{
    struct converted one = {.text = NULL}, two = {.text = NULL}, three = {.text = NULL};
    size_t at, depth;
    if (there(line, &one)) {
        struct slice converted = {.at = one.text, .len = one.len};
        must(memchr(one.text, '\n', one.len) == NULL || memchr(line.at, '\n', line.len) != NULL, "more than a line");
        must(slice_fault(converted, &at, &depth) == NULL, "no JSON: %.*s", (int)one.len, one.text);
        must(back(converted, &two), "the way back: %s: %.*s", two.fault, (int)one.len, one.text);
        must(there((struct slice){.at = two.text, .len = two.len}, &three), "there again: %s: %.*s", three.fault,
             (int)two.len, two.text);
        must(one.len == three.len && memcmp(one.text, three.text, one.len) == 0, "not the same:\n%.*s\n%.*s",
             (int)one.len, one.text, (int)three.len, three.text);
    } else {
        must(one.fault[0] != '\0', "no reason");
        fuzz_read(one.fault, strlen(one.fault));
    }
    converted_end(&one);
    converted_end(&two);
    converted_end(&three);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct slice line = {.at = fuzz_copy(data, len, false), .len = len};
    compare_json(line);
    convert(line, cloudevents_to, cloudevents_from);
    convert(line, cloudevents_from, cloudevents_to);
    free((void *)(uintptr_t)line.at);
    return 0;
}
