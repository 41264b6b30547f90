/* key.c: the partition key that stands in a payload.
 *
 * A string's decoded text; a number's or boolean's text as it stands there, so that 1.10 and 1.1 are two keys: nobody rounds.
 * Anything else is refused, with what was found. Checked by tests/unit/test_key.c. */
#include "error.h"
#include "json.h"

#include <string.h>

#define KEY_MAX 255 /* bytes, as in a frame */

EVBUS_API int evbus_key_of_member(const void *payload, size_t payload_len, const char *name, char *out_key,
                                  size_t *out_key_len)
{
    struct error *err = error_of_thread();
    struct json_fault fault;
    const char *value;
    size_t len;
    if (payload == NULL || name == NULL || out_key == NULL)
        return error_set(err, EVBUS_EINVAL, "%s is NULL",
                         payload == NULL ? "payload"
                         : name == NULL  ? "name"
                                         : "out_key");
    if (!json_check(payload, payload_len, &fault))
        return error_set(err, EVBUS_EINVAL, "the payload is not JSON: %s at byte %zu", fault.what, fault.at);
    if (!json_member(payload, payload_len, name, &value, &len))
        return error_set(err, EVBUS_EINVAL, "the payload has no member \"%s\" to take the key from", name);
    char key[KEY_MAX];
    ptrdiff_t key_len = (ptrdiff_t)len;
    if (value[0] == '{' || value[0] == '[' || value[0] == 'n')
        return error_set(err, EVBUS_EINVAL, "member \"%s\" is %s; a key is a string, a number or a boolean", name,
                         value[0] == '{'   ? "an object"
                         : value[0] == '[' ? "an array"
                                           : "null");
    if (value[0] == '"')
        key_len = json_string_decode(value, len, key, sizeof key);
    else if (len <= sizeof key)
        memcpy(key, value, len);
    if (key_len < 0 || key_len > KEY_MAX)
        return error_set(err, EVBUS_EINVAL,
                         "member \"%s\" has more than %d bytes or half a surrogate pair; a key has 1..%d", name,
                         KEY_MAX, KEY_MAX);
    if (key_len == 0)
        return error_set(err, EVBUS_EINVAL, "member \"%s\" is empty; a key has 1..%d bytes", name, KEY_MAX);
    if (memchr(key, '\0', (size_t)key_len) != NULL)
        return error_set(err, EVBUS_EINVAL, "member \"%s\" holds a NUL; a key has none", name);
    memcpy(out_key, key, (size_t)key_len);
    out_key[key_len] = '\0';
    if (out_key_len != NULL)
        *out_key_len = (size_t)key_len;
    return EVBUS_OK;
}
