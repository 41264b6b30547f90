/* catalogue.c: the demo's catalogue: the shipped one, so the ADR's 17 topics, producers and groups, with these changes
 * only:
 *
 *     groups.notification-service.retry    200 ms and 400 ms instead of 1 s and 10 s: nobody likes to wait in a demo
 *     defaults.ring                        512 KiB instead of 1 MiB, and payload_max to fit: half the memory
 *     topics.lomash.content.blog.published one more group, sitemap: only in the one that is applied while all runs */
#include "conductor.h"

#include <evbus/admin.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Steals value. */
static bool set(json_t *root, const char *object, const char *name, json_t *value)
{
    json_t *found = json_object_get(root, object);
    return json_object_set_new(json_is_object(found) ? found : NULL, name, value) == 0;
}

char *demo_catalogue(bool has_sitemap)
{
    json_t *root = json_loads(evbus_shipped_catalogue(), 0, NULL);
    json_t *notification = json_object_get(json_object_get(root, "groups"), group_names[NOTIFICATION]);
    json_t *posts = json_object_get(json_object_get(root, "topics"), topic_names[POSTS]);
    char *text = NULL;
    bool is_good = set(root, "defaults", "ring", json_string("512KiB")) &&
                   set(root, "defaults", "payload_max", json_string("64KiB")) &&
                   json_object_set_new(notification, "retry", json_pack("[ss]", "200ms", "400ms")) == 0;
    if (is_good && has_sitemap)
        is_good = json_array_append_new(json_object_get(posts, "groups"), json_string(group_names[SITEMAP])) == 0;
    if (is_good)
        text = json_dumps(root, JSON_INDENT(2));
    if (text == NULL)
        complain("the shipped catalogue is not what it was when the demo was written");
    json_decref(root);
    return text;
}
