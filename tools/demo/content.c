/* content.c: content-service publishes two blog posts: one before anybody makes a sitemap, one when somebody does.
 *
 * It does the same both times. That a group was added in between it learns from nobody; only the demo's conductor
 * gives it a cue for the second post. Started again it passes over what is in its outbox. */
#include "outbox.h"
#include "service.h"

#include <stdio.h>
#include <string.h>

#define LOOK_NS (10 * NS_PER_MS)

static const struct post {
    const char *slug;
    const char *title;
} posts[N_POSTS] = {
    {"how-we-season-oak", "How we season oak"},
    {"a-kitchen-for-a-narrow-room", "A kitchen for a narrow room"},
};

static struct outbox outbox;

static bool publish_post(const struct post *post)
{
    char text[512];
    bool is_new;
    int len = snprintf(text, sizeof text, "{\"slug\":\"%s\",\"title\":\"%s\",\"author\":\"Lomash Wood\"}", post->slug,
                       post->title);
    const struct note note = {.topic = POSTS, .key = post->slug, .payload = text, .len = (size_t)len};
    return len > 0 && (size_t)len < sizeof text && outbox_publish(&outbox, &note, 1, &is_new);
}

static bool publish(struct service *service)
{
    if (!outbox_open(&outbox, service, NULL) || !publish_post(&posts[0]))
        return false;
    while (!atomic_load(&service->board->sitemap_runs))
        sleep_until(monotonic_ns() + LOOK_NS);
    return publish_post(&posts[1]);
}

static void close_outbox(void)
{
    outbox_close(&outbox);
}

const struct service_kind content_service = {
    .name = "content-service",
    .group = N_GROUPS,
    .publish = publish,
    .close = close_outbox,
};
